//! The data stages on many machines: each of N ranks does a part of the work and leaves a folder, and one
//! process puts the folders together to the same bytes that it would have made alone.
//!
//! A part is a contiguous range of the sources or documents, a function of their list and N alone. A folder
//! whose manifest matches and verifies is the mark that its rank is done; nothing else is asked. Reading
//! order: this file, `filter`, then `encode`.

pub mod encode;
pub mod filter;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use store::fs::Fs;
use store::manifest::Manifest;
use store::stage::Stage;

use crate::{Error, RankFault, Result};

/// One of the processes that share a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    number: usize,
    of: usize,
}

impl Rank {
    /// Maximum number of ranks.
    pub const MOST: usize = 99_999;

    /// The rank `number` of `of`, counted from 0.
    ///
    /// # Errors
    /// A number that is not below `of`.
    pub fn new(number: usize, of: usize) -> Result<Rank> {
        if number < of && of <= Rank::MOST {
            return Ok(Rank { number, of });
        }
        Err(Error::NoRank { number, of, most: Rank::MOST })
    }

    /// Number of the rank, from 0.
    pub fn number(self) -> usize {
        self.number
    }

    /// Number of ranks.
    pub fn of(self) -> usize {
        self.of
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.number, self.of)
    }
}

/// The output of a stage's ranks.
#[derive(Clone, Copy, Debug)]
pub struct Ranks<'a> {
    /// The folder of all ranks' folders.
    pub folder: &'a Path,
    /// Number of ranks.
    pub of: usize,
}

impl Ranks<'_> {
    /// The folder of a rank.
    pub fn of_rank(&self, stage: &str, number: usize) -> PathBuf {
        self.folder.join(format!("{stage}-{number:05}-of-{:05}", self.of))
    }

    /// Checks that each rank has done its share, to the last byte.
    pub(crate) fn verify(&self, fs: &dyn Fs, expected: impl Fn(Rank) -> Stage) -> Result<()> {
        let mut ranks = Vec::new();
        let mut name = "";
        for number in 0..self.of {
            let stage = expected(Rank { number, of: self.of });
            name = stage.name;
            let folder = self.of_rank(name, number);
            // Not repaired: the rank may be at work.
            if !fs.exists(&folder) {
                ranks.push((number, RankFault::Missing));
                continue;
            }
            match Manifest::read(fs, &folder) {
                Ok(manifest) if stage.is_of(&manifest) => {
                    if manifest.verify(fs, &folder).is_err() {
                        ranks.push((number, RankFault::Damaged));
                    }
                }
                Ok(_) => ranks.push((number, RankFault::Stale)),
                Err(_) => ranks.push((number, RankFault::Damaged)),
            }
        }
        if ranks.is_empty() {
            return Ok(());
        }
        Err(Error::RanksMissing { stage: name, of: self.of, ranks })
    }
}

/// Cuts `0..length` into `of` contiguous parts of about the same length.
pub(crate) fn even_shares(length: u64, of: usize) -> impl Iterator<Item = Range<u64>> {
    let cut = move |at: usize| (u128::from(length) * at as u128 / of as u128) as u64;
    (0..of).map(move |number| cut(number)..cut(number + 1))
}

/// Cuts a list into `of` contiguous shares of about the same weight. A part goes where its middle falls, so
/// none is cut.
fn shares(weights: &[u64], of: usize) -> Vec<Range<usize>> {
    // What weighs nothing is work all the same.
    let weight = |weight: &u64| u128::from(*weight) + 1;
    let total: u128 = weights.iter().map(weight).sum();
    let mut ends = vec![0; of];
    let mut before = 0;
    for (at, weight) in weights.iter().map(weight).enumerate() {
        let rank = ((2 * before + weight) * of as u128 / (2 * total)) as usize;
        ends[rank.min(of - 1)] = at + 1;
        before += weight;
    }
    let mut start = 0;
    let share = |end: usize| {
        let share = start..end.max(start);
        start = share.end;
        share
    };
    ends.into_iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_contiguous_and_even() {
        let check = |weights: &[u64], of: usize, wanted: &[Range<usize>]| {
            assert_eq!(shares(weights, of), wanted, "{weights:?} of {of}");
        };
        check(&[10, 10, 10, 10], 2, &[0..2, 2..4]);
        check(&[100, 1, 1, 1], 2, &[0..1, 1..4]);
        check(&[1, 1, 1, 100], 2, &[0..3, 3..4]);
        check(&[0, 0, 0], 3, &[0..1, 1..2, 2..3]);
        check(&[5], 3, &[0..0, 0..1, 1..1]);
        check(&[], 2, &[0..0, 0..0]);
        for of in 1..20 {
            let weights: Vec<u64> = (0..97).map(|i| i * 7919 % 1000).collect();
            let shares = shares(&weights, of);
            assert_eq!((shares.len(), shares[0].start, shares[of - 1].end), (of, 0, weights.len()));
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
            let sums = shares.into_iter().map(|share| weights[share].iter().sum::<u64>());
            let (total, largest) = (weights.iter().sum::<u64>(), 1000);
            assert!(sums.into_iter().all(|sum| sum <= total / of as u64 + 2 * largest), "{of}");
        }
    }

    #[test]
    fn ranks_count_from_zero() {
        assert_eq!(Rank::new(1, 2).unwrap().to_string(), "rank 1 of 2");
        for (number, of) in [(2, 2), (0, 0), (0, Rank::MOST + 1)] {
            assert!(Rank::new(number, of).is_err());
        }
    }
}
