//! The CPU device: its threads, its kernels and its memory.

use super::arena::Arena;
use super::buffer::AlignedBuffer;
use super::gemm::Scratch;
use super::instruction_set::InstructionSet;
use super::kernels::Kernels;
use super::pool::Pool;
use super::view::View;
use super::workspace::{AttentionBuffers, FewRowsBuffers, attention_bytes};
use crate::device::Work;
use crate::tensor::Tensor;

/// The CPU device.
pub struct Cpu {
    pub(super) pool: Pool,
    pub(super) kernels: Kernels,
    pub(super) arena: Arena,
    pub(super) scratch: Scratch,
    pub(super) few_rows: FewRowsBuffers,
    /// Rows of a weight of fewer bits as f32.
    pub(super) widened: AlignedBuffer,
    /// One set a thread, for attention's score tiles and packed operands.
    pub(super) workspaces: Vec<AttentionBuffers>,
    /// Partial sums of one kernel at a time.
    pub(super) partials: Vec<f32>,
    pub(super) partials_f64: Vec<f64>,
}

/// 0 stands for as many as the process may use, cgroup limits included.
pub(crate) fn thread_count(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        _ => threads,
    }
}

impl Cpu {
    /// A device with `threads` threads (0: as many as the process may use, cgroup limits included).
    pub fn new(threads: usize) -> Cpu {
        Cpu::with_instruction_set(threads, InstructionSet::detect())
    }

    /// A device whose products use this instruction set at most, for tests and comparisons. Its loops are
    /// those of the process: `TEXT2LLM_CPU` holds both.
    pub fn with_instruction_set(threads: usize, set: InstructionSet) -> Cpu {
        let threads = thread_count(threads);
        let kernels = Kernels::up_to(set);
        let pool = Pool::new(threads);
        let workspaces = (0..pool.threads()).map(|_| AttentionBuffers::default()).collect();
        Cpu {
            pool,
            kernels,
            arena: Arena::empty(),
            scratch: Scratch::default(),
            few_rows: FewRowsBuffers::default(),
            widened: AlignedBuffer::default(),
            workspaces,
            partials: Vec::new(),
            partials_f64: Vec::new(),
        }
    }

    /// Bytes that the kernels of [`Cpu::new`] take beside the arena for this work, on the pages that they
    /// touch.
    pub fn workspace_bytes(threads: usize, work: &Work) -> usize {
        let (kernels, threads) = (Kernels::up_to(InstructionSet::detect()), thread_count(threads));
        let mut most = [0; 3];
        for op in &work.products {
            let bytes = kernels.scratch_bytes(op, threads);
            most.iter_mut().zip(bytes).for_each(|(most, bytes)| *most = bytes.max(*most));
        }
        let [b, a, sum] = most;
        let (length, head_dim) = work.attention;
        b + threads * (a + attention_bytes(length, head_dim)) + sum
    }

    /// Threads that work.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    pub(super) fn view(&self, t: Tensor) -> View {
        View {
            pointer: self.arena.bytes(t),
            dtype: t.dtype,
            rows: t.rows,
            columns: t.columns,
            row_stride: t.row_stride,
            column_stride: 1,
        }
    }
}
