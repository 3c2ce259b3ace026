//! What the data stages of many machines pass to each other where they share no file system: folders in
//! object storage.
//!
//! Each machine works in a project folder of its own. A folder is pushed file by file, its manifest last:
//! that object is the mark that it is whole, and without it there is nothing. What is brought is checked
//! against it, byte for byte. There is no lock: two that push the same folder push the same bytes, unless a
//! classifier or a perplexity filter rounds otherwise on another kind of processor. Which folders a stage
//! needs and makes is `stages::passed_on`'s.

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

/// How often a folder is begun anew that changes while it is brought.
const TRIES: usize = 3;

/// A place in object storage that stands for a project's `data/` and `tokenizer/`.
#[derive(Clone, Debug)]
pub struct Share {
    storage: Storage,
    /// As it was given.
    address: String,
    /// What keys begin with: empty, or with a slash at its end.
    prefix: String,
}

/// A folder of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    /// Its path in the project, with `/`.
    pub name: String,
    /// What makes it, as `data stage` has it: `judge --rank 1 --of 4`.
    pub made_by: String,
    /// The rank that makes it, and where its lock is; `None` where it is no rank's.
    pub maker: Option<(Rank, PathBuf)>,
}

/// What bringing a folder came to.
enum Brought {
    /// The share has none.
    Nothing,
    /// It is here, as it is there.
    Whole,
    /// It was replaced meanwhile.
    Changed,
}

impl Share {
    /// The share at `s3://BUCKET/PREFIX`, with what the environment says of the storage.
    ///
    /// # Errors
    /// No such address; credentials that cannot be.
    pub fn open(address: &str) -> Result<Share> {
        let Some(found) = Address::parse(address)? else {
            return Err(Error::Argument { message: format!("--share {address}: write s3://BUCKET/PREFIX") });
        };
        let prefix = match found.key.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let storage = Storage::from_environment(&found.bucket)?;
        Ok(Share { storage, address: address.to_owned(), prefix })
    }

    /// As it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where a file of the project lies in the share.
    pub(crate) fn place(&self, name: &str) -> String {
        self.storage.place(&self.key(name))
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The mark of a folder; `None` where it is not there, or not a manifest.
    pub(crate) fn mark(&self, folder: &str) -> Result<Option<Manifest>> {
        let name = format!("{folder}/{}", manifest::FILE_NAME);
        let bytes = self.storage.get(&self.key(&name))?;
        Ok(bytes.and_then(|bytes| Manifest::parse(&bytes, Path::new(&self.place(&name))).ok()))
    }

    /// Brings a folder, unless it is here as it is there. Where the share has none, what is here stays.
    ///
    /// # Errors
    /// Its rank is at work in this project; a file that is not what its manifest says, twice: then the mark
    /// is removed, so that the folder is made again; the storage; the disk.
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
        Err(Error::Data { message: format!("`{place}` changes all the time: who else works on this share?") })
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
        // Before anything is fetched for it.
        store::ownership::check(&RealFs, &here, &mark.stage)?;
        let list = || self.storage.list(&self.key(&format!("{}/", folder.name)));
        let mut there = list()?;
        let arriving = store::stage::sibling(&here, "arriving")?;
        let total = mark.outputs.values().map(|record| record.bytes).sum();
        let mut done = 0;
        for (name, record) in &mark.outputs {
            let (key, path) = (self.key(&format!("{}/{name}", folder.name)), arriving.join(name));
            let mut progress = |bytes| reporter.progress(Phase::Corpus, done + bytes, total, "bytes fetched");
            // What an earlier try has brought stays.
            let mut problem = None;
            if !is_file(&path, record) {
                problem = self.bring_file(&there, &key, record, &path, &mut progress)?;
            }
            if problem.is_some() {
                // One bad read is no damage: what lies here may be what a power cut left, and lists can lag
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

    /// Brings one file of a folder. Returns what is wrong with it, where it is not what its manifest says;
    /// then nothing of it stays here.
    fn bring_file(
        &self,
        there: &[Object],
        key: &str,
        record: &FileRecord,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<&'static str>> {
        let object = there.iter().find(|object| object.key == key && object.bytes == record.bytes);
        let Some(object) = object else { return Ok(Some("is missing, or has another size")) };
        make_parent(path)?;
        match self.storage.get_file(object, path, progress) {
            Ok(()) if is_file(path, record) => Ok(None),
            Ok(()) => {
                RealFs.remove_file(path).map_err(store::Error::io("remove", path))?;
                Ok(Some("has another BLAKE3"))
            }
            Err(cloud::Error::Storage { status: 404 | 412, .. }) => Ok(Some("was replaced")),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the mark away, so that who makes the folder sees that it has to.
    fn damaged(&self, folder: &Folder, key: &str, problem: &str) -> Error {
        let marked = match self.storage.delete(&self.key(&format!("{}/{}", folder.name, manifest::FILE_NAME)))
        {
            Ok(()) => "its folder no longer counts as done".to_owned(),
            Err(error) => format!("its folder's mark cannot be removed ({error})"),
        };
        Error::Data {
            message: format!(
                "`{}` {problem}, by its folder's manifest; {marked}: run `text2llm data stage {} --share {}` again, with the same recipe",
                self.storage.place(key),
                folder.made_by,
                self.address
            ),
        }
    }

    /// Pushes a folder that is whole here, unless it is there already. Returns whether it was pushed.
    ///
    /// # Errors
    /// The storage; the disk. Then there is no mark, or that of somebody who pushed the same.
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
            // No mark while the files under it change.
            Some(_) => self.storage.delete(&mark_key)?,
            None => {}
        }
        let total = manifest.outputs.values().map(|record| record.bytes).sum();
        let mut done = 0;
        for (name, record) in &manifest.outputs {
            let key = self.key(&format!("{}/{name}", folder.name));
            let mut progress = |bytes| reporter.progress(Phase::Corpus, done + bytes, total, "bytes pushed");
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

    /// Keeps the rank out that makes the folder: what it has begun would be taken for what a crash has left.
    fn lock_maker(&self) -> Result<Option<RunLock>> {
        let Some((rank, place)) = &self.maker else { return Ok(None) };
        RealFs.create_dir_all(place).map_err(store::Error::io("create the folder", place))?;
        match RunLock::acquire(place) {
            Err(error) if error.kind() == store::ErrorKind::Locked => Err(Error::Data {
                message: format!(
                    "{rank} is at work in this project (`text2llm data stage {}`): run this again once it has ended",
                    self.made_by
                ),
            }),
            locked => Ok(Some(locked?)),
        }
    }
}

/// Ranks of one machine that share a project folder bring a folder once.
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
