//! Where to compute, decided when the program runs, and a device that is any of those.

use crate::Result;
use crate::cpu::{Cpu, InstructionSet, thread_count};
#[cfg(feature = "cuda")]
use crate::cuda::Cuda;
use crate::device::*;
use crate::tensor::{DType, Tensor};

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of a number.
    Cuda(u32),
}

/// Where to compute, and with how many threads of the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The device of training and decoding.
    pub place: DeviceKind,
    /// Threads of the CPU, there and for everything else; 0: all.
    pub threads: usize,
}

impl Target {
    /// The CPU with so many threads; 0: all.
    pub fn cpu(threads: usize) -> Target {
        Target { place: DeviceKind::Cpu, threads }
    }

    /// The first GPU that the kernels run on where all is there that they need, else the CPU.
    pub fn best(threads: usize) -> Target {
        #[cfg(feature = "cuda")]
        {
            let survey = crate::cuda::libraries::survey();
            let complete = survey.libraries.iter().all(|(part, found)| found.is_some() || part.is_optional());
            let gpu = survey.gpus.iter().flatten().position(|gpu| gpu.is_supported());
            if let (true, Some(index)) = (complete, gpu) {
                return Target { place: DeviceKind::Cuda(index as u32), threads };
            }
        }
        Target::cpu(threads)
    }

    /// That there is such a device, without taking it where that costs anything.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<()> {
        match self.place {
            DeviceKind::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda(index) => match Target::best(self.threads).place {
                DeviceKind::Cuda(_) => Ok(()),
                // It says what is missing.
                DeviceKind::Cpu => Cuda::new(index).map(drop),
            },
            #[cfg(not(feature = "cuda"))]
            DeviceKind::Cuda(_) => Err(crate::Error::WithoutCuda),
        }
    }

    /// Takes the device.
    ///
    /// # Errors
    /// What is missing.
    pub fn open(&self) -> Result<AnyDevice> {
        match self.place {
            DeviceKind::Cpu => Ok(AnyDevice::Cpu(Box::new(Cpu::new(self.threads)))),
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda(index) => Ok(AnyDevice::Cuda(Box::new(Cuda::new(index)?))),
            #[cfg(not(feature = "cuda"))]
            DeviceKind::Cuda(_) => Err(crate::Error::WithoutCuda),
        }
    }

    /// Whether products of bfloat16 are what the device is fastest with, or multiplies at all.
    pub fn has_bf16(&self) -> bool {
        match self.place {
            DeviceKind::Cpu => InstructionSet::detect().has_bf16(),
            DeviceKind::Cuda(_) => true,
        }
    }

    /// What activations of a micro-batch may take where nobody says how large it should be: a constant of the
    /// kind of device and not what is free now, since the cut decides the order of sums.
    pub fn activations_bytes(&self) -> usize {
        match self.place {
            DeviceKind::Cpu => 1 << 30,
            DeviceKind::Cuda(_) => 8 << 30,
        }
    }

    /// Room for a chunk of logits, at least: more where launching a kernel costs more than the memory.
    pub fn logits_bytes(&self) -> usize {
        match self.place {
            DeviceKind::Cpu => 32 << 20,
            DeviceKind::Cuda(_) => 512 << 20,
        }
    }

    /// Memory that kernels take beside the arena, in bytes.
    pub fn workspace_bytes(&self, work: &Work) -> usize {
        match self.place {
            DeviceKind::Cpu => Cpu::workspace_bytes(self.threads, work),
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda(_) => Cuda::workspace_bytes(work),
            #[cfg(not(feature = "cuda"))]
            DeviceKind::Cuda(_) => 0,
        }
    }

    /// Threads of the CPU that work there.
    pub fn cpu_threads(&self) -> usize {
        thread_count(self.threads)
    }

    /// Memory of the GPU that is free; `None` for the CPU, and for a GPU that does not tell.
    pub fn free_bytes(&self) -> Option<u64> {
        match self.place {
            DeviceKind::Cpu => None,
            #[cfg(feature = "cuda")]
            DeviceKind::Cuda(index) => Cuda::free_bytes(index),
            #[cfg(not(feature = "cuda"))]
            DeviceKind::Cuda(_) => None,
        }
    }

    /// The word for it in flags and records.
    pub fn word(&self) -> &'static str {
        match self.place {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda(_) => "cuda",
        }
    }

    /// Whether the arena lies in the memory of this process, not of a GPU.
    pub fn is_cpu(&self) -> bool {
        self.place == DeviceKind::Cpu
    }
}

/// A device of any kind.
pub enum AnyDevice {
    /// The CPU.
    Cpu(Box<Cpu>),
    /// An NVIDIA GPU.
    #[cfg(feature = "cuda")]
    Cuda(Box<Cuda>),
}

impl AnyDevice {
    /// Threads of the CPU that compute.
    pub fn threads(&self) -> usize {
        match self {
            AnyDevice::Cpu(cpu) => cpu.threads(),
            #[cfg(feature = "cuda")]
            AnyDevice::Cuda(_) => 1,
        }
    }

    /// Memory of the GPU that the device has allocated, in bytes; `None` for the CPU.
    pub fn allocated_bytes(&self) -> Option<u64> {
        match self {
            AnyDevice::Cpu(_) => None,
            #[cfg(feature = "cuda")]
            AnyDevice::Cuda(cuda) => Some(cuda.allocated_bytes()),
        }
    }

    /// Products of this type at most, measured, in GFLOP/s; `None` where there are none of it. Takes a GPU's
    /// arena.
    ///
    /// # Errors
    /// A GPU without the memory.
    pub fn peak_gflops(&mut self, dtype: DType) -> Result<Option<f64>> {
        match self {
            AnyDevice::Cpu(cpu) => Ok(cpu.peak_gflops(dtype)),
            #[cfg(feature = "cuda")]
            AnyDevice::Cuda(cuda) => cuda.peak_gflops(dtype).map(Some),
        }
    }

    /// Reading `bytes` of memory again and again, measured, in GB/s. Takes a GPU's arena.
    ///
    /// # Errors
    /// A GPU without the memory.
    pub fn peak_read_gbs(&mut self, bytes: usize) -> Result<f64> {
        match self {
            AnyDevice::Cpu(cpu) => Ok(cpu.peak_read_gbs(bytes)),
            #[cfg(feature = "cuda")]
            AnyDevice::Cuda(cuda) => cuda.peak_read_gbs(bytes),
        }
    }

    /// bfloat16 products of dense matrices a second at most, in GFLOP/s, as the maker states it; `None` where
    /// it is not known.
    pub fn stated_gflops(&self) -> Option<f64> {
        match self {
            AnyDevice::Cpu(_) => None,
            #[cfg(feature = "cuda")]
            AnyDevice::Cuda(cuda) => crate::cuda::stated_gflops(&cuda.name()),
        }
    }
}

/// Hands every call on.
macro_rules! hand_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            #[inline]
            fn $name(&mut self, $($argument: $type),*) $(-> $result)? {
                match self {
                    AnyDevice::Cpu(device) => device.$name($($argument),*),
                    #[cfg(feature = "cuda")]
                    AnyDevice::Cuda(device) => device.$name($($argument),*),
                }
            }
        )*
    };
}

impl Device for AnyDevice {
    fn name(&self) -> String {
        match self {
            AnyDevice::Cpu(device) => device.name(),
            #[cfg(feature = "cuda")]
            AnyDevice::Cuda(device) => device.name(),
        }
    }

    hand_on! {
        fn allocate(bytes: usize) -> Result<()>;
        fn upload(to: Tensor, values: &[f32]);
        fn upload_blocks(to: Tensor, blocks: &[u8]);
        fn upload_ids(to: Tensor, values: &[u32]);
        fn download(from: Tensor) -> Vec<f32>;
        fn download_scalar(from: Tensor) -> f64;
        fn synchronize();
        fn fill(x: Tensor, value: f32);
        fn copy(from: Tensor, to: Tensor);
        fn add(x: Tensor, y: Tensor);
        fn dropout(x: Tensor, p: f32, seed: u64);
        fn gemm(op: Gemm);
        fn add_bias(x: Tensor, bias: Tensor);
        fn bias_backward(dy: Tensor, dbias: Tensor);
        fn scale_columns(x: Tensor, scale: Tensor);
        fn column_dots(x: Tensor, y: Tensor, scale: Tensor, out: Tensor);
        fn embedding(ids: Tensor, table: Tensor, out: Tensor);
        fn embedding_backward(ids: Tensor, dout: Tensor, dtable: Tensor);
        fn rmsnorm(op: RmsNorm, out: Tensor);
        fn rmsnorm_backward(op: RmsNormBackward);
        fn rope(op: Rope);
        fn attention(op: Attention);
        fn attention_backward(op: AttentionBackward);
        fn cached_attention(op: CachedAttention);
        fn swiglu(gate_up: Tensor, out: Tensor);
        fn swiglu_backward(gate_up: Tensor, dout: Tensor, out: Tensor);
        fn linear_cross_entropy(op: LinearCrossEntropy);
        fn squared_norm(x: Tensor, out: Tensor);
        fn adamw(op: AdamW);
        fn momentum(op: Momentum);
        fn scale_by_frobenius_norm(x: Tensor, squared_norm: Tensor, out: Tensor);
        fn axpby(op: Axpby);
        fn sgd_step(op: SgdStep);
    }
}
