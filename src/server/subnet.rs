//! Where a client is, by this machine's own routes. Nothing is sent to find out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether a client is this machine itself.
pub fn is_this_machine(client: IpAddr) -> bool {
    client.is_loopback() || own_address_towards(client).is_ok_and(|own| own == client)
}

/// Whether a client is in the network of the address that it has asked, or this machine itself. A machine takes in what comes for
/// any of its addresses from any of its networks; towards another network it would speak from another address.
pub fn is_in_network_of(asked: IpAddr, client: IpAddr) -> bool {
    client.is_loopback()
        || own_address_towards(client).is_ok_and(|own| own == asked || own == client)
}

/// The address from which this machine would speak to another.
fn own_address_towards(other: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match other {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Any port will do.
    socket.connect(SocketAddr::new(other, 9))?;
    Ok(socket.local_addr()?.ip())
}
