//! Files that are verified against their manifest when they are opened, and block by block whenever they are
//! read.
//!
//! A run reads its shards for days. A decaying disk, or a program that writes to them, must not affect the
//! weights: a read returns the hashed data or an error. Reading instead of mapping also makes a truncated
//! file an error instead of a SIGBUS.

use std::fmt;
use std::io::{Read, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use store::fs::{Fs, FsReader, fill};
use store::manifest::FileRecord;
use store::{Damage, hash};
use twox_hash::XxHash64;

use crate::{Error, Fault, Result};

/// Bytes read and verified at once: a window of tokens needs one or two blocks, and the hashes take 1/2048 of
/// the file.
pub const BLOCK_BYTES: usize = 16 << 10;

const _: () = assert!(hash::SECTION_BYTES.is_multiple_of(BLOCK_BYTES), "a section is whole blocks");

/// A file, with the hash of each of its blocks.
pub struct VerifiedFile {
    path: PathBuf,
    bytes: u64,
    /// XXH64 of each block, computed together with the BLAKE3 of the whole file that was compared with the
    /// manifest: over the same bytes.
    blocks: Vec<u64>,
    open: Mutex<Open>,
}

struct Open {
    file: Box<dyn FsReader>,
    /// The last block that was read.
    number: Option<usize>,
    block: Vec<u8>,
}

impl VerifiedFile {
    /// Reads the whole file once, with several threads.
    ///
    /// # Errors
    /// A file that is not what `record` says; what the disk says.
    pub fn open(fs: &dyn Fs, path: &Path, record: &FileRecord) -> Result<VerifiedFile> {
        let mut file = fs.open(path).map_err(store::Error::io("read", path))?;
        // A file that has grown does not match; the rest of it is not read.
        let mut limited = (&mut file).take(record.bytes.saturating_add(1));
        let of_blocks = |section: &[u8]| {
            section.chunks(BLOCK_BYTES).map(|block| XxHash64::oneshot(0, block)).collect::<Vec<u64>>()
        };
        let hashed = hash::hash_reader(&mut limited, record.bytes, of_blocks)
            .map_err(store::Error::io("read", path))?;
        let damaged = |damage| store::Error::Corrupt { path: path.to_owned(), damage };
        let bytes = hashed.bytes;
        if bytes != record.bytes {
            return Err(damaged(Damage::Size { wanted: record.bytes, found: bytes }).into());
        }
        let found = hashed.hash.to_hex().to_string();
        if found != record.blake3 {
            return Err(damaged(Damage::Hash { wanted: record.blake3.clone(), found }).into());
        }
        let blocks = hashed.sections.concat();
        let open = Mutex::new(Open { file, number: None, block: Vec::new() });
        Ok(VerifiedFile { path: path.to_owned(), bytes, blocks, open })
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `out` with the bytes from `offset`.
    ///
    /// # Errors
    /// A block that has changed; I/O errors.
    ///
    /// # Panics
    /// If the range exceeds the file.
    pub fn read(&self, offset: u64, mut out: &mut [u8]) -> Result<()> {
        assert!(offset + out.len() as u64 <= self.bytes, "invariant: reads lie within the file");
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut number = (offset / BLOCK_BYTES as u64) as usize;
        let mut within = (offset % BLOCK_BYTES as u64) as usize;
        while !out.is_empty() {
            let block = self.block(&mut open, number)?;
            let count = out.len().min(block.len() - within);
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&block[within..within + count]);
            (out, number, within) = (later, number + 1, 0);
        }
        Ok(())
    }

    /// Returns a block of `BLOCK_BYTES`, or fewer at the end of the file.
    pub fn with_block<T>(&self, number: usize, look: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(look(self.block(&mut open, number)?))
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn block<'o>(&self, open: &'o mut Open, number: usize) -> Result<&'o [u8]> {
        if open.number != Some(number) {
            open.number = None;
            let start = number as u64 * BLOCK_BYTES as u64;
            let length = (self.bytes - start).min(BLOCK_BYTES as u64) as usize;
            open.block.resize(length, 0);
            let Open { file, block, .. } = open;
            let read = file.seek(SeekFrom::Start(start)).and_then(|_| fill(file, block));
            let count = read.map_err(store::Error::io("read", &self.path))?;
            if count < length || XxHash64::oneshot(0, block) != self.blocks[number] {
                let changed = Fault::Changed { from: start, to: start + length as u64 };
                return Err(Error::corrupt(&self.path, changed));
            }
            open.number = Some(number);
        }
        Ok(&open.block)
    }
}

impl fmt::Debug for VerifiedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedFile")
            .field("path", &self.path)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use store::fs::RealFs;
    use store::manifest;

    #[test]
    fn every_read_is_of_what_was_hashed_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train-00000.bin");
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES + 100).map(|i| (i * 7 / 3) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let record =
            FileRecord { blake3: manifest::hash_file(&RealFs, &path).unwrap(), bytes: bytes.len() as u64 };
        let open = || VerifiedFile::open(&RealFs, &path, &record);
        let file = open().unwrap();
        assert_eq!((file.bytes(), file.blocks()), (bytes.len() as u64, 4));
        for (offset, length) in
            [(0, 10), (BLOCK_BYTES - 3, 7), (5, 2 * BLOCK_BYTES), (bytes.len() - 4, 4), (9, 0)]
        {
            let mut out = vec![0; length];
            file.read(offset as u64, &mut out).unwrap();
            assert_eq!(out, bytes[offset..offset + length]);
        }

        // In place, as a stray program would do it: the file is open and keeps its inode.
        let write = |bytes: &[u8]| {
            let mut there = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::io::Write::write_all(&mut there, bytes).unwrap();
            there.set_len(bytes.len() as u64).unwrap();
        };
        let mut changed = bytes.clone();
        changed[BLOCK_BYTES + 5] ^= 1;
        write(&changed);
        let mut out = vec![0; 8];
        file.read(0, &mut out).unwrap();
        file.read(2 * BLOCK_BYTES as u64, &mut out).unwrap();
        let error = file.read(BLOCK_BYTES as u64 - 4, &mut out).unwrap_err().to_string();
        assert!(error.contains("train-00000.bin") && error.contains("16384 to 32768"), "{error}");
        assert_eq!(open().unwrap_err().kind(), ErrorKind::Corrupt);

        write(&bytes[..BLOCK_BYTES]);
        assert!(file.read(3 * BLOCK_BYTES as u64, &mut out).is_err(), "cut short: no SIGBUS");
        write(&[&bytes[..], b"x"].concat());
        assert_eq!(open().unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
