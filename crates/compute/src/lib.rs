//! Devices and their kernels: the bottom room, which imports nothing of the house.

pub mod batch;
pub mod mapped;
pub mod rng;
