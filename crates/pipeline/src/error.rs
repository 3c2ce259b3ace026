//! Errors of the pipeline, and their exit codes.

use std::path::PathBuf;

use runs::report::Phase;

use crate::remedy::told;
use crate::stopped::Stopped;
use recipe::RecipeErrors;

/// Kinds of errors, which determine the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A recipe or an argument is wrong.
    Configuration,
    /// The machine or its disk is insufficient.
    Environment,
    /// Corpus or tokenizer.
    Corpus,
    /// Training.
    Training,
    /// A limit in `[validate]` is exceeded, or an export differs from the trained model.
    Validation,
    /// A requested stop, which is not an error.
    Stopped,
}

impl ErrorKind {
    /// Exit code: 1 usage, configuration or environment; 3 corpus or tokenizer; 4 training; 5 validation; 143
    /// stopped (130 by Ctrl-C, which only the process's [`train::StopFlag`] knows).
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Configuration | ErrorKind::Environment => 1,
            ErrorKind::Corpus => 3,
            ErrorKind::Training => 4,
            ErrorKind::Validation => 5,
            ErrorKind::Stopped => train::EXIT_AFTER_SIGTERM,
        }
    }

    /// The default kind of errors in a phase.
    pub(crate) fn of_phase(phase: Phase) -> ErrorKind {
        match phase {
            Phase::Prerequisites => ErrorKind::Environment,
            Phase::Corpus | Phase::Tokenizer => ErrorKind::Corpus,
            Phase::Model | Phase::Training => ErrorKind::Training,
            Phase::Validation | Phase::Export => ErrorKind::Validation,
        }
    }
}

/// A value that exceeds its limit.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Unmet {
    /// The recipe key of the limit.
    pub key: &'static str,
    /// The measured value.
    pub value: f64,
    /// The limit.
    pub limit: f64,
    /// The unit of both.
    pub unit: &'static str,
}

/// Errors of the pipeline; each message says what happened, where, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Mistakes in the recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeErrors),
    /// An invalid argument.
    #[error("{message}")]
    Argument {
        /// The mistake and its correction.
        message: String,
    },
    /// The machine is insufficient.
    #[error("{message}")]
    Environment {
        /// What is missing, and the remedy.
        message: String,
    },
    /// An error of the corpus.
    #[error("{}", told(.0))]
    Corpus(#[from] corpus::Error),
    /// An error of token shards.
    #[error("{}", told(.0))]
    Tokens(#[from] tokens::Error),
    /// An error of a remote server.
    #[error("{}", told(.0))]
    Cloud(#[from] cloud::Error),
    /// An error of the tokenizer.
    #[error("{}", told(.0))]
    Tokenizer(#[from] tokenizer::Error),
    /// The data does not match the recipe.
    #[error("{message}")]
    Data {
        /// The problem and its remedy.
        message: String,
    },
    /// A device error.
    #[error("{}", told(.0))]
    Device(#[from] compute::Error),
    /// An invalid shape, or an unusable model file.
    #[error("{}", told(.0))]
    Model(#[from] model::Error),
    /// An error of the training loop.
    #[error("{}", told(.0))]
    Training(#[from] train::Error),
    /// A requested stop, which is not an error.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Values that exceed limits in `[validate]`.
    #[error("{}", unmet_text(unmet, report))]
    Gates {
        /// The values with their limits.
        unmet: Vec<Unmet>,
        /// Path of the report.
        report: PathBuf,
    },
    /// A guarantee of training that a test on this machine found broken.
    #[error("{message}")]
    Promise {
        /// The guarantee, and where to look.
        message: String,
    },
    /// An export that differs from the trained model.
    #[error("the exported model differs from the trained one: {message}. `{}` was not \
             changed", folder.display())]
    Export {
        /// The target folder, which was not written.
        folder: PathBuf,
        /// What differs.
        message: String,
    },
    /// An I/O error in a phase.
    #[error("{}", told(source))]
    Disk {
        /// The phase.
        phase: Phase,
        /// The I/O error.
        source: store::Error,
    },
    /// An error of a run's records.
    #[error("{}", told(.0))]
    Store(#[from] store::Error),
    /// A run that is not to be had by its name.
    #[error("{}", told(.0))]
    Runs(#[from] runs::Error),
    /// An error of a file in an external format.
    #[error("{}", told(.0))]
    Formats(#[from] formats::Error),
}

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Recipe(_) | Error::Argument { .. } => ErrorKind::Configuration,
            Error::Environment { .. } | Error::Store(_) | Error::Runs(_) | Error::Device(_) => {
                ErrorKind::Environment
            }
            Error::Cloud(cloud::Error::Reference { .. }) => ErrorKind::Configuration,
            Error::Cloud(cloud::Error::NoCurl { .. }) => ErrorKind::Environment,
            Error::Cloud(_) => ErrorKind::Corpus,
            Error::Corpus(_) | Error::Tokens(_) | Error::Tokenizer(_) | Error::Data { .. } => {
                ErrorKind::Corpus
            }
            Error::Model(error) => match error.kind() {
                model::ErrorKind::Configuration => ErrorKind::Configuration,
                _ => ErrorKind::Environment,
            },
            Error::Training(error) if error.kind() == train::ErrorKind::Data => ErrorKind::Corpus,
            Error::Training(error) if error.kind() == train::ErrorKind::Options => ErrorKind::Configuration,
            Error::Training(_) | Error::Promise { .. } => ErrorKind::Training,
            Error::Stopped(_) => ErrorKind::Stopped,
            Error::Gates { .. } | Error::Export { .. } => ErrorKind::Validation,
            Error::Disk { phase, .. } => ErrorKind::of_phase(*phase),
            Error::Formats(_) => ErrorKind::Environment,
        }
    }

    /// For `map_err`: an I/O error within a phase.
    pub(crate) fn disk(phase: Phase) -> impl Fn(store::Error) -> Error {
        move |source| Error::Disk { phase, source }
    }
}

/// The error if the system cannot start a thread.
pub(crate) fn no_thread(error: &std::io::Error) -> Error {
    Error::Environment { message: format!("cannot start a thread: {error}: {}", crate::remedy::NO_THREAD) }
}

fn unmet_text(unmet: &[Unmet], report: &std::path::Path) -> String {
    let mut text = String::from("the model exceeds limits in [validate]:");
    for gate in unmet {
        text.push_str(&format!(
            "\n  {}: {} {} is above the limit of {} {} (validate.{})",
            gate.key.trim_start_matches("maximum_").replace('_', " "),
            figure(gate.value),
            gate.unit,
            figure(gate.limit),
            gate.unit,
            gate.key
        ));
    }
    text.push_str(&format!(
        "\nThe trained weights are kept in the run, and model/ was not changed; see {}. Change the recipe or \
         the limit, then run `text2llm run` again: finished stages are reused",
        store::plain::line(&report.display().to_string())
    ));
    text
}

fn figure(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
