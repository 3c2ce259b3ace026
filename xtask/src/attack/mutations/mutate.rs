//! Mutations: bit flips, odd numbers, cuts, repetitions, splices.

use compute::rng::Rng;

/// No mutation grows a file beyond this.
const MOST_BYTES: usize = 1 << 20;
/// Sizes and counts that overflow arithmetic.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    1 << 20,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];
/// The same for text formats.
const SPELLINGS: [&str; 12] = [
    "0",
    "-1",
    "1e999",
    "-0",
    "18446744073709551616",
    "9223372036854775808",
    "4294967296",
    "99999999999",
    "0.5",
    "NaN",
    "",
    "[]",
];

/// One of several.
pub fn pick<'a, T>(rng: &mut Rng, items: &'a [T]) -> &'a T {
    &items[rng.below(items.len() as u64) as usize]
}

/// `bytes` after one to six changes; pieces of `other` may get in.
pub fn mutated(bytes: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.is_empty() {
        bytes = (0..rng.below(400)).map(|_| rng.next_u64() as u8).collect();
    }
    for _ in 0..=rng.below(6) {
        if bytes.is_empty() {
            break;
        }
        change(&mut bytes, other, rng);
    }
    bytes.truncate(MOST_BYTES);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let length = bytes.len() as u64;
    let at = rng.below(length) as usize;
    match rng.below(13) {
        0 | 1 => bytes[at] ^= 1 << rng.below(8),
        2 => bytes[at] = *pick(rng, b"\0\xff\x7f\x80\"'<>{}[]()/\\\n\r,:;%&= 9"),
        3 => {
            let number = *pick(rng, &NUMBERS);
            let number = if rng.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
            let width = 1usize << rng.below(4);
            let number = if rng.below(2) == 0 { &number[..width] } else { &number[8 - width..] };
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        4 | 5 => respell_number(bytes, at, rng),
        6 => bytes.truncate(at),
        7 => {
            let range = range(bytes, rng);
            bytes.drain(range);
        }
        8 => {
            // Repeated, sometimes thousands of times, for depth and counts.
            let range = range(bytes, rng);
            let piece = bytes[range].to_vec();
            let most = ((256 << 10) / piece.len().max(1)).min(1 << rng.below(14)).max(1);
            let room = MOST_BYTES.saturating_sub(bytes.len()) / piece.len().max(1);
            let piece = piece.repeat(most.min(room));
            bytes.splice(at..at, piece);
        }
        9 => {
            let piece: Vec<u8> = (0..=rng.below(16)).map(|_| rng.next_u64() as u8).collect();
            bytes.splice(at..at, piece);
        }
        10 if !other.is_empty() => {
            let piece = other[range(other, rng)].to_vec();
            let end = (at + rng.below(piece.len() as u64 + 1) as usize).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        11 => {
            let (from, to) = (range(bytes, rng), rng.below(length) as usize);
            let piece = bytes[from].to_vec();
            let end = (to + piece.len()).min(bytes.len());
            bytes[to..end].copy_from_slice(&piece[..end - to]);
        }
        _ => {
            let range = range(bytes, rng);
            let filling = *pick(rng, &[0, 0xff, b' ', b'9']);
            bytes[range].fill(filling);
        }
    }
}

/// A random range of `bytes`, mostly a short one.
fn range(bytes: &[u8], rng: &mut Rng) -> std::ops::Range<usize> {
    let from = rng.below(bytes.len() as u64) as usize;
    let longest = if rng.below(4) == 0 { bytes.len() } else { 24 };
    from..(from + 1 + rng.below(longest as u64) as usize).min(bytes.len())
}

/// Replaces the next number in digits by an odd one.
fn respell_number(bytes: &mut Vec<u8>, at: usize, rng: &mut Rng) {
    let Some(from) = bytes[at..].iter().position(u8::is_ascii_digit).map(|place| at + place) else { return };
    let digits = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.splice(from..from + digits, pick(rng, &SPELLINGS).bytes());
}
