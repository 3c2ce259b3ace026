//! Objects to learn from, kept on this machine: each fetched once, and checked each time by the BLAKE3 that it came with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::fs::RealFs;
use store::lock::RunLock;
use store::{atomic, manifest};

use super::{Object, Storage};
use crate::{Result, cache_folder};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const FILE: &str = "object";
const RECORD: &str = "object.json";

/// Where they are kept.
#[derive(Clone, Debug)]
pub struct ObjectCache {
    folder: PathBuf,
}

/// What was fetched.
#[derive(Serialize, Deserialize)]
struct Record {
    place: String,
    etag: String,
    blake3: String,
}

impl ObjectCache {
    /// The one that the environment names: see [`cache_folder`].
    pub fn from_environment() -> ObjectCache {
        ObjectCache::new(&cache_folder())
    }

    /// One below `cache`.
    pub fn new(cache: &Path) -> ObjectCache {
        ObjectCache { folder: cache.join("objects") }
    }

    /// Where an object lies, or will. Keys are no names of files: some are too long, and some lead elsewhere.
    pub fn path(&self, storage: &Storage, object: &Object) -> PathBuf {
        let Object { key, bytes, etag } = object;
        let name =
            format!("{}://{}\n{}\n{key}\n{bytes}\n{etag}", storage.scheme, storage.host, storage.bucket);
        self.folder.join(&manifest::hash_bytes(name.as_bytes())[..40]).join(FILE)
    }

    /// Brings an object, unless it is there and whole. `progress` hears how many of its bytes are.
    ///
    /// # Errors
    /// What [`Storage::get_file`] says; an object that was replaced since it was listed; the disk.
    pub fn fetch(
        &self,
        storage: &Storage,
        object: &Object,
        progress: &mut dyn FnMut(u64),
    ) -> Result<PathBuf> {
        let path = self.path(storage, object);
        let folder = path.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(folder).map_err(store::Error::io("make the folder", folder))?;
        // Two that write the same file would spoil it.
        let _busy = loop {
            match RunLock::acquire(folder) {
                Err(error) if error.kind() == store::ErrorKind::Locked => std::thread::sleep(LOOK_EVERY),
                locked => break locked?,
            }
        };
        let record_path = folder.join(RECORD);
        let record: Option<Record> = atomic::read_json(&RealFs, &record_path).ok();
        let is_whole = record.is_some_and(|record| {
            manifest::hash_file(&RealFs, &path).is_ok_and(|blake3| blake3 == record.blake3)
        });
        if !is_whole {
            storage.get_file(object, &path, progress)?;
            let record = Record {
                place: storage.place(&object.key),
                etag: object.etag.clone(),
                blake3: manifest::hash_file(&RealFs, &path)?,
            };
            atomic::write_json(&RealFs, &record_path, &record)?;
        }
        progress(object.bytes);
        Ok(path)
    }
}
