//! System limits of a process, recognized by their errors.

use std::fmt;
use std::io;

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// RLIMIT_FSIZE, or the largest file of the file system.
    FileSize,
    /// RLIMIT_NOFILE.
    OpenFiles,
    /// Open files of the whole system.
    SystemOpenFiles,
    /// RLIMIT_AS, the limit of a container, or the machine's memory.
    Memory,
    /// A user's disk quota.
    Quota,
}

impl Limit {
    /// The limit behind an error, if any.
    pub fn of(error: &io::Error) -> Option<Limit> {
        match error.kind() {
            io::ErrorKind::FileTooLarge => return Some(Limit::FileSize),
            io::ErrorKind::OutOfMemory => return Some(Limit::Memory),
            io::ErrorKind::QuotaExceeded => return Some(Limit::Quota),
            _ => {}
        }
        error.raw_os_error().and_then(Limit::of_code)
    }

    /// The limit behind an error message: messages of system errors end with their number.
    pub fn of_words(words: &str) -> Option<Limit> {
        let numbers = words.match_indices("(os error ").filter_map(|(at, mark)| {
            words[at + mark.len()..].split_once(')').and_then(|(number, _)| number.parse().ok())
        });
        numbers.filter_map(|number| Limit::of(&io::Error::from_raw_os_error(number))).next()
    }

    #[cfg(unix)]
    fn of_code(code: i32) -> Option<Limit> {
        match rustix::io::Errno::from_raw_os_error(code) {
            rustix::io::Errno::MFILE => Some(Limit::OpenFiles),
            rustix::io::Errno::NFILE => Some(Limit::SystemOpenFiles),
            _ => None,
        }
    }

    #[cfg(not(unix))]
    fn of_code(_code: i32) -> Option<Limit> {
        None
    }
}

/// The limit that was reached, with the name by which the system knows it.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::FileSize => {
                "file-size limit of this process (`ulimit -f`) or of the file system reached"
            }
            Limit::OpenFiles => "limit on open files of this process (`ulimit -n`) reached",
            Limit::SystemOpenFiles => "the system's limit on open files (`sysctl fs.file-max`) reached",
            Limit::Memory => {
                "out of memory: the limit of this process (`ulimit -v`), of its container, or of the machine is \
                 reached"
            }
            Limit::Quota => "disk quota of this user exceeded",
        })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_told_from_its_error_and_from_its_words() {
        for (errno, limit, named) in [
            (rustix::io::Errno::FBIG, Limit::FileSize, "ulimit -f"),
            (rustix::io::Errno::MFILE, Limit::OpenFiles, "ulimit -n"),
            (rustix::io::Errno::NFILE, Limit::SystemOpenFiles, "fs.file-max"),
            (rustix::io::Errno::NOMEM, Limit::Memory, "ulimit -v"),
            (rustix::io::Errno::DQUOT, Limit::Quota, "quota"),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(Limit::of(&error), Some(limit), "{error}");
            assert_eq!(Limit::of_words(&format!("cannot read `(os error x)`: {error}")), Some(limit));
            assert!(limit.to_string().contains(named));
            let told = crate::Error::io("write", std::path::Path::new("/x"))(error);
            assert!(told.to_string().contains(named), "{told}");
        }
        assert_eq!(Limit::of(&io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error())), None);
        assert_eq!(Limit::of_words("no number (os error )"), None);
    }
}
