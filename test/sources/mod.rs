mod botocore;
mod faults;
mod files;
mod find;
mod values;
