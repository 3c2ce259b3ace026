//! What could not be used, told with its reason.

use serde::{Deserialize, Serialize};

/// How many entries of a list are kept; the counts are of all.
pub const LISTED: usize = 100;

/// A file or line that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The file, or the file and line.
    pub source: String,
    /// The reason.
    pub reason: String,
}

/// Links and folders that were not walked into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotFollowed {
    /// Total number.
    pub count: u64,
    /// The first hundred of them, with the reason.
    pub first: Vec<Quarantined>,
}

impl NotFollowed {
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn add(&mut self, name: &str, reason: impl Into<String>) {
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push(Quarantined { source: name.to_owned(), reason: reason.into() });
        }
    }
}
