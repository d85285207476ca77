//! Black-box tests of the real binary. Every test has its own processes, STS and directory. A test that this machine does not
//! allow, for example because it needs root, is skipped. If the variable `CI` is set, the test fails instead.

mod support;

mod hostile;
mod imports;
mod lifecycle;
mod promises;
mod protocol;
mod sources;
mod sts;
