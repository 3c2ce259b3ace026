//! Plain loops compiled for several instruction sets, and the arithmetic they share.
//!
//! [`simd!`] writes a function once and picks the widest version the CPU runs. Sums run over [`LANES`] accumulators in a fixed
//! order, so they vectorise and the result does not depend on the instruction set's width. No fused multiply-add: the compiler
//! does not contract, so AVX2 and AVX-512 agree to the bit.

use crate::bf16::Bf16;
use crate::tensor::DType;

/// Accumulators of a lane-wise sum.
pub(super) const LANES: usize = 16;

/// A type that kernels read and write, and compute on as f32.
pub(super) trait Element: Copy + Send + Sync {
    /// Its name in a handle.
    const DTYPE: DType;
    /// Exact.
    fn get(self) -> f32;
    /// To the nearest.
    fn put(value: f32) -> Self;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }
    #[inline(always)]
    fn put(value: f32) -> f32 {
        value
    }
}

impl Element for Bf16 {
    const DTYPE: DType = DType::Bf16;
    #[inline(always)]
    fn get(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn put(value: f32) -> Bf16 {
        Bf16::from_f32(value)
    }
}

/// Evaluates an expression with a type parameter bound to what a handle holds.
macro_rules! with_element {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            crate::tensor::DType::F32 => {
                type $element = f32;
                $body
            }
            crate::tensor::DType::Bf16 => {
                type $element = crate::bf16::Bf16;
                $body
            }
            other => panic!("a kernel was given a tensor of {other:?}"),
        }
    };
}
pub(super) use with_element;

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
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
                    // SAFETY: the CPU has the features.
                    return unsafe { v4($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU has the feature.
                    return unsafe { v3($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(super) use simd;

/// eˣ to about 1 ulp, branch-free so that it vectorises: 2ⁿ·e^r with |r| ≤ ln2/2 and a degree-6 polynomial (Cephes' coefficients).
/// Below −87.3 it gives about 1e−38 instead of a denormal, above 88.7 about 2e38 instead of infinity.
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

/// Folds lane sums in halves: the order is fixed.
#[inline(always)]
pub(super) fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Σ f(x[i], y[i]) over lanes.
#[inline(always)]
pub(super) fn sum2<X: Element, Y: Element>(x: &[X], y: &[Y], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (xs, x_tail) = x.as_chunks::<LANES>();
    let (ys, y_tail) = y.as_chunks::<LANES>();
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..LANES {
            lanes[i] += f(x[i].get(), y[i].get());
        }
    }
    for (i, (&x, &y)) in x_tail.iter().zip(y_tail).enumerate() {
        lanes[i] += f(x.get(), y.get());
    }
    fold(lanes)
}

simd! {
    /// max(x), −∞ when empty.
    pub(super) fn maximum(x: &[f32]) -> f32 {
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
        let mut lanes = [0.0f32; LANES];
        let (chunks, tail) = x.as_chunks_mut::<LANES>();
        for x in chunks {
            for i in 0..LANES {
                x[i] = exp(x[i] * scale - shift);
                lanes[i] += x[i];
            }
        }
        for (i, x) in tail.iter_mut().enumerate() {
            *x = exp(*x * scale - shift);
            lanes[i] += *x;
        }
        fold(lanes)
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
    /// Σ x·y.
    pub(super) fn dot<X: Element, Y: Element>(x: &[X], y: &[Y]) -> f32 {
        sum2(x, y, |x, y| x * y)
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
