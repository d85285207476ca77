mod bad_input;
mod log;
mod log_file;
mod refresh;
mod robustness;
mod schedule;
mod secrets;
mod watching;
