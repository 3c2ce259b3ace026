//! What a dashboard shows.

use std::path::PathBuf;

use runs::run::RunDir;
use serde_json::Value;

/// Tells where a run stands.
pub type Standing = dyn Fn(&RunDir) -> Option<Value> + Send + Sync;

/// What the dashboard shows.
pub struct Shown {
    /// What to call the project.
    pub project: String,
    /// Its `runs/`.
    pub runs: PathBuf,
    /// Where a run stands, as `status --json` tells it; `None` where it cannot be read.
    pub standing: Box<Standing>,
}
