//! Black-box tests of the real binary: what goes in by the command line, the environment, files and the network, and what comes
//! out on its port, to STS and to stderr. Every test has its own process, STS and directory; none needs root or a network, but
//! those that say so in a line and pass without (where CI is set they fail). `cargo test -- --nocapture` shows the measured
//! figures.

mod support;

mod any_head;
mod any_request;
mod bad_input;
mod conformance;
mod container_form;
mod destination;
mod faults;
mod hostile;
mod log;
mod name_resolution;
mod pass_through;
mod proxy;
mod refresh;
mod robustness;
mod same_network;
mod schedule;
mod secrets;
mod serving;
mod source_faults;
mod sources;
mod sts;
mod tls;
mod watching;
