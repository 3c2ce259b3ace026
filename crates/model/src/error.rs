//! Errors of building and loading models.

use std::path::PathBuf;

/// The kind of this error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A shape or option that cannot be built.
    Configuration,
    /// The device refused, for want of memory most of all.
    Device,
    /// A file is missing, corrupt or of another shape.
    Files,
    /// The context is full.
    ContextFull,
}

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration key has a value that no model can have.
    #[error("model.{key}: {message}")]
    Configuration {
        /// The invalid key.
        key: &'static str,
        /// The mistake and its correction.
        message: String,
    },
    /// A key of an adapter has a value that none can have.
    #[error("adapter.{key}: {message}")]
    Adapter {
        /// The invalid key.
        key: &'static str,
        /// The mistake and its correction.
        message: String,
    },
    /// An error of the device.
    #[error(transparent)]
    Device(#[from] compute::Error),
    /// An error of a file format.
    #[error(transparent)]
    Format(#[from] formats::Error),
    /// An I/O error.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No such tensor, or another size.
    #[error("tensor {name}: {message}")]
    Tensor {
        /// The tensor's Hugging Face name.
        name: String,
        /// The problem.
        message: String,
    },
    /// A file or folder is not the expected model.
    #[error("{}: {message}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The problem and its remedy.
        message: String,
    },
    /// The context of a sequence is full.
    #[error(
        "{asked} more tokens do not fit into the context of {capacity} tokens: shorten the prompt, or ask \
         for fewer new tokens"
    )]
    ContextFull {
        /// Capacity of the cache in tokens.
        capacity: usize,
        /// Tokens that did not fit.
        asked: usize,
    },
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Configuration { .. } | Error::Adapter { .. } => ErrorKind::Configuration,
            Error::Device(_) => ErrorKind::Device,
            Error::Format(_) | Error::Store(_) | Error::Tensor { .. } | Error::Folder { .. } => {
                ErrorKind::Files
            }
            Error::ContextFull { .. } => ErrorKind::ContextFull,
        }
    }
}

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
