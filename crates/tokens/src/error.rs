//! The one error of this crate: facts alone. What to do about them is with those who know the recipe and the
//! command.

use std::fmt;
use std::path::{Path, PathBuf};

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
    /// The data does not fill one sequence.
    #[error("the training data has {tokens} tokens, fewer than one sequence of {sequence_length}")]
    TooFewTokens {
        /// What there is.
        tokens: u64,
        /// Tokens of a sequence.
        sequence_length: usize,
    },
    /// The data does not fill one batch.
    #[error(
        "the training data has {tokens} tokens, that is {sequences} sequences of {sequence_length}, where one batch takes \
         {batch_size}"
    )]
    TooFewSequences {
        /// What there is.
        tokens: u64,
        /// Sequences that they are.
        sequences: u64,
        /// Tokens of a sequence.
        sequence_length: usize,
        /// Sequences of a batch.
        batch_size: usize,
    },
    /// More sequences than an epoch's order has room for.
    #[error(
        "the training data has {sequences} sequences of {sequence_length} tokens, more than the {} of an epoch",
        u32::MAX
    )]
    TooManySequences {
        /// What there is.
        sequences: u64,
        /// Tokens of a sequence.
        sequence_length: usize,
    },
    /// A loader's cursor that was taken over other data, or with another length of sequences.
    #[error("the loader cannot go to window {window} of an epoch of {windows}")]
    CursorBeyond {
        /// Where the cursor stands.
        window: u64,
        /// Windows that there are.
        windows: u64,
    },
    /// A mix that leaves out every document.
    #[error("the mix chooses no document from {}", sources.join(", "))]
    NothingMixed {
        /// What there was to choose from.
        sources: Vec<String>,
    },
    /// A folder of shards is damaged or belongs to something else.
    #[error("`{}` {fault}", path.display())]
    Corrupt {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
    /// Reading or writing failed, or a file is not what its folder's manifest says.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What makes shards unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No stage has left its manifest there.
    NoShards,
    /// The folder is that of another stage, of this name.
    OtherStage(String),
    /// The header does not parse: what the parser says.
    Header(String),
    /// The header is of another format.
    Format {
        /// What it has.
        found: u32,
        /// What this program reads.
        known: u32,
    },
    /// The ids are those of another tokenizer.
    OtherTokenizer {
        /// The hash of the tokenizer that made them.
        made_by: String,
        /// That of the tokenizer at hand.
        wanted: String,
    },
    /// A shard's ids are more or fewer than its header says.
    Ids,
    /// A shard's documents are more or fewer than its header says.
    Documents,
    /// The ends of a shard's documents do not rise to its last token.
    Ends,
    /// The shards' counts do not add up to the header's.
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
            Fault::NoShards => f.write_str("holds no finished token shards"),
            Fault::OtherStage(stage) => write!(f, "holds `{stage}`, not token shards"),
            Fault::Header(message) => write!(f, "does not parse: {message}"),
            Fault::Format { found, known } => write!(f, "has format {found}, this program reads {known}"),
            Fault::OtherTokenizer { made_by, wanted } => {
                write!(f, "was made by another tokenizer ({}…, wanted {}…)", short(made_by), short(wanted))
            }
            Fault::Ids => f.write_str("has another number of ids than its header says"),
            Fault::Documents => f.write_str("has another number of documents than its header says"),
            Fault::Ends => f.write_str("has document ends that are not in order"),
            Fault::Counts => f.write_str("has counts that do not add up"),
            Fault::Changed { from, to } => write!(
                f,
                "was changed since it was opened, at bytes {from} to {to}; what was read of it before is what its \
                 manifest says"
            ),
        }
    }
}

impl Error {
    /// The kind to decide on.
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
