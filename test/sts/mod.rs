mod calls;
mod destination;
mod faults;
mod name_resolution;
mod proxy;
mod tls;
