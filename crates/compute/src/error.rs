//! The one error of this crate: facts alone. What to do about them is with those who know the recipe and the
//! command.

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What a kind of failure this is, for callers that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The device has not enough memory for the arena.
    OutOfMemory,
    /// The device is not there, or cannot do what was asked.
    Unsupported,
}

/// What a device can fail with. Kernels do not fail: shapes are checked when a model is laid out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The arena could not be allocated.
    #[error("not enough memory: the plan needs {needed_bytes} bytes on {device}")]
    OutOfMemory {
        /// Size of the arena asked for.
        needed_bytes: usize,
        /// The device's name.
        device: String,
    },
    /// A GPU was asked of a program without the feature `cuda`.
    #[error("this program was built without CUDA")]
    WithoutCuda,
    /// A library that a GPU needs is not on this machine.
    #[error("training on a GPU needs {library}, which was not found")]
    NoLibrary {
        /// Its name.
        library: &'static str,
        /// What brings it.
        install: &'static str,
    },
    /// A GPU without the instructions that the kernels are made of.
    #[error(
        "{device} has compute capability {}.{}; the kernels need {}.{} or later (bfloat16 tensor cores)",
        capability.0, capability.1, needed.0, needed.1
    )]
    OldGpu {
        /// The device's name.
        device: String,
        /// What it has.
        capability: (u32, u32),
        /// The least that would do.
        needed: (u32, u32),
    },
    /// A call of a GPU's library failed while the device was set up.
    #[error("{library} cannot be used: {call}: {status}")]
    Call {
        /// What was called: "the GPU", "cuBLASLt".
        library: &'static str,
        /// The function.
        call: &'static str,
        /// What it returned, by the name of its documentation.
        status: String,
    },
    /// cuBLASLt knows no way to compute a product.
    #[error("cuBLASLt offers no algorithm for a product of {m}×{k} and {k}×{n}")]
    NoAlgorithm {
        /// Rows of the result.
        m: usize,
        /// What is summed over.
        k: usize,
        /// Columns of the result.
        n: usize,
    },
    /// NVRTC does not compile a program for this GPU.
    #[error("NVRTC cannot compile {program} for {architecture}: {log}")]
    Compile {
        /// The file of kernels.
        program: String,
        /// The compiler's name of the GPU.
        architecture: String,
        /// What the compiler says.
        log: String,
    },
    /// The driver does not load what NVRTC compiled.
    #[error("the driver does not load {program}: {status}")]
    Load {
        /// The file of kernels.
        program: String,
        /// What it returned, by the name of its documentation.
        status: String,
    },
    /// `TEXT2LLM_CPU` names no instruction set.
    #[error("TEXT2LLM_CPU is `{given}`: it can be {}", known.join(", "))]
    InstructionSet {
        /// Its value.
        given: String,
        /// What it could be.
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
