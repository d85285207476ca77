mod faults;
mod find;
