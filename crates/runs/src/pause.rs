//! Reports what a run waits for, even on a full disk: a small file whose space is reserved from the start.
//!
//! Writing a whole file needs space next to the old one, which a full disk does not have; rewriting a file of
//! a few hundred bytes needs only its own. It is for display only: nothing is synced, and content that does
//! not parse is ignored.

use std::io::Write;
use std::path::Path;

use store::fs::Fs;
use store::{Error, Result};

/// File name in a run's folder.
pub const FILE_NAME: &str = "pause.notice";
/// Fixed size: less than a disk block.
const BYTES: usize = 512;

/// Reserves the space, with the message that the run waits for nothing.
///
/// # Errors
/// I/O errors; the run then works without this file.
pub fn reserve(fs: &dyn Fs, run: &Path) -> Result<()> {
    write(fs, run, "")
}

/// Sets what the run waits for; `None`: nothing.
///
/// # Errors
/// What the disk says.
pub fn tell(fs: &dyn Fs, run: &Path, why: Option<&str>) -> Result<()> {
    write(fs, run, why.unwrap_or(""))
}

/// Reads what the run waits for.
pub fn read(fs: &dyn Fs, run: &Path) -> Option<String> {
    let path = run.join(FILE_NAME);
    // In a run from someone else the file may have any size or type.
    if fs.file_bytes(&path).ok()? != BYTES as u64 {
        return None;
    }
    let text = String::from_utf8(fs.read(&path).ok()?).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn write(fs: &dyn Fs, run: &Path, text: &str) -> Result<()> {
    let path = run.join(FILE_NAME);
    let mut line = String::with_capacity(BYTES);
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + character.len_utf8() >= BYTES {
            break;
        }
        line.push(character);
    }
    line.extend(std::iter::repeat_n(' ', BYTES - 1 - line.len()));
    line.push('\n');
    // Written in place and never truncated: a full disk would not give the space back.
    let is_ours = fs.file_bytes(&path).is_ok_and(|bytes| bytes == BYTES as u64);
    let opened = if is_ours { fs.overwrite(&path) } else { fs.create(&path) };
    let mut file = opened.map_err(Error::io("write", &path))?;
    file.write_all(line.as_bytes()).map_err(Error::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{RunDir, RunState};
    use store::fs::RealFs;
    use store::fs::faulty::MemoryFs;

    #[test]
    fn a_full_disk_takes_the_notice_where_it_takes_no_state() {
        let disk = MemoryFs::new();
        let run = RunDir::create(&disk, Path::new("/runs"), "x").unwrap();
        reserve(&disk, run.path()).unwrap();
        assert_eq!(read(&disk, run.path()), None);
        disk.set_capacity(Some(disk.used_bytes()));
        assert!(
            run.write_state(&disk, RunState { message: "x".repeat(600), ..RunState::default() }).is_err()
        );
        tell(&disk, run.path(), Some("disk full,\nneeds 12 MB on `/runs`")).unwrap();
        assert_eq!(read(&disk, run.path()).as_deref(), Some("disk full, needs 12 MB on `/runs`"));
        tell(&disk, run.path(), Some(&"é".repeat(10_000))).unwrap();
        assert!(read(&disk, run.path()).is_some_and(|text| text.starts_with('é') && text.len() < BYTES));
        tell(&disk, run.path(), None).unwrap();
        assert_eq!(read(&disk, run.path()), None);
    }

    #[test]
    fn the_notice_never_gives_its_space_away() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&RealFs, folder.path(), "x").unwrap();
        reserve(&RealFs, run.path()).unwrap();
        let (path, done) = (run.path().join(FILE_NAME), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let looker = scope.spawn(|| {
                let mut least = BYTES as u64;
                while !done.load(Ordering::SeqCst) {
                    least = least.min(std::fs::metadata(&path).unwrap().len());
                }
                least
            });
            for count in 0..5000 {
                tell(&RealFs, run.path(), (count % 2 == 0).then_some("disk full")).unwrap();
            }
            done.store(true, Ordering::SeqCst);
            assert_eq!(looker.join().unwrap(), BYTES as u64);
        });
        // Another file of that name is made one of ours, or read as none.
        std::fs::write(&path, "x".repeat(2000)).unwrap();
        tell(&RealFs, run.path(), Some("disk full")).unwrap();
        assert_eq!(read(&RealFs, run.path()).as_deref(), Some("disk full"));
    }
}
