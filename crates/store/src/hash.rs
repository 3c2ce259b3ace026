//! BLAKE3 of bytes and files, with several threads for large files.
//!
//! A file is read with plain reads, one section after the other, by whichever thread is free: a mapped file
//! that is truncated would be a SIGBUS, and reading in order is what disks and read-ahead are best at.
//! BLAKE3 is a tree, so sections are hashed on their own and their chaining values merged at the end. The
//! threads live for one file: rayon's pool would end the process if a thread cannot be started. Here fewer
//! threads only take longer.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blake3::{Hash, Hasher};

use crate::fs::{Fs, fill};
use crate::{Error, Result, system, verified};

/// Bytes read and hashed at once by one thread: a subtree of BLAKE3, so a power of two.
pub const SECTION_BYTES: usize = 1 << 20;

/// A thread is started for each of so many sections of a file.
const SECTIONS_PER_THREAD: u64 = 4;

/// More threads are not faster than memory.
const MOST_THREADS: usize = 16;

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Limits the threads that hash one file; 0: all, at most 16.
pub fn set_threads(threads: usize) {
    ASKED.store(threads, Ordering::Relaxed);
}

/// Threads that may hash one file.
pub(crate) fn threads() -> usize {
    let threads = match ASKED.load(Ordering::Relaxed) {
        0 => system::available_threads(),
        asked => asked,
    };
    threads.min(MOST_THREADS)
}

/// BLAKE3 in hex.
pub fn hash_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// BLAKE3 of a file in hex. A large file that this process has hashed before, and that has not changed since,
/// is not read again ([`crate::verified`]).
///
/// # Errors
/// I/O errors.
pub fn hash_file(fs: &dyn Fs, path: &Path) -> Result<String> {
    let identity = fs.identity(path);
    if let Some(hash) = identity.and_then(|identity| verified::known(&identity)) {
        return Ok(hash.to_hex().to_string());
    }
    let bytes = identity.map_or_else(|| fs.file_bytes(path).unwrap_or(0), |identity| identity.bytes);
    if let Some(identity) = &identity {
        verified::settle(identity);
    }
    let began = SystemTime::now();
    let mut file = fs.open(path).map_err(Error::io("read", path))?;
    let hashed = hash_reader(&mut file, bytes, |_| ()).map_err(Error::io("read", path))?;
    if let Some(identity) = identity
        && hashed.bytes == identity.bytes
        && fs.identity(path) == Some(identity)
    {
        verified::remember(identity, began, hashed.hash);
    }
    Ok(hashed.hash.to_hex().to_string())
}

/// The result of [`hash_reader`].
#[derive(Debug)]
pub struct Hashed<T> {
    /// BLAKE3 of all bytes.
    pub hash: Hash,
    /// Number of bytes.
    pub bytes: u64,
    /// What was computed of each section, in order.
    pub sections: Vec<T>,
}

/// Reads `reader` to its end and hashes it. `look` gets each section, [`SECTION_BYTES`] or fewer at the end,
/// in any order and from several threads. `expected_bytes` only decides how many.
///
/// # Errors
/// I/O errors.
pub fn hash_reader<T: Send>(
    reader: &mut (dyn Read + Send),
    expected_bytes: u64,
    look: impl Fn(&[u8]) -> T + Sync,
) -> io::Result<Hashed<T>> {
    let most = expected_bytes / (SECTIONS_PER_THREAD * SECTION_BYTES as u64);
    let threads = threads().min(usize::try_from(most).unwrap_or(usize::MAX)).max(1);
    let source = Mutex::new(Source { reader, sections: 0, bytes: 0, at_end: false });
    let work = || hash_sections(&source, &look);
    let mut done = std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().name("hash".to_owned()).spawn_scoped(scope, work).ok();
        // If the system gives no more threads, those that run do all.
        let helpers: Vec<_> = (1..threads).map_while(start).collect();
        let mut done = work()?;
        for helper in helpers {
            match helper.join() {
                Ok(more) => done.extend(more?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        io::Result::Ok(done)
    })?;
    done.sort_unstable_by_key(|section| section.number);
    let hash = match done.as_slice() {
        [] => blake3::hash(b""),
        [Section { alone: Some(hash), .. }] => *hash,
        many => {
            let (left, right) = many.split_at(left_sections(many.len()));
            merge_subtrees_root(&chaining_value(left), &chaining_value(right), Mode::Hash)
        }
    };
    let bytes = source.into_inner().unwrap_or_else(PoisonError::into_inner).bytes;
    Ok(Hashed { hash, bytes, sections: done.into_iter().map(|section| section.found).collect() })
}

struct Source<'r> {
    reader: &'r mut (dyn Read + Send),
    /// Number of sections that were read.
    sections: u64,
    bytes: u64,
    /// At the end of the file, or at an error.
    at_end: bool,
}

impl Source<'_> {
    /// Reads the next section into `buffer`; returns its number and length, or `None` at the end.
    fn next(&mut self, buffer: &mut [u8]) -> io::Result<Option<(u64, usize)>> {
        if self.at_end {
            return Ok(None);
        }
        // An error also ends the other threads.
        self.at_end = true;
        let count = fill(self.reader, buffer)?;
        self.at_end = count < buffer.len();
        if count == 0 {
            return Ok(None);
        }
        self.sections += 1;
        self.bytes += count as u64;
        Ok(Some((self.sections - 1, count)))
    }
}

struct Section<T> {
    number: u64,
    chaining_value: ChainingValue,
    /// The hash of a file that has only this section, which can only be the first.
    alone: Option<Hash>,
    found: T,
}

fn hash_sections<T>(source: &Mutex<Source<'_>>, look: &impl Fn(&[u8]) -> T) -> io::Result<Vec<Section<T>>> {
    let mut done = Vec::new();
    let mut buffer = vec![0; SECTION_BYTES];
    loop {
        let next = source.lock().unwrap_or_else(PoisonError::into_inner).next(&mut buffer)?;
        let Some((number, count)) = next else { return Ok(done) };
        let section = &buffer[..count];
        let mut hasher = Hasher::new();
        hasher.set_input_offset(number * SECTION_BYTES as u64).update(section);
        let alone = (number == 0).then(|| hasher.finalize());
        let chaining_value = hasher.finalize_non_root();
        done.push(Section { number, chaining_value, alone, found: look(section) });
    }
}

/// The chaining value of adjacent sections.
fn chaining_value<T>(sections: &[Section<T>]) -> ChainingValue {
    match sections {
        [only] => only.chaining_value,
        many => {
            let (left, right) = many.split_at(left_sections(many.len()));
            merge_subtrees_non_root(&chaining_value(left), &chaining_value(right), Mode::Hash)
        }
    }
}

/// Sections in the left subtree of `count`: the largest power of two that leaves some for the right.
fn left_sections(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without a period.
    fn noise(length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        Hasher::new().finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn sections_hash_like_the_whole_for_any_length_and_number_of_threads() {
        let bytes = noise(9 * SECTION_BYTES + 1);
        let lengths = (0..=9).flat_map(|n| [n * SECTION_BYTES, n * SECTION_BYTES + 1]);
        for length in lengths.chain([1023, SECTION_BYTES - 1, 5 * SECTION_BYTES - 1, 3 * SECTION_BYTES + 777])
        {
            let wanted = &bytes[..length];
            // Several threads are used from 8 sections on; a wrong guess of the size changes nothing.
            for expected in [0, length, 1 << 40] {
                let hashed = hash_reader(&mut &*wanted, expected as u64, <[u8]>::to_vec).unwrap();
                assert_eq!((hashed.hash, hashed.bytes), (blake3::hash(wanted), length as u64), "{length}");
                assert_eq!(hashed.sections.concat(), wanted, "sections are in order");
            }
        }
    }

    #[test]
    fn an_error_while_reading_is_reported() {
        struct Failing(usize);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(buffer.len()).ok_or_else(|| io::Error::other("bad sector"))?;
                Ok(buffer.len())
            }
        }
        for sections in [0, 1, 6] {
            let mut reader = Failing(sections * SECTION_BYTES);
            let error = hash_reader(&mut reader, 1 << 40, |_| ()).unwrap_err();
            assert_eq!(error.to_string(), "bad sector");
        }
    }
}
