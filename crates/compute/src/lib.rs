//! Devices and their kernels. Of the workspace it imports `quant` only.
//!
//! Reading order: [`tensor`] (handles into one arena), [`device`] (the trait: about twenty fused kernels),
//! [`reference`] (the specification in f64), [`cpu`] (threads and SIMD). Each device is one folder; code
//! outside this crate never names a device-specific kernel. Non-goals: autograd, broadcasting, dynamic
//! shapes. The model family is fixed, its backward is written out.

pub mod batch;
pub mod counting;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
mod error;
pub mod heap;
pub mod profile;
pub mod reference;
pub mod rng;
pub mod target;
pub mod tensor;

pub use batch::Batch;
pub use device::Device;
pub use error::{Error, ErrorKind, Result};
pub use target::{AnyDevice, DeviceKind, Target};
pub use tensor::{DType, Layout, Tensor};
