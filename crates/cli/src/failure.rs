//! Errors as they are printed, and the exit codes: 0 success; 1 usage, configuration or environment; 2 crash
//! loop; 3 corpus or tokenizer; 4 training; 5 validation; 130 stopped by Ctrl-C; 143 stopped by SIGTERM or
//! `text2llm stop`.

use std::fmt;
use std::io;

use pipeline::remedy;
use store::limit::Limit;

/// Exit code of errors in usage, configuration or environment.
pub const USAGE: u8 = 1;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// An error of the pipeline, which knows the phase and so the exit code.
    Pipeline(pipeline::Error),
    /// A background job failed: its exit code and the reason. Its own output has been printed already.
    Child(u8, String),
    /// A panic, or a system limit reached in the middle of something: the exit code and the message, which
    /// has been printed already.
    Broken(u8, String),
    /// Anything else.
    Other(anyhow::Error),
}

/// What a command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// An error from a message, which says what failed, where, and what to do next.
    pub fn message(text: impl fmt::Display) -> Failure {
        Failure::Other(anyhow::anyhow!("{text}"))
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Pipeline(pipeline::Error::Stopped(_)) => {
                train::StopFlag::of_process().map_or(train::EXIT_AFTER_SIGTERM, |flag| flag.exit_code())
            }
            Failure::Pipeline(error) => error.kind().exit_code(),
            Failure::Child(code, _) | Failure::Broken(code, _) => *code,
            Failure::Other(_) => USAGE,
        }
    }

    /// Whether this is a requested stop, which is not an error.
    pub fn is_stop(&self) -> bool {
        match self {
            Failure::Pipeline(error) => error.kind() == pipeline::ErrorKind::Stopped,
            Failure::Child(code, _) => matches!(*code, train::EXIT_AFTER_SIGINT | train::EXIT_AFTER_SIGTERM),
            Failure::Broken(..) | Failure::Other(_) => false,
        }
    }

    /// Whether the message is meant to have several lines, whose parts are plain already. Line breaks in any
    /// other message come from outside text and are escaped.
    pub fn has_lines(&self) -> bool {
        matches!(self, Failure::Pipeline(pipeline::Error::Recipe(_) | pipeline::Error::Gates { .. }))
    }

    /// Whether the reader of stdout has closed it.
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Failure::Pipeline(pipeline::Error::Store(store::Error::Io { source, .. })) => {
                source.kind() == io::ErrorKind::BrokenPipe
            }
            Failure::Pipeline(_) | Failure::Child(..) | Failure::Broken(..) => false,
            Failure::Other(error) => error.chain().any(|cause| {
                cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
            }),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Failure::Pipeline(error) => error.to_string(),
            Failure::Child(_, why) | Failure::Broken(_, why) => why.clone(),
            // Messages of this project's errors include their cause.
            Failure::Other(error) => error.to_string(),
        };
        f.write_str(&words)?;
        // A system limit anywhere in the message is named with its remedy, whatever the error came through.
        let Some(limit) = Limit::of_words(&words) else { return Ok(()) };
        let (fact, remedy) = (limit.to_string(), remedy::of_limit(limit));
        if !words.contains(&fact) {
            write!(f, ": {fact}")?;
        }
        if words.contains(remedy) { Ok(()) } else { write!(f, ". {remedy}") }
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

impl From<recipe::RecipeErrors> for Failure {
    fn from(errors: recipe::RecipeErrors) -> Failure {
        Failure::Pipeline(errors.into())
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Failure {
        Failure::Pipeline(error.into())
    }
}

impl From<runs::Error> for Failure {
    fn from(error: runs::Error) -> Failure {
        Failure::Pipeline(error.into())
    }
}

impl From<serve::Error> for Failure {
    fn from(error: serve::Error) -> Failure {
        let remedy = match &error {
            serve::Error::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => ": another program uses this port; choose another --port",
                io::ErrorKind::AddrNotAvailable => ": --host must be an address of this machine",
                io::ErrorKind::PermissionDenied => ": choose a --port above 1023",
                _ => "",
            },
            _ => "",
        };
        Failure::message(format!("{error}{remedy}"))
    }
}

impl From<synthetic::Error> for Failure {
    fn from(error: synthetic::Error) -> Failure {
        match error {
            synthetic::Error::Store(error) => error.into(),
            error => Failure::message(error),
        }
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
