//! The real disk, with counts of how often each file was opened for reading, for tests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Entry, FileIdentity, FileKind, Fs, FsFile, FsReader, RealFs};

/// [`RealFs`] that counts reads.
#[derive(Debug, Default)]
pub struct CountingFs {
    opened: Mutex<BTreeMap<PathBuf, usize>>,
}

impl CountingFs {
    /// How often each file was opened for reading since the last call, by path.
    pub fn take_opened(&self) -> BTreeMap<PathBuf, usize> {
        std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Fs for CountingFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        RealFs.create(path)
    }

    fn replace(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        RealFs.replace(path)
    }

    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        RealFs.overwrite(path)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        RealFs.append(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsReader>> {
        let file = RealFs.open(path)?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        *opened.entry(path.to_owned()).or_default() += 1;
        Ok(file)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        RealFs.sync_file(path)
    }

    fn set_len(&self, path: &Path, bytes: u64) -> io::Result<()> {
        RealFs.set_len(path, bytes)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir_all(path)
    }

    fn create_private_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.create_private_dir_all(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        RealFs.list(path)
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        RealFs.file_bytes(path)
    }

    fn identity(&self, path: &Path) -> Option<FileIdentity> {
        RealFs.identity(path)
    }

    fn exists(&self, path: &Path) -> bool {
        RealFs.exists(path)
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        RealFs.kind(path)
    }

    fn names(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        RealFs.names(path)
    }

    fn free_space_bytes(&self, path: &Path) -> io::Result<u64> {
        RealFs.free_space_bytes(path)
    }
}
