//! Hashes of word n-grams in one multiplication each, and which of them repeat.
//!
//! Most n-grams of a text come once. A sieve of bits that fits into a near cache finds them; only the others
//! are counted.

use crate::words::{Token, WIDE};

/// An odd multiplier: hashes are numbers in this base modulo 2⁶⁴.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15 | 1;
/// Its powers, for as many bytes as n words mostly have.
static POWERS: [u64; 256] = {
    let mut powers = [1u64; 256];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1].wrapping_mul(BASE);
        at += 1;
    }
    powers
};

fn power(length: u32) -> u64 {
    POWERS.get(length as usize).copied().unwrap_or_else(|| BASE.wrapping_pow(length))
}

/// Hashes of the words of a text, and of the words laid end to end.
#[derive(Default)]
pub struct WordHashes {
    words: Vec<u64>,
    /// Of the words before each.
    prefix: Vec<u64>,
    bytes: Vec<u32>,
    characters: Vec<u32>,
}

impl WordHashes {
    /// Sets the words of a text.
    pub fn fill(&mut self, text: &str, words: &[Token]) {
        self.words.clear();
        self.prefix.clear();
        self.bytes.clear();
        self.characters.clear();
        let (mut prefix, mut bytes, mut characters) = (0u64, 0u32, 0u32);
        self.prefix.push(0);
        self.bytes.push(0);
        self.characters.push(0);
        for word in words {
            let (start, end) = (word.start as usize, word.end as usize);
            let (hash, length) = (hash(text.as_bytes(), start, end), word.end - word.start);
            prefix = prefix.wrapping_mul(power(length)).wrapping_add(hash);
            bytes += length;
            characters +=
                if word.classes & WIDE == 0 { length } else { text[start..end].chars().count() as u32 };
            self.words.push(with_length(hash, length));
            self.prefix.push(prefix);
            self.bytes.push(bytes);
            self.characters.push(characters);
        }
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Characters of words `at..at + n`.
    pub fn characters(&self, at: usize, n: usize) -> usize {
        (self.characters[at + n] - self.characters[at]) as usize
    }
}

/// Bytes as digits of a number in base [`BASE`]. A word's first byte is its highest digit.
fn hash(text: &[u8], start: usize, end: usize) -> u64 {
    let (mut at, mut hash) = (start, 0u64);
    while end - at > 8 {
        hash = hash.wrapping_mul(POWERS[8]).wrapping_add(eight_digits(eight_bytes(text, at)));
        at += 8;
    }
    let rest = eight_bytes(text, at) >> (8 * (8 - (end - at)));
    hash.wrapping_mul(POWERS[end - at]).wrapping_add(eight_digits(rest))
}

/// The eight bytes at a place, the first highest; zeros beyond the text's end.
fn eight_bytes(text: &[u8], at: usize) -> u64 {
    match text[at..].first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..text.len() - at].copy_from_slice(&text[at..]);
            u64::from_be_bytes(bytes)
        }
    }
}

fn eight_digits(bytes: u64) -> u64 {
    (0..8).fold(0u64, |sum, digit| {
        sum.wrapping_add(((bytes >> (8 * digit)) & 0xff).wrapping_mul(POWERS[digit]))
    })
}

/// Zero bytes are digits that only the length tells.
fn with_length(hash: u64, length: u32) -> u64 {
    let x = hash ^ u64::from(length) << 48;
    let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

/// An n-gram: its first word and its hash.
#[derive(Clone, Copy)]
pub struct Gram {
    pub at: u32,
    pub hash: u64,
}

/// The n-grams of a text that may come more than once, in their order: all that do, and a few more.
#[derive(Default)]
pub struct Repeated {
    grams: Vec<Gram>,
    sieve: Sieve,
}

impl Repeated {
    /// Starts with single words.
    pub fn begin(&mut self, hashes: &WordHashes) {
        self.grams.clear();
        self.grams.extend((0..).zip(&hashes.words).map(|(at, &hash)| Gram { at, hash }));
    }

    /// From the n-grams of `n - 1` words to those of `n`, words told apart: where one repeats, so does its
    /// beginning.
    pub fn lengthen(&mut self, hashes: &WordHashes, n: usize) -> &[Gram] {
        while self.grams.last().is_some_and(|gram| gram.at as usize + n > hashes.len()) {
            self.grams.pop();
        }
        self.sieve.clear(self.grams.len());
        for gram in &mut self.grams {
            let next = hashes.words[gram.at as usize + n - 1];
            gram.hash = gram.hash.rotate_left(23).wrapping_mul(BASE) ^ next;
            self.sieve.add(gram.hash);
        }
        self.retain()
    }

    /// All n-grams of `n` words without anything between. Where the borders of words differ, two can be equal
    /// that do not begin with equal words, so that all are looked at.
    pub fn joined(&mut self, hashes: &WordHashes, n: usize) -> &[Gram] {
        self.grams.clear();
        self.sieve.clear(hashes.len() + 1 - n);
        let prefixes = hashes.prefix.iter().zip(&hashes.prefix[n..]);
        let bytes = hashes.bytes.iter().zip(&hashes.bytes[n..]);
        let sieve = &mut self.sieve;
        self.grams.extend((0..).zip(prefixes.zip(bytes)).map(|(at, ((before, behind), (start, end)))| {
            let length = end - start;
            let hash = with_length(behind.wrapping_sub(before.wrapping_mul(power(length))), length);
            sieve.add(hash);
            Gram { at, hash }
        }));
        self.retain()
    }

    /// Keeps n-grams that may repeat; branch-free, since branches would be unpredictable.
    fn retain(&mut self) -> &[Gram] {
        let mut kept = 0;
        for at in 0..self.grams.len() {
            let gram = self.grams[at];
            self.grams[kept] = gram;
            kept += usize::from(self.sieve.may_repeat(gram.hash));
        }
        self.grams.truncate(kept);
        &self.grams
    }
}

/// Two bits by hash, for "came" and "came again", sixteen pairs a key.
#[derive(Default)]
struct Sieve {
    bits: Vec<[u64; 2]>,
    shift: u32,
}

impl Sieve {
    fn clear(&mut self, expected: usize) {
        let pairs = (expected * 16).next_power_of_two().max(64);
        self.bits.clear();
        self.bits.resize(pairs / 64, [0; 2]);
        self.shift = 64 - pairs.ilog2();
    }

    fn add(&mut self, hash: u64) {
        let place = hash >> self.shift;
        let bit = 1 << (place % 64);
        let [came, again] = &mut self.bits[(place / 64) as usize];
        *again |= *came & bit;
        *came |= bit;
    }

    fn may_repeat(&self, hash: u64) -> bool {
        let place = hash >> self.shift;
        self.bits[(place / 64) as usize][1] >> (place % 64) & 1 != 0
    }
}

/// An open table from 64-bit hashes to counts, kept between documents; emptied by raising a number.
#[derive(Default)]
pub struct Counts {
    slots: Vec<Slot>,
    /// Small documents use the front of a large table.
    mask: usize,
    generation: u32,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    key: u64,
    generation: u32,
    count: u32,
}

impl Counts {
    /// Empties the table and makes room for `expected` keys.
    pub fn clear(&mut self, expected: usize) {
        let size = (expected * 2).next_power_of_two().max(64);
        if self.slots.len() < size || self.generation == u32::MAX {
            self.slots = vec![Slot::default(); size.max(self.slots.len())];
            self.generation = 0;
        }
        self.generation += 1;
        self.mask = size - 1;
    }

    /// Counts a key; how often it was there before.
    pub fn add(&mut self, key: u64) -> u32 {
        let slot = self.slot(key);
        slot.count += 1;
        slot.count - 1
    }

    /// How often a key was counted.
    pub fn of(&mut self, key: u64) -> u32 {
        self.slot(key).count
    }

    fn slot(&mut self, key: u64) -> &mut Slot {
        let mut at = key as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot.generation != self.generation {
                self.slots[at] = Slot { key, generation: self.generation, count: 0 };
            } else if slot.key != key {
                at = (at + 1) & self.mask;
                continue;
            }
            return &mut self.slots[at];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words;

    fn hashes(text: &str) -> WordHashes {
        let (mut tokens, mut hashes) = (Vec::new(), WordHashes::default());
        words::split(text, &mut tokens);
        hashes.fill(text, &tokens);
        hashes
    }

    #[test]
    fn every_repeated_gram_is_found() {
        // Few words and short ones: most grams repeat, some with other borders.
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ["a", "b", "ab", "ba", "a-long-word-of-letters", "é"][(state >> 24) as usize % 6]
        };
        let words: Vec<&str> = (0..400).map(|_| next()).collect();
        let text = words.join(" ");
        let (mut tokens, mut hashes) = (Vec::new(), WordHashes::default());
        words::split(&text, &mut tokens);
        hashes.fill(&text, &tokens);
        let words: Vec<&str> =
            tokens.iter().map(|token| &text[token.start as usize..token.end as usize]).collect();
        let wanted = |n: usize, between: &str| {
            let grams: Vec<String> = words.windows(n).map(|words| words.join(between)).collect();
            let repeats = |gram: &String| grams.iter().filter(|other| *other == gram).count() > 1;
            (0u32..).zip(&grams).filter(|(_, gram)| repeats(gram)).map(|(at, _)| at).collect::<Vec<_>>()
        };
        let check = |grams: &[Gram], n, between| {
            let mut counts = Counts::default();
            counts.clear(grams.len());
            grams.iter().for_each(|gram| {
                counts.add(gram.hash);
            });
            let found: Vec<u32> =
                grams.iter().filter(|gram| counts.of(gram.hash) > 1).map(|gram| gram.at).collect();
            assert_eq!(found, wanted(n, between), "{n}");
        };
        let mut repeated = Repeated::default();
        repeated.begin(&hashes);
        for n in 2..=4 {
            check(repeated.lengthen(&hashes, n), n, " ");
        }
        for n in 5..=10 {
            check(repeated.joined(&hashes, n), n, "");
        }
    }

    #[test]
    fn joined_words_hash_as_one() {
        for (apart, joined) in [("ab cdefghijklm n", "abcdefghijklmn"), ("é x", "éx"), ("a b c", "abc")] {
            let (apart, joined) = (hashes(apart), hashes(joined));
            assert_eq!(apart.prefix.last(), joined.prefix.last());
        }
        let long = "x".repeat(300);
        let text = format!("{long} y {long}");
        assert_eq!(hashes(&text).prefix.last(), hashes(&format!("{long}y{long}")).prefix.last());
        assert_eq!(power(300), POWERS[150].wrapping_mul(POWERS[150]));
    }
}
