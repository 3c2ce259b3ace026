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
    /// A tokenizer file does not parse.
    Corrupt,
    /// A tokenizer uses something that this program does not support.
    Unsupported,
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
    /// A special token that the vocabulary lacks.
    #[error(
        "`{}`: {key} is `{token}`, which is neither in the vocabulary nor among the added tokens of {}: add it \
         there, or remove {key}", path.display(), crate::TOKENIZER_FILE
    )]
    NoSuchToken {
        /// The file that names it.
        path: PathBuf,
        /// The key, such as `eos_token`.
        key: String,
        /// The token's text.
        token: String,
    },
    /// A part of a tokenizer that this program does not read as Hugging Face's programs do.
    #[error("`{}`: {key} {problem}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key within it, such as `model.dropout`.
        key: String,
        /// What it is, why that does not work, and what would.
        problem: String,
    },
    /// Metadata of a GGUF file that describe no supported tokenizer.
    #[error("the tokenizer of the GGUF file: tokenizer.ggml.{key} {problem}")]
    Gguf {
        /// The key after `tokenizer.ggml.`.
        key: String,
        /// What it is, and what would work.
        problem: String,
    },
    /// A folder whose tokenizer is in another format.
    #[error(
        "`{}` has {found} but no {}: load it with `AutoTokenizer.from_pretrained` of transformers and write it \
         with `save_pretrained`, or use the GGUF file of the model", folder.display(), crate::TOKENIZER_FILE
    )]
    OtherFormat {
        /// The folder.
        folder: PathBuf,
        /// The file that it has.
        found: &'static str,
    },
    /// A file too large to be a tokenizer's.
    #[error("`{}` has {bytes} bytes; a tokenizer's has at most {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// A text that a tokenizer of another program fails on.
    #[error("a text of {bytes} bytes cannot be encoded: {problem}")]
    Encode {
        /// Size of the text.
        bytes: usize,
        /// What failed.
        problem: String,
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
            Error::VocabularyTooLarge { .. } | Error::NoText | Error::Encode { .. } => ErrorKind::Data,
            Error::Unsupported { .. } | Error::OtherFormat { .. } | Error::Gguf { .. } => {
                ErrorKind::Unsupported
            }
            Error::File { .. }
            | Error::NoSuchToken { .. }
            | Error::TooLarge { .. }
            | Error::Library { .. } => ErrorKind::Corrupt,
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

    pub(crate) fn unsupported(path: &Path, key: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Unsupported { path: path.to_owned(), key: key.into(), problem: problem.into() }
    }

    pub(crate) fn library<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> Error {
        move |error| Error::Library { action, message: error.to_string() }
    }
}
