//! bfloat16 products: packing for both kernels that multiply pairs, and the AVX512-BF16 micro-kernel, 14 rows
//! × 32 columns of C.
//!
//! The instructions take two neighbors along k at once, so a panel's unit is a pair in 32 bits, the even k
//! in the low half. Operands may be f32 in memory: they are rounded as they are packed. Sums are f32.

use super::avx512::{mask, transpose};
use super::bf16_pairs::{bits, half_bits, numbers};
use super::gemm::MicroKernel;
use super::instruction_set::has_avx512_bf16;
use super::packed_blocks;
use super::view::{Output, View};
use crate::tensor::DType;
use std::arch::x86_64::*;

/// Proof by construction that the CPU has AVX512-BF16 and what it builds on.
#[derive(Clone, Copy)]
pub(super) struct Avx512Bf16 {
    _private: (),
}

const ROWS: usize = 14;
const COLUMNS: usize = 32;
/// k of one packed block: 16 pairs.
const BLOCK: usize = 32;

impl Avx512Bf16 {
    /// The kernel, if this CPU runs it.
    pub fn detect() -> Option<Avx512Bf16> {
        has_avx512_bf16().then_some(Avx512Bf16 { _private: () })
    }
}

impl MicroKernel for Avx512Bf16 {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH_UNIT: usize = BLOCK;
    const DEPTH: usize = 768;

    fn a_panel_bytes(depth: usize) -> usize {
        // Two lanes more: whole registers are stored.
        (depth.next_multiple_of(BLOCK) / 2 * ROWS + 2) * 4
    }

    fn b_panel_bytes(depth: usize) -> usize {
        depth.next_multiple_of(BLOCK) / 2 * COLUMNS * 4
    }

    unsafe fn pack_a(self, a: View, to: *mut u8) {
        // SAFETY: the CPU has the features (`self` exists); the caller gives valid shapes and room. Stores
        // ascend: the two lanes behind the rows are zeros that the next store overwrites.
        unsafe { pack_a(a, to.cast()) };
    }

    unsafe fn pack_b(self, b: View, to: *mut u8) {
        // SAFETY: as above.
        unsafe { pack_b(b.transposed(), to.cast()) };
    }

    unsafe fn multiply(
        self,
        depth: usize,
        a: *const u8,
        b: *const u8,
        c: Output,
        rows: usize,
        columns: usize,
    ) {
        let (a, b, pairs) = (a.cast(), b.cast(), depth.div_ceil(2));
        macro_rules! by_rows {
            ($($r:literal)*) => { match rows { $($r => tile::<$r>(pairs, a, b, c, columns),)* _ => {} } };
        }
        // SAFETY: as above.
        unsafe { by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14) }
    }
}

/// Pairs of 32 rows over all k, side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_b(view: View, to: *mut i32) {
    let mut halves = [[_mm512_setzero_si512(); 16]; 2];
    for block in 0..view.columns.div_ceil(BLOCK) {
        // SAFETY: the caller's promise.
        unsafe {
            both_halves(view, block * BLOCK, false, &mut halves);
            for (p, (low, high)) in halves[0].iter().zip(&halves[1]).enumerate() {
                let to = to.add((block * 16 + p) * COLUMNS);
                _mm512_storeu_si512(to.cast(), *low);
                _mm512_storeu_si512(to.add(16).cast(), *high);
            }
        }
    }
}

/// Pairs of up to 14 rows over all k.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_a(view: View, to: *mut i32) {
    let mut lines = [_mm512_setzero_si512(); 16];
    for block in 0..view.columns.div_ceil(BLOCK) {
        // SAFETY: the caller's promise.
        unsafe {
            half(view, 0, block * BLOCK, false, &mut lines);
            for (p, line) in lines.iter().enumerate() {
                _mm512_storeu_si512(to.add((block * 16 + p) * ROWS).cast(), *line);
            }
        }
    }
}

/// 16 rows × 32 k, or 16 pairs of k × 16 rows. Filled in place: arrays of registers that are returned get
/// copied.
pub(super) type Block = [__m512i; 16];

/// 16 rows × 32 k from (`row`, `k`): with `by_rows` a vector a row, whose lane p holds the pair 2p, 2p + 1;
/// else a vector a pair, whose lane is the row. Zeros outside the view.
///
/// # Safety
/// The CPU has AVX512-BF16; the view is valid.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn half(view: View, row: usize, k: usize, by_rows: bool, block: &mut Block) {
    if view.dtype.is_blocks() {
        assert!(!by_rows, "weights in blocks are the second operand");
        if row < view.rows {
            // SAFETY: the cell exists, since its first element does and rows are stored in sixteens.
            unsafe { packed_blocks::pairs(view.dtype, view.at(row, k), block) };
        } else {
            block.fill(_mm512_setzero_si512());
        }
        return;
    }
    let lies_by_rows = view.column_stride == 1;
    // SAFETY: passed on.
    unsafe {
        if lies_by_rows {
            load_rows(view, row, k, block);
        } else {
            assert_eq!(view.row_stride, 1, "one side of an operand is contiguous");
            load_pairs(view, row, k, block);
        }
    }
    if lies_by_rows != by_rows {
        transpose_in_place(block);
    }
}

/// As [`half`], of 32 rows from 0 on: the first and the last 16.
///
/// # Safety
/// As [`half`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn both_halves(view: View, k: usize, by_rows: bool, halves: &mut [Block; 2]) {
    let whole = view.rows >= 32 && view.columns >= k + BLOCK;
    // SAFETY: passed on; where all 32 rows and k exist, whole cache lines along the rows do.
    unsafe {
        if view.dtype == DType::Bf16 && view.row_stride == 1 && view.column_stride != 1 && whole {
            interleave_lines(view, k, halves);
            if by_rows {
                halves.iter_mut().for_each(|half| transpose_in_place(half));
            }
            return;
        }
        for (index, block) in halves.iter_mut().enumerate() {
            half(view, index * 16, k, by_rows, block);
        }
    }
}

/// Pairs from two lines of 32 neighbors, the even k and the odd one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn interleave_lines(view: View, k: usize, halves: &mut [Block; 2]) {
    const fn order(first: u16) -> [u16; 32] {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 16 {
            order[2 * i] = first + i as u16;
            order[2 * i + 1] = 32 + first + i as u16;
            i += 1;
        }
        order
    }
    const ORDERS: [[u16; 32]; 2] = [order(0), order(16)];
    let (from, step) = (view.at(0, k), view.column_stride * 2);
    let [low, high] = halves;
    // SAFETY: the caller made sure that the lines are there.
    unsafe {
        let orders = [0, 1].map(|half: usize| ORDERS[half].as_ptr().cast::<__m512i>().read_unaligned());
        for p in 0..16 {
            let even = from.wrapping_add(2 * p * step);
            let odd = even.wrapping_add(step);
            let (even, odd) = (_mm512_loadu_si512(even.cast()), _mm512_loadu_si512(odd.cast()));
            low[p] = _mm512_permutex2var_epi16(even, orders[0], odd);
            high[p] = _mm512_permutex2var_epi16(even, orders[1], odd);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn load_rows(view: View, row: usize, k: usize, block: &mut Block) {
    let there = view.rows.saturating_sub(row).min(16);
    let depth = view.columns.saturating_sub(k).min(BLOCK);
    let (from, step) = (view.at(row, k), view.row_stride * view.dtype.size());
    if there < 16 {
        block.fill(_mm512_setzero_si512());
    }
    // SAFETY: loads are masked or counted to what exists.
    unsafe {
        if view.dtype == DType::Bf16 {
            let mask = (u64::from(u32::MAX) >> (BLOCK - depth)) as u32;
            for (i, x) in block.iter_mut().enumerate().take(there) {
                let from = from.wrapping_add(i * step);
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
                *x = _mm512_maskz_loadu_epi16(mask, from.cast());
            }
            return;
        }
        let (low, high) = (mask(depth), mask(depth.saturating_sub(16)));
        for (i, x) in block.iter_mut().enumerate().take(there) {
            let from = from.wrapping_add(i * step);
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(2 * AHEAD).cast());
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(2 * AHEAD + 64).cast());
            let from: *const f32 = from.cast();
            let low = _mm512_maskz_loadu_ps(low, from);
            let high = _mm512_maskz_loadu_ps(high, from.wrapping_add(16));
            *x = bits(_mm512_cvtne2ps_pbh(high, low));
        }
    }
}

/// Bytes ahead of a walk along bfloat16 rows.
const AHEAD: usize = 128;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn load_pairs(view: View, row: usize, k: usize, block: &mut Block) {
    let there = mask(view.rows.saturating_sub(row));
    let depth = view.columns.saturating_sub(k).min(BLOCK);
    let (from, step) = (view.at(row, k), view.column_stride * view.dtype.size());
    if depth < BLOCK {
        block.fill(_mm512_setzero_si512());
    }
    // SAFETY: loads are masked or counted to what exists.
    unsafe {
        for (p, x) in block.iter_mut().enumerate().take(depth.div_ceil(2)) {
            let even = from.wrapping_add(2 * p * step);
            let odd_mask = if 2 * p + 1 < depth { there } else { 0 };
            let odd = even.wrapping_add(step);
            let (even, odd) = if view.dtype == DType::Bf16 {
                (_mm256_maskz_loadu_epi16(there, even.cast()), _mm256_maskz_loadu_epi16(odd_mask, odd.cast()))
            } else {
                (
                    half_bits(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(there, even.cast()))),
                    half_bits(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(odd_mask, odd.cast()))),
                )
            };
            let (even, odd) = (_mm512_cvtepu16_epi32(even), _mm512_cvtepu16_epi32(odd));
            *x = _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_in_place(block: &mut Block) {
    let mut lines = [_mm512_setzero_ps(); 16];
    for i in 0..16 {
        lines[i] = _mm512_castsi512_ps(block[i]);
    }
    let lines = transpose(lines);
    for i in 0..16 {
        block[i] = _mm512_castps_si512(lines[i]);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile<const R: usize>(pairs: usize, a: *const i32, b: *const i32, c: Output, columns: usize) {
    let mut sum = [[_mm512_setzero_ps(); 2]; R];
    // SAFETY: the panels hold `pairs` × 14 and × 32; C holds R × columns.
    unsafe {
        let (mut a, mut b) = (a, b);
        for _ in 0..pairs {
            let (b0, b1) =
                (numbers(_mm512_loadu_si512(b.cast())), numbers(_mm512_loadu_si512(b.add(16).cast())));
            _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(512).cast());
            _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(528).cast());
            for (i, sum) in sum.iter_mut().enumerate() {
                let x = numbers(_mm512_set1_epi32(*a.add(i)));
                sum[0] = _mm512_dpbf16_ps(sum[0], x, b0);
                sum[1] = _mm512_dpbf16_ps(sum[1], x, b1);
            }
            a = a.add(ROWS);
            b = b.add(COLUMNS);
        }
        for (i, sum) in sum.iter().enumerate() {
            store_row(c, i, *sum, columns);
        }
    }
}

/// Adds what the sum starts from and stores `columns` of one row of a tile, as f32 or as bfloat16.
///
/// # Safety
/// The CPU has AVX512-BF16; the row exists.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn store_row(c: Output, row: usize, sum: [__m512; 2], columns: usize) {
    let masks = [mask(columns), mask(columns.saturating_sub(16))];
    // SAFETY: masked to the columns that exist.
    unsafe {
        if c.dtype == DType::F32 {
            return super::avx512::store_row(c, row, sum, masks);
        }
        for (half, (mut sum, mask)) in sum.into_iter().zip(masks).enumerate() {
            if let Some((from, row_stride)) = c.added() {
                let from = from.wrapping_add(row * row_stride + half * 16);
                sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, from));
            }
            let to = c.pointer.cast::<u16>().wrapping_add(row * c.row_stride + half * 16);
            if c.adds_to_bf16() {
                let before = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, to.cast()));
                sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32::<16>(before)));
            }
            _mm256_mask_storeu_epi16(to.cast(), mask, half_bits(_mm512_cvtneps_pbh(sum)));
        }
    }
}
