//! One pass over weights, gradients and moments; and the norm it clips by.

use super::Cpu;
use super::gemm::Shared;
use super::simd::{scaled_copy, simd};
use crate::bf16::Bf16;
use crate::device::AdamW;
use crate::tensor::Tensor;

/// Elements one work item covers.
const CHUNK: usize = 16 * 1024;

impl Cpu {
    pub(super) fn squared_norm_chunks(&mut self, x: Tensor, out: Tensor) {
        let mut partials = std::mem::take(&mut self.partials_f64);
        let values = self.arena.slice(x);
        let items = values.len().div_ceil(CHUNK);
        partials.clear();
        partials.resize(items, 0.0);
        let shared = Shared(partials.as_mut_ptr());
        self.pool.run(items, &|item, _| {
            let chunk = &values[item * CHUNK..((item + 1) * CHUNK).min(values.len())];
            // SAFETY: one partial sum an item.
            unsafe { *shared.get().add(item) = sum_of_squares(chunk) };
        });
        self.arena.set_scalar(out, partials.iter().sum());
        self.partials_f64 = partials;
    }

    pub(super) fn adamw_chunks(&mut self, op: AdamW) {
        let squared_norm = self.arena.scalar(op.squared_norm);
        if !squared_norm.is_finite() {
            return;
        }
        let limit = f64::from(op.max_gradient_norm);
        let clip = if limit > 0.0 { (limit / (squared_norm.sqrt() + 1e-6)).min(1.0) } else { 1.0 };
        let step = op.step as f64;
        let update = Update {
            clip: clip as f32,
            keep: 1.0 - op.learning_rate * op.weight_decay,
            rate: (f64::from(op.learning_rate) / (1.0 - f64::from(op.beta1).powf(step))) as f32,
            beta1: op.beta1,
            beta2: op.beta2,
            correction2: (1.0 / (1.0 - f64::from(op.beta2).powf(step))) as f32,
            epsilon: op.epsilon,
        };
        let n = op.weight.columns;
        let pointers = Shared([op.weight, op.gradient, op.moment1, op.moment2].map(|t| {
            assert_eq!(t.len(), n);
            self.arena.f32(t)
        }));
        let rounded = op.rounded.map(|t| {
            assert_eq!(t.len(), n);
            Shared(self.arena.elements::<Bf16>(t))
        });
        self.pool.run(n.div_ceil(CHUNK), &|item, _| {
            let len = CHUNK.min(n - item * CHUNK);
            // SAFETY: four tensors that do not overlap; each item has a range of its own.
            let [w, g, m, v] =
                pointers.get().map(|p| unsafe { std::slice::from_raw_parts_mut(p.add(item * CHUNK), len) });
            adamw(w, g, m, v, update);
            if let Some(to) = &rounded {
                // SAFETY: as above.
                let to = unsafe { std::slice::from_raw_parts_mut(to.get().add(item * CHUNK), len) };
                scaled_copy(to, 1.0, w);
            }
        });
    }
}

#[derive(Clone, Copy)]
struct Update {
    clip: f32,
    keep: f32,
    rate: f32,
    beta1: f32,
    beta2: f32,
    correction2: f32,
    epsilon: f32,
}

simd! {
    fn adamw(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], u: Update) {
        let n = w.len();
        let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
        for i in 0..n {
            let g = g[i] * u.clip;
            m[i] = u.beta1 * m[i] + (1.0 - u.beta1) * g;
            v[i] = u.beta2 * v[i] + (1.0 - u.beta2) * (g * g);
            w[i] = w[i] * u.keep - u.rate * m[i] / ((v[i] * u.correction2).sqrt() + u.epsilon);
        }
    }
}

simd! {
    fn sum_of_squares(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; 16];
        let (chunks, tail) = x.as_chunks::<16>();
        for x in chunks {
            for i in 0..16 {
                let x = f64::from(x[i]);
                lanes[i] += x * x;
            }
        }
        for (i, &x) in tail.iter().enumerate() {
            lanes[i] += f64::from(x) * f64::from(x);
        }
        lanes.iter().sum()
    }
}
