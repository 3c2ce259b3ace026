//! The CPU: a thread pool, SIMD chosen at run time, one arena.
//!
//! Reading order: [`device`], this file (how a call becomes work items), [`view`] and [`gemm`] with its
//! [`kernels`], [`attention`], [`few_rows`], [`packed_blocks`] and [`block_products`] (decoding), [`rows`]
//! (norms, activations, embeddings), [`loss`], [`optimizer`], [`peak`]. Work is cut in fixed items and sums
//! are folded in a fixed order, so the same inputs give the same bits whatever the thread count.

#[cfg(target_arch = "x86_64")]
mod amx;
mod arena;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
#[cfg(target_arch = "x86_64")]
mod bf16_pairs;
mod block_products;
mod buffer;
mod device;
mod few_rows;
mod gemm;
mod instruction_set;
mod kernels;
mod lanes;
mod loss;
mod optimizer;
mod packed_blocks;
mod peak;
mod pool;
mod rows;
mod simd;
mod vector;
mod view;
mod workspace;

use crate::device::{
    AdamW, Attention, AttentionBackward, Axpby, CachedAttention, Device, Gemm, LinearCrossEntropy, Momentum,
    RmsNorm, RmsNormBackward, Rope, SgdStep,
};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use arena::Arena;
use buffer::Shared;
use kernels::{Kernels, in_bf16, no_bf16};
use vector::{Element, with_element};
use view::{Output, Start, View};

pub use device::Cpu;
pub(crate) use device::thread_count;
pub use instruction_set::InstructionSet;

impl Device for Cpu {
    fn name(&self) -> String {
        let kernels = self.kernels.instruction_set().name();
        format!("CPU ({} threads, {kernels})", self.pool.threads())
    }

    fn allocate(&mut self, bytes: usize) -> Result<()> {
        self.arena = Arena::new(bytes)
            .ok_or_else(|| Error::OutOfMemory { needed_bytes: bytes, device: self.name() })?;
        Ok(())
    }

    fn upload(&mut self, to: Tensor, values: &[f32]) {
        assert_eq!(to.len(), values.len());
        if to.dtype.is_blocks() {
            return self.upload_blocks(to, &to.dtype.block_format().encode(values));
        }
        with_element!(to.dtype, E => simd::scaled_copy(self.arena.typed_mut::<E>(to), 1.0, values));
    }

    fn upload_blocks(&mut self, to: Tensor, from: &[u8]) {
        assert_eq!(from.len(), to.dtype.block_format().bytes_of(to.len()), "{to:?}");
        let bytes = self.arena.block_bytes_mut(to);
        match to.dtype {
            // No product reads them, so they stay in order.
            DType::Nf4 => bytes[..from.len()].copy_from_slice(from),
            dtype => packed_blocks::pack(dtype, to.columns, from, bytes),
        }
    }

    fn upload_ids(&mut self, to: Tensor, values: &[u32]) {
        self.arena.ids_mut(to).copy_from_slice(values);
    }

    fn download(&mut self, from: Tensor) -> Vec<f32> {
        with_element!(from.dtype, E => self.arena.typed::<E>(from).iter().map(|x| x.get()).collect())
    }

    fn download_scalar(&mut self, from: Tensor) -> f64 {
        self.arena.scalar(from)
    }

    fn synchronize(&mut self) {}

    fn fill(&mut self, x: Tensor, value: f32) {
        self.fill_rows(x, value);
    }

    fn copy(&mut self, from: Tensor, to: Tensor) {
        self.copy_rows(from, to);
    }

    fn add(&mut self, x: Tensor, y: Tensor) {
        self.add_rows(x, y);
    }

    fn dropout(&mut self, x: Tensor, p: f32, seed: u64) {
        self.dropout_rows(x, p, seed);
    }

    fn gemm(&mut self, op: Gemm) {
        let a = if op.a_transposed { self.view(op.a).transposed() } else { self.view(op.a) };
        let b = if op.b_transposed { self.view(op.b).transposed() } else { self.view(op.b) };
        assert_eq!((a.rows, b.columns, a.columns), (op.out.rows, op.out.columns, b.rows), "{op:?}");
        let start = match (op.residual, op.accumulate) {
            (Some(residual), false) => {
                assert_eq!((residual.rows, residual.columns), (op.out.rows, op.out.columns), "{op:?}");
                Start::Residual { pointer: self.arena.f32(residual), row_stride: residual.row_stride }
            }
            (None, true) => Start::Accumulate,
            (None, false) => Start::Zero,
            (Some(_), true) => unreachable!("a product is added to one matrix only"),
        };
        let out = Output {
            pointer: self.arena.bytes(op.out),
            dtype: op.out.dtype,
            row_stride: op.out.row_stride,
            start,
        };
        let bf16 = in_bf16(a, b);
        assert!(op.out.dtype == DType::F32 || (bf16 && self.kernels.has_bf16()), "{op:?}");
        assert!(a.columns > 0, "a product over nothing: {op:?}");
        assert!(!b.dtype.is_blocks() || op.b_transposed, "{op:?}");
        // SAFETY: the arena holds all operands; the output overlaps no input.
        if unsafe { self.few_rows(a, b, out) } {
            return;
        }
        if a.dtype == DType::F32 && b.dtype != DType::F32 && !self.kernels.has_bf16() {
            self.widened(a, b, out);
            return;
        }
        // SAFETY: as above.
        unsafe { self.multiply(a, b, out) };
    }

    fn add_bias(&mut self, x: Tensor, bias: Tensor) {
        self.add_bias_rows(x, bias);
    }

    fn bias_backward(&mut self, dy: Tensor, dbias: Tensor) {
        self.bias_backward_columns(dy, dbias);
    }

    fn scale_columns(&mut self, x: Tensor, scale: Tensor) {
        self.scale_columns_rows(x, scale);
    }

    fn column_dots(&mut self, x: Tensor, y: Tensor, scale: Tensor, out: Tensor) {
        self.column_dots_columns(x, y, scale, out);
    }

    fn embedding(&mut self, ids: Tensor, table: Tensor, out: Tensor) {
        self.embedding_rows(ids, table, out);
    }

    fn embedding_backward(&mut self, ids: Tensor, dout: Tensor, dtable: Tensor) {
        self.embedding_backward_columns(ids, dout, dtable);
    }

    fn rmsnorm(&mut self, op: RmsNorm, out: Tensor) {
        self.rmsnorm_rows(op, out);
    }

    fn rmsnorm_backward(&mut self, op: RmsNormBackward) {
        self.rmsnorm_backward_rows(op);
    }

    fn rope(&mut self, op: Rope) {
        self.rope_rows(op);
    }

    fn attention(&mut self, op: Attention) {
        self.attention_forward(op);
    }

    fn attention_backward(&mut self, op: AttentionBackward) {
        self.attention_gradients(op);
    }

    fn cached_attention(&mut self, op: CachedAttention) {
        self.attention_to_cache(op);
    }

    fn swiglu(&mut self, gate_up: Tensor, out: Tensor) {
        self.swiglu_rows(gate_up, out);
    }

    fn swiglu_backward(&mut self, gate_up: Tensor, dout: Tensor, out: Tensor) {
        self.swiglu_backward_rows(gate_up, dout, out);
    }

    fn linear_cross_entropy(&mut self, op: LinearCrossEntropy) {
        self.linear_cross_entropy_chunks(op);
    }

    fn squared_norm(&mut self, x: Tensor, out: Tensor) {
        self.squared_norm_chunks(x, out);
    }

    fn adamw(&mut self, op: AdamW) {
        self.adamw_chunks(op);
    }

    fn momentum(&mut self, op: Momentum) {
        self.momentum_chunks(op);
    }

    fn scale_by_frobenius_norm(&mut self, x: Tensor, squared_norm: Tensor, out: Tensor) {
        self.scale_by_frobenius_norm_chunks(x, squared_norm, out);
    }

    fn axpby(&mut self, op: Axpby) {
        self.axpby_chunks(op);
    }

    fn sgd_step(&mut self, op: SgdStep) {
        self.sgd_step_chunks(op);
    }
}

/// Products with a side below this waste most of a tile. The rank of adapters is often 16: half a tile, which
/// is still several times as fast as vectors.
#[cfg(target_arch = "x86_64")]
const TILE_SIDE: usize = 16;

/// Rows of a weight that are widened to f32 at a time.
const WIDENED_ROWS: usize = 512;

impl Cpu {
    /// The product on all threads, by the kernel that suits it.
    ///
    /// # Safety
    /// Views and output must be valid for their shapes; the output overlaps no input (a residual may be the
    /// output itself).
    unsafe fn multiply(&mut self, a: View, b: View, out: Output) {
        let bf16 = in_bf16(a, b);
        let (pool, scratch) = (&self.pool, &mut self.scratch);
        #[cfg(target_arch = "x86_64")]
        let small = a.rows.min(a.columns).min(b.columns) < TILE_SIDE;
        // SAFETY: passed on.
        unsafe {
            match (self.kernels, bf16) {
                #[cfg(target_arch = "x86_64")]
                (Kernels::Amx(tiles, ..), true) if !small => {
                    gemm::parallel(amx::AmxBf16(tiles), pool, scratch, a, b, out);
                }
                #[cfg(target_arch = "x86_64")]
                (Kernels::Avx512Bf16(_, pairs) | Kernels::Amx(.., pairs), true) => {
                    gemm::parallel(pairs, pool, scratch, a, b, out);
                }
                #[cfg(target_arch = "x86_64")]
                (Kernels::Amx(tiles, ..), false) if !small => gemm::parallel(tiles, pool, scratch, a, b, out),
                #[cfg(target_arch = "x86_64")]
                (
                    Kernels::Avx512(vectors) | Kernels::Avx512Bf16(vectors, _) | Kernels::Amx(_, vectors, _),
                    false,
                ) => {
                    gemm::parallel(vectors, pool, scratch, a, b, out);
                }
                #[cfg(target_arch = "x86_64")]
                (Kernels::Avx2(kernel), false) => gemm::parallel(kernel, pool, scratch, a, b, out),
                (Kernels::Portable(kernel), false) => gemm::parallel(kernel, pool, scratch, a, b, out),
                (_, true) => no_bf16(),
            }
        }
    }

    /// A product with a weight of fewer bits on a CPU that multiplies f32 alone: some of the weight's rows at
    /// a time.
    fn widened(&mut self, a: View, b: View, out: Output) {
        assert_eq!(b.row_stride, 1, "weights are read by rows");
        let (k, n) = (b.rows, b.columns);
        let mut buffer = std::mem::take(&mut self.widened);
        for first in (0..n).step_by(WIDENED_ROWS) {
            let rows = WIDENED_ROWS.min(n - first);
            let to = Shared(buffer.ensure(rows * k * 4).cast::<f32>());
            let from = Shared(b);
            self.pool.run(rows, &|r, _| {
                // SAFETY: row r of the buffer belongs to this item, and the weight's row exists.
                unsafe {
                    let to = std::slice::from_raw_parts_mut(to.get().add(r * k), k);
                    from.get().read_column(first + r, to);
                }
            });
            let part = View {
                pointer: to.get().cast(),
                dtype: DType::F32,
                rows: k,
                columns: rows,
                row_stride: 1,
                column_stride: k,
            };
            // SAFETY: valid operands; each part writes its own columns.
            unsafe { self.multiply(a, part, out.at(0, first)) };
        }
        self.widened = buffer;
    }
}

impl Tensor {
    /// Panics unless the tensor holds `dtype`: a kernel was called with the wrong handle.
    fn expect(&self, dtype: DType) {
        assert_eq!(self.dtype, dtype, "{self:?}");
    }
}
