mod bad_input;
mod log;
mod refresh;
mod robustness;
mod schedule;
mod secrets;
mod surroundings;
mod watching;
