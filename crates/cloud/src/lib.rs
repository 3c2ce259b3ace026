//! What talks to other people's servers: data sets from a hub that speaks Hugging Face's routes, and object
//! storage that speaks S3's.
//!
//! Reading order: `hub/reference` (what is asked for), `hub/mod` (lists and files); `storage/address`,
//! `storage/mod` (what can be asked), `storage/request` and `storage/signature` (how); `curl` and `receive`
//! (how bytes come).

mod curl;
mod digest;
mod error;
pub mod hub;
mod receive;
pub mod storage;

use std::path::PathBuf;
use std::time::Duration;

pub use error::{Error, Result};

/// A part of a file that nobody has gone on with for so long is left over: of another version of the file, or
/// given up.
const STALE_PART: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where fetched files are kept: below `TEXT2LLM_CACHE`, else in the system's folder for caches.
pub fn cache_folder() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("TEXT2LLM_CACHE")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("text2llm")))
        .or_else(|| Some(folder("HOME")?.join(".cache/text2llm")))
        .or_else(|| Some(folder("LOCALAPPDATA")?.join("text2llm")))
        .unwrap_or_else(|| PathBuf::from(".text2llm-cache"))
}
