//! What a dashboard shows.

use std::path::PathBuf;

use runs::run::RunDir;
use serde_json::Value;

/// Returns the state of a run.
pub type Standing = dyn Fn(&RunDir) -> Option<Value> + Send + Sync;

/// The subject of a dashboard.
pub struct Shown {
    /// Display name of the project.
    pub project: String,
    /// Its `runs/`.
    pub runs: PathBuf,
    /// The state of a run, as in `status --json`; `None` if it cannot be read.
    pub standing: Box<Standing>,
}
