//! The output layer and its cross-entropy in chunks of rows: logits, loss and their gradient share one
//! scratch matrix.

use super::buffer::Shared;
use super::device::Cpu;
use super::simd::{exp_in_place, maximum, scale_in_place, scaled_copy};
use crate::device::{Device, Gemm, LinearCrossEntropy};
use crate::tensor::{DType, Tensor};
use half::bf16;

/// The gradient of logits where they lay: in bfloat16 it fills the first half of each row.
fn gradient_of(logits: Tensor, operands: DType) -> Tensor {
    match operands {
        DType::Bf16 => Tensor { dtype: DType::Bf16, row_stride: 2 * logits.row_stride, ..logits },
        _ => logits,
    }
}

impl Cpu {
    pub(super) fn linear_cross_entropy_chunks(&mut self, op: LinearCrossEntropy) {
        let chunk = op.scratch.rows;
        for first in (0..op.x.rows).step_by(chunk) {
            let rows = chunk.min(op.x.rows - first);
            let x = op.x.row_range(first, rows);
            let logits = op.scratch.row_range(0, rows);
            self.gemm(Gemm {
                a: x,
                a_transposed: false,
                b: op.weight,
                b_transposed: true,
                out: logits,
                residual: None,
                accumulate: false,
            });
            self.cross_entropy_rows(&op, first, rows);
            let Some(gradient) = op.gradient else { continue };
            let dlogits = gradient_of(logits, op.weight.dtype);
            self.gemm(Gemm {
                a: dlogits,
                a_transposed: false,
                b: op.weight,
                b_transposed: false,
                out: gradient.dx.row_range(first, rows),
                residual: None,
                accumulate: false,
            });
            let Some(dweight) = gradient.dweight else { continue };
            self.gemm(Gemm {
                a: dlogits,
                a_transposed: true,
                b: x,
                b_transposed: false,
                out: dweight,
                residual: None,
                accumulate: true,
            });
        }
    }

    /// Adds the chunk's loss, and replaces its logits by their gradient when one is wanted.
    fn cross_entropy_rows(&mut self, op: &LinearCrossEntropy, first: usize, rows: usize) {
        let mut losses = std::mem::take(&mut self.partials_f64);
        losses.clear();
        losses.resize(rows, 0.0);
        let targets = &self.arena.ids(op.targets)[first..first + rows];
        let weights = &self.arena.slice(op.weights)[first..first + rows];
        let logits = self.rows::<f32>(op.scratch);
        let shared = Shared(losses.as_mut_ptr());
        self.pool.run(rows, &|r, _| {
            // SAFETY: one row and one loss an item.
            let row = unsafe { logits.row(r) };
            let target = targets[r] as usize;
            let weight = weights[r];
            if weight == 0.0 {
                // Not trained: no loss, no gradient, and no exponentials.
                row.fill(0.0);
                return;
            }
            let max = maximum(row);
            let target_logit = row[target];
            let sum = exp_in_place(row, 1.0, max);
            let loss = f64::from(sum).ln() + f64::from(max) - f64::from(target_logit);
            // SAFETY: as above.
            unsafe { *shared.get().add(r) = f64::from(weight) * loss };
            if let Some(gradient) = op.gradient {
                let scale = weight * gradient.scale;
                let at_target = row[target] * (scale / sum) - scale;
                if op.weight.dtype == DType::Bf16 {
                    let row = scale_to_bf16(row, scale / sum);
                    row[target] = bf16::from_f32(at_target);
                } else {
                    scale_in_place(row, scale / sum);
                    row[target] = at_target;
                }
            }
        });
        let total = losses.iter().sum::<f64>() + self.arena.scalar(op.loss_sum);
        self.arena.set_scalar(op.loss_sum, total);
        self.partials_f64 = losses;
    }
}

/// Scales a row and rounds it to bfloat16, in the first half of its own bytes.
fn scale_to_bf16(row: &mut [f32], factor: f32) -> &mut [bf16] {
    const PIECE: usize = 256;
    let mut piece = [bf16::default(); PIECE];
    let mut at = 0;
    while at < row.len() {
        let n = PIECE.min(row.len() - at);
        scaled_copy(&mut piece[..n], factor, &row[at..at + n]);
        // SAFETY: values of two bytes end before the f32 that come next, and the f32 they overwrite are read
        // already.
        unsafe {
            let to = row.as_mut_ptr().cast::<bf16>().add(at);
            std::ptr::copy_nonoverlapping(piece.as_ptr(), to, n);
        }
        at += n;
    }
    // SAFETY: the row's bytes hold as many values of half the size, all written above; the borrow passes on.
    unsafe { std::slice::from_raw_parts_mut(row.as_mut_ptr().cast(), row.len()) }
}
