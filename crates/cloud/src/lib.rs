//! Remote servers: datasets from a hub with Hugging Face's API, and object storage with the S3 protocol.
//!
//! Reading order: `hub/reference`, `hub/mod` (lists and files); `storage/address`, `storage/mod`
//! (operations), `storage/request` and `storage/signature`; `curl` and `receive` (transfers).

mod curl;
mod digest;
mod error;
pub mod hub;
mod receive;
pub mod storage;

use std::path::PathBuf;
use std::time::Duration;

pub use error::{Error, Result};

/// A partial download that has not been continued for this long is a leftover: of another version of the
/// file, or abandoned.
const STALE_PART: Duration = Duration::from_secs(7 * 24 * 3600);

/// The download cache: in `TEXT2LLM_CACHE`, or else in the system's cache folder.
pub fn cache_folder() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("TEXT2LLM_CACHE")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("text2llm")))
        .or_else(|| Some(folder("HOME")?.join(".cache/text2llm")))
        .or_else(|| Some(folder("LOCALAPPDATA")?.join("text2llm")))
        .unwrap_or_else(|| PathBuf::from(".text2llm-cache"))
}
