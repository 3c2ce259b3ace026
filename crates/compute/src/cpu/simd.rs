//! Plain loops compiled for several instruction sets, and the arithmetic they share.
//!
//! [`simd!`] writes a function once and picks the widest version that the CPU, and `TEXT2LLM_CPU`, allow.
//! Sums run over accumulators in a fixed order. Sums of products ([`dot`] and its like) are written over
//! [`Vector`]: what compilers make of a loop over lanes is five times slower.

use super::vector::{Baseline, Element, Vector};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Defines a function whose body is compiled for AVX-512, AVX2 and the baseline, dispatched at run time.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident$(<$($kind:ident: $bound:ident),+>)?($($arg:ident: $ty:ty),* $(,)?)
        $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name$(<$($kind: $bound),+>)?($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body$(<$($kind: $bound),+>)?($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
                fn v4$(<$($kind: $bound),+>)?($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn v3$(<$($kind: $bound),+>)?($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                if crate::cpu::instruction_set::level() >= crate::cpu::InstructionSet::Avx512 {
                    // SAFETY: the CPU has the features.
                    return unsafe { v4($($arg),*) };
                }
                if crate::cpu::instruction_set::level() >= crate::cpu::InstructionSet::Avx2 {
                    // SAFETY: the CPU has the feature.
                    return unsafe { v3($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(super) use simd;

/// eˣ to about 1 ulp, branch-free so that it vectorises: 2ⁿ·e^r with |r| ≤ ln2/2 and a degree-6 polynomial
/// (Cephes' coefficients). Below −87.3 it gives about 1e−38 instead of a denormal, above 88.7 about 2e38
/// instead of infinity.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to the nearest integer
    let x = x.clamp(-87.33, 88.37);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let exponent = (shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23;
    p * f32::from_bits(exponent)
}

/// Defines a function over [`Vector`] and compiles it for each kind of them, dispatched at run time.
macro_rules! vectors {
    ($(#[$meta:meta])* unsafe fn $name:ident<$vector:ident $(, $kind:ident)*>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        unsafe fn $name<$($kind: Element),*>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            unsafe fn body<$vector: Vector $(, $kind: Element)*>($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the function's own promise.
                unsafe { $body }
            }
            // SAFETY: the CPU has the features that `level` names; the rest is the caller's promise.
            unsafe {
                #[cfg(target_arch = "x86_64")]
                {
                    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
                    unsafe fn v4<$($kind: Element),*>($($arg: $ty),*) $(-> $ret)? {
                        // SAFETY: passed on.
                        unsafe { body::<__m512 $(, $kind)*>($($arg),*) }
                    }
                    #[target_feature(enable = "avx2,fma")]
                    unsafe fn v3<$($kind: Element),*>($($arg: $ty),*) $(-> $ret)? {
                        // SAFETY: passed on.
                        unsafe { body::<__m256 $(, $kind)*>($($arg),*) }
                    }
                    if crate::cpu::instruction_set::level() >= crate::cpu::InstructionSet::Avx512 {
                        return v4::<$($kind),*>($($arg),*);
                    }
                    if crate::cpu::instruction_set::level() >= crate::cpu::InstructionSet::Avx2 {
                        return v3::<$($kind),*>($($arg),*);
                    }
                }
                body::<Baseline $(, $kind)*>($($arg),*)
            }
        }
    };
}

/// What is left after whole vectors.
#[inline(always)]
fn rest(range: std::ops::Range<usize>, f: impl Fn(usize) -> f32) -> f32 {
    range.map(f).sum()
}

/// Σ x·y of `n` elements.
///
/// # Safety
/// They exist, and the CPU has the vector's features.
#[inline(always)]
unsafe fn dot_in<V: Vector, X: Element, Y: Element>(n: usize, x: *const X, y: *const Y) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [V::zero(); 4];
        let mut at = 0;
        while at + 4 * V::WIDTH <= n {
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = at + i * V::WIDTH;
                *sum = sum.multiply_add(V::load(x.add(at)), V::load(y.add(at)));
            }
            at += 4 * V::WIDTH;
        }
        while at + V::WIDTH <= n {
            sums[0] = sums[0].multiply_add(V::load(x.add(at)), V::load(y.add(at)));
            at += V::WIDTH;
        }
        let rest = rest(at..n, |at| (*x.add(at)).get() * (*y.add(at)).get());
        rest + sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
    }
}

vectors! {
    /// Σ x·y of `n` elements, which exist.
    unsafe fn dot_of<V, X, Y>(n: usize, x: *const X, y: *const Y) -> f32 {
        dot_in::<V, X, Y>(n, x, y)
    }
}

vectors! {
    /// Dot products of `q` with rows that stand `stride` apart, as many as `out` has elements.
    unsafe fn scores_of<V, X>(out: &mut [f32], q: &[f32], rows: *const X, stride: usize) {
        for (row, out) in out.iter_mut().enumerate() {
            *out = dot_in::<V, f32, X>(q.len(), q.as_ptr(), rows.add(row * stride));
        }
    }
}

vectors! {
    /// Σ x of `n` elements, which exist.
    unsafe fn sum_of<V>(n: usize, x: *const f32) -> f32 {
        let mut sums = [V::zero(); 4];
        let mut at = 0;
        while at + 4 * V::WIDTH <= n {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(V::load(x.add(at + i * V::WIDTH)));
            }
            at += 4 * V::WIDTH;
        }
        rest(at..n, |at| *x.add(at)) + sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
    }
}

vectors! {
    /// Σ x·y·z of `n` elements, which exist.
    unsafe fn dot3_of<V, X, Y>(n: usize, x: *const X, y: *const Y, z: *const f32) -> f32 {
        let mut sums = [V::zero(); 2];
        let mut at = 0;
        while at + 2 * V::WIDTH <= n {
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = at + i * V::WIDTH;
                let yz = V::load(y.add(at)).multiply(V::load(z.add(at)));
                *sum = sum.multiply_add(V::load(x.add(at)), yz);
            }
            at += 2 * V::WIDTH;
        }
        let rest = rest(at..n, |at| (*x.add(at)).get() * ((*y.add(at)).get() * *z.add(at)));
        rest + sums[0].add(sums[1]).sum()
    }
}

vectors! {
    /// Σ p · row over rows that stand `stride` apart, as many as `p` has elements.
    unsafe fn mix_of<V, X>(out: &mut [f32], p: &[f32], rows: *const X, stride: usize) {
        let mut at = 0;
        while at + 4 * V::WIDTH <= out.len() {
            let mut sums = [V::zero(); 4];
            for (row, p) in p.iter().enumerate() {
                let row = rows.add(row * stride + at);
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.multiply_add(V::splat(*p), V::load(row.add(i * V::WIDTH)));
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                sum.store(out.as_mut_ptr().add(at + i * V::WIDTH));
            }
            at += 4 * V::WIDTH;
        }
        while at + V::WIDTH <= out.len() {
            let mut sum = V::zero();
            for (row, p) in p.iter().enumerate() {
                sum = sum.multiply_add(V::splat(*p), V::load(rows.add(row * stride + at)));
            }
            sum.store(out.as_mut_ptr().add(at));
            at += V::WIDTH;
        }
        for (c, out) in out.iter_mut().enumerate().skip(at) {
            *out = rest(0..p.len(), |row| p[row] * (*rows.add(row * stride + c)).get());
        }
    }
}

/// Σ x·y.
pub(super) fn dot<X: Element, Y: Element>(x: &[X], y: &[Y]) -> f32 {
    // SAFETY: both slices have so many.
    unsafe { dot_of(x.len().min(y.len()), x.as_ptr(), y.as_ptr()) }
}

/// Σ x.
pub(super) fn sum(x: &[f32]) -> f32 {
    // SAFETY: the slice has so many.
    unsafe { sum_of(x.len(), x.as_ptr()) }
}

/// Σ x·y·z.
pub(super) fn dot3<X: Element, Y: Element>(x: &[X], y: &[Y], z: &[f32]) -> f32 {
    // SAFETY: all three slices have so many.
    unsafe { dot3_of(x.len().min(y.len()).min(z.len()), x.as_ptr(), y.as_ptr(), z.as_ptr()) }
}

/// Dot products of `q` with rows that stand `stride` apart.
pub(super) fn scores<X: Element>(out: &mut [f32], q: &[f32], rows: &[X], stride: usize) {
    assert!(out.is_empty() || (out.len() - 1) * stride + q.len() <= rows.len());
    // SAFETY: just checked.
    unsafe { scores_of(out, q, rows.as_ptr(), stride) }
}

/// `out` = Σ p · row over rows that stand `stride` apart.
pub(super) fn mix<X: Element>(out: &mut [f32], p: &[f32], rows: &[X], stride: usize) {
    assert!(p.is_empty() || (p.len() - 1) * stride + out.len() <= rows.len());
    // SAFETY: just checked.
    unsafe { mix_of(out, p, rows.as_ptr(), stride) }
}

simd! {
    /// max(x), −∞ when empty.
    pub(super) fn maximum(x: &[f32]) -> f32 {
        const LANES: usize = 16;
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (chunks, tail) = x.as_chunks::<LANES>();
        for x in chunks {
            for i in 0..LANES {
                lanes[i] = if x[i] > lanes[i] { x[i] } else { lanes[i] };
            }
        }
        for (i, &x) in tail.iter().enumerate() {
            lanes[i] = if x > lanes[i] { x } else { lanes[i] };
        }
        lanes.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
    }
}

simd! {
    /// Replaces x by e^(x·scale − shift) and returns the sum.
    pub(super) fn exp_in_place(x: &mut [f32], scale: f32, shift: f32) -> f32 {
        for x in &mut *x {
            *x = exp(*x * scale - shift);
        }
        sum(x)
    }
}

simd! {
    /// y = factor · x.
    pub(super) fn scaled_copy<Y: Element, X: Element>(y: &mut [Y], factor: f32, x: &[X]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = Y::put(factor * x.get());
        }
    }
}

simd! {
    /// x *= factor.
    pub(super) fn scale_in_place(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }
}

simd! {
    /// x *= y, element by element.
    pub(super) fn multiply_in_place<X: Element>(x: &mut [X], y: &[f32]) {
        for (x, &y) in x.iter_mut().zip(y) {
            *x = X::put(x.get() * y);
        }
    }
}

simd! {
    /// sums += x ⊙ y.
    pub(super) fn add_products<X: Element, Y: Element>(sums: &mut [f32], x: &[X], y: &[Y]) {
        for (sum, (&x, &y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += x.get() * y.get();
        }
    }
}

simd! {
    /// y += factor · x.
    pub(super) fn axpy<Y: Element, X: Element>(y: &mut [Y], factor: f32, x: &[X]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = Y::put(y.get() + factor * x.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_over_its_range() {
        let mut worst = 0.0f64;
        for i in -873_000..880_000 {
            let x = i as f32 * 1e-4;
            let truth = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - truth).abs() / truth);
        }
        assert!(worst < 3e-7, "relative error {worst}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
    }

    #[test]
    fn sums_and_maxima_take_tails() {
        let x: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(dot(&x, &x), (0..37).map(|i| (i * i) as f32).sum::<f32>());
        assert_eq!(maximum(&x), 36.0);
        assert_eq!(maximum(&[]), f32::NEG_INFINITY);
    }
}
