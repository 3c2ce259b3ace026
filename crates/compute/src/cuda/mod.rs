//! NVIDIA GPUs. Nothing is linked: libraries are found when the program runs, so one binary runs with and without them.
//!
//! Reading order: [`libraries`] (what is there, and what brings what is not). Non-goals: GPUs older than sm_80.

pub mod libraries;
