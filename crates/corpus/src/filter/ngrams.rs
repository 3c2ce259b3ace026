//! Hashes of word n-grams in one multiplication each, and tables to count them in, kept between documents.

use crate::words::Token;

/// An odd multiplier: prefix hashes modulo 2⁶⁴.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15 | 1;

/// Prefix hashes of the words of a text, laid end to end.
#[derive(Default)]
pub struct WordHashes {
    prefix: Vec<u64>,
    /// Bytes and characters before each word.
    bytes: Vec<u32>,
    characters: Vec<u32>,
    powers: Vec<u64>,
}

impl WordHashes {
    /// Takes the words of a text.
    pub fn fill(&mut self, text: &str, words: &[Token]) {
        self.prefix.clear();
        self.bytes.clear();
        self.characters.clear();
        let (mut hash, mut bytes, mut characters) = (0u64, 0u32, 0u32);
        self.prefix.push(0);
        self.bytes.push(0);
        self.characters.push(0);
        for word in words {
            for &byte in &text.as_bytes()[word.start as usize..word.end as usize] {
                hash = hash.wrapping_mul(BASE).wrapping_add(u64::from(byte) + 1);
                characters += u32::from(byte & 0xc0 != 0x80);
            }
            bytes += word.end - word.start;
            self.prefix.push(hash);
            self.bytes.push(bytes);
            self.characters.push(characters);
        }
        while self.powers.len() <= bytes as usize {
            let last = self.powers.last().copied();
            self.powers.push(last.map_or(1, |power| power.wrapping_mul(BASE)));
        }
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.prefix.len() - 1
    }

    /// The hash of words `at..at + n` without anything between.
    pub fn joined(&self, at: usize, n: usize) -> u64 {
        let length = (self.bytes[at + n] - self.bytes[at]) as usize;
        let hash = self.prefix[at + n].wrapping_sub(self.prefix[at].wrapping_mul(self.powers[length]));
        scramble(hash ^ (length as u64) << 48)
    }

    /// The same with the borders between words told apart.
    pub fn spaced(&self, at: usize, n: usize) -> u64 {
        (at..at + n).fold(0, |hash: u64, word| hash.rotate_left(23).wrapping_mul(BASE) ^ self.joined(word, 1))
    }

    /// Characters of words `at..at + n`.
    pub fn characters(&self, at: usize, n: usize) -> usize {
        (self.characters[at + n] - self.characters[at]) as usize
    }
}

fn scramble(mut x: u64) -> u64 {
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

/// An open table from 64-bit hashes to counts; emptied by raising a number.
#[derive(Default)]
pub struct Counts {
    slots: Vec<Slot>,
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
    }

    /// Counts a key; how often it was there before. Small documents use the front of a large table.
    pub fn add(&mut self, key: u64, mask: usize) -> u32 {
        let mut at = key as usize & mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.generation != self.generation {
                *slot = Slot { key, generation: self.generation, count: 1 };
                return 0;
            }
            if slot.key == key {
                slot.count += 1;
                return slot.count - 1;
            }
            at = (at + 1) & mask;
        }
    }

    /// The mask for [`Counts::add`] when `expected` keys were asked for.
    pub fn mask(expected: usize) -> usize {
        (expected * 2).next_power_of_two().max(64) - 1
    }
}
