//! The AVX-512 f32 micro-kernel: 12 rows × 32 columns of C in 24 registers.
//!
//! A panel holds, for each k, its 12 rows; a B panel, for each k, its 32 columns. Broadcasts of A come from
//! memory operands.

use super::gemm::MicroKernel;
use super::instruction_set::has_avx512;
use super::view::{Output, View};
use std::arch::x86_64::*;

/// Proof by construction that the CPU has AVX-512F.
#[derive(Clone, Copy)]
pub(super) struct Avx512 {
    _private: (),
}

const ROWS: usize = 12;
const COLUMNS: usize = 32;

impl Avx512 {
    /// The kernel, if this CPU runs it and the rest of what [`super::InstructionSet::Avx512`] stands for.
    pub fn detect() -> Option<Avx512> {
        has_avx512().then_some(Avx512 { _private: () })
    }
}

impl MicroKernel for Avx512 {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const DEPTH_UNIT: usize = 1;
    const DEPTH: usize = 512;

    fn a_panel_bytes(depth: usize) -> usize {
        // Four floats more: the transposing pack stores whole registers.
        (depth * ROWS + 4) * 4
    }

    fn b_panel_bytes(depth: usize) -> usize {
        depth * COLUMNS * 4
    }

    unsafe fn pack_a(self, a: View, to: *mut u8) {
        // SAFETY: the CPU has AVX-512 (`self` exists); the caller gives valid shapes and room.
        unsafe { pack_a(a, to.cast()) }
    }

    unsafe fn pack_b(self, b: View, to: *mut u8) {
        // SAFETY: as above.
        unsafe { pack_b(b, to.cast()) }
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
        let (a, b) = (a.cast(), b.cast());
        macro_rules! by_rows {
            ($($r:literal)*) => { match rows { $($r => tile::<$r>(depth, a, b, c, columns),)* _ => {} } };
        }
        // SAFETY: as above.
        unsafe { by_rows!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }
}

/// Loads `n` ≤ 16 floats, zeros after.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(from: *const f32, n: usize) -> __m512 {
    // SAFETY: the mask keeps the load inside.
    unsafe { _mm512_maskz_loadu_ps(mask(n), from) }
}

/// The lowest `n` lanes, 16 at most.
#[inline]
pub(super) fn mask(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

/// Transposes 16 × 16 floats in registers.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(r: [__m512; 16]) -> [__m512; 16] {
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    let pd = |x: __m512| _mm512_castps_pd(x);
    let ps = |x: __m512d| _mm512_castpd_ps(x);
    let mut u = t;
    for i in 0..4 {
        u[4 * i] = ps(_mm512_unpacklo_pd(pd(t[4 * i]), pd(t[4 * i + 2])));
        u[4 * i + 1] = ps(_mm512_unpackhi_pd(pd(t[4 * i]), pd(t[4 * i + 2])));
        u[4 * i + 2] = ps(_mm512_unpacklo_pd(pd(t[4 * i + 1]), pd(t[4 * i + 3])));
        u[4 * i + 3] = ps(_mm512_unpackhi_pd(pd(t[4 * i + 1]), pd(t[4 * i + 3])));
    }
    let mut v = u;
    for i in 0..2 {
        for j in 0..4 {
            v[8 * i + j] = _mm512_shuffle_f32x4::<0x88>(u[8 * i + j], u[8 * i + 4 + j]);
            v[8 * i + 4 + j] = _mm512_shuffle_f32x4::<0xDD>(u[8 * i + j], u[8 * i + 4 + j]);
        }
    }
    let mut w = v;
    for j in 0..8 {
        w[j] = _mm512_shuffle_f32x4::<0x88>(v[j], v[8 + j]);
        w[8 + j] = _mm512_shuffle_f32x4::<0xDD>(v[j], v[8 + j]);
    }
    w
}

#[target_feature(enable = "avx512f")]
unsafe fn pack_a(a: View, to: *mut f32) {
    let (rows, depth, from) = (a.rows, a.columns, a.elements::<f32>());
    // SAFETY: loads stay inside the view by their masks; stores inside the panel, which has room for one
    // register past its end.
    unsafe {
        if a.row_stride == 1 {
            for p in 0..depth {
                let x = load(from.add(p * a.column_stride), rows);
                _mm512_mask_storeu_ps(to.add(p * ROWS), mask(ROWS), x);
            }
            return;
        }
        if a.column_stride != 1 {
            for p in 0..depth {
                for i in 0..ROWS {
                    let inside = i < rows;
                    let at = from.wrapping_add(i * a.row_stride + p * a.column_stride);
                    *to.add(p * ROWS + i) = if inside { *at } else { 0.0 };
                }
            }
            return;
        }
        for p in (0..depth).step_by(16) {
            let n = 16.min(depth - p);
            let mut block = [_mm512_setzero_ps(); 16];
            for (i, x) in block.iter_mut().enumerate().take(rows) {
                *x = load(from.add(i * a.row_stride + p), n);
            }
            let block = transpose(block);
            // Ascending order: each store's last four lanes are zeros that the next overwrites.
            for (q, x) in block.iter().enumerate().take(n) {
                _mm512_storeu_ps(to.add((p + q) * ROWS), *x);
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn pack_b(b: View, to: *mut f32) {
    let (depth, columns, start) = (b.rows, b.columns, b.elements::<f32>());
    // SAFETY: loads stay inside the view by their masks; the panel holds depth × 32.
    unsafe {
        if b.column_stride == 1 {
            let (low, high) = (columns.min(16), columns.saturating_sub(16));
            for p in 0..depth {
                let from = start.add(p * b.row_stride);
                _mm512_storeu_ps(to.add(p * COLUMNS), load(from, low));
                _mm512_storeu_ps(to.add(p * COLUMNS + 16), load(from.wrapping_add(16), high));
            }
            return;
        }
        if b.row_stride != 1 {
            for p in 0..depth {
                for j in 0..COLUMNS {
                    let at = start.wrapping_add(p * b.row_stride + j * b.column_stride);
                    *to.add(p * COLUMNS + j) = if j < columns { *at } else { 0.0 };
                }
            }
            return;
        }
        for half in [0, 16] {
            let here = columns.saturating_sub(half).min(16);
            for p in (0..depth).step_by(16) {
                let n = 16.min(depth - p);
                let mut block = [_mm512_setzero_ps(); 16];
                for (j, x) in block.iter_mut().enumerate().take(here) {
                    *x = load(start.add((half + j) * b.column_stride + p), n);
                }
                let block = transpose(block);
                for (q, x) in block.iter().enumerate().take(n) {
                    _mm512_storeu_ps(to.add((p + q) * COLUMNS + half), *x);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn tile<const R: usize>(depth: usize, a: *const f32, b: *const f32, c: Output, columns: usize) {
    let mut sum = [[_mm512_setzero_ps(); 2]; R];
    // SAFETY: the panels hold depth × 12 and depth × 32; C holds R × columns.
    unsafe {
        let (mut a, mut b) = (a, b);
        for _ in 0..depth {
            let (b0, b1) = (_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16)));
            _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(512).cast());
            _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(528).cast());
            for (i, sum) in sum.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(i));
                sum[0] = _mm512_fmadd_ps(x, b0, sum[0]);
                sum[1] = _mm512_fmadd_ps(x, b1, sum[1]);
            }
            a = a.add(ROWS);
            b = b.add(COLUMNS);
        }
        let masks = [mask(columns), mask(columns.saturating_sub(16))];
        for (i, sum) in sum.iter().enumerate() {
            store_row(c, i, *sum, masks);
        }
    }
}

/// Adds what the sum starts from and stores one row of a tile.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn store_row(c: Output, row: usize, sum: [__m512; 2], masks: [__mmask16; 2]) {
    // SAFETY: masked to the columns that exist.
    unsafe {
        for (half, (sum, mask)) in sum.into_iter().zip(masks).enumerate() {
            let to = c.f32().wrapping_add(row * c.row_stride + half * 16);
            let start = match c.added() {
                None => _mm512_setzero_ps(),
                Some((from, row_stride)) => {
                    _mm512_maskz_loadu_ps(mask, from.wrapping_add(row * row_stride + half * 16))
                }
            };
            _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(sum, start));
        }
    }
}
