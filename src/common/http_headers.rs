//! Header names and values that both a client and the server of this program write.

/// The header that a client shows its session token in.
pub const TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";
/// The header that asks for a token's life, and tells it.
pub const TTL_HEADER: &str = "X-aws-ec2-metadata-token-ttl-seconds";

/// What `--check` is as a client (`User-Agent`).
pub const CHECK_AGENT: &str = concat!("ec2-role-check/", env!("CARGO_PKG_VERSION"));
