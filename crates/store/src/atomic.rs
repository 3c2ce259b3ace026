//! Atomic writes of whole files: a crash leaves the old or the new file.
//!
//! Temporary name → fsync → rename → fsync of the folder. After `Ok`, the bytes survive a power failure;
//! after `Err` or a crash, readers see the complete old file.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::fs::{Fs, FsFile};
use crate::{Error, Result};

/// Writes `bytes` to `path`, creating folders as needed.
pub fn write(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(fs, path, |file| std::io::Write::write_all(file, bytes))
}

/// Writes the output of `fill` to `path`, for content too large for memory.
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
        let mut file = fs.replace(&temporary)?;
        fill(&mut *file)?;
        file.flush()?;
        file.sync()
    })();
    if let Err(error) = written {
        // Frees the space on a full disk; the first error is reported.
        let _ = fs.remove_file(&temporary);
        return Err(Error::io("write", path)(error));
    }
    if let Err(error) = fs.rename(&temporary, path) {
        let _ = fs.remove_file(&temporary);
        return Err(Error::io("put in place", path)(error));
    }
    fs.sync_dir(folder).map_err(Error::io("flush the folder", folder))
}

/// Writes `value` to `path` as indented JSON with a final newline.
pub fn write_json<T: Serialize + ?Sized>(fs: &dyn Fs, path: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| Error::Unwritable {
        path: path.to_owned(),
        form: "JSON",
        message: error.to_string(),
    })?;
    bytes.push(b'\n');
    write(fs, path, &bytes)
}

/// Reads JSON; a parse error names the file, line and column.
pub fn read_json<T: serde::de::DeserializeOwned>(fs: &dyn Fs, path: &Path) -> Result<T> {
    let bytes = fs.read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::unreadable(path, &error))
}

fn temporary_name(path: &Path) -> Result<PathBuf> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::Path { path: path.to_owned(), wanted: "does not name a file" })?;
    // The process id separates two processes that write the same file at once.
    Ok(path.with_file_name(format!(".{name}.{}.tmp", std::process::id())))
}

/// Whether a name is that of an unfinished file of [`write`].
pub(crate) fn is_temporary(name: &str) -> bool {
    let process = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")?.rsplit_once('.'));
    process.is_some_and(|(name, process)| {
        !name.is_empty() && !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The folder of `path`; "." for a bare name.
pub(crate) fn parent(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(folder) => Ok(folder),
        None => Err(Error::Path { path: path.to_owned(), wanted: "has no parent folder" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::faulty::{Fault, MemoryFs};

    fn old_disk() -> MemoryFs {
        let disk = MemoryFs::new();
        write(&disk, Path::new("/d/f"), b"old").unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk
    }

    #[test]
    fn a_crash_at_any_call_leaves_old_or_new() {
        let path = Path::new("/d/f");
        let whole = old_disk();
        let before = whole.calls();
        write(&whole, path, b"new and longer").unwrap();
        assert!(whole.calls() > before + 3);
        for call in before..whole.calls() {
            for seed in 0..12 {
                let disk = old_disk();
                disk.fail_at(call, Fault::Crash);
                assert!(write(&disk, path, b"new and longer").is_err());
                let left = disk.after_crash(seed).read(path).unwrap();
                assert!(left == b"old" || left == b"new and longer", "call {call}, seed {seed}: {left:?}");
            }
        }
        for seed in 0..12 {
            assert_eq!(whole.after_crash(seed).read(path).unwrap(), b"new and longer", "Ok means durable");
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_no_rubbish() {
        let disk = old_disk();
        disk.set_capacity(Some(8));
        let error = write(&disk, Path::new("/d/f"), b"much too long").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::StorageFull);
        assert_eq!(disk.used_bytes(), 3);
        assert_eq!(disk.read(Path::new("/d/f")).unwrap(), b"old");
    }

    #[test]
    fn json_errors_name_the_place() {
        let disk = MemoryFs::new();
        let path = Path::new("/x.json");
        write_json(&disk, path, &vec![1, 2]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&disk, path).unwrap(), [1, 2]);
        write(&disk, path, b"[1,\n oops").unwrap();
        let message = read_json::<Vec<u8>>(&disk, path).unwrap_err().to_string();
        assert!(message.contains("x.json") && message.contains("line 2"), "{message}");
    }
}
