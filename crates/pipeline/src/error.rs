//! What can stop the pipeline, and which exit code that is.

use std::path::PathBuf;

use runs::report::Phase;

use crate::remedy::told;
use crate::stopped::Stopped;
use recipe::RecipeErrors;

/// What kind of trouble, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A recipe or an argument is wrong.
    Configuration,
    /// The machine or its disk is not up to it.
    Environment,
    /// The corpus or the tokenizer.
    Corpus,
    /// The training.
    Training,
    /// A limit or a quality gate is not met, or an export is not what was trained.
    Validation,
    /// No trouble: somebody asked to stop.
    Stopped,
}

impl ErrorKind {
    /// 1 usage, configuration or environment; 3 corpus or tokenizer; 4 training; 5 validation; 143 stopped
    /// (130 by Ctrl-C, which only the process's [`train::StopFlag`] knows).
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Configuration | ErrorKind::Environment => 1,
            ErrorKind::Corpus => 3,
            ErrorKind::Training => 4,
            ErrorKind::Validation => 5,
            ErrorKind::Stopped => train::EXIT_AFTER_SIGTERM,
        }
    }

    /// The kind of whatever goes wrong in a phase for want of a better one.
    pub(crate) fn of_phase(phase: Phase) -> ErrorKind {
        match phase {
            Phase::Prerequisites => ErrorKind::Environment,
            Phase::Corpus | Phase::Tokenizer => ErrorKind::Corpus,
            Phase::Model | Phase::Training => ErrorKind::Training,
            Phase::Validation | Phase::Export => ErrorKind::Validation,
        }
    }
}

/// A figure beyond its limit.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Unmet {
    /// The recipe's key.
    pub key: &'static str,
    /// What was measured.
    pub value: f64,
    /// What is allowed.
    pub limit: f64,
    /// The unit of both.
    pub unit: &'static str,
}

/// Any error of the pipeline; says what happened, where, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Mistakes in the recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeErrors),
    /// An argument that cannot be.
    #[error("{message}")]
    Argument {
        /// What and what would be right.
        message: String,
    },
    /// The machine is not up to it.
    #[error("{message}")]
    Environment {
        /// What is missing and the remedy.
        message: String,
    },
    /// From the corpus.
    #[error("{}", told(.0))]
    Corpus(#[from] corpus::Error),
    /// From token shards.
    #[error("{}", told(.0))]
    Tokens(#[from] tokens::Error),
    /// From a server of other people.
    #[error("{}", told(.0))]
    Cloud(#[from] cloud::Error),
    /// From the tokenizer.
    #[error("{}", told(.0))]
    Tokenizer(#[from] tokenizer::Error),
    /// The data does not go with the recipe.
    #[error("{message}")]
    Data {
        /// What and the remedy.
        message: String,
    },
    /// A device that cannot be used.
    #[error("{}", told(.0))]
    Device(#[from] compute::Error),
    /// A shape that cannot be built, or a model file that cannot be used.
    #[error("{}", told(.0))]
    Model(#[from] model::Error),
    /// From the training loop.
    #[error("{}", told(.0))]
    Training(#[from] train::Error),
    /// Somebody asked to stop, and nothing is wrong.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Limits of `[validate]`.
    #[error("{}", unmet_text(unmet, report))]
    Gates {
        /// Each with its limit.
        unmet: Vec<Unmet>,
        /// Where the whole report is.
        report: PathBuf,
    },
    /// A promise of training that was tried and does not hold on this machine.
    #[error("{message}")]
    Promise {
        /// Which, and where to look.
        message: String,
    },
    /// An export that is not what was trained.
    #[error("the export is not the model that was trained: {message}. `{}` was not touched", folder.display())]
    Export {
        /// The folder that would have been written.
        folder: PathBuf,
        /// What differs.
        message: String,
    },
    /// The disk, in some phase.
    #[error("{}", told(source))]
    Disk {
        /// Where in the job.
        phase: Phase,
        /// What.
        source: store::Error,
    },
    /// A run's records.
    #[error("{}", told(.0))]
    Store(#[from] store::Error),
    /// A run that is not to be had by its name.
    #[error("{}", told(.0))]
    Runs(#[from] runs::Error),
    /// A file in another program's format.
    #[error("{}", told(.0))]
    Formats(#[from] formats::Error),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What kind of trouble it is.
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

    /// For `map_err` of what the disk says within a phase.
    pub(crate) fn disk(phase: Phase) -> impl Fn(store::Error) -> Error {
        move |source| Error::Disk { phase, source }
    }
}

/// That the system gives no thread.
pub(crate) fn no_thread(error: &std::io::Error) -> Error {
    Error::Environment { message: format!("cannot start a thread: {error}: {}", crate::remedy::NO_THREAD) }
}

fn unmet_text(unmet: &[Unmet], report: &std::path::Path) -> String {
    let mut text = String::from("the model does not meet its limits:");
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
        "\nThe trained weights are kept in the run and model/ is as it was; see {}. Change the recipe or the limit, then run \
         `text2llm run` again: finished work is reused",
        store::plain::line(&report.display().to_string())
    ));
    text
}

fn figure(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
