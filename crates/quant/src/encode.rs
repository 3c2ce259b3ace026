//! Quantization.
//!
//! ggml's rounding byte for byte: `quantize_row_q8_0_ref`, `quantize_row_q4_0_ref`.

use half::f16;

use crate::{BlockFormat, nf4};

/// Values in a block of Q8_0 and Q4_0.
const VALUES: usize = 32;

impl BlockFormat {
    /// Rounds a whole number of blocks of values.
    ///
    /// # Panics
    /// For a format other than Q8_0, Q4_0 and NF4, or a part of a block.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        let whole = values.len().is_multiple_of(self.values());
        assert!(whole, "{} values are not whole blocks of {}", values.len(), self.name());
        let mut out = Vec::with_capacity(self.bytes_of(values.len()));
        match self {
            BlockFormat::Q8_0 => each(values, q8_0, &mut out),
            BlockFormat::Q4_0 => each(values, q4_0, &mut out),
            BlockFormat::Nf4 => each(values, nf4::encode, &mut out),
            _ => panic!("{} cannot be encoded", self.name()),
        }
        out
    }
}

/// Block by block.
fn each<const N: usize>(values: &[f32], encode: fn(&[f32; N], &mut Vec<u8>), out: &mut Vec<u8>) {
    for block in values.as_chunks().0 {
        encode(block, out);
    }
}

fn q8_0(block: &[f32; VALUES], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    let d = largest / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(block.iter().map(|x| ((x * inverse).round() as i8).cast_unsigned()));
}

fn q4_0(block: &[f32; VALUES], out: &mut Vec<u8>) {
    // The value furthest from zero becomes −8, the end that has no counterpart.
    let largest = block.iter().fold(0.0f32, |a, &x| if x.abs() > a.abs() { x } else { a });
    let d = largest / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    out.extend(f16::from_f32(d).to_le_bytes());
    let quant = |x: f32| (x * inverse + 8.5).clamp(0.0, 15.0) as u8;
    let (low, high) = block.split_at(VALUES / 2);
    out.extend(low.iter().zip(high).map(|(&low, &high)| quant(low) | quant(high) << 4));
}
