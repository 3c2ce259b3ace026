//! Stop requests: an empty file in a folder that its worker polls.
//!
//! Signals are not used: a process id read from a file may be of another container, another machine, or
//! reused. The file reaches the worker wherever it runs, like its lock.

use std::path::{Path, PathBuf};

use store::fs::regular;
use store::{Error, Result};

/// File name.
pub const FILE_NAME: &str = "stop.request";

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

/// Requests a stop. Repeating a request has no effect.
///
/// # Errors
/// I/O errors.
pub fn request(folder: &Path) -> Result<()> {
    let path = path(folder);
    regular::create(&path).map(drop).map_err(Error::io("request the stop with the file", &path))
}

/// Whether there is a request that has not been handled.
pub fn is_requested(folder: &Path) -> bool {
    std::fs::symlink_metadata(path(folder)).is_ok_and(|there| there.is_file())
}

/// Clears a request that was handled, or is left over from an earlier worker. The caller holds the folder's
/// lock.
pub fn clear(folder: &Path) {
    // On a read-only disk there can be no request.
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
