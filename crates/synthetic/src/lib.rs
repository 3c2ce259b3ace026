//! Example data sets that are generated, not collected: the same options give the same bytes everywhere.
//!
//! Non-goals: text of a language model, and training. Reading order: [`weather_persona`] and its `rules`,
//! `dialogue`, then `bank` (phrases with choices and slots) and `files` (what is written to disk).

mod bank;
mod error;
pub mod files;
mod random;
pub mod weather_persona;

pub use error::{Error, Result};
