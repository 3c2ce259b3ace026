//! 4-bit NormalFloat: 16 values that normally distributed weights take about equally often.
//!
//! The values are bitsandbytes' (`create_normal_map`; Dettmers et al. 2023, appendix E), scaled by the
//! largest magnitude of 64 weights. Its scales are f32, which double quantization brings to 8 bits and a
//! share of another scale (4.127 bits a weight); here they are f16 (4.25 bits), whose rounding is a
//! thousandth of the quants'.

use half::f16;

/// Values in a block.
const VALUES: usize = 64;
/// f16 absmax, 32 bytes of nibbles.
const BYTES: usize = 34;

/// What the 16 quants stand for.
pub(crate) const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The nearest level.
fn quant(x: f32) -> u8 {
    LEVELS.windows(2).map(|pair| u8::from(x > (pair[0] + pair[1]) / 2.0)).sum()
}

pub(crate) fn encode(block: &[f32; VALUES], out: &mut Vec<u8>) {
    let d = f16::from_f32(block.iter().fold(0.0f32, |a, x| a.max(x.abs())));
    let inverse = if d == f16::ZERO { 0.0 } else { 1.0 / d.to_f32() };
    out.extend(d.to_le_bytes());
    let (low, high) = block.split_at(VALUES / 2);
    let quant = |x: &f32| quant(x * inverse);
    out.extend(low.iter().zip(high).map(|(low, high)| quant(low) | quant(high) << 4));
}

pub(crate) fn decode(block: &[u8; BYTES], y: &mut [f32; VALUES]) {
    let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
    let (low, high) = y.split_at_mut(VALUES / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = d * LEVELS[usize::from(byte & 15)];
        *high = d * LEVELS[usize::from(byte >> 4)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_becomes_the_nearest_level() {
        for (q, &level) in LEVELS.iter().enumerate() {
            assert_eq!(usize::from(quant(level)), q);
        }
        let mut block = [0.0; VALUES];
        for (i, x) in block.iter_mut().enumerate() {
            *x = ((i * 37 % 64) as f32 / 32.0 - 1.0) * 0.07;
        }
        let mut bytes = Vec::new();
        encode(&block, &mut bytes);
        let mut back = [0.0; VALUES];
        decode(bytes.as_slice().try_into().expect("a block"), &mut back);
        for (x, y) in block.iter().zip(back) {
            let error = |level: f32| (level * 0.07 - x).abs();
            let least = LEVELS.iter().map(|&level| error(level)).fold(f32::INFINITY, f32::min);
            assert!((y - x).abs() <= least + 0.07 / 1000.0, "{x} became {y}");
        }
        let mut zeros = Vec::new();
        encode(&[0.0; VALUES], &mut zeros);
        decode(zeros.as_slice().try_into().expect("a block"), &mut back);
        assert_eq!(back, [0.0; VALUES]);
    }
}
