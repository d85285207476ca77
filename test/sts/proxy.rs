//! Checks which STS calls go through the proxy that the environment variables name.
//!
//! 0.0.0.0 stands for a remote host: connections to it end on this machine, but ec2-role does not treat it as a local address.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use crate::support::{Fault, ROLE, Reply, SECRET, Start, Sts, Watched, When, each};

/// A CONNECT proxy that connects every tunnel to one target. It runs until the tests end.
struct Proxy {
    address: SocketAddr,
    /// The status line of the proxy's responses.
    status: Arc<Watched<&'static str>>,
    heads: Arc<Watched<Vec<Vec<String>>>>,
}

impl Proxy {
    fn answering(status: &'static str, target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Watched<Vec<Vec<String>>>>::default();
        let now = Arc::<Watched<&str>>::default();
        now.change(|now| *now = status);
        let (kept, status) = (Arc::clone(&heads), Arc::clone(&now));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head = lines.take_while(|line| !line.is_empty()).collect();
                kept.change(|heads| heads.push(head));
                let status = status.look(|status| *status);
                _ = (&stream).write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
                if status.starts_with("200") {
                    tunnel(&stream, target);
                }
            }
        });
        Proxy {
            address,
            status: now,
            heads,
        }
    }

    fn url(&self) -> String {
        format!("http://user:{SECRET}%40@{}", self.address)
    }

    fn heads(&self) -> Vec<Vec<String>> {
        self.heads.look(Clone::clone)
    }
}

/// Copies bytes both ways until the target closes.
fn tunnel(client: &TcpStream, target: SocketAddr) {
    let target = TcpStream::connect(target).unwrap();
    std::thread::scope(|both| {
        both.spawn(|| std::io::copy(&mut &*client, &mut &target));
        _ = std::io::copy(&mut &target, &mut &*client);
        _ = client.shutdown(std::net::Shutdown::Both);
    });
}

/// The STS's URL with 0.0.0.0 as the address. ec2-role treats it as remote, and uses the proxy unless NO_PROXY has 0.0.0.0.
fn elsewhere(sts: &Sts) -> String {
    sts.url().replace("127.0.0.1", "0.0.0.0")
}

fn address(sts: &Sts) -> SocketAddr {
    sts.url().trim_start_matches("http://").parse().unwrap()
}

fn start(endpoint: &str) -> Start {
    Start::bare().keys("AKIA").arguments([
        "--credential-process",
        "--region",
        "eu-west-1",
        "--endpoint-url",
        endpoint,
        ROLE,
    ])
}

#[test]
fn sts_is_called_through_the_proxy_with_its_user_and_password() {
    let sts = Sts::start([Reply::good()]);
    let proxy = Proxy::answering("200 Established", address(&sts));
    // Only the proxy can reach this name.
    let ended = start("http://sts.example")
        .variable("http_proxy", &proxy.url())
        .run();
    assert_eq!((ended.status, sts.calls().len()), (Some(0), 1), "{ended:?}");
    let head = &proxy.heads()[0];
    assert_eq!(head[0], "CONNECT sts.example:80 HTTP/1.1");
    // The base64 text is `user:s3cr3t@`.
    let authorization = "Proxy-Authorization: Basic dXNlcjpzM2NyM3RA".to_owned();
    assert!(head.contains(&authorization), "{head:?}");
}

#[test]
fn loopback_and_no_proxy_hosts_bypass_the_proxy() {
    let sts = Sts::start([Reply::good()]);
    let proxy = Proxy::answering("403 Forbidden", address(&sts));
    let direct = |endpoint: &str, except: &str| {
        let ended = start(endpoint)
            .variable("http_proxy", &proxy.url())
            .variable("NO_PROXY", except)
            .run();
        assert_eq!(ended.status, Some(0), "{endpoint} {except}: {ended:?}");
    };
    direct(&sts.url(), "");
    direct(&sts.url().replace("127.0.0.1", "localhost"), "");
    for except in ["0.0.0.0", "x,0.0.0.0:80", "x 0.0.0.0", "*"] {
        direct(&elsewhere(&sts), except);
    }
    assert_eq!((sts.calls().len(), proxy.heads().len()), (6, 0));
}

#[test]
fn a_refusing_proxy_is_named_without_its_password() {
    let sts = Sts::start([Reply::good()]);
    let refusing = Proxy::answering("407 Who are you", address(&sts));
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for (at, why) in [(refusing.address, "407"), (nobody, "Connection refused")] {
        let proxy = format!("http://user:{SECRET}@{at}");
        let ended = start("https://sts.example")
            .variable("HTTPS_PROXY", &proxy)
            .run();
        let line = &ended.lines[0];
        let named = format!("the proxy {at} of HTTPS_PROXY: ");
        assert!(
            ended.status == Some(1) && line.contains(&named) && line.contains(why),
            "{ended:?}"
        );
        assert!(line.ends_with("NO_PROXY excepts a host from it"), "{line}");
        assert!(!line.contains(SECRET), "{line}");
    }
    assert_eq!(refusing.heads()[0][0], "CONNECT sts.example:443 HTTP/1.1");
    assert_eq!(sts.calls().len(), 0);
}

fn check_each(when: When) {
    let rows = [
        ("407 Who are you", "of http_proxy: …407"),
        ("403 Forbidden", "of http_proxy: …403"),
        ("502 Bad Gateway", "of http_proxy: …502"),
        ("x", "http parse fail"),
    ];
    each(rows, |(status, expected)| {
        let sts = Sts::start([Reply::good()]);
        let proxy = Proxy::answering("200 Established", address(&sts));
        Fault {
            what: status.to_owned(),
            sts: &sts,
            start: &|| {
                let start = Start::bare().keys("AKIA").listen("127.0.0.1:0");
                start
                    .arguments([ROLE, "--endpoint-url", "http://sts.example"])
                    .variable("http_proxy", &proxy.url())
            },
            inject: &|_| proxy.status.change(|now| *now = status),
            repair: &|_| proxy.status.change(|now| *now = "200 Established"),
            expected: &[expected],
            calls: 0,
        }
        .check(when);
    });
}

#[test]
fn proxy_faults_at_start_are_one_line_and_ec2_role_recovers() {
    check_each(When::AtTheFirstStart);
}

#[test]
fn proxy_faults_during_refresh_keep_the_credential() {
    check_each(When::DuringARefresh);
}

#[test]
fn sts_fault_is_not_reported_as_a_fault_of_the_proxy() {
    let rows = [
        // This STS does not speak TLS.
        ("https", Reply::good()),
        ("http", Reply::raw("not HTTP\r\n\r\n")),
        ("http", Reply::cut_mid_body()),
    ];
    each(rows, |(scheme, reply)| {
        let sts = Sts::start([reply]);
        let proxy = Proxy::answering("200 Established", address(&sts));
        let endpoint = format!("{scheme}://sts.example");
        let variable = format!("{scheme}_proxy");
        let ended = start(&endpoint).variable(&variable, &proxy.url()).run();
        let line = &ended.lines[0];
        assert!(
            ended.status == Some(1) && line.contains(&endpoint) && !line.contains("the proxy"),
            "{ended:?}"
        );
    });
}
