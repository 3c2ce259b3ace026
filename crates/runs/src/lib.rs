//! Records of runs: recipe, state, metrics, and the events that long work reports.
//!
//! A run is a folder `runs/<run_id>/`; this crate reads and writes its files, and those of a folder that a
//! worker locks. Reading order: `report` (events), `run`, `metrics`, `watch`, then `pause`, `stop` and
//! `sweep`.

mod error;
pub mod id;
pub mod metrics;
pub mod pause;
pub mod report;
pub mod run;
pub mod stop;
pub mod sweep;
pub mod watch;

pub use error::Error;

/// `Result` with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;
