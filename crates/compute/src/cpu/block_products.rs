//! Products of a few rows with weights in blocks: the rows are rounded to blocks of signed bytes, and
//! integers are multiplied.

use super::buffer::AlignedBuffer;
use super::instruction_set::InstructionSet;
#[cfg(target_arch = "x86_64")]
use super::packed_blocks::AHEAD;
use super::packed_blocks::{LEN, ROWS, cell_bytes, offset, quant_bytes};
use super::simd::simd;
use super::view::View;
use crate::tensor::DType;
use half::f16;

/// Rows of activations in blocks of signed bytes: what integer products take.
#[derive(Default)]
pub(super) struct Quantized {
    quants: AlignedBuffer,
    scales: AlignedBuffer,
    corrections: AlignedBuffer,
}

/// One token's row.
#[derive(Clone, Copy)]
struct Token {
    quants: *const i8,
    scales: *const f32,
    /// −offset · Σ quants of each block: what takes the weights' offset out of a sum.
    corrections: *const i32,
}

/// Some tokens' rows, ready to be multiplied. `Sync` since it is only read.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    first: Token,
    columns: usize,
}

// SAFETY: read only while it is shared.
unsafe impl Sync for Tokens {}

impl Tokens {
    fn token(self, t: usize) -> Token {
        let blocks = self.columns / LEN;
        Token {
            quants: self.first.quants.wrapping_add(t * self.columns),
            scales: self.first.scales.wrapping_add(t * blocks),
            corrections: self.first.corrections.wrapping_add(t * blocks),
        }
    }
}

impl Quantized {
    /// Rounds rows for a product with weights of type `weights`.
    ///
    /// # Safety
    /// The view is valid, f32, and contiguous along k.
    pub unsafe fn fill(&mut self, a: View, weights: DType) -> Tokens {
        let (k, blocks) = (a.columns, a.columns / LEN);
        let first = Token {
            quants: self.quants.ensure(a.rows * k).cast(),
            scales: self.scales.ensure(a.rows * blocks * 4).cast(),
            corrections: self.corrections.ensure(a.rows * blocks * 4).cast(),
        };
        let tokens = Tokens { first, columns: k };
        for r in 0..a.rows {
            let to = tokens.token(r);
            // SAFETY: the buffers were sized for all rows; the view's rows are the caller's promise.
            unsafe {
                quantize_row(
                    std::slice::from_raw_parts(a.at(r, 0).cast(), k),
                    std::slice::from_raw_parts_mut(to.quants.cast_mut(), k),
                    std::slice::from_raw_parts_mut(to.scales.cast_mut(), blocks),
                    std::slice::from_raw_parts_mut(to.corrections.cast_mut(), blocks),
                    offset(weights),
                );
            }
        }
        tokens
    }
}

simd! {
    fn quantize_row(x: &[f32], quants: &mut [i8], scales: &mut [f32], corrections: &mut [i32], offset: i32) {
        const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to the nearest integer
        let (x, _) = x.as_chunks::<LEN>();
        let (quants, _) = quants.as_chunks_mut::<LEN>();
        for (((x, quants), scale), correction) in x.iter().zip(quants).zip(scales).zip(corrections) {
            let mut largest = 0.0f32;
            for x in x {
                largest = largest.max(x.abs());
            }
            let inverse = 127.0 / largest;
            let inverse = if inverse.is_finite() { inverse } else { 0.0 };
            let mut sum = 0;
            let mut all = 0.0;
            for (quant, x) in quants.iter_mut().zip(x) {
                *quant = (x * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i8;
                sum += i32::from(*quant);
                all += x;
            }
            // What is no number stays none: the largest of a block does not see it, the sum of all does.
            *scale = if all.is_finite() { largest / 127.0 } else { f32::NAN };
            *correction = -offset * sum;
        }
    }
}

/// How integer products are computed.
#[derive(Clone, Copy)]
pub(super) enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl Kernel {
    /// The best that `set` allows, which this CPU must have.
    #[cfg(target_arch = "x86_64")]
    pub fn of(set: InstructionSet) -> Kernel {
        if set >= InstructionSet::Avx512 && is_x86_feature_detected!("avx512vnni") {
            Kernel::Vnni
        } else if set >= InstructionSet::Avx2 {
            Kernel::Avx2
        } else {
            Kernel::Portable
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn of(_set: InstructionSet) -> Kernel {
        Kernel::Portable
    }

    /// 16 rows of weights (cells from `weights` on) times `T` tokens from `first` on.
    ///
    /// # Safety
    /// The CPU has what the kernel needs; the cells and the tokens exist.
    unsafe fn group<const T: usize>(
        self,
        dtype: DType,
        weights: *const u8,
        tokens: Tokens,
        first: usize,
    ) -> [[f32; ROWS]; T] {
        let at: [Token; T] = std::array::from_fn(|t| tokens.token(first + t));
        let blocks = tokens.columns / LEN;
        // SAFETY: passed on.
        unsafe {
            match (self, dtype) {
                #[cfg(target_arch = "x86_64")]
                (Kernel::Vnni, DType::Q8_0) => vnni::<T, true>(blocks, weights, at),
                #[cfg(target_arch = "x86_64")]
                (Kernel::Vnni, _) => vnni::<T, false>(blocks, weights, at),
                #[cfg(target_arch = "x86_64")]
                (Kernel::Avx2, DType::Q8_0) => avx2::<T, true>(blocks, weights, at),
                #[cfg(target_arch = "x86_64")]
                (Kernel::Avx2, _) => avx2::<T, false>(blocks, weights, at),
                (Kernel::Portable, _) => portable(dtype, blocks, weights, at),
            }
        }
    }

    /// As [`Kernel::group`] for any number of tokens, each result given to `put(token, 16 sums)`.
    ///
    /// # Safety
    /// As [`Kernel::group`].
    pub unsafe fn all_tokens(
        self,
        dtype: DType,
        weights: *const u8,
        tokens: Tokens,
        count: usize,
        mut put: impl FnMut(usize, &[f32; ROWS]),
    ) {
        let mut first = 0;
        while first < count {
            macro_rules! tokens_at_once {
                ($t:literal) => {{
                    // SAFETY: passed on.
                    let sums = unsafe { self.group::<$t>(dtype, weights, tokens, first) };
                    sums.iter().enumerate().for_each(|(t, sum)| put(first + t, sum));
                    first += $t;
                }};
            }
            match count - first {
                1 => tokens_at_once!(1),
                2..4 => tokens_at_once!(2),
                4..8 => tokens_at_once!(4),
                _ => tokens_at_once!(8),
            }
        }
    }
}

unsafe fn portable<const T: usize>(
    dtype: DType,
    blocks: usize,
    weights: *const u8,
    tokens: [Token; T],
) -> [[f32; ROWS]; T] {
    let mut sums = [[0.0; ROWS]; T];
    for block in 0..blocks {
        // SAFETY: the caller's promise.
        let cell =
            unsafe { std::slice::from_raw_parts(weights.add(block * cell_bytes(dtype)), cell_bytes(dtype)) };
        let (quants, scales) = cell.split_at(quant_bytes(dtype));
        for (sums, token) in sums.iter_mut().zip(&tokens) {
            // SAFETY: as above.
            let (x, d, correction) = unsafe {
                (
                    &*token.quants.add(block * LEN).cast::<[i8; LEN]>(),
                    *token.scales.add(block),
                    *token.corrections.add(block),
                )
            };
            let mut dots = [correction; ROWS];
            for (v, four) in quants.as_chunks::<64>().0.iter().enumerate() {
                for (lane, dot) in dots.iter_mut().enumerate() {
                    for j in 0..4 {
                        let stored = i32::from(four[lane * 4 + j]);
                        if dtype == DType::Q8_0 {
                            *dot += stored * i32::from(x[4 * v + j]);
                        } else {
                            *dot += (stored & 15) * i32::from(x[4 * v + j]);
                            *dot += (stored >> 4) * i32::from(x[LEN / 2 + 4 * v + j]);
                        }
                    }
                }
            }
            for (lane, (sum, dot)) in sums.iter_mut().zip(dots).enumerate() {
                let scale = f16::from_le_bytes([scales[2 * lane], scales[2 * lane + 1]]).to_f32();
                *sum += dot as f32 * (scale * d);
            }
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn vnni<const T: usize, const EIGHT: bool>(
    blocks: usize,
    weights: *const u8,
    tokens: [Token; T],
) -> [[f32; ROWS]; T] {
    use std::arch::x86_64::*;
    let dtype = if EIGHT { DType::Q8_0 } else { DType::Q4_0 };
    let half = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_ps(); T];
    // SAFETY: `blocks` cells and blocks of each token exist.
    unsafe {
        for block in 0..blocks {
            let cell = weights.add(block * cell_bytes(dtype));
            for line in (0..cell_bytes(dtype)).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(cell.wrapping_add(AHEAD + line).cast());
            }
            let scale = _mm512_cvtph_ps(_mm256_loadu_si256(cell.add(quant_bytes(dtype)).cast()));
            let mut dots = [_mm512_setzero_si512(); T];
            for (dot, token) in dots.iter_mut().zip(&tokens) {
                *dot = _mm512_set1_epi32(*token.corrections.add(block));
            }
            let four = |token: &Token, at: usize| {
                _mm512_set1_epi32(token.quants.add(block * LEN + at).cast::<i32>().read_unaligned())
            };
            if EIGHT {
                for v in 0..8 {
                    let w = _mm512_loadu_si512(cell.add(v * 64).cast());
                    for (dot, token) in dots.iter_mut().zip(&tokens) {
                        *dot = _mm512_dpbusd_epi32(*dot, w, four(token, 4 * v));
                    }
                }
            } else {
                for v in 0..4 {
                    let both = _mm512_loadu_si512(cell.add(v * 64).cast());
                    let low = _mm512_and_si512(both, half);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), half);
                    for (dot, token) in dots.iter_mut().zip(&tokens) {
                        *dot = _mm512_dpbusd_epi32(*dot, low, four(token, 4 * v));
                        *dot = _mm512_dpbusd_epi32(*dot, high, four(token, LEN / 2 + 4 * v));
                    }
                }
            }
            for ((sum, dot), token) in sums.iter_mut().zip(dots).zip(&tokens) {
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(*token.scales.add(block)));
                *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, *sum);
            }
        }
        let mut out = [[0.0; ROWS]; T];
        for (out, sum) in out.iter_mut().zip(sums) {
            _mm512_storeu_ps(out.as_mut_ptr(), sum);
        }
        out
    }
}

/// Eight rows at a time. `maddubs` saturates, so eight-bit weights are multiplied as |w| · (x with w's sign).
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
unsafe fn avx2<const T: usize, const EIGHT: bool>(
    blocks: usize,
    weights: *const u8,
    tokens: [Token; T],
) -> [[f32; ROWS]; T] {
    use std::arch::x86_64::*;
    let dtype = if EIGHT { DType::Q8_0 } else { DType::Q4_0 };
    let (half, ones, top) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1), _mm256_set1_epi8(-128));
    let mut out = [[0.0; ROWS]; T];
    // SAFETY: `blocks` cells and blocks of each token exist.
    unsafe {
        for side in 0..2 {
            let mut sums = [_mm256_setzero_ps(); T];
            for block in 0..blocks {
                let cell = weights.add(block * cell_bytes(dtype));
                let scale = _mm256_cvtph_ps(_mm_loadu_si128(cell.add(quant_bytes(dtype) + side * 16).cast()));
                let four = |token: &Token, at: usize| {
                    _mm256_set1_epi32(token.quants.add(block * LEN + at).cast::<i32>().read_unaligned())
                };
                let mut dots = [_mm256_setzero_si256(); T];
                for v in 0..quant_bytes(dtype) / 64 {
                    let w = _mm256_loadu_si256(cell.add(v * 64 + side * 32).cast());
                    for (dot, token) in dots.iter_mut().zip(&tokens) {
                        let products = if EIGHT {
                            let w = _mm256_xor_si256(w, top);
                            _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(four(token, 4 * v), w))
                        } else {
                            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(w), half);
                            _mm256_add_epi16(
                                _mm256_maddubs_epi16(_mm256_and_si256(w, half), four(token, 4 * v)),
                                _mm256_maddubs_epi16(high, four(token, LEN / 2 + 4 * v)),
                            )
                        };
                        *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(products, ones));
                    }
                }
                for ((sum, dot), token) in sums.iter_mut().zip(dots).zip(&tokens) {
                    // Signs were taken care of above; Q4_0's offset was not.
                    let correction = if EIGHT { 0 } else { *token.corrections.add(block) };
                    let dot = _mm256_cvtepi32_ps(_mm256_add_epi32(dot, _mm256_set1_epi32(correction)));
                    let scale = _mm256_mul_ps(scale, _mm256_set1_ps(*token.scales.add(block)));
                    *sum = _mm256_add_ps(*sum, _mm256_mul_ps(dot, scale));
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                _mm256_storeu_ps(out.as_mut_ptr().add(side * 8), sum);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::packed_blocks::{cell_offset, pack, read_row};

    /// Every kernel, every number of tokens, against the values that the blocks stand for.
    #[test]
    fn kernels_multiply_what_was_packed() {
        let (rows, columns, count) = (32, 96, 15);
        let wave = |i: usize, step: f32| (i as f32 * step).sin() * (1.0 + (i % 7) as f32);
        let values: Vec<f32> = (0..rows * columns).map(|i| wave(i, 0.37)).collect();
        let x: Vec<f32> = (0..count * columns).map(|i| wave(i, 0.11)).collect();
        let view = View {
            pointer: x.as_ptr().cast(),
            dtype: DType::F32,
            rows: count,
            columns,
            row_stride: columns,
            column_stride: 1,
        };
        for dtype in [DType::Q8_0, DType::Q4_0] {
            let encoded = dtype.block_format().encode(&values);
            let mut packed = vec![1; dtype.bytes(rows, columns)];
            pack(dtype, columns, &encoded, &mut packed);
            let decoded = dtype.block_format().decode(&encoded);
            for row in 0..rows {
                let mut read = vec![0.0; columns];
                // SAFETY: the row exists.
                unsafe { read_row(dtype, packed.as_ptr(), read.len(), (row, 0), &mut read) };
                assert_eq!(read, decoded[row * columns..(row + 1) * columns], "{dtype:?}");
            }
            let mut quantized = Quantized::default();
            // SAFETY: a valid view.
            let tokens = unsafe { quantized.fill(view, dtype) };
            for set in [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::detect()] {
                let kernel = Kernel::of(set.min(InstructionSet::detect()));
                for group in 0..rows / ROWS {
                    let cells = packed[cell_offset(dtype, columns, group * ROWS, 0)..].as_ptr();
                    let mut seen = 0;
                    // SAFETY: the group and the tokens exist.
                    unsafe {
                        kernel.all_tokens(dtype, cells, tokens, count, |t, sums| {
                            seen += 1;
                            for (lane, sum) in sums.iter().enumerate() {
                                let at = (group * ROWS + lane) * columns;
                                let expected: f32 =
                                    (0..columns).map(|c| decoded[at + c] * x[t * columns + c]).sum();
                                assert!((sum - expected).abs() < 3.0, "{dtype:?} {t}: {sum} for {expected}");
                            }
                        });
                    }
                    assert_eq!(seen, count);
                }
            }
        }
    }
}
