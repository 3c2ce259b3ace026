//! Weights in blocks as this device keeps them: 16 rows interleaved, so that a register holds four neighbors
//! of each row.
//!
//! A cell is one block of 16 rows. Its first vectors hold four bytes a row: elements 4v to 4v + 3 in vector v
//! of Q8_0's eight, each stored plus 128; of Q4_0's four, elements 4v to 4v + 3 in the low halves and 16 + 4v
//! to 16 + 4v + 3 in the high ones. The 16 scales follow. Cells of one 16 rows follow each other along k. The
//! same bytes as GGUF's, in another order; rows that fill up the last 16 are zeros.

#[cfg(target_arch = "x86_64")]
use super::bf16_pairs::bits;
use crate::tensor::{DType, INTERLEAVED_ROWS};
use half::f16;
use quant::BlockFormat;

pub(super) const ROWS: usize = INTERLEAVED_ROWS;
/// Elements of a block.
pub(super) const LEN: usize = 32;
const _: () = assert!(BlockFormat::Q8_0.values() == LEN && BlockFormat::Q4_0.values() == LEN);

/// Bytes ahead of the walk along the cells.
#[cfg(target_arch = "x86_64")]
pub(super) const AHEAD: usize = 2048;

/// Bytes of a cell's quants; its scales follow.
pub(super) const fn quant_bytes(dtype: DType) -> usize {
    ROWS * (dtype.block_format().bytes() - 2)
}

pub(super) const fn cell_bytes(dtype: DType) -> usize {
    ROWS * dtype.block_format().bytes()
}

/// What is stored above a quant's value.
pub(super) const fn offset(dtype: DType) -> i32 {
    match dtype {
        DType::Q8_0 => 128,
        _ => 8,
    }
}

/// Byte offset of the cell that begins with element (row, column) of a matrix with `columns` columns.
pub(super) fn cell_offset(dtype: DType, columns: usize, row: usize, column: usize) -> usize {
    debug_assert!(
        row.is_multiple_of(ROWS) && column.is_multiple_of(LEN),
        "({row}, {column}) is inside a cell"
    );
    (row / ROWS * (columns / LEN) + column / LEN) * cell_bytes(dtype)
}

/// Brings rows of GGUF blocks in order. `to` starts at a cell and is cleared; it ends with the last 16 rows.
pub(super) fn pack(dtype: DType, columns: usize, from: &[u8], to: &mut [u8]) {
    let size = dtype.block_format().bytes();
    let in_row = columns / LEN;
    // The offset is what a value of zero looks like, but zeros of rows that do not exist have a scale of zero
    // anyway.
    to.fill(0);
    for (row, from) in from.chunks_exact(in_row * size).enumerate() {
        for (block, from) in from.chunks_exact(size).enumerate() {
            let at = cell_offset(dtype, columns, row / ROWS * ROWS, block * LEN);
            let (quants, scales) = to[at..at + cell_bytes(dtype)].split_at_mut(quant_bytes(dtype));
            let lane = row % ROWS;
            scales[2 * lane..2 * lane + 2].copy_from_slice(&from[..2]);
            for (j, &quant) in from[2..].iter().enumerate() {
                // Q8_0's signed bytes plus 128; Q4_0's halves are stored plus 8 in the file already.
                let stored = if dtype == DType::Q8_0 { quant ^ 0x80 } else { quant };
                quants[j / 4 * 64 + lane * 4 + j % 4] = stored;
            }
        }
    }
}

/// Elements of row `row` from `first` on, of a matrix with `columns` columns that starts at `from`. They are
/// whole blocks.
///
/// # Safety
/// `from` is the matrix's first cell, and the elements exist.
pub(super) unsafe fn read_row(
    dtype: DType,
    from: *const u8,
    columns: usize,
    (row, first): (usize, usize),
    to: &mut [f32],
) {
    let lane = row % ROWS;
    for (block, to) in to.chunks_exact_mut(LEN).enumerate() {
        let at = cell_offset(dtype, columns, row / ROWS * ROWS, first + block * LEN);
        // SAFETY: the caller's promise.
        let cell = unsafe { std::slice::from_raw_parts(from.add(at), cell_bytes(dtype)) };
        let (quants, scales) = cell.split_at(quant_bytes(dtype));
        let d = f16::from_le_bytes([scales[2 * lane], scales[2 * lane + 1]]).to_f32();
        for (j, value) in to.iter_mut().enumerate() {
            let byte = |j: usize| i32::from(quants[j / 4 * 64 + lane * 4 + j % 4]);
            let stored = match dtype {
                DType::Q8_0 => byte(j),
                _ if j < LEN / 2 => byte(j) & 15,
                _ => byte(j - LEN / 2) >> 4,
            };
            *value = d * (stored - offset(dtype)) as f32;
        }
    }
}

/// The first half's elements and the second's, in turn.
#[cfg(target_arch = "x86_64")]
const ALTERNATE: [u16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 16 {
        (order[2 * i], order[2 * i + 1]) = (i as u16, 16 + i as u16);
        i += 1;
    }
    order
};

/// A cell's values as bfloat16, a vector a pair of k, whose lane is the row: as products read their second
/// operand.
///
/// # Safety
/// The CPU has AVX512-BF16; the cell exists.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn pairs(dtype: DType, cell: *const u8, to: &mut [std::arch::x86_64::__m512i; 16]) {
    use std::arch::x86_64::*;
    for line in (0..cell_bytes(dtype)).step_by(64) {
        _mm_prefetch::<_MM_HINT_T0>(cell.wrapping_add(AHEAD + line).cast());
    }
    // SAFETY: the cell holds its vectors and 16 scales.
    unsafe {
        let scale = _mm512_cvtph_ps(_mm256_loadu_si256(cell.add(quant_bytes(dtype)).cast()));
        // (stored − offset) · scale, in one instruction and one rounding.
        let shift = _mm512_mul_ps(scale, _mm512_set1_ps(offset(dtype) as f32));
        let bytes = _mm512_set1_epi32(0xFF);
        let order = ALTERNATE.as_ptr().cast::<__m512i>().read_unaligned();
        let store = |four: __m512i, to: &mut [__m512i]| {
            let value = |quants: __m512i| {
                _mm512_fmsub_ps(_mm512_cvtepi32_ps(_mm512_and_si512(quants, bytes)), scale, shift)
            };
            let pair = |even: __m512, odd: __m512| {
                let both = bits(_mm512_cvtne2ps_pbh(odd, even));
                _mm512_permutexvar_epi16(order, both)
            };
            to[0] = pair(value(four), value(_mm512_srli_epi32::<8>(four)));
            to[1] = pair(value(_mm512_srli_epi32::<16>(four)), value(_mm512_srli_epi32::<24>(four)));
        };
        if dtype == DType::Q8_0 {
            for v in 0..8 {
                store(_mm512_loadu_si512(cell.add(v * 64).cast()), &mut to[2 * v..2 * v + 2]);
            }
            return;
        }
        let half = _mm512_set1_epi8(15);
        for v in 0..4 {
            let both = _mm512_loadu_si512(cell.add(v * 64).cast());
            store(_mm512_and_si512(both, half), &mut to[2 * v..2 * v + 2]);
            store(_mm512_and_si512(_mm512_srli_epi16::<4>(both), half), &mut to[2 * v + 8..2 * v + 10]);
        }
    }
}
