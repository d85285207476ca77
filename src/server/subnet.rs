//! Where a client is, by this machine's routing table. Nothing is sent to find out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

pub fn is_this_machine(client: IpAddr) -> bool {
    client.is_loopback() || source_address_towards(client).is_ok_and(|own| own == client)
}

/// Whether a client is on the subnet of the address it connected to, or this machine. Linux accepts packets for any local
/// address on any interface (weak host model), so compare the address the client connected to with the source address the
/// kernel would use for the reply.
pub fn is_on_subnet_of(local: IpAddr, client: IpAddr) -> bool {
    client.is_loopback()
        || source_address_towards(client).is_ok_and(|own| own == local || own == client)
}

fn source_address_towards(client: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match client {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Connecting a UDP socket sends nothing and selects the route; any port does.
    socket.connect(SocketAddr::new(client, 9))?;
    Ok(socket.local_addr()?.ip())
}
