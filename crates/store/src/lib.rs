//! Files on disk (atomic writes, manifests, staged folders, locks), and properties of this process and its
//! machine.
//!
//! This crate knows nothing of tokenizers, models or runs. Every important write goes through [`fs::Fs`],
//! where tests inject crashes and full disks. Reading order: `fs`, `atomic`, `hash`, `manifest`, `stage`.

pub mod atomic;
pub mod ending;
mod error;
pub mod fs;
pub mod hash;
pub mod hashing;
pub mod limit;
pub mod lock;
pub mod manifest;
pub mod ownership;
pub mod panics;
pub mod plain;
pub mod process;
pub mod sealed;
pub mod secret;
pub mod stage;
pub mod sweep;
pub mod system;
pub mod tail;
pub mod time;
mod verified;
pub mod walk;

pub use error::{Damage, Error, ErrorKind, Foreign, Result};
