//! From a recipe to a model: the plan and the stages.
//!
//! Reading order: `shape`, `plan`, `stages`, `stop`, `eval`, `executor` (data stages with many processes).
//! Prints nothing; progress goes to a `runs::report::Reporter`.

pub mod average;
pub mod base;
mod base_of_adapter;
mod base_path;
pub mod bench;
pub mod chat_model;
mod error;
pub mod eval;
pub mod executor;
pub mod forecast;
pub mod fork;
pub mod generate;
pub mod gguf;
pub mod hub;
mod measure;
pub mod merge;
mod meta;
mod open_model;
mod ours;
pub mod plan;
pub mod prices;
pub mod project;
pub mod record;
pub mod remedy;
mod remote;
mod run_checkpoint;
pub mod shape;
pub mod share;
pub mod stages;
pub mod stop;
mod stop_texts;
mod stopped;
pub mod supervise;
mod sweep;
mod text;
pub mod trials;

pub use cloud::cache_folder;
pub use error::{Error, ErrorKind, Result, Unmet};
pub use measure::Generation;
pub use meta::{RunInputs, RunMeta};
pub use remote::is_remote;
pub use stopped::Stopped;
