//! ec2-role plays the EC2 instance metadata service for containers: whoever asks it for
//! `/latest/meta-data/iam/security-credentials/` gets short-lived credentials of one role, obtained with `sts:AssumeRole`.
//!
//! One binary plays three parts: the [`keeper`], a loop in one thread, owns the listening socket and the credential and never
//! touches the network; an [`errand`] fetches one credential from STS, or reads the host's metadata, prints it and exits; the
//! [`server`], a loop with tiny_http's threads beside it, answers the containers and may die at any time. Imports point one way:
//! keeper → server, errand; server → answer → imds, container → served → hand_over → token, credential; errand → source, sts → outbound.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod answer;
pub mod arguments;
pub mod browser;
pub mod check;
pub mod clock;
pub mod container;
pub mod credential;
pub mod environment;
pub mod errand;
pub mod fault;
pub mod file;
pub mod hand_over;
pub mod host_metadata;
pub mod http;
pub mod imds;
pub mod keeper;
pub mod log;
pub mod metrics;
pub mod outbound;
pub mod pass_through;
pub mod process;
pub mod profile;
pub mod proxy;
pub mod role;
pub mod schedule;
pub mod secret;
pub mod served;
pub mod server;
pub mod snapshot;
pub mod source;
pub mod sts;
pub mod token;
