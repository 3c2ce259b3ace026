//! The one error of this crate.

use std::path::PathBuf;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may want to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Too few tokens for what was asked.
    Data,
    /// Something that this program wrote is missing, damaged, or belongs to another tokenizer.
    Corrupt,
    /// The disk failed.
    Io,
}

/// Everything that can go wrong with shards and batches.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not enough, or nothing.
    #[error("{message}")]
    Data {
        /// What, and the remedy.
        message: String,
    },
    /// A folder of shards is damaged or belongs to something else.
    #[error("`{}`: {message}", path.display())]
    Corrupt {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// The kind to decide on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Data { .. } => ErrorKind::Data,
            Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::Store(error) => match error.kind() {
                store::ErrorKind::NotFound | store::ErrorKind::Corrupt => ErrorKind::Corrupt,
                _ => ErrorKind::Io,
            },
        }
    }

    pub(crate) fn corrupt(path: &std::path::Path, message: impl Into<String>) -> Error {
        Error::Corrupt { path: path.to_owned(), message: message.into() }
    }
}
