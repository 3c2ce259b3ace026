//! The one error of this crate.

use std::io;
use std::path::{Path, PathBuf};

use crate::limit::Limit;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may want to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused: permissions, hardware, a vanished folder.
    Io,
    /// The disk (or a quota) is full; the same call works once space is back.
    StorageFull,
    /// A limit of this process is reached: it does not lift by itself. See [`crate::limit`].
    Limit,
    /// A file or folder that should be there is not.
    NotFound,
    /// Bytes are not what their manifest says, or do not parse.
    Corrupt,
    /// Another process holds the run.
    Locked,
    /// A folder that would be replaced holds what this program did not make.
    NotOurs,
    /// The caller asked for something that cannot be.
    Invalid,
}

/// Everything that can go wrong on disk; each message names the path and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation of the file system failed.
    #[error("cannot {action} `{}`: {source}{}{}", path.display(), limit(source), remedy(source))]
    Io {
        /// What was tried, as a verb: "write", "rename".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what its manifest or format says.
    #[error("`{}` is damaged: {message}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What does not match, and what to do about it.
        message: String,
    },
    /// A run's lock is held.
    #[error(
        "run folder `{}` is in use by process {}: wait for it, or stop it, and try again",
        path.display(), pid.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string())
    )]
    Locked {
        /// The run's folder.
        path: PathBuf,
        /// Who holds it, where the lock file says so.
        pid: Option<u32>,
    },
    /// A folder that would be replaced or removed holds what this program did not make.
    #[error(
        "`{}` {what}, and it would have to be replaced. Nothing was changed. Move {} elsewhere, and run the same command again",
        path.display(), if *all { "it" } else { "that" }
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// What of it, as the rest of a sentence.
        what: String,
        /// Whether nothing in it is known to be ours.
        all: bool,
    },
    /// Something asked for does not exist.
    #[error("{message}")]
    NotFound {
        /// What, where, and what to do.
        message: String,
    },
    /// A request that makes no sense, such as a file outside its staged folder.
    #[error("{message}")]
    Invalid {
        /// What and why.
        message: String,
    },
}

fn limit(source: &io::Error) -> String {
    Limit::of(source).map_or_else(String::new, |limit| format!(": {}", limit.remedy()))
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => ": free some space and run the same command again",
        io::ErrorKind::PermissionDenied => ": check the permissions of the folder",
        io::ErrorKind::ReadOnlyFilesystem => ": choose a writable place with --output-dir",
        _ => "",
    }
}

impl Error {
    /// The kind to decide on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ if Limit::of(source).is_some() => ErrorKind::Limit,
                _ => ErrorKind::Io,
            },
            Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::Locked { .. } => ErrorKind::Locked,
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::NotOurs { .. } => ErrorKind::NotOurs,
            Error::Invalid { .. } => ErrorKind::Invalid,
        }
    }

    /// For `map_err` after an operation on `path`: `fs.read(path).map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// A damaged file.
    pub fn corrupt(path: &Path, message: impl Into<String>) -> Error {
        Error::Corrupt { path: path.to_owned(), message: message.into() }
    }
}
