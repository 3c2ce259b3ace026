//! Kernels that walk rows: copies, norms, rotary embedding, activations, token embeddings.
//!
//! Each takes blocks of [`ROWS_AN_ITEM`] rows, or of [`COLUMNS_AN_ITEM`] columns where rows are summed.

use super::buffer::Shared;
use super::device::Cpu;
use super::simd::{add_products, axpy, dot, dot3, exp, multiply_in_place, scaled_copy, simd};
use super::vector::{Element, with_element};
use crate::device::{RmsNorm, RmsNormBackward, Rope};
use crate::reference::dropout_keeps;
use crate::tensor::{DType, Tensor};
use half::bf16;
use std::ops::Range;

/// Rows of one work item.
const ROWS_AN_ITEM: usize = 32;
/// Elements of a row in blocks that are dequantized before they are written: whole blocks of any format.
const DEQUANTIZED_TOGETHER: usize = 256;
/// Elements of one work item that fills.
const FILL: usize = 64 * 1024;
/// Columns of one work item of a kernel that sums rows.
const COLUMNS_AN_ITEM: usize = 32;

/// A matrix that threads share, each touching rows (or columns) of its own.
#[derive(Clone, Copy)]
pub(super) struct Rows<E> {
    pointer: Shared<*mut E>,
    columns: usize,
    row_stride: usize,
}

impl<E: Element> Rows<E> {
    /// Row `r`, to write.
    ///
    /// # Safety
    /// `r` is a row of the tensor, and nobody else reads or writes it meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn row<'a>(self, r: usize) -> &'a mut [E] {
        // SAFETY: passed on.
        unsafe { self.columns(r, 0..self.columns) }
    }

    /// Row `r`, to read.
    ///
    /// # Safety
    /// `r` is a row of the tensor, and nobody writes it meanwhile.
    pub unsafe fn read<'a>(self, r: usize) -> &'a [E] {
        // SAFETY: passed on.
        unsafe { self.read_columns(r, 0..self.columns) }
    }

    /// Some columns of row `r`, to read.
    ///
    /// # Safety
    /// They exist, and nobody writes them meanwhile.
    pub unsafe fn read_columns<'a>(self, r: usize, range: Range<usize>) -> &'a [E] {
        // SAFETY: the arena checked the tensor's range when the handle was resolved.
        unsafe { std::slice::from_raw_parts(self.at(r, range.start), range.len()) }
    }

    /// Some columns of row `r`, to write.
    ///
    /// # Safety
    /// They exist, and nobody else reads or writes them meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn columns<'a>(self, r: usize, range: Range<usize>) -> &'a mut [E] {
        // SAFETY: as `read_columns`.
        unsafe { std::slice::from_raw_parts_mut(self.at(r, range.start), range.len()) }
    }

    fn at(self, r: usize, column: usize) -> *mut E {
        self.pointer.get().wrapping_add(r * self.row_stride + column)
    }
}

impl Cpu {
    pub(super) fn rows<E: Element>(&self, t: Tensor) -> Rows<E> {
        Rows { pointer: Shared(self.arena.elements(t)), columns: t.columns, row_stride: t.row_stride }
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
        let to = self.rows::<f32>(x);
        // SAFETY: each row belongs to one item.
        self.each_row(x.rows, |r| unsafe { to.row(r) }.fill(value));
    }

    pub(super) fn copy_rows(&self, from: Tensor, to: Tensor) {
        assert_eq!((from.rows, from.columns), (to.rows, to.columns));
        if from.dtype.is_blocks() {
            return self.dequantize_rows(from, to);
        }
        with_element!(from.dtype, S => with_element!(to.dtype, T => {
            let (source, target) = (self.rows::<S>(from), self.rows::<T>(to));
            // SAFETY: each row belongs to one item; the tensors do not overlap.
            self.each_row(to.rows, |r| unsafe { scaled_copy(target.row(r), 1.0, source.read(r)) });
        }));
    }

    /// `to = from`, of which the rows are in blocks.
    fn dequantize_rows(&self, from: Tensor, to: Tensor) {
        // Seen from its transpose, the matrix's rows are columns.
        let source = Shared(self.view(from).transposed());
        with_element!(to.dtype, T => {
            let target = self.rows::<T>(to);
            self.pool.run(to.rows.div_ceil(ROWS_AN_ITEM), &|item, _| {
                let mut values = [0.0f32; DEQUANTIZED_TOGETHER];
                for r in item * ROWS_AN_ITEM..((item + 1) * ROWS_AN_ITEM).min(to.rows) {
                    for first in (0..to.columns).step_by(values.len()) {
                        let values = &mut values[..(to.columns - first).min(DEQUANTIZED_TOGETHER)];
                        // SAFETY: the source is only read; each row belongs to one item.
                        unsafe {
                            source.get().read_in_column(r, first, values);
                            scaled_copy(target.columns(r, first..first + values.len()), 1.0, values);
                        }
                    }
                }
            });
        });
    }

    pub(super) fn add_rows(&mut self, x: Tensor, y: Tensor) {
        assert_eq!((x.rows, x.columns), (y.rows, y.columns));
        with_element!(x.dtype, X => with_element!(y.dtype, Y => {
            let (to, from) = (self.rows::<X>(x), self.rows::<Y>(y));
            // SAFETY: each row belongs to one item; the tensors do not overlap.
            self.each_row(x.rows, |r| unsafe { axpy(to.row(r), 1.0, from.read(r)) });
        }));
    }

    pub(super) fn dropout_rows(&mut self, x: Tensor, p: f32, seed: u64) {
        let keep_scale = 1.0 / (1.0 - p);
        with_element!(x.dtype, X => {
            let rows = self.rows::<X>(x);
            self.each_row(x.rows, |r| {
                // SAFETY: each row belongs to one item.
                drop_elements(unsafe { rows.row(r) }, p, keep_scale, seed, (r * x.columns) as u64);
            });
        });
    }

    pub(super) fn add_bias_rows(&mut self, x: Tensor, bias: Tensor) {
        let bias = self.arena.slice(bias);
        with_element!(x.dtype, X => {
            let to = self.rows::<X>(x);
            // SAFETY: each row belongs to one item; the bias is only read.
            self.each_row(x.rows, |r| axpy(unsafe { to.row(r) }, 1.0, bias));
        });
    }

    pub(super) fn bias_backward_columns(&mut self, dy: Tensor, dbias: Tensor) {
        assert_eq!(dy.columns, dbias.columns);
        with_element!(dy.dtype, Y => {
            let (from, to) = (self.rows::<Y>(dy), self.rows::<f32>(dbias));
            self.pool.run(dy.columns.div_ceil(COLUMNS_AN_ITEM), &|item, _| {
                let range = item * COLUMNS_AN_ITEM..((item + 1) * COLUMNS_AN_ITEM).min(dy.columns);
                // SAFETY: rows are read; the columns of the gradient belong to one item.
                let sums = unsafe { to.columns(0, range.clone()) };
                for r in 0..dy.rows {
                    // SAFETY: as above.
                    axpy(sums, 1.0, unsafe { from.read_columns(r, range.clone()) });
                }
            });
        });
    }

    pub(super) fn scale_columns_rows(&mut self, x: Tensor, scale: Tensor) {
        assert_eq!(x.columns, scale.columns);
        let scale = self.arena.slice(scale);
        with_element!(x.dtype, X => {
            let to = self.rows::<X>(x);
            // SAFETY: each row belongs to one item; the scale is only read.
            self.each_row(x.rows, |r| multiply_in_place(unsafe { to.row(r) }, scale));
        });
    }

    pub(super) fn column_dots_columns(&mut self, x: Tensor, y: Tensor, scale: Tensor, out: Tensor) {
        assert_eq!((x.rows, x.columns, scale.columns), (y.rows, y.columns, out.columns));
        assert_eq!(x.columns, out.columns);
        let (scale, rows) = (self.arena.slice(scale), x.rows);
        with_element!(x.dtype, X => with_element!(y.dtype, Y => {
            let (x, y, to) = (self.rows::<X>(x), self.rows::<Y>(y), self.rows::<f32>(out));
            self.pool.run(out.columns.div_ceil(COLUMNS_AN_ITEM), &|item, _| {
                let range = item * COLUMNS_AN_ITEM..((item + 1) * COLUMNS_AN_ITEM).min(out.columns);
                let mut sums = [0.0f32; COLUMNS_AN_ITEM];
                let sums = &mut sums[..range.len()];
                for r in 0..rows {
                    // SAFETY: rows are read; the columns of the output belong to one item.
                    let (x, y) = unsafe { (x.read_columns(r, range.clone()), y.read_columns(r, range.clone())) };
                    add_products(sums, x, y);
                }
                multiply_in_place(sums, &scale[range.clone()]);
                // SAFETY: as above.
                axpy(unsafe { to.columns(0, range.clone()) }, 1.0, sums);
            });
        }));
    }

    pub(super) fn embedding_rows(&mut self, ids: Tensor, table: Tensor, out: Tensor) {
        let ids = self.arena.ids(ids);
        assert_eq!((ids.len(), table.columns), (out.rows, out.columns));
        if out.dtype == DType::Bf16 {
            let (from, to) = (self.rows::<bf16>(table), self.rows::<bf16>(out));
            self.each_row(out.rows, |r| {
                let id = ids[r] as usize;
                assert!(id < table.rows, "row {id} of a table of {}", table.rows);
                // SAFETY: as below.
                unsafe { to.row(r).copy_from_slice(from.read_columns(id, 0..table.columns)) };
            });
            return;
        }
        // Seen from its transpose, the table's rows are columns.
        let (from, to) = (Shared(self.view(table).transposed()), self.rows::<f32>(out));
        self.each_row(out.rows, |r| {
            let id = ids[r] as usize;
            assert!(id < table.rows, "token id {id} is outside the vocabulary of {}", table.rows);
            // SAFETY: the table is only read; each output row belongs to one item.
            unsafe { from.get().read_column(id, to.row(r)) };
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
        let (from, to) = (self.rows::<f32>(dout), self.rows::<f32>(dtable));
        self.pool.run(dout.columns.div_ceil(COLUMNS_AN_ITEM), &|item, _| {
            let range = item * COLUMNS_AN_ITEM..((item + 1) * COLUMNS_AN_ITEM).min(dout.columns);
            for (r, &id) in ids.iter().enumerate() {
                // SAFETY: these columns belong to this item, in every row.
                unsafe {
                    let to = to.columns(id as usize, range.clone());
                    axpy(to, 1.0, from.read_columns(r, range.clone()));
                }
            }
        });
    }

    pub(super) fn rmsnorm_rows(&mut self, op: RmsNorm, out: Tensor) {
        let weight = self.arena.slice(op.weight);
        assert_eq!((op.x.rows, op.x.columns), (out.rows, out.columns));
        assert_eq!((op.rstd.rows, op.rstd.columns * weight.len()), (op.x.rows, op.x.columns));
        let rstd = self.rows::<f32>(op.rstd);
        if op.x.offset == out.offset {
            return with_element!(out.dtype, Y => {
                let y = self.rows::<Y>(out);
                // SAFETY: each row belongs to one item.
                self.each_row(out.rows, |r| unsafe {
                    for (y, rstd) in y.row(r).chunks_exact_mut(weight.len()).zip(rstd.row(r)) {
                        *rstd = norm_in_place(y, weight, op.eps);
                    }
                });
            });
        }
        with_element!(op.x.dtype, X => with_element!(out.dtype, Y => {
            let (x, y) = (self.rows::<X>(op.x), self.rows::<Y>(out));
            // SAFETY: each row belongs to one item; `x` is only read.
            self.each_row(op.x.rows, |r| unsafe {
                let groups = x.read(r).chunks_exact(weight.len()).zip(y.row(r).chunks_exact_mut(weight.len()));
                for ((x, y), rstd) in groups.zip(rstd.row(r)) {
                    *rstd = norm(x, y, weight, op.eps);
                }
            });
        }));
    }

    pub(super) fn rmsnorm_backward_rows(&mut self, op: RmsNormBackward) {
        let RmsNormBackward { forward: op, dout, dx, overwrite, dweight } = op;
        let width = op.weight.columns;
        let shape = (op.x.rows, op.x.columns);
        assert_eq!(((dout.rows, dout.columns), (dx.rows, dx.columns)), (shape, shape));
        assert_eq!((op.rstd.rows, op.rstd.columns * width), (op.x.rows, op.x.columns));
        assert!(dweight.is_none_or(|gradient| gradient.columns == width));
        let items = op.x.rows.div_ceil(ROWS_AN_ITEM);
        let mut partials = std::mem::take(&mut self.partials);
        partials.clear();
        partials.resize(items * width, 0.0);
        let weight = self.arena.slice(op.weight);
        let rstd = self.rows::<f32>(op.rstd);
        let shared = Shared(partials.as_mut_ptr());
        let in_place = dout.offset == dx.offset;
        assert!(overwrite || !in_place, "a gradient in place is overwritten");
        with_element!(op.x.dtype, X => with_element!(dout.dtype, Y => with_element!(dx.dtype, Z => {
            let (x, dy, dx) = (self.rows::<X>(op.x), self.rows::<Y>(dout), self.rows::<Z>(dx));
            self.pool.run(items, &|item, _| {
                // SAFETY: one stretch of partial sums an item.
                let sums = unsafe { std::slice::from_raw_parts_mut(shared.get().add(item * width), width) };
                for r in item * ROWS_AN_ITEM..((item + 1) * ROWS_AN_ITEM).min(op.x.rows) {
                    // SAFETY: each row belongs to one item; where `dout` is `dx`, one slice stands for both.
                    unsafe {
                        for (g, &rstd) in rstd.read(r).iter().enumerate() {
                            let group = g * width..(g + 1) * width;
                            let x = x.read_columns(r, group.clone());
                            if in_place {
                                norm_backward_in_place(x, weight, rstd, dx.columns(r, group), sums);
                                continue;
                            }
                            let (dy, dx) = (dy.read_columns(r, group.clone()), dx.columns(r, group));
                            if overwrite {
                                dx.fill(Z::put(0.0));
                            }
                            norm_backward_added(x, weight, rstd, dy, dx, sums);
                        }
                    }
                }
            });
        })));
        if let Some(dweight) = dweight {
            let total = self.arena.slice_mut(dweight);
            for sums in partials.chunks_exact(width) {
                axpy(total, 1.0, sums);
            }
        }
        self.partials = partials;
    }

    pub(super) fn rope_rows(&mut self, op: Rope) {
        let half = op.cos.columns;
        let positions = self.arena.ids(op.positions);
        assert!(positions.len() == op.x.rows && op.x.columns.is_multiple_of(2 * half), "{op:?}");
        assert!(positions.iter().all(|&p| (p as usize) < op.cos.rows), "{op:?}");
        assert_eq!((op.cos.rows, op.cos.columns), (op.sin.rows, op.sin.columns));
        let (cos, sin) = (self.rows::<f32>(op.cos), self.rows::<f32>(op.sin));
        let sign = if op.inverse { -1.0 } else { 1.0 };
        with_element!(op.x.dtype, X => {
            let x = self.rows::<X>(op.x);
            self.each_row(op.x.rows, |r| {
                let position = positions[r] as usize;
                // SAFETY: each row of x belongs to one item; the tables are only read.
                let (x, cos, sin) = unsafe { (x.row(r), cos.read(position), sin.read(position)) };
                for head in x.chunks_exact_mut(2 * half) {
                    let (a, b) = head.split_at_mut(half);
                    rotate(a, b, cos, sin, sign);
                }
            });
        });
    }

    pub(super) fn swiglu_rows(&mut self, gate_up: Tensor, out: Tensor) {
        let f = out.columns;
        assert_eq!((gate_up.rows, gate_up.columns), (out.rows, 2 * f));
        with_element!(out.dtype, E => {
            let (gate_up_rows, to) = (self.rows::<E>(gate_up), self.rows::<E>(out));
            self.each_row(out.rows, |r| {
                // SAFETY: each row belongs to one item.
                let (gate_up, to) = unsafe { (gate_up_rows.read(r), to.row(r)) };
                let (gate, up) = gate_up.split_at(f);
                swiglu(gate, up, to);
            });
        });
    }

    pub(super) fn swiglu_backward_rows(&mut self, gate_up: Tensor, dout: Tensor, out: Tensor) {
        let f = dout.columns;
        assert_eq!((gate_up.rows, gate_up.columns), (dout.rows, 2 * f));
        assert_eq!((out.rows, out.columns), (dout.rows, f));
        with_element!(dout.dtype, E => {
            let [gate_up, dout_rows, out_rows] = [gate_up, dout, out].map(|x| self.rows::<E>(x));
            self.each_row(dout.rows, |r| {
                // SAFETY: each row belongs to one item.
                let (gate_up, dout, out) = unsafe { (gate_up.row(r), dout_rows.read(r), out_rows.row(r)) };
                let (gate, up) = gate_up.split_at_mut(f);
                swiglu_backward(gate, up, dout, out);
            });
        });
    }
}

simd! {
    /// y = x·rstd·weight; returns rstd.
    fn norm<X: Element, Y: Element>(x: &[X], y: &mut [Y], weight: &[f32], eps: f32) -> f32 {
        let mean_square = dot(x, x) / x.len() as f32;
        let rstd = 1.0 / (mean_square + eps).sqrt();
        for ((y, x), &w) in y.iter_mut().zip(x).zip(weight) {
            *y = Y::put(x.get() * rstd * w);
        }
        rstd
    }
}

simd! {
    /// As [`norm`], from a row to itself.
    fn norm_in_place<Y: Element>(y: &mut [Y], weight: &[f32], eps: f32) -> f32 {
        let mean_square = dot(y, y) / y.len() as f32;
        let rstd = 1.0 / (mean_square + eps).sqrt();
        for (y, &w) in y.iter_mut().zip(weight) {
            *y = Y::put(y.get() * rstd * w);
        }
        rstd
    }
}

simd! {
    fn norm_backward_added<X: Element, Y: Element, Z: Element>(
        x: &[X], weight: &[f32], rstd: f32, dy: &[Y], dx: &mut [Z], sums: &mut [f32],
    ) {
        let mean = weighted_mean(x, weight, dy, rstd);
        let n = x.len();
        let (weight, dy, dx, sums) = (&weight[..n], &dy[..n], &mut dx[..n], &mut sums[..n]);
        for i in 0..n {
            let (normed, dy) = (x[i].get() * rstd, dy[i].get());
            sums[i] += dy * normed;
            dx[i] = Z::put(dx[i].get() + rstd * (weight[i] * dy - normed * mean));
        }
    }
}

simd! {
    fn norm_backward_in_place<X: Element, Y: Element>(
        x: &[X], weight: &[f32], rstd: f32, dy: &mut [Y], sums: &mut [f32],
    ) {
        let mean = weighted_mean(x, weight, dy, rstd);
        let n = x.len();
        let (weight, dy, sums) = (&weight[..n], &mut dy[..n], &mut sums[..n]);
        for i in 0..n {
            let (normed, d) = (x[i].get() * rstd, dy[i].get());
            sums[i] += d * normed;
            dy[i] = Y::put(rstd * (weight[i] * d - normed * mean));
        }
    }
}

/// mean(w·dy·x̂)
#[inline(always)]
fn weighted_mean<X: Element, Y: Element>(x: &[X], weight: &[f32], dy: &[Y], rstd: f32) -> f32 {
    dot3(x, dy, weight) * rstd / x.len() as f32
}

simd! {
    fn rotate<X: Element>(a: &mut [X], b: &mut [X], cos: &[f32], sin: &[f32], sign: f32) {
        let n = a.len();
        let (b, cos, sin) = (&mut b[..n], &cos[..n], &sin[..n]);
        for i in 0..n {
            let (x, y, s) = (a[i].get(), b[i].get(), sin[i] * sign);
            a[i] = X::put(x * cos[i] - y * s);
            b[i] = X::put(y * cos[i] + x * s);
        }
    }
}

simd! {
    fn drop_elements<X: Element>(x: &mut [X], p: f32, keep_scale: f32, seed: u64, first: u64) {
        for (c, value) in x.iter_mut().enumerate() {
            let keep = dropout_keeps(seed, first + c as u64, p);
            *value = X::put(if keep { value.get() * keep_scale } else { 0.0 });
        }
    }
}

simd! {
    fn swiglu<E: Element>(gate: &[E], up: &[E], out: &mut [E]) {
        let n = out.len();
        let (gate, up) = (&gate[..n], &up[..n]);
        for i in 0..n {
            let gate = gate[i].get();
            out[i] = E::put(gate / (1.0 + exp(-gate)) * up[i].get());
        }
    }
}

simd! {
    fn swiglu_backward<E: Element>(gate: &mut [E], up: &mut [E], dout: &[E], out: &mut [E]) {
        let n = dout.len();
        let (gate, up, out) = (&mut gate[..n], &mut up[..n], &mut out[..n]);
        for i in 0..n {
            let (g, u, dh) = (gate[i].get(), up[i].get(), dout[i].get());
            let sigmoid = 1.0 / (1.0 + exp(-g));
            let silu = g * sigmoid;
            out[i] = E::put(silu * u);
            gate[i] = E::put(dh * u * sigmoid * (1.0 + g - silu));
            up[i] = E::put(dh * silu);
        }
    }
}
