//! The one error of this crate: facts only. Callers that know the command and the recipe add the remedy.

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds of errors that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The device has not enough memory for the arena.
    OutOfMemory,
    /// The device is missing, or does not support the request.
    Unsupported,
}

/// Errors of a device. Kernels do not fail: shapes are checked when a model is laid out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The arena could not be allocated.
    #[error("not enough memory: the plan needs {needed_bytes} bytes on {device}")]
    OutOfMemory {
        /// Requested size of the arena.
        needed_bytes: usize,
        /// The device's name.
        device: String,
    },
    /// A GPU was requested from a program without the feature `cuda`.
    #[error("this program was built without CUDA")]
    WithoutCuda,
    /// A library for the GPU was not found.
    #[error("training on a GPU needs {library}, which was not found")]
    NoLibrary {
        /// Its name.
        library: &'static str,
        /// How to install it.
        install: &'static str,
    },
    /// The GPU lacks instructions that the kernels need.
    #[error(
        "{device} has compute capability {}.{}; the kernels need {}.{} or later (bfloat16 tensor cores)",
        capability.0, capability.1, needed.0, needed.1
    )]
    OldGpu {
        /// The device's name.
        device: String,
        /// Its compute capability.
        capability: (u32, u32),
        /// The minimum compute capability.
        needed: (u32, u32),
    },
    /// A library call failed during device setup.
    #[error("{library} cannot be used: {call}: {status}")]
    Call {
        /// The library: "the GPU", "cuBLASLt".
        library: &'static str,
        /// The function.
        call: &'static str,
        /// The returned status, by its documented name.
        status: String,
    },
    /// cuBLASLt has no algorithm for a matrix product.
    #[error("cuBLASLt offers no algorithm for a product of {m}×{k} and {k}×{n}")]
    NoAlgorithm {
        /// Rows of the result.
        m: usize,
        /// Length of the sums.
        k: usize,
        /// Columns of the result.
        n: usize,
    },
    /// NVRTC cannot compile a program for this GPU.
    #[error("NVRTC cannot compile {program} for {architecture}: {log}")]
    Compile {
        /// The file of kernels.
        program: String,
        /// The compiler's name for the GPU.
        architecture: String,
        /// The compiler's output.
        log: String,
    },
    /// The driver cannot load the output of NVRTC.
    #[error("the driver cannot load {program}: {status}")]
    Load {
        /// The file of kernels.
        program: String,
        /// The returned status, by its documented name.
        status: String,
    },
    /// `TEXT2LLM_CPU` is not an instruction set.
    #[error("TEXT2LLM_CPU is `{given}`; it must be one of {}", known.join(", "))]
    InstructionSet {
        /// Its value.
        given: String,
        /// The valid values.
        known: Vec<&'static str>,
    },
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            _ => ErrorKind::Unsupported,
        }
    }
}
