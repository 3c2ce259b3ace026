//! The types of tensors, and how their blocks become numbers.
//!
//! A row is a sequence of blocks, each of 32 or 256 values that share scales. All numbers are little-endian,
//! scales are f16, and a byte of two nibbles holds values half a block apart, so that one vector instruction
//! unpacks each half. Layouts: `ggml-common.h` of <https://github.com/ggml-org/llama.cpp>; arithmetic: its
//! `dequantize_row_*`, in the same order of operations, so that results are equal bit by bit.

use std::fmt;

use half::{bf16, f16};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorType {
    /// Plain f32.
    F32,
    /// Plain f16.
    F16,
    /// Plain bfloat16.
    BF16,
    /// 4 bits and a scale for 32 values.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32 values.
    Q4_1,
    /// 5 bits and a scale for 32 values.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32 values.
    Q5_1,
    /// 8 bits and a scale for 32 values.
    Q8_0,
    /// 2 bits in superblocks of 256; its size is known, its values are not read.
    Q2K,
    /// 3 bits in superblocks of 256; its size is known, its values are not read.
    Q3K,
    /// 4 bits in superblocks of 256 with 6-bit scales and minima.
    Q4K,
    /// 5 bits in superblocks of 256 with 6-bit scales and minima.
    Q5K,
    /// 6 bits in superblocks of 256 with 8-bit scales.
    Q6K,
    /// Any other number: not even its size is known.
    Other(u32),
}

/// Type, its number in a file, its name, values in a block, bytes of a block.
const TYPES: [(TensorType, u32, &str, usize, usize); 13] = [
    (TensorType::F32, 0, "F32", 1, 4),
    (TensorType::F16, 1, "F16", 1, 2),
    (TensorType::Q4_0, 2, "Q4_0", 32, 18),
    (TensorType::Q4_1, 3, "Q4_1", 32, 20),
    (TensorType::Q5_0, 6, "Q5_0", 32, 22),
    (TensorType::Q5_1, 7, "Q5_1", 32, 24),
    (TensorType::Q8_0, 8, "Q8_0", 32, 34),
    (TensorType::Q2K, 10, "Q2_K", 256, 84),
    (TensorType::Q3K, 11, "Q3_K", 256, 110),
    (TensorType::Q4K, 12, "Q4_K", 256, 144),
    (TensorType::Q5K, 13, "Q5_K", 256, 176),
    (TensorType::Q6K, 14, "Q6_K", 256, 210),
    (TensorType::BF16, 30, "BF16", 1, 2),
];

/// Names of types that are met in the wild and not read, for messages.
const OTHER_NAMES: [(u32, &str); 21] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// Turns whole blocks into as many values.
pub(super) type Decoder = fn(&[u8], &mut [f32]);

impl TensorType {
    pub(super) fn from_number(number: u32) -> TensorType {
        TYPES.iter().find(|row| row.1 == number).map_or(TensorType::Other(number), |row| row.0)
    }

    /// Values in a block and bytes of a block; `None` for [`TensorType::Other`].
    pub fn block(self) -> Option<(usize, usize)> {
        TYPES.iter().find(|row| row.0 == self).map(|row| (row.3, row.4))
    }

    /// How its values are read, where this program can.
    pub(super) fn decoder(self) -> Option<Decoder> {
        Some(match self {
            TensorType::F32 => |bytes, out| each(bytes, out, |b, [y]| *y = f32::from_le_bytes(*b)),
            TensorType::F16 => |bytes, out| each(bytes, out, |b, [y]| *y = f16::from_le_bytes(*b).to_f32()),
            TensorType::BF16 => |bytes, out| each(bytes, out, |b, [y]| *y = bf16::from_le_bytes(*b).to_f32()),
            TensorType::Q4_0 => |bytes, out| each(bytes, out, q4_0),
            TensorType::Q4_1 => |bytes, out| each(bytes, out, q4_1),
            TensorType::Q5_0 => |bytes, out| each(bytes, out, q5_0),
            TensorType::Q5_1 => |bytes, out| each(bytes, out, q5_1),
            TensorType::Q8_0 => |bytes, out| each(bytes, out, q8_0),
            TensorType::Q4K => |bytes, out| each(bytes, out, q4_k),
            TensorType::Q5K => |bytes, out| each(bytes, out, q5_k),
            TensorType::Q6K => |bytes, out| each(bytes, out, q6_k),
            TensorType::Q2K | TensorType::Q3K | TensorType::Other(_) => return None,
        })
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let TensorType::Other(number) = self {
            return match OTHER_NAMES.iter().find(|(known, _)| known == number) {
                Some((_, name)) => write!(f, "{name} (type {number})"),
                None => write!(f, "type {number}"),
            };
        }
        f.write_str(TYPES.iter().find(|row| row.0 == *self).map_or("", |row| row.2))
    }
}

/// Block by block.
fn each<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    for (block, values) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, values);
    }
}

fn scale(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// Value `i` of 2n values in n bytes: low nibbles are the first half.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    if i < bytes.len() { bytes[i] & 15 } else { bytes[i - bytes.len()] >> 4 }
}

/// f16 d, 16 bytes of nibbles q: d·(q − 8).
fn q4_0(block: &[u8; 18], y: &mut [f32; 32]) {
    let d = scale(block[0], block[1]);
    for (i, y) in y.iter_mut().enumerate() {
        *y = (f32::from(nibble(&block[2..], i)) - 8.0) * d;
    }
}

/// f16 d, f16 m, 16 bytes of nibbles q: d·q + m.
fn q4_1(block: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m) = (scale(block[0], block[1]), scale(block[2], block[3]));
    for (i, y) in y.iter_mut().enumerate() {
        *y = f32::from(nibble(&block[4..], i)) * d + m;
    }
}

/// The fifth bit of value `i`, from 4 bytes of them, at its place.
fn fifth_bit(bits: &[u8], i: usize) -> u8 {
    ((bits[i / 8] >> (i % 8)) & 1) << 4
}

/// f16 d, 4 bytes of fifth bits, 16 bytes of nibbles: d·(q − 16).
fn q5_0(block: &[u8; 22], y: &mut [f32; 32]) {
    let d = scale(block[0], block[1]);
    for (i, y) in y.iter_mut().enumerate() {
        let q = nibble(&block[6..], i) | fifth_bit(&block[2..6], i);
        *y = (f32::from(q) - 16.0) * d;
    }
}

/// f16 d, f16 m, 4 bytes of fifth bits, 16 bytes of nibbles: d·q + m.
fn q5_1(block: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m) = (scale(block[0], block[1]), scale(block[2], block[3]));
    for (i, y) in y.iter_mut().enumerate() {
        let q = nibble(&block[8..], i) | fifth_bit(&block[4..8], i);
        *y = f32::from(q) * d + m;
    }
}

/// f16 d, 32 signed bytes q: d·q.
fn q8_0(block: &[u8; 34], y: &mut [f32; 32]) {
    let d = scale(block[0], block[1]);
    for (y, q) in y.iter_mut().zip(&block[2..]) {
        *y = f32::from(*q as i8) * d;
    }
}

/// The 6-bit scale and minimum of group `g` of 8, out of 12 bytes: bytes 0–3 hold the scales and bytes 4–7
/// the minima of groups 0–3; of groups 4–7, bytes 8–11 hold the low 4 bits of both, and the top 2 bits of
/// bytes 0–7 the rest.
fn scale_and_minimum(packed: &[u8], g: usize) -> (u8, u8) {
    if g < 4 {
        (packed[g] & 63, packed[g + 4] & 63)
    } else {
        let (scale_top, minimum_top) = (packed[g - 4] >> 6, packed[g] >> 6);
        (packed[g + 4] & 15 | scale_top << 4, packed[g + 4] >> 4 | minimum_top << 4)
    }
}

/// f16 d, f16 dmin, 12 bytes of scales s and minima m, then 128 bytes of nibbles q, of which each 32 hold two
/// groups of 32 values: d·s·q − dmin·m.
fn q4_k(block: &[u8; 144], y: &mut [f32; 256]) {
    superblock(&block[..16], y, |g, l| nibble(&block[16 + g / 2 * 32..][..32], g % 2 * 32 + l));
}

/// As Q4_K, with 32 bytes before the nibbles: bit g of byte l is the fifth bit of value l of group g.
fn q5_k(block: &[u8; 176], y: &mut [f32; 256]) {
    superblock(&block[..16], y, |g, l| {
        nibble(&block[48 + g / 2 * 32..][..32], g % 2 * 32 + l) | ((block[16 + l] >> g) & 1) << 4
    });
}

/// The arithmetic of Q4_K and Q5_K: `quantum(g, l)` is value l of group g.
fn superblock(head: &[u8], y: &mut [f32; 256], quantum: impl Fn(usize, usize) -> u8) {
    let (d, dmin) = (scale(head[0], head[1]), scale(head[2], head[3]));
    for (g, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (s, m) = scale_and_minimum(&head[4..], g);
        let (s, m) = (d * f32::from(s), dmin * f32::from(m));
        for (l, y) in y.iter_mut().enumerate() {
            *y = s * f32::from(quantum(g, l)) - m;
        }
    }
}

/// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales s of 16 values each, f16 d: d·s·(q
/// − 32). Each half of the block has 64 bytes of nibbles and 32 of bit pairs; byte l of the latter serves
/// values l, l + 32, l + 64 and l + 96.
fn q6_k(block: &[u8; 210], y: &mut [f32; 256]) {
    let d = scale(block[208], block[209]);
    for (i, y) in y.iter_mut().enumerate() {
        let (half, r) = (i / 128, i % 128);
        let low = nibble(&block[half * 64..][..64], r);
        let high = (block[128 + half * 32 + r % 32] >> (r / 32 * 2)) & 3;
        let q = f32::from(low | high << 4) - 32.0;
        *y = d * f32::from(block[192 + i / 16] as i8) * q;
    }
}
