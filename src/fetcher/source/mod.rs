//! The host's own credentials, in the SDKs' order; read again for every fetcher, because files and services rotate theirs
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>).

mod container;
mod context;
mod document;
pub mod instance;
mod process;
mod shared_files;
mod variables;
mod web_identity;

pub use context::Context;

use crate::common::credential::SourceCredential;
use crate::common::fault::Fault;

/// The first source that has credentials. One that is only half there is a fault, not passed over: what follows it would be
/// other rights than the user meant.
pub fn find(context: &Context) -> Result<SourceCredential, Fault> {
    let sources = [
        variables::find,
        web_identity::find,
        shared_files::find,
        container::find,
    ];
    let first = if context.profile_is_option { 2 } else { 0 };
    for source in &sources[first..] {
        if let Some(found) = source(context)? {
            return Ok(found);
        }
    }
    instance::find(context)
}
