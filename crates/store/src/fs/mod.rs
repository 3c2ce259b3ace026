//! The interface between this program and the disk.
//!
//! Everything that must survive a crash is written through [`Fs`], so that tests can use a failing or
//! crashing disk (`faulty`, behind the feature `fault-injection`). Bulk reads of verified data do not pass
//! here. Non-goal: a general virtual file system.

#[cfg(any(test, feature = "fault-injection"))]
pub mod counting;
#[cfg(any(test, feature = "fault-injection"))]
pub mod faulty;
mod real;
pub mod regular;

use std::ffi::OsString;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

pub use real::RealFs;

/// A file being written.
pub trait FsFile: Write + Send {
    /// Syncs written data to disk.
    fn sync(&mut self) -> io::Result<()>;
    /// As [`Fs::identity`], of the open file.
    fn identity(&self) -> Option<FileIdentity> {
        None
    }
}

/// A file being read.
pub trait FsReader: Read + Seek + Send {}

impl<T: Read + Seek + Send> FsReader for T {}

/// Reads until `buffer` is full or the file ends; returns the number of bytes.
///
/// # Errors
/// I/O errors.
pub fn fill(reader: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What tells a file from all others, and from itself before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// Number of its disk.
    pub device: u64,
    /// Its number on that disk.
    pub inode: u64,
    /// Its size.
    pub bytes: u64,
    /// Last change of its content. Programs can set it.
    pub modified: FileTime,
    /// Last change of its content or metadata (Unix's ctime). Programs cannot set it.
    pub changed: FileTime,
}

/// A time of a file, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTime {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after them.
    pub nanoseconds: u32,
}

impl FileTime {
    /// As a time of the system's clock; `None` if that cannot represent it.
    pub fn to_system(self) -> Option<SystemTime> {
        let seconds = Duration::from_secs(self.seconds.unsigned_abs());
        let whole = match self.seconds {
            0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
            _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        };
        whole?.checked_add(Duration::from_nanos(self.nanoseconds.into()))
    }
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The file name. Names that are not UTF-8 are not listed: this program writes none.
    pub name: String,
    /// A folder (links are not followed).
    pub is_dir: bool,
    /// Size of a file; 0 for a folder.
    pub bytes: u64,
}

/// The type of an entry; links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, a device, a pipe: types that this program does not create.
    Other,
}

/// File-system operations. Paths are absolute or relative to the current folder. Written files are regular
/// files: the real disk follows no link with a file's name (see [`regular`]).
pub trait Fs: Send + Sync {
    /// Creates a file, or truncates an existing one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Creates a file, replacing whatever has its name: for temporary names, which others can predict.
    fn replace(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.create(path)
    }
    /// Opens a file for writing from its start, creating it if missing, without truncating: a full disk might
    /// not give the space again.
    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.create(path)
    }
    /// Opens a file for appending, creating it if missing.
    fn append(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Opens a file for reading from its start.
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsReader>>;
    /// Syncs a file's bytes to disk.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Truncates or extends a file.
    fn set_len(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Syncs a folder's names to disk: without it, a crash may undo a rename.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames a file (over an existing one) or a folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Creates a folder and its parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Like `create_dir_all`; new folders are accessible to this user only.
    fn create_private_dir_all(&self, path: &Path) -> io::Result<()> {
        self.create_dir_all(path)
    }
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with its content. Links within it are removed, never followed.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Lists a folder, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Size of a file; an error of kind `NotFound` if it does not exist.
    fn file_bytes(&self, path: &Path) -> io::Result<u64>;
    /// The identity of a regular file, or of the one that a link leads to. `None` if it does not exist, or if
    /// the disk does not tell whether a file has changed: then nothing is remembered about its files.
    fn identity(&self, _path: &Path) -> Option<FileIdentity> {
        None
    }
    /// Whether a file or folder exists.
    fn exists(&self, path: &Path) -> bool;
    /// The type of `path`, without following links; `None` if it does not exist.
    fn kind(&self, path: &Path) -> Option<FileKind>;
    /// All names in a folder, including those that are not UTF-8, sorted.
    fn names(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>>;
    /// Free space for this user on the disk of `path`, in bytes.
    fn free_space_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.file_bytes(path)?).unwrap_or(0));
        self.open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
