mod faults;
mod files;
mod find;
