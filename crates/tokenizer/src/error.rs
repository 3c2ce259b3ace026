//! The one error of this crate.

use std::path::{Path, PathBuf};

use crate::chat::ChatError;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds of errors that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option is out of range or contradicts another.
    Invalid,
    /// The text is insufficient.
    Data,
    /// A tokenizer file is missing.
    NotFound,
    /// A tokenizer file does not parse, or has an unsupported format.
    Corrupt,
    /// An I/O error.
    Io,
}

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid option.
    #[error("tokenizer.{key}: {message}")]
    Options {
        /// The key under `[tokenizer]`.
        key: &'static str,
        /// The mistake and its correction.
        message: String,
    },
    /// Merging ran out of pairs before the vocabulary was full.
    #[error(
        "the text is enough for a vocabulary of {reached} tokens, and tokenizer.vocab_size is {asked}: set \
         tokenizer.vocab_size = {reached} or less, add text, or lower tokenizer.min_frequency (now \
         {min_frequency})"
    )]
    VocabularyTooLarge {
        /// The requested vocabulary size.
        asked: usize,
        /// The vocabulary size that was reached.
        reached: usize,
        /// Pairs below this count are not merged.
        min_frequency: u64,
    },
    /// There is no text.
    #[error("there is no text to train the tokenizer on")]
    NoText,
    /// A file of the tokenizer folder cannot be used.
    #[error("`{}` is damaged: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// A special token without a spelling.
    #[error("`{}` has no `{role}`: bos, eos, pad and unk are required", path.display())]
    NoSpecialToken {
        /// The file of special tokens.
        path: PathBuf,
        /// The key that it lacks.
        role: &'static str,
    },
    /// An error of the library: a bug, or text beyond its limits.
    #[error("the tokenizers library failed to {action}: {message}")]
    Library {
        /// The operation.
        action: &'static str,
        /// Its message.
        message: String,
    },
    /// A chat record or a chat template.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// An I/O error.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Options { .. } => ErrorKind::Invalid,
            Error::VocabularyTooLarge { .. } | Error::NoText => ErrorKind::Data,
            Error::File { .. } | Error::NoSpecialToken { .. } | Error::Library { .. } => ErrorKind::Corrupt,
            Error::Chat(error) => match error {
                ChatError::Record(_) | ChatError::Refused { .. } | ChatError::DoubledBos { .. } => {
                    ErrorKind::Data
                }
                ChatError::UnknownBuiltin { .. }
                | ChatError::NoTemplate
                | ChatError::TurnNotFound { .. }
                | ChatError::ToolCallVanishes { .. }
                | ChatError::ToolsVanish { .. }
                | ChatError::ContentVanishes { .. } => ErrorKind::Invalid,
                ChatError::Syntax { .. }
                | ChatError::Limit { .. }
                | ChatError::NoDefault { .. }
                | ChatError::Encoder { .. }
                | ChatError::File { .. } => ErrorKind::Corrupt,
            },
            Error::Store(error) => match error.kind() {
                store::ErrorKind::NotFound => ErrorKind::NotFound,
                store::ErrorKind::Corrupt => ErrorKind::Corrupt,
                _ => ErrorKind::Io,
            },
        }
    }

    pub(crate) fn options(key: &'static str, message: impl Into<String>) -> Error {
        Error::Options { key, message: message.into() }
    }

    pub(crate) fn file(path: &Path, message: impl Into<String>) -> Error {
        Error::File { path: path.to_owned(), message: message.into() }
    }

    pub(crate) fn library<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> Error {
        move |error| Error::Library { action, message: error.to_string() }
    }
}
