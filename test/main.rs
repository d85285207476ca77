//! Black-box tests of the real binary: arguments, environment, files and network traffic in; responses, STS calls, log lines and
//! exit status out. Every test has its own processes, STS and directory. A test that needs root or a namespace says so. Where
//! that is missing, the test is skipped, or fails if the variable `CI` is set.

mod support;

mod hostile;
mod imports;
mod lifecycle;
mod promises;
mod protocol;
mod sources;
mod sts;
