//! The one error of this crate.

use std::path::{Path, PathBuf};

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may want to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option is out of range or contradicts another.
    Invalid,
    /// The text is not enough for what was asked of it.
    Data,
    /// A tokenizer file is missing.
    NotFound,
    /// A tokenizer file does not parse, or is of a form that this program does not know.
    Corrupt,
    /// The disk failed.
    Io,
}

/// Everything that can go wrong between text and ids.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option that cannot be.
    #[error("tokenizer.{key}: {message}")]
    Options {
        /// The key under `[tokenizer]`.
        key: &'static str,
        /// What is wrong with it and what would be right.
        message: String,
    },
    /// Merging ran out of pairs before the vocabulary was full.
    #[error(
        "the text supports a vocabulary of {reached} tokens and tokenizer.vocab_size asks for {asked}: set \
         tokenizer.vocab_size = {reached} or less, add text, or lower tokenizer.min_frequency (now {min_frequency})"
    )]
    VocabularyTooLarge {
        /// What the recipe wants.
        asked: usize,
        /// What the text gives.
        reached: usize,
        /// Below this count a pair is not merged.
        min_frequency: u64,
    },
    /// Nothing to learn from.
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
    #[error("`{}` names no `{role}`: this program needs bos, eos, pad and unk", path.display())]
    NoSpecialToken {
        /// The file of special tokens.
        path: PathBuf,
        /// The key that it lacks.
        role: &'static str,
    },
    /// The library refused what we built; a bug, or text beyond its limits.
    #[error("the tokenizers library failed to {action}: {message}")]
    Library {
        /// What was tried.
        action: &'static str,
        /// What it said.
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
            Error::Options { .. } => ErrorKind::Invalid,
            Error::VocabularyTooLarge { .. } | Error::NoText => ErrorKind::Data,
            Error::File { .. } | Error::NoSpecialToken { .. } | Error::Library { .. } => ErrorKind::Corrupt,
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
