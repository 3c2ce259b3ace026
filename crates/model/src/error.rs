//! What can go wrong between a shape and a model.

use std::path::PathBuf;

/// What a kind of failure this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A shape or option that cannot be built.
    Configuration,
    /// The device refused, for want of memory most of all.
    Device,
    /// A file is missing, corrupt or of another shape.
    Files,
    /// More tokens than the model's context holds.
    ContextFull,
}

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration key has a value that no model can have.
    #[error("model.{key}: {message}")]
    Configuration {
        /// The key at fault.
        key: &'static str,
        /// What is wrong and what would do.
        message: String,
    },
    /// From the device.
    #[error(transparent)]
    Device(#[from] compute::Error),
    /// From a file format.
    #[error(transparent)]
    Format(#[from] formats::Error),
    /// From the disk.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No such tensor, or another size.
    #[error("tensor {name}: {message}")]
    Tensor {
        /// Hugging Face's name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A file does not hold the model it should.
    #[error("{}: {message}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// The sequence is full.
    #[error(
        "the context of {capacity} tokens is full: {asked} more were asked for. Shorten the prompt or ask for fewer new tokens"
    )]
    ContextFull {
        /// Tokens the cache holds.
        capacity: usize,
        /// Tokens that did not fit.
        asked: usize,
    },
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Configuration { .. } => ErrorKind::Configuration,
            Error::Device(_) => ErrorKind::Device,
            Error::Format(_) | Error::Store(_) | Error::Tensor { .. } | Error::Folder { .. } => {
                ErrorKind::Files
            }
            Error::ContextFull { .. } => ErrorKind::ContextFull,
        }
    }
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
