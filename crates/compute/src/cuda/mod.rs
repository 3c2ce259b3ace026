//! NVIDIA GPUs. Nothing is linked: libraries are found when the program runs, so one binary runs with and
//! without them.
//!
//! Reading order: [`libraries`] (what is there, and what brings what is not), [`device`] (the kernels'
//! calls), `queue` (what is enqueued and its replay as a graph), `products` (cuBLASLt), `kernels/*.cu` and
//! `compiler` (hand-written kernels), `driver`. Bits do not change from run to run on the same GPU with the
//! same libraries: no sum is taken by atomic additions, and the algorithm of a product is settled once.
//! Non-goals: GPUs older than sm_80, several GPUs.

pub mod compiler;
pub mod device;
mod driver;
mod kernels;
pub mod libraries;
mod peak;
mod products;
mod queue;

pub use device::Cuda;

/// Dense bfloat16 products with f32 sums a second, in TFLOP/s, by what the product's name contains: NVIDIA's
/// data sheets, without sparsity. The more special name comes first.
const STATED_TFLOPS: [(&str, f64); 22] = [
    ("B300", 2250.0),
    ("B200", 2250.0),
    ("GH200", 989.4),
    ("H200", 989.4),
    ("H100 PCIe", 756.5),
    ("H100 NVL", 835.5),
    ("H100", 989.4),
    ("H800", 989.4),
    ("H20", 148.0),
    ("A100", 312.0),
    ("A800", 312.0),
    ("NVIDIA A30", 165.0),
    ("NVIDIA A40", 149.7),
    ("NVIDIA A10G", 70.0),
    ("NVIDIA A10", 125.0),
    ("RTX A6000", 154.8),
    ("L40S", 362.1),
    ("L40", 181.1),
    ("L4", 121.0),
    ("RTX 5090", 209.5),
    ("RTX 4090", 165.2),
    ("RTX 3090", 71.0),
];

/// What the maker states for a GPU, in GFLOP/s; `None` for one that is not in the table.
pub fn stated_gflops(name: &str) -> Option<f64> {
    STATED_TFLOPS.iter().find(|(part, _)| name.contains(part)).map(|(_, tflops)| tflops * 1e3)
}
