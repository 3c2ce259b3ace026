//! The one error of this crate.

use std::path::PathBuf;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds of errors that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option out of its range.
    Options,
    /// There is too little data, or it cannot be read.
    Data,
    /// The disk is full.
    StorageFull,
    /// An I/O or system error.
    Io,
    /// A limit of this process was reached; waiting does not help.
    Limit,
    /// A file that is not the program's is in the way; waiting does not help.
    InTheWay,
    /// A checkpoint is damaged and there is no replacement.
    Corrupt,
    /// There is no such checkpoint.
    NotFound,
    /// A checkpoint belongs to another model, tokenizer, dataset or batch shape.
    Incompatible,
    /// Loss or gradients are not finite.
    Diverged,
    /// An error of the model.
    Model,
}

impl ErrorKind {
    /// The name of the kind in `state.json`.
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

/// Errors that stop training; each message says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid value.
    #[error("train.{key}: {message}")]
    Option {
        /// The key within `[train]`.
        key: String,
        /// The mistake and its correction.
        message: String,
    },
    /// Too little data, or data that cannot be read.
    #[error("{message}")]
    Data {
        /// The problem and its remedy.
        message: String,
    },
    /// A checkpoint could not be written within the waiting time.
    #[error(
        "the checkpoint of step {step} cannot be written: {source}. {last_good} Free {:.1} MB on the disk of \
         `{}` and continue with `text2llm resume`", *needed_bytes as f64 / 1e6, folder.display()
    )]
    Save {
        /// The step that was not saved.
        step: u64,
        /// The folder of checkpoints.
        folder: PathBuf,
        /// Approximate size of a checkpoint.
        needed_bytes: u64,
        /// A sentence about the last good checkpoint.
        last_good: String,
        /// The last attempt's error.
        source: Box<Error>,
    },
    /// All checkpoints are damaged.
    #[error(
        "no checkpoint in `{}` is intact ({damaged} damaged, first: {first}): restore one from a backup, or \
         start a new run with `text2llm run`", folder.display()
    )]
    NoneWhole {
        /// The folder of checkpoints.
        folder: PathBuf,
        /// Number of damaged checkpoints.
        damaged: usize,
        /// The problem of the newest one.
        first: Box<Error>,
    },
    /// The selected checkpoint does not exist.
    #[error("{message}")]
    NotFound {
        /// The checkpoint, the folder, and the available steps.
        message: String,
    },
    /// A checkpoint is inconsistent although its hashes match.
    #[error("`{}` is damaged: {message}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The problem.
        message: String,
    },
    /// The checkpoint does not match this run's model, tokenizer, data or batch shape.
    #[error("the checkpoint of step {step} cannot be continued: {what} was {was} and is now {now}; {remedy}")]
    Incompatible {
        /// The checkpoint's step.
        step: u64,
        /// What differs.
        what: String,
        /// The value in the checkpoint.
        was: String,
        /// The current value.
        now: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// The checkpoint was made with options that the run's record does not know.
    #[error(
        "the options of the checkpoint of step {step} differ from those in the run's meta.json (train.{}): \
         one of the two does not belong to this run. Restore meta.json from a backup, resume another \
         checkpoint with --checkpoint, or start a new run", keys.join(", train.")
    )]
    UnknownOptions {
        /// The checkpoint's step.
        step: u64,
        /// Keys of `[train]` that differ.
        keys: Vec<String>,
    },
    /// Too many consecutive steps without a finite loss and gradient.
    #[error(
        "loss or gradient was not finite in {count} consecutive steps, up to step {step}: the run has \
         diverged. Start a new run with a lower train.learning_rate (it was {learning_rate:e}) or a longer \
         warm-up. The checkpoints of this run are intact and kept"
    )]
    Diverged {
        /// The last such step.
        step: u64,
        /// Number of such steps.
        count: u64,
        /// The learning rate of the last one.
        learning_rate: f64,
    },
    /// The loss spiked, and rollbacks did not help.
    #[error(
        "the loss spiked to {loss:.3} at step {step} (recent median {median:.3}), and {tries} consecutive \
         rollbacks did not help: the run has diverged. Start a new run with a lower train.learning_rate (it \
         was {learning_rate:e}) or a longer warm-up, or check the training text at that step. The \
         checkpoints of this run are intact and kept"
    )]
    Spike {
        /// The step at which it was detected.
        step: u64,
        /// The loss.
        loss: f64,
        /// Median of recent losses.
        median: f64,
        /// Number of rollbacks attempted.
        tries: u64,
        /// The learning rate of that step.
        learning_rate: f64,
    },
    /// A weight or moment is NaN or infinite; such a state is never saved.
    #[error("`{tensor}` contains a non-finite value after step {step}: no checkpoint was written")]
    NonFiniteWeights {
        /// The step.
        step: u64,
        /// The tensor.
        tensor: String,
    },
    /// The run's folder was deleted or moved during training.
    #[error(
        "the run's folder `{}` is gone: it was deleted or moved during training. Training stopped, since \
         nothing can be saved; restore the folder and continue with `text2llm resume`, or start a new \
         run", folder.display()
    )]
    FolderGone {
        /// Its former path.
        folder: PathBuf,
    },
    /// Signal handlers could not be installed.
    #[error("cannot listen for SIGINT and SIGTERM: {source}")]
    Signals {
        /// The system's error.
        source: std::io::Error,
    },
    /// An I/O error.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An error of a tensor file.
    #[error(transparent)]
    Formats(#[from] formats::Error),
    /// An error of the model.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// An error of the training data.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
}

impl Error {
    /// The kind of this error.
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
