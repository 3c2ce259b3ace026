//! The one error of this crate.

use std::path::PathBuf;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller may want to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option out of its range.
    Options,
    /// The data does not suffice or cannot be read.
    Data,
    /// The disk is full.
    StorageFull,
    /// The disk or the system refused.
    Io,
    /// A limit of this process is reached; waiting does not lift it.
    Limit,
    /// Something of somebody else's is in the way; waiting does not move it.
    InTheWay,
    /// A checkpoint is damaged and nothing can stand in for it.
    Corrupt,
    /// There is no such checkpoint.
    NotFound,
    /// A checkpoint belongs to another model, tokenizer, data set or batch shape.
    Incompatible,
    /// Loss or gradients are not finite.
    Diverged,
    /// The model refused.
    Model,
}

impl ErrorKind {
    /// As `state.json` spells it.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Options => "options",
            ErrorKind::Data => "data",
            ErrorKind::StorageFull => "storage_full",
            ErrorKind::Io => "io",
            ErrorKind::Limit => "limit",
            ErrorKind::InTheWay => "in_the_way",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::NotFound => "not_found",
            ErrorKind::Incompatible => "incompatible",
            ErrorKind::Diverged => "diverged",
            ErrorKind::Model => "model",
        }
    }
}

/// Everything that can stop training; each message says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value out of its range.
    #[error("train.{key}: {message}")]
    Option {
        /// The key within `[train]`.
        key: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// Too little data, or data that cannot be read.
    #[error("{message}")]
    Data {
        /// What and what to do.
        message: String,
    },
    /// A checkpoint could not be written for as long as the program is willing to wait.
    #[error(
        "the checkpoint of step {step} cannot be written: {source}. {last_good} Free {:.1} MB on the disk of `{}` and go \
         on with `text2llm resume`", *needed_bytes as f64 / 1e6, folder.display()
    )]
    Save {
        /// The step that is not saved.
        step: u64,
        /// Where checkpoints go.
        folder: PathBuf,
        /// About how much one takes.
        needed_bytes: u64,
        /// Which checkpoint is whole, as a sentence.
        last_good: String,
        /// The last attempt's error.
        source: Box<Error>,
    },
    /// All checkpoints are damaged.
    #[error(
        "no checkpoint in `{}` is whole ({damaged} damaged, first: {first}): restore one from a copy, or start a new run \
         with `text2llm run`", folder.display()
    )]
    NoneWhole {
        /// Where.
        folder: PathBuf,
        /// How many there are.
        damaged: usize,
        /// What is wrong with the newest.
        first: Box<Error>,
    },
    /// A checkpoint that was asked for is not there.
    #[error("{message}")]
    NotFound {
        /// Which, where, and which ones there are.
        message: String,
    },
    /// A checkpoint's content breaks its own rules although its hashes hold.
    #[error("`{}` is damaged: {message}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The checkpoint is not of this run's model, tokenizer, data or batch shape.
    #[error("the checkpoint of step {step} cannot be continued: {what} was {was} and is now {now}; {remedy}")]
    Incompatible {
        /// The checkpoint's step.
        step: u64,
        /// What differs.
        what: String,
        /// In the checkpoint.
        was: String,
        /// Now.
        now: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The checkpoint was made with options that the run's record never had.
    #[error(
        "the checkpoint of step {step} was made with other options than the run's meta.json has, or ever had (train.{}): one of \
         the two is not of this run. Restore meta.json from a backup, resume another checkpoint with --checkpoint, or start a new \
         run", keys.join(", train.")
    )]
    UnknownOptions {
        /// The checkpoint's step.
        step: u64,
        /// Keys of `[train]` that differ.
        keys: Vec<String>,
    },
    /// Too many steps in a row without a finite loss and gradient.
    #[error(
        "loss or gradient was not finite in {count} steps in a row, up to step {step}: the run has diverged. Start a new \
         one with a lower train.learning_rate (it was {learning_rate:e}) or a longer warm-up; the checkpoints of this one \
         are sound and stay"
    )]
    Diverged {
        /// The last of them.
        step: u64,
        /// How many.
        count: u64,
        /// Used in the last of them.
        learning_rate: f64,
    },
    /// The loss left its course and did not come back.
    #[error(
        "the loss spiked to {loss:.3} at step {step}, where {median:.3} was usual: the run has diverged, {tries} rollbacks in a row did not \
         help. Start a new one with a lower train.learning_rate (it was {learning_rate:e}) or a longer warm-up, or look at the text \
         around there; the checkpoints of this one are sound and stay"
    )]
    Spike {
        /// Where it was noticed.
        step: u64,
        /// The loss.
        loss: f64,
        /// What was usual before.
        median: f64,
        /// Rollbacks tried.
        tries: u64,
        /// Used there.
        learning_rate: f64,
    },
    /// A weight or moment is NaN or infinite; no such thing is ever saved.
    #[error("`{tensor}` holds a value that is not finite after step {step}: no checkpoint is written of it")]
    NonFiniteWeights {
        /// The step.
        step: u64,
        /// The tensor.
        tensor: String,
    },
    /// The run's folder was deleted or moved while it trained.
    #[error(
        "the run's folder `{}` is gone: it was deleted or moved while it trained. Training stops, since nothing can be kept; \
         put the folder back and go on with `text2llm resume`, or start a new run", folder.display()
    )]
    FolderGone {
        /// Where it was.
        folder: PathBuf,
    },
    /// Signal handlers could not be installed.
    #[error("cannot listen for SIGINT and SIGTERM: {source}")]
    Signals {
        /// What the system said.
        source: std::io::Error,
    },
    /// From the disk.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// From a tensor file.
    #[error(transparent)]
    Formats(#[from] formats::Error),
    /// From the model.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// From the data.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
}

impl Error {
    /// The kind to decide on.
    pub fn kind(&self) -> ErrorKind {
        let of_store = |kind| match kind {
            store::ErrorKind::StorageFull => ErrorKind::StorageFull,
            store::ErrorKind::Limit => ErrorKind::Limit,
            store::ErrorKind::Corrupt => ErrorKind::Corrupt,
            store::ErrorKind::NotFound => ErrorKind::NotFound,
            store::ErrorKind::NotOurs | store::ErrorKind::Locked | store::ErrorKind::Invalid => {
                ErrorKind::InTheWay
            }
            _ => ErrorKind::Io,
        };
        match self {
            Error::Option { .. } => ErrorKind::Options,
            // A disk that failed once may serve the next session.
            Error::Tokens(tokens::Error::Store(error)) if error.kind() == store::ErrorKind::Io => {
                ErrorKind::Io
            }
            Error::Data { .. } | Error::Tokens(_) => ErrorKind::Data,
            Error::Save { source, .. } => source.kind(),
            Error::NoneWhole { .. } | Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::Incompatible { .. } | Error::UnknownOptions { .. } => ErrorKind::Incompatible,
            Error::Diverged { .. } | Error::Spike { .. } | Error::NonFiniteWeights { .. } => {
                ErrorKind::Diverged
            }
            Error::FolderGone { .. } => ErrorKind::NotFound,
            Error::Signals { .. } => ErrorKind::Io,
            Error::Store(error) => of_store(error.kind()),
            Error::Formats(formats::Error::Store(error)) => of_store(error.kind()),
            Error::Formats(error) => match error.kind() {
                formats::ErrorKind::Io => ErrorKind::Io,
                formats::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Corrupt,
            },
            Error::Model(_) => ErrorKind::Model,
        }
    }
}
