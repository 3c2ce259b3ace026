//! Block-quantized weights: the formats of ggml, which GGUF files and kernels share, and NF4.
//!
//! A row is a sequence of blocks, each of 32, 64 or 256 neighboring values that share scales. All numbers are
//! little-endian, scales are IEEE half-precision floats (f16), and a byte of two nibbles holds values half a
//! block apart, so that one vector instruction unpacks each half. Layouts: `ggml-common.h` of
//! <https://github.com/ggml-org/llama.cpp>; arithmetic: its `dequantize_row_*` and `quantize_row_*_ref`, in
//! the same order of operations, so that results are equal bit for bit. Non-goals: files, tensors, and
//! kernels that compute on blocks. Reading order: [`BlockFormat`], `decode`, `encode`,
//! `nf4`.

mod decode;
mod encode;
mod nf4;

pub use decode::Decoder;

/// How a block of values is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockFormat {
    /// 4 bits and a scale for 32 values.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32 values.
    Q4_1,
    /// 5 bits and a scale for 32 values.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32 values.
    Q5_1,
    /// 8 bits and a scale for 32 values.
    Q8_0,
    /// 2 bits in superblocks of 256: only the size is known.
    Q2K,
    /// 3 bits in superblocks of 256: only the size is known.
    Q3K,
    /// 4 bits in superblocks of 256 with 6-bit scales and minima.
    Q4K,
    /// 5 bits in superblocks of 256 with 6-bit scales and minima.
    Q5K,
    /// 6 bits in superblocks of 256 with 8-bit scales.
    Q6K,
    /// 4-bit NormalFloat (Dettmers et al. 2023): one of 16 quantiles of a normal distribution, and a scale
    /// for 64 values. In no file; frozen weights are kept in it.
    Nf4,
}

impl BlockFormat {
    /// Values in a block.
    pub const fn values(self) -> usize {
        match self {
            BlockFormat::Q4_0
            | BlockFormat::Q4_1
            | BlockFormat::Q5_0
            | BlockFormat::Q5_1
            | BlockFormat::Q8_0 => 32,
            BlockFormat::Nf4 => 64,
            BlockFormat::Q2K | BlockFormat::Q3K | BlockFormat::Q4K | BlockFormat::Q5K | BlockFormat::Q6K => {
                256
            }
        }
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            BlockFormat::Q4_0 => 18,
            BlockFormat::Q4_1 => 20,
            BlockFormat::Q5_0 => 22,
            BlockFormat::Q5_1 => 24,
            BlockFormat::Q8_0 | BlockFormat::Nf4 => 34,
            BlockFormat::Q2K => 84,
            BlockFormat::Q3K => 110,
            BlockFormat::Q4K => 144,
            BlockFormat::Q5K => 176,
            BlockFormat::Q6K => 210,
        }
    }

    /// Bytes of `values` values, a whole number of blocks; a number beyond the address space becomes its end.
    pub const fn bytes_of(self, values: usize) -> usize {
        (values / self.values()).saturating_mul(self.bytes())
    }

    /// Its usual name: ggml's, as in `Q4_K`, or NF4.
    pub const fn name(self) -> &'static str {
        match self {
            BlockFormat::Q4_0 => "Q4_0",
            BlockFormat::Q4_1 => "Q4_1",
            BlockFormat::Q5_0 => "Q5_0",
            BlockFormat::Q5_1 => "Q5_1",
            BlockFormat::Q8_0 => "Q8_0",
            BlockFormat::Q2K => "Q2_K",
            BlockFormat::Q3K => "Q3_K",
            BlockFormat::Q4K => "Q4_K",
            BlockFormat::Q5K => "Q5_K",
            BlockFormat::Q6K => "Q6_K",
            BlockFormat::Nf4 => "NF4",
        }
    }
}
