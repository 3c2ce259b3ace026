//! The one error of this crate.

use std::path::{Path, PathBuf};

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds of errors that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The disk or the operating system refused.
    Io,
    /// A file that should be there is not.
    NotFound,
    /// Bytes that break their format's rules.
    Corrupt,
    /// A valid file that needs an unsupported feature.
    Unsupported,
    /// Content that cannot be written.
    Invalid,
}

/// Everything that can go wrong with a format; each message names the file, the place in it, and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading failed below the format.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file breaks its format's rules.
    #[error("`{}` is damaged or not of the type its name suggests: {message}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The position and the problem.
        message: String,
    },
    /// One tensor of a file is not usable.
    #[error("`{}`, tensor `{tensor}`: {message}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The problem.
        message: String,
        /// Corrupt, Unsupported or NotFound.
        kind: ErrorKind,
    },
    /// A key of a configuration file has a value that cannot be used.
    #[error("`{}`, key `{key}`: {message}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key, dotted where nested.
        key: String,
        /// The problem with its value.
        message: String,
        /// Corrupt or Unsupported.
        kind: ErrorKind,
    },
    /// A request that cannot be written down in the format.
    #[error("{message}")]
    Invalid {
        /// The problem.
        message: String,
    },
    /// An I/O error.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// The kind to decide on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { source, .. }
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                ErrorKind::NotFound
            }
            Error::Io { .. } => ErrorKind::Io,
            Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::Tensor { kind, .. } | Error::Key { kind, .. } => *kind,
            Error::Invalid { .. } => ErrorKind::Invalid,
            Error::Store(error) => match error.kind() {
                store::ErrorKind::NotFound => ErrorKind::NotFound,
                store::ErrorKind::Corrupt => ErrorKind::Corrupt,
                store::ErrorKind::Invalid => ErrorKind::Invalid,
                _ => ErrorKind::Io,
            },
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    pub(crate) fn corrupt(path: &Path, message: impl Into<String>) -> Error {
        Error::Corrupt { path: path.to_owned(), message: message.into() }
    }
}
