//! Registers of f32, the same words for every kind: what the kernels that are not written for one CPU are
//! written in.
//!
//! A function over [`Vector`] is inlined into one that is compiled for the kind's features; on its own it
//! would be slow.

use crate::tensor::DType;
use half::bf16;
#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A register of [`Vector::WIDTH`] numbers.
///
/// # Safety
/// All of it needs the CPU to have the kind's features; pointers are read and written over the whole width.
pub(super) trait Vector: Copy {
    /// Numbers in it.
    const WIDTH: usize;
    unsafe fn zero() -> Self;
    /// The same number everywhere.
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load_f32(from: *const f32) -> Self;
    /// Bfloat16 by their bits, widened.
    unsafe fn load_bf16(from: *const u16) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn multiply(self, other: Self) -> Self;
    /// `self + x · y`, fused where the CPU does that.
    unsafe fn multiply_add(self, x: Self, y: Self) -> Self;
    /// Σ, in a fixed order.
    unsafe fn sum(self) -> f32;

    /// Neighbors of any type.
    #[inline(always)]
    unsafe fn load<E: Element>(from: *const E) -> Self {
        // SAFETY: the caller's promise.
        unsafe { E::load(from) }
    }
}

/// A type that kernels read and write, and compute on as f32.
pub(super) trait Element: Copy + Send + Sync {
    /// Its name in a handle.
    const DTYPE: DType;
    /// Exact.
    fn get(self) -> f32;
    /// To the nearest.
    fn put(value: f32) -> Self;
    /// Neighbors, widened.
    ///
    /// # Safety
    /// As [`Vector`].
    unsafe fn load<V: Vector>(from: *const Self) -> V;
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
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_f32(from) }
    }
}

/// Conversions without a branch, which the compiler vectorises; the results are those of [`bf16`]'s own.
impl Element for bf16 {
    const DTYPE: DType = DType::Bf16;
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn put(value: f32) -> bf16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        bf16::from_bits(if value.is_nan() { quiet } else { rounded } as u16)
    }
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const bf16) -> V {
        // SAFETY: the caller's promise; a bfloat16 is its bits.
        unsafe { V::load_bf16(from.cast()) }
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
                type $element = half::bf16;
                $body
            }
            other => panic!("a kernel was given a tensor of {other:?}"),
        }
    };
}
pub(super) use with_element;

/// The registers that every CPU of the architecture has.
#[cfg(target_arch = "aarch64")]
pub(super) type Baseline = float32x4_t;
/// The registers that every CPU of the architecture has, for the compiler to find.
#[cfg(not(target_arch = "aarch64"))]
pub(super) type Baseline = [f32; 8];

macro_rules! vector {
    ($register:ty, $features:literal, $width:literal, $zero:expr, $splat:ident, $load:ident, $store:ident, $add:ident,
        $multiply:ident, |$this:ident, $x:ident, $y:ident| $multiply_add:expr, |$bits:ident| $load_bf16:expr, |$all:ident| $sum:expr) => {
        impl Vector for $register {
            const WIDTH: usize = $width;
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn zero() -> Self {
                $zero
            }
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn splat(value: f32) -> Self {
                $splat(value)
            }
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn load_f32(from: *const f32) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $load(from) }
            }
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn load_bf16($bits: *const u16) -> Self {
                // SAFETY: the caller's promise.
                unsafe { $load_bf16 }
            }
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: the caller's promise.
                unsafe { $store(to, self) }
            }
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn add(self, other: Self) -> Self {
                $add(self, other)
            }
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn multiply(self, other: Self) -> Self {
                $multiply(self, other)
            }
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn multiply_add(self, $x: Self, $y: Self) -> Self {
                let $this = self;
                $multiply_add
            }
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn sum(self) -> f32 {
                let $all = self;
                $sum
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vector!(
    __m512,
    "avx512f,avx512dq,avx512bw,avx512vl",
    16,
    _mm512_setzero_ps(),
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_mul_ps,
    |sum, x, y| _mm512_fmadd_ps(x, y, sum),
    |from| {
        let upper = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper))
    },
    |x| _mm512_reduce_add_ps(x)
);

#[cfg(target_arch = "x86_64")]
vector!(
    __m256,
    "avx2,fma",
    8,
    _mm256_setzero_ps(),
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_mul_ps,
    |sum, x, y| _mm256_fmadd_ps(x, y, sum),
    |from| {
        let upper = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(upper))
    },
    |x| {
        let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
);

#[cfg(target_arch = "aarch64")]
vector!(
    float32x4_t,
    "neon",
    4,
    vdupq_n_f32(0.0),
    vdupq_n_f32,
    vld1q_f32,
    vst1q_f32,
    vaddq_f32,
    vmulq_f32,
    |sum, x, y| vfmaq_f32(sum, x, y),
    |from| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from))),
    |x| vaddvq_f32(x)
);

/// Plain code, which compilers turn into what registers there are.
impl Vector for [f32; 8] {
    const WIDTH: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> Self {
        [0.0; 8]
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller's promise.
        let bits = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        bits.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }
    #[inline(always)]
    unsafe fn multiply_add(self, x: Self, y: Self) -> Self {
        std::array::from_fn(|i| self[i] + x[i] * y[i])
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

/// A block of 4 × 4: what stands in four columns, row by row.
///
/// # Safety
/// Four numbers exist at each.
#[inline(always)]
pub(super) unsafe fn transpose4(columns: [*const f32; 4]) -> [[f32; 4]; 4] {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise; SSE is part of the architecture. Four floats are an array of four.
    unsafe {
        let [mut a, mut b, mut c, mut d] = columns.map(|from| _mm_loadu_ps(from));
        _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
        std::mem::transmute([a, b, c, d])
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // SAFETY: the caller's promise.
        let columns = columns.map(|from| unsafe { from.cast::<[f32; 4]>().read_unaligned() });
        std::array::from_fn(|i| columns.map(|column| column[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bfloat16, and of f32 every sign and exponent with the upper half of the mantissa and the values
    /// about each tie.
    #[test]
    fn bf16_is_rounded_and_widened_as_the_crate_half_does() {
        for upper in 0..=u16::MAX {
            let value = bf16::from_bits(upper);
            let same = value.get().to_bits() == value.to_f32().to_bits();
            assert!(same || value.is_nan() && value.get().is_nan(), "{upper:#06x}");
            for lower in [0, 1, 0x4000, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let value = f32::from_bits(u32::from(upper) << 16 | lower);
                let (ours, theirs) = (bf16::put(value), bf16::from_f32(value));
                assert_eq!(ours.to_bits(), theirs.to_bits(), "{:#010x}", value.to_bits());
            }
        }
    }
}
