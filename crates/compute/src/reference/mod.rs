//! The specification: plain loops in f64, slow and obvious. Every other device is tested against it, and its
//! own backward against central differences. Nothing here is ever optimized.

mod attention;
mod kernels;

pub use kernels::dropout_keeps;

use crate::Result;
use crate::device::{
    AdamW, Attention, AttentionBackward, Axpby, CachedAttention, Device, Gemm, LinearCrossEntropy, Momentum,
    RmsNorm, RmsNormBackward, Rope, SgdStep,
};
use crate::tensor::{DType, Tensor};

/// The f64 device. Every element, whatever its dtype, is one f64; what a bfloat16 tensor is given is rounded
/// to bfloat16.
#[derive(Debug, Default)]
pub struct Reference {
    /// Indexed by twice the byte offset, so that views of any dtype resolve as on a real device; most slots
    /// stay unused.
    arena: Vec<f64>,
}

impl Reference {
    /// A device without an arena yet.
    pub fn new() -> Reference {
        Reference::default()
    }

    fn index(t: Tensor, row: usize, column: usize) -> usize {
        assert!(row < t.rows && column < t.columns, "({row}, {column}) of {t:?}");
        // Half a byte is the least an element takes.
        let size = match t.dtype {
            DType::Q4_0 | DType::Nf4 => 1,
            DType::Q8_0 => 2,
            dtype => 2 * dtype.size(),
        };
        2 * t.offset + (row * t.row_stride + column) * size
    }

    fn get(&self, t: Tensor, row: usize, column: usize) -> f64 {
        self.arena[Reference::index(t, row, column)]
    }

    fn set(&mut self, t: Tensor, row: usize, column: usize, value: f64) {
        self.arena[Reference::index(t, row, column)] =
            if t.dtype == DType::Bf16 { bf16(value) } else { value };
    }

    fn add_to(&mut self, t: Tensor, row: usize, column: usize, value: f64) {
        let sum = self.get(t, row, column) + value;
        self.set(t, row, column, sum);
    }

    /// Reads in f64, for tests that need more than f32.
    pub fn read(&self, t: Tensor) -> Vec<f64> {
        let mut out = Vec::with_capacity(t.len());
        for r in 0..t.rows {
            for c in 0..t.columns {
                out.push(self.get(t, r, c));
            }
        }
        out
    }

    /// Writes in f64, for tests that need more than f32.
    pub fn write(&mut self, t: Tensor, values: &[f64]) {
        assert_eq!(values.len(), t.len());
        for r in 0..t.rows {
            for c in 0..t.columns {
                self.set(t, r, c, values[r * t.columns + c]);
            }
        }
    }
}

/// The nearest bfloat16.
fn bf16(value: f64) -> f64 {
    half::bf16::from_f32(value as f32).to_f64()
}

impl Device for Reference {
    fn name(&self) -> String {
        "reference (f64)".to_string()
    }

    fn allocate(&mut self, bytes: usize) -> Result<()> {
        self.arena = vec![0.0; 2 * bytes];
        Ok(())
    }

    fn upload(&mut self, to: Tensor, values: &[f32]) {
        if to.dtype.is_blocks() {
            return self.upload_blocks(to, &to.dtype.block_format().encode(values));
        }
        let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        self.write(to, &values);
    }

    fn upload_blocks(&mut self, to: Tensor, from: &[u8]) {
        let values: Vec<f64> = to.dtype.block_format().decode(from).into_iter().map(f64::from).collect();
        self.write(to, &values);
    }

    fn upload_ids(&mut self, to: Tensor, values: &[u32]) {
        assert_eq!(to.dtype, DType::U32);
        let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        self.write(to, &values);
    }

    fn download(&mut self, from: Tensor) -> Vec<f32> {
        self.read(from).into_iter().map(|v| v as f32).collect()
    }

    fn download_scalar(&mut self, from: Tensor) -> f64 {
        self.get(from, 0, 0)
    }

    fn synchronize(&mut self) {}

    fn fill(&mut self, x: Tensor, value: f32) {
        self.write(x, &vec![f64::from(value); x.len()]);
    }

    fn copy(&mut self, from: Tensor, to: Tensor) {
        let values = self.read(from);
        self.write(to, &values);
    }

    fn add(&mut self, x: Tensor, y: Tensor) {
        let sum: Vec<f64> = self.read(x).iter().zip(self.read(y)).map(|(a, b)| a + b).collect();
        self.write(x, &sum);
    }

    fn dropout(&mut self, x: Tensor, p: f32, seed: u64) {
        self.dropout_kernel(x, p, seed);
    }

    fn gemm(&mut self, op: Gemm) {
        self.gemm_kernel(op);
    }

    fn add_bias(&mut self, x: Tensor, bias: Tensor) {
        for r in 0..x.rows {
            for c in 0..x.columns {
                let b = self.get(bias, 0, c);
                self.add_to(x, r, c, b);
            }
        }
    }

    fn bias_backward(&mut self, dy: Tensor, dbias: Tensor) {
        for r in 0..dy.rows {
            for c in 0..dy.columns {
                let g = self.get(dy, r, c);
                self.add_to(dbias, 0, c, g);
            }
        }
    }

    fn scale_columns(&mut self, x: Tensor, scale: Tensor) {
        for r in 0..x.rows {
            for c in 0..x.columns {
                let value = self.get(x, r, c) * self.get(scale, 0, c);
                self.set(x, r, c, value);
            }
        }
    }

    fn column_dots(&mut self, x: Tensor, y: Tensor, scale: Tensor, out: Tensor) {
        for c in 0..x.columns {
            let dot: f64 = (0..x.rows).map(|r| self.get(x, r, c) * self.get(y, r, c)).sum();
            let scaled = dot * self.get(scale, 0, c);
            self.add_to(out, 0, c, scaled);
        }
    }

    fn embedding(&mut self, ids: Tensor, table: Tensor, out: Tensor) {
        for n in 0..out.rows {
            let id = self.get(ids, 0, n) as usize;
            for c in 0..out.columns {
                let value = self.get(table, id, c);
                self.set(out, n, c, value);
            }
        }
    }

    fn embedding_backward(&mut self, ids: Tensor, dout: Tensor, dtable: Tensor) {
        for n in 0..dout.rows {
            let id = self.get(ids, 0, n) as usize;
            for c in 0..dout.columns {
                let g = self.get(dout, n, c);
                self.add_to(dtable, id, c, g);
            }
        }
    }

    fn rmsnorm(&mut self, op: RmsNorm, out: Tensor) {
        self.rmsnorm_kernel(op, out);
    }

    fn rmsnorm_backward(&mut self, op: RmsNormBackward) {
        self.rmsnorm_backward_kernel(op);
    }

    fn rope(&mut self, op: Rope) {
        self.rope_kernel(op);
    }

    fn attention(&mut self, op: Attention) {
        self.attention_kernel(op);
    }

    fn attention_backward(&mut self, op: AttentionBackward) {
        self.attention_backward_kernel(op);
    }

    fn cached_attention(&mut self, op: CachedAttention) {
        self.cached_attention_kernel(op);
    }

    fn swiglu(&mut self, gate_up: Tensor, out: Tensor) {
        self.swiglu_kernel(gate_up, out);
    }

    fn swiglu_backward(&mut self, gate_up: Tensor, dout: Tensor, out: Tensor) {
        self.swiglu_kernel(gate_up, out);
        self.swiglu_backward_kernel(gate_up, dout);
    }

    fn linear_cross_entropy(&mut self, op: LinearCrossEntropy) {
        self.linear_cross_entropy_kernel(op);
    }

    fn squared_norm(&mut self, x: Tensor, out: Tensor) {
        let sum = self.read(x).iter().map(|v| v * v).sum();
        self.set(out, 0, 0, sum);
    }

    fn adamw(&mut self, op: AdamW) {
        self.adamw_kernel(op);
    }

    fn momentum(&mut self, op: Momentum) {
        self.momentum_kernel(op);
    }

    fn scale_by_frobenius_norm(&mut self, x: Tensor, squared_norm: Tensor, out: Tensor) {
        self.scale_by_frobenius_norm_kernel(x, squared_norm, out);
    }

    fn axpby(&mut self, op: Axpby) {
        self.axpby_kernel(op);
    }

    fn sgd_step(&mut self, op: SgdStep) {
        self.sgd_step_kernel(op);
    }
}
