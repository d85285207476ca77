//! Clients that vanish without a close. By default the kernel keeps such a connection for 100 s after the server's close, and
//! retransmits to the client. ec2-role shortens this time to 1 s.

use std::io::Write;
use std::net::TcpStream;

use crate::support::container::{self, Container};
use crate::support::http::{self, connections, request_with};
use crate::support::{Reply, Start, Sts, namespace, until};

const CLIENTS: usize = 50;

#[test]
fn connections_of_vanished_clients_close_within_seconds() {
    if !namespace::enter_for_this_test() {
        return;
    }
    let container = Container::start();
    let sts = Sts::start([Reply::good()]);
    let ec2_role = Start::with(&sts).listen("192.0.2.1:0").serving();
    let address = ec2_role.address;
    let connect = || {
        (0..2 * CLIENTS)
            .map(|_| http::connect(address).unwrap())
            .collect()
    };
    let mut clients: Vec<TcpStream> = container.enter(connect);
    // Make the clients vanish: from here on, packets for the container go to a MAC address that no interface has.
    container::run(
        "ip neighbour replace 192.0.2.2 lladdr 02:00:00:00:00:99 dev host0 nud permanent",
    );
    // Half of the clients send a request, and the response is lost; the other half send nothing.
    for client in &mut clients[..CLIENTS] {
        client.write_all(request_with("").as_bytes()).unwrap();
    }
    until("all requests", || {
        let lines = ec2_role.lines();
        let requests = lines
            .iter()
            .filter(|line| line.starts_with("192.0.2.2 - - ["));
        (requests.count() == CLIENTS).then_some(())
    });
    assert!(connections(address.port()) >= CLIENTS);
    until("the end of all connections", || {
        (connections(address.port()) == 0).then_some(())
    });
}
