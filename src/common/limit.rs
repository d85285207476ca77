//! Recognizes errors that are caused by a system limit, and may end by themselves.

use std::io;

use rustix::io::Errno;

/// Returns the limit that caused an error, and how to raise it; `None` if no limit did.
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

/// Describes an error for a log line: the limit that caused it, or else the error itself.
pub fn name(error: &io::Error) -> String {
    limit(error).map_or_else(|| error.to_string(), str::to_owned)
}

/// Whether a limit caused the error, so that a retry may succeed.
pub fn is_limit(error: &io::Error) -> bool {
    limit(error).is_some()
}
