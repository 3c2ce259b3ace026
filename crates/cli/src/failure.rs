//! Errors as a person reads them, and the exit codes: 0 done; 1 usage, configuration or environment; 2 crash loop;
//! 3 corpus or tokenizer; 4 training; 5 validation.

use std::fmt;
use std::io;

/// Usage, configuration or environment.
pub const USAGE: u8 = 1;

/// Why a command stops.
#[derive(Debug)]
pub enum Failure {
    /// From the pipeline, which knows the phase.
    Pipeline(pipeline::Error),
    /// A job in the background: its exit code and why. Its own words are on the console already.
    Child(u8, String),
    /// Anything else.
    Other(anyhow::Error),
}

/// What a command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A plain message: what, where, and the next command.
    pub fn message(text: impl fmt::Display) -> Failure {
        Failure::Other(anyhow::anyhow!("{text}"))
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Pipeline(error) => error.kind().exit_code(),
            Failure::Child(code, _) => *code,
            Failure::Other(_) => USAGE,
        }
    }

    /// Whether its own form has several lines, each of whose parts is plain already. Line ends in any other message come from what it
    /// tells of.
    pub fn has_lines(&self) -> bool {
        matches!(self, Failure::Pipeline(pipeline::Error::Recipe(_) | pipeline::Error::Gates { .. }))
    }

    /// Whether the reader of our output has gone away.
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Failure::Pipeline(_) | Failure::Child(..) => false,
            Failure::Other(error) => error.chain().any(|cause| {
                cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
            }),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Pipeline(error) => write!(f, "{error}"),
            Failure::Child(_, why) => write!(f, "{why}"),
            // Our errors say in their own words what they came from.
            Failure::Other(error) => write!(f, "{error}"),
        }
    }
}

impl From<pipeline::Error> for Failure {
    fn from(error: pipeline::Error) -> Failure {
        Failure::Pipeline(error)
    }
}

impl From<corpus::Error> for Failure {
    fn from(error: corpus::Error) -> Failure {
        Failure::Pipeline(error.into())
    }
}

impl From<pipeline::recipe::RecipeErrors> for Failure {
    fn from(errors: pipeline::recipe::RecipeErrors) -> Failure {
        Failure::Pipeline(errors.into())
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Failure {
        Failure::Other(error.into())
    }
}

impl From<serve::Error> for Failure {
    fn from(error: serve::Error) -> Failure {
        Failure::Other(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Other(error.into())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::Other(error.into())
    }
}
