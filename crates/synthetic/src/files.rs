//! The files of a data set: JSON lines compressed with zstd, and their metadata.
//!
//! A file that is in the way is replaced only if the metadata next to it says that it is ours and its content
//! has the recorded hash; a file that has the new content already is left alone.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use store::fs::{FileKind, Fs};

use crate::weather_persona::{GENERATOR, Generated, METADATA_FILE, TRAIN_FILE, VALIDATION_FILE, json_lines};
use crate::{Error, Result};

/// The highest level that needs no large window to read: conversations share most of their text.
const LEVEL: i32 = 19;

/// No file of a data set is larger, compressed or not.
const LARGEST_BYTES: u64 = 2 << 30;

/// A file of the data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// Its size on disk.
    pub bytes: u64,
    /// Whether it had this content before, and was not written.
    pub was_there: bool,
}

/// Writes the three files to `folder`, metadata last.
///
/// # Errors
/// [`Error::NotOurs`] before anything is written; errors of the disk.
pub fn write(fs: &dyn Fs, folder: &Path, generated: &Generated) -> Result<Vec<Written>> {
    let metadata_path = folder.join(METADATA_FILE);
    let mut metadata =
        serde_json::to_vec_pretty(&generated.metadata).expect("invariant: only strings as keys");
    metadata.push(b'\n');
    let old = present(fs, &metadata_path)?;
    let has_metadata = old.as_deref() == Some(&metadata);
    let recorded: Value =
        old.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    let is_ours = recorded["generator"] == GENERATOR;
    if old.is_some() && !has_metadata && !is_ours {
        return Err(Error::NotOurs { path: metadata_path });
    }
    let mut plan = Vec::new();
    for (name, conversations) in [(TRAIN_FILE, &generated.train), (VALIDATION_FILE, &generated.validation)] {
        let path = folder.join(name);
        let lines = json_lines(conversations);
        let was_there = match present(fs, &path)? {
            None => false,
            Some(bytes) => match content_hash(&bytes) {
                Some(hash) if hash == blake3::hash(&lines) => true,
                Some(hash) if is_ours && recorded["files"][name]["uncompressed_blake3"] == *hash.to_hex() => {
                    false
                }
                _ => return Err(Error::NotOurs { path }),
            },
        };
        plan.push((path, lines, was_there));
    }
    let mut written = Vec::new();
    for (path, lines, was_there) in plan {
        if !was_there {
            store::atomic::write(fs, &path, &compressed(&path, &lines)?)?;
        }
        written.push(record(fs, path, was_there)?);
    }
    if !has_metadata {
        store::atomic::write(fs, &metadata_path, &metadata)?;
    }
    written.push(record(fs, metadata_path, has_metadata)?);
    Ok(written)
}

fn record(fs: &dyn Fs, path: PathBuf, was_there: bool) -> Result<Written> {
    let bytes = fs.file_bytes(&path).map_err(store::Error::io("read", &path))?;
    Ok(Written { path, bytes, was_there })
}

/// The content of a file; `None` if there is none.
fn present(fs: &dyn Fs, path: &Path) -> Result<Option<Vec<u8>>> {
    let read = |error| store::Error::io("read", path)(error);
    match fs.kind(path) {
        None => Ok(None),
        Some(FileKind::File) if fs.file_bytes(path).map_err(read)? <= LARGEST_BYTES => {
            Ok(Some(fs.read(path).map_err(read)?))
        }
        Some(_) => Err(Error::NotOurs { path: path.to_owned() }),
    }
}

fn compressed(path: &Path, lines: &[u8]) -> Result<Vec<u8>> {
    let failed = |source| Error::Compression { path: path.to_owned(), source };
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL).map_err(failed)?;
    encoder.include_checksum(true).map_err(failed)?;
    encoder.set_pledged_src_size(Some(lines.len() as u64)).map_err(failed)?;
    std::io::Write::write_all(&mut encoder, lines).map_err(failed)?;
    encoder.finish().map_err(failed)
}

/// The hash of what was compressed; `None` if it is not zstd or too large to be ours.
fn content_hash(bytes: &[u8]) -> Option<blake3::Hash> {
    let mut decoder = zstd::Decoder::new(bytes).ok()?;
    let mut left = LARGEST_BYTES;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match decoder.read(&mut buffer).ok()? {
            0 => return Some(hasher.finalize()),
            count => {
                left = left.checked_sub(count as u64)?;
                hasher.update(&buffer[..count]);
            }
        }
    }
}
