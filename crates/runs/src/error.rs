//! What can be wrong with the name of a run.

use std::path::PathBuf;

/// A run that is not to be had by what it was called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is empty.
    #[error("no run is named")]
    NoName,
    /// There is no run at all.
    #[error("no runs in `{}`", folder.display())]
    NoRuns {
        /// Where they would be.
        folder: PathBuf,
    },
    /// No run has that name.
    #[error("no run `{name}` in `{}`", folder.display())]
    NoSuchRun {
        /// As it was given.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Several runs fit.
    #[error("`{name}` fits more than one run (`{first}`, `{second}`)")]
    Ambiguous {
        /// As it was given.
        name: String,
        /// One that fits.
        first: String,
        /// Another one.
        second: String,
    },
    /// There is no such folder.
    #[error("no run folder `{}`", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] store::Error),
}
