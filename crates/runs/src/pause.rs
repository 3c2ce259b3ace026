//! What a run waits for, told where a full disk still takes a word: a small file of a run that has its space
//! from the start.
//!
//! A whole-file write needs space for the new file beside the old one, which is what is missing. Rewriting a
//! file of a few hundred bytes needs none but its own. It is told, not relied on: nothing is synced, and what
//! does not parse is nothing.

use std::io::Write;
use std::path::Path;

use store::fs::Fs;
use store::{Error, Result};

/// The file's name in a run's folder.
pub const FILE_NAME: &str = "pause.notice";
/// What it takes, whatever it says: less than a block of any disk.
const BYTES: usize = 512;

/// Takes the space, and says that the run waits for nothing.
///
/// # Errors
/// What the disk says; the run is then without the notice, and no worse.
pub fn reserve(fs: &dyn Fs, run: &Path) -> Result<()> {
    write(fs, run, "")
}

/// Says what the run waits for; `None`: for nothing any more.
///
/// # Errors
/// What the disk says.
pub fn tell(fs: &dyn Fs, run: &Path, why: Option<&str>) -> Result<()> {
    write(fs, run, why.unwrap_or(""))
}

/// What the run waits for.
pub fn read(fs: &dyn Fs, run: &Path) -> Option<String> {
    let path = run.join(FILE_NAME);
    // A file that came with somebody else's run may be of any size, or be no file.
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
    // In place, and never cut: the space is this file's from the start, and a full disk would not give it
    // back.
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
