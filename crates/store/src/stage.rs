//! Staged folders: made completely or not at all.
//! Work writes to `.{name}.partial` next to the target, through [`StagedFolder::fs`] if possible; `commit`
//! hashes every file that was not hashed while it was written, writes the manifest last, and swaps the folder
//! in. A folder cannot be renamed over a non-empty one, so the old one is first renamed to `.{name}.old`; a
//! crash in between leaves the target missing, and [`repair`] moves the finished new folder in (or else the
//! old one back). Every reader of a staged folder calls [`repair`] or [`Stage::current`] once at start. Only
//! a folder made by the same stage is ever replaced, and files that were added or changed in it are kept
//! ([`ownership`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fs::{FileKind, Fs};
use crate::hashing::HashingFs;
use crate::manifest::{self, FileRecord, Manifest};
use crate::{Error, ErrorKind, Result, atomic, hash, ownership};

/// A stage as its folder's manifest records it. Skipping, remaking and finding a stage's folder elsewhere all
/// use this value; the code that makes the folder belongs to the owner of the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Its name in manifests.
    pub name: &'static str,
    /// The options, with all defaults.
    pub options: Value,
    /// BLAKE3 hashes of the inputs, by name.
    pub inputs: BTreeMap<String, String>,
}

impl Stage {
    /// Whether a manifest is of this stage, with these options from these inputs.
    pub fn is_of(&self, manifest: &Manifest) -> bool {
        manifest.stage == self.name && manifest.matches(&self.options, &self.inputs)
    }

    /// Whether a manifest is of this stage with these options, from whatever inputs.
    pub fn has_options_of(&self, manifest: &Manifest) -> bool {
        manifest.stage == self.name && manifest.matches(&self.options, &manifest.inputs)
    }

    /// The manifest of `target` if it was made by this stage and every byte verifies; `None` means the stage
    /// has to run. Repairs first.
    ///
    /// # Errors
    /// I/O errors.
    pub fn current(&self, fs: &dyn Fs, target: &Path) -> Result<Option<Manifest>> {
        if repair(fs, target)? { self.found(fs, target) } else { Ok(None) }
    }

    /// Like [`Stage::current`] for a folder that another process may be making: nothing is repaired.
    ///
    /// # Errors
    /// I/O errors.
    pub fn found(&self, fs: &dyn Fs, target: &Path) -> Result<Option<Manifest>> {
        let manifest = match Manifest::read(fs, target) {
            Ok(manifest) => manifest,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if !self.is_of(&manifest) {
            return Ok(None);
        }
        match manifest.verify(fs, target) {
            Ok(()) => Ok(Some(manifest)),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an empty folder next to `target`; see [`StagedFolder::begin`].
    ///
    /// # Errors
    /// [`ErrorKind::NotOurs`] if `target` was not made by this stage; I/O errors.
    pub fn begin<'a>(&self, fs: &'a dyn Fs, target: &Path) -> Result<StagedFolder<'a>> {
        StagedFolder::begin(fs, target, self.name)
    }

    /// Its manifest, without outputs yet.
    pub fn manifest(self) -> Manifest {
        Manifest::new(self.name, self.options, self.inputs)
    }
}

/// A folder being made. Dropped without [`StagedFolder::commit`], it stays as `.{name}.partial` until the
/// next `begin`.
pub struct StagedFolder<'a> {
    fs: HashingFs<'a>,
    target: PathBuf,
    partial: PathBuf,
    stage: String,
}

/// A folder that was put in place.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Its manifest.
    pub manifest: Manifest,
    /// Folder with files that were added or changed in the replaced folder; `None` if there were none.
    pub kept: Option<PathBuf>,
}

impl<'a> StagedFolder<'a> {
    /// Creates an empty folder next to `target`, after repairing leftovers of a crash.
    ///
    /// # Errors
    /// [`ErrorKind::NotOurs`] if `target` was not made by `stage`; I/O errors.
    pub fn begin(fs: &'a dyn Fs, target: &Path, stage: &str) -> Result<StagedFolder<'a>> {
        repair(fs, target)?;
        ownership::check(fs, target, stage)?;
        let partial = sibling(target, "partial")?;
        fs.create_dir_all(&partial).map_err(Error::io("create the folder", &partial))?;
        let fs = HashingFs::new(fs, &partial);
        Ok(StagedFolder { fs, target: target.to_owned(), partial, stage: stage.to_owned() })
    }

    /// The disk, to write to the folder through: files are hashed while they are written, and
    /// [`StagedFolder::commit`] need not read them again.
    pub fn fs(&self) -> &dyn Fs {
        &self.fs
    }

    /// The folder to write to.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// The final path.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Syncs all files, hashing those that were not written through [`StagedFolder::fs`], writes the manifest
    /// with them as outputs, and swaps the folder in. After `Ok` it survives a power failure; after `Err` the
    /// old folder is unchanged, or [`repair`] restores it.
    pub fn commit(self, mut manifest: Manifest) -> Result<Committed> {
        let (fs, partial) = (self.fs.inner(), &self.partial);
        manifest.outputs = BTreeMap::new();
        for name in manifest::list_files(fs, partial)? {
            let path = partial.join(&name);
            let record = match self.fs.record(&path) {
                Some(record) => record,
                None => {
                    let bytes = fs.file_bytes(&path).map_err(Error::io("read", &path))?;
                    FileRecord { blake3: hash::hash_file(fs, &path)?, bytes }
                }
            };
            manifest.outputs.insert(name, record);
        }
        self.place(manifest)
    }

    /// Swaps in a folder that was made elsewhere, after verifying it against its manifest.
    pub fn adopt(self, manifest: Manifest) -> Result<Committed> {
        manifest.verify(self.fs.inner(), &self.partial)?;
        self.place(manifest)
    }

    fn place(self, manifest: Manifest) -> Result<Committed> {
        let (fs, partial, target) = (self.fs.inner(), &self.partial, &self.target);
        if manifest.stage != self.stage {
            return Err(Error::WrongStage { begun: self.stage, made: manifest.stage });
        }
        for name in manifest.outputs.keys() {
            let path = partial.join(name);
            fs.sync_file(&path).map_err(Error::io("flush", &path))?;
        }
        sync_folders(fs, partial)?;
        manifest.write(fs, partial)?;

        let above = atomic::parent(target)?;
        let old = sibling(target, "old")?;
        // A link created in the meantime is not renamed away.
        if fs.kind(target).is_some_and(|kind| kind != FileKind::Folder) {
            ownership::check(fs, target, &self.stage)?;
        }
        if fs.exists(target) {
            fs.rename(target, &old).map_err(Error::io("move aside", target))?;
            // Synced before the next rename: the two must not reach the disk in the other order.
            fs.sync_dir(above).map_err(Error::io("flush the folder", above))?;
        }
        fs.rename(partial, target).map_err(Error::io("put in place", target))?;
        fs.sync_dir(above).map_err(Error::io("flush the folder", above))?;
        let kept = ownership::discard(fs, &old, target)?;
        Ok(Committed { manifest, kept })
    }
}

/// Restores `target` to a complete state after a crash and removes leftovers. Returns whether the folder
/// exists.
pub fn repair(fs: &dyn Fs, target: &Path) -> Result<bool> {
    let partial = sibling(target, "partial")?;
    let old = sibling(target, "old")?;
    let above = atomic::parent(target)?;
    if fs.kind(target).is_none() {
        let finished = fs.exists(&partial)
            && Manifest::read(fs, &partial).and_then(|manifest| manifest.verify(fs, &partial)).is_ok();
        let source = if finished { &partial } else { &old };
        if fs.exists(source) {
            fs.rename(source, target).map_err(Error::io("put in place", target))?;
            fs.sync_dir(above).map_err(Error::io("flush the folder", above))?;
        }
    }
    if fs.kind(&partial).is_some() {
        fs.remove_dir_all(&partial).map_err(Error::io("remove", &partial))?;
    }
    ownership::discard(fs, &old, target)?;
    Ok(fs.exists(target))
}

/// Deletes a folder of `stage`, if it exists, by the rules of [`ownership`].
///
/// # Errors
/// [`ErrorKind::NotOurs`] if `target` was not made by `stage`; I/O errors.
pub fn remove(fs: &dyn Fs, target: &Path, stage: &str) -> Result<()> {
    repair(fs, target)?;
    ownership::check(fs, target, stage)?;
    if fs.exists(target) {
        let old = sibling(target, "old")?;
        fs.rename(target, &old).map_err(Error::io("move aside", target))?;
        ownership::discard(fs, &old, target)?;
    }
    Ok(())
}

/// The path of a hidden folder next to `target`, for unfinished content.
///
/// # Errors
/// A path without a folder name.
pub fn sibling(target: &Path, suffix: &str) -> Result<PathBuf> {
    let name = target
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::Path { path: target.to_owned(), wanted: "does not name a folder" })?;
    Ok(target.with_file_name(format!(".{name}.{suffix}")))
}

fn sync_folders(fs: &dyn Fs, folder: &Path) -> Result<()> {
    for entry in fs.list(folder).map_err(Error::io("list", folder))? {
        if entry.is_dir {
            sync_folders(fs, &folder.join(&entry.name))?;
        }
    }
    fs.sync_dir(folder).map_err(Error::io("flush the folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::faulty::{Fault, MemoryFs};
    use serde_json::json;

    const TARGET: &str = "/p/data";

    fn make(fs: &dyn Fs, version: u64, text: &str) -> Result<Committed> {
        let staged = StagedFolder::begin(fs, Path::new(TARGET), "test")?;
        let inner = staged.path().join("inner");
        fs.create_dir_all(&inner).map_err(Error::io("create the folder", &inner))?;
        for name in ["a.txt", "inner/b.txt"] {
            let path = staged.path().join(name);
            let mut file = fs.create(&path).map_err(Error::io("write", &path))?;
            file.write_all(format!("{text} {name}").as_bytes()).map_err(Error::io("write", &path))?;
        }
        staged.commit(Manifest::new("test", json!({ "version": version }), BTreeMap::new()))
    }

    fn holds(fs: &dyn Fs, version: u64) -> bool {
        let options = json!({ "version": version });
        let stage = Stage { name: "test", options, inputs: BTreeMap::new() };
        stage.current(fs, Path::new(TARGET)).unwrap().is_some()
    }

    fn old_disk() -> MemoryFs {
        let disk = MemoryFs::new();
        disk.create_dir_all(Path::new("/p")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        make(&disk, 1, "first").unwrap();
        disk
    }

    #[test]
    fn a_commit_is_durable_and_a_changed_byte_makes_it_stale() {
        let disk = old_disk();
        for seed in 0..10 {
            assert!(holds(&disk.after_crash(seed), 1));
        }
        assert!(!holds(&disk, 2));
        disk.mutate(Path::new("/p/data/inner/b.txt"), |bytes| bytes[0] ^= 1);
        assert!(!holds(&disk, 1));
    }

    #[test]
    fn a_crash_at_any_call_leaves_one_whole_version() {
        let whole = old_disk();
        let before = whole.calls();
        make(&whole, 2, "second").unwrap();
        assert!(holds(&whole, 2));
        let (mut olds, mut news) = (0, 0);
        for call in before..whole.calls() {
            for seed in 0..12 {
                let disk = old_disk();
                disk.fail_at(call, Fault::Crash);
                assert!(make(&disk, 2, "second").is_err());
                let left = disk.after_crash(seed);
                let (old, new) = (holds(&left, 1), holds(&left, 2));
                assert!(old ^ new, "call {call}, seed {seed}: old {old}, new {new}");
                olds += usize::from(old);
                news += usize::from(new);
                make(&left, 3, "third").unwrap();
                assert!(holds(&left, 3));
                let names: Vec<String> =
                    left.list(Path::new("/p")).unwrap().into_iter().map(|entry| entry.name).collect();
                assert_eq!(names, ["data"], "call {call}, seed {seed}");
            }
        }
        assert!(olds > 0 && news > 0);
    }

    #[test]
    fn a_folder_from_elsewhere_is_taken_as_it_was_or_not_at_all() {
        let elsewhere = old_disk();
        let manifest = Manifest::read(&elsewhere, Path::new(TARGET)).unwrap();
        let disk = old_disk();
        make(&disk, 2, "second").unwrap();
        let adopt = |last: &[u8]| {
            let staged = StagedFolder::begin(&disk, Path::new(TARGET), "test")?;
            let inner = staged.path().join("inner");
            disk.create_dir_all(&inner).map_err(Error::io("create the folder", &inner))?;
            for (name, bytes) in [("a.txt", &b"first a.txt"[..]), ("inner/b.txt", last)] {
                let path = staged.path().join(name);
                let mut file = disk.create(&path).map_err(Error::io("write", &path))?;
                file.write_all(bytes).map_err(Error::io("write", &path))?;
            }
            staged.adopt(manifest.clone())
        };
        adopt(b"first inner/b.txt").unwrap();
        assert!(holds(&disk, 1));
        make(&disk, 2, "second").unwrap();
        let error = adopt(b"first inner/b.txT").unwrap_err();
        assert!(error.to_string().contains("b.txt") && holds(&disk, 2), "{error}");
    }

    #[test]
    fn an_error_at_any_call_loses_nothing() {
        let whole = old_disk();
        let before = whole.calls();
        make(&whole, 2, "second").unwrap();
        for call in before..whole.calls() {
            for fault in [Fault::Error(std::io::ErrorKind::Other), Fault::ShortWrite] {
                let disk = old_disk();
                disk.fail_at(call, fault);
                assert!(make(&disk, 2, "second").is_err(), "call {call}");
                assert!(holds(&disk, 1) ^ holds(&disk, 2), "call {call}, {fault:?}");
                make(&disk, 2, "second").unwrap();
                assert!(holds(&disk, 2));
            }
        }
    }
}
