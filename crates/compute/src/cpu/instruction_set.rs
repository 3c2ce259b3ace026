//! Which instructions this CPU has, and which of them may be used.

use crate::{Error, Result};
#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

/// What the kernels are made of. Each holds what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What every CPU of the architecture has: NEON on aarch64.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 for f32.
    Avx512,
    /// And products of bfloat16.
    Avx512Bf16,
    /// And Intel's tiles.
    Amx,
}

impl InstructionSet {
    /// The best this CPU has, or less where the environment's `TEXT2LLM_CPU` says so.
    pub fn detect() -> InstructionSet {
        InstructionSet::up_to(InstructionSet::allowed().unwrap_or(InstructionSet::Amx))
    }

    /// The best this CPU has that `set` allows. Linux is asked for the tiles only where they are allowed.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn up_to(set: InstructionSet) -> InstructionSet {
        let has: [(InstructionSet, fn() -> bool); 4] = [
            (InstructionSet::Avx2, has_avx2),
            (InstructionSet::Avx512, has_avx512),
            (InstructionSet::Avx512Bf16, has_avx512_bf16),
            (InstructionSet::Amx, has_amx),
        ];
        let held = has.into_iter().take_while(|(higher, is_there)| *higher <= set && is_there());
        held.last().map_or(InstructionSet::Portable, |(highest, _)| highest)
    }

    /// What every CPU of the architecture has.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn up_to(_set: InstructionSet) -> InstructionSet {
        InstructionSet::Portable
    }

    /// What `TEXT2LLM_CPU` allows; everything where it is not set.
    ///
    /// # Errors
    /// [`Error::InstructionSet`]: a name that is none of the known ones. A device takes everything then.
    pub fn allowed() -> Result<InstructionSet> {
        const NAMES: [(&str, InstructionSet); 5] = [
            ("portable", InstructionSet::Portable),
            ("avx2", InstructionSet::Avx2),
            ("avx512", InstructionSet::Avx512),
            ("avx512bf16", InstructionSet::Avx512Bf16),
            ("amx", InstructionSet::Amx),
        ];
        let Some(given) = std::env::var_os("TEXT2LLM_CPU") else { return Ok(InstructionSet::Amx) };
        NAMES.into_iter().find(|(name, _)| given == *name).map(|(_, set)| set).ok_or_else(|| {
            let known = NAMES.map(|(name, _)| name).to_vec();
            Error::InstructionSet { given: given.display().to_string(), known }
        })
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            InstructionSet::Portable if cfg!(target_arch = "aarch64") => "NEON",
            InstructionSet::Portable => "portable",
            InstructionSet::Avx2 => "AVX2",
            InstructionSet::Avx512 => "AVX-512",
            InstructionSet::Avx512Bf16 => "AVX512-BF16",
            InstructionSet::Amx => "AMX",
        }
    }

    /// Whether it multiplies bfloat16.
    pub fn has_bf16(self) -> bool {
        self >= InstructionSet::Avx512Bf16
    }
}

/// What loops run on in this process: [`InstructionSet::detect`], asked once.
#[cfg(target_arch = "x86_64")]
pub(super) fn level() -> InstructionSet {
    static LEVEL: LazyLock<InstructionSet> = LazyLock::new(InstructionSet::detect);
    *LEVEL
}

/// What [`InstructionSet::Avx2`] stands for.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// What [`InstructionSet::Avx512`] stands for.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// Products of bfloat16, and the AVX-512 that they build on.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_avx512_bf16() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
}

/// Tiles of bfloat16, and Linux lets this process use them.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_amx() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    let leaf = std::arch::x86_64::__cpuid_count(7, 0);
    leaf.edx & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE && permitted()
}

/// Asks Linux for the tile registers, which it saves only for processes that ask.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn permitted() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: arch_prctl with this code changes nothing but the process's permission.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn permitted() -> bool {
    false
}
