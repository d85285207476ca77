//! Header names and values that this program's clients and server share.

/// The request header with a client's session token.
pub const TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";
/// The header with a session token's lifetime: the requested one in a request, the remaining one in a response.
pub const TTL_HEADER: &str = "X-aws-ec2-metadata-token-ttl-seconds";

/// The `User-Agent` of `--check`. If a request with it comes from this machine, the access log leaves the request out.
pub const CHECK_AGENT: &str = concat!("ec2-role-check/", env!("CARGO_PKG_VERSION"));
