//! Hashes of all windows of a text, each carried on from the one before (Karp and Rabin 1987): the window's
//! bytes as digits of a number, modulo the prime 2⁶¹ − 1.
//!
//! Two different windows of n bytes have one hash with a probability of n / 2⁶¹ over the choice of the base.
//! The bases are constants, since the outcome is to be a function of the text: whoever wants two windows to
//! look the same can make them so.

use crate::dedup::parameters::MERSENNE;

/// How to hash windows of one length.
pub struct Rolling {
    base: u64,
    /// By byte, what takes it off as it leaves.
    leaving: [u64; 256],
}

impl Rolling {
    /// Of windows of so many bytes; `base` is below 2⁶¹ − 1.
    pub fn new(base: u64, bytes: usize) -> Rolling {
        let power = (0..bytes).fold(1, |power, _| multiply_add(power, base, 0));
        Rolling { base, leaving: std::array::from_fn(|byte| MERSENNE - multiply_add(power, byte as u64, 0)) }
    }

    /// The hash of a window.
    pub fn of(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |hash, &byte| multiply_add(hash, self.base, u64::from(byte)))
    }

    /// The hash of the next window: a byte leaves, another enters.
    #[inline]
    pub fn next(&self, hash: u64, leaving: u8, entering: u8) -> u64 {
        multiply_add(hash, self.base, self.leaving[usize::from(leaving)] + u64::from(entering))
    }
}

/// a·b + c, for a and b below the prime and c below 2⁶².
#[inline]
fn multiply_add(a: u64, b: u64, c: u64) -> u64 {
    let sum = u128::from(a) * u128::from(b) + u128::from(c);
    let folded = (sum as u64 & MERSENNE) + (sum >> 61) as u64;
    if folded >= MERSENNE { folded - MERSENNE } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_the_hash_that_they_have_alone() {
        let text: Vec<u8> = (0..2000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
        for (base, bytes) in [(MERSENNE - 1, 1), (0x1234_5678_9abc_def0, 7), (MERSENNE - 2, 200)] {
            let rolling = Rolling::new(base, bytes);
            let number = |window: &[u8]| {
                let digits = window.iter().map(|&byte| u128::from(byte));
                digits.fold(0, |hash, byte| (hash * u128::from(base) + byte) % u128::from(MERSENNE))
            };
            let mut hash = rolling.of(&text[..bytes]);
            for (at, window) in text.windows(bytes).enumerate() {
                if at > 0 {
                    hash = rolling.next(hash, text[at - 1], text[at + bytes - 1]);
                }
                assert_eq!(u128::from(hash), number(window));
            }
        }
    }
}
