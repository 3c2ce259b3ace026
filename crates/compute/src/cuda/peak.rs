//! What a GPU does at most, measured: large products, and reading memory.

use super::Cuda;
use crate::Result;
use crate::device::{Device, Gemm};
use crate::rng::Rng;
use crate::tensor::{DType, Layout};
use std::time::Instant;

/// Rounds of a measurement; the best counts.
const ROUNDS: usize = 5;

impl Cuda {
    /// Products of square matrices of this type, in GFLOP/s. Takes the arena.
    ///
    /// # Errors
    /// A GPU without the memory.
    pub fn peak_gflops(&mut self, dtype: DType) -> Result<f64> {
        let width = if dtype == DType::F32 { 4096 } else { 8192 };
        let mut layout = Layout::new();
        let [a, b, out] = [0; 3].map(|_| layout.reserve(dtype, width, width));
        self.allocate(layout.bytes())?;
        // Zeros would cost less power than numbers, and let the clock run faster than it does in earnest.
        let mut rng = Rng::from_parts(0, "peak", &[]);
        let numbers: Vec<f32> = (0..width * width).map(|_| rng.uniform() as f32 - 0.5).collect();
        self.upload(a, &numbers);
        self.upload(b, &numbers);
        let op =
            Gemm { a, a_transposed: false, b, b_transposed: true, out, residual: None, accumulate: false };
        self.gemm(op);
        let seconds = self.best(10, |this| this.gemm(op));
        Ok(2.0 * (width as f64).powi(3) / seconds / 1e9)
    }

    /// Reading memory again and again, in GB/s. Takes the arena.
    ///
    /// # Errors
    /// A GPU without the memory.
    pub fn peak_read_gbs(&mut self, bytes: usize) -> Result<f64> {
        let mut layout = Layout::new();
        let x = layout.reserve(DType::F32, 1, bytes.div_ceil(4).max(1 << 20));
        let sum = layout.reserve(DType::F64, 1, 1);
        self.allocate(layout.bytes())?;
        self.squared_norm(x, sum);
        let seconds = self.best(10, |this| this.squared_norm(x, sum));
        Ok(4.0 * x.len() as f64 / seconds / 1e9)
    }

    /// Seconds of one of `calls` calls.
    fn best(&mut self, calls: usize, mut call: impl FnMut(&mut Cuda)) -> f64 {
        self.synchronize();
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            for _ in 0..calls {
                call(self);
            }
            self.synchronize();
            best = best.min(began.elapsed().as_secs_f64() / calls as f64);
        }
        best
    }
}
