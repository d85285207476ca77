//! Reads what of the host's other metadata may be known, with a session token of its own.

use crate::common::clock::BootTime;
use crate::common::fault::Fault;
use crate::common::metadata_snapshot::Snapshot;
use crate::common::pass_through::PassThrough;
use crate::fetcher::imds_client::ImdsClient;

/// An instance with fifteen interfaces has some 300 items.
const MAX_ITEMS: usize = 1024;
/// Of all their paths and bodies. User-data is at most 16 KiB, all else together some 40; twice of it, in base64, is what the supervisor
/// can hand to a server at a time, beside the credential.
const MAX_BYTES: usize = 96 * 1024;
/// `network/interfaces/macs/MAC/ipv4-associations/IP` has six.
const MAX_DEPTH: usize = 8;

/// Reads all that is allowed and there.
pub fn read(session: &ImdsClient, what: PassThrough, now: BootTime) -> Result<Snapshot, Fault> {
    let mut snapshot = Snapshot {
        taken: now,
        ..Snapshot::default()
    };
    walk(session, "meta-data/", 1, &mut snapshot)?;
    for path in what.documents() {
        read_item(session, path, &mut snapshot)?;
    }
    Ok(snapshot)
}

fn walk(
    session: &ImdsClient,
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
        if !is_name || (depth == 1 && !PassThrough::allows(name)) {
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

fn read_item(session: &ImdsClient, path: &str, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let Some(item) = session.get_item(path)? else {
        return Ok(());
    };
    if snapshot.items.len() < MAX_ITEMS
        && snapshot.bytes() + path.len() + item.body.len() <= MAX_BYTES
    {
        snapshot.items.insert(path.to_owned(), item);
    } else {
        snapshot.left_out += 1;
    }
    Ok(())
}
