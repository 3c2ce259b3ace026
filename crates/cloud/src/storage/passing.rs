//! Files that are there for as long as a request takes.

use std::path::Path;

/// Before a process's number, in the names of files that are on their way to or from a storage.
pub(super) const PASSING: &str = ".text2llm-upload-";

/// A private file in a folder, deleted when dropped; leftovers of kills are removed.
pub(super) fn passing(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    store::sweep::numbered(folder, PASSING);
    let name = format!("{PASSING}{}-", std::process::id());
    tempfile::Builder::new().prefix(&name).tempfile_in(folder)
}
