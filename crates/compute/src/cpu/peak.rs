//! What this machine can do at most: the ceilings that kernels are compared with. Measured, never looked up.

use super::buffer::{AlignedBuffer, Shared};
use super::device::Cpu;
use super::gemm::MicroKernel;
use super::kernels::Kernels;
use super::simd::sum;
use super::view::{Output, Start};
use crate::tensor::DType;
use std::time::Instant;

/// How long a measurement takes a round; the best of [`ROUNDS`] counts, since other programs only ever slow
/// it down.
const SECONDS: f64 = 0.03;
const ROUNDS: usize = 8;

impl Cpu {
    /// GFLOP/s of the micro-kernel that multiplies matrices of this type, on all threads, with operands in
    /// the nearest cache. `None` where the CPU has no products of this type.
    pub fn peak_gflops(&self, dtype: DType) -> Option<f64> {
        match (self.kernels, dtype) {
            (Kernels::Portable(kernel), DType::F32) => Some(self.peak_of(kernel)),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Avx2(kernel), DType::F32) => Some(self.peak_of(kernel)),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Avx512(kernel) | Kernels::Avx512Bf16(kernel, _), DType::F32) => {
                Some(self.peak_of(kernel))
            }
            #[cfg(target_arch = "x86_64")]
            (Kernels::Avx512Bf16(_, kernel), DType::Bf16) => Some(self.peak_of(kernel)),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Amx(kernel, ..), DType::F32) => Some(self.peak_of(kernel)),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Amx(kernel, ..), DType::Bf16) => Some(self.peak_of(super::amx::AmxBf16(kernel))),
            _ => None,
        }
    }

    /// GB/s of reading memory on all threads, over and over the same `bytes`: as fast as weights of this size
    /// can be read.
    pub fn peak_read_gbs(&self, bytes: usize) -> f64 {
        const PIECE: usize = 1 << 18;
        let numbers = vec![1.0f32; (bytes / 4).max(PIECE)];
        let pieces = numbers.len().div_ceil(PIECE);
        self.best_rate(|| {
            self.pool.run(pieces, &|piece, _| {
                let end = numbers.len().min((piece + 1) * PIECE);
                std::hint::black_box(sum(&numbers[piece * PIECE..end]));
            });
            (numbers.len() * 4) as f64
        }) / 1e9
    }

    /// Work a second: `work` says how much it did.
    fn best_rate(&self, mut work: impl FnMut() -> f64) -> f64 {
        work();
        let mut best = 0.0f64;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let mut done = 0.0;
            while start.elapsed().as_secs_f64() < SECONDS {
                done += work();
            }
            best = best.max(done / start.elapsed().as_secs_f64());
        }
        best
    }

    fn peak_of<K: MicroKernel>(&self, kernel: K) -> f64 {
        const REPEATS: usize = 64;
        let depth = 256usize.next_multiple_of(K::DEPTH_UNIT);
        let threads = self.pool.threads();
        let mut buffers: Vec<[AlignedBuffer; 3]> = (0..threads).map(|_| Default::default()).collect();
        let pointers: Vec<[Shared<*mut u8>; 3]> = buffers
            .iter_mut()
            .map(|[a, b, c]| {
                [
                    Shared(a.ensure(K::a_panel_bytes(depth))),
                    Shared(b.ensure(K::b_panel_bytes(depth))),
                    Shared(c.ensure(K::ROWS * K::COLUMNS * 4)),
                ]
            })
            .collect();
        let flops = (2 * REPEATS * K::ROWS * K::COLUMNS * depth) as f64;
        self.best_rate(|| {
            let items = 16 * threads;
            self.pool.run(items, &|_, thread| {
                let [a, b, c] = &pointers[thread];
                let out = Output {
                    pointer: c.get(),
                    dtype: DType::F32,
                    row_stride: K::COLUMNS,
                    start: Start::Zero,
                };
                // SAFETY: panels of zeros and a tile of this thread's own, sized for the kernel.
                unsafe {
                    kernel.enter();
                    for _ in 0..REPEATS {
                        kernel.multiply(depth, a.get(), b.get(), out, K::ROWS, K::COLUMNS);
                    }
                    kernel.leave();
                }
            });
            items as f64 * flops
        }) / 1e9
    }
}
