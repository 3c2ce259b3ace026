//! Asking whoever works in a folder to stop: an empty file that the worker looks for.
//!
//! No signal: a process number that was read from a file may be of another container, another machine, or of
//! another process by now. The file reaches the worker wherever it runs, as its lock does.

use std::path::{Path, PathBuf};

use store::fs::regular;
use store::{Error, Result};

/// The file's name.
pub const FILE_NAME: &str = "stop.request";

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

/// Asks. Asking twice is asking once.
///
/// # Errors
/// What the disk says.
pub fn request(folder: &Path) -> Result<()> {
    let path = path(folder);
    regular::create(&path).map(drop).map_err(Error::io("ask by the file", &path))
}

/// Whether somebody has asked and nobody has heard yet.
pub fn is_requested(folder: &Path) -> bool {
    std::fs::symlink_metadata(path(folder)).is_ok_and(|there| there.is_file())
}

/// Heard, or left over from a worker that was gone before it heard. Called by whoever holds the folder's
/// lock.
pub fn clear(folder: &Path) {
    // On a disk that takes no changes there can be no request either.
    let _ = std::fs::remove_file(path(folder));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_heard_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_requested(folder.path()));
        request(folder.path()).unwrap();
        request(folder.path()).unwrap();
        assert!(is_requested(folder.path()));
        clear(folder.path());
        clear(folder.path());
        assert!(!is_requested(folder.path()));
        assert!(request(&folder.path().join("not there")).is_err());
    }
}
