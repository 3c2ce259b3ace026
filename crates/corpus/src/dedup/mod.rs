//! Near-duplicate detection: MinHash with locality-sensitive hashing, with datatrove's parameters.
//! Documents that share all hashes of a band form a near-duplicate cluster, of which one is kept. The size of
//! sorted runs does not affect the result. Reading order: `options`, `signature`, `sort`, `clusters`, this
//! file; then removal within documents: `lines`, `spans`.

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

/// Sort key: the number of the band and the start of its first row, the hash of all its rows, and the
/// document. Sorted like this, equal bands are adjacent, in datatrove's order. All bands share one sort.
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

/// Collects signatures, then finds the near-duplicate clusters.
pub struct NearDuplicates<'a> {
    sorter: Sorter<'a, Pair>,
    documents: u32,
}

impl<'a> NearDuplicates<'a> {
    /// `folder` is for files of data that exceed the memory limit.
    pub fn new(fs: &'a dyn Fs, folder: &Path, options: &DuplicateOptions) -> NearDuplicates<'a> {
        NearDuplicates { sorter: Sorter::new(fs, folder, "pairs", options.memory_mb << 20), documents: 0 }
    }

    /// Adds the signature of the next document.
    pub fn push(&mut self, bands: Option<&[Band]>) -> Result<()> {
        for (number, band) in (0u64..).zip(bands.unwrap_or_default()) {
            // A row has 61 bits: the upper 56 suffice for the order.
            self.sorter.push((number << 56 | band.first >> 5, band.all, self.documents))?;
        }
        self.documents += 1;
        Ok(())
    }

    /// For each document, the kept document of its cluster, which may be itself.
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
