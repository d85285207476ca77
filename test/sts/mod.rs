mod aws_settings;
mod calls;
mod faults;
mod name_resolution;
mod proxy;
mod tls;
