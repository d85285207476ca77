//! What of the host's metadata a container may see, and how it is read: by an errand, with a token of its own.

use crate::clock::Boot;
use crate::fault::Fault;
use crate::host_metadata::HostMetadata;
use crate::snapshot::Snapshot;

/// What below `meta-data/` is read, each with all below it: what describes the instance, its place and its network. Not `iam` and
/// `identity-credentials`, which are rights of the host, and not `public-keys`, which say who may log in to it.
const ALLOWED: [&str; 30] = [
    "ami-id",
    "ami-launch-index",
    "ami-manifest-path",
    "ancestor-ami-ids",
    "autoscaling",
    "block-device-mapping",
    "elastic-gpus",
    "events",
    "hostname",
    "instance-action",
    "instance-id",
    "instance-life-cycle",
    "instance-type",
    "ipv6",
    "kernel-id",
    "local-hostname",
    "local-ipv4",
    "mac",
    "network",
    "placement",
    "product-codes",
    "profile",
    "public-hostname",
    "public-ipv4",
    "ramdisk-id",
    "reservation-id",
    "security-groups",
    "services",
    "spot",
    // There only if the instance's owner has said so (InstanceMetadataTags).
    "tags",
];
/// The document names the instance; its signatures prove that to others, and have a flag of their own.
const IDENTITY_DOCUMENT: &str = "dynamic/instance-identity/document";
const IDENTITY_SIGNATURES: [&str; 3] = [
    "dynamic/instance-identity/pkcs7",
    "dynamic/instance-identity/rsa2048",
    "dynamic/instance-identity/signature",
];
const USER_DATA: &str = "user-data";

/// An instance with fifteen interfaces has some 300 items.
const MAX_ITEMS: usize = 1024;
/// User-data is at most 16 KiB; all else together is less.
const MAX_ITEM_BYTES: usize = 32 * 1024;
/// `network/interfaces/macs/MAC/ipv4-associations/IP` has six.
const MAX_DEPTH: usize = 8;

/// What the user lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassThrough {
    /// User-data too.
    pub user_data: bool,
    /// The identity document's signatures too.
    pub identity_signature: bool,
}

/// Reads all that is allowed and there.
pub fn read(session: &HostMetadata, what: PassThrough, now: Boot) -> Result<Snapshot, Fault> {
    let mut snapshot = Snapshot {
        taken: now,
        ..Snapshot::default()
    };
    walk(session, "meta-data/", 1, &mut snapshot)?;
    let mut single = vec![IDENTITY_DOCUMENT];
    single.extend(
        IDENTITY_SIGNATURES
            .iter()
            .filter(|_| what.identity_signature),
    );
    single.extend([USER_DATA].iter().filter(|_| what.user_data));
    for path in single {
        read_item(session, path, &mut snapshot)?;
    }
    Ok(snapshot)
}

fn walk(
    session: &HostMetadata,
    directory: &str,
    depth: usize,
    snapshot: &mut Snapshot,
) -> Result<(), Fault> {
    let Some(listing) = session.get(directory)? else {
        return Ok(());
    };
    for entry in listing.lines().map(str::trim) {
        let name = entry.strip_suffix('/').unwrap_or(entry);
        // As of tags, which may hold the most.
        let is_name = !name.is_empty()
            && name != ".."
            && name != "."
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._:+=,@".contains(&b));
        if !is_name || (depth == 1 && !ALLOWED.contains(&name)) {
            continue;
        }
        let path = format!("{directory}{entry}");
        if !entry.ends_with('/') {
            read_item(session, &path, snapshot)?;
        } else if depth < MAX_DEPTH {
            walk(session, &path, depth + 1, snapshot)?;
        }
    }
    Ok(())
}

fn read_item(session: &HostMetadata, path: &str, snapshot: &mut Snapshot) -> Result<(), Fault> {
    if snapshot.items.len() >= MAX_ITEMS {
        return Ok(());
    }
    if let Some(item) = session
        .get_item(path)?
        .filter(|item| item.body.len() <= MAX_ITEM_BYTES)
    {
        snapshot.items.insert(path.to_owned(), item);
    }
    Ok(())
}
