//! A file of a dataset, as a hub announces it.

use serde::{Deserialize, Serialize};

/// A file of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Its path in the dataset.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The expected hash.
    pub hash: Hash,
}

/// The hash that a hub announces for a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hash {
    /// SHA-256 of a large file, hex.
    Sha256(String),
    /// Git's hash of a small one: SHA-1 over its length and bytes, hex.
    GitBlob(String),
    /// Why the file cannot be used: nothing to check it by, or a name that no folder takes. It is listed all
    /// the same, so that a dataset with it is not taken for a smaller one.
    Unusable(String),
}
