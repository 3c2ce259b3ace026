//! The CPU: a thread pool, SIMD chosen at run time, one arena.
//!
//! Reading order: this file (the device, and how a call becomes work items), [`gemm`] with its micro-kernels,
//! [`attention`], [`few_rows`] and [`packed_blocks`] (decoding), [`rows`] (norms, activations, embeddings),
//! [`loss`], [`optimizer`], [`peak`]. Work is cut in fixed items and sums are folded in a fixed order, so the
//! same inputs give the same bits whatever the thread count.

#[cfg(target_arch = "x86_64")]
mod amx;
mod arena;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
mod few_rows;
mod gemm;
mod lanes;
mod loss;
mod optimizer;
mod packed_blocks;
mod peak;
mod pool;
mod rows;
mod simd;
mod vector;

use crate::device::{
    AdamW, Attention, AttentionBackward, Blend, CachedAttention, Descend, Device, Gemm, LinearCrossEntropy,
    Momentum, RmsNorm, Rope, Work,
};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};
use arena::Arena;
use few_rows::FewRows;
use gemm::{AlignedBuffer, Output, Scratch, Shared, Start, View};
use pool::Pool;
use simd::{Element, with_element};

/// Which micro-kernels multiply matrices.
#[derive(Clone, Copy)]
enum Kernels {
    /// NEON on aarch64, elsewhere plain code.
    Portable(lanes::Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(lanes::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    /// AVX-512, and bfloat16 products.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(avx512::Avx512, avx512bf16::Avx512Bf16),
    /// Tiles for large products, the others' for small ones.
    #[cfg(target_arch = "x86_64")]
    Amx(amx::Amx, avx512::Avx512, avx512bf16::Avx512Bf16),
}

/// The CPU device.
pub struct Cpu {
    pool: Pool,
    kernels: Kernels,
    arena: Arena,
    scratch: Scratch,
    few_rows: FewRows,
    /// Rows of a weight of fewer bits as f32.
    widened: AlignedBuffer,
    /// One set a thread, for attention's score tiles and packed operands.
    workspaces: Vec<attention::Workspace>,
    /// Partial sums of one kernel at a time.
    partials: Vec<f32>,
    partials_f64: Vec<f64>,
}

/// What the kernels are made of. Each holds what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What every CPU of the architecture has: NEON on aarch64.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 for f32.
    Avx512,
    /// And products of bfloat16.
    Avx512Bf16,
    /// And Intel's tiles.
    Amx,
}

impl InstructionSet {
    /// The best this CPU has, or less where the environment's `TEXT2LLM_CPU` says so.
    pub fn detect() -> InstructionSet {
        Kernels::up_to(InstructionSet::allowed().unwrap_or(InstructionSet::Amx)).instruction_set()
    }

    /// What `TEXT2LLM_CPU` allows; everything where it is not set.
    ///
    /// # Errors
    /// [`Error::Unsupported`]: a name that is none of the known ones. A device takes everything then.
    pub fn allowed() -> Result<InstructionSet> {
        const NAMES: [(&str, InstructionSet); 5] = [
            ("portable", InstructionSet::Portable),
            ("avx2", InstructionSet::Avx2),
            ("avx512", InstructionSet::Avx512),
            ("avx512bf16", InstructionSet::Avx512Bf16),
            ("amx", InstructionSet::Amx),
        ];
        let Some(given) = std::env::var_os("TEXT2LLM_CPU") else { return Ok(InstructionSet::Amx) };
        NAMES.into_iter().find(|(name, _)| given == *name).map(|(_, set)| set).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name).join(", ");
            Error::Unsupported(format!("TEXT2LLM_CPU is `{}`: it can be {names}", given.display()))
        })
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            InstructionSet::Portable if cfg!(target_arch = "aarch64") => "NEON",
            InstructionSet::Portable => "portable",
            InstructionSet::Avx2 => "AVX2",
            InstructionSet::Avx512 => "AVX-512",
            InstructionSet::Avx512Bf16 => "AVX512-BF16",
            InstructionSet::Amx => "AMX",
        }
    }

    /// Whether it multiplies bfloat16.
    pub fn has_bf16(self) -> bool {
        self >= InstructionSet::Avx512Bf16
    }
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
        let workspaces = (0..pool.threads()).map(|_| attention::Workspace::default()).collect();
        Cpu {
            pool,
            kernels,
            arena: Arena::empty(),
            scratch: Scratch::default(),
            few_rows: FewRows::default(),
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
            let bytes = match (kernels, op.bf16) {
                (Kernels::Portable(_), _) => gemm::scratch_bytes::<lanes::Portable>(op, threads),
                #[cfg(target_arch = "x86_64")]
                (Kernels::Avx2(_), _) => gemm::scratch_bytes::<lanes::Avx2>(op, threads),
                #[cfg(target_arch = "x86_64")]
                (Kernels::Amx(..), true) => gemm::scratch_bytes::<amx::AmxBf16>(op, threads),
                #[cfg(target_arch = "x86_64")]
                (Kernels::Amx(..), false) => gemm::scratch_bytes::<amx::Amx>(op, threads),
                #[cfg(target_arch = "x86_64")]
                (Kernels::Avx512Bf16(..), true) => gemm::scratch_bytes::<avx512bf16::Avx512Bf16>(op, threads),
                #[cfg(target_arch = "x86_64")]
                (Kernels::Avx512(_) | Kernels::Avx512Bf16(..), _) => {
                    gemm::scratch_bytes::<avx512::Avx512>(op, threads)
                }
            };
            most.iter_mut().zip(bytes).for_each(|(most, bytes)| *most = bytes.max(*most));
        }
        let [b, a, sum] = most;
        let (length, head_dim) = work.attention;
        b + threads * (a + attention::workspace_bytes(length, head_dim)) + sum
    }

    /// Threads that work.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn view(&self, t: Tensor) -> View {
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

impl Kernels {
    /// The best of this CPU that `set` allows.
    #[cfg(target_arch = "x86_64")]
    fn up_to(set: InstructionSet) -> Kernels {
        let Some(avx2) = (set >= InstructionSet::Avx2).then(lanes::Avx2::detect).flatten() else {
            return Kernels::Portable(lanes::Portable::new());
        };
        let Some(avx512) = (set >= InstructionSet::Avx512).then(avx512::Avx512::detect).flatten() else {
            return Kernels::Avx2(avx2);
        };
        let Some(pairs) = set.has_bf16().then(avx512bf16::Avx512Bf16::detect).flatten() else {
            return Kernels::Avx512(avx512);
        };
        let tiles = (set >= InstructionSet::Amx).then(amx::Amx::detect).flatten();
        tiles.map_or(Kernels::Avx512Bf16(avx512, pairs), |tiles| Kernels::Amx(tiles, avx512, pairs))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn up_to(_set: InstructionSet) -> Kernels {
        Kernels::Portable(lanes::Portable::new())
    }

    fn has_bf16(self) -> bool {
        self.instruction_set().has_bf16()
    }

    fn instruction_set(self) -> InstructionSet {
        match self {
            Kernels::Portable(_) => InstructionSet::Portable,
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx2(_) => InstructionSet::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx512(_) => InstructionSet::Avx512,
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx512Bf16(..) => InstructionSet::Avx512Bf16,
            #[cfg(target_arch = "x86_64")]
            Kernels::Amx(..) => InstructionSet::Amx,
        }
    }
}

/// Whether a product's arithmetic is bfloat16's: one operand is no f32, and the other is rounded.
fn in_bf16(a: View, b: View) -> bool {
    a.dtype != DType::F32 || b.dtype != DType::F32
}

/// A product on the calling thread.
///
/// # Safety
/// Views and output valid for their shapes; the output overlaps no input.
unsafe fn serial_gemm(
    kernels: Kernels,
    buffers: (&mut AlignedBuffer, &mut AlignedBuffer),
    a: View,
    b: View,
    out: Output,
) {
    // SAFETY: passed on.
    unsafe {
        match (kernels, in_bf16(a, b)) {
            #[cfg(target_arch = "x86_64")]
            (Kernels::Avx512Bf16(_, pairs), true) => gemm::serial(pairs, buffers, a, b, out),
            #[cfg(target_arch = "x86_64")]
            (Kernels::Amx(tiles, ..), true) => gemm::serial(amx::AmxBf16(tiles), buffers, a, b, out),
            #[cfg(target_arch = "x86_64")]
            (
                Kernels::Avx512(vectors) | Kernels::Avx512Bf16(vectors, _) | Kernels::Amx(_, vectors, _),
                false,
            ) => {
                gemm::serial(vectors, buffers, a, b, out);
            }
            #[cfg(target_arch = "x86_64")]
            (Kernels::Avx2(kernel), false) => gemm::serial(kernel, buffers, a, b, out),
            (Kernels::Portable(kernel), false) => gemm::serial(kernel, buffers, a, b, out),
            (_, true) => no_bf16(),
        }
    }
}

/// A model was laid out for arithmetic that [`InstructionSet::detect`] does not promise.
fn no_bf16() -> ! {
    panic!("this CPU, or the instruction set it is held to, has no bfloat16 products")
}

impl Device for Cpu {
    fn name(&self) -> String {
        let kernels = self.kernels.instruction_set().name();
        format!("CPU ({} threads, {kernels})", self.pool.threads())
    }

    fn allocate(&mut self, bytes: usize) -> Result<()> {
        self.arena = Arena::new(bytes)
            .ok_or_else(|| Error::OutOfMemory { needed_bytes: bytes, device: self.name() })?;
        Ok(())
    }

    fn upload(&mut self, to: Tensor, values: &[f32]) {
        assert_eq!(to.len(), values.len());
        if to.dtype.is_blocks() {
            return self.upload_blocks(to, &to.dtype.block_format().encode(values));
        }
        with_element!(to.dtype, E => simd::scaled_copy(self.arena.typed_mut::<E>(to), 1.0, values));
    }

    fn upload_blocks(&mut self, to: Tensor, from: &[u8]) {
        assert_eq!(from.len(), to.dtype.block_format().bytes_of(to.len()), "{to:?}");
        packed_blocks::pack(to.dtype, to.columns, from, self.arena.block_bytes_mut(to));
    }

    fn upload_ids(&mut self, to: Tensor, values: &[u32]) {
        self.arena.ids_mut(to).copy_from_slice(values);
    }

    fn download(&mut self, from: Tensor) -> Vec<f32> {
        with_element!(from.dtype, E => self.arena.typed::<E>(from).iter().map(|x| x.get()).collect())
    }

    fn download_scalar(&mut self, from: Tensor) -> f64 {
        self.arena.scalar(from)
    }

    fn synchronize(&mut self) {}

    fn fill(&mut self, x: Tensor, value: f32) {
        self.fill_rows(x, value);
    }

    fn copy(&mut self, from: Tensor, to: Tensor) {
        self.copy_rows(from, to);
    }

    fn add(&mut self, x: Tensor, y: Tensor) {
        self.add_rows(x, y);
    }

    fn dropout(&mut self, x: Tensor, p: f32, seed: u64) {
        self.dropout_rows(x, p, seed);
    }

    fn gemm(&mut self, op: Gemm) {
        let a = if op.a_transposed { self.view(op.a).transposed() } else { self.view(op.a) };
        let b = if op.b_transposed { self.view(op.b).transposed() } else { self.view(op.b) };
        assert_eq!((a.rows, b.columns, a.columns), (op.out.rows, op.out.columns, b.rows), "{op:?}");
        let start = match (op.residual, op.accumulate) {
            (Some(residual), false) => {
                assert_eq!((residual.rows, residual.columns), (op.out.rows, op.out.columns), "{op:?}");
                Start::Residual { pointer: self.arena.f32(residual), row_stride: residual.row_stride }
            }
            (None, true) => Start::Accumulate,
            (None, false) => Start::Zero,
            (Some(_), true) => unreachable!("a product is added to one matrix only"),
        };
        let out = Output {
            pointer: self.arena.bytes(op.out),
            dtype: op.out.dtype,
            row_stride: op.out.row_stride,
            start,
        };
        let bf16 = in_bf16(a, b);
        assert!(op.out.dtype == DType::F32 || (bf16 && self.kernels.has_bf16() && !op.accumulate), "{op:?}");
        assert!(a.columns > 0, "a product over nothing: {op:?}");
        assert!(!b.dtype.is_blocks() || op.b_transposed, "{op:?}");
        // SAFETY: the arena holds all operands; the output overlaps no input.
        if unsafe { self.few_rows(a, b, out) } {
            return;
        }
        if a.dtype == DType::F32 && b.dtype != DType::F32 && !self.kernels.has_bf16() {
            self.widened(a, b, out);
            return;
        }
        // SAFETY: as above.
        unsafe { self.multiply(a, b, out) };
    }

    fn add_bias(&mut self, x: Tensor, bias: Tensor) {
        self.add_bias_rows(x, bias);
    }

    fn bias_backward(&mut self, dy: Tensor, dbias: Tensor) {
        self.bias_backward_columns(dy, dbias);
    }

    fn embedding(&mut self, ids: Tensor, table: Tensor, out: Tensor) {
        self.embedding_rows(ids, table, out);
    }

    fn embedding_backward(&mut self, ids: Tensor, dout: Tensor, dtable: Tensor) {
        self.embedding_backward_columns(ids, dout, dtable);
    }

    fn rmsnorm(&mut self, op: RmsNorm, out: Tensor) {
        self.rmsnorm_rows(op, out);
    }

    fn rmsnorm_backward(&mut self, op: RmsNorm, dout: Tensor, dx: Tensor, overwrite: bool, dweight: Tensor) {
        self.rmsnorm_backward_rows(op, dout, dx, overwrite, dweight);
    }

    fn rope(&mut self, op: Rope) {
        self.rope_rows(op);
    }

    fn attention(&mut self, op: Attention) {
        self.attention_forward(op);
    }

    fn attention_backward(&mut self, op: AttentionBackward) {
        self.attention_gradients(op);
    }

    fn cached_attention(&mut self, op: CachedAttention) {
        self.attention_to_cache(op);
    }

    fn swiglu(&mut self, gate_up: Tensor, out: Tensor) {
        self.swiglu_rows(gate_up, out);
    }

    fn swiglu_backward(&mut self, gate_up: Tensor, dout: Tensor, out: Tensor) {
        self.swiglu_backward_rows(gate_up, dout, out);
    }

    fn linear_cross_entropy(&mut self, op: LinearCrossEntropy) {
        self.linear_cross_entropy_chunks(op);
    }

    fn squared_norm(&mut self, x: Tensor, out: Tensor) {
        self.squared_norm_chunks(x, out);
    }

    fn adamw(&mut self, op: AdamW) {
        self.adamw_chunks(op);
    }

    fn momentum(&mut self, op: Momentum) {
        self.momentum_chunks(op);
    }

    fn normalize(&mut self, x: Tensor, squared_norm: Tensor, out: Tensor) {
        self.normalize_chunks(x, squared_norm, out);
    }

    fn blend(&mut self, op: Blend) {
        self.blend_chunks(op);
    }

    fn descend(&mut self, op: Descend) {
        self.descend_chunks(op);
    }
}

/// Products with a side below this waste most of a tile.
#[cfg(target_arch = "x86_64")]
const TILE_SIDE: usize = 24;

/// Rows of a weight that are widened to f32 at a time.
const WIDENED_ROWS: usize = 512;

impl Cpu {
    /// The product on all threads, by the kernel that suits it.
    ///
    /// # Safety
    /// Views and output must be valid for their shapes; the output overlaps no input (a residual may be the
    /// output itself).
    unsafe fn multiply(&mut self, a: View, b: View, out: Output) {
        let bf16 = in_bf16(a, b);
        let (pool, scratch) = (&self.pool, &mut self.scratch);
        #[cfg(target_arch = "x86_64")]
        let small = a.rows.min(a.columns).min(b.columns) < TILE_SIDE;
        // SAFETY: passed on.
        unsafe {
            match (self.kernels, bf16) {
                #[cfg(target_arch = "x86_64")]
                (Kernels::Amx(tiles, ..), true) if !small => {
                    gemm::parallel(amx::AmxBf16(tiles), pool, scratch, a, b, out);
                }
                #[cfg(target_arch = "x86_64")]
                (Kernels::Avx512Bf16(_, pairs) | Kernels::Amx(.., pairs), true) => {
                    gemm::parallel(pairs, pool, scratch, a, b, out);
                }
                #[cfg(target_arch = "x86_64")]
                (Kernels::Amx(tiles, ..), false) if !small => gemm::parallel(tiles, pool, scratch, a, b, out),
                #[cfg(target_arch = "x86_64")]
                (
                    Kernels::Avx512(vectors) | Kernels::Avx512Bf16(vectors, _) | Kernels::Amx(_, vectors, _),
                    false,
                ) => {
                    gemm::parallel(vectors, pool, scratch, a, b, out);
                }
                #[cfg(target_arch = "x86_64")]
                (Kernels::Avx2(kernel), false) => gemm::parallel(kernel, pool, scratch, a, b, out),
                (Kernels::Portable(kernel), false) => gemm::parallel(kernel, pool, scratch, a, b, out),
                (_, true) => no_bf16(),
            }
        }
    }

    /// A product with a weight of fewer bits on a CPU that multiplies f32 alone: some of the weight's rows at
    /// a time.
    fn widened(&mut self, a: View, b: View, out: Output) {
        assert_eq!(b.row_stride, 1, "weights are read by rows");
        let (k, n) = (b.rows, b.columns);
        let mut buffer = std::mem::take(&mut self.widened);
        for first in (0..n).step_by(WIDENED_ROWS) {
            let rows = WIDENED_ROWS.min(n - first);
            let to = Shared(buffer.ensure(rows * k * 4).cast::<f32>());
            let from = Shared(b);
            self.pool.run(rows, &|r, _| {
                // SAFETY: row r of the buffer belongs to this item, and the weight's row exists.
                unsafe {
                    let to = std::slice::from_raw_parts_mut(to.get().add(r * k), k);
                    from.get().read_column(first + r, to);
                }
            });
            let part = View {
                pointer: to.get().cast(),
                dtype: DType::F32,
                rows: k,
                columns: rows,
                row_stride: 1,
                column_stride: k,
            };
            // SAFETY: valid operands; each part writes its own columns.
            unsafe { self.multiply(a, part, out.at(0, first)) };
        }
        self.widened = buffer;
    }
}

impl Tensor {
    /// Panics unless the tensor holds `dtype`: a kernel was called with the wrong handle.
    fn expect(&self, dtype: DType) {
        assert_eq!(self.dtype, dtype, "{self:?}");
    }
}
