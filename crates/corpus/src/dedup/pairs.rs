//! Band hashes with their documents, sorted outside memory: runs of fixed size are sorted and written, then merged.
//!
//! 20 bytes a document and band, on disk; in memory one run. All bands go through one sort: their number leads.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use store::fs::{Fs, FsReader};

use crate::Result;

/// A band and the start of its first row, the hash of all its rows, and the document it is of: sorted so, equal bands of a
/// band's number stand together, in datatrove's order.
pub type Pair = (u64, u64, u32);

const PAIR_BYTES: usize = 20;

/// Takes pairs in any order and gives them sorted.
pub struct PairSorter<'a> {
    fs: &'a dyn Fs,
    folder: PathBuf,
    run: Vec<Pair>,
    run_pairs: usize,
    files: Vec<PathBuf>,
}

impl<'a> PairSorter<'a> {
    /// Keeps at most `run_pairs` in memory; more are written to files in `folder`.
    pub fn new(fs: &'a dyn Fs, folder: &Path, run_pairs: usize) -> PairSorter<'a> {
        let run_pairs = run_pairs.max(1024);
        let mut run = Vec::new();
        // Growing by doubling would take up to three times what was granted. Where so much cannot be had at once it grows.
        let _ = run.try_reserve_exact(run_pairs);
        PairSorter { fs, folder: folder.to_owned(), run, run_pairs, files: Vec::new() }
    }

    /// Takes a pair.
    pub fn push(&mut self, pair: Pair) -> Result<()> {
        self.run.push(pair);
        if self.run.len() >= self.run_pairs { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.run.sort_unstable();
        let path = self.folder.join(format!("pairs-{:05}.tmp", self.files.len()));
        let write = || {
            let mut file = BufWriter::with_capacity(1 << 20, self.fs.create(&path)?);
            for (order, hash, document) in &self.run {
                file.write_all(&order.to_le_bytes())?;
                file.write_all(&hash.to_le_bytes())?;
                file.write_all(&document.to_le_bytes())?;
            }
            file.flush()
        };
        write().map_err(store::Error::io("write", &path))?;
        self.files.push(path);
        self.run.clear();
        Ok(())
    }

    /// Gives all pairs in order to `take`, and removes the files.
    pub fn finish(mut self, mut take: impl FnMut(Pair)) -> Result<()> {
        self.run.sort_unstable();
        if self.files.is_empty() {
            self.run.iter().for_each(|&pair| take(pair));
            return Ok(());
        }
        self.spill()?;
        // 64 KB a run: a thousand runs, 10^11 pairs, take 64 MB.
        let mut runs = Vec::new();
        for path in &self.files {
            let file = self.fs.open(path).map_err(store::Error::io("read", path))?;
            runs.push(BufReader::with_capacity(64 << 10, file));
        }
        let mut heads = BinaryHeap::new();
        let next = |runs: &mut Vec<BufReader<Box<dyn FsReader>>>, run: usize| {
            read_pair(&mut runs[run]).map_err(store::Error::io("read", &self.files[run]))
        };
        for run in 0..runs.len() {
            heads.extend(next(&mut runs, run)?.map(|pair| Reverse((pair, run))));
        }
        while let Some(Reverse((pair, run))) = heads.pop() {
            take(pair);
            heads.extend(next(&mut runs, run)?.map(|pair| Reverse((pair, run))));
        }
        drop(runs);
        for path in &self.files {
            self.fs.remove_file(path).map_err(store::Error::io("remove", path))?;
        }
        Ok(())
    }
}

fn read_pair(file: &mut impl Read) -> std::io::Result<Option<Pair>> {
    let mut bytes = [0; PAIR_BYTES];
    let mut filled = 0;
    while filled < PAIR_BYTES {
        match file.read(&mut bytes[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    let word = |range: std::ops::Range<usize>| {
        bytes[range].iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte))
    };
    Ok(Some((word(0..8), word(8..16), word(16..20) as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::fs::RealFs;

    #[test]
    fn runs_on_disk_and_in_memory_give_the_same_order() {
        let folder = tempfile::tempdir().unwrap();
        let sorted = |run_pairs| {
            let mut sorter = PairSorter::new(&RealFs, folder.path(), run_pairs);
            for i in 0..5000u64 {
                sorter.push((i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50, i, i as u32)).unwrap();
            }
            let mut out = Vec::new();
            sorter.finish(|pair| out.push(pair)).unwrap();
            out
        };
        let in_memory = sorted(1 << 20);
        assert_eq!(sorted(1024), in_memory);
        assert!(in_memory.is_sorted() && in_memory.len() == 5000);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "runs are removed");
    }
}
