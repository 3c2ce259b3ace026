//! Registers of bfloat16 pairs as their bits, which is what moves and masks take.

use std::arch::x86_64::*;

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn bits(x: __m512bh) -> __m512i {
    // SAFETY: both types are plain bits of one size.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(x) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn half_bits(x: __m256bh) -> __m256i {
    // SAFETY: as above.
    unsafe { std::mem::transmute::<__m256bh, __m256i>(x) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn numbers(x: __m512i) -> __m512bh {
    // SAFETY: as above.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(x) }
}
