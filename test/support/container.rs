//! Simulates the network of a container: a network namespace behind a veth pair. The test must be in a network namespace itself,
//! because the host's end of the pair and its address are added there.

use std::os::fd::AsFd;
use std::process::{Child, Command};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::until;

/// A container with the address 192.0.2.2. Its default route leads to the test's namespace, 192.0.2.1.
pub struct Container(Child);

impl Container {
    pub fn start() -> Self {
        let sleep = Command::new("unshare")
            .args(["--net", "sleep", "60"])
            .spawn();
        let container = Container(sleep.unwrap());
        let pid = container.0.id();
        until("the container's namespace", || {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            (of(&pid.to_string())? != of("self")?).then_some(())
        });
        run(&format!(
            "ip link add host0 type veth peer name eth0 netns {pid}
             ip address add 192.0.2.1/24 dev host0; ip link set host0 up"
        ));
        container.run(
            "ip address add 192.0.2.2/24 dev eth0; ip link set eth0 up; ip route add default via 192.0.2.1",
        );
        container
    }

    /// Sends a GET from inside the container and returns the whole response.
    pub fn get(&self, address: &str, path: &str) -> String {
        let address = address.replacen(':', "/", 1);
        self.run(&format!(
            "exec 3<>/dev/tcp/{address}; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
        ))
    }

    /// Like `get`, but with the source address `source`, as if the container forwarded the request of a client behind it.
    pub fn get_from(&self, source: &str, address: &str, path: &str) -> String {
        let (host, _port) = address.split_once(':').unwrap();
        self.run(&format!(
            "ip address replace {source}/32 dev lo; ip route replace {host}/32 dev eth0 src {source}"
        ));
        let answer = self.get(address, path);
        self.run(&format!("ip route del {host}/32"));
        answer
    }

    /// Runs `inside` in a thread in the container's network namespace. The sockets that `inside` opens stay in that namespace.
    pub fn enter<R: Send>(&self, inside: impl FnOnce() -> R + Send) -> R {
        let path = format!("/proc/{}/ns/net", self.0.id());
        let network = std::fs::File::open(path).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                    .unwrap();
                inside()
            });
            thread.join().unwrap()
        })
    }

    /// Runs a script in the container's network.
    pub fn run(&self, script: &str) -> String {
        let pid = self.0.id();
        run(&format!(
            "nsenter --target {pid} --net bash -euc \"{script}\""
        ))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The kernel removes the namespace, and the veth pair with it, only some time after the last process has ended. Delete
        // the pair now, so that its name is free for the next container.
        _ = Command::new("ip").args(["link", "del", "host0"]).status();
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Runs a script in the test's own namespace.
pub fn run(script: &str) -> String {
    let output = Command::new("sh").args(["-euc", script]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
