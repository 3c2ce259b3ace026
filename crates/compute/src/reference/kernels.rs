//! Every kernel but attention, as plain loops.

use super::{Reference, bf16};
use crate::device::{
    AdamW, Axpby, Gemm, LinearCrossEntropy, Momentum, RmsNorm, RmsNormBackward, Rope, SgdStep,
};
use crate::rng;
use crate::tensor::{DType, Tensor};

/// Whether dropout keeps element `index`: 24 bits of a mixed counter against p. Part of the specification, so
/// that every device draws the same mask.
#[inline(always)]
pub fn dropout_keeps(seed: u64, index: u64, p: f32) -> bool {
    let bits = rng::mix(seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 40;
    bits as f32 >= p * 16_777_216.0
}

impl Reference {
    pub(super) fn dropout_kernel(&mut self, x: Tensor, p: f32, seed: u64) {
        for r in 0..x.rows {
            for c in 0..x.columns {
                let keep = dropout_keeps(seed, (r * x.columns + c) as u64, p);
                let value = if keep { self.get(x, r, c) / (1.0 - f64::from(p)) } else { 0.0 };
                self.set(x, r, c, value);
            }
        }
    }

    pub(super) fn gemm_kernel(&mut self, op: Gemm) {
        let (m, n) = (op.out.rows, op.out.columns);
        let k = if op.a_transposed { op.a.rows } else { op.a.columns };
        let rounded = op.a.dtype == DType::Bf16 || op.b.dtype == DType::Bf16;
        let operand = |value| if rounded { bf16(value) } else { value };
        let mut product = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                for p in 0..k {
                    let a = if op.a_transposed { self.get(op.a, p, i) } else { self.get(op.a, i, p) };
                    let b = if op.b_transposed { self.get(op.b, j, p) } else { self.get(op.b, p, j) };
                    product[i * n + j] += operand(a) * operand(b);
                }
            }
        }
        for i in 0..m {
            for j in 0..n {
                let mut value = product[i * n + j];
                if let Some(residual) = op.residual {
                    value += self.get(residual, i, j);
                }
                if op.accumulate {
                    value += self.get(op.out, i, j);
                }
                self.set(op.out, i, j, value);
            }
        }
    }

    pub(super) fn rmsnorm_kernel(&mut self, op: RmsNorm, out: Tensor) {
        let width = op.weight.columns;
        for r in 0..op.x.rows {
            for g in 0..op.x.columns / width {
                let mean_square =
                    (0..width).map(|c| self.get(op.x, r, g * width + c).powi(2)).sum::<f64>() / width as f64;
                let rstd = 1.0 / (mean_square + f64::from(op.eps)).sqrt();
                self.set(op.rstd, r, g, rstd);
                for c in 0..width {
                    let y = self.get(op.x, r, g * width + c) * rstd * self.get(op.weight, 0, c);
                    self.set(out, r, g * width + c, y);
                }
            }
        }
    }

    pub(super) fn rmsnorm_backward_kernel(&mut self, op: RmsNormBackward) {
        let RmsNormBackward { forward: op, dout, dx, overwrite, dweight } = op;
        let width = op.weight.columns;
        for r in 0..op.x.rows {
            for g in 0..op.x.columns / width {
                let at = g * width;
                let rstd = self.get(op.rstd, r, g);
                // With x̂ = x·rstd: dx = rstd·(w·dy − x̂·mean(w·dy·x̂)).
                let mean = (0..width)
                    .map(|c| {
                        self.get(op.weight, 0, c)
                            * self.get(dout, r, at + c)
                            * self.get(op.x, r, at + c)
                            * rstd
                    })
                    .sum::<f64>()
                    / width as f64;
                for c in 0..width {
                    let normed = self.get(op.x, r, at + c) * rstd;
                    let dy = self.get(dout, r, at + c);
                    let gradient = rstd * (self.get(op.weight, 0, c) * dy - normed * mean);
                    if let Some(dweight) = dweight {
                        self.add_to(dweight, 0, c, dy * normed);
                    }
                    if overwrite {
                        self.set(dx, r, at + c, gradient);
                    } else {
                        self.add_to(dx, r, at + c, gradient);
                    }
                }
            }
        }
    }

    pub(super) fn rope_kernel(&mut self, op: Rope) {
        let half = op.cos.columns;
        for r in 0..op.x.rows {
            let position = self.get(op.positions, 0, r) as usize;
            for head in 0..op.x.columns / (2 * half) {
                for c in 0..half {
                    let at = head * 2 * half + c;
                    let (a, b) = (self.get(op.x, r, at), self.get(op.x, r, at + half));
                    let cos = self.get(op.cos, position, c);
                    let sin = self.get(op.sin, position, c) * if op.inverse { -1.0 } else { 1.0 };
                    self.set(op.x, r, at, a * cos - b * sin);
                    self.set(op.x, r, at + half, b * cos + a * sin);
                }
            }
        }
    }

    pub(super) fn swiglu_kernel(&mut self, gate_up: Tensor, out: Tensor) {
        let f = out.columns;
        for r in 0..out.rows {
            for c in 0..f {
                let (gate, up) = (self.get(gate_up, r, c), self.get(gate_up, r, f + c));
                self.set(out, r, c, gate / (1.0 + (-gate).exp()) * up);
            }
        }
    }

    pub(super) fn swiglu_backward_kernel(&mut self, gate_up: Tensor, dout: Tensor) {
        let f = dout.columns;
        for r in 0..dout.rows {
            for c in 0..f {
                let (gate, up) = (self.get(gate_up, r, c), self.get(gate_up, r, f + c));
                let dh = self.get(dout, r, c);
                let sigmoid = 1.0 / (1.0 + (-gate).exp());
                self.set(gate_up, r, c, dh * up * sigmoid * (1.0 + gate * (1.0 - sigmoid)));
                self.set(gate_up, r, f + c, dh * gate * sigmoid);
            }
        }
    }

    pub(super) fn linear_cross_entropy_kernel(&mut self, op: LinearCrossEntropy) {
        let (vocabulary, width) = (op.weight.rows, op.weight.columns);
        for n in 0..op.x.rows {
            let logits: Vec<f64> = (0..vocabulary)
                .map(|v| (0..width).map(|c| self.get(op.x, n, c) * self.get(op.weight, v, c)).sum())
                .collect();
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|l| (l - max).exp()).sum();
            let target = self.get(op.targets, 0, n) as usize;
            let weight = self.get(op.weights, 0, n);
            let loss = max + sum.ln() - logits[target];
            self.add_to(op.loss_sum, 0, 0, weight * loss);
            let Some(gradient) = op.gradient else { continue };
            let scale = weight * f64::from(gradient.scale);
            let dlogits: Vec<f64> = logits
                .iter()
                .enumerate()
                .map(|(v, l)| scale * ((l - max).exp() / sum - f64::from(v == target)))
                .collect();
            for c in 0..width {
                let x = self.get(op.x, n, c);
                let mut dx = 0.0;
                for (v, d) in dlogits.iter().enumerate() {
                    dx += d * self.get(op.weight, v, c);
                    if let Some(dweight) = gradient.dweight {
                        self.add_to(dweight, v, c, d * x);
                    }
                }
                self.set(gradient.dx, n, c, dx);
            }
        }
    }

    pub(super) fn adamw_kernel(&mut self, op: AdamW) {
        let Some(clip) = self.clip(op.squared_norm, op.max_gradient_norm) else { return };
        let (beta1, beta2) = (f64::from(op.beta1), f64::from(op.beta2));
        let rate = f64::from(op.learning_rate);
        let correction1 = 1.0 - beta1.powf(op.step as f64);
        let correction2 = 1.0 - beta2.powf(op.step as f64);
        for i in 0..op.weight.columns {
            let g = self.get(op.gradient, 0, i) * clip;
            let m = beta1 * self.get(op.moment1, 0, i) + (1.0 - beta1) * g;
            let v = beta2 * self.get(op.moment2, 0, i) + (1.0 - beta2) * g * g;
            let w = self.get(op.weight, 0, i) * (1.0 - rate * f64::from(op.weight_decay));
            let denominator = (v / correction2).sqrt() + f64::from(op.epsilon);
            self.set(op.moment1, 0, i, m);
            self.set(op.moment2, 0, i, v);
            let updated = w - rate * (m / correction1) / denominator;
            self.set(op.weight, 0, i, updated);
            if let Some(rounded) = op.rounded {
                self.set(rounded, 0, i, updated);
            }
        }
    }

    /// What gradients are multiplied by; `None` where their norm is not finite, and nothing may change.
    fn clip(&self, squared_norm: Tensor, max_norm: f32) -> Option<f64> {
        let (squared_norm, limit) = (self.get(squared_norm, 0, 0), f64::from(max_norm));
        // torch.nn.utils.clip_grad_norm_ divides by norm + 1e-6; kept, so that runs compare.
        let clip = if limit > 0.0 { (limit / (squared_norm.sqrt() + 1e-6)).min(1.0) } else { 1.0 };
        squared_norm.is_finite().then_some(clip)
    }

    pub(super) fn momentum_kernel(&mut self, op: Momentum) {
        let Some(clip) = self.clip(op.squared_norm, op.max_gradient_norm) else { return };
        let beta = f64::from(op.beta);
        let gradient: Vec<f64> = self.read(op.gradient).iter().map(|g| g * clip).collect();
        let average = |a: &[f64], b: &[f64]| -> Vec<f64> {
            a.iter().zip(b).map(|(a, b)| beta * a + (1.0 - beta) * b).collect()
        };
        let moment = average(&self.read(op.moment), &gradient);
        self.write(op.moment, &moment);
        self.write(op.gradient, &average(&moment, &gradient));
    }

    pub(super) fn scale_by_frobenius_norm_kernel(&mut self, x: Tensor, squared_norm: Tensor, out: Tensor) {
        let norm = 1.02 * self.get(squared_norm, 0, 0).sqrt() + 1e-6;
        let values: Vec<f64> = self.read(x).iter().map(|x| x / norm).collect();
        self.write(out, &values);
    }

    pub(super) fn axpby_kernel(&mut self, op: Axpby) {
        let (a, b) = (f64::from(op.a), f64::from(op.b));
        let values: Vec<f64> =
            self.read(op.x).iter().zip(self.read(op.y)).map(|(x, y)| a * x + b * y).collect();
        self.write(op.out, &values);
    }

    pub(super) fn sgd_step_kernel(&mut self, op: SgdStep) {
        if !self.get(op.squared_norm, 0, 0).is_finite() {
            return;
        }
        let (step, keep) = (f64::from(op.step), 1.0 - f64::from(op.decay));
        let values: Vec<f64> = self
            .read(op.weight)
            .iter()
            .zip(self.read(op.direction))
            .map(|(w, d)| w * keep - step * d)
            .collect();
        self.write(op.weight, &values);
        if let Some(rounded) = op.rounded {
            self.write(rounded, &values);
        }
    }
}
