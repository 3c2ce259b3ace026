//! Records of runs: what was asked, where a run stands, its metrics, and what long work tells its caller.
//!
//! A run is a folder `runs/<run_id>/`; everything here reads or writes its files, or those of a folder that a
//! worker holds. Reading order: `report` (events), `run`, `metrics`, `watch`, then `pause`, `stop` and
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
