//! Stands in for the host's metadata service that `--pass-through` reads: it serves a tree of items, and lists its directories.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::http;
use super::loopback::{Connection, Request};
use super::metadata_service::MetadataService;
use super::{SECRET, Watched};

pub type Upstream = MetadataService<Tree>;

#[derive(Default)]
pub struct Tree {
    items: BTreeMap<String, (String, Vec<u8>)>,
    /// Extra lines of every listing.
    strays: Vec<String>,
    manner: Watched<Manner>,
    tokens: AtomicUsize,
}

/// How the service answers. A PUT for a token succeeds, except with `Hang` and with `HangOnce("PUT")`.
#[derive(Clone, Debug, Default)]
pub enum Manner {
    /// Responds as EC2 does.
    #[default]
    Well,
    /// Rejects the tokens of all PUTs before this one (the first is number 1), as after a restart of the service.
    TokensFrom(usize),
    /// Never responds, not even to a PUT for a token.
    Hang,
    /// Never responds to the next request with this method, as if EC2 had dropped its packets. Responds to others as EC2 does.
    HangOnce(&'static str),
    /// Sends these bytes and closes the connection.
    Say(Vec<u8>),
}

/// Binary user-data; it begins like a gzip file.
pub const USER_DATA: &[u8] = b"\x1f\x8b\x08\0\xff\r\n\r\n\0s3cr3t";

/// Items that `--pass-through` serves, with their text.
pub const KNOWN: [(&str, &str); 12] = [
    ("meta-data/ami-id", "ami-0123"),
    ("meta-data/events/maintenance/scheduled", "[]"),
    ("meta-data/instance-id", "i-0123456789abcdef0"),
    (
        "meta-data/network/interfaces/macs/02:aa:bb:cc:dd:ee/local-ipv4s",
        "10.0.0.1\n10.0.0.2",
    ),
    ("meta-data/placement/availability-zone", "eu-north-1b"),
    ("meta-data/placement/region", "eu-north-1"),
    ("meta-data/services/domain", "amazonaws.com"),
    ("meta-data/spot/instance-action", "{\"action\": \"stop\"}"),
    ("meta-data/tags/instance/team:a+b=c,d@e_f.g-h", "1"),
    ("meta-data/tags/instance/Name", "web 1 é"),
    ("meta-data/hostname", "ip-10-0-0-1\n"),
    (
        "dynamic/instance-identity/document",
        "{\n  \"accountId\" : \"123456789012\"\n}",
    ),
];
/// Items that prove the host's identity, served only with `--pass-through-identity-signature`.
pub const SIGNATURES: [&str; 3] = [
    "dynamic/instance-identity/pkcs7",
    "dynamic/instance-identity/rsa2048",
    "dynamic/instance-identity/signature",
];
/// Items of the host that ec2-role never serves. At the path of `iam/info` it serves a document for its own role.
pub const NEVER: [&str; 6] = [
    "meta-data/iam/info",
    "meta-data/iam/security-credentials/host-role",
    "meta-data/iam/security-credentials-extended/host-role",
    "meta-data/identity-credentials/ec2/info",
    "meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
    "meta-data/public-keys/0/openssh-key",
];

impl Upstream {
    pub fn start() -> Self {
        Self::with(&[], Manner::Well)
    }

    pub fn with(strays: &[&str], manner: Manner) -> Self {
        let mut tree = Tree::well();
        tree.strays = strays.iter().map(|&line| line.to_owned()).collect();
        tree.manner.change(|now| *now = manner);
        Self::answering(tree, Tree::answer)
    }

    /// Starts the service with `count` further items of `bytes` bytes each.
    pub fn with_more(count: usize, bytes: usize) -> Self {
        let mut tree = Tree::well();
        let more = (0..count).map(|number| {
            let item = ("text/plain".to_owned(), vec![b'x'; bytes]);
            (format!("meta-data/tags/instance/t{number}"), item)
        });
        tree.items.extend(more);
        Self::answering(tree, Tree::answer)
    }

    /// Starts the service with `count` network interfaces, each with ten items of `bytes` bytes.
    pub fn with_interfaces(count: usize, bytes: usize) -> Self {
        let mut tree = Tree::well();
        let more = (0..10 * count).map(|number| {
            let (mac, item) = (number / 10, number % 10);
            let path =
                format!("meta-data/network/interfaces/macs/02:00:00:00:00:{mac:02x}/item-{item}");
            (path, ("text/plain".to_owned(), vec![b'x'; bytes]))
        });
        tree.items.extend(more);
        Self::answering(tree, Tree::answer)
    }

    pub fn does_now(&self, manner: Manner) {
        self.state.manner.change(|now| *now = manner);
    }
}

impl Tree {
    fn well() -> Self {
        let text = |(path, body): &(&str, &str)| {
            let item = ("text/plain".to_owned(), body.as_bytes().to_vec());
            ((*path).to_owned(), item)
        };
        let secret = |path: &&str| text(&(*path, &format!("{SECRET} of {path}")));
        let mut items: BTreeMap<_, _> = KNOWN.iter().map(text).collect();
        items.extend(SIGNATURES.iter().chain(&NEVER).map(secret));
        let user_data = ("application/octet-stream".to_owned(), USER_DATA.to_vec());
        items.insert("user-data".to_owned(), user_data);
        Tree {
            items,
            ..Tree::default()
        }
    }

    fn answer(&self, request: &Request, connection: &mut Connection) {
        let manner = self.manner.look(Clone::clone);
        if matches!(manner, Manner::HangOnce(method) if method == request.method) {
            self.manner.change(|now| *now = Manner::Well);
            return connection.hang();
        }
        if request.method == "PUT" && !matches!(manner, Manner::Hang) {
            let number = self.tokens.fetch_add(1, Ordering::Relaxed) + 1;
            return connection.answer(200, "", token(number).as_bytes());
        }
        let first = match manner {
            Manner::Well | Manner::HangOnce(_) => 1,
            Manner::TokensFrom(first) => first,
            Manner::Hang => return connection.hang(),
            Manner::Say(bytes) => {
                use std::io::Write;
                _ = connection.0.write_all(&bytes);
                return;
            }
        };
        let shown = request.header(http::TOKEN);
        if !(first..=self.tokens.load(Ordering::Relaxed)).any(|number| shown == token(number)) {
            return connection.answer(401, "", b"");
        }
        let path = request.target.trim_start_matches("/latest/");
        if let Some((kind, body)) = self.items.get(path) {
            return connection.answer(200, &format!("Content-Type: {kind}\r\n"), body);
        }
        match self.listing(path.trim_end_matches('/')) {
            Some(listing) => connection.answer(200, "", listing.as_bytes()),
            None => connection.answer(404, "", b""),
        }
    }

    fn listing(&self, directory: &str) -> Option<String> {
        let mut entries: Vec<String> = self
            .items
            .keys()
            .filter_map(|path| path.strip_prefix(directory)?.strip_prefix('/'))
            .map(|below| match below.split_once('/') {
                Some((name, _)) => format!("{name}/"),
                None => below.to_owned(),
            })
            .collect();
        entries.dedup();
        let is_empty = entries.is_empty();
        entries.extend_from_slice(&self.strays);
        (!is_empty).then(|| entries.join("\n"))
    }
}

/// The token for this PUT; PUTs are counted from 1.
pub fn token(number: usize) -> String {
    format!("AQAETHEHOSTSTOKEN{number}==")
}
