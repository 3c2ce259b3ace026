//! Products of a few rows (a token, or one of each of several sequences) with a weight: bound by reading the
//! weight once.
//!
//! The weight is walked where it lies, each item some of its rows. bfloat16 weights take the rows of A
//! rounded to it, weights in blocks take them in blocks of signed bytes (as llama.cpp does). Which kernel
//! runs depends on the number of rows, so a sequence's last bits may depend on how many are decoded with it;
//! never on the threads.

use super::block_products;
use super::buffer::Shared;
use super::device::Cpu;
#[cfg(target_arch = "x86_64")]
use super::kernels::Kernels;
use super::simd::dot;
use super::vector::Element;
#[cfg(target_arch = "x86_64")]
use super::view::Start;
use super::view::{Output, View};
use crate::tensor::{DType, INTERLEAVED_ROWS};
use half::bf16;

/// Items a thread: enough that one that is held up leaves work to the others, few enough that each walks a
/// long stretch of memory.
const ITEMS: usize = 8;

/// Up to this many rows of A, packing B costs more than the dot products of rows.
const DOT_ROWS: usize = 4;
/// The same where dot products take pairs of bfloat16.
#[cfg(target_arch = "x86_64")]
const PAIR_ROWS: usize = 32;
/// The same for integer products: above, tiles win, and below they are not used.
const BLOCK_ROWS: usize = 23;

impl Cpu {
    /// Computes a product of few rows, or returns false: it is none, or better packed.
    ///
    /// # Safety
    /// Views and output must be valid for their shapes; the output overlaps no input (a residual may be the
    /// output itself).
    pub(super) unsafe fn few_rows(&mut self, a: View, b: View, out: Output) -> bool {
        let by_rows = a.column_stride == 1 && b.row_stride == 1;
        if !by_rows || a.dtype != DType::F32 || out.dtype != DType::F32 || a.rows > self.most_rows(b.dtype) {
            return false;
        }
        // SAFETY: passed on.
        unsafe {
            match b.dtype {
                DType::Q8_0 | DType::Q4_0 => self.dots_of_blocks(a, b, out),
                #[cfg(target_arch = "x86_64")]
                DType::Bf16 if self.kernels.has_bf16() => self.dots_of_pairs(a, b, out),
                DType::Bf16 => self.dots::<bf16>(a, b, out),
                _ => self.dots::<f32>(a, b, out),
            }
        }
        true
    }

    /// Rows of B (a weight's output features) that one item covers, of `n`.
    fn item_rows(&self, n: usize) -> usize {
        n.div_ceil(ITEMS * self.pool.threads()).next_multiple_of(INTERLEAVED_ROWS)
    }

    fn most_rows(&self, weights: DType) -> usize {
        match weights {
            DType::Q8_0 | DType::Q4_0 => BLOCK_ROWS,
            #[cfg(target_arch = "x86_64")]
            DType::Bf16 if self.kernels.has_bf16() => PAIR_ROWS,
            _ => DOT_ROWS,
        }
    }

    /// One dot product an output.
    unsafe fn dots<E: Element>(&self, a: View, b: View, out: Output) {
        let (k, n) = (a.columns, b.columns);
        let (a, b, out) = (Shared(a), Shared(b), Shared(out));
        let item_rows = self.item_rows(n);
        self.pool.run(n.div_ceil(item_rows), &|item, _| {
            let (a, b, out) = (a.get(), b.get(), out.get());
            for j in item * item_rows..((item + 1) * item_rows).min(n) {
                for i in 0..a.rows {
                    // SAFETY: rows of valid views with unit stride along k; output (i, j) belongs to this
                    // item.
                    unsafe {
                        let x = std::slice::from_raw_parts(a.elements::<f32>().add(i * a.row_stride), k);
                        let w = std::slice::from_raw_parts(b.elements::<E>().add(j * b.column_stride), k);
                        put(out, i, j, &[dot(x, w)]);
                    }
                }
            }
        });
    }

    unsafe fn dots_of_blocks(&mut self, a: View, b: View, out: Output) {
        // SAFETY: a valid view, f32, contiguous along k.
        let tokens = unsafe { self.few_rows.quantized.fill(a, b.dtype) };
        let (n, count) = (b.columns, a.rows);
        let (b, out, tokens) = (Shared(b), Shared(out), Shared(tokens));
        let kernel = block_products::Kernel::of(self.kernels.instruction_set());
        let item_rows = self.item_rows(n);
        self.pool.run(n.div_ceil(item_rows), &|item, _| {
            let (b, out) = (b.get(), out.get());
            for j in (item * item_rows..((item + 1) * item_rows).min(n)).step_by(INTERLEAVED_ROWS) {
                let columns = INTERLEAVED_ROWS.min(n - j);
                // SAFETY: the cells of 16 rows exist; outputs of these columns belong to this item.
                unsafe {
                    kernel.all_tokens(b.dtype, b.at(0, j), tokens.get(), count, |i, sums| {
                        put(out, i, j, &sums[..columns]);
                    });
                }
            }
        });
    }
}

/// Writes neighboring outputs of row `i` from column `j` on.
///
/// # Safety
/// They exist, and nobody else reads or writes them.
#[inline]
unsafe fn put(out: Output, i: usize, j: usize, sums: &[f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        let to = out.f32().add(i * out.row_stride + j);
        for (c, sum) in sums.iter().enumerate() {
            let start = out.added().map_or(0.0, |(from, row_stride)| *from.add(i * row_stride + j + c));
            *to.add(c) = start + sum;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod pairs {
    use super::super::bf16_pairs::numbers;
    use super::super::{amx, gemm};
    use super::*;
    use half::bf16;
    use std::arch::x86_64::*;

    /// From this many rows on, and of products this large, tiles read the weight as their first operand.
    const TILE_ROWS: usize = 5;
    const TILE_SIDE: usize = 32;

    impl Cpu {
        pub(super) unsafe fn dots_of_pairs(&mut self, a: View, b: View, out: Output) {
            let (m, k, n) = (a.rows, a.columns, b.columns);
            if let Kernels::Amx(tiles, ..) = self.kernels
                && m >= TILE_ROWS
                && k >= TILE_SIDE
                && n >= TILE_SIDE
            {
                let mut buffer = std::mem::take(&mut self.few_rows.transposed);
                let product = Output {
                    pointer: buffer.ensure(m * n * 4),
                    dtype: DType::F32,
                    row_stride: m,
                    start: Start::Zero,
                };
                let (kernel, scratch) = (amx::AmxBf16(tiles), &mut self.scratch);
                // SAFETY: passed on; the buffer holds n × m.
                unsafe {
                    gemm::parallel(kernel, &self.pool, scratch, b.transposed(), a.transposed(), product);
                    let from = product.f32();
                    for i in 0..m {
                        for j in 0..n {
                            put(out, i, j, &[*from.add(j * m + i)]);
                        }
                    }
                }
                self.few_rows.transposed = buffer;
                return;
            }
            let rounded = Shared(self.few_rows.rounded.ensure(m * k * 2).cast::<bf16>());
            for i in 0..m {
                // SAFETY: a row of a valid view; the buffer holds m × k.
                unsafe {
                    let from = std::slice::from_raw_parts(a.elements::<f32>().add(i * a.row_stride), k);
                    let to = std::slice::from_raw_parts_mut(rounded.get().add(i * k), k);
                    super::super::simd::scaled_copy(to, 1.0, from);
                }
            }
            let (b, out) = (Shared(b), Shared(out));
            let item_rows = self.item_rows(n);
            self.pool.run(n.div_ceil(item_rows), &|item, _| {
                let (b, out) = (b.get(), out.get());
                for j in (item * item_rows..((item + 1) * item_rows).min(n)).step_by(4) {
                    let rows = 4.min(n - j);
                    // SAFETY: rows of valid views with unit stride along k; outputs of these columns belong
                    // to this item.
                    unsafe {
                        // A last group of fewer rows reads its last row again.
                        let w = [0, 1, 2, 3].map(|r: usize| {
                            b.elements::<bf16>().add((j + r.min(rows - 1)) * b.column_stride)
                        });
                        let mut i = 0;
                        while i < m {
                            let x = rounded.get().cast_const().add(i * k);
                            macro_rules! tokens_at_once {
                                ($t:literal) => {{
                                    let x: [*const bf16; $t] = std::array::from_fn(|t| x.add(t * k));
                                    let sums = dot_pairs::<$t>(k, w, b.column_stride, x);
                                    for (t, sums) in sums.iter().enumerate() {
                                        put(out, i + t, j, &sums[..rows]);
                                    }
                                    i += $t;
                                }};
                            }
                            match m - i {
                                1 => tokens_at_once!(1),
                                2..4 => tokens_at_once!(2),
                                _ => tokens_at_once!(4),
                            }
                        }
                    }
                }
            });
        }
    }

    /// Four rows of weights times `T` tokens. The rows of weights `stride` further on are next.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn dot_pairs<const T: usize>(
        k: usize,
        w: [*const bf16; 4],
        stride: usize,
        x: [*const bf16; T],
    ) -> [[f32; 4]; T] {
        let mut sums = [[_mm512_setzero_ps(); 4]; T];
        let mut add = |at: usize, mask: u32| {
            // SAFETY: masked to the k that exist.
            unsafe {
                let w = w.map(|w| {
                    _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(at + 4 * stride).cast());
                    numbers(_mm512_maskz_loadu_epi16(mask, w.wrapping_add(at).cast()))
                });
                for (sums, x) in sums.iter_mut().zip(&x) {
                    let x = numbers(_mm512_maskz_loadu_epi16(mask, x.wrapping_add(at).cast()));
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = _mm512_dpbf16_ps(*sum, w, x);
                    }
                }
            }
        };
        for at in (0..k / 32 * 32).step_by(32) {
            add(at, u32::MAX);
        }
        if !k.is_multiple_of(32) {
            add(k / 32 * 32, (1 << (k % 32)) - 1);
        }
        sums.map(|sums| sums.map(|sum| _mm512_reduce_add_ps(sum)))
    }
}
