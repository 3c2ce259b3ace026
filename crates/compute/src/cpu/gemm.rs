//! The matrix product's blocking (Goto & van de Geijn 2008), written once for every micro-kernel.
//!
//! C (m, n) is cut in fixed tiles; each tile is computed by one thread over k in ascending blocks, so the
//! result does not depend on the thread count. B is packed once a block and shared, A is packed by whoever
//! computes a row block. Reading order: [`View`], [`MicroKernel`], [`parallel`], [`serial`].

use super::buffer::{AlignedBuffer, Shared};
use super::pool::Pool;
use super::simd::scaled_copy;
use super::view::{Output, Start, View};
use crate::device::Product;
use crate::tensor::DType;
use half::bf16;

/// Everything a micro-kernel and its packing need. Panels are opaque bytes to the driver.
///
/// # Safety
/// Implementations may use CPU features: the caller makes sure that the CPU has them. Pointers must be valid
/// for the shapes.
pub(super) trait MicroKernel: Copy + Sync {
    /// Rows of C a call computes.
    const ROWS: usize;
    /// Columns of C a call computes.
    const COLUMNS: usize;
    /// k is blocked in multiples of this.
    const DEPTH_UNIT: usize;
    /// Largest k block.
    const DEPTH: usize;

    /// Bytes of one packed panel of A (`ROWS` × depth).
    fn a_panel_bytes(depth: usize) -> usize;
    /// Bytes of one packed panel of B (depth × `COLUMNS`).
    fn b_panel_bytes(depth: usize) -> usize;
    /// Packs up to `ROWS` rows; missing rows are zeros.
    unsafe fn pack_a(self, a: View, to: *mut u8);
    /// Packs up to `COLUMNS` columns; missing columns are zeros.
    unsafe fn pack_b(self, b: View, to: *mut u8);
    /// `rows` × `columns` of C from one panel each.
    unsafe fn multiply(
        self,
        depth: usize,
        a: *const u8,
        b: *const u8,
        c: Output,
        rows: usize,
        columns: usize,
    );
    /// Whether a panel of A can be multiplied where it lies, without packing.
    fn reads_in_place(self, _a: View) -> bool {
        false
    }
    /// As `multiply`, from a panel of A for which `reads_in_place` holds.
    unsafe fn multiply_in_place(self, _a: View, _b: *const u8, _c: Output, _columns: usize) {
        unreachable!("this kernel packs")
    }
    /// Called by each thread before its first `multiply` of a job and after its last.
    unsafe fn enter(self) {}
    /// See [`MicroKernel::enter`].
    unsafe fn leave(self) {}
}

/// Longest k over which a bfloat16 tile is summed in one go.
const WHOLE_DEPTH: usize = 4096;
/// Rows of A that a thread packs, and bytes of them, so that they stay in L2.
const ROW_BLOCK: usize = 192;
const ROW_BLOCK_BYTES: usize = 640 * 1024;
/// Columns of B that are packed at a time.
const COLUMN_BLOCK: usize = 4096;
/// Fewest columns one work item covers: below, packing A for it costs too much.
const COLUMN_GROUP: usize = 256;

/// Buffers that outlive a call: one for B, one a thread for A, one for sums.
#[derive(Default)]
pub(super) struct Scratch {
    b: AlignedBuffer,
    a: Vec<AlignedBuffer>,
    /// Where each thread's buffer lies during a call; kept so that no call allocates.
    of_threads: Vec<Shared<*mut u8>>,
    /// An f32 result on its way to a bfloat16 matrix.
    sum: AlignedBuffer,
}

impl Scratch {
    /// Lets every thread have a buffer of so many bytes, and writes down where.
    fn reserve_threads(&mut self, threads: usize, bytes: usize) {
        self.a.resize_with(self.a.len().max(threads), AlignedBuffer::default);
        self.of_threads.clear();
        self.of_threads.extend(self.a.iter_mut().map(|buffer| Shared(buffer.ensure(bytes))));
    }
}

/// The k block for a depth of `k`: equal blocks, none larger than the kernel's. A bfloat16 output cannot hold
/// a partial sum.
fn depth_block<K: MicroKernel>(k: usize, out: DType) -> usize {
    let blocks = if out == DType::F32 { k.div_ceil(K::DEPTH).max(1) } else { 1 };
    k.div_ceil(blocks).next_multiple_of(K::DEPTH_UNIT)
}

/// C = A·B + start on all threads of the pool.
///
/// # Safety
/// Views and output must be valid for their shapes; the output overlaps no input (a residual may be the
/// output itself).
pub(super) unsafe fn parallel<K: MicroKernel>(
    kernel: K,
    pool: &Pool,
    scratch: &mut Scratch,
    a: View,
    b: View,
    out: Output,
) {
    if out.dtype == DType::F32 || a.columns <= WHOLE_DEPTH {
        // SAFETY: passed on.
        unsafe { blocked(kernel, pool, scratch, a, b, out) };
        return;
    }
    assert!(!out.adds_to_bf16(), "a sum over more than {WHOLE_DEPTH} is not added to bfloat16");
    // Panels over all of k would leave the caches: sum blocks in f32, then round once.
    let (m, n) = (a.rows, b.columns);
    let mut sum = std::mem::take(&mut scratch.sum);
    let pointer = sum.ensure(m * n * 4);
    let whole = Output { pointer, dtype: DType::F32, row_stride: n, start: out.start };
    // SAFETY: the scratch holds m × n; each row of the output belongs to one item.
    unsafe {
        blocked(kernel, pool, scratch, a, b, whole);
        let (from, to) = (Shared(whole.f32()), Shared(out));
        pool.run(m, &|r, _| {
            let from = std::slice::from_raw_parts(from.get().add(r * n), n);
            let to = to.get().at(r, 0).pointer.cast::<bf16>();
            scaled_copy(std::slice::from_raw_parts_mut(to, n), 1.0, from);
        });
    }
    scratch.sum = sum;
}

/// [`parallel`], the output's type permitting: a bfloat16 tile is written once, so its panels reach over all
/// of k.
///
/// # Safety
/// As [`parallel`].
unsafe fn blocked<K: MicroKernel>(
    kernel: K,
    pool: &Pool,
    scratch: &mut Scratch,
    a: View,
    b: View,
    out: Output,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    debug_assert_eq!(k, b.rows);
    let depth_step = depth_block::<K>(k, out.dtype);
    if m <= NARROW_ROWS {
        // SAFETY: passed on.
        unsafe { narrow(kernel, pool, scratch, depth_step, a, b, out) };
        return;
    }
    let (row_block, group_columns) = items::<K>(m, n, depth_step, pool.threads());
    let row_panels = row_block.div_ceil(K::ROWS);
    scratch.reserve_threads(pool.threads(), row_panels * K::a_panel_bytes(depth_step));
    let a_buffers = &scratch.of_threads;
    for column in (0..n).step_by(COLUMN_BLOCK) {
        let columns = COLUMN_BLOCK.min(n - column);
        let panels = columns.div_ceil(K::COLUMNS);
        let b_buffer = Shared(scratch.b.ensure(panels * K::b_panel_bytes(depth_step)));
        for depth_at in (0..k).step_by(depth_step) {
            let depth = depth_step.min(k - depth_at);
            let (a, b) = (Shared(a), Shared(b));
            let mut block_out = out.at(0, column);
            if depth_at > 0 {
                block_out.start = Start::Accumulate;
            }
            let block_out = Shared(block_out);
            let b_bytes = K::b_panel_bytes(depth);
            pool.run(panels.div_ceil(PANELS_AN_ITEM), &|item, _| {
                for panel in item * PANELS_AN_ITEM..((item + 1) * PANELS_AN_ITEM).min(panels) {
                    let at = panel * K::COLUMNS;
                    let view = b.get().block(depth_at, column + at, depth, K::COLUMNS.min(columns - at));
                    // SAFETY: the buffer holds `panels` panels; each is written by one item.
                    unsafe { kernel.pack_b(view, b_buffer.get().add(panel * b_bytes)) };
                }
            });
            let row_blocks = m.div_ceil(row_block);
            let groups = columns.div_ceil(group_columns);
            pool.run(row_blocks * groups, &|item, thread| {
                let (block, group) = (item / groups, item % groups);
                let row = block * row_block;
                let rows = row_block.min(m - row);
                let first = group * group_columns;
                let last = (first + group_columns).min(columns);
                let a_buffer = a_buffers[thread].get();
                let a = a.get().block(row, depth_at, rows, depth);
                // SAFETY: this thread's own buffer; tiles of C belong to one item; the views hold the blocks
                // asked for.
                unsafe {
                    kernel.enter();
                    pack_rows(kernel, a, a_buffer);
                    for j in (first..last).step_by(K::COLUMNS) {
                        let b_panel = b_buffer.get().add(j / K::COLUMNS * b_bytes);
                        let columns = K::COLUMNS.min(columns - j);
                        multiply_rows(kernel, a, a_buffer, b_panel, block_out.get().at(row, j), columns);
                    }
                    kernel.leave();
                }
            });
        }
    }
}

/// The panels of a block of A: where its rows begin, and what they hold.
fn row_panels<K: MicroKernel>(a: View) -> impl Iterator<Item = (usize, View)> {
    (0..a.rows).step_by(K::ROWS).map(move |at| (at, a.block(at, 0, K::ROWS.min(a.rows - at), a.columns)))
}

/// Packs a block of A, panel after panel, where it is not read in place.
///
/// # Safety
/// The view is valid and the buffer has room for all of its panels.
unsafe fn pack_rows<K: MicroKernel>(kernel: K, a: View, to: *mut u8) {
    for (panel, (_, rows)) in row_panels::<K>(a).enumerate() {
        if !kernel.reads_in_place(rows) {
            // SAFETY: the caller's promise.
            unsafe { kernel.pack_a(rows, to.add(panel * K::a_panel_bytes(a.columns))) };
        }
    }
}

/// A block of A that [`pack_rows`] saw, times a panel of B.
///
/// # Safety
/// The view, both buffers and `columns` columns of the output are valid; between the kernel's `enter` and
/// `leave`.
#[inline]
unsafe fn multiply_rows<K: MicroKernel>(
    kernel: K,
    a: View,
    packed: *const u8,
    b: *const u8,
    out: Output,
    columns: usize,
) {
    for (panel, (at, rows)) in row_panels::<K>(a).enumerate() {
        let next = at + K::ROWS;
        prefetch(out.at(next, 0), K::ROWS.min(a.rows.saturating_sub(next)), columns);
        let out = out.at(at, 0);
        // SAFETY: the caller's promise.
        unsafe {
            if kernel.reads_in_place(rows) {
                kernel.multiply_in_place(rows, b, out, columns);
            } else {
                let packed = packed.add(panel * K::a_panel_bytes(a.columns));
                kernel.multiply(a.columns, packed, b, out, rows.rows, columns);
            }
        }
    }
}

/// Asks for what a tile of C is added to, or for its own lines: C is larger than the caches, and its lines
/// would be waited for. The small products of [`serial`], whose C is in a cache, have no next tile here.
#[inline]
fn prefetch(out: Output, rows: usize, columns: usize) {
    let (from, row_bytes, bytes) = match out.added() {
        Some((from, row_stride)) => (from.cast(), row_stride * 4, columns * 4),
        None => {
            let size = out.dtype.size();
            (out.pointer.cast_const(), out.row_stride * size, columns * size)
        }
    };
    for row in 0..rows {
        for line in (0..bytes).step_by(64) {
            let at = from.wrapping_add(row * row_bytes + line);
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a hint, which cannot fault.
            unsafe {
                std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            unsafe {
                std::arch::asm!("prfm pldl1keep, \
                                 [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            let _: *const u8 = at;
        }
    }
}

/// Up to this many rows, a panel of B is multiplied so few times that it should not leave the core that
/// packed it.
const NARROW_ROWS: usize = 96;

/// [`blocked`] for few rows: whoever packs a panel of B multiplies it, by all of A.
///
/// # Safety
/// As [`parallel`].
unsafe fn narrow<K: MicroKernel>(
    kernel: K,
    pool: &Pool,
    scratch: &mut Scratch,
    depth_step: usize,
    a: View,
    b: View,
    out: Output,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let panels = n.div_ceil(K::COLUMNS);
    let a_buffer = Shared(scratch.b.ensure(m.div_ceil(K::ROWS) * K::a_panel_bytes(depth_step)));
    scratch.reserve_threads(pool.threads(), K::b_panel_bytes(depth_step));
    let b_buffers = &scratch.of_threads;
    for depth_at in (0..k).step_by(depth_step) {
        let depth = depth_step.min(k - depth_at);
        let mut block_out = out;
        if depth_at > 0 {
            block_out.start = Start::Accumulate;
        }
        let (a, b, block_out) = (Shared(a.block(0, depth_at, m, depth)), Shared(b), Shared(block_out));
        // SAFETY: the buffer holds all row panels.
        unsafe { pack_rows(kernel, a.get(), a_buffer.get()) };
        pool.run(panels.div_ceil(PANELS_AN_ITEM), &|item, thread| {
            let b_buffer = b_buffers[thread].get();
            // SAFETY: this thread's own buffer; columns of C belong to one item; the views hold the blocks
            // asked for.
            unsafe {
                kernel.enter();
                for panel in item * PANELS_AN_ITEM..((item + 1) * PANELS_AN_ITEM).min(panels) {
                    let j = panel * K::COLUMNS;
                    let columns = K::COLUMNS.min(n - j);
                    kernel.pack_b(b.get().block(depth_at, j, depth, columns), b_buffer);
                    let out = block_out.get().at(0, j);
                    multiply_rows(kernel, a.get(), a_buffer.get(), b_buffer, out, columns);
                }
                kernel.leave();
            }
        });
    }
}

const PANELS_AN_ITEM: usize = 4;

/// Rows and columns a work item covers: as many rows as stay in L2 and all columns, so that A is packed once;
/// smaller when there would be too few items to share. The cut moves no sum, so it may depend on the thread
/// count.
fn items<K: MicroKernel>(m: usize, n: usize, depth: usize, threads: usize) -> (usize, usize) {
    let columns = n.min(COLUMN_BLOCK);
    let wanted = if threads == 1 { 1 } else { 4 * threads };
    let most = (ROW_BLOCK_BYTES / K::a_panel_bytes(depth) * K::ROWS).clamp(1, ROW_BLOCK);
    let row_block = m.div_ceil(wanted).clamp(1, most).next_multiple_of(K::ROWS).max(2 * K::ROWS);
    let groups = wanted.div_ceil(m.div_ceil(row_block));
    let group_columns = columns.div_ceil(groups).max(COLUMN_GROUP).next_multiple_of(K::COLUMNS);
    (row_block, group_columns)
}

/// Bytes that [`parallel`] takes for a product: for B, for A on each thread, for sums.
pub(super) fn scratch_bytes<K: MicroKernel>(op: &Product, threads: usize) -> [usize; 3] {
    let in_one_go = op.out == DType::F32 || op.k <= WHOLE_DEPTH;
    let depth = depth_block::<K>(op.k, if in_one_go { op.out } else { DType::F32 });
    let sum = if in_one_go { 0 } else { op.m * op.n * 4 };
    if op.m <= NARROW_ROWS {
        return [op.m.div_ceil(K::ROWS) * K::a_panel_bytes(depth), K::b_panel_bytes(depth), sum];
    }
    let (row_block, _) = items::<K>(op.m, op.n, depth, threads);
    let panels = op.n.min(COLUMN_BLOCK).div_ceil(K::COLUMNS);
    [panels * K::b_panel_bytes(depth), row_block.div_ceil(K::ROWS) * K::a_panel_bytes(depth), sum]
}

/// C = A·B + start on the calling thread, for the small products inside attention.
///
/// # Safety
/// As [`parallel`].
pub(super) unsafe fn serial<K: MicroKernel>(
    kernel: K,
    (a_buffer, b_buffer): (&mut AlignedBuffer, &mut AlignedBuffer),
    a: View,
    b: View,
    out: Output,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let depth_step = depth_block::<K>(k, out.dtype);
    let b_panels = n.div_ceil(K::COLUMNS);
    let b_pointer = b_buffer.ensure(b_panels * K::b_panel_bytes(depth_step));
    let a_pointer = a_buffer.ensure(K::a_panel_bytes(depth_step));
    for depth_at in (0..k).step_by(depth_step) {
        let depth = depth_step.min(k - depth_at);
        let mut block_out = out;
        if depth_at > 0 {
            block_out.start = Start::Accumulate;
        }
        let b_bytes = K::b_panel_bytes(depth);
        // SAFETY: the buffers were sized for the largest block; the views hold the blocks asked for.
        unsafe {
            kernel.enter();
            for panel in 0..b_panels {
                let at = panel * K::COLUMNS;
                let view = b.block(depth_at, at, depth, K::COLUMNS.min(n - at));
                kernel.pack_b(view, b_pointer.add(panel * b_bytes));
            }
            for i in (0..m).step_by(K::ROWS) {
                let rows = a.block(i, depth_at, K::ROWS.min(m - i), depth);
                pack_rows(kernel, rows, a_pointer);
                for panel in 0..b_panels {
                    let j = panel * K::COLUMNS;
                    let (tile, b_panel) = (block_out.at(i, j), b_pointer.add(panel * b_bytes));
                    multiply_rows(kernel, rows, a_pointer, b_panel, tile, K::COLUMNS.min(n - j));
                }
            }
            kernel.leave();
        }
    }
}
