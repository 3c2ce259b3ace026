//! The device: each of the trait's calls as launches and products.

use super::driver::{Driver, Memory, Staging};
use super::kernels::{Arguments, Forms, Function, Functions, Kernels, Matrix, launch};
use super::libraries::{NEEDED_CAPABILITY, Part};
use super::products::{Products, Shape, Side, Start, WORKSPACE_BYTES};
use super::queue::{Command, Queue};
use crate::device::*;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// A GPU and its arena.
#[derive(Debug)]
pub struct Cuda {
    // In the order in which they must go: what names memory before it, and the driver last.
    queue: Queue,
    kernels: Kernels,
    products: Products,
    arena: Memory,
    /// Room that a call may use until the next one.
    scratch: Memory,
    staging: Staging,
    driver: Driver,
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // What goes now may be in use until then.
        self.driver.settle();
    }
}

/// Elements that a thread of the plain kernels goes through at least, where there are enough.
const THREADS: u32 = 256;
/// Rows of x that are multiplied by a weight where it lies.
const FEW_ROWS: usize = 8;
/// Blocks that a sum over all elements is cut into: fixed, so that its bits are.
const SUM_BLOCKS: usize = 1024;
/// Blocks that the gradient of a norm's weight is summed in, whatever the GPU's size.
const NORM_BLOCKS: usize = 1024;
/// Widest head of the kernels without tensor cores.
const WIDEST_HEAD: usize = 256;

/// What the gradient of an embedding needs beside it.
struct EmbeddingRoom {
    rows: usize,
    width: usize,
    /// Of the sort's ITEMS ids each.
    blocks: usize,
    /// Of WINDOW sorted ids each.
    windows: usize,
}

impl EmbeddingRoom {
    fn new(rows: usize, width: usize) -> EmbeddingRoom {
        EmbeddingRoom { rows, width, blocks: rows.div_ceil(1024), windows: rows.div_ceil(32) }
    }

    /// Ids and their places, twice each; counts of digits; the first and last pieces of windows.
    fn bytes(&self) -> [usize; 7] {
        let list = self.rows * DType::U32.size();
        let pieces = self.windows * self.width * DType::F32.size();
        [list, list, list, list, 256 * self.blocks * DType::U32.size(), pieces, pieces]
    }
}

impl Cuda {
    /// Takes the GPU of a number, as `CUDA_VISIBLE_DEVICES` leaves them to this process.
    ///
    /// # Errors
    /// [`Error::NoLibrary`]; or why the GPU cannot be used.
    pub fn new(index: u32) -> Result<Cuda> {
        for part in [Part::Driver, Part::Nvrtc, Part::CublasLt] {
            if part.find().is_none() {
                return Err(Error::NoLibrary { library: part.name(), install: part.remedy() });
            }
        }
        let driver = Driver::open(index)?;
        if driver.capability < NEEDED_CAPABILITY {
            let (device, capability) = (driver.name.clone(), driver.capability);
            return Err(Error::OldGpu { device, capability, needed: NEEDED_CAPABILITY });
        }
        Ok(Cuda {
            queue: Queue::default(),
            kernels: Kernels::load(&driver)?,
            products: Products::new(&driver)?,
            arena: Memory::NONE,
            scratch: Memory::NONE,
            staging: Staging::new()?,
            driver,
        })
    }

    /// Memory of the GPU of a number that is free now, in bytes; `None` where it cannot be asked.
    pub fn free_bytes(index: u32) -> Option<u64> {
        Part::Driver.find()?;
        Some(Driver::open(index).ok()?.free_bytes() as u64)
    }

    /// Memory of the GPU that this device has allocated, in bytes; its context, code and the driver's own
    /// come on top.
    pub fn allocated_bytes(&self) -> u64 {
        (self.arena.bytes + self.scratch.bytes + WORKSPACE_BYTES) as u64
    }

    /// Sequences of calls that came more than once and are launched as CUDA graphs now.
    pub fn graphs(&self) -> usize {
        self.queue.graphs()
    }

    /// Memory that kernels take beside the arena for this work, in bytes.
    pub fn workspace_bytes(work: &Work) -> usize {
        let (rows, width) = work.stream;
        // The largest room of a call: sorted ids and pieces of runs, sums of attention's gradients, sums of
        // norms' gradients, losses.
        let sorted = EmbeddingRoom::new(rows, width).bytes().iter().sum();
        let norms = NORM_BLOCKS * width * DType::F32.size();
        let others = [rows * work.heads * DType::F32.size(), norms, rows * DType::F64.size()];
        WORKSPACE_BYTES + others.into_iter().fold(sorted, usize::max)
    }

    fn matrix(&self, tensor: Tensor) -> Matrix {
        Matrix { address: self.address(tensor), tensor }
    }

    fn address(&self, tensor: Tensor) -> u64 {
        self.arena.address + tensor.offset as u64
    }

    fn functions(&self) -> Functions {
        self.kernels.functions
    }

    fn push(
        &mut self,
        function: Function,
        grid: [usize; 3],
        block: [u32; 3],
        shared: u32,
        arguments: Arguments,
    ) {
        self.queue.push(Command::Launch(launch(function, grid, block, shared, arguments)));
    }

    /// Launches a kernel whose threads stride over `count` items.
    fn over(&mut self, function: Function, count: usize, arguments: Arguments) {
        if count > 0 {
            let most = self.driver.multiprocessors as usize * 16;
            let blocks = count.div_ceil(THREADS as usize).min(most);
            self.push(function, [blocks, 1, 1], [THREADS, 1, 1], 0, arguments);
        }
    }

    /// Launches the form of a kernel for eight elements at a time, or one, over a matrix of `rows × columns`.
    fn over_elements(&mut self, forms: Forms, wide: bool, count: usize, arguments: Arguments) {
        self.over(forms.get(wide), count / if wide { 8 } else { 1 }, arguments);
    }

    fn flush(&mut self) {
        self.queue.flush(&self.driver);
    }

    /// Room of `sizes` bytes each, that calls before and after may use too.
    fn scratch<const N: usize>(&mut self, sizes: [usize; N]) -> [u64; N] {
        let total: usize = sizes.iter().map(|size| size.next_multiple_of(256)).sum();
        if total > self.scratch.bytes {
            // What was enqueued names the old room.
            self.flush();
            self.driver.synchronize();
            self.queue.forget();
            self.scratch = Memory::NONE;
            self.scratch = Memory::new(&self.driver, total).unwrap_or_else(|error| panic!("{error}"));
        }
        let mut next = self.scratch.address;
        sizes.map(|size| {
            let at = next;
            next += size.next_multiple_of(256) as u64;
            at
        })
    }

    fn write(&mut self, to: Tensor, bytes: &[u8]) {
        assert!(to.is_contiguous(), "uploads go to contiguous tensors: {to:?}");
        self.flush();
        let address = self.address(to);
        assert!(to.offset + bytes.len() <= self.arena.bytes, "{to:?} lies outside the arena");
        // SAFETY: just checked.
        unsafe { self.staging.upload(&self.driver, address, bytes) };
    }

    fn read(&mut self, from: Tensor) -> Vec<u8> {
        assert!(from.is_contiguous(), "downloads come from contiguous tensors: {from:?}");
        self.flush();
        let mut bytes = vec![0; from.dtype.bytes(from.rows, from.columns)];
        assert!(from.offset + bytes.len() <= self.arena.bytes, "{from:?} lies outside the arena");
        // SAFETY: just checked.
        unsafe { self.driver.copy_out(self.address(from), &mut bytes) };
        bytes
    }

    /// A matrix rounded to bfloat16 at `address`.
    fn rounded(&mut self, x: Matrix, address: u64) -> Matrix {
        let Tensor { rows, columns, .. } = x.tensor;
        let tensor = Tensor { offset: 0, dtype: DType::Bf16, rows, columns, row_stride: columns };
        let to = Matrix { address, tensor };
        self.copy_matrix(x, to);
        to
    }

    fn copy_matrix(&mut self, mut from: Matrix, mut to: Matrix) {
        // One row of all weights may be longer than a kernel's `int`.
        let (rows, columns) = (from.tensor.rows, from.tensor.columns);
        if rows == 1 && columns.is_multiple_of(16) && !from.tensor.dtype.is_blocks() {
            for matrix in [&mut from, &mut to] {
                matrix.tensor = matrix.tensor.reshape(columns / 16, 16);
            }
        }
        let wide = from.is_wide() && to.is_wide();
        assert!(wide || from.tensor.dtype != DType::Nf4, "NF4 is read eight elements at a time");
        let count = from.tensor.len();
        self.over_elements(self.functions().copy, wide, count, Arguments::default().matrix(from).matrix(to));
    }

    /// A product of operands that have the same type.
    fn multiply(&mut self, a: Matrix, b: Matrix, op: &Gemm, out: Matrix, start: Option<Matrix>) {
        // A matrix of one row may say any stride; the library wants one that is long enough.
        let side = |x: Matrix, transposed| {
            let stride = x.tensor.row_stride.max(x.tensor.columns);
            Side::new(x.tensor.dtype, transposed, stride, x.address)
        };
        let k = if op.a_transposed { a.tensor.rows } else { a.tensor.columns };
        let from = side(start.unwrap_or(out), false);
        let to = side(out, false);
        let shape = Shape {
            m: out.tensor.rows,
            k,
            n: out.tensor.columns,
            a: side(a, op.a_transposed),
            b: side(b, op.b_transposed),
            out: Side { alignment: to.alignment.min(from.alignment), ..to },
            start: if start.is_some() { Start::Matrix } else { Start::Zero },
            start_stride: from.stride,
        };
        if !self.products.knows(&shape) {
            // Algorithms are tried on the real operands, and write the real result.
            self.flush();
            self.driver.synchronize();
        }
        let addresses = [a.address, b.address, start.unwrap_or(out).address, out.address];
        let product = self.products.product(&self.driver, shape, addresses);
        self.queue.push(Command::Product(product));
    }

    /// Adds the column sums of a matrix to the one row `to`.
    fn add_column_sums(&mut self, from: Matrix, to: Matrix) {
        let columns = from.tensor.columns.div_ceil(32);
        let arguments = Arguments::default().matrix(from).matrix(to);
        self.push(self.functions().add_column_sums, [columns, 1, 1], [32, 8, 1], 0, arguments);
    }
}

/// An f32 matrix in scratch.
fn scratch_matrix(address: u64, rows: usize, columns: usize) -> Matrix {
    Matrix { address, tensor: Tensor { offset: 0, dtype: DType::F32, rows, columns, row_stride: columns } }
}

impl Device for Cuda {
    fn name(&self) -> String {
        self.driver.name.clone()
    }

    fn allocate(&mut self, bytes: usize) -> Result<()> {
        self.queue.forget();
        self.arena = Memory::NONE;
        self.arena = Memory::new(&self.driver, bytes)?;
        self.queue.push(Command::Clear { address: self.arena.address, bytes });
        self.flush();
        Ok(())
    }

    fn upload(&mut self, to: Tensor, values: &[f32]) {
        assert_eq!(values.len(), to.len());
        match to.dtype {
            DType::F32 => {
                // SAFETY: any f32 is four bytes.
                let bytes =
                    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) };
                self.write(to, bytes);
            }
            DType::Bf16 => {
                let rounded: Vec<[u8; 2]> =
                    values.iter().map(|&x| half::bf16::from_f32(x).to_ne_bytes()).collect();
                self.write(to, rounded.as_flattened());
            }
            dtype if dtype.is_blocks() => self.upload_blocks(to, &to.dtype.block_format().encode(values)),
            dtype => panic!("numbers are not uploaded as {dtype:?}"),
        }
    }

    fn upload_blocks(&mut self, to: Tensor, blocks: &[u8]) {
        self.write(to, blocks);
    }

    fn upload_ids(&mut self, to: Tensor, values: &[u32]) {
        assert!(to.dtype == DType::U32 && values.len() == to.len());
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
        self.write(to, &bytes);
    }

    fn download(&mut self, from: Tensor) -> Vec<f32> {
        let bytes = self.read(from);
        match from.dtype {
            DType::Bf16 => {
                bytes.as_chunks::<2>().0.iter().map(|&x| half::bf16::from_ne_bytes(x).to_f32()).collect()
            }
            _ => bytes.as_chunks::<4>().0.iter().map(|&x| f32::from_ne_bytes(x)).collect(),
        }
    }

    fn download_scalar(&mut self, from: Tensor) -> f64 {
        let bytes = self.read(from.row_range(0, 1).column_range(0, 1));
        f64::from_ne_bytes(bytes.try_into().expect("invariant: an f64 has eight bytes"))
    }

    fn synchronize(&mut self) {
        self.flush();
        self.driver.synchronize();
    }

    fn fill(&mut self, x: Tensor, value: f32) {
        let at = self.matrix(x);
        if x.is_contiguous() && value.to_bits() == 0 {
            let bytes = x.dtype.bytes(x.rows, x.columns);
            return self.queue.push(Command::Clear { address: at.address, bytes });
        }
        self.over(self.functions().fill, x.len(), Arguments::default().matrix(at).float(value));
    }

    fn copy(&mut self, from: Tensor, to: Tensor) {
        self.copy_matrix(self.matrix(from), self.matrix(to));
    }

    fn add(&mut self, x: Tensor, y: Tensor) {
        let (to, from) = (self.matrix(x), self.matrix(y));
        let arguments = Arguments::default().matrix(from).matrix(to);
        self.over_elements(self.functions().add, to.is_wide() && from.is_wide(), x.len(), arguments);
    }

    fn dropout(&mut self, x: Tensor, p: f32, seed: u64) {
        let arguments = Arguments::default()
            .matrix(self.matrix(x))
            .long(seed)
            .float(p * 16_777_216.0)
            .float((1.0 / (1.0 - f64::from(p))) as f32);
        self.over(self.functions().dropout, x.len(), arguments);
    }

    fn gemm(&mut self, op: Gemm) {
        let [a, b, out] = [op.a, op.b, op.out].map(|t| self.matrix(t));
        if op.out.is_empty() {
            return;
        }
        let residual = op.residual.map(|t| self.matrix(t));
        let start = residual.or_else(|| op.accumulate.then_some(out));
        assert!(!(op.accumulate && residual.is_some()), "a product adds to one matrix");
        let few = op.a.rows <= FEW_ROWS && !op.a_transposed && op.b_transposed && !op.accumulate;
        if few && op.a.dtype == DType::F32 && op.b.dtype != DType::F32 && op.out.dtype == DType::F32 {
            let wide = a.is_wide() && b.is_wide();
            let function = self.functions().few_rows.get(wide);
            let arguments =
                Arguments::default().matrix(a).matrix(b).matrix(out).matrix(residual.unwrap_or(Matrix::NONE));
            let warps = THREADS as usize / 32;
            return self.push(function, [op.b.rows.div_ceil(warps), 1, 1], [THREADS, 1, 1], 0, arguments);
        }
        let mixed = a.tensor.dtype != DType::F32 || b.tensor.dtype != DType::F32;
        let bytes = |x: Matrix| {
            if mixed && x.tensor.dtype != DType::Bf16 { x.tensor.len() * DType::Bf16.size() } else { 0 }
        };
        let [a_room, b_room] = self.scratch([bytes(a), bytes(b)]);
        let a = if bytes(a) > 0 { self.rounded(a, a_room) } else { a };
        let b = if bytes(b) > 0 { self.rounded(b, b_room) } else { b };
        self.multiply(a, b, &op, out, start);
    }

    fn add_bias(&mut self, x: Tensor, bias: Tensor) {
        let arguments = Arguments::default().matrix(self.matrix(bias)).matrix(self.matrix(x));
        self.over(self.functions().add_bias, x.len(), arguments);
    }

    fn bias_backward(&mut self, dy: Tensor, dbias: Tensor) {
        let parts = dy.rows.div_ceil(64).clamp(1, 256);
        let [room] = self.scratch([parts * dy.columns * 4]);
        let partial = scratch_matrix(room, parts, dy.columns);
        let arguments = Arguments::default().matrix(self.matrix(dy)).matrix(partial);
        self.push(
            self.functions().column_sums,
            [dy.columns.div_ceil(32), parts, 1],
            [32, 8, 1],
            0,
            arguments,
        );
        self.add_column_sums(partial, self.matrix(dbias));
    }

    fn scale_columns(&mut self, x: Tensor, scale: Tensor) {
        let arguments = Arguments::default().matrix(self.matrix(scale)).matrix(self.matrix(x));
        self.over(self.functions().scale_columns, x.len(), arguments);
    }

    fn column_dots(&mut self, x: Tensor, y: Tensor, scale: Tensor, out: Tensor) {
        let parts = x.rows.div_ceil(64).clamp(1, 256);
        let [room] = self.scratch([parts * x.columns * 4]);
        let partial = scratch_matrix(room, parts, x.columns);
        let [x, y, scale] = [x, y, scale].map(|tensor| self.matrix(tensor));
        let arguments = Arguments::default().matrix(x).matrix(y).matrix(scale).matrix(partial);
        let grid = [x.tensor.columns.div_ceil(32), parts, 1];
        self.push(self.functions().column_dots, grid, [32, 8, 1], 0, arguments);
        self.add_column_sums(partial, self.matrix(out));
    }

    fn embedding(&mut self, ids: Tensor, table: Tensor, out: Tensor) {
        let (from, to) = (self.matrix(table), self.matrix(out));
        let arguments = Arguments::default().long(self.address(ids)).matrix(from).matrix(to);
        self.over_elements(self.functions().embedding, from.is_wide() && to.is_wide(), out.len(), arguments);
    }

    fn embedding_backward(&mut self, ids: Tensor, dout: Tensor, dtable: Tensor) {
        let (count, width) = (dout.rows, dout.columns);
        if count == 0 {
            return;
        }
        let room = EmbeddingRoom::new(count, width);
        let (blocks, windows) = (room.blocks, room.windows);
        let [keys, other_keys, places, other_places, counts, head, tail] = self.scratch(room.bytes());
        // Ids have as many bits as the table has rows.
        let bits = usize::BITS - (dtable.rows - 1).leading_zeros();
        let (mut from, mut to) = ((self.address(ids), 0), (keys, places));
        for shift in (0..bits.max(1) as usize).step_by(8) {
            let pass = || {
                Arguments::default()
                    .long(from.0)
                    .long(from.1)
                    .long(to.0)
                    .long(to.1)
                    .long(counts)
                    .int(count)
                    .int(shift)
                    .int(blocks)
                    .int(0)
            };
            let (counting, scanning, scattering) = (pass(), pass(), pass());
            self.push(self.functions().sort_count, [blocks, 1, 1], [256, 1, 1], 0, counting);
            self.push(self.functions().sort_scan, [1, 1, 1], [1024, 1, 1], 0, scanning);
            self.push(self.functions().sort_scatter, [blocks, 1, 1], [256, 1, 1], 0, scattering);
            from = to;
            to = if to == (keys, places) { (other_keys, other_places) } else { (keys, places) };
        }
        let (dout, dtable) = (self.matrix(dout), self.matrix(dtable));
        let wide = dout.is_wide() && dtable.is_wide();
        let columns = if wide { width / 8 } else { width };
        let threads = (columns.next_multiple_of(32) as u32).clamp(32, THREADS);
        for forms in [self.functions().embedding_runs, self.functions().embedding_pieces] {
            let arguments = Arguments::default()
                .long(from.0)
                .long(from.1)
                .matrix(dout)
                .matrix(dtable)
                .matrix(scratch_matrix(head, windows, width))
                .matrix(scratch_matrix(tail, windows, width))
                .int(count)
                .int(0);
            self.push(forms.get(wide), [windows, 1, 1], [threads, 1, 1], 0, arguments);
        }
    }

    fn rmsnorm(&mut self, op: RmsNorm, out: Tensor) {
        let groups = op.x.columns / op.weight.columns;
        let [x, weight, rstd, out] = [op.x, op.weight, op.rstd, out].map(|t| self.matrix(t));
        let wide = x.is_wide() && weight.is_wide() && out.is_wide();
        let arguments =
            Arguments::default().matrix(x).matrix(weight).matrix(rstd).matrix(out).float(op.eps).int(groups);
        let blocks = (op.x.rows * groups).div_ceil(4);
        let function = self.functions().rmsnorm.get(wide);
        if blocks > 0 {
            self.push(function, [blocks, 1, 1], [128, 1, 1], 0, arguments);
        }
    }

    fn rmsnorm_backward(&mut self, op: RmsNormBackward) {
        let RmsNormBackward { forward: op, dout, dx, overwrite, dweight } = op;
        let width = op.weight.columns;
        let groups = op.x.columns / width;
        let [x, weight, rstd, dout, dx] = [op.x, op.weight, op.rstd, dout, dx].map(|t| self.matrix(t));
        let wide = [x, weight, dout, dx].iter().all(Matrix::is_wide);
        // Threads for the columns, each of which owns up to `owned` pieces of a row.
        let (piece, owned) = if wide { (8, 2) } else { (1, 8) };
        let function = self.functions().rmsnorm_backward.get(wide);
        let threads = width.div_ceil(piece).next_multiple_of(32).min(512);
        assert!(width <= threads * piece * owned, "norms over {width} elements are too wide for this device");
        let items = op.x.rows * groups;
        let blocks = items.clamp(1, NORM_BLOCKS);
        let [room] = self.scratch([blocks * width * DType::F32.size()]);
        let partial = scratch_matrix(room, blocks, width);
        let arguments = Arguments::default()
            .matrix(x)
            .matrix(weight)
            .matrix(rstd)
            .matrix(dout)
            .matrix(dx)
            .matrix(partial)
            .int(groups)
            .int(usize::from(overwrite));
        self.push(function, [blocks, 1, 1], [threads as u32, 1, 1], 0, arguments);
        if let Some(dweight) = dweight {
            self.add_column_sums(partial, self.matrix(dweight));
        }
    }

    fn rope(&mut self, op: Rope) {
        let half = op.cos.columns;
        let [x, cos, sin] = [op.x, op.cos, op.sin].map(|t| self.matrix(t));
        let wide = x.is_wide() && cos.is_wide() && sin.is_wide();
        let arguments = Arguments::default()
            .matrix(x)
            .matrix(cos)
            .matrix(sin)
            .long(self.address(op.positions))
            .float(if op.inverse { -1.0 } else { 1.0 })
            .int(half);
        self.over_elements(self.functions().rope, wide, op.x.len() / 2, arguments);
    }

    fn attention(&mut self, op: Attention) {
        self.attend(&op);
    }

    fn attention_backward(&mut self, op: AttentionBackward) {
        self.attend_backward(&op);
    }

    fn cached_attention(&mut self, op: CachedAttention) {
        self.attend_to_cache(&op);
    }

    fn swiglu(&mut self, gate_up: Tensor, out: Tensor) {
        let (gate_up, to) = (self.matrix(gate_up), self.matrix(out));
        let arguments = Arguments::default().matrix(gate_up).matrix(Matrix::NONE).matrix(to);
        self.over_elements(self.functions().swiglu, gate_up.is_wide() && to.is_wide(), out.len(), arguments);
    }

    fn swiglu_backward(&mut self, gate_up: Tensor, dout: Tensor, out: Tensor) {
        let [gate_up, dout, to] = [gate_up, dout, out].map(|t| self.matrix(t));
        let wide = gate_up.is_wide() && dout.is_wide() && to.is_wide();
        let arguments = Arguments::default().matrix(gate_up).matrix(dout).matrix(to);
        self.over_elements(self.functions().swiglu_backward, wide, out.len(), arguments);
    }

    fn linear_cross_entropy(&mut self, op: LinearCrossEntropy) {
        let rows = op.x.rows;
        // Products of mixed types would take the scratch that losses are in.
        assert_eq!(op.x.dtype, op.weight.dtype, "the output layer's operands have one type");
        let [losses] = self.scratch([rows * DType::F64.size()]);
        // Logits have the type of operands; as bfloat16 they take the first half of each row.
        let dtype = op.x.dtype;
        let factor = DType::F32.size() / dtype.size();
        let logits = Tensor { dtype, row_stride: op.scratch.row_stride * factor, ..op.scratch };
        for first in (0..rows).step_by(op.scratch.rows) {
            let len = op.scratch.rows.min(rows - first);
            let (x, logits) = (op.x.row_range(first, len), logits.row_range(0, len));
            let product = |a, b, out| Gemm {
                a,
                a_transposed: false,
                b,
                b_transposed: false,
                out,
                residual: None,
                accumulate: false,
            };
            self.gemm(Gemm { b_transposed: true, ..product(x, op.weight, logits) });
            let at = self.matrix(logits);
            let wide = at.is_wide();
            let arguments = Arguments::default()
                .matrix(at)
                .long(self.address(op.targets.column_range(first, len)))
                .long(self.address(op.weights.column_range(first, len)))
                .long(losses + (first * DType::F64.size()) as u64)
                .float(op.gradient.map_or(0.0, |gradient| gradient.scale))
                .int(usize::from(op.gradient.is_some()));
            let function = self.functions().cross_entropy.get(wide);
            let pieces = op.weight.rows.div_ceil(if wide { 8 } else { 1 });
            let threads = pieces.next_multiple_of(32).min(1024) as u32;
            self.push(function, [len, 1, 1], [threads, 1, 1], 0, arguments);
            if let Some(gradient) = op.gradient {
                self.gemm(product(logits, op.weight, gradient.dx.row_range(first, len)));
                if let Some(dweight) = gradient.dweight {
                    let accumulated = product(logits, x, dweight);
                    self.gemm(Gemm { a_transposed: true, accumulate: true, ..accumulated });
                }
            }
        }
        self.sum_parts(losses, op.loss_sum, rows, true);
    }

    fn squared_norm(&mut self, x: Tensor, out: Tensor) {
        assert!(x.is_contiguous(), "norms are of contiguous tensors: {x:?}");
        let [parts] = self.scratch([SUM_BLOCKS * DType::F64.size()]);
        let blocks = x.len().div_ceil(THREADS as usize).min(SUM_BLOCKS);
        if blocks > 0 {
            let arguments = Arguments::default().long(self.address(x)).long(parts).long(x.len() as u64);
            self.push(self.functions().squared_norm, [blocks, 1, 1], [THREADS, 1, 1], 0, arguments);
        }
        self.sum_parts(parts, out, blocks, false);
    }

    fn adamw(&mut self, op: AdamW) {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(op.step as f64);
        let arguments = Arguments::default()
            .long(self.address(op.weight))
            .long(op.rounded.map_or(0, |t| self.address(t)))
            .long(self.address(op.gradient))
            .long(self.address(op.moment1))
            .long(self.address(op.moment2))
            .long(self.address(op.squared_norm))
            .long(op.weight.columns as u64)
            .float(op.max_gradient_norm)
            .float(op.beta1)
            .float((1.0 - f64::from(op.beta1)) as f32)
            .float(op.beta2)
            .float((1.0 - f64::from(op.beta2)) as f32)
            .float(op.epsilon)
            .float((1.0 - f64::from(op.learning_rate) * f64::from(op.weight_decay)) as f32)
            .float((f64::from(op.learning_rate) / correction(op.beta1)) as f32)
            .float((1.0 / correction(op.beta2).sqrt()) as f32)
            .int(0);
        self.over(self.functions().adamw, op.weight.columns.div_ceil(4), arguments);
    }

    fn momentum(&mut self, op: Momentum) {
        let arguments = Arguments::default()
            .long(self.address(op.gradient))
            .long(self.address(op.moment))
            .long(self.address(op.squared_norm))
            .long(op.gradient.len() as u64)
            .float(op.max_gradient_norm)
            .float(op.beta);
        self.over(self.functions().momentum, op.gradient.len().div_ceil(4), arguments);
    }

    fn scale_by_frobenius_norm(&mut self, x: Tensor, squared_norm: Tensor, out: Tensor) {
        let arguments = [x, out]
            .into_iter()
            .fold(Arguments::default(), |arguments, t| self.vector(arguments, t))
            .long(self.address(squared_norm))
            .long(x.len() as u64);
        self.over(self.functions().scale_by_frobenius_norm, x.len().div_ceil(4), arguments);
    }

    fn axpby(&mut self, op: Axpby) {
        let arguments = [op.x, op.y, op.out]
            .into_iter()
            .fold(Arguments::default(), |arguments, t| self.vector(arguments, t))
            .long(op.out.len() as u64)
            .float(op.a)
            .float(op.b);
        self.over(self.functions().axpby, op.out.len().div_ceil(4), arguments);
    }

    fn sgd_step(&mut self, op: SgdStep) {
        let arguments = Arguments::default()
            .long(self.address(op.weight))
            .long(op.rounded.map_or(0, |t| self.address(t)));
        let arguments = self
            .vector(arguments, op.direction)
            .long(self.address(op.squared_norm))
            .long(op.weight.len() as u64)
            .float(op.step)
            .float((1.0 - f64::from(op.decay)) as f32);
        self.over(self.functions().sgd_step, op.weight.len().div_ceil(4), arguments);
    }
}

/// The bytes of shared memory that tiles of bfloat16 take.
fn tiles_bytes(rows: usize, head_dim: usize) -> u32 {
    (rows * head_dim * DType::Bf16.size()) as u32
}

impl Cuda {
    /// A contiguous tensor as kernels take it that go over elements alone.
    fn vector(&self, arguments: Arguments, t: Tensor) -> Arguments {
        assert!(t.is_contiguous() && matches!(t.dtype, DType::F32 | DType::Bf16), "{t:?}");
        arguments.long(self.address(t)).int(usize::from(t.dtype == DType::Bf16)).int(0)
    }

    fn sum_parts(&mut self, parts: u64, out: Tensor, count: usize, accumulate: bool) {
        let arguments =
            Arguments::default().long(parts).long(self.address(out)).int(count).int(usize::from(accumulate));
        self.push(self.functions().sum_parts, [1, 1, 1], [1024, 1, 1], 0, arguments);
    }

    /// Whether the kernels on tensor cores take these: whole pieces of 16 bytes, and heads of 64 or 128.
    fn on_tensor_cores(&self, head_dim: usize, tensors: &[Tensor]) -> bool {
        let fits = |t: &Tensor| t.dtype == DType::Bf16 && self.matrix(*t).is_wide();
        matches!(head_dim, 64 | 128) && tensors.iter().all(fits)
    }

    fn attention_arguments(&self, op: &Attention) -> Arguments {
        Arguments::default()
            .long(self.address(op.q))
            .long(self.address(op.k))
            .long(self.address(op.v))
            .long(self.address(op.document_starts))
            .long(self.address(op.out))
            .long(self.address(op.lse))
            .long(op.q.row_stride as u64)
            .long(op.k.row_stride as u64)
            .long(op.v.row_stride as u64)
            .long(op.out.row_stride as u64)
            .long(op.lse.row_stride as u64)
            .int(op.sequence_length)
            .int(op.q.columns / op.k.columns)
            .float(op.scale)
            .int(0)
    }

    fn attention_any_arguments(&self, op: &Attention) -> Arguments {
        Arguments::default()
            .matrix(self.matrix(op.q))
            .matrix(self.matrix(op.out))
            .matrix(self.matrix(op.lse))
            .matrix(self.matrix(op.k))
            .matrix(self.matrix(op.v))
            .long(0)
            .long(0)
            .long(0)
            .long(self.address(op.document_starts))
            .int(op.sequence_length)
            .int(op.head_dim)
            .int(op.q.columns / op.k.columns)
            .float(op.scale)
    }

    fn attend(&mut self, op: &Attention) {
        let (d, heads, rows) = (op.head_dim, op.q.columns / op.head_dim, op.batch_size * op.sequence_length);
        if rows == 0 {
            return;
        }
        if self.on_tensor_cores(d, &[op.q, op.k, op.v, op.out]) {
            let grid = [op.sequence_length.div_ceil(64), heads, op.batch_size];
            let arguments = self.attention_arguments(op);
            // Queries, and two tiles of keys and of values.
            return self.push(
                self.functions().attention.get(d),
                grid,
                [128, 1, 1],
                tiles_bytes(5 * 64, d),
                arguments,
            );
        }
        assert!(d <= WIDEST_HEAD, "heads of {d} are too wide for this device; {WIDEST_HEAD} is the most");
        let function = self.functions().attention_any.get(self.reads_wide(d, &[op.k, op.v]));
        let arguments = self.attention_any_arguments(op);
        self.push(function, [rows, heads, 1], [32, 1, 1], 0, arguments);
    }

    /// Whether kernels without tensor cores read heads eight elements at a time.
    fn reads_wide(&self, head_dim: usize, read: &[Tensor]) -> bool {
        head_dim.is_multiple_of(8) && read.iter().all(|t| self.matrix(*t).is_wide())
    }

    fn attend_backward(&mut self, op: &AttentionBackward) {
        let f = &op.forward;
        let (d, heads, kv_heads) = (f.head_dim, f.q.columns / f.head_dim, f.k.columns / f.head_dim);
        let rows = f.batch_size * f.sequence_length;
        if rows == 0 {
            return;
        }
        let [delta] = self.scratch([rows * heads * DType::F32.size()]);
        if self.on_tensor_cores(d, &[f.q, f.k, f.v, f.out, op.dout, op.dq, op.dk, op.dv]) {
            let arguments = |this: &Cuda| {
                let forward = this.attention_arguments(f);
                Arguments::default()
                    .all(forward)
                    .long(this.address(op.dout))
                    .long(this.address(op.dq))
                    .long(this.address(op.dk))
                    .long(this.address(op.dv))
                    .long(delta)
                    .long(op.dout.row_stride as u64)
                    .long(op.dq.row_stride as u64)
                    .long(op.dk.row_stride as u64)
                    .long(op.dv.row_stride as u64)
            };
            let of_delta = Arguments::default().all(arguments(self)).long(rows as u64).int(heads).int(0);
            let blocks = (rows * heads).div_ceil(4);
            self.push(self.functions().attention_delta.get(d), [blocks, 1, 1], [128, 1, 1], 0, of_delta);
            let tiles = f.sequence_length.div_ceil(64);
            // Two tiles of 64 rows are kept, and two pairs of `step` rows come and go.
            let step = if d == 64 { 64 } else { 32 };
            let tiles_bytes = tiles_bytes(2 * 64 + 4 * step, d);
            let figures = (3 * step * DType::F32.size()) as u32;
            let (keys, queries) = (arguments(self), arguments(self));
            let (by_keys, by_queries) = ([tiles, kv_heads, f.batch_size], [tiles, heads, f.batch_size]);
            self.push(
                self.functions().attention_keys.get(d),
                by_keys,
                [128, 1, 1],
                tiles_bytes + figures,
                keys,
            );
            self.push(
                self.functions().attention_queries.get(d),
                by_queries,
                [128, 1, 1],
                tiles_bytes,
                queries,
            );
            return;
        }
        assert!(d <= WIDEST_HEAD, "heads of {d} are too wide for this device; {WIDEST_HEAD} is the most");
        let Functions { attention_any_queries, attention_any_keys, .. } = self.functions();
        let wide = self.reads_wide(d, &[f.q, f.k, f.v, op.dout]);
        for (forms, grid) in
            [(attention_any_queries, [rows, heads, 1]), (attention_any_keys, [rows, kv_heads, 1])]
        {
            let arguments = Arguments::default()
                .all(self.attention_any_arguments(f))
                .matrix(self.matrix(op.dout))
                .matrix(self.matrix(op.dq))
                .matrix(self.matrix(op.dk))
                .matrix(self.matrix(op.dv))
                .matrix(scratch_matrix(delta, rows, heads));
            self.push(forms.get(wide), grid, [32, 1, 1], 0, arguments);
        }
    }

    fn attend_to_cache(&mut self, op: &CachedAttention) {
        let (rows, heads, d) = (op.q.rows, op.q.columns / op.head_dim, op.head_dim);
        assert!(d <= WIDEST_HEAD, "heads of {d} are too wide for this device; {WIDEST_HEAD} is the most");
        if rows == 0 {
            return;
        }
        let cache = |this: &Cuda| {
            Arguments::default()
                .matrix(this.matrix(op.key_cache))
                .matrix(this.matrix(op.value_cache))
                .long(this.address(op.sequences))
                .long(this.address(op.positions))
                .long(op.capacity as u64)
        };
        let append =
            Arguments::default().matrix(self.matrix(op.k)).matrix(self.matrix(op.v)).all(cache(self));
        self.push(self.functions().append_to_cache, [rows, 1, 1], [128, 1, 1], 0, append);
        let arguments = Arguments::default()
            .matrix(self.matrix(op.q))
            .matrix(self.matrix(op.out))
            .matrix(Matrix::NONE)
            .all(cache(self))
            .long(op.first_positions.map_or(0, |starts| self.address(starts)))
            .int(0)
            .int(d)
            .int(op.q.columns / op.k.columns)
            .float(op.scale);
        let function =
            self.functions().attention_any.get(self.reads_wide(d, &[op.key_cache, op.value_cache]));
        // A token alone has all the warps of a block; many share the GPU as they are.
        let warps = if rows * heads < 1024 { 8 } else { 1 };
        self.push(function, [rows, heads, 1], [32 * warps, 1, 1], 0, arguments);
    }
}
