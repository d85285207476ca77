//! Black-box tests of the real binary: what goes in by the command line, the environment, files and the network, and what comes
//! out on its port, to STS and to stderr. Every test has its own process, STS and directory; none needs root or a network, but
//! those that say so in a line and pass without (where CI is set they fail). `cargo test -- --nocapture` shows the measured
//! figures.

mod support;

mod hostile;
mod lifecycle;
mod protocol;
mod sources;
mod sts;
