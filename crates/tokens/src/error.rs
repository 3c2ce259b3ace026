//! The one error of this crate: facts only. Callers that know the command and the recipe add the remedy.

use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds of errors that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Too few tokens.
    Data,
    /// Output of this program is missing, damaged, or belongs to another tokenizer.
    Corrupt,
    /// An I/O error.
    Io,
}

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data do not fill one sequence.
    #[error("the training data has {tokens} tokens, fewer than one sequence of {sequence_length}")]
    TooFewTokens {
        /// Number of tokens available.
        tokens: u64,
        /// Sequence length in tokens.
        sequence_length: usize,
    },
    /// The data do not fill one batch.
    #[error(
        "the training data has {tokens} tokens, or {sequences} sequences of {sequence_length}, but one batch \
         needs {batch_size}"
    )]
    TooFewSequences {
        /// Number of tokens available.
        tokens: u64,
        /// Number of sequences available.
        sequences: u64,
        /// Sequence length in tokens.
        sequence_length: usize,
        /// Sequences per batch.
        batch_size: usize,
    },
    /// There are more sequences than an epoch's permutation can index.
    #[error(
        "the training data has {sequences} sequences of {sequence_length} tokens, more than the {} of an epoch",
        u32::MAX
    )]
    TooManySequences {
        /// Number of sequences available.
        sequences: u64,
        /// Sequence length in tokens.
        sequence_length: usize,
    },
    /// A loader's cursor belongs to other data or another sequence length.
    #[error("the loader cannot seek to window {window} of an epoch of {windows}")]
    CursorBeyond {
        /// The cursor's window.
        window: u64,
        /// Number of windows.
        windows: u64,
    },
    /// A mix selects no document.
    #[error("the mix selects no document from {}", sources.join(", "))]
    NothingMixed {
        /// The sources of the mix.
        sources: Vec<String>,
    },
    /// A folder of shards is damaged or does not match.
    #[error("`{}` {fault}", path.display())]
    Corrupt {
        /// The file or folder.
        path: PathBuf,
        /// The fault.
        fault: Fault,
    },
    /// An I/O error, or a file does not match its folder's manifest.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Why shards are unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// There is not one mask for each id.
    Masks,
    /// The folder has no manifest.
    NoShards,
    /// The folder is the output of another stage, with its name.
    OtherStage(String),
    /// The header does not parse: the message of the parser.
    Header(String),
    /// The header has another format.
    Format {
        /// The header's format.
        found: u32,
        /// The format that this program reads.
        known: u32,
    },
    /// The ids were made with another tokenizer.
    OtherTokenizer {
        /// The hash of the tokenizer that made them.
        made_by: String,
        /// The hash of the current tokenizer.
        wanted: String,
    },
    /// A shard's number of ids differs from its header.
    Ids,
    /// A shard's number of documents differs from its header.
    Documents,
    /// A shard's document ends are not increasing up to its last token.
    Ends,
    /// The shards' counts do not add up to those of the header.
    Counts,
    /// A file was changed after it was opened and checked.
    Changed {
        /// The first byte of the block that changed.
        from: u64,
        /// The byte after it.
        to: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        match self {
            Fault::NoShards => f.write_str("contains no finished token shards"),
            Fault::OtherStage(stage) => write!(f, "contains `{stage}`, not token shards"),
            Fault::Header(message) => write!(f, "does not parse: {message}"),
            Fault::Format { found, known } => write!(f, "has format {found}, and this program reads {known}"),
            Fault::OtherTokenizer { made_by, wanted } => {
                write!(
                    f,
                    "was created with another tokenizer ({}…, expected {}…)",
                    short(made_by),
                    short(wanted)
                )
            }
            Fault::Masks => f.write_str("has a number of ids that differs from that of its masks"),
            Fault::Ids => f.write_str("has a number of ids that differs from its header"),
            Fault::Documents => f.write_str("has a number of documents that differs from its header"),
            Fault::Ends => f.write_str("has document ends that are not in order"),
            Fault::Counts => f.write_str("has counts that do not add up"),
            Fault::Changed { from, to } => write!(
                f,
                "has changed since it was opened, at bytes {from} to {to}; the data read before matched its \
                 manifest"
            ),
        }
    }
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::Store(error) => match error.kind() {
                store::ErrorKind::NotFound | store::ErrorKind::Corrupt => ErrorKind::Corrupt,
                _ => ErrorKind::Io,
            },
            _ => ErrorKind::Data,
        }
    }

    pub(crate) fn corrupt(path: &Path, fault: Fault) -> Error {
        Error::Corrupt { path: path.to_owned(), fault }
    }
}
