//! Checks whether a client is on the subnet of the address it connected to, by the prefixes of this machine's interfaces.
//!
//! The check is needed because Linux accepts packets for any local address on any interface (weak host model): a container of
//! another network, or a host behind the default route, can also reach a bridge's address.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How long a prefix length is kept. The kernel writes the whole route table at each read: with 5,000 routes, reading it for every
/// request would take 40 times as long as the rest of the response.
const KEPT: Duration = Duration::from_secs(1);

/// The kernel's address and route tables. The files stay open because the seccomp filter later forbids opening them; each read
/// returns the current content. A table that is missing or forbidden counts as empty. Any other error of [`Self::open`] ends
/// this server: the error may be temporary, and the next server tries again.
pub struct Interfaces {
    ipv4_routes: Option<File>,
    ipv4_addresses: Option<File>,
    ipv6_addresses: Option<File>,
    /// The last local address that had a subnet, its prefix length, and when to read that again.
    kept: Option<(IpAddr, u32, Instant)>,
}

impl Interfaces {
    pub fn open() -> io::Result<Self> {
        let table = |name: &str| {
            let table = File::open(format!("/proc/self/net/{name}")).map(Some);
            table.or_else(|error| match error.kind() {
                ErrorKind::NotFound | ErrorKind::PermissionDenied => Ok(None),
                _ => Err(error),
            })
        };
        Ok(Interfaces {
            ipv4_routes: table("route")?,
            ipv4_addresses: table("fib_trie")?,
            ipv6_addresses: table("if_inet6")?,
            kept: None,
        })
    }

    /// Whether an address belongs to this machine. The host's own requests need this check: if the host connects to a bridge's
    /// address, Docker's masquerading can replace the source address by one that is not on the bridge's subnet.
    pub fn is_own(&self, client: IpAddr) -> bool {
        match client {
            IpAddr::V4(client) => has_ipv4_address(&read(&self.ipv4_addresses), client),
            IpAddr::V6(client) => ipv6_prefix(&read(&self.ipv6_addresses), client).is_some(),
        }
    }

    pub fn is_on_subnet_of(&mut self, local: IpAddr, client: IpAddr, now: Instant) -> bool {
        if !self.kept.is_some_and(|(address, _, until)| address == local && now < until) {
            let prefix = match local {
                IpAddr::V4(local) => ipv4_prefix(&read(&self.ipv4_routes), local),
                IpAddr::V6(local) => ipv6_prefix(&read(&self.ipv6_addresses), local),
            };
            self.kept = prefix.map(|length| (local, length, now + KEPT));
        }
        self.kept.is_some_and(|(_, length, _)| common_bits(local, client) >= length)
    }
}

/// The number of first bits that two addresses have in common. IPv4 addresses are compared in IPv4-mapped form.
fn common_bits(local: IpAddr, client: IpAddr) -> u32 {
    let [local, client] = [local, client].map(|address| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    });
    (local ^ client).leading_zeros()
}

fn read(table: &Option<File>) -> String {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while let Some(table) = table
        && let Ok(length @ 1..) = table.read_at(&mut piece, text.len() as u64)
    {
        text.extend_from_slice(&piece[..length]);
    }
    // The conversion is lossy because an interface's name may have bytes that are not UTF-8.
    String::from_utf8_lossy(&text).into_owned()
}

/// Returns the prefix length of a local address's subnet: that of the most specific on-link route that contains the address. The
/// length includes the 96 bits before the address in IPv4-mapped form, which `common_bits` counts too.
fn ipv4_prefix(routes: &str, local: Ipv4Addr) -> Option<u32> {
    let on_link = routes.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bits = |at: usize| {
            let bits = u32::from_str_radix(fields.get(at)?, 16).ok()?;
            Some(u32::from_be_bytes(bits.to_ne_bytes()))
        };
        let (destination, gateway, mask) = (bits(1)?, bits(2)?, bits(7)?);
        let leads_to_local = gateway == 0 && mask != 0 && local.to_bits() & mask == destination;
        leads_to_local.then(|| 96 + mask.leading_ones())
    });
    on_link.max()
}

/// Whether `fib_trie` lists an address as local: the address is on one line, and its kind on the next.
fn has_ipv4_address(trie: &str, address: Ipv4Addr) -> bool {
    let leaf = format!("|-- {address}");
    let kinds = trie.lines().zip(trie.lines().skip(1));
    let mut kinds = kinds.map(|(line, next)| (line.trim(), next.trim()));
    kinds.any(|(line, next)| line == leaf && next == "/32 host LOCAL")
}

fn ipv6_prefix(addresses: &str, local: Ipv6Addr) -> Option<u32> {
    addresses.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let length = u32::from_str_radix(fields.nth(1)?, 16).ok()?;
        (address == local.to_bits()).then_some(length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Destination, gateway and mask: 0.0.0.0/0 via 192.0.2.254, and 10.0.0.0/8, 10.1.0.0/16 and 192.0.2.0/24 on-link.
    const ROUTES: [(u32, u32, u32); 4] = [
        (0, 0xc000_02fe, 0),
        (0x0a00_0000, 0, 0xff00_0000),
        (0x0a01_0000, 0, 0xffff_0000),
        (0xc000_0200, 0, 0xffff_ff00),
    ];
    const ADDRESSES: &str = "fd000000000000000000000000000001 04 40 00 80     eth0\n\
        00000000000000000000000000000001 01 80 10 80       lo\n";

    fn prefix(local: &str) -> Option<u32> {
        let hex = |bits: u32| format!("{:08X}", u32::from_ne_bytes(bits.to_be_bytes()));
        let lines = ROUTES.map(|(destination, gateway, mask)| {
            let (destination, gateway, mask) = (hex(destination), hex(gateway), hex(mask));
            format!("eth0\t{destination}\t{gateway}\t0001\t0\t0\t0\t{mask}\t0\t0\t0   \n")
        });
        let header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n";
        ipv4_prefix(&format!("{header}{}", lines.concat()), local.parse().unwrap())
            .map(|length| length - 96)
    }

    #[test]
    fn most_specific_on_link_route_gives_the_prefix() {
        assert_eq!(prefix("10.1.0.1"), Some(16));
        assert_eq!(prefix("10.2.0.1"), Some(8));
        assert_eq!(prefix("192.0.2.1"), Some(24));
        assert_eq!(prefix("198.51.100.1"), None);
    }

    #[test]
    fn trie_leaf_identifies_an_own_address() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.0.0\n        /16 link UNICAST\n     |-- 10.1.0.1\n        \
                    /32 host LOCAL\n     |-- 10.1.255.255\n        /32 link BROADCAST\n";
        let is_own = |address: &str| has_ipv4_address(trie, address.parse().unwrap());
        assert!(is_own("10.1.0.1"));
        assert!(!is_own("10.1.0.0") && !is_own("10.1.255.255") && !is_own("10.1.0.2"));
    }

    #[test]
    fn ipv6_address_gives_its_prefix() {
        let prefix = |local: &str| ipv6_prefix(ADDRESSES, local.parse().unwrap());
        assert_eq!(prefix("fd00::1"), Some(64));
        assert_eq!(prefix("::1"), Some(128));
        assert_eq!(prefix("fd00::2"), None);
    }

    #[test]
    fn a_table_with_a_name_that_is_not_utf8_is_read() {
        let path = std::env::temp_dir().join(format!("ec2-role-table-{}", std::process::id()));
        std::fs::write(&path, b"br\xff\t000200C0\n").unwrap();
        let table = read(&File::open(&path).ok());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(table, "br\u{fffd}\t000200C0\n");
    }

    #[test]
    fn a_prefix_is_read_once_a_second_and_a_missing_one_at_once() {
        let path = std::env::temp_dir().join(format!("ec2-role-prefix-{}", std::process::id()));
        let begun = Instant::now();
        std::fs::write(&path, "").unwrap();
        let table = File::open(&path).ok();
        let mut interfaces = Interfaces { ipv6_addresses: table, ..Interfaces::open().unwrap() };
        let mut is_near = |client: &str, now| {
            let local = "fd00::1".parse().unwrap();
            interfaces.is_on_subnet_of(local, client.parse().unwrap(), now)
        };
        assert!(!is_near("fd00::2", begun));
        std::fs::write(&path, ADDRESSES).unwrap();
        assert!(is_near("fd00::2", begun) && !is_near("fd00:0:0:1::2", begun));
        std::fs::write(&path, ADDRESSES.replace(" 40 ", " 30 ")).unwrap();
        assert!(!is_near("fd00:0:0:1::2", begun + KEPT - Duration::from_nanos(1)));
        assert!(is_near("fd00:0:0:1::2", begun + KEPT));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn first_bits_in_common_are_counted() {
        for (local, client, bits) in [
            ("10.1.0.1", "10.1.255.255", 96 + 16),
            ("10.1.0.1", "10.2.0.1", 96 + 14),
            ("10.1.0.1", "10.1.0.1", 128),
            ("10.1.0.1", "10.1.0.0", 127),
            ("fd00::1", "fd00::ffff:0:0:9", 64),
            ("fd00::1", "fd00:0:0:1::1", 63),
            ("fd00::1", "10.1.0.1", 0),
        ] {
            let counted = common_bits(local.parse().unwrap(), client.parse().unwrap());
            assert_eq!(counted, bits, "{local} {client}");
        }
    }

    #[test]
    fn loopback_is_an_address_of_this_machine() {
        let interfaces = Interfaces::open().unwrap();
        let is_own = |address: &str| interfaces.is_own(address.parse().unwrap());
        assert!(is_own("127.0.0.1") && !is_own("192.0.2.1") && !is_own("fd00::9"));
    }

    #[test]
    fn loopback_is_a_subnet_of_its_own() {
        let mut interfaces = Interfaces::open().unwrap();
        let mut is_near = |local: &str, client: &str| {
            let (local, client) = (local.parse().unwrap(), client.parse().unwrap());
            interfaces.is_on_subnet_of(local, client, Instant::now())
        };
        assert!(!is_near("127.0.0.1", "192.0.2.1") && !is_near("::1", "fd00::9"));
        assert!(!is_near("192.0.2.1", "fd00::1") && !is_near("fd00::1", "192.0.2.1"));
    }
}
