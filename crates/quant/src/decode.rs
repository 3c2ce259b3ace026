//! Dequantization.

use half::f16;

use crate::{BlockFormat, nf4};

/// Dequantizes whole blocks: a block's bytes for each block of values.
pub type Decoder = fn(&[u8], &mut [f32]);

impl BlockFormat {
    /// How its values are read; `None` for Q2_K and Q3_K.
    pub fn decoder(self) -> Option<Decoder> {
        Some(match self {
            BlockFormat::Q4_0 => |bytes, out| each(bytes, out, q4_0),
            BlockFormat::Q4_1 => |bytes, out| each(bytes, out, q4_1),
            BlockFormat::Q5_0 => |bytes, out| each(bytes, out, q5_0),
            BlockFormat::Q5_1 => |bytes, out| each(bytes, out, q5_1),
            BlockFormat::Q8_0 => |bytes, out| each(bytes, out, q8_0),
            BlockFormat::Q4K => |bytes, out| each(bytes, out, q4_k),
            BlockFormat::Q5K => |bytes, out| each(bytes, out, q5_k),
            BlockFormat::Q6K => |bytes, out| each(bytes, out, q6_k),
            BlockFormat::Nf4 => |bytes, out| each(bytes, out, nf4::decode),
            BlockFormat::Q2K | BlockFormat::Q3K => return None,
        })
    }

    /// The values of whole blocks.
    ///
    /// # Panics
    /// For a format without a [`BlockFormat::decoder`], or a part of a block.
    pub fn decode(self, blocks: &[u8]) -> Vec<f32> {
        let Some(decoder) = self.decoder() else { panic!("{} cannot be decoded", self.name()) };
        let (count, rest) = (blocks.len() / self.bytes(), blocks.len() % self.bytes());
        assert_eq!(rest, 0, "{} bytes are not whole blocks of {}", blocks.len(), self.name());
        let mut out = vec![0.0; count * self.values()];
        decoder(blocks, &mut out);
        out
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
