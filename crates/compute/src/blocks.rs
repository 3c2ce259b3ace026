//! Weights in blocks of 32 neighbours along a row that share one scale: GGUF's Q8_0 and Q4_0.
//!
//! Q8_0 is 34 bytes: the scale d as an IEEE half, then 32 signed bytes q; a value is d·q. Q4_0 is 18 bytes:
//! d, then 16 bytes whose low halves are elements 0 to 15 and whose high halves 16 to 31; a value is d·(q −
//! 8). Rounding is ggml's, byte for byte (`quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`).

use crate::tensor::DType;
use half::f16;

/// Elements of a block.
pub const LEN: usize = 32;
/// Rows that a device may interleave.
pub const ROWS: usize = 16;

/// Bytes of a block.
///
/// # Panics
/// For a type that has none.
pub const fn bytes(dtype: DType) -> usize {
    match dtype {
        DType::Q8_0 => 2 + LEN,
        DType::Q4_0 => 2 + LEN / 2,
        _ => panic!("this type has no blocks"),
    }
}

impl DType {
    /// Bytes of a contiguous matrix. A device may interleave the rows of blocks, so their number is rounded
    /// up.
    pub const fn bytes(self, rows: usize, columns: usize) -> usize {
        if self.is_blocks() {
            let row = (columns / LEN).saturating_mul(bytes(self));
            return rows.div_ceil(ROWS).saturating_mul(ROWS).saturating_mul(row);
        }
        rows.saturating_mul(columns).saturating_mul(self.size())
    }

    /// Whether a matrix of this shape, or a part of a larger one, can be kept in this type.
    pub const fn holds(self, rows: usize, columns: usize) -> bool {
        !self.is_blocks() || (columns.is_multiple_of(LEN) && rows.is_multiple_of(ROWS))
    }
}

/// Rounds values, a whole number of blocks of them.
///
/// # Panics
/// For a type without blocks, or a part of a block.
pub fn encode(dtype: DType, values: &[f32]) -> Vec<u8> {
    let (blocks, rest) = values.as_chunks::<LEN>();
    assert!(rest.is_empty(), "{} values are no whole number of blocks", values.len());
    let mut out = Vec::with_capacity(blocks.len() * bytes(dtype));
    for block in blocks {
        match dtype {
            DType::Q8_0 => encode_q8_0(block, &mut out),
            _ => encode_q4_0(block, &mut out),
        }
    }
    out
}

fn encode_q8_0(block: &[f32; LEN], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    let d = largest / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(block.iter().map(|x| ((x * inverse).round() as i8).cast_unsigned()));
}

fn encode_q4_0(block: &[f32; LEN], out: &mut Vec<u8>) {
    // The value that lies furthest from zero becomes −8, the end that has no counterpart.
    let largest = block.iter().fold(0.0f32, |a, &x| if x.abs() > a.abs() { x } else { a });
    let d = largest / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    out.extend(f16::from_f32(d).to_le_bytes());
    let quant = |x: f32| (x * inverse + 8.5).clamp(0.0, 15.0) as u8;
    let (low, high) = block.split_at(LEN / 2);
    out.extend(low.iter().zip(high).map(|(&low, &high)| quant(low) | quant(high) << 4));
}

/// The values of whole blocks.
///
/// # Panics
/// As [`encode`].
pub fn decode(dtype: DType, blocks: &[u8]) -> Vec<f32> {
    let size = bytes(dtype);
    assert!(blocks.len().is_multiple_of(size), "{} bytes are no whole number of blocks", blocks.len());
    let mut out = Vec::with_capacity(blocks.len() / size * LEN);
    for block in blocks.chunks_exact(size) {
        let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
        let quants = &block[2..];
        match dtype {
            DType::Q8_0 => out.extend(quants.iter().map(|&q| d * f32::from(q.cast_signed()))),
            _ => {
                out.extend(quants.iter().map(|&q| d * (f32::from(q & 15) - 8.0)));
                out.extend(quants.iter().map(|&q| d * (f32::from(q >> 4) - 8.0)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_to_half_a_step() {
        let values: Vec<f32> = (0..96).map(|i| ((i * 37 % 64) as f32 - 31.5) * 0.01).collect();
        for (dtype, steps) in [(DType::Q8_0, 127.0), (DType::Q4_0, 8.0)] {
            let encoded = encode(dtype, &values);
            assert_eq!(encoded.len(), 3 * bytes(dtype));
            let decoded = decode(dtype, &encoded);
            for (value, found) in values.iter().zip(&decoded) {
                // Half a step, or a whole one at the end that Q4_0 lacks, and the rounding of the scale.
                let limit = if dtype == DType::Q4_0 { 1.05 } else { 0.55 } * 0.315 / steps;
                assert!((value - found).abs() <= limit, "{dtype:?}: {found} instead of {value}");
            }
            assert_eq!(encode(dtype, &decoded), encoded, "{dtype:?}: what is rounded already stays");
        }
    }

    #[test]
    fn blocks_are_laid_out_as_ggml_has_them() {
        let mut values = [0.0f32; LEN];
        (values[0], values[1], values[17]) = (-2.0, 1.0, 0.25);
        let q8 = encode(DType::Q8_0, &values);
        assert_eq!(q8[..2], f16::from_f32(2.0 / 127.0).to_le_bytes());
        assert_eq!((q8[2].cast_signed(), q8[3], q8[2 + 17]), (-127, 64, 16));
        let q4 = encode(DType::Q4_0, &values);
        assert_eq!(q4[..2], f16::from_f32(0.25).to_le_bytes());
        assert_eq!((q4[2] & 15, q4[3] & 15, q4[3] >> 4), (0, 12, 9));
        assert_eq!(decode(DType::Q4_0, &encode(DType::Q4_0, &[0.0; LEN])), [0.0; LEN]);
    }
}
