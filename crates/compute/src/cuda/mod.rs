//! NVIDIA GPUs. Nothing is linked: libraries are found when the program runs, so one binary runs with and without them.
//!
//! Reading order: [`libraries`] (what is there, and what brings what is not), [`device`] (the kernels' calls), `queue` (what is enqueued
//! and its replay as a graph), `products` (cuBLASLt), `kernels/*.cu` and `compiler` (own kernels), `driver`. Bits do not change
//! from run to run on the same GPU with the same libraries: no sum is taken by atomic additions, and the algorithm of a
//! product is settled once. Non-goals: GPUs older than sm_80, several GPUs.

pub mod compiler;
pub mod device;
mod driver;
mod kernels;
pub mod libraries;
mod products;
mod queue;

pub use device::Cuda;
