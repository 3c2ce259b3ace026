//! Buffers of the kernels beside the arena.

use super::block_products::Quantized;
use super::buffer::AlignedBuffer;
use super::kernels::{Kernels, serial_gemm};
use super::view::{Output, View};

/// Queries of one tile.
pub(super) const TILE: usize = 96;

/// A thread's buffers for attention; they grow on first use and stay.
#[derive(Default)]
pub(super) struct AttentionBuffers {
    pub packed_a: AlignedBuffer,
    pub packed_b: AlignedBuffer,
    pub scores: AlignedBuffer,
    pub gradients: AlignedBuffer,
    /// f32 results of a tile on their way to a matrix of another type.
    pub sums: AlignedBuffer,
    /// Gradients of a head's keys and values, summed over its queries in f32.
    pub dk: AlignedBuffer,
    pub dv: AlignedBuffer,
}

impl AttentionBuffers {
    fn buffers(&mut self) -> [&mut AlignedBuffer; 7] {
        [
            &mut self.packed_a,
            &mut self.packed_b,
            &mut self.scores,
            &mut self.gradients,
            &mut self.sums,
            &mut self.dk,
            &mut self.dv,
        ]
    }

    /// Gives every thread what any of them took: which one comes by which item is chance, and a later step
    /// must not allocate because of it.
    pub fn level(all: &mut [AttentionBuffers]) {
        let mut most = [0; 7];
        for buffers in &mut *all {
            let bytes = buffers.buffers().map(|buffer| buffer.bytes());
            most.iter_mut().zip(bytes).for_each(|(most, bytes)| *most = bytes.max(*most));
        }
        for buffers in all {
            for (buffer, bytes) in buffers.buffers().into_iter().zip(most) {
                buffer.ensure(bytes);
            }
        }
    }

    /// A product on the calling thread, in these buffers.
    ///
    /// # Safety
    /// As [`serial_gemm`].
    pub unsafe fn multiply(&mut self, kernels: Kernels, a: View, b: View, out: Output) {
        // SAFETY: passed on.
        unsafe { serial_gemm(kernels, (&mut self.packed_a, &mut self.packed_b), a, b, out) };
    }
}

/// Bytes of one thread's [`AttentionBuffers`] for sequences of `length` tokens.
pub(super) fn attention_bytes(length: usize, head_dim: usize) -> usize {
    let tile = TILE.min(length);
    let (scores, sums, head) = (tile * length, tile * head_dim, length * head_dim);
    // Scores and their gradients, a tile's sums, dK and dV, and keys or values packed for a product.
    4 * (2 * scores + sums + 3 * head)
}

/// What the rows of A are brought into for a product of a few rows.
#[derive(Default)]
pub(super) struct FewRowsBuffers {
    #[cfg(target_arch = "x86_64")]
    pub rounded: AlignedBuffer,
    pub quantized: Quantized,
    /// (n, m): the product's transpose, where tiles make it.
    #[cfg(target_arch = "x86_64")]
    pub transposed: AlignedBuffer,
}
