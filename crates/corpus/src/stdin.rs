//! Standard input as a source: stored in a file on first use, since a job reads its text more than once (its
//! hash, then the text), and continues after a stop without it.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use store::fs::regular;
use store::sweep;

use crate::kind::{Kind, Packing};
use crate::read::unpack::unpacked_start;
use crate::{Error, Result};

/// The entry of `data.paths` that means it.
pub const STDIN: &str = "-";
/// Its path within the project folder.
pub const KEPT_FILE: &str = "data/stdin";

/// Whether this process has read its standard input.
static WAS_READ: Mutex<bool> = Mutex::new(false);

/// The file with the content of standard input.
pub fn keep(project: &Path) -> Result<PathBuf> {
    let mut was_read = WAS_READ.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = project.join(KEPT_FILE);
    if !*was_read && !io::stdin().is_terminal() {
        keep_bytes(&mut io::stdin().lock(), &path)?;
        *was_read = true;
    }
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::NoInput)
}

/// Keeps all bytes; none leave what an earlier start kept.
fn keep_bytes(bytes: &mut dyn Read, path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // As whole-file writes name theirs, so that what a kill leaves is known as such.
    let unfinished = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        let mut first = [0; 1];
        if bytes.read(&mut first)? == 0 {
            return Ok(());
        }
        std::fs::create_dir_all(folder)?;
        sweep::writes(folder, &[&name]);
        // Nothing of it is redacted yet, so it is for its owner alone.
        let mut file = regular::create_private(&unfinished)?;
        let copied = io::copy(&mut first.chain(bytes), &mut file).and_then(|_| file.sync_all());
        copied.and_then(|()| std::fs::rename(&unfinished, path)).inspect_err(|_| {
            // Frees the space on a full disk; the first error is reported.
            let _ = std::fs::remove_file(&unfinished);
        })
    };
    Ok(write().map_err(store::Error::io("write", path))?)
}

/// Format of the stored bytes.
pub fn kind(path: &Path) -> Result<Kind> {
    let start = |packing| regular::read(path).and_then(|mut file| unpacked_start(packing, &mut file));
    let packed = start(Packing::None).map_err(store::Error::io("read", path))?;
    let packing = Kind::packing_of_start(&packed);
    let unpacked = match start(packing) {
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
            return Err(store::Error::io("unpack", path)(error).into());
        }
        // What cannot be unpacked is told when it is read.
        unpacked => unpacked.unwrap_or_default(),
    };
    Ok(Kind { format: Kind::format_of_start(&unpacked), packing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Format;

    #[test]
    fn input_is_kept_and_known_by_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEPT_FILE);
        keep_bytes(&mut b"".as_slice(), &path).unwrap();
        assert!(!path.exists());
        let zst = zstd::encode_all(&b"{\"text\": \"a\"}\n"[..], 1).unwrap();
        keep_bytes(&mut zst.as_slice(), &path).unwrap();
        assert_eq!(kind(&path).unwrap(), Kind { format: Format::JsonLines, packing: Packing::Zstd });
        keep_bytes(&mut b"".as_slice(), &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), zst, "a later start without input goes on with it");
    }

    #[cfg(unix)]
    #[test]
    fn files_beside_it_are_left_alone_and_what_a_kill_left_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEPT_FILE);
        let beside = |name: &str| path.with_file_name(name);
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(beside("stdin.tmp"), "mine").unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        std::fs::write(beside(&format!(".stdin.{}.tmp", gone.id())), "half of it").unwrap();
        keep_bytes(&mut b"a text".as_slice(), &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"a text");
        assert_eq!(std::fs::read(beside("stdin.tmp")).unwrap(), b"mine");
        // An error leaves nothing behind.
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        assert!(keep_bytes(&mut b"more".as_slice().chain(Broken), &path).is_err());
        let left = std::fs::read_dir(folder.path().join("data")).unwrap().count();
        assert_eq!((left, std::fs::read(&path).unwrap()), (2, b"a text".to_vec()));
    }
}
