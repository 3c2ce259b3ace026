//! Locks: one writer per run, with a lock of the operating system.
//!
//! The system releases the lock when its process ends, however it ends, so a stale lock file means nothing,
//! and the file is never removed (removing it would let two processes lock two files of the same name).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::fs::regular;
use crate::{Error, Result};

/// File name of the lock in a run's folder.
pub const FILE_NAME: &str = "run.lock";

/// [`RunLock::is_held`] holds the lock for an instant; a writer that meets it retries.
const LOOKER_TRIES: usize = 3;
const LOOKER_PAUSE: Duration = Duration::from_millis(5);
const WAITER_PAUSE: Duration = Duration::from_millis(200);
/// A process id has fewer bytes.
const LONGEST_NUMBER: u64 = 32;

/// The lock, held while this value lives.
#[derive(Debug)]
pub struct RunLock {
    // Closing the file unlocks it.
    _file: File,
    path: PathBuf,
}

impl RunLock {
    /// Locks the run in `folder`, or returns its holder. Waits only as long as an `is_held` check takes.
    pub fn acquire(folder: &Path) -> Result<RunLock> {
        let path = folder.join(FILE_NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = regular::open(&mut options, &path).map_err(Error::io("open the lock file", &path))?;
        let mut locked = file.try_lock();
        for _ in 0..LOOKER_TRIES {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(LOOKER_PAUSE);
            locked = file.try_lock();
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // On Windows the locked bytes cannot be read; the holder is then unknown.
                let _ = (&mut file).take(LONGEST_NUMBER).read_to_string(&mut text);
                return Err(Error::Locked { path: folder.to_owned(), pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        let written = (|| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        })();
        // Only affects the message for others, so a full disk must not prevent a run from being read or
        // resumed.
        let _ = written;
        Ok(RunLock { _file: file, path })
    }

    /// Locks `folder`, creating it if missing; waits for the current holder, at most `patience` if given.
    pub fn wait(folder: &Path, patience: Option<Duration>) -> Result<RunLock> {
        std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        let start = Instant::now();
        loop {
            match RunLock::acquire(folder) {
                Err(Error::Locked { .. }) if patience.is_none_or(|patience| start.elapsed() < patience) => {
                    std::thread::sleep(WAITER_PAUSE);
                }
                locked => return locked,
            }
        }
    }

    /// Whether the run in `folder` is locked now. Creates nothing.
    pub fn is_held(folder: &Path) -> bool {
        match existing(folder) {
            // A shared lock, so that two checks do not see each other as the holder.
            Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        }
    }

    /// The process that holds the lock of the run in `folder`, if known.
    pub fn holder(folder: &Path) -> Option<u32> {
        if !RunLock::is_held(folder) {
            return None;
        }
        let mut text = String::new();
        existing(folder).ok()?.take(LONGEST_NUMBER).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The lock file of `folder`, if it exists.
fn existing(folder: &Path) -> std::io::Result<File> {
    regular::open(OpenOptions::new().read(true), &folder.join(FILE_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_second_writer_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!RunLock::is_held(folder.path()));
        let lock = RunLock::acquire(folder.path()).unwrap();
        assert!(RunLock::is_held(folder.path()));
        assert_eq!(RunLock::holder(folder.path()), Some(std::process::id()));
        let error = RunLock::acquire(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        assert!(!RunLock::is_held(folder.path()));
        assert_eq!(RunLock::holder(folder.path()), None);
        RunLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn lookers_do_not_keep_a_writer_out() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunLock::acquire(folder.path()).unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    RunLock::is_held(folder.path());
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let failed = (0..200).filter(|_| RunLock::acquire(folder.path()).is_err()).count();
            done.store(true, Ordering::SeqCst);
            assert_eq!(failed, 0);
        });
    }

    /// Row 12 of the reliability matrix: 10,000 starts, 40 at a time, over a stale lock file.
    #[test]
    fn racing_starts_have_one_winner() {
        const RACERS: usize = 40;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "999999\n").unwrap();
        let rounds = 250;
        let wins: Vec<AtomicUsize> = (0..rounds).map(|_| AtomicUsize::new(0)).collect();
        let barrier = Barrier::new(RACERS);
        std::thread::scope(|scope| {
            for _ in 0..RACERS {
                scope.spawn(|| {
                    for round in &wins {
                        barrier.wait();
                        let lock = RunLock::acquire(folder.path());
                        round.fetch_add(usize::from(lock.is_ok()), Ordering::SeqCst);
                        barrier.wait();
                        drop(lock);
                    }
                });
            }
        });
        for round in &wins {
            assert_eq!(round.load(Ordering::SeqCst), 1);
        }
    }
}
