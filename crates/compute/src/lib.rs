//! Devices and their kernels. Of the workspace it imports `quant` only.
//!
//! Reading order: [`tensor`] (handles into one arena), [`device`] (the trait: about twenty fused kernels),
//! [`reference`] (the specification in f64), [`cpu`] (threads and SIMD). A device is a folder; nothing
//! outside this crate names a kernel of one. Non-goals: autograd, broadcasting, dynamic shapes. The model
//! family is fixed, its backward is written out.

pub mod batch;
pub mod counting;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod heap;
pub mod profile;
pub mod reference;
pub mod rng;
pub mod target;
pub mod tensor;

pub use batch::Batch;
pub use device::Device;
pub use target::{AnyDevice, Place, Target};
pub use tensor::{DType, Layout, Tensor};

/// What a kind of failure this is, for callers that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The device has not enough memory for the arena.
    OutOfMemory,
    /// An option the device cannot honour.
    Unsupported,
}

/// What a device can fail with. Kernels do not fail: shapes are checked when a model is laid out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The arena could not be allocated.
    #[error(
        "not enough memory: the plan needs {needed_bytes} bytes on {device}. Lower train.micro_batch_size or train.sequence_length, set train.recompute = true, or choose a smaller model. Where it is a limit that is reached, that of the process (`ulimit -v`) or of its container, raise it"
    )]
    OutOfMemory {
        /// Size of the arena asked for.
        needed_bytes: usize,
        /// The device's name.
        device: String,
    },
    /// An option the device cannot honour.
    #[error("{0}")]
    Unsupported(String),
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            Error::Unsupported(_) => ErrorKind::Unsupported,
        }
    }
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
