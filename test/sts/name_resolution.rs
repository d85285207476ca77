//! Checks what happens if a name cannot be resolved, and if a service does not respond at one of the addresses of its name. Name
//! resolution that hangs is in `lifecycle/robustness.rs`.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use crate::support::{Directory, Fault, ROLE, Reply, Start, Sts, When, each, namespace};

/// Addresses of name servers. KNOWS resolves every name, NOBODY does not exist, and SILENT never responds. Each of the others
/// returns the response code beside its address (RFC 1035, 4.1.1).
const KNOWS: &str = "127.0.0.1";
const NOBODY: &str = "127.0.0.2";
const SILENT: &str = "127.0.0.3";
const KNOWS_NONE: (&str, u8) = ("127.0.0.4", 3);
const FAILS: (&str, u8) = ("127.0.0.5", 2);
const REFUSES: (&str, u8) = ("127.0.0.6", 5);
const UNDERSTANDS_NOTHING: (&str, u8) = ("127.0.0.7", 1);

/// Writes the file `resolver`, a resolv.conf, with this name server. Each fetcher is a new process and reads the file again.
fn ask(name_server: &str, resolver: &str) {
    std::fs::write(
        resolver,
        format!("nameserver {name_server}\noptions timeout:1 attempts:1\n"),
    )
    .unwrap();
}

/// Runs a name server that returns this response code. If the code is 0, it resolves every name to 127.0.0.1, otherwise none.
fn serve_names((address, error): (&str, u8)) {
    let knows = error == 0;
    let socket = UdpSocket::bind((address, 53)).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            // A message (RFC 1035, 4.1) has a head (id, flags, four counts), the question and the answer. The answer's first two
            // bytes refer to the name in the question.
            let question = &query[12..length];
            let is_for_address = question.ends_with(&[0, 1, 0, 1]);
            let flags = 0x80 | error;
            let count = u8::from(knows && is_for_address);
            let head = [query[0], query[1], 0x81, flags, 0, 1, 0, count, 0, 0, 0, 0];
            let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1];
            let length = answer.len() * usize::from(count);
            let message = [&head, question, &answer[..length]].concat();
            _ = socket.send_to(&message, client);
        }
    });
}

#[test]
fn other_address_family_is_tried_after_a_silent_one() {
    if !namespace::enter_for_this_test() {
        return;
    }
    std::fs::write("/etc/hosts", "::1 sts.test\n127.0.0.1 sts.test\n").unwrap();
    let sts = Sts::start([Reply::good()]);
    let url = sts.url().replace("127.0.0.1", "sts.test");
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    // The kernel accepts connections to ::1, but no process responds, as on a path that loses large packets. So ec2-role must try
    // 127.0.0.1 after a time-out.
    let silent = TcpListener::bind(("::1", port)).unwrap();
    let start = Start::bare().keys("AKIA");
    let ended = start
        .arguments([ROLE, "--credential-process", "--endpoint-url", &url])
        .run();
    silent.set_nonblocking(true).unwrap();
    assert!(silent.accept().is_ok(), "IPv6 was not tried first");
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(sts.calls().len(), 1);
}

/// A firewall, such as firewalld or nftables (`reject with icmpx type admin-prohibited`), may reject IPv6 packets. Here a routing
/// rule rejects only TCP. UDP must work, so that IPv6 is tried first: getaddrinfo puts an address last if UDP cannot reach it.
#[test]
fn other_address_family_is_tried_after_a_prohibited_one() {
    if !namespace::enter_for_this_test() {
        return;
    }
    std::fs::write("/etc/hosts", "::1 sts.test\n127.0.0.1 sts.test\n").unwrap();
    let rules = "ip -6 rule add pref 1 ipproto tcp prohibit; ip -6 rule add pref 2 table local; ip -6 rule del pref 0";
    assert!(
        Command::new("sh")
            .args(["-euc", rules])
            .status()
            .unwrap()
            .success()
    );
    let sts = Sts::start([Reply::good()]);
    let url = sts.url().replace("127.0.0.1", "sts.test");
    let start = Start::bare().keys("AKIA");
    let start = start.arguments([ROLE, "--credential-process", "--endpoint-url", &url]);
    let ended = start.run();
    assert_eq!(ended.status, Some(0), "{ended:?}");
}

#[test]
fn unresolvable_names_are_one_line_and_ec2_role_recovers() {
    if !namespace::enter_for_this_test() {
        return;
    }
    let _silent = UdpSocket::bind((SILENT, 53)).unwrap();
    for server in [(KNOWS, 0), KNOWS_NONE, FAILS, REFUSES, UNDERSTANDS_NOTHING] {
        serve_names(server);
    }
    ask(KNOWS_NONE.0, "/etc/resolv.conf");
    let start = Start::bare()
        .keys("AKIA")
        .arguments([ROLE, "--credential-process"]);
    let ended = start.variable("https_proxy", "http://proxy.test:1").run();
    let line = &ended.lines[0];
    assert!(
        line.contains("the proxy proxy.test:1 of https_proxy: "),
        "{line}"
    );

    let temporary =
        "its name is not found: Temporary failure in name resolution; check the name, and";
    let rows = [
        (
            KNOWS_NONE.0,
            "its name is not found: Name or service not known; check the name, and that each name server in /etc/resolv.conf answers and knows it",
        ),
        (NOBODY, temporary),
        (SILENT, temporary),
        (FAILS.0, temporary),
        (REFUSES.0, temporary),
        (UNDERSTANDS_NOTHING.0, "its name is not found: "),
    ];
    let rows = rows
        .iter()
        .flat_map(|row| [(row, When::AtTheFirstStart), (row, When::DuringARefresh)]);
    each(rows, |((name_server, expected), when)| {
        let files = Directory::new();
        let resolver = files.text("resolv.conf");
        ask(KNOWS, &resolver);
        let script = "mount --bind \"$0\" /etc/resolv.conf; exec \"$@\"";
        let with_its_own = ["unshare", "--mount", "sh", "-euc", script, &resolver];
        let sts = Sts::start([Reply::good()]);
        let url = sts.url().replace("127.0.0.1", "sts.test");
        Fault {
            what: format!("{name_server}, {when:?}"),
            sts: &sts,
            start: &|| {
                let start = Start::bare()
                    .before(with_its_own)
                    .keys("AKIA")
                    .listen("127.0.0.1:0");
                start.arguments([ROLE, "--endpoint-url", &url])
            },
            inject: &|_| ask(name_server, &resolver),
            repair: &|_| ask(KNOWS, &resolver),
            expected: &[expected, &url],
            calls: 0,
        }
        .check(when);
    });
}
