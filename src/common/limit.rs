//! Names what in the system causes an error: a limit, or a missing /proc.

use std::io;

use rustix::io::Errno;

/// Describes an error for a log line: its cause in the system and how to remove it, or else the error itself.
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
        // Every process is started from /proc/self/exe; no other caller gets this error.
        Some(Errno::NOENT) => "there is no /proc/self/exe: mount /proc",
        _ => return error.to_string(),
    };
    limit.to_owned()
}
