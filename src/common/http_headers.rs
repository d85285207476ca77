//! Header names and values that clients and the server of this program share.

/// Carries a client's session token.
pub const TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";
/// Carries the requested lifetime of a session token, and the remaining one in the response.
pub const TTL_HEADER: &str = "X-aws-ec2-metadata-token-ttl-seconds";

/// The `User-Agent` of `--check`.
pub(crate) const CHECK_AGENT: &str = concat!("ec2-role-check/", env!("CARGO_PKG_VERSION"));
