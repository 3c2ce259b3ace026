//! The files below a corpus's folders: in the order of their names, each real folder once.
//!
//! Links to files and folders are followed, wherever they lead: a corpus often lies on another disk. A link
//! that leads back to a folder above it, one that leads nowhere, and a folder nested too deep are passed over
//! and told by name; what lies beside them is read. Time grows with the number of entries alone, and memory
//! with the largest folders on the way down.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use store::walk::{DEEPEST, FolderId};

use crate::Result;
use crate::kind::Kind;
use crate::quarantine::NotFollowed;

/// Longer paths are opened by no system.
const LONGEST_PATH_BYTES: usize = 4095;

/// A file that is to be read.
pub struct FoundFile {
    pub path: PathBuf,
    pub name: String,
    /// Its canonical path.
    pub real: PathBuf,
}

/// State shared by walks: visited folders, and entries that were not followed.
pub struct Walk {
    /// Canonical folders that this program fills.
    outputs: BTreeSet<PathBuf>,
    seen: HashSet<FolderId>,
    pub ignored_files: u64,
    pub not_followed: NotFollowed,
}

/// The type of an entry, following links.
pub enum Entry {
    Folder,
    File,
    /// A link that leads nowhere, or to itself.
    Nowhere,
    /// A pipe, a socket, a device: it would be waited for without end.
    Other,
}

/// The names in a folder, sorted.
pub struct Listing {
    pub names: std::vec::IntoIter<(OsString, Option<std::fs::FileType>)>,
}

impl Listing {
    /// # Errors
    /// System errors.
    pub fn of(folder: &Path) -> Result<Listing> {
        let list = || {
            let mut names = std::fs::read_dir(folder)?
                .map(|entry| entry.map(|entry| (entry.file_name(), entry.file_type().ok())))
                .collect::<std::io::Result<Vec<_>>>()?;
            names.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(names)
        };
        Ok(Listing { names: list().map_err(store::Error::io("read the folder", folder))?.into_iter() })
    }
}

/// The type of `path`, and whether it is a link. Most file systems return it with the name; for others it is
/// requested.
pub fn entry(path: &Path, told: Option<std::fs::FileType>) -> (Entry, bool) {
    let told = told.or_else(|| std::fs::symlink_metadata(path).ok().map(|metadata| metadata.file_type()));
    let is_link = told.is_some_and(|kind| kind.is_symlink());
    let kind = if is_link { std::fs::metadata(path).ok().map(|metadata| metadata.file_type()) } else { told };
    let entry = match kind {
        None => Entry::Nowhere,
        Some(kind) if kind.is_dir() => Entry::Folder,
        Some(kind) if kind.is_file() => Entry::File,
        Some(_) => Entry::Other,
    };
    (entry, is_link)
}

/// The canonical path of an entry in a folder whose own is known.
pub fn real(folder: &Path, path: &Path, name: &OsString, is_link: bool) -> PathBuf {
    let own = if is_link { path.canonicalize().ok() } else { None };
    own.unwrap_or_else(|| folder.join(name))
}

/// A folder on the way down.
struct Level {
    path: PathBuf,
    name: String,
    real: PathBuf,
    id: FolderId,
    listing: Listing,
}

impl Walk {
    pub fn new(outputs: BTreeSet<PathBuf>) -> Walk {
        Walk { outputs, seen: HashSet::new(), ignored_files: 0, not_followed: NotFollowed::default() }
    }

    /// Hands over all readable files below a folder.
    ///
    /// # Errors
    /// A folder that cannot be listed.
    pub fn folder(&mut self, path: &Path, name: &str, take: &mut dyn FnMut(FoundFile)) -> Result<()> {
        let real_path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut levels = Vec::new();
        self.enter(path.to_owned(), name.to_owned(), real_path, &mut levels)?;
        while let Some(level) = levels.last_mut() {
            let Some((file_name, told)) = level.listing.names.next() else {
                levels.pop();
                continue;
            };
            if file_name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = level.path.join(&file_name);
            let own_name = shown(&file_name);
            let name = match level.name.as_str() {
                "" => own_name.clone(),
                above => format!("{above}/{own_name}"),
            };
            let is_read = Kind::of_name_beside_others(&own_name).is_some();
            let (entry, is_link) = entry(&path, told);
            match entry {
                _ if path.as_os_str().len() > LONGEST_PATH_BYTES => self.see_too_deep(&name),
                Entry::Folder => {
                    let real = real(&level.real, &path, &file_name, is_link);
                    self.enter(path, name, real, &mut levels)?;
                }
                Entry::File if is_read => {
                    let real = real(&level.real, &path, &file_name, is_link);
                    take(FoundFile { path, name, real });
                }
                Entry::Nowhere if is_read => self.see_nowhere(&name),
                Entry::File | Entry::Nowhere | Entry::Other => self.ignored_files += 1,
            }
        }
        Ok(())
    }

    /// Enters a folder that was not visited before.
    fn enter(&mut self, path: PathBuf, name: String, real: PathBuf, levels: &mut Vec<Level>) -> Result<()> {
        if self.outputs.contains(&real) {
            return Ok(());
        }
        let Some(id) = self.id_of(&path, || name.clone())? else { return Ok(()) };
        if let Some(above) = levels.iter().find(|level| level.id == id) {
            self.see_loop(&name, &above.name);
            return Ok(());
        }
        if self.seen.contains(&id) {
            return Ok(());
        }
        if levels.len() > DEEPEST {
            self.see_too_deep(&name);
            return Ok(());
        }
        let listing = Listing::of(&path)?;
        self.seen.insert(id.clone());
        levels.push(Level { path, name, real, id, listing });
        Ok(())
    }

    /// Whether a canonical path is in a folder that the program writes.
    pub fn is_output(&self, real: &Path) -> bool {
        self.outputs.iter().any(|output| real.starts_with(output))
    }

    /// Records an entry that is neither a file nor a folder.
    pub fn see_other(&mut self, path: &Path, name: &str) {
        match entry(path, None).0 {
            Entry::Nowhere => self.see_nowhere(name),
            _ => self.ignored_files += 1,
        }
    }

    /// Notes a link that leads nowhere.
    pub fn see_nowhere(&mut self, name: &str) {
        self.not_followed.add(name, "is a link to a missing target or to itself");
    }

    /// Records an entry that is too deep.
    pub fn see_too_deep(&mut self, name: &str) {
        let reason = format!(
            "is more than {DEEPEST} folders deep, or has a path of more than {LONGEST_PATH_BYTES} bytes, and \
             was not read: move it up, or list a folder above it in data.paths"
        );
        self.not_followed.add(name, reason);
    }

    /// Notes a link back to a folder above it.
    pub fn see_loop(&mut self, name: &str, above: &str) {
        self.not_followed
            .add(name, format!("links back to `{above}`, which contains it, and was not followed"));
    }

    /// The identity of a folder; `None` if the path is too long for the system, which is recorded.
    pub fn id_of(&mut self, path: &Path, name: impl Fn() -> String) -> Result<Option<FolderId>> {
        if path.as_os_str().len() > LONGEST_PATH_BYTES {
            self.see_too_deep(&name());
            return Ok(None);
        }
        Ok(Some(FolderId::of(path).map_err(store::Error::io("read the folder", path))?))
    }
}

/// A name for display and hashing: bytes that are not UTF-8 as %FF, so that two such names stay different.
pub(crate) fn shown(name: &OsStr) -> String {
    let mut out = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        out.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
    }
    out
}
