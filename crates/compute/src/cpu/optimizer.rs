//! One pass over weights, gradients and moments; and the norm it clips by.

use super::buffer::Shared;
use super::device::Cpu;
use super::simd::{scaled_copy, simd};
use super::vector::{Element, with_element};
use crate::device::{AdamW, Axpby, Momentum, SgdStep};
use crate::tensor::Tensor;
use half::bf16;

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
        let Some(clip) = clip(self.arena.scalar(op.squared_norm), op.max_gradient_norm) else { return };
        let step = op.step as f64;
        let update = Update {
            clip,
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
            Shared(self.arena.elements::<bf16>(t))
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

/// Muon's parts, and the mean of weights: contiguous tensors, a chunk an item.
impl Cpu {
    pub(super) fn momentum_chunks(&mut self, op: Momentum) {
        let Some(clip) = clip(self.arena.scalar(op.squared_norm), op.max_gradient_norm) else { return };
        let pointers = [op.gradient, op.moment].map(|t| Shared(self.contiguous::<f32>(t, op.gradient)));
        self.in_chunks(op.gradient, |range| {
            // SAFETY: two tensors that do not overlap; each item has a range of its own.
            let [g, m] = pointers.each_ref().map(|p| unsafe { part(p.get(), &range) });
            momentum(g, m, clip, op.beta);
        });
    }

    pub(super) fn scale_by_frobenius_norm_chunks(&mut self, x: Tensor, squared_norm: Tensor, out: Tensor) {
        let scale = (1.0 / (1.02 * self.arena.scalar(squared_norm).sqrt() + 1e-6)) as f32;
        with_element!(out.dtype, O => {
            let from = Shared(self.contiguous::<f32>(x, x));
            let to = Shared(self.contiguous::<O>(out, x));
            // SAFETY: as above.
            self.in_chunks(x, |range| unsafe { scaled_copy(part::<O>(to.get(), &range), scale, part::<f32>(from.get(), &range)) });
        });
    }

    pub(super) fn axpby_chunks(&mut self, op: Axpby) {
        with_element!(op.x.dtype, X => with_element!(op.y.dtype, Y => with_element!(op.out.dtype, O => {
            let x = Shared(self.contiguous::<X>(op.x, op.out));
            let y = Shared(self.contiguous::<Y>(op.y, op.out));
            let out = Shared(self.contiguous::<O>(op.out, op.out));
            self.in_chunks(op.out, |range| {
                let (x, y, out) = (x.get().wrapping_add(range.start), y.get().wrapping_add(range.start), out.get().wrapping_add(range.start));
                // SAFETY: each item has a range of its own, and an element is read before it is written where
                // `out` is an operand.
                unsafe { axpby::<X, Y, O>(x, y, out, range.len(), op.a, op.b) };
            });
        })));
    }

    pub(super) fn sgd_step_chunks(&mut self, op: SgdStep) {
        if !self.arena.scalar(op.squared_norm).is_finite() {
            return;
        }
        with_element!(op.direction.dtype, D => {
            let weight = Shared(self.contiguous::<f32>(op.weight, op.weight));
            let direction = Shared(self.contiguous::<D>(op.direction, op.weight));
            let rounded = op.rounded.map(|t| Shared(self.contiguous::<bf16>(t, op.weight)));
            self.in_chunks(op.weight, |range| {
                // SAFETY: tensors that do not overlap; each item has a range of its own.
                let (w, d) = unsafe { (part(weight.get(), &range), part::<D>(direction.get(), &range)) };
                sgd_step(w, d, op.step, 1.0 - op.decay);
                if let Some(to) = &rounded {
                    // SAFETY: as above.
                    scaled_copy(unsafe { part(to.get(), &range) }, 1.0, w);
                }
            });
        });
    }

    /// Where a tensor lies that must be as long as `like`.
    fn contiguous<T: Element>(&mut self, tensor: Tensor, like: Tensor) -> *mut T {
        assert!(tensor.is_contiguous() && tensor.len() == like.len(), "{tensor:?} beside {like:?}");
        self.arena.elements::<T>(tensor)
    }

    fn in_chunks(&self, tensor: Tensor, f: impl Fn(std::ops::Range<usize>) + Sync) {
        let n = tensor.len();
        self.pool.run(n.div_ceil(CHUNK), &|item, _| f(item * CHUNK..n.min((item + 1) * CHUNK)));
    }
}

/// What gradients are multiplied by; `None` where their norm is not finite, and nothing may change.
fn clip(squared_norm: f64, max_norm: f32) -> Option<f32> {
    let limit = f64::from(max_norm);
    let clip = if limit > 0.0 { (limit / (squared_norm.sqrt() + 1e-6)).min(1.0) } else { 1.0 };
    squared_norm.is_finite().then_some(clip as f32)
}

/// # Safety
/// The range must lie in the tensor, and nobody else may use it meanwhile.
unsafe fn part<'a, T>(pointer: *mut T, range: &std::ops::Range<usize>) -> &'a mut [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(pointer.add(range.start), range.len()) }
}

simd! {
    fn momentum(g: &mut [f32], m: &mut [f32], clip: f32, beta: f32) {
        let n = g.len();
        let m = &mut m[..n];
        for i in 0..n {
            let clipped = g[i] * clip;
            m[i] = beta * m[i] + (1.0 - beta) * clipped;
            g[i] = beta * m[i] + (1.0 - beta) * clipped;
        }
    }
}

simd! {
    fn sgd_step<D: Element>(w: &mut [f32], direction: &[D], step: f32, keep: f32) {
        let n = w.len();
        let direction = &direction[..n];
        for i in 0..n {
            w[i] = w[i] * keep - step * direction[i].get();
        }
    }
}

/// # Safety
/// Pointers must be valid for `n` elements; `out` may be `x` or `y` where the types agree.
unsafe fn axpby<X: Element, Y: Element, O: Element>(
    x: *const X,
    y: *const Y,
    out: *mut O,
    n: usize,
    a: f32,
    b: f32,
) {
    const BLOCK: usize = 512;
    let mut room = [0.0f32; BLOCK];
    for first in (0..n).step_by(BLOCK) {
        let len = BLOCK.min(n - first);
        // SAFETY: the caller's promise. The operands' borrows end before `out` is borrowed.
        unsafe {
            let (x, y) = (
                std::slice::from_raw_parts(x.add(first), len),
                std::slice::from_raw_parts(y.add(first), len),
            );
            weighted(&mut room[..len], x, y, a, b);
        }
        // SAFETY: as above.
        scaled_copy(unsafe { std::slice::from_raw_parts_mut(out.add(first), len) }, 1.0, &room[..len]);
    }
}

simd! {
    fn weighted<X: Element, Y: Element>(out: &mut [f32], x: &[X], y: &[Y], a: f32, b: f32) {
        let n = out.len();
        let (x, y) = (&x[..n], &y[..n]);
        for i in 0..n {
            out[i] = a * x[i].get() + b * y[i].get();
        }
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
