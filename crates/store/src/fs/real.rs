//! The disk of this machine.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::{Entry, FileIdentity, FileKind, Fs, FsFile, FsReader, regular};

/// `std::fs`, with folder syncs if the system supports them.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

struct RealFile(File);

impl Write for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl FsFile for RealFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn identity(&self) -> Option<FileIdentity> {
        #[cfg(target_os = "linux")]
        if !is_local(rustix::fs::fstatfs(&self.0).ok()?.f_type) {
            return None;
        }
        identity_of(&self.0.metadata().ok()?)
    }
}

/// Whether a file system (its magic number, as in Linux's `statfs(2)`) sets the times of its files itself, by
/// this machine's clock, and answers from the disk. Network and FUSE file systems answer from caches, with
/// the times of another machine or of a program.
#[cfg(target_os = "linux")]
fn is_local(kind: rustix::fs::FsWord) -> bool {
    const EXT: u32 = 0xef53;
    const XFS: u32 = 0x5846_5342;
    const BTRFS: u32 = 0x9123_683e;
    const F2FS: u32 = 0xf2f5_2010;
    const ZFS: u32 = 0x2fc1_2fc1;
    const BCACHEFS: u32 = 0xca45_1a4e;
    const OVERLAY: u32 = 0x794c_7630;
    const TMPFS: u32 = 0x0102_1994;
    // The number is signed on some architectures.
    [EXT, XFS, BTRFS, F2FS, ZFS, BCACHEFS, OVERLAY, TMPFS].contains(&(kind as u32))
}

#[cfg(unix)]
fn identity_of(metadata: &fs::Metadata) -> Option<FileIdentity> {
    use super::FileTime;
    use std::os::unix::fs::MetadataExt;
    let time =
        |seconds, nanoseconds: i64| Some(FileTime { seconds, nanoseconds: u32::try_from(nanoseconds).ok()? });
    Some(FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.is_file().then_some(metadata.len())?,
        modified: time(metadata.mtime(), metadata.mtime_nsec())?,
        changed: time(metadata.ctime(), metadata.ctime_nsec())?,
    })
}

/// `std` tells neither the number of a file nor the time of its last change where programs can set the other
/// times.
#[cfg(not(unix))]
fn identity_of(_: &fs::Metadata) -> Option<FileIdentity> {
    None
}

fn kind_of(file_type: fs::FileType) -> FileKind {
    match file_type {
        kind if kind.is_file() => FileKind::File,
        kind if kind.is_dir() => FileKind::Folder,
        _ => FileKind::Other,
    }
}

impl Fs for RealFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(RealFile(regular::create(path)?)))
    }

    fn replace(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(RealFile(regular::replace(path)?)))
    }

    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        Ok(Box::new(RealFile(regular::open(&mut options, path)?)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(RealFile(regular::append(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsReader>> {
        Ok(Box::new(regular::read(path)?))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        // Windows needs write access to flush.
        regular::open(OpenOptions::new().read(true).write(cfg!(windows)), path)?.sync_all()
    }

    fn set_len(&self, path: &Path, bytes: u64) -> io::Result<()> {
        regular::open(OpenOptions::new().write(true), path)?.set_len(bytes)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // Windows can neither open nor flush a folder; NTFS journals names by itself.
        if cfg!(windows) { Ok(()) } else { File::open(path)?.sync_all() }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create_private_dir_all(&self, path: &Path) -> io::Result<()> {
        regular::create_private_folder(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_dir = entry.file_type()?.is_dir();
            let bytes = if is_dir { 0 } else { entry.metadata()?.len() };
            entries.push(Entry { name, is_dir, bytes });
        }
        entries.sort();
        Ok(entries)
    }

    fn file_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn identity(&self, path: &Path) -> Option<FileIdentity> {
        #[cfg(target_os = "linux")]
        if !is_local(rustix::fs::statfs(path).ok()?.f_type) {
            return None;
        }
        identity_of(&fs::metadata(path).ok()?)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        fs::symlink_metadata(path).ok().map(|metadata| kind_of(metadata.file_type()))
    }

    fn names(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        let named = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name(), kind_of(entry.file_type()?)))
        };
        let mut names = fs::read_dir(path)?.map(named).collect::<io::Result<Vec<_>>>()?;
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    #[cfg(unix)]
    fn free_space_bytes(&self, path: &Path) -> io::Result<u64> {
        let stats = rustix::fs::statvfs(path)?;
        Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
    }

    #[cfg(not(unix))]
    fn free_space_bytes(&self, path: &Path) -> io::Result<u64> {
        let path = fs::canonicalize(path)?;
        // On Windows a canonical path is `\\?\C:\…`, and the mount point of a disk `C:\`.
        let spelled = path.to_string_lossy().replace(r"\\?\", "");
        let disks = sysinfo::Disks::new_with_refreshed_list().map_err(io::Error::other)?;
        disks
            .iter()
            .filter(|disk| Path::new(&spelled).starts_with(disk.mount_point()))
            .max_by_key(|disk| disk.mount_point().as_os_str().len())
            .map(sysinfo::Disk::available_space)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no disk holds this path"))
    }
}
