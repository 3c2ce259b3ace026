//! The shared suite: every kernel over a grid of shapes, odd sizes included. A device passes when it agrees with the reference.

use compute::device::*;
use compute::reference::Reference;
use compute::rng::Rng;
use compute::tensor::{DType, Layout, Tensor};

/// One kernel call with its inputs and the tensors to compare afterwards.
pub struct Case {
    pub name: String,
    layout: Layout,
    rng: Rng,
    uploads: Vec<(Tensor, Vec<f32>)>,
    ids: Vec<(Tensor, Vec<u32>)>,
    outputs: Vec<Tensor>,
    scalars: Vec<Tensor>,
}

impl Case {
    fn new(name: String) -> Case {
        let rng = Rng::from_parts(1, &name, &[]);
        let (uploads, ids, outputs, scalars) = Default::default();
        Case { name, layout: Layout::new(), rng, uploads, ids, outputs, scalars }
    }

    /// A tensor of standard normal values.
    fn input(&mut self, rows: usize, columns: usize) -> Tensor {
        let t = self.layout.reserve(DType::F32, rows, columns);
        let values = (0..t.len()).map(|_| self.rng.normal() as f32).collect();
        self.uploads.push((t, values));
        t
    }

    /// As `input`, and compared afterwards.
    fn in_out(&mut self, rows: usize, columns: usize) -> Tensor {
        let t = self.input(rows, columns);
        self.outputs.push(t);
        t
    }

    fn output(&mut self, rows: usize, columns: usize) -> Tensor {
        let t = self.layout.reserve(DType::F32, rows, columns);
        self.outputs.push(t);
        t
    }

    fn scalar(&mut self) -> Tensor {
        let t = self.layout.reserve(DType::F64, 1, 1);
        self.scalars.push(t);
        t
    }

    fn ids(&mut self, count: usize, below: u64) -> Tensor {
        let t = self.layout.reserve(DType::U32, 1, count);
        let values = (0..count).map(|_| self.rng.below(below) as u32).collect();
        self.ids.push((t, values));
        t
    }

    /// Document starts of `batch` rows: a few documents each, never decreasing.
    fn document_starts(&mut self, batch: usize, length: usize) -> Tensor {
        let t = self.layout.reserve(DType::U32, 1, batch * length);
        let mut values = Vec::new();
        for _ in 0..batch {
            let mut start = 0;
            for at in 0..length {
                if self.rng.below(9) == 0 {
                    start = at as u32;
                }
                values.push(start);
            }
        }
        self.ids.push((t, values));
        t
    }

    /// Runs the call on a device and returns what it left in the compared tensors.
    pub fn run(&self, device: &mut dyn Device, call: &dyn Fn(&mut dyn Device)) -> Vec<Vec<f32>> {
        device.allocate(self.layout.bytes()).unwrap();
        for (t, values) in &self.uploads {
            device.upload(*t, values);
        }
        for (t, values) in &self.ids {
            device.upload_ids(*t, values);
        }
        call(device);
        let mut results: Vec<Vec<f32>> = self.outputs.iter().map(|t| device.download(*t)).collect();
        results.extend(self.scalars.iter().map(|t| vec![device.download_scalar(*t) as f32]));
        results
    }
}

/// What a visitor of the suite gets: a case and the call to make.
pub type Visit<'a> = dyn FnMut(&Case, &dyn Fn(&mut dyn Device)) + 'a;

/// Calls `visit` with every case.
pub fn each(visit: &mut Visit) {
    products(visit);
    norms(visit);
    rotations_and_activations(visit);
    attentions(visit);
    losses(visit);
    embeddings_and_copies(visit);
    optimizers(visit);
}

fn products(visit: &mut Visit) {
    let shapes = [
        (1, 1, 1),
        (1, 7, 3),
        (3, 16, 33),
        (13, 5, 47),
        (12, 32, 32),
        (64, 48, 96),
        (37, 129, 65),
        (197, 530, 34),
        (25, 70, 1030),
        (5, 1100, 4100),
    ];
    for (m, k, n) in shapes {
        for (ta, tb) in [(false, true), (false, false), (true, false), (true, true)] {
            for start in 0..3 {
                let mut c = Case::new(format!("gemm {m}×{k}×{n} {ta} {tb} start {start}"));
                let a = if ta { c.input(k, m) } else { c.input(m, k) };
                let b = if tb { c.input(n, k) } else { c.input(k, n) };
                let out = c.in_out(m, n);
                let residual = (start == 1).then(|| c.input(m, n));
                let op =
                    Gemm { a, a_transposed: ta, b, b_transposed: tb, out, residual, accumulate: start == 2 };
                visit(&c, &|d| d.gemm(op));
            }
        }
    }
    // Views: columns of wider matrices, as Q, K and V are read; and a residual that is the output itself.
    let mut c = Case::new("gemm of views".to_string());
    let (a, b, out) = (c.input(40, 60), c.input(50, 33), c.in_out(40, 70));
    let op = Gemm {
        a: a.column_range(7, 33),
        a_transposed: false,
        b,
        b_transposed: true,
        out: out.column_range(5, 50),
        residual: Some(out.column_range(5, 50)),
        accumulate: false,
    };
    visit(&c, &|d| d.gemm(op));
}

fn norms(visit: &mut Visit) {
    for (rows, groups, width) in [(1, 1, 1), (5, 1, 33), (70, 1, 384), (33, 3, 16), (9, 2, 7)] {
        for overwrite in [false, true] {
            let mut c = Case::new(format!("rmsnorm {rows}×{groups}×{width} {overwrite}"));
            let (x, weight, rstd) =
                (c.input(rows, groups * width), c.input(1, width), c.output(rows, groups));
            let (out, dout, dx) = (
                c.output(rows, groups * width),
                c.in_out(rows, groups * width),
                c.in_out(rows, groups * width),
            );
            let dweight = c.in_out(1, width);
            let op = RmsNorm { x, weight, rstd, eps: 1e-5 };
            visit(&c, &|d| {
                d.rmsnorm(op, out);
                d.rmsnorm_backward(op, dout, dx, overwrite, dweight);
                if overwrite {
                    d.rmsnorm_backward(op, dout, dout, true, dweight);
                }
            });
        }
    }
    let mut c = Case::new("rmsnorm in place over a view".to_string());
    let (x, weight, rstd) = (c.in_out(6, 40), c.input(1, 8), c.output(6, 2));
    let view = x.column_range(8, 16);
    visit(&c, &|d| d.rmsnorm(RmsNorm { x: view, weight, rstd, eps: 1e-6 }, view));
}

fn rotations_and_activations(visit: &mut Visit) {
    for (rows, heads, half, length) in [(1, 1, 1, 1), (14, 3, 5, 7), (64, 2, 16, 32)] {
        for inverse in [false, true] {
            let mut c = Case::new(format!("rope {rows} {heads} {half} {inverse}"));
            let x = c.in_out(rows, heads * half * 2 + 3);
            let (cos, sin) = (c.input(length + 4, half), c.input(length + 4, half));
            let x = x.column_range(3, heads * half * 2);
            let op = Rope { x, cos, sin, sequence_length: length, first_position: 4, inverse };
            visit(&c, &|d| d.rope(op));
        }
    }
    for (rows, f) in [(1, 1), (7, 33), (65, 100)] {
        let mut c = Case::new(format!("swiglu {rows}×{f}"));
        let (gate_up, out, dout) = (c.in_out(rows, 2 * f), c.output(rows, f), c.input(rows, f));
        visit(&c, &|d| {
            d.swiglu(gate_up, out);
            d.swiglu_backward(gate_up, dout);
        });
        let mut c = Case::new(format!("dropout {rows}×{f}"));
        let x = c.in_out(rows, f);
        visit(&c, &|d| d.dropout(x, 0.3, 99));
    }
}

fn attentions(visit: &mut Visit) {
    let shapes = [(1, 1, 1, 1, 2), (2, 7, 2, 1, 4), (1, 97, 2, 2, 8), (2, 130, 4, 2, 16), (1, 230, 3, 1, 34)];
    for (batch, length, heads, kv_heads, d) in shapes {
        let mut c = Case::new(format!("attention {batch} {length} {heads} {kv_heads} {d}"));
        let (n, q_width, kv_width) = (batch * length, heads * d, kv_heads * d);
        let qkv = c.input(n, q_width + 2 * kv_width);
        let dqkv = c.output(n, q_width + 2 * kv_width);
        let split = |x: Tensor| {
            [
                x.column_range(0, q_width),
                x.column_range(q_width, kv_width),
                x.column_range(q_width + kv_width, kv_width),
            ]
        };
        let ([q, k, v], [dq, dk, dv]) = (split(qkv), split(dqkv));
        let document_starts = c.document_starts(batch, length);
        let (out, lse, dout) = (c.output(n, q_width), c.output(n, heads), c.input(n, q_width));
        let scale = 1.0 / (d as f32).sqrt();
        let op = Attention {
            q,
            k,
            v,
            document_starts,
            out,
            lse,
            batch_size: batch,
            sequence_length: length,
            head_dim: d,
            scale,
        };
        visit(&c, &|device| {
            device.attention(op);
            device.attention_backward(AttentionBackward { forward: op, dout, dq, dk, dv });
        });
        let mut c = Case::new(format!("cached attention {length} {heads} {kv_heads} {d}"));
        let (q, out) = (c.input(3, q_width), c.output(3, q_width));
        let (k, v) = (c.input(length + 5, kv_width), c.input(length + 5, kv_width));
        let op = CachedAttention { q, k, v, out, past: length, head_dim: d, scale };
        visit(&c, &|device| device.cached_attention(op));
    }
}

fn losses(visit: &mut Visit) {
    for (n, width, vocabulary, chunk) in [(1, 1, 2, 1), (7, 5, 11, 3), (40, 33, 130, 16), (33, 16, 1000, 64)]
    {
        for backward in [false, true] {
            let mut c = Case::new(format!("linear cross-entropy {n} {width} {vocabulary} {backward}"));
            let (x, weight) = (c.input(n, width), c.input(vocabulary, width));
            let targets = c.ids(n, vocabulary as u64);
            let weights = c.layout.reserve(DType::F32, 1, n);
            let values = (0..n).map(|i| [1.0, 0.0, 0.25][i % 3]).collect();
            c.uploads.push((weights, values));
            let scratch = c.layout.reserve(DType::F32, chunk, vocabulary);
            let loss_sum = c.scalar();
            let gradient = backward.then(|| LinearCrossEntropyGradient {
                dx: c.output(n, width),
                dweight: c.in_out(vocabulary, width),
                scale: 0.5,
            });
            let op = LinearCrossEntropy { x, weight, targets, weights, scratch, loss_sum, gradient };
            visit(&c, &|d| d.linear_cross_entropy(op));
        }
    }
}

fn embeddings_and_copies(visit: &mut Visit) {
    for (n, vocabulary, width) in [(1, 1, 1), (9, 4, 33), (100, 50, 70)] {
        let mut c = Case::new(format!("embedding {n} {vocabulary} {width}"));
        let ids = c.ids(n, vocabulary as u64);
        let (table, out, dout, dtable) =
            (c.input(vocabulary, width), c.output(n, width), c.input(n, width), c.in_out(vocabulary, width));
        visit(&c, &|d| {
            d.embedding(ids, table, out);
            d.embedding_backward(ids, dout, dtable);
        });
        let mut c = Case::new(format!("rows {n} {width}"));
        let (x, y, bias, dbias) =
            (c.in_out(n, width + 2), c.in_out(n, width), c.input(1, width), c.in_out(1, width));
        let filled = c.in_out(n, width);
        let view = x.column_range(1, width);
        visit(&c, &|d| {
            d.add(view, y);
            d.add_bias(view, bias);
            d.bias_backward(view, dbias);
            d.copy(view, y);
            d.fill(filled, 0.5);
        });
    }
}

fn optimizers(visit: &mut Visit) {
    for n in [1, 33, 40_000] {
        for (max_gradient_norm, step) in [(0.0, 1), (1.0, 10)] {
            let mut c = Case::new(format!("adamw {n} {step}"));
            let (weight, gradient, moment1) = (c.in_out(1, n), c.input(1, n), c.in_out(1, n));
            let moment2 = c.layout.reserve(DType::F32, 1, n);
            let values = (0..n).map(|_| c.rng.uniform() as f32).collect();
            c.uploads.push((moment2, values));
            c.outputs.push(moment2);
            let squared_norm = c.scalar();
            let op = AdamW {
                weight,
                gradient,
                moment1,
                moment2,
                squared_norm,
                max_gradient_norm,
                learning_rate: 1e-2,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.1,
                step,
            };
            visit(&c, &|d| {
                d.squared_norm(gradient, squared_norm);
                d.adamw(op);
            });
        }
    }
    let mut c = Case::new("adamw leaves everything when the norm is not finite".to_string());
    let [weight, moment1, moment2] = [c.in_out(1, 9), c.in_out(1, 9), c.in_out(1, 9)];
    let gradient = c.layout.reserve(DType::F32, 1, 9);
    c.uploads.push((gradient, vec![f32::NAN; 9]));
    let squared_norm = c.layout.reserve(DType::F64, 1, 1);
    let op = AdamW {
        weight,
        gradient,
        moment1,
        moment2,
        squared_norm,
        max_gradient_norm: 1.0,
        learning_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 1,
    };
    visit(&c, &|d| {
        d.squared_norm(gradient, squared_norm);
        d.adamw(op);
    });
}

/// Runs the whole suite on devices that `make` gives and compares with the reference.
pub fn check_device(make: &dyn Fn() -> Box<dyn Device>) {
    let mut count = 0;
    each(&mut |case, call| {
        let expected = case.run(&mut Reference::new(), call);
        let found = case.run(&mut *make(), call);
        assert!(!expected.is_empty());
        for (tensor, (expected, found)) in expected.iter().zip(&found).enumerate() {
            let magnitude = expected.iter().fold(1.0f32, |a, x| a.max(x.abs()));
            for (i, (e, f)) in expected.iter().zip(found).enumerate() {
                let error = (e - f).abs();
                assert!(
                    error <= 2e-5 * magnitude,
                    "{}: tensor {tensor} element {i}: {f} instead of {e}",
                    case.name
                );
            }
        }
        count += 1;
    });
    assert!(count > 150, "{count} cases");
}
