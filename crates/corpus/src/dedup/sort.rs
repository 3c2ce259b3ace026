//! Records sorted outside memory: runs of fixed size are sorted and written, then merged.
//!
//! In memory there is one run; on disk a record takes its bytes, twice while files are gathered. What comes
//! out does not depend on the size of runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use compute::heap::where_refusal_is_handled;
use store::fs::{Fs, FsReader};

use crate::Result;

/// Files that are merged at once, each through a buffer, for a process may open only so many: so many of one
/// level are made one of the next, and a record is written once a level.
const MOST_FILES: usize = 256;
const BUFFER_BYTES: usize = 64 << 10;
const LARGEST_RECORD_BYTES: usize = 32;

/// A record that can be sorted.
pub trait Record: Ord + Copy {
    /// Its bytes on disk.
    const BYTES: usize;
    /// Writes the record to `bytes`.
    fn put(self, bytes: &mut [u8]);
    /// Reads a record from bytes.
    fn get(bytes: &[u8]) -> Self;
}

impl<const WORDS: usize> Record for [u64; WORDS] {
    const BYTES: usize = 8 * WORDS;

    fn put(self, bytes: &mut [u8]) {
        for (place, word) in bytes.chunks_exact_mut(8).zip(self) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }

    fn get(bytes: &[u8]) -> [u64; WORDS] {
        std::array::from_fn(|at| word(&bytes[8 * at..]))
    }
}

/// The number that `bytes` begin with.
pub fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}

/// Takes records in any order.
pub struct Sorter<'a, R> {
    fs: &'a dyn Fs,
    folder: PathBuf,
    name: &'static str,
    run: Vec<R>,
    run_records: usize,
    /// With their levels, the highest first.
    files: Vec<(u32, PathBuf)>,
    written: usize,
}

impl<'a, R: Record> Sorter<'a, R> {
    /// Keeps at most `memory_bytes` of records in memory; more are written to files in `folder` that begin
    /// with `name`.
    pub fn new(fs: &'a dyn Fs, folder: &Path, name: &'static str, memory_bytes: usize) -> Sorter<'a, R> {
        let run_records = (memory_bytes / size_of::<R>()).max(1024);
        let mut run = Vec::new();
        // Growing by doubling would take up to three times what was granted. Where so much cannot be had at
        // once it grows.
        let _ = where_refusal_is_handled(|| run.try_reserve_exact(run_records));
        Sorter { fs, folder: folder.to_owned(), name, run, run_records, files: Vec::new(), written: 0 }
    }

    /// Adds a record.
    pub fn push(&mut self, record: R) -> Result<()> {
        self.run.push(record);
        if self.run.len() >= self.run_records { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.run.sort_unstable();
        let run = std::mem::take(&mut self.run);
        self.write(0, run.iter().map(|&record| Ok(record)))?;
        self.run = run;
        self.run.clear();
        while let Some(&(level, _)) = self.files.last() {
            let first = self.files.partition_point(|file| file.0 > level);
            if self.files.len() - first < MOST_FILES {
                break;
            }
            self.gather(first)?;
        }
        Ok(())
    }

    /// Makes the files from `first` on one, of the level after theirs.
    fn gather(&mut self, first: usize) -> Result<()> {
        let level = self.files.get(first).map_or(0, |file| file.0) + 1;
        let files = self.files.split_off(first).into_iter().map(|(_, path)| path).collect();
        let merged = Sorted::open(self.fs, files)?;
        self.write(level, merged)
    }

    fn write(&mut self, level: u32, records: impl Iterator<Item = Result<R>>) -> Result<()> {
        let path = self.folder.join(format!("{}-{:05}.tmp", self.name, self.written));
        let failed = |error| store::Error::io("write", &path)(error);
        let mut file = BufWriter::with_capacity(1 << 20, self.fs.create(&path).map_err(failed)?);
        let mut bytes = [0; LARGEST_RECORD_BYTES];
        for record in records {
            record?.put(&mut bytes[..R::BYTES]);
            file.write_all(&bytes[..R::BYTES]).map_err(failed)?;
        }
        file.flush().map_err(failed)?;
        self.files.push((level, path));
        self.written += 1;
        Ok(())
    }

    /// All records, in order.
    pub fn finish(mut self) -> Result<Sorted<'a, R>> {
        if self.files.is_empty() {
            self.run.sort_unstable();
            return Ok(Sorted { memory: self.run.into_iter(), ..Sorted::open(self.fs, Vec::new())? });
        }
        self.spill()?;
        if self.files.len() > MOST_FILES {
            // The smallest ones, and no more than it takes.
            self.gather(MOST_FILES - 1)?;
        }
        Sorted::open(self.fs, self.files.into_iter().map(|(_, path)| path).collect())
    }
}

/// Records in order. Their files are removed once the last one is taken.
pub struct Sorted<'a, R> {
    fs: &'a dyn Fs,
    memory: std::vec::IntoIter<R>,
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(R, usize)>>,
}

struct Run {
    path: PathBuf,
    file: BufReader<Box<dyn FsReader>>,
}

impl<'a, R: Record> Sorted<'a, R> {
    fn open(fs: &'a dyn Fs, files: Vec<PathBuf>) -> Result<Sorted<'a, R>> {
        let mut sorted =
            Sorted { fs, memory: Vec::new().into_iter(), runs: Vec::new(), heads: BinaryHeap::new() };
        for (number, path) in files.into_iter().enumerate() {
            let file = fs.open(&path).map_err(store::Error::io("read", &path))?;
            let mut run = Run { path, file: BufReader::with_capacity(BUFFER_BYTES, file) };
            sorted.heads.extend(run.next()?.map(|record| Reverse((record, number))));
            sorted.runs.push(run);
        }
        Ok(sorted)
    }

    fn merged(&mut self) -> Result<Option<R>> {
        let Some(mut head) = self.heads.peek_mut() else {
            for Run { path, file } in self.runs.drain(..) {
                drop(file);
                self.fs.remove_file(&path).map_err(store::Error::io("remove", &path))?;
            }
            return Ok(None);
        };
        let Reverse((record, run)) = *head;
        match self.runs[run].next()? {
            Some(next) => *head = Reverse((next, run)),
            None => drop(PeekMut::pop(head)),
        }
        Ok(Some(record))
    }
}

impl<R: Record> Iterator for Sorted<'_, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        self.memory.next().map(Ok).or_else(|| self.merged().transpose())
    }
}

impl Run {
    fn next<R: Record>(&mut self) -> Result<Option<R>> {
        let Run { path, file } = self;
        let mut bytes = [0; LARGEST_RECORD_BYTES];
        let bytes = &mut bytes[..R::BYTES];
        let mut read = || match file.fill_buf()?.is_empty() {
            true => Ok(None),
            false => file.read_exact(bytes).map(|()| Some(R::get(bytes))),
        };
        read().map_err(|error| store::Error::io("read", path)(error).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::fs::RealFs;

    #[test]
    fn runs_on_disk_and_in_memory_give_the_same_order() {
        let folder = tempfile::tempdir().unwrap();
        let sorted = |memory_bytes, count: u64| {
            let mut sorter = Sorter::new(&RealFs, folder.path(), "numbers", memory_bytes);
            for i in 0..count {
                sorter.push([i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50, i]).unwrap();
            }
            let (files, sorted) = (sorter.files.len(), sorter.finish().unwrap());
            (files, sorted.collect::<Result<Vec<_>>>().unwrap())
        };
        // 1,024 records a run: some of them, so many that they are gathered on the way, and that this happens
        // twice.
        for (count, files) in [(5000, 4), (300_000, 37), (600_000, 75)] {
            let (none, in_memory) = sorted(1 << 24, count);
            assert!(none == 0 && in_memory.is_sorted() && in_memory.len() == count as usize);
            assert_eq!(sorted(0, count), (files, in_memory));
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "runs are removed");
        }
        assert_eq!(sorted(0, 0), (0, Vec::new()));
    }
}
