//! Explains errors that a system limit, a sandbox or a missing /proc causes.

use std::io;

use rustix::io::Errno;

/// Describes an error for a log line: the cause and the remedy for the errors below, the error's own text for others.
pub fn name(error: &io::Error) -> String {
    let limit = match Errno::from_io_error(error) {
        Some(Errno::AGAIN) => {
            "too many processes: raise TasksMax=, the container's pids limit or RLIMIT_NPROC"
        }
        Some(Errno::NOMEM | Errno::NOBUFS) => {
            "out of memory: raise MemoryMax= or the container's memory limit"
        }
        Some(Errno::MFILE) => "too many open files: raise LimitNOFILE= or RLIMIT_NOFILE",
        Some(Errno::NFILE) => "too many open files on this machine: raise fs.file-max",
        // Only epoll_ctl can fail with this error: the callers write no file.
        Some(Errno::NOSPC) => {
            "too many epoll watches of this user: raise fs.epoll.max_user_watches"
        }
        Some(Errno::PERM | Errno::NOSYS) => {
            "a system call is forbidden: allow it in the seccomp profile or sandbox"
        }
        // Only the start of a process can fail with this error: it executes /proc/self/exe.
        Some(Errno::NOENT) => "there is no /proc/self/exe: mount /proc",
        _ => return error.to_string(),
    };
    limit.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other limits are reached in `test/lifecycle/`; this one would stop the whole machine.
    #[test]
    fn full_file_table_of_the_machine_is_named() {
        assert!(name(&Errno::NFILE.into()).ends_with("on this machine: raise fs.file-max"));
    }
}
