//! Kernels that walk rows: copies, norms, rotary embedding, activations, token embeddings.
//!
//! Each takes blocks of [`ROWS_AN_ITEM`] rows, or of [`COLUMNS_AN_ITEM`] columns where rows are summed.

use super::Cpu;
use super::gemm::Shared;
use super::simd::{LANES, exp, fold, simd, sum2};
use crate::device::{RmsNorm, Rope};
use crate::reference::dropout_keeps;
use crate::tensor::Tensor;
use std::ops::Range;

/// Rows of one work item.
const ROWS_AN_ITEM: usize = 32;
/// Elements of one work item that fills.
const FILL: usize = 64 * 1024;
/// Columns of one work item of a kernel that sums rows.
const COLUMNS_AN_ITEM: usize = 32;

/// A matrix that threads share, each touching rows (or columns) of its own.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pointer: Shared<*mut f32>,
    columns: usize,
    row_stride: usize,
}

impl Rows {
    /// Row `r`, to write.
    ///
    /// # Safety
    /// `r` is a row of the tensor, and nobody else reads or writes it meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn row<'a>(self, r: usize) -> &'a mut [f32] {
        // SAFETY: the arena checked the tensor's range when the handle was resolved.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.get().add(r * self.row_stride), self.columns) }
    }

    /// Row `r`, to read.
    ///
    /// # Safety
    /// `r` is a row of the tensor, and nobody writes it meanwhile.
    pub unsafe fn read<'a>(self, r: usize) -> &'a [f32] {
        // SAFETY: passed on.
        unsafe { self.read_columns(r, 0..self.columns) }
    }

    /// Some columns of row `r`, to read.
    ///
    /// # Safety
    /// They exist, and nobody writes them meanwhile.
    pub unsafe fn read_columns<'a>(self, r: usize, range: Range<usize>) -> &'a [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.at(r, range.start), range.len()) }
    }

    /// Some columns of row `r`, to write.
    ///
    /// # Safety
    /// They exist, and nobody else reads or writes them meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn columns<'a>(self, r: usize, range: Range<usize>) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at(r, range.start), range.len()) }
    }

    fn at(self, r: usize, column: usize) -> *mut f32 {
        self.pointer.get().wrapping_add(r * self.row_stride + column)
    }
}

impl Cpu {
    pub(super) fn rows(&self, t: Tensor) -> Rows {
        Rows { pointer: Shared(self.arena.f32(t)), columns: t.columns, row_stride: t.row_stride }
    }

    /// Calls `f` for every row, blocks of rows in parallel.
    fn each_row(&self, rows: usize, f: impl Fn(usize) + Sync) {
        self.pool.run(rows.div_ceil(ROWS_AN_ITEM), &|item, _| {
            for r in item * ROWS_AN_ITEM..((item + 1) * ROWS_AN_ITEM).min(rows) {
                f(r);
            }
        });
    }

    pub(super) fn fill_rows(&mut self, x: Tensor, value: f32) {
        if x.is_contiguous() {
            let (n, pointer) = (x.len(), Shared(self.arena.f32(x)));
            self.pool.run(n.div_ceil(FILL), &|item, _| {
                let len = FILL.min(n - item * FILL);
                // SAFETY: each stretch of the tensor belongs to one item.
                unsafe { std::slice::from_raw_parts_mut(pointer.get().add(item * FILL), len) }.fill(value);
            });
            return;
        }
        let to = self.rows(x);
        // SAFETY: each row belongs to one item.
        self.each_row(x.rows, |r| unsafe { to.row(r) }.fill(value));
    }

    pub(super) fn copy_rows(&mut self, from: Tensor, to: Tensor) {
        assert_eq!((from.rows, from.columns), (to.rows, to.columns));
        let (source, target) = (self.rows(from), self.rows(to));
        // SAFETY: each row belongs to one item; the tensors do not overlap.
        self.each_row(to.rows, |r| unsafe { target.row(r).copy_from_slice(source.read(r)) });
    }

    pub(super) fn add_rows(&mut self, x: Tensor, y: Tensor) {
        assert_eq!((x.rows, x.columns), (y.rows, y.columns));
        let (to, from) = (self.rows(x), self.rows(y));
        // SAFETY: each row belongs to one item; the tensors do not overlap.
        self.each_row(x.rows, |r| unsafe { super::simd::axpy(to.row(r), 1.0, from.read(r)) });
    }

    pub(super) fn dropout_rows(&mut self, x: Tensor, p: f32, seed: u64) {
        let rows = self.rows(x);
        let keep_scale = 1.0 / (1.0 - p);
        self.each_row(x.rows, |r| {
            // SAFETY: each row belongs to one item.
            drop_elements(unsafe { rows.row(r) }, p, keep_scale, seed, (r * x.columns) as u64);
        });
    }

    pub(super) fn add_bias_rows(&mut self, x: Tensor, bias: Tensor) {
        let (to, bias) = (self.rows(x), self.arena.slice(bias));
        // SAFETY: each row belongs to one item; the bias is only read.
        self.each_row(x.rows, |r| super::simd::axpy(unsafe { to.row(r) }, 1.0, bias));
    }

    pub(super) fn bias_backward_columns(&mut self, dy: Tensor, dbias: Tensor) {
        assert_eq!(dy.columns, dbias.columns);
        let (from, to) = (self.rows(dy), self.rows(dbias));
        self.pool.run(dy.columns.div_ceil(COLUMNS_AN_ITEM), &|item, _| {
            let range = item * COLUMNS_AN_ITEM..((item + 1) * COLUMNS_AN_ITEM).min(dy.columns);
            // SAFETY: rows are read; the columns of the gradient belong to one item.
            let sums = unsafe { to.columns(0, range.clone()) };
            for r in 0..dy.rows {
                // SAFETY: as above.
                super::simd::axpy(sums, 1.0, unsafe { from.read_columns(r, range.clone()) });
            }
        });
    }

    pub(super) fn embedding_rows(&mut self, ids: Tensor, table: Tensor, out: Tensor) {
        let ids = self.arena.ids(ids);
        assert_eq!((ids.len(), table.columns), (out.rows, out.columns));
        let (from, to) = (self.rows(table), self.rows(out));
        self.each_row(out.rows, |r| {
            let id = ids[r] as usize;
            assert!(id < table.rows, "token id {id} is outside the vocabulary of {}", table.rows);
            // SAFETY: the table is only read; each output row belongs to one item.
            unsafe { to.row(r).copy_from_slice(from.read(id)) };
        });
    }

    pub(super) fn embedding_backward_columns(&mut self, ids: Tensor, dout: Tensor, dtable: Tensor) {
        let ids = self.arena.ids(ids);
        assert_eq!((ids.len(), dtable.columns), (dout.rows, dout.columns));
        for &id in ids {
            assert!(
                (id as usize) < dtable.rows,
                "token id {id} is outside the vocabulary of {}",
                dtable.rows
            );
        }
        let (from, to) = (self.rows(dout), self.rows(dtable));
        self.pool.run(dout.columns.div_ceil(COLUMNS_AN_ITEM), &|item, _| {
            let range = item * COLUMNS_AN_ITEM..((item + 1) * COLUMNS_AN_ITEM).min(dout.columns);
            for (r, &id) in ids.iter().enumerate() {
                // SAFETY: these columns belong to this item, in every row.
                unsafe {
                    let to = to.columns(id as usize, range.clone());
                    super::simd::axpy(to, 1.0, from.read_columns(r, range.clone()));
                }
            }
        });
    }

    pub(super) fn rmsnorm_rows(&mut self, op: RmsNorm, out: Tensor) {
        let weight = self.arena.slice(op.weight);
        assert_eq!((op.x.rows, op.x.columns), (out.rows, out.columns));
        assert_eq!((op.rstd.rows, op.rstd.columns * weight.len()), (op.x.rows, op.x.columns));
        let (x, y, rstd) = (self.rows(op.x), self.rows(out), self.rows(op.rstd));
        self.each_row(op.x.rows, |r| {
            // SAFETY: each row belongs to one item; `out` may be `x` itself.
            unsafe {
                if x.at(r, 0) != y.at(r, 0) {
                    y.row(r).copy_from_slice(x.read(r));
                }
                norm_groups(y.row(r), weight, rstd.row(r), op.eps);
            };
        });
    }

    pub(super) fn rmsnorm_backward_rows(
        &mut self,
        op: RmsNorm,
        dout: Tensor,
        dx: Tensor,
        overwrite: bool,
        dweight: Tensor,
    ) {
        let width = op.weight.columns;
        let shape = (op.x.rows, op.x.columns);
        assert_eq!(((dout.rows, dout.columns), (dx.rows, dx.columns)), (shape, shape));
        assert_eq!(
            (op.rstd.rows, op.rstd.columns * width, dweight.columns),
            (op.x.rows, op.x.columns, width)
        );
        let items = op.x.rows.div_ceil(ROWS_AN_ITEM);
        let mut partials = std::mem::take(&mut self.partials);
        partials.clear();
        partials.resize(items * width, 0.0);
        let weight = self.arena.slice(op.weight);
        let (x, dy, dx, rstd) = (self.rows(op.x), self.rows(dout), self.rows(dx), self.rows(op.rstd));
        let shared = Shared(partials.as_mut_ptr());
        self.pool.run(items, &|item, _| {
            // SAFETY: one stretch of partial sums an item.
            let sums = unsafe { std::slice::from_raw_parts_mut(shared.get().add(item * width), width) };
            for r in item * ROWS_AN_ITEM..((item + 1) * ROWS_AN_ITEM).min(op.x.rows) {
                // SAFETY: each row belongs to one item. `dout` may be `dx`: the group is read before it is written.
                unsafe {
                    for (g, &rstd) in rstd.read(r).iter().enumerate() {
                        let x = x.read_columns(r, g * width..(g + 1) * width);
                        let (dy, dx) = (dy.at(r, g * width), dx.at(r, g * width));
                        norm_backward(x, weight, rstd, dy, dx, overwrite, sums);
                    }
                }
            }
        });
        let total = self.arena.slice_mut(dweight);
        for sums in partials.chunks_exact(width) {
            super::simd::axpy(total, 1.0, sums);
        }
        self.partials = partials;
    }

    pub(super) fn rope_rows(&mut self, op: Rope) {
        let half = op.cos.columns;
        let last = op.first_position + op.sequence_length.min(op.x.rows);
        assert!(last <= op.cos.rows && op.x.columns.is_multiple_of(2 * half), "{op:?}");
        assert_eq!((op.cos.rows, op.cos.columns), (op.sin.rows, op.sin.columns));
        let (x, cos, sin) = (self.rows(op.x), self.rows(op.cos), self.rows(op.sin));
        let sign = if op.inverse { -1.0 } else { 1.0 };
        self.each_row(op.x.rows, |r| {
            let position = op.first_position + r % op.sequence_length;
            // SAFETY: each row of x belongs to one item; the tables are only read.
            let (x, cos, sin) = unsafe { (x.row(r), cos.read(position), sin.read(position)) };
            for head in x.chunks_exact_mut(2 * half) {
                let (a, b) = head.split_at_mut(half);
                rotate(a, b, cos, sin, sign);
            }
        });
    }

    pub(super) fn swiglu_rows(&mut self, gate_up: Tensor, out: Tensor) {
        let f = out.columns;
        assert_eq!((gate_up.rows, gate_up.columns), (out.rows, 2 * f));
        let (gate_up_rows, to) = (self.rows(gate_up), self.rows(out));
        self.each_row(out.rows, |r| {
            // SAFETY: each row belongs to one item.
            let (gate_up, to) = unsafe { (gate_up_rows.read(r), to.row(r)) };
            let (gate, up) = gate_up.split_at(f);
            swiglu(gate, up, to);
        });
    }

    pub(super) fn swiglu_backward_rows(&mut self, gate_up: Tensor, dout: Tensor) {
        let f = dout.columns;
        assert_eq!((gate_up.rows, gate_up.columns), (dout.rows, 2 * f));
        let (gate_up_rows, dout_rows) = (self.rows(gate_up), self.rows(dout));
        self.each_row(dout.rows, |r| {
            // SAFETY: each row belongs to one item.
            let (gate_up, dout) = unsafe { (gate_up_rows.row(r), dout_rows.read(r)) };
            let (gate, up) = gate_up.split_at_mut(f);
            swiglu_backward(gate, up, dout);
        });
    }
}

/// Norms every group of a row.
fn norm_groups(y: &mut [f32], weight: &[f32], rstd: &mut [f32], eps: f32) {
    for (y, rstd) in y.chunks_exact_mut(weight.len()).zip(rstd) {
        *rstd = norm(y, weight, eps);
    }
}

simd! {
    /// y = y·rstd·weight; returns rstd.
    fn norm(y: &mut [f32], weight: &[f32], eps: f32) -> f32 {
        let mean_square = sum2(y, y, |a, b| a * b) / y.len() as f32;
        let rstd = 1.0 / (mean_square + eps).sqrt();
        for (y, &w) in y.iter_mut().zip(weight) {
            *y = *y * rstd * w;
        }
        rstd
    }
}

/// # Safety
/// `dy` and `dx` point to `x.len()` floats of rows that belong to the caller; they may be the same.
unsafe fn norm_backward(
    x: &[f32],
    weight: &[f32],
    rstd: f32,
    dy: *const f32,
    dx: *mut f32,
    overwrite: bool,
    sums: &mut [f32],
) {
    if std::ptr::eq(dy, dx) {
        assert!(overwrite, "a gradient in place is overwritten");
        // SAFETY: one slice stands for both.
        let dx = unsafe { std::slice::from_raw_parts_mut(dx, x.len()) };
        norm_backward_in_place(x, weight, rstd, dx, sums);
        return;
    }
    // SAFETY: different tensors do not overlap.
    let (dy, dx) =
        unsafe { (std::slice::from_raw_parts(dy, x.len()), std::slice::from_raw_parts_mut(dx, x.len())) };
    if overwrite {
        dx.fill(0.0);
    }
    norm_backward_added(x, weight, rstd, dy, dx, sums);
}

simd! {
    fn norm_backward_added(x: &[f32], weight: &[f32], rstd: f32, dy: &[f32], dx: &mut [f32], sums: &mut [f32]) {
        let mean = weighted_mean(x, weight, dy, rstd);
        let n = x.len();
        let (weight, dy, dx, sums) = (&weight[..n], &dy[..n], &mut dx[..n], &mut sums[..n]);
        for i in 0..n {
            let normed = x[i] * rstd;
            sums[i] += dy[i] * normed;
            dx[i] += rstd * (weight[i] * dy[i] - normed * mean);
        }
    }
}

simd! {
    fn norm_backward_in_place(x: &[f32], weight: &[f32], rstd: f32, dy: &mut [f32], sums: &mut [f32]) {
        let mean = weighted_mean(x, weight, dy, rstd);
        let n = x.len();
        let (weight, dy, sums) = (&weight[..n], &mut dy[..n], &mut sums[..n]);
        for i in 0..n {
            let normed = x[i] * rstd;
            sums[i] += dy[i] * normed;
            dy[i] = rstd * (weight[i] * dy[i] - normed * mean);
        }
    }
}

/// mean(w·dy·x̂)
#[inline(always)]
fn weighted_mean(x: &[f32], weight: &[f32], dy: &[f32], rstd: f32) -> f32 {
    let n = x.len();
    let (weight, dy) = (&weight[..n], &dy[..n]);
    let mut lanes = [0.0f32; LANES];
    let whole = n / LANES * LANES;
    for base in (0..whole).step_by(LANES) {
        for i in 0..LANES {
            lanes[i] += weight[base + i] * dy[base + i] * x[base + i];
        }
    }
    for i in whole..n {
        lanes[i - whole] += weight[i] * dy[i] * x[i];
    }
    fold(lanes) * rstd / n as f32
}

simd! {
    fn rotate(a: &mut [f32], b: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let n = a.len();
        let (b, cos, sin) = (&mut b[..n], &cos[..n], &sin[..n]);
        for i in 0..n {
            let (x, y, s) = (a[i], b[i], sin[i] * sign);
            a[i] = x * cos[i] - y * s;
            b[i] = y * cos[i] + x * s;
        }
    }
}

simd! {
    fn drop_elements(x: &mut [f32], p: f32, keep_scale: f32, seed: u64, first: u64) {
        for (c, value) in x.iter_mut().enumerate() {
            let keep = dropout_keeps(seed, first + c as u64, p);
            *value = if keep { *value * keep_scale } else { 0.0 };
        }
    }
}

simd! {
    fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
        let n = out.len();
        let (gate, up) = (&gate[..n], &up[..n]);
        for i in 0..n {
            out[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
        }
    }
}

simd! {
    fn swiglu_backward(gate: &mut [f32], up: &mut [f32], dout: &[f32]) {
        let n = dout.len();
        let (gate, up) = (&mut gate[..n], &mut up[..n]);
        for i in 0..n {
            let (g, u, dh) = (gate[i], up[i], dout[i]);
            let sigmoid = 1.0 / (1.0 + exp(-g));
            gate[i] = dh * u * sigmoid * (1.0 + g * (1.0 - sigmoid));
            up[i] = dh * g * sigmoid;
        }
    }
}
