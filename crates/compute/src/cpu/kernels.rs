//! The micro-kernels of this CPU, and products by them.

use super::buffer::AlignedBuffer;
use super::instruction_set::InstructionSet;
use super::view::{Output, View};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx512, avx512bf16};
use super::{gemm, lanes};
use crate::device::Product;
use crate::tensor::DType;

/// Which micro-kernels multiply matrices.
#[derive(Clone, Copy)]
pub(super) enum Kernels {
    /// NEON on aarch64, elsewhere plain code.
    Portable(lanes::Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(lanes::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    /// AVX-512, and bfloat16 products.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(avx512::Avx512, avx512bf16::Avx512Bf16),
    /// Tiles for large products, the others' for small ones.
    #[cfg(target_arch = "x86_64")]
    Amx(amx::Amx, avx512::Avx512, avx512bf16::Avx512Bf16),
}

impl Kernels {
    /// The best of this CPU that `set` allows.
    #[cfg(target_arch = "x86_64")]
    pub fn up_to(set: InstructionSet) -> Kernels {
        let Some(avx2) = (set >= InstructionSet::Avx2).then(lanes::Avx2::detect).flatten() else {
            return Kernels::Portable(lanes::Portable::new());
        };
        let Some(avx512) = (set >= InstructionSet::Avx512).then(avx512::Avx512::detect).flatten() else {
            return Kernels::Avx2(avx2);
        };
        let Some(pairs) = set.has_bf16().then(avx512bf16::Avx512Bf16::detect).flatten() else {
            return Kernels::Avx512(avx512);
        };
        let tiles = (set >= InstructionSet::Amx).then(amx::Amx::detect).flatten();
        tiles.map_or(Kernels::Avx512Bf16(avx512, pairs), |tiles| Kernels::Amx(tiles, avx512, pairs))
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn up_to(_set: InstructionSet) -> Kernels {
        Kernels::Portable(lanes::Portable::new())
    }

    /// Bytes of scratch for a product on so many threads: for B, for A on each thread, for a sum.
    pub fn scratch_bytes(self, op: &Product, threads: usize) -> [usize; 3] {
        match (self, op.bf16) {
            (Kernels::Portable(_), _) => gemm::scratch_bytes::<lanes::Portable>(op, threads),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Avx2(_), _) => gemm::scratch_bytes::<lanes::Avx2>(op, threads),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Amx(..), true) => gemm::scratch_bytes::<amx::AmxBf16>(op, threads),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Amx(..), false) => gemm::scratch_bytes::<amx::Amx>(op, threads),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Avx512Bf16(..), true) => gemm::scratch_bytes::<avx512bf16::Avx512Bf16>(op, threads),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Avx512(_) | Kernels::Avx512Bf16(..), _) => {
                gemm::scratch_bytes::<avx512::Avx512>(op, threads)
            }
        }
    }

    /// Whether they multiply bfloat16.
    pub fn has_bf16(self) -> bool {
        self.instruction_set().has_bf16()
    }

    /// What they are made of.
    pub fn instruction_set(self) -> InstructionSet {
        match self {
            Kernels::Portable(_) => InstructionSet::Portable,
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx2(_) => InstructionSet::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx512(_) => InstructionSet::Avx512,
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx512Bf16(..) => InstructionSet::Avx512Bf16,
            #[cfg(target_arch = "x86_64")]
            Kernels::Amx(..) => InstructionSet::Amx,
        }
    }
}

/// Whether a product's arithmetic is bfloat16's: one operand is no f32, and the other is rounded.
pub(super) fn in_bf16(a: View, b: View) -> bool {
    a.dtype != DType::F32 || b.dtype != DType::F32
}

/// A product on the calling thread.
///
/// # Safety
/// Views and output valid for their shapes; the output overlaps no input.
pub(super) unsafe fn serial_gemm(
    kernels: Kernels,
    buffers: (&mut AlignedBuffer, &mut AlignedBuffer),
    a: View,
    b: View,
    out: Output,
) {
    // SAFETY: passed on.
    unsafe {
        match (kernels, in_bf16(a, b)) {
            #[cfg(target_arch = "x86_64")]
            (Kernels::Avx512Bf16(_, pairs), true) => gemm::serial(pairs, buffers, a, b, out),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Amx(tiles, ..), true) => gemm::serial(amx::AmxBf16(tiles), buffers, a, b, out),
            #[cfg(target_arch = "x86_64")]
            (
                Kernels::Avx512(vectors) | Kernels::Avx512Bf16(vectors, _) | Kernels::Amx(_, vectors, _),
                false,
            ) => {
                gemm::serial(vectors, buffers, a, b, out);
            }
            #[cfg(target_arch = "x86_64")]
            (Kernels::Avx2(kernel), false) => gemm::serial(kernel, buffers, a, b, out),
            (Kernels::Portable(kernel), false) => gemm::serial(kernel, buffers, a, b, out),
            (_, true) => no_bf16(),
        }
    }
}

/// A model was laid out for arithmetic that [`InstructionSet::detect`] does not promise.
pub(super) fn no_bf16() -> ! {
    panic!("this CPU, or the instruction set it is limited to, has no bfloat16 instructions")
}
