//! The seam between this program and the disk.
//!
//! Whatever must survive a crash is written through [`Fs`], so that a test can put a failing or crashing disk
//! under it (`faulty`, behind the feature `fault-injection`). Bulk reads of verified data (memory maps) do
//! not pass here. Non-goal: a general virtual file system.

#[cfg(any(test, feature = "fault-injection"))]
pub mod faulty;
mod real;
pub mod regular;

use std::ffi::OsString;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

pub use real::RealFs;

/// A file being written.
pub trait FsFile: Write + Send {
    /// Forces what was written down to the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file being read.
pub trait FsReader: Read + Seek + Send {}

impl<T: Read + Seek + Send> FsReader for T {}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name alone. Names that are not UTF-8 are not listed: this program writes none.
    pub name: String,
    /// A folder (links are not followed).
    pub is_dir: bool,
    /// Size of a file; 0 for a folder.
    pub bytes: u64,
}

/// What a name stands for, without following links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, a device, a pipe: nothing that this program makes.
    Other,
}

/// What the program asks of a disk. Paths are whole; nothing is relative to a hidden state. What is written
/// is a regular file: the real disk follows no link that lies under a file's name (see [`regular`]).
pub trait Fs: Send + Sync {
    /// A new empty file, or an existing one cut to nothing.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// A new empty file in place of whatever has its name: for temporary names, which others can predict.
    fn replace(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.create(path)
    }
    /// A file opened for writing from its start, made when missing. What it held is not cut: a full disk
    /// might not give the space again.
    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.create(path)
    }
    /// A file opened for appending, made when missing.
    fn append(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// A file opened for reading from its start.
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsReader>>;
    /// Forces a file's bytes to the disk.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Cuts or extends a file.
    fn set_len(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Forces a folder's names to the disk: without it, a rename may be undone by a crash.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file (over an existing one) or a folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a folder and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The same, open to this user alone where they are new.
    fn create_private_dir_all(&self, path: &Path) -> io::Result<()> {
        self.create_dir_all(path)
    }
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all it holds. Links within it are removed, never followed.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// What a folder holds, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Size of a file; an error of kind `NotFound` where there is none.
    fn file_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Whether a file or folder is there.
    fn exists(&self, path: &Path) -> bool;
    /// What `path` itself is, links not followed; `None` where there is nothing.
    fn kind(&self, path: &Path) -> Option<FileKind>;
    /// Every name in a folder, those that are no UTF-8 included, sorted.
    fn names(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>>;
    /// Space left for this user on the disk that holds `path`.
    fn free_space_bytes(&self, path: &Path) -> io::Result<u64>;

    /// A whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.file_bytes(path)?).unwrap_or(0));
        self.open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
