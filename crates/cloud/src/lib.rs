//! What talks to other people's servers. So far: data sets from a hub that speaks Hugging Face's routes.
//!
//! Reading order: `hub/reference` (what is asked for), `hub/mod` (lists and files), `curl` (how bytes come).

mod curl;
mod error;
pub mod hub;

pub use error::{Error, Result};
