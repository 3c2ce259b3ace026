//! The one error of this crate.

use std::path::PathBuf;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may want to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option is out of range or contradicts another.
    Invalid,
    /// A file or folder named in the recipe, or left by an earlier stage, is not there.
    NotFound,
    /// The text cannot be used: binary, empty, or too little for what was asked.
    Data,
    /// Something that this program wrote is damaged, or belongs to another tokenizer.
    Corrupt,
    /// The disk failed.
    Io,
}

/// Everything that can go wrong between files and shards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option that cannot be.
    #[error("data.{key}: {message}")]
    Options {
        /// The key under `[data]`.
        key: &'static str,
        /// What is wrong with it and what would be right.
        message: String,
    },
    /// A path of the recipe leads nowhere.
    #[error("data.paths: {message}")]
    NotFound {
        /// Which, where it was looked for, and the remedy.
        message: String,
    },
    /// A file that cannot be read as text.
    #[error("`{source_name}`: {message}")]
    Source {
        /// The file as the recipe names it, with the line where there is one.
        source_name: String,
        /// What is wrong, and the remedy.
        message: String,
    },
    /// Not enough, or nothing.
    #[error("{message}")]
    Data {
        /// What, and the remedy.
        message: String,
    },
    /// A stage's folder is damaged or belongs to something else.
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
    /// From shards or mixes.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
}

impl Error {
    /// The kind to decide on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Options { .. } => ErrorKind::Invalid,
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::Source { .. } | Error::Data { .. } => ErrorKind::Data,
            Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::Store(error) => match error.kind() {
                store::ErrorKind::NotFound => ErrorKind::NotFound,
                store::ErrorKind::Corrupt => ErrorKind::Corrupt,
                _ => ErrorKind::Io,
            },
            Error::Tokens(error) => match error.kind() {
                tokens::ErrorKind::Data => ErrorKind::Data,
                tokens::ErrorKind::Corrupt => ErrorKind::Corrupt,
                _ => ErrorKind::Io,
            },
            Error::Tokenizer(error) => match error.kind() {
                tokenizer::ErrorKind::Invalid => ErrorKind::Invalid,
                tokenizer::ErrorKind::NotFound => ErrorKind::NotFound,
                tokenizer::ErrorKind::Corrupt => ErrorKind::Corrupt,
                tokenizer::ErrorKind::Io => ErrorKind::Io,
                _ => ErrorKind::Data,
            },
        }
    }

    pub(crate) fn source(name: &str, message: impl Into<String>) -> Error {
        Error::Source { source_name: name.to_owned(), message: message.into() }
    }

    pub(crate) fn corrupt(path: &std::path::Path, message: impl Into<String>) -> Error {
        Error::Corrupt { path: path.to_owned(), message: message.into() }
    }
}
