//! Errors as a person reads them, and the exit codes: 0 done; 1 usage, configuration or environment; 2 crash
//! loop; 3 corpus or tokenizer; 4 training; 5 validation; 130 stopped by Ctrl-C; 143 stopped by SIGTERM or
//! `text2llm stop`.

use std::fmt;
use std::io;

use pipeline::remedy;
use store::limit::Limit;

/// Usage, configuration or environment.
pub const USAGE: u8 = 1;

/// Why a command stops.
#[derive(Debug)]
pub enum Failure {
    /// From the pipeline, which knows the phase.
    Pipeline(pipeline::Error),
    /// A job in the background: its exit code and why. Its own words are on the console already.
    Child(u8, String),
    /// The program's own mistake, or a limit of the system's in the middle of something: the exit code and
    /// what was told of it already.
    Broken(u8, String),
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
            Failure::Pipeline(pipeline::Error::Stopped(_)) => {
                train::StopFlag::of_process().map_or(train::EXIT_AFTER_SIGTERM, |flag| flag.exit_code())
            }
            Failure::Pipeline(error) => error.kind().exit_code(),
            Failure::Child(code, _) | Failure::Broken(code, _) => *code,
            Failure::Other(_) => USAGE,
        }
    }

    /// Whether it is none: somebody asked to stop.
    pub fn is_stop(&self) -> bool {
        match self {
            Failure::Pipeline(error) => error.kind() == pipeline::ErrorKind::Stopped,
            Failure::Child(code, _) => matches!(*code, train::EXIT_AFTER_SIGINT | train::EXIT_AFTER_SIGTERM),
            Failure::Broken(..) | Failure::Other(_) => false,
        }
    }

    /// Whether its own form has several lines, each of whose parts is plain already. Line ends in any other
    /// message come from what it tells of.
    pub fn has_lines(&self) -> bool {
        matches!(self, Failure::Pipeline(pipeline::Error::Recipe(_) | pipeline::Error::Gates { .. }))
    }

    /// Whether the reader of our output has gone away.
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
            // Our errors say in their own words what they came from.
            Failure::Other(error) => error.to_string(),
        };
        f.write_str(&words)?;
        // Whatever the error came through: a limit of the process is named, and what lifts it.
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
                io::ErrorKind::AddrInUse => ": another program is there; choose another --port",
                io::ErrorKind::AddrNotAvailable => ": --host wants an address of this machine",
                io::ErrorKind::PermissionDenied => ": choose a --port above 1023",
                _ => "",
            },
            _ => "",
        };
        Failure::message(format!("{error}{remedy}"))
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
