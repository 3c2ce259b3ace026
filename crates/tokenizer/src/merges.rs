//! Trains byte-pair merges: the most frequent pair becomes a token, repeatedly (Sennrich et al. 2016).
//!
//! The result is that of `tokenizers::BpeTrainer` where that is deterministic: pairs by count, ties by the
//! lower ids. It differs if a token can be built in two ways ("th"+"e", "t"+"he"): the library then queues
//! one pair twice with parts of its positions, in an order that varies from run to run. Here a pair is in the
//! table once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use crate::vocabulary::Base;

type Pair = (u32, u32);

/// Tokens trained in addition to the base vocabulary.
pub struct Learned {
    /// Bytes of each new token; ids follow the base vocabulary.
    pub tokens: Vec<Vec<u8>>,
    /// Merges in order.
    pub merges: Vec<Pair>,
}

/// The occurrences of a pair.
#[derive(Default)]
struct Places {
    count: i64,
    /// Indices of words; may repeat, and may include words that no longer have the pair.
    words: Vec<u32>,
}

/// Multiplicative hashing of two ids; the default hasher takes a third of the training time.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0.rotate_left(32) ^ u64::from(id)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

type PairTable = HashMap<Pair, Places, BuildHasherDefault<PairHasher>>;

/// Trains until the vocabulary has `vocab_size` tokens, at most 65,536, or no pair occurs `min_frequency`
/// times. No token equals one of `forbidden`. `progress` gets the vocabulary size from time to time.
pub fn learn(
    words: &[(Box<str>, u64)],
    base: &Base,
    vocab_size: usize,
    min_frequency: u64,
    forbidden: &[Vec<u8>],
    progress: &mut dyn FnMut(usize),
) -> Learned {
    let mut spellings: Vec<Vec<u8>> = vec![Vec::new(); base.len];
    let mut ids: HashMap<Vec<u8>, u32> = HashMap::new();
    for (byte, id) in base.byte_ids.iter().enumerate() {
        if let Some(id) = *id {
            spellings[id as usize] = vec![byte as u8];
            ids.insert(vec![byte as u8], id);
        }
    }
    let mut sequences: Vec<Vec<u16>> = words.iter().map(|(word, _)| sequence(word, base)).collect();
    let mut pairs = count_pairs(&sequences, words);
    let mut queue: BinaryHeap<(i64, Reverse<Pair>)> =
        pairs.iter().map(|(&pair, places)| (places.count, Reverse(pair))).collect();

    let mut merges = Vec::new();
    let mut merged: HashMap<Pair, u32> = HashMap::new();
    let mut changed: Vec<Pair> = Vec::new();
    while spellings.len() < vocab_size {
        let Some((count, Reverse(pair))) = queue.pop() else { break };
        let Some(places) = pairs.get(&pair) else { continue };
        if places.count != count {
            // A higher count has its own entry in the queue already; a lower one is queued again.
            if places.count < count && places.count > 0 {
                queue.push((places.count, Reverse(pair)));
            }
            continue;
        }
        if count < 1 || (count as u64) < min_frequency {
            break;
        }
        let Some(mut places) = pairs.remove(&pair) else { continue };
        let spelling = [spellings[pair.0 as usize].as_slice(), &spellings[pair.1 as usize]].concat();
        if forbidden.contains(&spelling) {
            continue;
        }
        let id = *merged.entry(pair).or_insert_with(|| {
            merges.push(pair);
            *ids.entry(spelling).or_insert_with_key(|spelling| {
                spellings.push(spelling.clone());
                spellings.len() as u32 - 1
            })
        });

        places.words.sort_unstable();
        places.words.dedup();
        for word in places.words {
            let times = i64::try_from(words[word as usize].1).unwrap_or(i64::MAX);
            merge_in(&mut sequences[word as usize], narrow(pair), id as u16, |neighbors, sign| {
                // The pair itself is being replaced ("aaa"): its positions have been removed from the table.
                if neighbors == pair {
                    return;
                }
                let places = pairs.entry(neighbors).or_default();
                places.count += sign * times;
                if sign > 0 {
                    if places.words.last() != Some(&word) {
                        places.words.push(word);
                    }
                    changed.push(neighbors);
                }
            });
        }
        changed.sort_unstable();
        changed.dedup();
        for pair in changed.drain(..) {
            if let Some(places) = pairs.get(&pair).filter(|places| places.count > 0) {
                queue.push((places.count, Reverse(pair)));
            }
        }
        if merges.len() % 64 == 0 {
            progress(spellings.len());
        }
    }
    Learned { tokens: spellings.split_off(base.len), merges }
}

/// The bytes of a word as ids. If no word repeats, sequences are as large as the text; no vocabulary has more
/// ids than 16 bits.
fn sequence(word: &str, base: &Base) -> Vec<u16> {
    let mut ids = Vec::with_capacity(word.len());
    ids.extend(word.bytes().filter_map(|byte| base.byte_ids[usize::from(byte)]).map(|id| id as u16));
    ids
}

fn narrow(pair: Pair) -> (u16, u16) {
    (pair.0 as u16, pair.1 as u16)
}

fn wide(left: u16, right: u16) -> Pair {
    (left.into(), right.into())
}

fn count_pairs(sequences: &[Vec<u16>], words: &[(Box<str>, u64)]) -> PairTable {
    let mut pairs = PairTable::default();
    for (word, sequence) in sequences.iter().enumerate() {
        let times = i64::try_from(words[word].1).unwrap_or(i64::MAX);
        for pair in sequence.windows(2) {
            let places = pairs.entry(wide(pair[0], pair[1])).or_default();
            places.count = places.count.saturating_add(times);
            if places.words.last() != Some(&(word as u32)) {
                places.words.push(word as u32);
            }
        }
    }
    pairs
}

/// Replaces each occurrence of `pair`, left to right, and reports which neighboring pairs were removed (−1)
/// and added (+1).
fn merge_in(sequence: &mut Vec<u16>, pair: (u16, u16), id: u16, mut tell: impl FnMut(Pair, i64)) {
    let mut kept = 0;
    let mut at = 0;
    while at < sequence.len() {
        let is_pair = sequence[at] == pair.0 && sequence.get(at + 1) == Some(&pair.1);
        if !is_pair {
            sequence[kept] = sequence[at];
            kept += 1;
            at += 1;
            continue;
        }
        if kept > 0 {
            tell(wide(sequence[kept - 1], pair.0), -1);
            tell(wide(sequence[kept - 1], id), 1);
        }
        if let Some(&next) = sequence.get(at + 2) {
            tell(wide(pair.1, next), -1);
            tell(wide(id, next), 1);
        }
        sequence[kept] = id;
        kept += 1;
        at += 2;
    }
    sequence.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizerOptions;

    fn learned(words: &[(&str, u64)], extra: usize, forbidden: &[&str]) -> Vec<String> {
        let words: Vec<_> = words.iter().map(|&(word, count)| (word.into(), count)).collect();
        let base = Base::new(&TokenizerOptions::default(), 1000);
        let forbidden: Vec<_> = forbidden.iter().map(|text| text.as_bytes().to_vec()).collect();
        let learned = learn(&words, &base, base.len + extra, 2, &forbidden, &mut |_| ());
        learned.tokens.into_iter().map(|token| String::from_utf8(token).unwrap()).collect()
    }

    #[test]
    fn the_most_frequent_pair_first_and_ties_by_id() {
        assert_eq!(learned(&[("ab", 5), ("bc", 5), ("cd", 6)], 9, &[]), ["cd", "ab", "bc"]);
        assert_eq!(learned(&[("lower", 5), ("low", 2), ("newer", 3)], 3, &[]), ["er", "wer", "lo"]);
        assert_eq!(learned(&[("once", 1)], 9, &[]), [""; 0], "below min_frequency nothing is merged");
    }

    #[test]
    fn runs_of_one_letter_are_counted_once_each() {
        assert_eq!(learned(&[("aaaa", 3), ("aaa", 2)], 9, &[]), ["aa", "aaaa", "aaa"]);
    }

    #[test]
    fn a_special_token_s_spelling_is_never_learned() {
        assert_eq!(learned(&[("abab", 9)], 9, &["ab"]), ["ba", "aba", "abab"]);
    }
}
