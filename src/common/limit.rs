//! The limits of the system that make a call fail for now.

use std::io;

use rustix::io::Errno;

/// The limit behind an error, and how to raise it.
fn limit(error: &io::Error) -> Option<&'static str> {
    Some(match Errno::from_io_error(error)? {
        Errno::AGAIN => {
            "too many processes: raise TasksMax=, the container's pids limit or RLIMIT_NPROC"
        }
        Errno::NOMEM | Errno::NOBUFS => {
            "out of memory: raise MemoryMax= or the container's memory limit"
        }
        Errno::MFILE => "too many open files: raise LimitNOFILE= or RLIMIT_NOFILE",
        Errno::NFILE => "too many open files on this machine: raise fs.file-max",
        _ => return None,
    })
}

/// The error with the limit behind it, for a log line.
pub fn name(error: &io::Error) -> String {
    limit(error).map_or_else(|| error.to_string(), str::to_owned)
}

/// Whether a limit is behind the error, so that it may pass.
pub fn is_limit(error: &io::Error) -> bool {
    limit(error).is_some()
}
