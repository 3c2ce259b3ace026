//! Errors of finding a run by its name.

use std::path::PathBuf;

/// A run cannot be found by the given name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is empty.
    #[error("the name of the run is empty")]
    NoName,
    /// There are no runs.
    #[error("no runs in `{}`", folder.display())]
    NoRuns {
        /// The folder of runs.
        folder: PathBuf,
    },
    /// No run has that name.
    #[error("no run `{name}` in `{}`", folder.display())]
    NoSuchRun {
        /// The given name.
        name: String,
        /// The folder of runs.
        folder: PathBuf,
    },
    /// Several runs match.
    #[error("`{name}` matches more than one run (`{first}`, `{second}`)")]
    Ambiguous {
        /// The given name.
        name: String,
        /// One match.
        first: String,
        /// Another match.
        second: String,
    },
    /// The folder does not exist.
    #[error("no run folder `{}`", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// An I/O error.
    #[error(transparent)]
    Store(#[from] store::Error),
}
