//! Hashes files while they are written, so that a staged folder need not be read again to be committed.
//!
//! [`HashingFs`] forwards everything to another [`Fs`] and records the hash of every file that is created
//! through it below one folder, once its writer is dropped. Whatever else is done to the file (appending,
//! truncating, removing) discards the record, and a rename takes it along, as atomic writes need. Where the
//! disk tells identities, a file that was changed in another way is noticed too. Without a record, the file
//! is hashed by reading.
//!
//! The writer hashes: handing the bytes to a thread costs a copy and measured slower (LOG.md).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake3::Hasher;

use crate::fs::{Entry, FileIdentity, FileKind, Fs, FsFile, FsReader};
use crate::manifest::FileRecord;

/// An [`Fs`] that hashes files below a folder while they are written.
pub struct HashingFs<'a> {
    inner: &'a dyn Fs,
    folder: PathBuf,
    written: Arc<Mutex<Written>>,
}

#[derive(Default)]
struct Written {
    /// Number of writers so far.
    writers: u64,
    files: BTreeMap<PathBuf, File>,
}

struct File {
    /// Number of its writer.
    writer: u64,
    /// `None` until the writer is dropped.
    record: Option<Record>,
}

#[derive(Clone)]
struct Record {
    file: FileRecord,
    /// When its writer was dropped.
    identity: Option<FileIdentity>,
}

impl Written {
    /// Adds a file; returns the number of its writer.
    fn add(&mut self, path: &Path, record: Option<Record>) -> u64 {
        self.writers += 1;
        let file = File { writer: self.writers, record };
        self.files.insert(path.to_owned(), file);
        self.writers
    }

    /// Discards the records of `path` and of everything below it.
    fn forget(&mut self, path: &Path) {
        let below = self.files.range(path.to_owned()..).map(|(file, _)| file);
        let gone: Vec<PathBuf> = below.take_while(|file| file.starts_with(path)).cloned().collect();
        for file in gone {
            self.files.remove(&file);
        }
    }
}

fn lock(written: &Mutex<Written>) -> MutexGuard<'_, Written> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> HashingFs<'a> {
    /// Hashes what is written below `folder` of `inner`.
    pub fn new(inner: &'a dyn Fs, folder: &Path) -> HashingFs<'a> {
        HashingFs { inner, folder: folder.to_owned(), written: Arc::default() }
    }

    /// The disk below, to which hashes do not matter.
    pub fn inner(&self) -> &'a dyn Fs {
        self.inner
    }

    /// Size and hash of a file that was written through this and has not changed since.
    pub fn record(&self, path: &Path) -> Option<FileRecord> {
        self.unchanged(path).map(|record| record.file)
    }

    fn unchanged(&self, path: &Path) -> Option<Record> {
        let record = lock(&self.written).files.get(path)?.record.clone()?;
        let is_same = self.inner.file_bytes(path).is_ok_and(|bytes| bytes == record.file.bytes)
            && self.inner.identity(path) == record.identity;
        is_same.then_some(record)
    }

    fn forget(&self, path: &Path) {
        lock(&self.written).forget(path);
    }

    fn hashed(
        &self,
        path: &Path,
        open: impl FnOnce() -> io::Result<Box<dyn FsFile>>,
    ) -> io::Result<Box<dyn FsFile>> {
        // Also if it fails: the file may be truncated already.
        self.forget(path);
        let file = open()?;
        if !path.starts_with(&self.folder) {
            return Ok(file);
        }
        let writer = lock(&self.written).add(path, None);
        let written = self.written.clone();
        let hasher = Some(Hasher::new());
        Ok(Box::new(HashingFile { file, hasher, path: path.to_owned(), writer, written }))
    }
}

impl Fs for HashingFs<'_> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.hashed(path, || self.inner.create(path))
    }

    fn replace(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.hashed(path, || self.inner.replace(path))
    }

    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.forget(path);
        self.inner.overwrite(path)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.forget(path);
        self.inner.append(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsReader>> {
        self.inner.open(path)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_file(path)
    }

    fn set_len(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.forget(path);
        self.inner.set_len(path, bytes)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let record = self.unchanged(from);
        self.forget(from);
        self.forget(to);
        self.inner.rename(from, to)?;
        if let Some(Record { file, identity: before }) = record
            && to.starts_with(&self.folder)
        {
            let identity = self.inner.identity(to);
            // A rename changes the time of the metadata only.
            let is_same = match (before, identity) {
                (Some(before), Some(now)) => before == FileIdentity { changed: before.changed, ..now },
                (before, now) => before.is_none() && now.is_none(),
            };
            if is_same {
                lock(&self.written).add(to, Some(Record { file, identity }));
            }
        }
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn create_private_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_private_dir_all(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.forget(path);
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.forget(path);
        self.inner.remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(path)
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.file_bytes(path)
    }

    fn identity(&self, path: &Path) -> Option<FileIdentity> {
        self.inner.identity(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        self.inner.kind(path)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        self.inner.names(path)
    }

    fn free_space_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_space_bytes(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.inner.read(path)
    }
}

/// A file that records its hash when it is dropped.
struct HashingFile {
    file: Box<dyn FsFile>,
    /// `None` after an error: how much was written is unknown.
    hasher: Option<Hasher>,
    path: PathBuf,
    writer: u64,
    written: Arc<Mutex<Written>>,
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        match &written {
            Ok(count) => {
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(&bytes[..*count]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.hasher = None,
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FsFile for HashingFile {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn identity(&self) -> Option<FileIdentity> {
        self.file.identity()
    }
}

impl Drop for HashingFile {
    fn drop(&mut self) {
        let Some(hasher) = &self.hasher else { return };
        let file = FileRecord { blake3: hasher.finalize().to_hex().to_string(), bytes: hasher.count() };
        let identity = self.file.identity();
        let mut written = lock(&self.written);
        if let Some(there) = written.files.get_mut(&self.path).filter(|there| there.writer == self.writer) {
            there.record = Some(Record { file, identity });
        }
    }
}
