//! What a reader says of a file.

use std::io::{self, Read};
use std::sync::Arc;

use super::sink::Sink;
use super::unpack::Budget;
use crate::Error;
use crate::kind::Kind;

/// Why a file gave nothing, or no more; the caller decides what that means.
pub struct Unusable(pub String);

/// Whether a file could be read whole.
pub type Readable = std::result::Result<(), Unusable>;

/// A file that gives nothing, for this reason.
pub fn unusable(reason: impl Into<String>) -> Outcome<Readable> {
    Ok(Err(Unusable(reason.into())))
}

/// An error of reading or of the consumer.
pub enum Failure {
    Io(io::Error),
    Ours(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Ours(error)
    }
}

/// What a reader returns.
pub type Outcome<T> = std::result::Result<T, Failure>;

/// Position of a stream: its nesting in archives, and how much its file may still decompress to.
#[derive(Clone)]
pub struct Level {
    pub depth: u32,
    pub budget: Arc<Budget>,
    /// Reads a member of an archive, of whatever kind.
    pub read_member: ReadMember,
}

/// Reads a stream of a kind, of a name, at a level.
pub type ReadMember = fn(Kind, &mut dyn Read, &str, &Level, &mut Sink<'_>) -> Outcome<Readable>;
