//! What lies on disk: atomic writes, manifests, staged folders, run records, locks, and what long work tells
//! its caller.
//!
//! Nothing here knows what a tokenizer or a model is. Every write that matters goes through [`fs::Fs`], the
//! seam at which tests inject crashes and full disks. Reading order: `fs`, `atomic`, `manifest`, `stage`,
//! then `run`.

pub mod atomic;
mod error;
pub mod fs;
pub mod limit;
pub mod lock;
pub mod manifest;
pub mod metrics;
pub mod ownership;
pub mod panics;
pub mod pause;
pub mod plain;
pub mod process;
pub mod report;
pub mod run;
pub mod sealed;
pub mod secret;
pub mod stage;
pub mod stop;
pub mod sweep;
pub mod system;
pub mod tail;
pub mod time;
pub mod walk;
pub mod watch;

pub use error::{Error, ErrorKind, Result};
