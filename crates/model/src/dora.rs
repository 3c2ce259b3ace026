//! The norms of rows that DoRA scales outputs by: Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank
//! Adaptation", arXiv:2402.09353.
//!
//! An adapted layer computes g ⊙ (W·x + s·B·A·dropout(x)) + b with g = m / ‖W + s·B·A‖ by rows. As in the
//! paper (section 4.3) the norms are constants to the backward. Where PEFT drops elements of the input of W
//! too, only A's input is dropped here; without dropout both compute the same.

use crate::linear::{Adapter, Linear, product, shaped};
use compute::device::{Axpby, Gemm, RmsNorm};
use compute::{DType, Device, Layout, Tensor};

/// Rows whose norms are computed together.
const ROWS: usize = 64;

/// Buffers for the norms of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormBuffers {
    /// (1, rows · widest input): rows of W + s·B·A.
    rows: Tensor,
    /// (1, rank · widest input): s·A.
    scaled_a: Tensor,
    /// (1, rows · rank): rows of B.
    b: Tensor,
    /// (1, widest input) of ones.
    ones: Tensor,
}

impl NormBuffers {
    /// Room for inputs of `width` and adapters of `rank`, in the region that starts at `start`.
    pub fn reserve(layout: &mut Layout, width: usize, rank: usize, start: usize) -> NormBuffers {
        let mut flat = |len| {
            let relative = layout.reserve(DType::F32, 1, len);
            Tensor { offset: relative.offset + start, ..relative }
        };
        let (rows, scaled_a) = (flat(ROWS * width), flat(rank * width));
        NormBuffers { rows, scaled_a, b: flat(ROWS * rank), ones: flat(width) }
    }

    /// Computes the norms and gains of a layer from its weights.
    pub fn update<D: Device>(&self, device: &mut D, linear: &Linear) {
        let Some(adapter) = &linear.adapter else { return };
        device.fill(self.ones, 1.0);
        for index in 0..adapter.parts.len() {
            self.update_part(device, linear, adapter, index);
        }
    }

    fn update_part<D: Device>(&self, device: &mut D, linear: &Linear, adapter: &Adapter, index: usize) {
        let part = &adapter.parts[index];
        let Some(magnitude) = &part.magnitude else { return };
        let (outputs, width) = (part.b.stored.rows, adapter.a.stored.columns);
        let rank = part.b.stored.columns;
        let a = adapter.a.stored.row_range(index * rank, rank);
        let flat = |t: Tensor| Tensor { rows: 1, columns: t.len(), row_stride: t.len(), ..t };
        let scaled_a = shaped(self.scaled_a, rank, width);
        device.axpby(Axpby { a: adapter.scale, x: flat(a), b: 0.0, y: flat(a), out: flat(scaled_a) });
        for first in (0..outputs).step_by(ROWS) {
            let count = ROWS.min(outputs - first);
            let rows = shaped(self.rows, count, width);
            device.copy(linear.operand.row_range(part.first + first, count), rows);
            let b = shaped(self.b, count, rank);
            device.copy(part.b.stored.row_range(first, count), b);
            device.gemm(Gemm { accumulate: true, ..product(b, scaled_a, rows) });
            // A row of zeros has a norm too, so that it stays one.
            let rstd = magnitude.inverse_norm.column_range(first, count).reshape(count, 1);
            let weight = self.ones.column_range(0, width);
            device.rmsnorm(RmsNorm { x: rows, weight, rstd, eps: f32::MIN_POSITIVE }, rows);
        }
        let norms = magnitude.inverse_norm;
        // A root of the mean square so far.
        let by = 1.0 / (width as f32).sqrt();
        device.axpby(Axpby { a: by, x: norms, b: 0.0, y: norms, out: norms });
        device.copy(magnitude.stored, magnitude.gain);
        device.scale_columns(magnitude.gain, norms);
    }
}
