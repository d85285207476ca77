//! Black-box tests of the real binary: arguments, environment, files and network traffic in; responses, STS calls, log lines and
//! exit status out. Every test has its own processes, STS and directory. A test that needs root or a namespace says so and is
//! skipped without it; where CI is set it fails.

mod support;

mod hostile;
mod imports;
mod lifecycle;
mod promises;
mod protocol;
mod sources;
mod sts;
