//! Near-duplicates: MinHash with locality-sensitive hashing, by datatrove's parameters.
//!
//! Documents that share all hashes of a band are one cluster, of which one survives. The size of runs does
//! not change the outcome. Reading order: `options`, `signature`, `sort`, `clusters`, this file; then what is
//! removed within documents: `lines`, `spans`.

mod clusters;
pub mod lines;
mod options;
mod parameters;
mod repeated;
mod signature;
mod sort;
pub mod spans;

use std::path::Path;

use store::fs::Fs;

use crate::Result;
use clusters::Clusters;
pub use options::DuplicateOptions;
pub use repeated::Repeated;
pub(crate) use repeated::hash;
pub use signature::{Band, Signer};
use sort::{Record, Sorter, word};

/// A band and the start of its first row, the hash of all its rows, and the document it is of: sorted so,
/// equal bands of a band's number stand together, in datatrove's order. All bands go through one sort: their
/// number leads.
type Pair = (u64, u64, u32);

impl Record for Pair {
    const BYTES: usize = 20;

    fn put(self, bytes: &mut [u8]) {
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.1.to_le_bytes());
        bytes[16..].copy_from_slice(&self.2.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Pair {
        let document = bytes[16..].iter().rev().fold(0, |document, &byte| document << 8 | u32::from(byte));
        (word(bytes), word(&bytes[8..]), document)
    }
}

/// Collects signatures, then tells who is whose duplicate.
pub struct NearDuplicates<'a> {
    sorter: Sorter<'a, Pair>,
    documents: u32,
}

impl<'a> NearDuplicates<'a> {
    /// Spills to files in `folder`.
    pub fn new(fs: &'a dyn Fs, folder: &Path, options: &DuplicateOptions) -> NearDuplicates<'a> {
        NearDuplicates { sorter: Sorter::new(fs, folder, "pairs", options.memory_mb << 20), documents: 0 }
    }

    /// Takes the next document's signature.
    pub fn push(&mut self, bands: Option<&[Band]>) -> Result<()> {
        for (number, band) in (0u64..).zip(bands.unwrap_or_default()) {
            // A row has 61 bits: its upper 56 are order enough.
            self.sorter.push((number << 56 | band.first >> 5, band.all, self.documents))?;
        }
        self.documents += 1;
        Ok(())
    }

    /// For each document, the survivor of its cluster: itself, where it survives.
    pub fn finish(self) -> Result<Vec<u32>> {
        let mut clusters = Clusters::new(self.documents as usize);
        let mut before: Option<Pair> = None;
        for pair in self.sorter.finish()? {
            let pair = pair?;
            if let Some((order, hash, document)) = before
                && (order, hash) == (pair.0, pair.1)
            {
                clusters.join(document, pair.2);
            }
            before = Some(pair);
        }
        Ok((0..self.documents).map(|document| clusters.root(document)).collect())
    }
}
