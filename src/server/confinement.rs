//! Confines the server to the system calls that it needs once it is started, so that a server that was taken over reaches nothing:
//! no network of the host's, no file, no program, no other process.

use std::io;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_LD, BPF_RET, PROT_EXEC, SO_LINGER, SOL_SOCKET,
};
use seccompiler::{Error, sock_filter};

/// linux/audit.h
const AUDIT_ARCH: i64 = if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else {
    0xc000_003e
};

/// Allowed with any arguments.
#[rustfmt::skip]
const ALLOWED: [libc::c_long; 32] = [
    // Clients, the control channel and tiny_http's connection, all of them open or from the listener.
    libc::SYS_accept4, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2,
    libc::SYS_read, libc::SYS_recvfrom, libc::SYS_write, libc::SYS_shutdown, libc::SYS_close, libc::SYS_getsockname,
    // The log, which is polled for room, and a panic's message.
    libc::SYS_ppoll, libc::SYS_writev,
    // The tables of interfaces, which are open.
    libc::SYS_pread64,
    // Memory.
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_getrandom,
    // Threads: tiny_http's may begin only now, wait for each other, and end when they are idle.
    libc::SYS_rseq, libc::SYS_set_robust_list, libc::SYS_gettid, libc::SYS_sched_getaffinity,
    libc::SYS_futex, libc::SYS_sched_yield, libc::SYS_sigaltstack, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall, libc::SYS_exit, libc::SYS_exit_group,
    // Clocks, where the vDSO has none.
    libc::SYS_clock_gettime, libc::SYS_clock_nanosleep,
];

/// Confines all threads. The server can run without.
pub fn confine() -> io::Result<()> {
    match seccompiler::apply_filter_all_threads(&filter()) {
        Ok(()) => Ok(()),
        Err(Error::Prctl(error) | Error::Seccomp(error)) => Err(error),
        Err(_) => Err(io::Error::other("a thread has another filter")),
    }
}

/// The program of the filter (seccomp(2), bpf(4)). seccompiler's own compiler would make the binary 20 KB larger.
fn filter() -> Vec<sock_filter> {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    // An error and not the end of the process: a C library may try a call that it can do without.
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    // Offsets in `seccomp_data`, which is little-endian here as the architectures are.
    const CALL: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    let argument = |number: u32| 16 + 8 * number;
    let load = |offset| instruction(BPF_LD | BPF_ABS, 0, 0, offset);
    let unless_equal = |value: i64, skip| instruction(BPF_JMP | BPF_JEQ, 0, skip, value as u32);
    let if_set = |bits: i32, skip| instruction(BPF_JMP | BPF_JSET, skip, 0, bits as u32);
    let end = |verdict| instruction(BPF_RET, 0, 0, verdict);

    let mut program = vec![load(ARCHITECTURE), unless_equal(AUDIT_ARCH, 1), load(CALL)];
    // Another architecture has other numbers: what it loads is none of these.
    for call in ALLOWED {
        program.extend([unless_equal(call, 1), end(ALLOW)]);
    }
    for (call, conditions) in [
        // With an address and MSG_FASTOPEN it would connect.
        (
            libc::SYS_sendto,
            vec![
                load(argument(4)),
                unless_equal(0, 3),
                load(argument(4) + 4),
                unless_equal(0, 1),
            ],
        ),
        // To abort a connection.
        (
            libc::SYS_setsockopt,
            vec![
                load(argument(1)),
                unless_equal(SOL_SOCKET.into(), 3),
                load(argument(2)),
                unless_equal(SO_LINGER.into(), 1),
            ],
        ),
        (
            libc::SYS_mmap,
            vec![load(argument(2)), if_set(PROT_EXEC, 1)],
        ),
        (
            libc::SYS_mprotect,
            vec![load(argument(2)), if_set(PROT_EXEC, 1)],
        ),
    ] {
        program.push(unless_equal(call, conditions.len() as u8 + 2));
        program.extend(conditions);
        program.extend([end(ALLOW), end(REFUSE)]);
    }
    program.push(end(REFUSE));
    program
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    let code = code as u16;
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::process::Command;

    use rustix::net::{AddressFamily, SendFlags, SocketType, sendto, socket, sockopt};
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn nothing_is_reached_but_open_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let unconnected = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let (program, own) = (filter(), getpid());
        let confined = std::thread::spawn(move || {
            seccompiler::apply_filter(&program).unwrap();
            let fast_open = SendFlags::from_bits_retain(libc::MSG_FASTOPEN as u32);
            let errors = [
                TcpStream::connect(address).err(),
                TcpListener::bind("127.0.0.1:0").err(),
                UdpSocket::bind("127.0.0.1:0").err(),
                rustix::net::connect(&unconnected, &address)
                    .err()
                    .map(Into::into),
                sendto(&unconnected, b"x", fast_open, &address)
                    .err()
                    .map(Into::into),
                rustix::net::listen(&unconnected, 1).err().map(Into::into),
                server.set_nodelay(true).err(),
                File::open("/dev/null").err(),
                Command::new("/bin/true").status().err(),
                kill_process(own, Signal::URG).err().map(Into::into),
            ];
            server.write_all(b"served").unwrap();
            sockopt::set_socket_linger(&server, None).unwrap();
            errors.map(|error| error.map(|error: std::io::Error| error.kind()))
        });
        let errors = confined.join().unwrap();
        assert_eq!(errors, [Some(ErrorKind::PermissionDenied); 10]);
        let mut served = String::new();
        client.read_to_string(&mut served).unwrap();
        assert_eq!(served, "served");
    }
}
