//! Cache of training objects: each is downloaded once, and verified on each use by the BLAKE3 computed on
//! download.
//!
//! What comes is checked by the ETag where that is an MD5: of objects that were sent whole, and not encrypted
//! by keys of the key management. Others are only what came over a connection that checks its bytes, so they
//! are never put together from what a process before has left.

use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use store::fs::RealFs;
use store::lock::RunLock;
use store::{atomic, manifest};

use super::bucket::{Object, Storage};
use super::objects::part_file;
use super::request::Answer;
use crate::error::broken;
use crate::{Result, cache_folder, digest};

const FILE: &str = "object";
const RECORD: &str = "object.json";

/// The cache folder.
#[derive(Clone, Debug)]
pub struct ObjectCache {
    folder: PathBuf,
}

/// An object that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Path of the file.
    pub path: PathBuf,
    /// A warning about it, if any.
    pub doubt: Option<String>,
}

/// The downloaded object.
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

    /// The local path of an object. Keys are not used as file names: some are too long, and some contain
    /// `..`.
    pub fn path(&self, storage: &Storage, object: &Object) -> PathBuf {
        let Object { key, bytes, etag } = object;
        let name =
            format!("{}://{}\n{}\n{key}\n{bytes}\n{etag}", storage.scheme, storage.host, storage.bucket);
        self.folder.join(&manifest::hash_bytes(name.as_bytes())[..40]).join(FILE)
    }

    /// Downloads an object unless it is present and intact. `progress` gets the number of bytes present.
    ///
    /// # Errors
    /// Errors of [`Storage::get_file`]; an object that was replaced since it was listed, or differs on each
    /// download; I/O errors.
    pub fn fetch(
        &self,
        storage: &Storage,
        object: &Object,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Fetched> {
        let path = self.path(storage, object);
        let folder = path.parent().unwrap_or(&self.folder);
        // Two that write the same file would spoil it.
        let _busy = RunLock::wait(folder, None)?;
        store::sweep::aged(folder, &format!("{FILE}."), ".part", crate::STALE_PART);
        let record_path = folder.join(RECORD);
        let record: Option<Record> = atomic::read_json(&RealFs, &record_path).ok();
        let is_whole = record.is_some_and(|record| {
            // Without an ETag nothing says that it is still the same.
            !object.etag.is_empty()
                && manifest::hash_file(&RealFs, &path).is_ok_and(|blake3| blake3 == record.blake3)
        });
        let mut doubt = None;
        if !is_whole {
            doubt = get_checked(storage, object, &path, progress)?;
            let record = Record {
                place: storage.place(&object.key),
                etag: object.etag.clone(),
                blake3: manifest::hash_file(&RealFs, &path)?,
            };
            atomic::write_json(&RealFs, &record_path, &record)?;
        }
        progress(object.bytes);
        Ok(Fetched { path, doubt })
    }
}

/// Brings an object, a second time where it is not what its ETag says. Returns what stays doubtful.
fn get_checked(
    storage: &Storage,
    object: &Object,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<String>> {
    let has_md5 = object.etag.len() == 32 && object.etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let part = part_file(path, &object.etag);
    let goes_on = part.exists() && has_md5;
    if part.exists() && !has_md5 {
        std::fs::remove_file(&part).map_err(store::Error::io("remove", &part))?;
    }
    let answer = storage.fetch_file(object, path, progress)?;
    if !has_md5 || !goes_on && is_encrypted(answer.as_ref()) {
        return Ok(None);
    }
    let first = md5_of(path)?;
    if object.etag.eq_ignore_ascii_case(&first) {
        return Ok(None);
    }
    std::fs::remove_file(path).map_err(store::Error::io("remove", path))?;
    let answer = storage.fetch_file(object, path, progress)?;
    let place = storage.place(&object.key);
    match md5_of(path)? {
        second if object.etag.eq_ignore_ascii_case(&second) || is_encrypted(answer.as_ref()) => Ok(None),
        // The same twice: then it is the ETag that is no MD5, as with some storages' encryption.
        second if second == first => Ok(Some(format!(
            "{place}: its MD5 is {second}, but its ETag is {}; two downloads were equal, so it is used",
            object.etag
        ))),
        _ => {
            std::fs::remove_file(path).map_err(store::Error::io("remove", path))?;
            Err(broken(
                &place,
                "each download gives different bytes: check the network, the memory and the disk",
            ))
        }
    }
}

/// Whether the response shows that the ETag is not an MD5.
fn is_encrypted(answer: Option<&Answer>) -> bool {
    let header = |name| answer.and_then(|answer| answer.header(name));
    header("x-amz-server-side-encryption").is_some_and(|by| by.starts_with("aws:kms"))
        || header("x-amz-server-side-encryption-customer-algorithm").is_some()
}

fn md5_of(path: &Path) -> Result<String> {
    Ok(digest::of_file(path, Md5::new()).map_err(store::Error::io("read", path))?)
}
