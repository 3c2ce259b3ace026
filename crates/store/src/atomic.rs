//! Whole-file writes that a crash leaves either undone or done.
//!
//! Temporary name → fsync → rename → fsync of the folder. After `Ok`, the bytes survive a power cut; after `Err` or a
//! crash, a reader sees the old file whole.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::fs::{Fs, FsFile};
use crate::{Error, Result};

/// Puts `bytes` at `path`, making folders as needed.
pub fn write(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(fs, path, |file| std::io::Write::write_all(file, bytes))
}

/// Puts what `fill` writes at `path`, for content too large to hold.
pub fn write_with(
    fs: &dyn Fs,
    path: &Path,
    fill: impl FnOnce(&mut dyn FsFile) -> std::io::Result<()>,
) -> Result<()> {
    let folder = parent(path)?;
    if !fs.exists(folder) {
        fs.create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    }
    let temporary = temporary_name(path)?;
    let written = (|| {
        let mut file = fs.create(&temporary)?;
        fill(&mut *file)?;
        file.flush()?;
        file.sync()
    })();
    if let Err(error) = written {
        // Gives a full disk its space back; the first error is the one to tell.
        let _ = fs.remove_file(&temporary);
        return Err(Error::io("write", path)(error));
    }
    fs.rename(&temporary, path).map_err(Error::io("put in place", path))?;
    fs.sync_dir(folder).map_err(Error::io("flush the folder", folder))
}

/// Puts `value` at `path` as indented JSON with a final newline.
pub fn write_json<T: Serialize + ?Sized>(fs: &dyn Fs, path: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| Error::Invalid {
        message: format!("cannot spell `{}` as JSON: {error}", path.display()),
    })?;
    bytes.push(b'\n');
    write(fs, path, &bytes)
}

/// Reads JSON; a parse error names the file, line and column.
pub fn read_json<T: serde::de::DeserializeOwned>(fs: &dyn Fs, path: &Path) -> Result<T> {
    let bytes = fs.read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::corrupt(path, error.to_string()))
}

fn temporary_name(path: &Path) -> Result<PathBuf> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::Invalid { message: format!("`{}` does not name a file", path.display()) })?;
    // The process id keeps two processes apart that write the same file at once.
    Ok(path.with_file_name(format!(".{name}.{}.tmp", std::process::id())))
}

/// The folder of `path`; "." for a bare name.
pub(crate) fn parent(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(folder) => Ok(folder),
        None => Err(Error::Invalid { message: format!("`{}` has no folder above it", path.display()) }),
    }
}
