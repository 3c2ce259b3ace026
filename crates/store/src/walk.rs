//! Walks folders that others may have filled: each real folder once, no circles through links, bounded depth.
//!
//! Work and memory grow with the number of entries, whatever links and nesting there are: a path of thousands
//! of folders costs a look-up of each at every step, and a link that leads back doubles the work at every
//! turn.

use std::io;
use std::path::{Path, PathBuf};

/// Folders nested deeper than this are not entered. File systems limit a path to 4,096 bytes.
pub const DEEPEST: usize = 128;

/// Identity of a folder, by whatever path it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FolderId {
    /// Device and inode.
    Inode(u64, u64),
    /// Canonical path, if the file system has no numbers.
    Path(PathBuf),
}

impl FolderId {
    /// The folder at a path, following links.
    ///
    /// # Errors
    /// System errors: missing, no access, a link to itself.
    pub fn of(path: &Path) -> io::Result<FolderId> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let metadata = std::fs::metadata(path)?;
            if metadata.ino() != 0 {
                return Ok(FolderId::Inode(metadata.dev(), metadata.ino()));
            }
        }
        path.canonicalize().map(FolderId::Path)
    }
}

/// Size of a file, or of all files below a folder down to [`DEEPEST`]. `path` may be a link; links below it
/// are not followed. Unreadable files count as 0.
pub fn bytes_below(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut waiting = vec![(path.to_owned(), 0)];
    while let Some((path, depth)) = waiting.pop() {
        let metadata = if depth == 0 { std::fs::metadata(&path) } else { std::fs::symlink_metadata(&path) };
        let Ok(metadata) = metadata else { continue };
        if metadata.is_file() {
            bytes += metadata.len();
        } else if metadata.is_dir() && depth <= DEEPEST {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| (entry.path(), depth + 1)));
        }
    }
    bytes
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed_and_depth_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("a")).unwrap();
        std::fs::write(root.join("a/x"), [0; 10]).unwrap();
        std::fs::write(root.join("y"), [0; 5]).unwrap();
        for (to, link) in [(".", "b"), ("a", "c"), ("..", "a/up"), ("d", "d"), ("y", "e")] {
            std::os::unix::fs::symlink(to, root.join(link)).unwrap();
        }
        assert_eq!(bytes_below(root), 15);
        assert_eq!(bytes_below(&root.join("y")), 5);
        assert_eq!(bytes_below(&root.join("c")), 10, "a stage's folder may lie on another disk");
        assert_eq!(bytes_below(&root.join("nothing")), 0);
        assert_eq!(FolderId::of(&root.join("a/up")).unwrap(), FolderId::of(root).unwrap());
        assert_ne!(FolderId::of(&root.join("c")).unwrap(), FolderId::of(root).unwrap());
        assert!(FolderId::of(&root.join("d")).is_err());
        let deep = (0..200).fold(root.to_owned(), |path, _| path.join("n"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("z"), [0; 100]).unwrap();
        assert_eq!(bytes_below(root), 15);
    }
}
