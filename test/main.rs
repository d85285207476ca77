//! Black-box tests of the real binary: arguments, environment, files and network traffic in; responses, STS calls, log lines and
//! exit status out. Every test has its own processes, STS and directory. A test that this machine does not allow, for example
//! because it needs root, is skipped. If the variable `CI` is set, the test fails instead.

mod support;

mod hostile;
mod imports;
mod lifecycle;
mod promises;
mod protocol;
mod sources;
mod sts;
