//! Limits the server to the system calls that it needs after its start (seccomp), so that an attacker who takes over the server
//! cannot reach the host's network, files, programs or other processes.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

use libc::{PROT_EXEC, SO_LINGER, SOL_SOCKET};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, Gt, MaskedEq};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule};

/// System calls that are allowed with any arguments.
#[rustfmt::skip]
const ALLOWED: [libc::c_long; 31] = [
    // Client connections, the control channel and tiny_http's connection. No call that creates or connects a socket is needed:
    // the sockets are already open, and accept4 returns new ones.
    libc::SYS_accept4, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2,
    libc::SYS_read, libc::SYS_recvfrom, libc::SYS_write, libc::SYS_close, libc::SYS_getsockname,
    // ppoll waits until tiny_http has read a batch, and checks for new clients and for room in the log. The C library may write
    // the message of an abort with writev.
    libc::SYS_ppoll, libc::SYS_writev,
    // pread64 reads the kernel's address and route tables. No call that opens a file is needed: their files are already open.
    libc::SYS_pread64,
    // Memory allocation and random numbers.
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_getrandom,
    // The start, the waits and the end of threads. Some of tiny_http's threads may still be starting when the filter is applied.
    libc::SYS_rseq, libc::SYS_set_robust_list, libc::SYS_gettid, libc::SYS_sched_getaffinity,
    libc::SYS_futex, libc::SYS_sched_yield, libc::SYS_sigaltstack, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall, libc::SYS_exit, libc::SYS_exit_group,
    // Clocks: without a vDSO clock, reading the time is a system call. clock_nanosleep is the pause after a failed accept4.
    libc::SYS_clock_gettime, libc::SYS_clock_nanosleep,
];

/// Applies the seccomp filter to all threads. After an error, the caller continues without the filter. This process must open
/// `listener` before the connections, because the filter recognizes a connection by its higher descriptor number.
pub fn confine(listener: RawFd) -> Result<(), String> {
    let program = filter(listener).map_err(|error| error.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

fn filter(listener: RawFd) -> Result<BpfProgram, seccompiler::BackendError> {
    // shutdown and setsockopt are allowed only on descriptors above the listener's. The listener and the descriptors below it,
    // such as stderr, are shared with the supervisor and the next server, which continue to use them.
    let is_own = || SeccompCondition::new(0, Dword, Gt, listener as u64);
    let is_not_executable = || SeccompCondition::new(2, Dword, MaskedEq(PROT_EXEC as u64), 0);
    let mut rules: BTreeMap<_, Vec<SeccompRule>> =
        ALLOWED.into_iter().map(|call| (call, Vec::new())).collect();
    for (call, conditions) in [
        // sendto is allowed only with a null address: with an address and MSG_FASTOPEN it opens a connection.
        (libc::SYS_sendto, vec![SeccompCondition::new(4, Qword, Eq, 0)?]),
        (libc::SYS_shutdown, vec![is_own()?]),
        // setsockopt is allowed only for SO_LINGER, which `Connection::abort` sets so that the close sends RST.
        (
            libc::SYS_setsockopt,
            vec![
                is_own()?,
                SeccompCondition::new(1, Dword, Eq, SOL_SOCKET as u64)?,
                SeccompCondition::new(2, Dword, Eq, SO_LINGER as u64)?,
            ],
        ),
        (libc::SYS_mmap, vec![is_not_executable()?]),
        (libc::SYS_mprotect, vec![is_not_executable()?]),
    ] {
        rules.insert(call, vec![SeccompRule::new(conditions)?]);
    }
    // A forbidden call returns EPERM instead of killing the process: a C library may try a call that it can do without.
    let refusal = SeccompAction::Errno(libc::EPERM as u32);
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, refusal, SeccompAction::Allow, architecture)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::process::Command;
    use std::time::Duration;

    use rustix::net::sockopt::set_socket_linger;
    use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketType, sendto, shutdown, socket};
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn nothing_is_reached_but_open_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let unconnected = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let (program, own) = (filter(listener.as_raw_fd()).unwrap(), getpid());
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
                shutdown(&listener, Shutdown::Both).err().map(Into::into),
                shutdown(std::io::stderr(), Shutdown::Both).err().map(Into::into),
                set_socket_linger(&listener, Some(Duration::ZERO)).err().map(Into::into),
            ];
            server.write_all(b"served").unwrap();
            errors.map(|error| error.map(|error: std::io::Error| error.kind()))
        });
        let errors = confined.join().unwrap();
        assert_eq!(errors, [Some(ErrorKind::PermissionDenied); 12]);
        let mut served = String::new();
        client.read_to_string(&mut served).unwrap();
        assert_eq!(served, "served");
    }
}
