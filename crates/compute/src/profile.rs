//! A device that times every kernel call of another one.
//!
//! Calls are waited for one by one, so on a device that works in the background a profiled step is longer
//! than a plain one.

use crate::Result;
use crate::device::*;
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::time::Instant;

/// What was called: the kernel's name and the sizes that decide its work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Name of the [`Device`]'s method; products have their direction.
    pub kernel: &'static str,
    /// Sizes, as the field names them.
    pub shape: String,
    /// Type of a product's operands, else of the tensor that the shape is of.
    pub dtype: &'static str,
}

/// Times of equal calls, and the work of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timing {
    /// Of each call, in order.
    pub seconds: Vec<f64>,
    /// Floating-point operations of products (multiply and add are two); 0 for kernels that are bound by
    /// memory.
    pub flops: f64,
    /// Bytes that must be read and written at least once.
    pub bytes: f64,
}

impl Timing {
    /// Of all calls.
    pub fn total(&self) -> f64 {
        self.seconds.iter().sum()
    }

    /// Of a call.
    pub fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }
}

/// A device whose calls are timed.
pub struct Profiled<D> {
    device: D,
    timings: BTreeMap<Call, Timing>,
}

impl<D: Device> Profiled<D> {
    /// Times the calls of `device`.
    pub fn new(device: D) -> Profiled<D> {
        Profiled { device, timings: BTreeMap::new() }
    }

    /// The device itself.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// What was called since the beginning or [`Profiled::clear`].
    pub fn timings(&self) -> &BTreeMap<Call, Timing> {
        &self.timings
    }

    /// Forgets what was called so far.
    pub fn clear(&mut self) {
        self.timings.clear();
    }

    fn time(
        &mut self,
        kernel: &'static str,
        shape: String,
        dtype: DType,
        (flops, bytes): (f64, f64),
        call: impl FnOnce(&mut D),
    ) {
        let start = Instant::now();
        call(&mut self.device);
        self.device.synchronize();
        let seconds = start.elapsed().as_secs_f64();
        let timing = self.timings.entry(Call { kernel, shape, dtype: dtype.name() }).or_default();
        timing.seconds.push(seconds);
        (timing.flops, timing.bytes) = (flops, bytes);
    }

    /// Times a kernel that is bound by what it reads and writes.
    fn move_bytes(&mut self, kernel: &'static str, x: Tensor, moved: &[Tensor], call: impl FnOnce(&mut D)) {
        let bytes = moved.iter().map(bytes).sum();
        self.time(kernel, format!("{}×{}", x.rows, x.columns), x.dtype, (0.0, bytes), call);
    }
}

fn bytes(t: &Tensor) -> f64 {
    t.dtype.bytes(t.rows, t.columns) as f64
}

/// The type of a product's arithmetic.
fn operand(a: Tensor, b: Tensor) -> DType {
    if b.dtype == DType::F32 { a.dtype } else { b.dtype }
}

impl<D: Device> Device for Profiled<D> {
    fn name(&self) -> String {
        self.device.name()
    }

    fn allocate(&mut self, bytes: usize) -> Result<()> {
        self.device.allocate(bytes)
    }

    fn upload(&mut self, to: Tensor, values: &[f32]) {
        self.device.upload(to, values);
    }

    fn upload_blocks(&mut self, to: Tensor, blocks: &[u8]) {
        self.device.upload_blocks(to, blocks);
    }

    fn upload_ids(&mut self, to: Tensor, values: &[u32]) {
        self.device.upload_ids(to, values);
    }

    fn download(&mut self, from: Tensor) -> Vec<f32> {
        self.device.download(from)
    }

    fn download_scalar(&mut self, from: Tensor) -> f64 {
        self.device.download_scalar(from)
    }

    fn synchronize(&mut self) {
        self.device.synchronize();
    }

    fn fill(&mut self, x: Tensor, value: f32) {
        self.move_bytes("fill", x, &[x], |d| d.fill(x, value));
    }

    fn copy(&mut self, from: Tensor, to: Tensor) {
        self.move_bytes("copy", from, &[from, to], |d| d.copy(from, to));
    }

    fn add(&mut self, x: Tensor, y: Tensor) {
        self.move_bytes("add", x, &[x, x, y], |d| d.add(x, y));
    }

    fn dropout(&mut self, x: Tensor, p: f32, seed: u64) {
        self.move_bytes("dropout", x, &[x, x], |d| d.dropout(x, p, seed));
    }

    fn gemm(&mut self, op: Gemm) {
        let kernel = match (op.a_transposed, op.b_transposed) {
            (false, true) => "gemm forward",
            (false, false) => "gemm input gradient",
            (true, _) => "gemm weight gradient",
        };
        let k = if op.a_transposed { op.a.rows } else { op.a.columns };
        let (m, n) = (op.out.rows, op.out.columns);
        let read_again = if op.accumulate { bytes(&op.out) } else { 0.0 };
        let moved =
            bytes(&op.a) + bytes(&op.b) + bytes(&op.out) + op.residual.as_ref().map_or(read_again, bytes);
        let work = (2.0 * m as f64 * k as f64 * n as f64, moved);
        self.time(kernel, format!("{m}×{k}×{n}"), operand(op.a, op.b), work, |d| d.gemm(op));
    }

    fn add_bias(&mut self, x: Tensor, bias: Tensor) {
        self.move_bytes("add_bias", x, &[x, x], |d| d.add_bias(x, bias));
    }

    fn bias_backward(&mut self, dy: Tensor, dbias: Tensor) {
        self.move_bytes("bias_backward", dy, &[dy], |d| d.bias_backward(dy, dbias));
    }

    fn scale_columns(&mut self, x: Tensor, scale: Tensor) {
        self.move_bytes("scale_columns", x, &[x, x], |d| d.scale_columns(x, scale));
    }

    fn column_dots(&mut self, x: Tensor, y: Tensor, scale: Tensor, out: Tensor) {
        self.move_bytes("column_dots", x, &[x, y], |d| d.column_dots(x, y, scale, out));
    }

    fn embedding(&mut self, ids: Tensor, table: Tensor, out: Tensor) {
        self.move_bytes("embedding", out, &[out, out], |d| d.embedding(ids, table, out));
    }

    fn embedding_backward(&mut self, ids: Tensor, dout: Tensor, dtable: Tensor) {
        let call = |d: &mut D| d.embedding_backward(ids, dout, dtable);
        self.move_bytes("embedding_backward", dout, &[dout, dout, dout], call);
    }

    fn rmsnorm(&mut self, op: RmsNorm, out: Tensor) {
        self.move_bytes("rmsnorm", out, &[op.x, out], |d| d.rmsnorm(op, out));
    }

    fn rmsnorm_backward(&mut self, op: RmsNormBackward) {
        let (x, read_again) = (op.forward.x, if op.overwrite { vec![] } else { vec![op.dx] });
        let moved = [vec![x, op.dout, op.dx], read_again].concat();
        self.move_bytes("rmsnorm_backward", x, &moved, |d| d.rmsnorm_backward(op));
    }

    fn rope(&mut self, op: Rope) {
        self.move_bytes("rope", op.x, &[op.x, op.x], |d| d.rope(op));
    }

    fn attention(&mut self, op: Attention) {
        self.time("attention", attention_shape(&op), op.q.dtype, (attention_flops(&op), 0.0), |d| {
            d.attention(op);
        });
    }

    fn attention_backward(&mut self, op: AttentionBackward) {
        // Scores again, and one product for each of dP, dQ, dK, dV.
        let flops = 2.5 * attention_flops(&op.forward);
        let (shape, dtype) = (attention_shape(&op.forward), op.dq.dtype);
        self.time("attention_backward", shape, dtype, (flops, 0.0), |d| d.attention_backward(op));
    }

    fn cached_attention(&mut self, op: CachedAttention) {
        self.move_bytes("cached_attention", op.q, &[op.q, op.out], |d| d.cached_attention(op));
    }

    fn swiglu(&mut self, gate_up: Tensor, out: Tensor) {
        self.move_bytes("swiglu", out, &[gate_up, out], |d| d.swiglu(gate_up, out));
    }

    fn swiglu_backward(&mut self, gate_up: Tensor, dout: Tensor, out: Tensor) {
        self.move_bytes("swiglu_backward", dout, &[gate_up, gate_up, dout, out], |d| {
            d.swiglu_backward(gate_up, dout, out);
        });
    }

    fn linear_cross_entropy(&mut self, op: LinearCrossEntropy) {
        let (n, width, vocabulary) = (op.x.rows, op.x.columns, op.weight.rows);
        let products = if op.gradient.is_some() { 3.0 } else { 1.0 };
        let flops = products * 2.0 * n as f64 * width as f64 * vocabulary as f64;
        let work = (flops, products * (bytes(&op.x) + bytes(&op.weight)));
        let (shape, dtype) = (format!("{n}×{width}×{vocabulary}"), operand(op.x, op.weight));
        self.time("linear_cross_entropy", shape, dtype, work, |d| d.linear_cross_entropy(op));
    }

    fn squared_norm(&mut self, x: Tensor, out: Tensor) {
        self.move_bytes("squared_norm", x, &[x], |d| d.squared_norm(x, out));
    }

    fn adamw(&mut self, op: AdamW) {
        let read_and_written = [op.weight, op.moment1, op.moment2];
        let moved: Vec<Tensor> = [&read_and_written[..], &read_and_written[..], &[op.gradient]]
            .concat()
            .into_iter()
            .chain(op.rounded)
            .collect();
        self.move_bytes("adamw", op.weight, &moved, |d| d.adamw(op));
    }

    fn momentum(&mut self, op: Momentum) {
        let moved = [op.gradient, op.moment, op.gradient, op.moment];
        self.move_bytes("momentum", op.gradient, &moved, |d| d.momentum(op));
    }

    fn scale_by_frobenius_norm(&mut self, x: Tensor, squared_norm: Tensor, out: Tensor) {
        self.move_bytes("scale_by_frobenius_norm", x, &[x, out], |d| {
            d.scale_by_frobenius_norm(x, squared_norm, out)
        });
    }

    fn axpby(&mut self, op: Axpby) {
        self.move_bytes("axpby", op.out, &[op.x, op.y, op.out], |d| d.axpby(op));
    }

    fn sgd_step(&mut self, op: SgdStep) {
        let moved: Vec<Tensor> = [op.weight, op.direction, op.weight].into_iter().chain(op.rounded).collect();
        self.move_bytes("sgd_step", op.weight, &moved, |d| d.sgd_step(op));
    }
}

fn attention_shape(op: &Attention) -> String {
    let heads = op.q.columns / op.head_dim;
    format!("B{} T{} H{heads} d{}", op.batch_size, op.sequence_length, op.head_dim)
}

/// Of the two products of the causal half.
fn attention_flops(op: &Attention) -> f64 {
    let pairs = op.sequence_length as f64 * (op.sequence_length + 1) as f64 / 2.0;
    4.0 * op.batch_size as f64 * pairs * op.q.columns as f64
}
