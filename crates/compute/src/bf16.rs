//! bfloat16: the upper half of an f32. 8 bits of mantissa, the exponent of f32.

/// A bfloat16 number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl Bf16 {
    /// To the nearest, ties to even; a NaN stays one.
    #[inline(always)]
    pub fn from_f32(value: f32) -> Bf16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        Bf16(if value.is_nan() { quiet } else { rounded } as u16)
    }

    /// Exact.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    /// The nearest value that bfloat16 holds.
    #[inline(always)]
    pub fn round(value: f32) -> f32 {
        Bf16::from_f32(value).to_f32()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_even_and_keeps_the_special_values() {
        for (from, to) in [
            (1.0, 1.0),
            (1.0 + 1.0 / 256.0, 1.0),               // a tie, down to even
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0), // a tie, up to even
            (1.0 + 1.1 / 256.0, 1.0 + 2.0 / 256.0),
            (-0.0, -0.0),
            (f32::MAX, f32::INFINITY),
            (f32::INFINITY, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(Bf16::round(from).to_bits(), f32::to_bits(to), "{from}");
        }
        assert!(Bf16::round(f32::NAN).is_nan() && Bf16::round(f32::from_bits(0xFFFF_FFFF)).is_nan());
        for bits in 0..=u16::MAX {
            let value = Bf16(bits).to_f32();
            assert!(value.is_nan() || Bf16::from_f32(value) == Bf16(bits));
        }
    }
}
