//! Plain loops compiled for several instruction sets, and the arithmetic they share.
//!
//! [`simd!`] writes a function once and picks the widest version the CPU runs. Sums run over [`LANES`] accumulators in a fixed
//! order, so they vectorise. Sums of products are written by hand ([`dot`] and its like).

use crate::bf16::Bf16;
use crate::tensor::DType;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

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
    /// 16 neighbours.
    ///
    /// # Safety
    /// They exist, and the CPU has AVX-512.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load16(from: *const Self) -> __m512;
    /// 8 neighbours.
    ///
    /// # Safety
    /// They exist, and the CPU has AVX2.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load8(from: *const Self) -> __m256;
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
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load16(from: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load8(from: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
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
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load16(from: *const Bf16) -> __m512 {
        // SAFETY: the caller's promise.
        let upper = unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper))
    }
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load8(from: *const Bf16) -> __m256 {
        // SAFETY: the caller's promise.
        let upper = unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(upper))
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

/// Defines sums of products in vectors of one width. By hand, since what compilers make of a loop over lanes that are folded in the
/// end is five times slower.
macro_rules! sums_of_products {
    ($module:ident, $features:literal, $width:literal, $load:ident, $zero:ident, $add:ident, $multiply:ident, $fma:ident,
        $set:ident, $store:ident, $reduce:ident) => {
        #[cfg(target_arch = "x86_64")]
        mod $module {
            use super::*;

            /// Σ x·y.
            ///
            /// # Safety
            /// The CPU has the features, and `n` elements of both exist.
            #[inline]
            #[target_feature(enable = $features)]
            pub unsafe fn dot<X: Element, Y: Element>(n: usize, x: *const X, y: *const Y) -> f32 {
                let mut sums = [$zero(); 4];
                let mut at = 0;
                // SAFETY: the caller's promise.
                unsafe {
                    while at + 4 * $width <= n {
                        for (i, sum) in sums.iter_mut().enumerate() {
                            let at = at + i * $width;
                            *sum = $fma(X::$load(x.add(at)), Y::$load(y.add(at)), *sum);
                        }
                        at += 4 * $width;
                    }
                    while at + $width <= n {
                        sums[0] = $fma(X::$load(x.add(at)), Y::$load(y.add(at)), sums[0]);
                        at += $width;
                    }
                    let mut rest = 0.0;
                    for at in at..n {
                        rest += (*x.add(at)).get() * (*y.add(at)).get();
                    }
                    rest + $reduce($add($add(sums[0], sums[1]), $add(sums[2], sums[3])))
                }
            }

            /// Σ x.
            ///
            /// # Safety
            /// The CPU has the features.
            #[inline]
            #[target_feature(enable = $features)]
            pub unsafe fn sum(x: &[f32]) -> f32 {
                let mut sums = [$zero(); 4];
                let (chunks, rest) = x.as_chunks::<{ 4 * $width }>();
                for chunk in chunks {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: the chunk holds four vectors.
                        *sum = $add(*sum, unsafe { f32::$load(chunk.as_ptr().add(i * $width)) });
                    }
                }
                rest.iter().sum::<f32>() + $reduce($add($add(sums[0], sums[1]), $add(sums[2], sums[3])))
            }

            /// Σ x·y·z.
            ///
            /// # Safety
            /// As [`dot`].
            #[inline]
            #[target_feature(enable = $features)]
            pub unsafe fn dot3<X: Element, Y: Element>(
                n: usize,
                x: *const X,
                y: *const Y,
                z: *const f32,
            ) -> f32 {
                let mut sums = [$zero(); 2];
                let mut at = 0;
                // SAFETY: the caller's promise.
                unsafe {
                    while at + 2 * $width <= n {
                        for (i, sum) in sums.iter_mut().enumerate() {
                            let at = at + i * $width;
                            let yz = $multiply(Y::$load(y.add(at)), f32::$load(z.add(at)));
                            *sum = $fma(X::$load(x.add(at)), yz, *sum);
                        }
                        at += 2 * $width;
                    }
                    let mut rest = 0.0;
                    for at in at..n {
                        rest += (*x.add(at)).get() * ((*y.add(at)).get() * *z.add(at));
                    }
                    rest + $reduce($add(sums[0], sums[1]))
                }
            }

            /// Σ p · row over rows that stand `stride` apart.
            ///
            /// # Safety
            /// As [`dot`]; as many rows as `p` has elements exist.
            #[inline]
            #[target_feature(enable = $features)]
            pub unsafe fn mix<X: Element>(out: &mut [f32], p: &[f32], rows: *const X, stride: usize) {
                let mut at = 0;
                // SAFETY: the caller's promise.
                unsafe {
                    while at + 4 * $width <= out.len() {
                        let mut sums = [$zero(); 4];
                        for (row, p) in p.iter().enumerate() {
                            let row = rows.add(row * stride + at);
                            for (i, sum) in sums.iter_mut().enumerate() {
                                *sum = $fma($set(*p), X::$load(row.add(i * $width)), *sum);
                            }
                        }
                        for (i, sum) in sums.into_iter().enumerate() {
                            $store(out.as_mut_ptr().add(at + i * $width), sum);
                        }
                        at += 4 * $width;
                    }
                    while at + $width <= out.len() {
                        let mut sum = $zero();
                        for (row, p) in p.iter().enumerate() {
                            sum = $fma($set(*p), X::$load(rows.add(row * stride + at)), sum);
                        }
                        $store(out.as_mut_ptr().add(at), sum);
                        at += $width;
                    }
                    for (c, out) in out.iter_mut().enumerate().skip(at) {
                        *out = p
                            .iter()
                            .enumerate()
                            .map(|(row, p)| p * (*rows.add(row * stride + c)).get())
                            .sum();
                    }
                }
            }

            /// Dot products of `q` with rows that stand `stride` apart.
            ///
            /// # Safety
            /// As [`mix`].
            #[inline]
            #[target_feature(enable = $features)]
            pub unsafe fn scores<X: Element>(out: &mut [f32], q: &[f32], rows: *const X, stride: usize) {
                for (row, out) in out.iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    *out = unsafe { dot(q.len(), q.as_ptr(), rows.add(row * stride)) };
                }
            }
        }
    };
}

/// Σ lanes, in halves.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
fn reduce8(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

sums_of_products!(
    v4,
    "avx512f,avx512dq,avx512bw,avx512vl",
    16,
    load16,
    _mm512_setzero_ps,
    _mm512_add_ps,
    _mm512_mul_ps,
    _mm512_fmadd_ps,
    _mm512_set1_ps,
    _mm512_storeu_ps,
    _mm512_reduce_add_ps
);
sums_of_products!(
    v3,
    "avx2,fma",
    8,
    load8,
    _mm256_setzero_ps,
    _mm256_add_ps,
    _mm256_mul_ps,
    _mm256_fmadd_ps,
    _mm256_set1_ps,
    _mm256_storeu_ps,
    reduce8
);

/// Calls the widest version of a sum of products that the CPU has, or evaluates what stands for none.
macro_rules! widest {
    ($name:ident($($arg:expr),*), $otherwise:expr) => {{
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
                // SAFETY: the CPU has the features; lengths are the caller's checks.
                return unsafe { v4::$name($($arg),*) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: as above.
                return unsafe { v3::$name($($arg),*) };
            }
        }
        $otherwise
    }};
}

/// Σ x·y.
pub(super) fn dot<X: Element, Y: Element>(x: &[X], y: &[Y]) -> f32 {
    let n = x.len().min(y.len());
    widest!(dot(n, x.as_ptr(), y.as_ptr()), lanes_of(n, |i| x[i].get() * y[i].get()))
}

/// Σ x.
pub(super) fn sum(x: &[f32]) -> f32 {
    widest!(sum(x), lanes_of(x.len(), |i| x[i]))
}

/// Σ x·y·z.
pub(super) fn dot3<X: Element, Y: Element>(x: &[X], y: &[Y], z: &[f32]) -> f32 {
    let n = x.len().min(y.len()).min(z.len());
    widest!(dot3(n, x.as_ptr(), y.as_ptr(), z.as_ptr()), lanes_of(n, |i| x[i].get() * (y[i].get() * z[i])))
}

/// Dot products of `q` with rows that stand `stride` apart.
pub(super) fn scores<X: Element>(out: &mut [f32], q: &[f32], rows: &[X], stride: usize) {
    assert!(out.is_empty() || (out.len() - 1) * stride + q.len() <= rows.len());
    widest!(scores(out, q, rows.as_ptr(), stride), {
        for (row, out) in out.iter_mut().enumerate() {
            let row = &rows[row * stride..];
            *out = lanes_of(q.len(), |i| q[i] * row[i].get());
        }
    });
}

/// `out` = Σ p · row over rows that stand `stride` apart.
pub(super) fn mix<X: Element>(out: &mut [f32], p: &[f32], rows: &[X], stride: usize) {
    assert!(p.is_empty() || (p.len() - 1) * stride + out.len() <= rows.len());
    widest!(mix(out, p, rows.as_ptr(), stride), {
        out.fill(0.0);
        for (row, &p) in p.iter().enumerate() {
            axpy(out, p, &rows[row * stride..]);
        }
    });
}

/// Σ f(i) over lanes.
#[inline(always)]
fn lanes_of(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for base in (0..n).step_by(LANES) {
        for (i, lane) in lanes.iter_mut().enumerate().take(n - base) {
            *lane += f(base + i);
        }
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
