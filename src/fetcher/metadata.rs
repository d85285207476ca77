//! Reads the parts of the host's metadata that `--pass-through` serves to containers.

use std::collections::VecDeque;

use crate::common::{BootTime, Config, Fault, Item, Snapshot};
use crate::fetcher::aws_settings::AwsSettings;
use crate::fetcher::imds_client::ImdsClient;
use crate::messages::{FetchOrders, FetchReport, to_frame};

/// Minimum number of attempts for each request. EC2 accepts 1,024 packets a second for its metadata, DNS and time services
/// together, and drops further ones. A fetch of hundreds of items, or several servers that fetch at the same time, can exceed
/// this limit.
const MIN_ATTEMPTS: u64 = 3;
/// Maximum number of items. An instance with fifteen interfaces has about 300.
const MAX_ITEMS: usize = 1024;
/// Maximum size of all paths and bodies together. An instance has about 56 KiB at most: 16 KiB of user-data, 40 KiB of other
/// items. The supervisor sends the snapshot and the credential to the server in one message, which must fit into the socket
/// buffer of the control channel (208 KiB).
const MAX_BYTES: usize = 96 * 1024;
/// Maximum number of entries of all listings together. It bounds the requests to a service whose listings never end.
const MAX_ENTRIES: usize = 2 * MAX_ITEMS;
/// Maximum number of segments in a listing's path. `meta-data/network/interfaces/macs/MAC/ipv4-associations/` has six.
const MAX_DEPTH: usize = 8;
const ROOT: &str = "meta-data/";

pub fn fetch(config: &Config, orders: &FetchOrders) -> Result<FetchReport, Fault> {
    let client = ImdsClient::connect(&AwsSettings::load(config)?, orders, MIN_ATTEMPTS)?;
    let mut snapshot = Snapshot { taken: BootTime::now(), ..Snapshot::default() };
    let pass_through = config.server.pass_through.unwrap_or_default();
    // Read these documents before the tree, whose size can reach the limits. Most SDKs find their region in the identity document.
    for path in pass_through.documents() {
        read_item(&client, path, &mut snapshot)?;
    }
    let (mut directories, mut entries) = (VecDeque::from([ROOT.to_owned()]), 0);
    while let Some(directory) = directories.pop_front() {
        let Some(listing) = client.get(&directory)? else { continue };
        for entry in listing.text().lines().map(str::trim) {
            let path = format!("{directory}{entry}");
            // In the root, amazon-ec2-metadata-mock lists whole paths, such as `spot/instance-action`.
            let segments = if directory == ROOT { MAX_DEPTH } else { 1 };
            let name = entry.strip_suffix('/').unwrap_or(entry);
            if !name.splitn(segments, '/').all(is_name) || !pass_through.may_hold(&path) {
                continue;
            }
            entries += 1;
            if entries > MAX_ENTRIES {
                snapshot.left_out += 1;
            } else if !entry.ends_with('/') {
                read_item(&client, &path, &mut snapshot)?;
            } else if path.matches('/').count() <= MAX_DEPTH {
                // Deeper directories are read later. The deepest are those of the network interfaces, which can exceed the limits.
                directories.push_back(path);
            }
        }
    }
    Ok(FetchReport::Metadata {
        items: snapshot.items.len(),
        left_out: snapshot.left_out,
        snapshot: to_frame(&snapshot),
    })
}

/// Accepts the characters that EC2 allows in an instance tag's key. Other items' names consist of some of these.
fn is_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:+=,@".contains(&b))
}

fn read_item(client: &ImdsClient, path: &str, snapshot: &mut Snapshot) -> Result<(), Fault> {
    let Some(answer) = client.get(path)? else { return Ok(()) };
    let item = Item { is_binary: answer.is_binary, body: answer.body };
    if snapshot.items.len() < MAX_ITEMS
        && snapshot.bytes() + path.len() + item.body.len() <= MAX_BYTES
    {
        snapshot.items.insert(path.to_owned(), item);
    } else {
        snapshot.left_out += 1;
    }
    Ok(())
}
