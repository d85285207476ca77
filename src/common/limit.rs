//! The limits of the system that make a call fail for now.

use std::io;

use rustix::io::Errno;

/// The error with the limit behind it, for a log line.
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
        _ => return error.to_string(),
    };
    limit.to_owned()
}

/// Whether a limit is behind the error, so that it may pass.
pub fn is_limit(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AGAIN | Errno::NOMEM | Errno::NOBUFS | Errno::MFILE | Errno::NFILE)
    )
}
