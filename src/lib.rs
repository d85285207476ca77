//! See `src/README.md` for the processes, the import rule and the glossary.

#![forbid(unsafe_code)]

pub mod cli;
pub mod common;
pub mod fetcher;
pub mod messages;
pub mod server;
pub mod supervisor;
