//! The shared suite: every kernel over a grid of shapes, odd sizes included. A device passes when it agrees
//! with the reference.

use std::collections::BTreeSet;

use compute::device::*;
use compute::tensor::{DType, Tensor};

use crate::case::Case;

/// What a visitor of the suite gets: a case and the call to make.
pub type Visit<'a> = dyn FnMut(&Case, &dyn Fn(&mut dyn Device)) + 'a;

/// Calls `visit` with every case in f32.
pub fn each(visit: &mut Visit) {
    each_of(DType::F32, visit);
    embeddings(visit);
    cached_attentions(visit);
    narrow_weights(visit);
    copies_of_blocks(visit);
    optimizers(visit);
}

/// Calls `visit` with every case of the kernels that take `element`.
pub fn each_of(element: DType, visit: &mut Visit) {
    muon(element, visit);
    products(element, visit);
    norms(element, visit);
    rotations_and_activations(element, visit);
    attentions(element, visit);
    losses(element, visit);
    copies(element, visit);
    gathers(element, visit);
}

fn products(element: DType, visit: &mut Visit) {
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
        (120, 257, 600),
        (5, 1100, 4100),
    ];
    for (m, k, n) in shapes {
        for (ta, tb) in [(false, true), (false, false), (true, false), (true, true)] {
            for start in 0..3 {
                let mut c = Case::of(element, format!("gemm {m}×{k}×{n} {ta} {tb} start {start}"));
                // One operand may be f32 while the other is bfloat16, and what is added to is f32.
                let (first, second) = match k % 3 {
                    0 => (DType::F32, element),
                    1 => (element, DType::F32),
                    _ => (element, element),
                };
                let a = if ta { c.input_of(first, k, m) } else { c.input_of(first, m, k) };
                let b = if tb { c.input_of(second, n, k) } else { c.input_of(second, k, n) };
                // A bfloat16 output takes no f32 residual.
                let out = c.in_out_of(if start == 1 { DType::F32 } else { element }, m, n);
                let residual = (start == 1).then(|| c.input_of(DType::F32, m, n));
                c.terms = k;
                let op =
                    Gemm { a, a_transposed: ta, b, b_transposed: tb, out, residual, accumulate: start == 2 };
                visit(&c, &|d| d.gemm(op));
            }
        }
    }
    // Views: columns of wider matrices, as Q, K and V are read; and a residual that is the output itself.
    let mut c = Case::of(element, "gemm of views".to_string());
    c.terms = 33;
    let (a, b, out) = (c.input(40, 60), c.input(50, 33), c.in_out_of(DType::F32, 40, 70));
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

fn norms(element: DType, visit: &mut Visit) {
    for (rows, groups, width) in [(1, 1, 1), (5, 1, 33), (70, 1, 384), (33, 3, 16), (9, 2, 7)] {
        for overwrite in [false, true] {
            let mut c = Case::of(element, format!("rmsnorm {rows}×{groups}×{width} {overwrite}"));
            // The residual stream is f32, heads are not.
            let stream = if groups == 1 { DType::F32 } else { element };
            let x = c.input_of(stream, rows, groups * width);
            let (weight, rstd) = (c.input_of(DType::F32, 1, width), c.output_of(DType::F32, rows, groups));
            let (out, dout, dx) = (
                c.output(rows, groups * width),
                c.in_out(rows, groups * width),
                c.in_out_of(stream, rows, groups * width),
            );
            let dweight = c.in_out_of(DType::F32, 1, width);
            c.terms = rows + width;
            // A row of one value is ±1 but for this, and what depends on the difference cancels out.
            let eps = if width == 1 { 0.5 } else { 1e-5 };
            let op = RmsNorm { x, weight, rstd, eps };
            visit(&c, &|d| {
                d.rmsnorm(op, out);
                let backward = RmsNormBackward { forward: op, dout, dx, overwrite, dweight: Some(dweight) };
                d.rmsnorm_backward(backward);
                if overwrite {
                    d.rmsnorm_backward(RmsNormBackward { dx: dout, ..backward });
                }
                d.rmsnorm_backward(RmsNormBackward { dweight: None, ..backward });
            });
        }
    }
    let mut c = Case::of(element, "rmsnorm in place over a view".to_string());
    let (x, weight, rstd) = (c.in_out(6, 40), c.input_of(DType::F32, 1, 8), c.output_of(DType::F32, 6, 2));
    let view = x.column_range(8, 16);
    visit(&c, &|d| d.rmsnorm(RmsNorm { x: view, weight, rstd, eps: 1e-6 }, view));
}

fn rotations_and_activations(element: DType, visit: &mut Visit) {
    for (rows, heads, half, length) in [(1, 1, 1, 1), (14, 3, 5, 7), (64, 2, 16, 32)] {
        for inverse in [false, true] {
            let mut c = Case::of(element, format!("rope {rows} {heads} {half} {inverse}"));
            let x = c.in_out(rows, heads * half * 2 + 3);
            let [cos, sin] = [0; 2].map(|_| c.input_of(DType::F32, length + 4, half));
            let x = x.column_range(3, heads * half * 2);
            let positions = c.ids(rows, length as u64 + 4);
            let op = Rope { x, cos, sin, positions, inverse };
            visit(&c, &|d| d.rope(op));
        }
    }
    for (rows, f) in [(1, 1), (7, 33), (65, 100)] {
        let mut c = Case::of(element, format!("swiglu {rows}×{f}"));
        let (gate_up, out, dout) = (c.in_out(rows, 2 * f), c.output(rows, f), c.input(rows, f));
        let again = c.output(rows, f);
        visit(&c, &|d| {
            d.swiglu(gate_up, out);
            d.swiglu_backward(gate_up, dout, again);
        });
        let mut c = Case::of(element, format!("dropout {rows}×{f}"));
        let x = c.in_out(rows, f);
        visit(&c, &|d| d.dropout(x, 0.3, 99));
    }
}

/// B, T, H, K, d.
const ATTENTIONS: [(usize, usize, usize, usize, usize); 9] = [
    (1, 1, 1, 1, 2),
    (2, 7, 2, 1, 4),
    (1, 97, 2, 2, 8),
    (2, 130, 4, 2, 16),
    (1, 230, 3, 1, 34),
    (1, 40, 2, 1, 80),
    // Heads as large models have them.
    (2, 150, 4, 2, 64),
    (1, 64, 1, 1, 64),
    (1, 200, 3, 1, 128),
];

fn attentions(element: DType, visit: &mut Visit) {
    for (batch, length, heads, kv_heads, d) in ATTENTIONS {
        let mut c = Case::of(element, format!("attention {batch} {length} {heads} {kv_heads} {d}"));
        c.terms = length + d;
        c.rounds_between(element);
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
        let (out, lse, dout) = (c.output(n, q_width), c.output_of(DType::F32, n, heads), c.input(n, q_width));
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
    }
}

/// Rows picked out of a matrix.
fn gathers(element: DType, visit: &mut Visit) {
    for (rows, picked, width) in [(5, 3, 7), (70, 130, 64)] {
        let mut c = Case::of(element, format!("gather {picked} of {rows} × {width}"));
        let (table, out) = (c.input(rows, width + 3), c.output(picked, width));
        let ids = c.ids(picked, rows as u64);
        visit(&c, &|d| d.embedding(ids, table.column_range(3, width), out));
    }
}

fn cached_attentions(visit: &mut Visit) {
    for (_, length, heads, kv_heads, d) in ATTENTIONS {
        let windows = [None, Some(1 + length / 4)];
        for (cache, window) in [DType::F32, DType::Bf16].into_iter().flat_map(|c| windows.map(|w| (c, w))) {
            let (q_width, kv_width, scale) = (heads * d, kv_heads * d, 1.0 / (d as f32).sqrt());
            let name = format!("cached attention {length} {heads} {kv_heads} {d} {cache:?} {window:?}");
            let mut c = Case::new(name);
            c.terms = length + d;
            c.rounds_between(cache);
            // One token of the last sequence, a long stretch of the first, a short one of the second.
            let (capacity, past, long) = (length + 5, length / 3, length - length / 3);
            let rows = [(2, length, 1), (0, past, long), (1, 0, 3)];
            let expand = |f: &dyn Fn(usize, usize) -> usize| {
                rows.iter()
                    .flat_map(|&(s, at, n)| (at..at + n).map(move |at| (s, at)))
                    .map(|(s, at)| f(s, at) as u32)
                    .collect::<Vec<u32>>()
            };
            let n = 1 + long + 3;
            let (q, out) = (c.input(n, q_width), c.output(n, q_width));
            let (k, v) = (c.input(n, kv_width), c.input(n, kv_width));
            let key_cache = c.in_out_of(cache, 3 * capacity, kv_width);
            let value_cache = c.in_out_of(cache, 3 * capacity, kv_width);
            let first = |_, at: usize| window.map_or(0, |window| (at + 1).saturating_sub(window));
            let ids = [expand(&|s, _| s), expand(&|_, at| at), expand(&first)];
            let [sequences, positions, first_positions] = ids.map(|values| {
                let t = c.layout.reserve(DType::U32, 1, n);
                c.ids.push((t, values));
                t
            });
            let op = CachedAttention {
                q,
                k,
                v,
                key_cache,
                value_cache,
                sequences,
                positions,
                first_positions: window.map(|_| first_positions),
                out,
                capacity,
                head_dim: d,
                scale,
            };
            visit(&c, &|device| device.cached_attention(op));
        }
    }
}

/// Products with a weight of fewer bits, and rows read from it: few rows, as decoding has them, and many.
fn narrow_weights(visit: &mut Visit) {
    for weights in [DType::Bf16, DType::Q8_0, DType::Q4_0] {
        for (m, k, n) in [
            (1, 32, 16),
            (1, 96, 50),
            (3, 320, 64),
            (5, 64, 200),
            (16, 576, 96),
            (33, 96, 70),
            (70, 1184, 612),
        ] {
            for residual in [false, true] {
                let mut c = Case::new(format!("narrow {m}×{k}×{n} {weights:?} {residual}"));
                c.terms = k;
                c.rounds_between(weights);
                let (a, b) = (c.input(m, k), c.input_of(weights, n, k));
                let (ids, rows) = (c.ids(m, n as u64), c.output(m, k));
                let out = c.in_out(m, n);
                let residual = residual.then_some(out);
                let op =
                    Gemm { a, a_transposed: false, b, b_transposed: true, out, residual, accumulate: false };
                visit(&c, &|d| {
                    d.gemm(op);
                    d.embedding(ids, b, rows);
                });
            }
        }
    }
}

/// Weights in blocks as products of many rows read them.
fn copies_of_blocks(visit: &mut Visit) {
    for weights in [DType::Q8_0, DType::Q4_0, DType::Nf4] {
        for element in [DType::F32, DType::Bf16] {
            for (rows, columns) in [(1, 64), (16, 64), (50, 320), (96, 576)] {
                let mut c = Case::of(element, format!("copy of {weights:?} {rows}×{columns} to {element:?}"));
                c.rounds_between(element);
                let from = c.input_of(weights, rows, columns);
                let to = c.output(rows, columns);
                visit(&c, &|d| d.copy(from, to));
            }
        }
    }
}

fn losses(element: DType, visit: &mut Visit) {
    for (n, width, vocabulary, chunk) in [(1, 1, 2, 1), (7, 5, 11, 3), (40, 33, 130, 16), (33, 16, 1000, 64)]
    {
        for backward in [false, true] {
            let mut c =
                Case::of(element, format!("linear cross-entropy {n} {width} {vocabulary} {backward}"));
            c.terms = width + vocabulary.max(n);
            c.rounds_between(element);
            let (x, weight) = (c.input(n, width), c.input(vocabulary, width));
            let targets = c.ids(n, vocabulary as u64);
            let weights = c.layout.reserve(DType::F32, 1, n);
            let values = (0..n).map(|i| [1.0, 0.0, 0.25][i % 3]).collect();
            c.uploads.push((weights, values));
            let scratch = c.layout.reserve(DType::F32, chunk, vocabulary);
            let loss_sum = c.scalar();
            let gradient = backward.then(|| LinearCrossEntropyGradient {
                dx: c.output(n, width),
                dweight: Some(c.in_out_of(DType::F32, vocabulary, width)),
                scale: 0.5,
            });
            let op = LinearCrossEntropy { x, weight, targets, weights, scratch, loss_sum, gradient };
            visit(&c, &|d| d.linear_cross_entropy(op));
        }
    }
}

fn embeddings(visit: &mut Visit) {
    for (n, vocabulary, width) in [(1, 1, 1), (9, 4, 33), (100, 50, 70), (3000, 7, 40), (2100, 70_000, 8)] {
        let mut c = Case::new(format!("embedding {n} {vocabulary} {width}"));
        c.terms = usize::div_ceil(n, vocabulary);
        let ids = c.ids(n, vocabulary as u64);
        let (table, out, dout, dtable) =
            (c.input(vocabulary, width), c.output(n, width), c.input(n, width), c.in_out(vocabulary, width));
        visit(&c, &|d| {
            d.embedding(ids, table, out);
            d.embedding_backward(ids, dout, dtable);
        });
    }
}

fn copies(element: DType, visit: &mut Visit) {
    for (n, width) in [(1, 1), (9, 33), (100, 70)] {
        let mut c = Case::of(element, format!("rows {n} {width}"));
        c.terms = n;
        // What the bias is added to is written before it is read again.
        c.rounds_between(element);
        let (x, y) = (c.in_out(n, width + 2), c.in_out_of(DType::F32, n, width));
        let (bias, dbias) = (c.input_of(DType::F32, 1, width), c.in_out_of(DType::F32, 1, width));
        let filled = c.in_out_of(DType::F32, n, width);
        let view = x.column_range(1, width);
        let dots = c.in_out_of(DType::F32, 1, width);
        visit(&c, &|d| {
            d.add(view, y);
            d.add_bias(view, bias);
            d.bias_backward(view, dbias);
            d.column_dots(view, y, bias, dots);
            d.scale_columns(view, bias);
            d.copy(view, y);
            d.fill(filled, 0.5);
        });
    }
}

fn optimizers(visit: &mut Visit) {
    for n in [1, 33, 40_000] {
        for (max_gradient_norm, step) in [(0.0, 1), (1.0, 10)] {
            let mut c = Case::new(format!("adamw {n} {step}"));
            c.terms = n;
            let (weight, gradient, moment1) = (c.in_out(1, n), c.input(1, n), c.in_out(1, n));
            let moment2 = c.layout.reserve(DType::F32, 1, n);
            let values = (0..n).map(|_| c.rng.uniform() as f32).collect();
            c.uploads.push((moment2, values));
            c.outputs.push(moment2);
            let squared_norm = c.scalar();
            let op = AdamW {
                weight,
                rounded: (step > 1).then(|| c.output_of(DType::Bf16, 1, n)),
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
        rounded: None,
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

/// Muon's parts. Parts of a matrix begin anywhere, so ranges that are not aligned are among them.
fn muon(element: DType, visit: &mut Visit) {
    for (n, skip) in [(1, 0), (33, 1), (40_000, 0), (40_000, 3)] {
        let part = |t: Tensor| t.column_range(skip, n);
        for max_gradient_norm in [0.0, 1.0] {
            let mut c = Case::new(format!("momentum {n} from {skip}, {max_gradient_norm}"));
            c.terms = n;
            let (gradient, moment) = (part(c.in_out(1, n + skip)), part(c.in_out(1, n + skip)));
            let squared_norm = c.scalar();
            let op = Momentum { gradient, moment, squared_norm, max_gradient_norm, beta: 0.95 };
            visit(&c, &|d| {
                d.squared_norm(gradient, squared_norm);
                d.momentum(op);
            });
        }
        let mut c = Case::of(element, format!("scale_by_frobenius_norm {n} from {skip} {element:?}"));
        c.terms = n;
        let (x, out) = (part(c.input_of(DType::F32, 1, n + skip)), part(c.output(1, n + skip)));
        let squared_norm = c.scalar();
        visit(&c, &|d| {
            d.squared_norm(x, squared_norm);
            d.scale_by_frobenius_norm(x, squared_norm, out);
        });

        let mut c = Case::of(element, format!("axpby {n} from {skip} {element:?}"));
        let (x, y) = (part(c.in_out(1, n + skip)), part(c.input(1, n + skip)));
        let out = part(c.output_of(DType::F32, 1, n + skip));
        visit(&c, &|d| {
            d.axpby(Axpby { a: 1.5, x, b: -0.25, y, out });
            d.axpby(Axpby { a: -2.0, x, b: 0.5, y, out: x });
        });

        let mut c = Case::new(format!("sgd_step {n} from {skip} {element:?}"));
        c.terms = n;
        let (weight, direction) = (part(c.in_out(1, n + skip)), part(c.input_of(element, 1, n + skip)));
        let rounded = (element == DType::Bf16).then(|| part(c.output_of(element, 1, n + skip)));
        let squared_norm = c.scalar();
        let op = SgdStep { weight, rounded, direction, squared_norm, step: 0.1, decay: 0.01 };
        visit(&c, &|d| {
            d.squared_norm(weight, squared_norm);
            d.sgd_step(op);
        });
    }
    let mut c = Case::new("muon leaves everything when the norm is not finite".to_string());
    let [weight, moment] = [c.in_out(1, 9), c.in_out(1, 9)];
    let gradient = c.layout.reserve(DType::F32, 1, 9);
    c.uploads.push((gradient, vec![f32::INFINITY; 9]));
    let squared_norm = c.layout.reserve(DType::F64, 1, 1);
    let first = Momentum { gradient, moment, squared_norm, max_gradient_norm: 1.0, beta: 0.95 };
    let last = SgdStep { weight, rounded: None, direction: gradient, squared_norm, step: 0.1, decay: 0.01 };
    visit(&c, &|d| {
        d.squared_norm(gradient, squared_norm);
        d.momentum(first);
        d.sgd_step(last);
    });
}

/// Runs the whole suite on a device and compares with the reference.
pub fn check_device(device: &mut dyn Device) {
    let count = check(&mut each, device);
    assert!(count > 150, "{count} cases");
}

/// As [`check_device`], with bfloat16 operands.
pub fn check_bf16(device: &mut dyn Device) {
    let count = check(&mut |visit| each_of(DType::Bf16, visit), device);
    assert!(count > 120, "{count} cases");
}

/// Returns the number of cases.
fn check(suite: &mut dyn FnMut(&mut Visit), device: &mut dyn Device) -> usize {
    let mut names = BTreeSet::new();
    suite(&mut |case, call| {
        assert!(names.insert(case.name.clone()), "two cases are called {}", case.name);
        case.check(device, call);
    });
    names.len()
}
