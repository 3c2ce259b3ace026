//! Rules for replacing and deleting: only folders that a stage made, and only files that the stage wrote.
//!
//! [`check`] refuses a folder that contains anything else before work starts. [`discard`] deletes one that
//! has been replaced: files that match their manifest are deleted; files that were added or changed are kept
//! in a separate folder next to it. So no file of the user is lost, even if it appeared while the stage was
//! running.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::fs::{FileKind, Fs};
use crate::manifest::{self, FILE_NAME, FileRecord, Manifest};
use crate::{Error, ErrorKind, Foreign, Result, atomic, hash};

/// Number of files named in an error.
const NAMED: usize = 3;

/// Checks that `target` may be replaced by the output of `stage`: it does not exist, is empty, or was made by
/// that stage with nothing added. Changed files are allowed: [`discard`] keeps them.
///
/// # Errors
/// [`ErrorKind::NotOurs`], which names the files in the way; I/O errors.
pub fn check(fs: &dyn Fs, target: &Path, stage: &str) -> Result<()> {
    let refuse = |found| Err(Error::NotOurs { path: target.to_owned(), found });
    match fs.kind(target) {
        None => return Ok(()),
        Some(FileKind::Folder) => {}
        Some(FileKind::File) => return refuse(Foreign::File),
        Some(FileKind::Other) => return refuse(Foreign::Link),
    }
    let manifest = match Manifest::read(fs, target) {
        Ok(manifest) if manifest.stage != stage => {
            return refuse(Foreign::OtherStage(manifest.stage));
        }
        Ok(manifest) => Some(manifest),
        // Its listing is unknown, so the whole folder will be kept.
        Err(error) if error.kind() == ErrorKind::Corrupt && looks_like_ours(fs, target, stage) => {
            return Ok(());
        }
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => None,
        Err(error) => return Err(error),
    };
    let strays = beside(fs, target, manifest.as_ref())?;
    if strays.is_empty() {
        return Ok(());
    }
    let more = strays.len().saturating_sub(NAMED);
    let first = strays.into_iter().take(NAMED).collect();
    refuse(Foreign::Added { first, more, all: manifest.is_none() })
}

/// Whether a damaged manifest is recognizably one of `stage`.
fn looks_like_ours(fs: &dyn Fs, folder: &Path, stage: &str) -> bool {
    let bytes = fs.read(&folder.join(FILE_NAME)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.contains(&format!("\"stage\": \"{stage}\"")) || text.contains("\"manifest_blake3\"")
}

/// Everything below `folder` that is neither in its manifest nor a leftover of this program or a file
/// manager. If the manifest is damaged or missing, that is everything.
///
/// # Errors
/// What the disk says.
pub fn strays(fs: &dyn Fs, folder: &Path) -> Result<Vec<PathBuf>> {
    let beside = beside(fs, folder, Manifest::read(fs, folder).ok().as_ref())?;
    Ok(beside.into_iter().map(|path| folder.join(path)).collect())
}

/// Like [`strays`], as relative paths. Empty folders do not count.
fn beside(fs: &dyn Fs, folder: &Path, manifest: Option<&Manifest>) -> Result<Vec<PathBuf>> {
    fn walk(
        fs: &dyn Fs,
        folder: &Path,
        below: &Path,
        known: &dyn Fn(&Path) -> bool,
        out: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let here = folder.join(below);
        for (name, kind) in fs.names(&here).map_err(Error::io("list", &here))? {
            let path = below.join(&name);
            match kind {
                FileKind::Folder => walk(fs, folder, &path, known, out)?,
                FileKind::File if is_passing(&name) || known(&path) => {}
                // A listed name that has become a link is changed, not added.
                FileKind::Other if known(&path) => {}
                _ => out.push(path),
            }
        }
        Ok(())
    }
    let known = |path: &Path| {
        let name = path.to_str().map(|name| name.replace(std::path::MAIN_SEPARATOR, "/"));
        name.is_some_and(|name| {
            manifest.is_some_and(|manifest| name == FILE_NAME || manifest.outputs.contains_key(&name))
        })
    };
    let mut out = Vec::new();
    walk(fs, folder, Path::new(""), &known, &mut out)?;
    Ok(out)
}

/// Names of files that can be deleted: temporary files of this program, and those of file managers.
pub fn is_passing(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| manifest::is_litter(name) || atomic::is_temporary(name))
}

/// Deletes `folder`, which was replaced by `target`. Files that do not match its manifest or are not in it
/// are kept in `TARGET.kept` (or `.kept-2`, …), which is returned. Can be called again after a crash.
///
/// # Errors
/// I/O errors; whatever is not deleted yet is where it was.
pub fn discard(fs: &dyn Fs, folder: &Path, target: &Path) -> Result<Option<PathBuf>> {
    discard_if(fs, folder, target, false, |manifest| {
        let outputs = manifest.iter().flat_map(|manifest| &manifest.outputs);
        let made = outputs.map(|(name, record)| {
            let path = folder.join(name);
            Ok(is_as_made(fs, &path, record)?.then_some(path))
        });
        made.filter_map(Result::transpose).collect()
    })
}

/// Like [`discard`], with all files directly in `folder` that have one of `names` counted as the program's,
/// changed or not, and the manifest too.
///
/// # Errors
/// As [`discard`].
pub fn discard_known(fs: &dyn Fs, folder: &Path, target: &Path, names: &[&str]) -> Result<Option<PathBuf>> {
    discard_if(fs, folder, target, true, |_| {
        let paths = names.iter().filter(|&&name| name != FILE_NAME).map(|name| folder.join(name));
        Ok(paths.filter(|path| fs.kind(path) == Some(FileKind::File)).collect())
    })
}

/// `any_listing`: the manifest counts as the program's even if it is damaged.
fn discard_if(
    fs: &dyn Fs,
    folder: &Path,
    target: &Path,
    any_listing: bool,
    ours: impl FnOnce(Option<&Manifest>) -> Result<Vec<PathBuf>>,
) -> Result<Option<PathBuf>> {
    if fs.kind(folder) != Some(FileKind::Folder) {
        return Ok(None);
    }
    let manifest = Manifest::read(fs, folder).ok();
    for path in ours(manifest.as_ref())? {
        fs.remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    let listing = folder.join(FILE_NAME);
    let is_ours = any_listing || manifest.is_some();
    if !clear(fs, folder, &listing, is_ours)? {
        if is_ours && fs.exists(&listing) {
            // Its files are gone, so it would only mislead.
            fs.remove_file(&listing).map_err(Error::io("remove", &listing))?;
        }
        return keep(fs, folder, target).map(Some);
    }
    // Last: without it other files could not be told apart.
    if fs.exists(&listing) {
        fs.remove_file(&listing).map_err(Error::io("remove", &listing))?;
    }
    match fs.remove_dir(folder) {
        Ok(()) => Ok(None),
        // A file was added just now.
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
            keep(fs, folder, target).map(Some)
        }
        Err(error) => Err(Error::io("remove", folder)(error)),
    }
}

fn is_as_made(fs: &dyn Fs, path: &Path, record: &FileRecord) -> Result<bool> {
    let same =
        fs.kind(path) == Some(FileKind::File) && fs.file_bytes(path).is_ok_and(|bytes| bytes == record.bytes);
    Ok(same && hash::hash_file(fs, path)? == record.blake3)
}

/// Removes empty folders and temporary files below `folder`; returns whether nothing is left but `listing`.
fn clear(fs: &dyn Fs, folder: &Path, listing: &Path, listing_is_ours: bool) -> Result<bool> {
    let mut empty = true;
    for (name, kind) in fs.names(folder).map_err(Error::io("list", folder))? {
        let path = folder.join(&name);
        match kind {
            FileKind::Folder => {
                if !clear(fs, &path, listing, listing_is_ours)? {
                    empty = false;
                } else if let Err(error) = fs.remove_dir(&path) {
                    match error.kind() {
                        std::io::ErrorKind::DirectoryNotEmpty => empty = false,
                        _ => return Err(Error::io("remove", &path)(error)),
                    }
                }
            }
            FileKind::File if is_passing(&name) => {
                fs.remove_file(&path).map_err(Error::io("remove", &path))?;
            }
            _ => empty &= path == listing && listing_is_ours,
        }
    }
    // Synced before the manifest is removed: a file that a power failure brings back must still be known.
    fs.sync_dir(folder).map_err(Error::io("flush the folder", folder))?;
    Ok(empty)
}

/// Renames `folder` to a name next to `target` that shows what it is.
fn keep(fs: &dyn Fs, folder: &Path, target: &Path) -> Result<PathBuf> {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let numbered = |count: usize| match count {
        1 => target.with_file_name(format!("{name}.kept")),
        _ => target.with_file_name(format!("{name}.kept-{count}")),
    };
    let free = (1..).map(numbered).find(|path| fs.kind(path).is_none()).unwrap_or_default();
    fs.rename(folder, &free).map_err(Error::io("move aside", folder))?;
    let above = atomic::parent(target)?;
    fs.sync_dir(above).map_err(Error::io("flush the folder", above))?;
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;
    use crate::stage::{self, StagedFolder};
    use serde_json::json;
    use std::collections::BTreeMap;

    const STAGE: &str = "test";

    fn make(target: &Path, text: &str) -> Result<()> {
        let staged = StagedFolder::begin(&RealFs, target, STAGE)?;
        std::fs::create_dir(staged.path().join("sub")).unwrap();
        std::fs::write(staged.path().join("a.txt"), text).unwrap();
        std::fs::write(staged.path().join("sub/b.txt"), text).unwrap();
        staged.commit(Manifest::new(STAGE, json!({ "text": text }), BTreeMap::new())).map(|_| ())
    }

    fn project() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        (folder, target)
    }

    fn names(folder: &Path) -> Vec<String> {
        RealFs.names(folder).unwrap().into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_folder_that_is_not_ours_is_refused_by_name_and_stays() {
        let (_folder, target) = project();
        std::fs::create_dir(&target).unwrap();
        make(&target, "an empty folder is nobody's").unwrap();
        std::fs::write(target.join("mine.txt"), "mine").unwrap();
        let error = make(&target, "two").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotOurs);
        assert!(error.to_string().contains("`mine.txt`"), "{error}");
        std::fs::remove_file(target.join(FILE_NAME)).unwrap();
        let error = make(&target, "three").unwrap_err().to_string();
        assert!(error.contains("`a.txt`, `mine.txt`, `sub/b.txt`"), "{error}");
        assert_eq!(std::fs::read(target.join("mine.txt")).unwrap(), b"mine");
        assert_eq!(std::fs::read(target.join("a.txt")).unwrap(), b"an empty folder is nobody's");
    }

    #[cfg(unix)]
    #[test]
    fn links_in_the_place_of_a_folder_are_refused() {
        let (folder, target) = project();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("mine.txt"), "mine").unwrap();
        for to in [elsewhere.clone(), folder.path().join("nowhere"), elsewhere.join("mine.txt")] {
            std::os::unix::fs::symlink(&to, &target).unwrap();
            assert_eq!(make(&target, "x").unwrap_err().kind(), ErrorKind::NotOurs);
            assert_eq!(std::fs::read_link(&target).unwrap(), to);
            std::fs::remove_file(&target).unwrap();
        }
        std::fs::write(&target, "a file").unwrap();
        assert_eq!(make(&target, "x").unwrap_err().kind(), ErrorKind::NotOurs);
        assert_eq!(names(&elsewhere), ["mine.txt"]);
    }

    #[test]
    fn another_stages_folder_is_refused() {
        let (_folder, target) = project();
        let staged = StagedFolder::begin(&RealFs, &target, "tokens").unwrap();
        staged.commit(Manifest::new("tokens", json!({}), BTreeMap::new())).unwrap();
        let error = make(&target, "x").unwrap_err().to_string();
        assert!(error.contains("another stage (`tokens`)"), "{error}");
    }

    #[test]
    fn what_was_changed_or_added_meanwhile_is_kept_and_the_rest_goes() {
        let (folder, target) = project();
        make(&target, "one").unwrap();
        std::fs::write(target.join("a.txt"), "edited").unwrap();
        std::fs::write(target.join(".DS_Store"), "x").unwrap();
        make(&target, "two").unwrap();
        let kept = folder.path().join("model.kept");
        assert_eq!(names(&kept), ["a.txt"]);
        assert_eq!(std::fs::read(kept.join("a.txt")).unwrap(), b"edited");

        let staged = StagedFolder::begin(&RealFs, &target, STAGE).unwrap();
        std::fs::write(target.join("sub/notes.txt"), "written while the stage was at work").unwrap();
        staged.commit(Manifest::new(STAGE, json!({}), BTreeMap::new())).unwrap();
        let kept = folder.path().join("model.kept-2");
        assert_eq!(names(&kept), ["sub"]);
        assert_eq!(names(&kept.join("sub")), ["notes.txt"]);
        assert_eq!(names(folder.path()), ["model", "model.kept", "model.kept-2"]);
    }

    #[test]
    fn a_damaged_manifest_costs_no_byte_and_no_work() {
        let (folder, target) = project();
        make(&target, "one").unwrap();
        let path = target.join(FILE_NAME);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b" "].concat()).unwrap();
        make(&target, "two").unwrap();
        assert_eq!(std::fs::read(target.join("a.txt")).unwrap(), b"two");
        assert_eq!(names(&folder.path().join("model.kept")), ["a.txt", FILE_NAME, "sub"]);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_utf8_and_links_are_seen() {
        use std::os::unix::ffi::OsStrExt;
        let (_folder, target) = project();
        make(&target, "one").unwrap();
        let odd = target.join(OsStr::from_bytes(b"\xff\xfe"));
        std::fs::write(&odd, "mine").unwrap();
        assert_eq!(make(&target, "two").unwrap_err().kind(), ErrorKind::NotOurs);
        std::fs::remove_file(&odd).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", target.join("link")).unwrap();
        assert_eq!(make(&target, "two").unwrap_err().kind(), ErrorKind::NotOurs);
    }

    #[test]
    fn a_stage_that_removes_its_folder_first_asks_the_same() {
        let (folder, target) = project();
        make(&target, "one").unwrap();
        std::fs::write(target.join("mine.txt"), "mine").unwrap();
        assert_eq!(stage::remove(&RealFs, &target, STAGE).unwrap_err().kind(), ErrorKind::NotOurs);
        std::fs::remove_file(target.join("mine.txt")).unwrap();
        stage::remove(&RealFs, &target, STAGE).unwrap();
        assert!(names(folder.path()).is_empty());
    }
}
