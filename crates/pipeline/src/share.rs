//! Exchanges results of data stages between machines without a shared file system, as folders in object
//! storage.
//!
//! Each machine works in its own project folder. A folder is uploaded file by file, with its manifest last:
//! that object marks it as complete. Downloads are verified against it byte for byte. There is no lock: two
//! processes that upload the same folder upload the same bytes, unless a classifier or a perplexity filter
//! rounds differently on another type of CPU. `stages::passed_on` defines the folders that a stage needs and
//! makes.

use std::path::{Path, PathBuf};

use cloud::storage::{Address, Object, Storage};
use corpus::Rank;
use runs::report::{Phase, Reporter};
use store::fs::{Fs, RealFs};
use store::lock::RunLock;
use store::manifest::{self, FileRecord, Manifest};
use store::stage::StagedFolder;

use crate::project::Project;
use crate::{Error, Result};

/// How often to restart the download of a folder that changes in the meantime.
const TRIES: usize = 3;

/// A prefix in object storage that holds a project's `data/` and `tokenizer/`.
#[derive(Clone, Debug)]
pub struct Share {
    storage: Storage,
    /// The address as given.
    address: String,
    /// Prefix of keys: empty, or with a trailing slash.
    prefix: String,
}

/// A folder of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    /// Its path in the project, with `/`.
    pub name: String,
    /// Arguments of the `data stage` command that makes it: `filter --rank 1 --of 4`.
    pub made_by: String,
    /// The rank that makes it and the folder of its lock; `None` if it is not made by ranks.
    pub maker: Option<(Rank, PathBuf)>,
}

/// The result of downloading a folder.
enum Brought {
    /// The share does not have it.
    Nothing,
    /// The local folder equals the one in the share.
    Whole,
    /// It was replaced in the meantime.
    Changed,
}

impl Share {
    /// The share at `s3://BUCKET/PREFIX`, with the storage configured by the environment.
    ///
    /// # Errors
    /// An invalid address or invalid credentials.
    pub fn open(address: &str) -> Result<Share> {
        let Some(found) = Address::parse(address)? else {
            return Err(Error::Argument {
                message: format!("--share {address}: expected s3://BUCKET/PREFIX"),
            });
        };
        let prefix = match found.key.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let storage = Storage::from_environment(&found.bucket)?;
        Ok(Share { storage, address: address.to_owned(), prefix })
    }

    /// The address as given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The key of a project file in the share.
    pub(crate) fn place(&self, name: &str) -> String {
        self.storage.place(&self.key(name))
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The manifest of a folder in the share; `None` if it is missing or not a manifest.
    pub(crate) fn mark(&self, folder: &str) -> Result<Option<Manifest>> {
        let name = format!("{folder}/{}", manifest::FILE_NAME);
        let bytes = self.storage.get(&self.key(&name))?;
        Ok(bytes.and_then(|bytes| Manifest::parse(&bytes, Path::new(&self.place(&name))).ok()))
    }

    /// Downloads a folder unless the local one is equal. If the share has none, the local one is kept.
    ///
    /// # Errors
    /// Its rank is running in this project; a file that twice differs from its manifest (then the manifest is
    /// deleted, so that the folder is made again); storage errors; I/O errors.
    pub(crate) fn bring(
        &self,
        project: &Project,
        folder: &Folder,
        reporter: &mut dyn Reporter,
    ) -> Result<()> {
        let _busy = lock(project, folder)?;
        let _maker = folder.lock_maker()?;
        for _ in 0..TRIES {
            match self.bring_once(project, folder, reporter)? {
                Brought::Nothing | Brought::Whole => return Ok(()),
                Brought::Changed => {}
            }
        }
        let place = self.place(&folder.name);
        Err(Error::Data {
            message: format!("`{place}` keeps changing: does another process work on this share?"),
        })
    }

    fn bring_once(&self, project: &Project, folder: &Folder, reporter: &mut dyn Reporter) -> Result<Brought> {
        let Some(mark) = self.mark(&folder.name)? else { return Ok(Brought::Nothing) };
        let here = project.root().join(&folder.name);
        let is_same = || {
            Manifest::read(&RealFs, &here)
                .is_ok_and(|known| known == mark && known.verify(&RealFs, &here).is_ok())
        };
        if is_same() {
            return Ok(Brought::Whole);
        }
        store::stage::repair(&RealFs, &here)?;
        if is_same() {
            return Ok(Brought::Whole);
        }
        // Before anything is downloaded for it.
        store::ownership::check(&RealFs, &here, &mark.stage)?;
        let list = || self.storage.list(&self.key(&format!("{}/", folder.name)));
        let mut there = list()?;
        let arriving = store::stage::sibling(&here, "arriving")?;
        let total = mark.outputs.values().map(|record| record.bytes).sum();
        let mut done = 0;
        for (name, record) in &mark.outputs {
            let (key, path) = (self.key(&format!("{}/{name}", folder.name)), arriving.join(name));
            let mut progress =
                |bytes| reporter.progress(Phase::Corpus, done + bytes, total, "bytes downloaded");
            // Files downloaded by an earlier attempt are kept.
            let mut problem = None;
            if !is_file(&path, record) {
                problem = self.bring_file(&there, &key, record, &path, &mut progress)?;
            }
            if problem.is_some() {
                // A single mismatch is not damage: the local file may be from a power cut, and lists can lag
                // behind.
                there = list()?;
                problem = self.bring_file(&there, &key, record, &path, &mut progress)?;
            }
            if let Some(problem) = problem {
                if self.mark(&folder.name)?.as_ref() != Some(&mark) {
                    return Ok(Brought::Changed);
                }
                remove(&arriving)?;
                return Err(self.damaged(folder, &key, problem));
            }
            done += record.bytes;
        }
        let staged = StagedFolder::begin(&RealFs, &here, &mark.stage)?;
        for name in mark.outputs.keys() {
            let (from, to) = (arriving.join(name), staged.path().join(name));
            make_parent(&to)?;
            RealFs.rename(&from, &to).map_err(store::Error::io("put in place", &from))?;
        }
        reporter.kept(Phase::Corpus, &staged.adopt(mark)?);
        remove(&arriving)?;
        Ok(Brought::Whole)
    }

    /// Downloads one file of a folder. Returns the problem if it does not match its manifest; then the file
    /// is removed.
    fn bring_file(
        &self,
        there: &[Object],
        key: &str,
        record: &FileRecord,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<&'static str>> {
        let object = there.iter().find(|object| object.key == key && object.bytes == record.bytes);
        let Some(object) = object else { return Ok(Some("is missing or has a different size")) };
        make_parent(path)?;
        match self.storage.get_file(object, path, progress) {
            Ok(()) if is_file(path, record) => Ok(None),
            Ok(()) => {
                RealFs.remove_file(path).map_err(store::Error::io("remove", path))?;
                Ok(Some("has a different BLAKE3 hash"))
            }
            Err(cloud::Error::Storage { status: 404 | 412, .. }) => Ok(Some("was replaced")),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the manifest, so that the folder is made again.
    fn damaged(&self, folder: &Folder, key: &str, problem: &str) -> Error {
        let marked = match self.storage.delete(&self.key(&format!("{}/{}", folder.name, manifest::FILE_NAME)))
        {
            Ok(()) => "its folder is now marked as not done".to_owned(),
            Err(error) => format!("its folder could not be marked as not done ({error})"),
        };
        Error::Data {
            message: format!(
                "`{}` {problem}, unlike in its folder's manifest; {marked}: run `text2llm data stage {} \
                 --share {}` again with the same recipe",
                self.storage.place(key),
                folder.made_by,
                self.address
            ),
        }
    }

    /// Uploads a complete folder unless the share has it already; returns whether it was uploaded.
    ///
    /// # Errors
    /// Storage or I/O errors; then there is no manifest, or that of another process that uploaded the same.
    pub(crate) fn push(
        &self,
        project: &Project,
        folder: &Folder,
        reporter: &mut dyn Reporter,
    ) -> Result<bool> {
        let here = project.root().join(&folder.name);
        let manifest = Manifest::read(&RealFs, &here)?;
        let mark_key = self.key(&format!("{}/{}", folder.name, manifest::FILE_NAME));
        let mark_file = here.join(manifest::FILE_NAME);
        let bytes = RealFs.read(&mark_file).map_err(store::Error::io("read", &mark_file))?;
        match self.storage.get(&mark_key)? {
            Some(known) if known == bytes => return Ok(false),
            // No manifest while its files change.
            Some(_) => self.storage.delete(&mark_key)?,
            None => {}
        }
        let total = manifest.outputs.values().map(|record| record.bytes).sum();
        let mut done = 0;
        for (name, record) in &manifest.outputs {
            let key = self.key(&format!("{}/{name}", folder.name));
            let mut progress =
                |bytes| reporter.progress(Phase::Corpus, done + bytes, total, "bytes uploaded");
            self.storage.put_file(&key, &here.join(name), &mut progress)?;
            done += record.bytes;
        }
        self.storage.put(&mark_key, &bytes)?;
        Ok(true)
    }
}

impl Folder {
    /// A folder of the project that is no rank's.
    pub fn new(project: &Project, path: &Path, made_by: String) -> Folder {
        Folder { name: Folder::name_of(project, path), made_by, maker: None }
    }

    /// A path in the project, as shares have it.
    pub fn name_of(project: &Project, path: &Path) -> String {
        let name = path.strip_prefix(project.root()).unwrap_or(path);
        let parts: Vec<_> = name.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        parts.join("/")
    }

    /// Locks out the rank that makes the folder: its unfinished work would be taken for a leftover.
    fn lock_maker(&self) -> Result<Option<RunLock>> {
        let Some((rank, place)) = &self.maker else { return Ok(None) };
        RealFs.create_dir_all(place).map_err(store::Error::io("create the folder", place))?;
        match RunLock::acquire(place) {
            Err(error) if error.kind() == store::ErrorKind::Locked => Err(Error::Data {
                message: format!(
                    "{rank} is running in this project (`text2llm data stage {}`): run this again when it \
                     has finished",
                    self.made_by
                ),
            }),
            locked => Ok(Some(locked?)),
        }
    }
}

/// Ranks on one machine that share a project folder download a folder once.
fn lock(project: &Project, folder: &Folder) -> Result<RunLock> {
    let place = project.ranks().join("locks").join(format!("bring-{}", folder.name.replace('/', "-")));
    Ok(RunLock::wait(&place, None)?)
}

fn is_file(path: &Path, record: &FileRecord) -> bool {
    manifest::hash_file(&RealFs, path).is_ok_and(|hash| hash == record.blake3)
}

fn make_parent(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        RealFs.create_dir_all(parent).map_err(store::Error::io("create the folder", parent))?;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if RealFs.exists(folder) {
        RealFs.remove_dir_all(folder).map_err(store::Error::io("remove", folder))?;
    }
    Ok(())
}
