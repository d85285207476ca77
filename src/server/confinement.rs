//! Confines the server to the system calls that it needs once it is started, so that a server that was taken over reaches nothing:
//! no network of the host's, no file, no program, no other process.

use std::collections::BTreeMap;

use libc::{PROT_EXEC, SO_LINGER, SOL_SOCKET};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule};

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
    // Threads: tiny_http's may still be starting, wait for each other, and end when idle.
    libc::SYS_rseq, libc::SYS_set_robust_list, libc::SYS_gettid, libc::SYS_sched_getaffinity,
    libc::SYS_futex, libc::SYS_sched_yield, libc::SYS_sigaltstack, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall, libc::SYS_exit, libc::SYS_exit_group,
    // Clocks, where the vDSO has none.
    libc::SYS_clock_gettime, libc::SYS_clock_nanosleep,
];

/// Confines all threads. The error is for the log: the server can run without.
pub fn confine() -> Result<(), String> {
    let program = filter().map_err(|error| error.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let is_not_executable = || SeccompCondition::new(2, Dword, MaskedEq(PROT_EXEC as u64), 0);
    let mut rules: BTreeMap<_, Vec<SeccompRule>> =
        ALLOWED.into_iter().map(|call| (call, Vec::new())).collect();
    for (call, conditions) in [
        // With an address and MSG_FASTOPEN it would connect.
        (libc::SYS_sendto, vec![SeccompCondition::new(4, Qword, Eq, 0)?]),
        // To abort a connection.
        (
            libc::SYS_setsockopt,
            vec![
                SeccompCondition::new(1, Dword, Eq, SOL_SOCKET as u64)?,
                SeccompCondition::new(2, Dword, Eq, SO_LINGER as u64)?,
            ],
        ),
        (libc::SYS_mmap, vec![is_not_executable()?]),
        (libc::SYS_mprotect, vec![is_not_executable()?]),
    ] {
        rules.insert(call, vec![SeccompRule::new(conditions)?]);
    }
    // An error and not the end of the process: a C library may try a call that it can do without.
    let refusal = SeccompAction::Errno(libc::EPERM as u32);
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, refusal, SeccompAction::Allow, architecture)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::process::Command;

    use rustix::net::{AddressFamily, SendFlags, SocketType, sendto, socket};
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn nothing_is_reached_but_open_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let unconnected = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let (program, own) = (filter().unwrap(), getpid());
        let confined = std::thread::spawn(move || {
            seccompiler::apply_filter(&program).unwrap();
            let fast_open = SendFlags::from_bits_retain(libc::MSG_FASTOPEN as u32);
            let errors = [
                TcpStream::connect(address).err(),
                TcpListener::bind("127.0.0.1:0").err(),
                UdpSocket::bind("127.0.0.1:0").err(),
                rustix::net::connect(&unconnected, &address).err().map(Into::into),
                sendto(&unconnected, b"x", fast_open, &address).err().map(Into::into),
                rustix::net::listen(&unconnected, 1).err().map(Into::into),
                File::open("/dev/null").err(),
                Command::new("/bin/true").status().err(),
                kill_process(own, Signal::URG).err().map(Into::into),
            ];
            server.write_all(b"served").unwrap();
            errors.map(|error| error.map(|error: std::io::Error| error.kind()))
        });
        let errors = confined.join().unwrap();
        assert_eq!(errors, [Some(ErrorKind::PermissionDenied); 9]);
        let mut served = String::new();
        client.read_to_string(&mut served).unwrap();
        assert_eq!(served, "served");
    }
}
