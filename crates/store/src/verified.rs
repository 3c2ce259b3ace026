//! Hashes of files that this process has read, so that no large file is hashed twice: a checkpoint is
//! verified when it is saved, when older ones are removed, and when it is loaded.
//!
//! A file counts as unchanged while its [`FileIdentity`] is the same: device, inode, size, and the times of
//! the last change of its content and of its metadata. The latter (ctime) cannot be set by programs, so that
//! a file whose old modification time was restored is hashed again. Two changes within one tick of the file
//! system's clock have the same time; therefore, as in git's index ("racily clean"), a hash is kept only if
//! the last change was longer ago than a tick when hashing began, and if the identity was the same
//! afterwards.
//!
//! Only bytes that were read count: hashes taken while writing ([`crate::hashing`]) are of memory, not of the
//! disk. Hashes are kept for ten minutes and on local file systems alone. Not noticed in that time: a disk
//! that decays after the file was hashed, and a program that keeps changing a file through a memory map,
//! which sets no time at each store.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use blake3::Hash;

use crate::fs::{FileIdentity, FileTime};

/// Smaller files are hashed again: that takes microseconds, and there may be millions of them.
const SMALLEST_BYTES: u64 = 1 << 16;

/// Hashes kept; all are dropped when there would be more.
const MOST: usize = 1 << 16;

/// Hashing a file of this size again takes longer than waiting for [`FINE`].
const WORTH_WAITING_BYTES: u64 = 1 << 29;

/// Longer than a tick of a clock with nanoseconds: the kernel's, at most 10 ms.
const FINE: Duration = Duration::from_millis(100);

/// Longer than a tick of a clock with milliseconds or less: FAT's, 2 s.
const COARSE: Duration = Duration::from_secs(3);

/// A hash that is older counts no more: a disk may have decayed meanwhile.
const MOST_AGE: Duration = Duration::from_secs(600);

/// By device and inode: a file has one hash.
type Known = HashMap<(u64, u64), (FileIdentity, Hash, Instant)>;

fn lock() -> MutexGuard<'static, Known> {
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hash of the file with this identity, if this process has read it.
pub(crate) fn known(identity: &FileIdentity) -> Option<Hash> {
    let known = lock();
    let (of, hash, at) = known.get(&(identity.device, identity.inode))?;
    (of == identity && at.elapsed() < MOST_AGE).then_some(*hash)
}

/// Called before hashing begins. A large file that was just written (a checkpoint that is read back) gets the
/// time that it takes for its hash to be kept.
pub(crate) fn settle(identity: &FileIdentity) {
    let now = SystemTime::now();
    if identity.bytes >= WORTH_WAITING_BYTES && !is_settled(identity, now) && is_settled(identity, now + FINE)
    {
        std::thread::sleep(FINE);
    }
}

/// Keeps the hash of a file that had this identity before hashing `began` and has it still.
pub(crate) fn remember(identity: FileIdentity, began: SystemTime, hash: Hash) {
    if identity.bytes < SMALLEST_BYTES || !is_settled(&identity, began) {
        return;
    }
    let mut known = lock();
    if known.len() >= MOST {
        known.clear();
    }
    known.insert((identity.device, identity.inode), (identity, hash, Instant::now()));
}

/// Whether any later change of the file will have a later time.
fn is_settled(identity: &FileIdentity, began: SystemTime) -> bool {
    let is_fine = |time: FileTime| !time.nanoseconds.is_multiple_of(1_000_000);
    let margin = if is_fine(identity.changed) { FINE } else { COARSE };
    let is_older = |time: FileTime| {
        let age = time.to_system().and_then(|time| began.duration_since(time).ok());
        age.is_some_and(|age| age > margin)
    };
    is_older(identity.changed) && is_older(identity.modified)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{FileTimes, OpenOptions};
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::fs::counting::CountingFs;
    use crate::fs::{Fs, RealFs};
    use crate::hash::hash_file;

    fn write(path: &Path, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        file.expect("writable").write_all(bytes).expect("written");
    }

    /// Longer than [`FINE`], or than [`COARSE`] on a disk with such times.
    fn settle(path: &Path) {
        let changed = RealFs.identity(path).expect("a file").changed;
        let is_coarse = changed.nanoseconds.is_multiple_of(1_000_000);
        std::thread::sleep(if is_coarse { COARSE } else { FINE } + FINE / 2);
    }

    #[test]
    fn a_file_is_read_once_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (fs, path) = (CountingFs::default(), folder.path().join("file"));
        let reads = |wanted: &[u8]| {
            assert_eq!(hash_file(&fs, &path).unwrap(), crate::hash::hash_bytes(wanted));
            fs.take_opened().values().sum::<usize>()
        };
        let (old, new) = (vec![1; 100_000], vec![2; 100_000]);
        write(&path, &old);
        assert_eq!(reads(&old), 1);
        settle(&path);
        reads(&old);
        assert_eq!(reads(&old), 0);

        // The same size, and the old time put back.
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        write(&path, &new);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_times(FileTimes::new().set_modified(modified)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), modified);
        assert_eq!(reads(&new), 1);
        settle(&path);
        reads(&new);
        assert_eq!(reads(&new), 0);

        // Another file in its place, with the size and the times of the first.
        let other = folder.path().join("other");
        write(&other, &old);
        OpenOptions::new().write(true).open(&other).unwrap().set_modified(modified).unwrap();
        settle(&other);
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(reads(&old), 1);
    }

    #[test]
    fn small_files_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (fs, path) = (CountingFs::default(), folder.path().join("file"));
        write(&path, b"small");
        settle(&path);
        for _ in 0..2 {
            hash_file(&fs, &path).unwrap();
        }
        assert_eq!(fs.take_opened()[&path], 2);
    }

    #[test]
    fn a_time_within_a_tick_of_the_clock_is_not_settled() {
        let at = |milliseconds: u64, nanoseconds: u32| {
            let time = FileTime { seconds: milliseconds as i64 / 1000, nanoseconds };
            FileIdentity { device: 1, inode: 1, bytes: 1 << 20, modified: time, changed: time }
        };
        let second = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        assert!(is_settled(&at(1000, 1), second(1101)) && !is_settled(&at(1000, 1), second(1099)));
        assert!(is_settled(&at(1000, 0), second(4001)) && !is_settled(&at(1000, 0), second(3999)));
        assert!(!is_settled(&at(5000, 1), second(1000)), "a clock that was set back");
    }
}
