//! Errors of generating a data set.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option is out of range.
    #[error("--conversations is {given}; it must be between {least} and {most}")]
    Conversations {
        /// The number asked for.
        given: usize,
        /// The least number that can be divided into the personas and kinds.
        least: usize,
        /// The largest number of conversations that differ.
        most: usize,
    },
    /// No conversation that differs from all others was found.
    #[error(
        "no further conversation of persona `{persona}` and kind `{kind}` differs from the others; ask for \
         fewer conversations with --conversations"
    )]
    Exhausted {
        /// The persona's name.
        persona: &'static str,
        /// The kind's name.
        kind: &'static str,
    },
    /// A file is in the way that this generator did not write.
    #[error(
        "`{}` was not written by this command, or was changed since, and is not overwritten; move it away or \
         choose another folder with --out",
        path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be compressed or read back.
    #[error("cannot compress `{}`: {source}", path.display())]
    Compression {
        /// The file.
        path: PathBuf,
        /// What zstd says.
        source: std::io::Error,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
}
