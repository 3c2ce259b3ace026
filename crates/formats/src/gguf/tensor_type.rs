//! The types of tensors: their numbers and names in a file, and their sizes.

use std::fmt;

use half::{bf16, f16};
use quant::{BlockFormat, Decoder};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorType {
    /// Plain f32.
    F32,
    /// Plain f16.
    F16,
    /// Plain bfloat16.
    BF16,
    /// Blocks that share scales.
    Blocks(BlockFormat),
    /// Any other number: not even its size is known.
    Other(u32),
}

/// Types of known size by their numbers in a file.
const NUMBERS: [(u32, TensorType); 13] = [
    (0, TensorType::F32),
    (1, TensorType::F16),
    (2, TensorType::Blocks(BlockFormat::Q4_0)),
    (3, TensorType::Blocks(BlockFormat::Q4_1)),
    (6, TensorType::Blocks(BlockFormat::Q5_0)),
    (7, TensorType::Blocks(BlockFormat::Q5_1)),
    (8, TensorType::Blocks(BlockFormat::Q8_0)),
    (10, TensorType::Blocks(BlockFormat::Q2K)),
    (11, TensorType::Blocks(BlockFormat::Q3K)),
    (12, TensorType::Blocks(BlockFormat::Q4K)),
    (13, TensorType::Blocks(BlockFormat::Q5K)),
    (14, TensorType::Blocks(BlockFormat::Q6K)),
    (30, TensorType::BF16),
];

/// Names of types that are met in the wild and not read, for messages.
const OTHER_NAMES: [(u32, &str); 21] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl TensorType {
    pub(super) fn from_number(number: u32) -> TensorType {
        NUMBERS.iter().find(|row| row.0 == number).map_or(TensorType::Other(number), |row| row.1)
    }

    /// Its number in a file. NF4, which no file has, gets one that no type has.
    pub(super) fn number(self) -> u32 {
        match self {
            TensorType::Other(number) => number,
            known => NUMBERS.iter().find(|row| row.1 == known).map_or(u32::MAX, |row| row.0),
        }
    }

    /// `general.file_type` of a file whose matrices are mostly of this type; `None` where none is known.
    pub fn file_type(self) -> Option<u32> {
        match self {
            TensorType::F32 => Some(0),
            TensorType::F16 => Some(1),
            TensorType::Blocks(BlockFormat::Q4_0) => Some(2),
            TensorType::Blocks(BlockFormat::Q8_0) => Some(7),
            TensorType::BF16 => Some(32),
            _ => None,
        }
    }

    /// Values in a block and bytes of a block, one value for plain types; `None` for [`TensorType::Other`].
    pub fn block(self) -> Option<(usize, usize)> {
        match self {
            TensorType::F32 => Some((1, 4)),
            TensorType::F16 | TensorType::BF16 => Some((1, 2)),
            TensorType::Blocks(format) => Some((format.values(), format.bytes())),
            TensorType::Other(_) => None,
        }
    }

    /// How its values are read; `None` where this program can't.
    pub(super) fn decoder(self) -> Option<Decoder> {
        match self {
            TensorType::F32 => Some(|bytes, out| each(bytes, out, f32::from_le_bytes)),
            TensorType::F16 => Some(|bytes, out| each(bytes, out, |b| f16::from_le_bytes(b).to_f32())),
            TensorType::BF16 => Some(|bytes, out| each(bytes, out, |b| bf16::from_le_bytes(b).to_f32())),
            TensorType::Blocks(format) => format.decoder(),
            TensorType::Other(_) => None,
        }
    }
}

fn each<const BYTES: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; BYTES]) -> f32) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = value(*bytes);
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TensorType::F32 => f.write_str("F32"),
            TensorType::F16 => f.write_str("F16"),
            TensorType::BF16 => f.write_str("BF16"),
            TensorType::Blocks(format) => f.write_str(format.name()),
            TensorType::Other(number) => match OTHER_NAMES.iter().find(|(known, _)| known == number) {
                Some((_, name)) => write!(f, "{name} (type {number})"),
                None => write!(f, "type {number}"),
            },
        }
    }
}
