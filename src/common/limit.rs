//! Explains errors that a system limit, a sandbox or a missing /proc causes.

use std::io;

use rustix::io::Errno;

/// Describes an error for a log line. The errors below get a text with the cause and the remedy; all others keep their own text.
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
        // ENOSPC can only come from epoll_ctl here. It never means a full disk, because the callers write no file.
        Some(Errno::NOSPC) => {
            "too many epoll watches of this user: raise fs.epoll.max_user_watches"
        }
        Some(Errno::PERM | Errno::NOSYS) => {
            "a system call is forbidden: allow it in the seccomp profile or sandbox"
        }
        // ENOENT can only come from the start of a process here: the start executes /proc/self/exe.
        Some(Errno::NOENT) => "there is no /proc/self/exe: mount /proc",
        _ => return error.to_string(),
    };
    limit.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests the text only: a full file table would stop the whole machine. Tests in `test/lifecycle/` reach the other limits.
    #[test]
    fn full_file_table_of_the_machine_is_named() {
        assert!(name(&Errno::NFILE.into()).ends_with("on this machine: raise fs.file-max"));
    }
}
