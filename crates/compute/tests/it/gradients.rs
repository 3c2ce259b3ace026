//! The reference's backward passes against central differences of its forward passes, in f64.

use compute::device::*;
use compute::reference::Reference;
use compute::rng::Rng;
use compute::tensor::{DType, Layout, Tensor};

const STEP: f64 = 1e-5;
/// Of the largest element. Differences are off by the third derivative times STEP² / 6, some 1e-10, and by
/// the rounding of sums of some tens divided by STEP, some 1e-9.
const TOLERANCE: f64 = 1e-8;

/// Checks d(Σ out·seed)/d(input) for every element of `input`, where `forward` fills `out` and `gradient`
/// holds the claim.
fn check(
    name: &str,
    device: &mut Reference,
    (input, gradient): (Tensor, Tensor),
    out: Tensor,
    seed: &[f64],
    forward: &dyn Fn(&mut Reference),
) {
    let values = device.read(input);
    let claimed = device.read(gradient);
    let largest = claimed.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
    for i in 0..values.len() {
        let mut sum = [0.0; 2];
        for (side, sum) in [1.0, -1.0].into_iter().zip(&mut sum) {
            let mut moved = values.clone();
            moved[i] += side * STEP;
            device.write(input, &moved);
            forward(device);
            *sum = device.read(out).iter().zip(seed).map(|(y, s)| y * s).sum();
        }
        let expected = (sum[0] - sum[1]) / (2.0 * STEP);
        assert!(
            (expected - claimed[i]).abs() <= TOLERANCE * largest,
            "{name}: element {i}: {} instead of {expected}",
            claimed[i]
        );
    }
    device.write(input, &values);
    assert!(largest > 1e-3, "{name}: a gradient of zeros shows nothing");
}

struct Bench {
    layout: Layout,
    inputs: Vec<Tensor>,
}

impl Bench {
    fn new() -> Bench {
        Bench { layout: Layout::new(), inputs: Vec::new() }
    }

    fn tensor(&mut self, rows: usize, columns: usize) -> Tensor {
        self.layout.reserve(DType::F32, rows, columns)
    }

    fn input(&mut self, rows: usize, columns: usize) -> Tensor {
        let t = self.tensor(rows, columns);
        self.inputs.push(t);
        t
    }

    fn device(&self, purpose: &str) -> Reference {
        let mut device = Reference::new();
        device.allocate(self.layout.bytes()).unwrap();
        let mut rng = Rng::from_parts(5, purpose, &[]);
        for t in &self.inputs {
            let values: Vec<f64> = (0..t.len()).map(|_| rng.normal()).collect();
            device.write(*t, &values);
        }
        device
    }
}

#[test]
fn rmsnorm() {
    let mut b = Bench::new();
    let (x, weight, dout) = (b.input(3, 10), b.input(1, 5), b.input(3, 10));
    let (rstd, out, dx, dweight) = (b.tensor(3, 2), b.tensor(3, 10), b.tensor(3, 10), b.tensor(1, 5));
    let mut d = b.device("rmsnorm");
    let op = RmsNorm { x, weight, rstd, eps: 1e-5 };
    let seed = d.read(dout);
    d.rmsnorm(op, out);
    let overwrite = true;
    d.rmsnorm_backward(RmsNormBackward { forward: op, dout, dx, overwrite, dweight: Some(dweight) });
    let forward = |d: &mut Reference| d.rmsnorm(op, out);
    check("x", &mut d, (x, dx), out, &seed, &forward);
    check("weight", &mut d, (weight, dweight), out, &seed, &forward);
}

#[test]
fn rope_is_undone_by_its_inverse_and_is_its_own_transpose() {
    let mut b = Bench::new();
    let (x, cos, sin) = (b.input(4, 12), b.tensor(6, 3), b.tensor(6, 3));
    let positions = b.tensor(1, 4);
    let mut d = b.device("rope");
    d.write(positions, &[2.0, 5.0, 0.0, 3.0]);
    let angles: Vec<f64> = (0..18).map(|i| f64::from(i) * 0.3).collect();
    d.write(cos, &angles.iter().map(|a| a.cos()).collect::<Vec<_>>());
    d.write(sin, &angles.iter().map(|a| a.sin()).collect::<Vec<_>>());
    let before = d.read(x);
    let op = Rope { x, cos, sin, positions, inverse: false };
    d.rope(op);
    let rotated = d.read(x);
    assert!(before.iter().zip(&rotated).any(|(a, b)| (a - b).abs() > 0.1));
    // A rotation keeps lengths, and its inverse is its transpose: that makes `inverse` the backward.
    let square = |x: &[f64]| x.iter().map(|v| v * v).sum::<f64>();
    assert!((square(&before) - square(&rotated)).abs() < 1e-9);
    d.rope(Rope { inverse: true, ..op });
    assert!(before.iter().zip(d.read(x)).all(|(a, b)| (a - b).abs() < 1e-12));
}

#[test]
fn swiglu() {
    let mut b = Bench::new();
    let (gate_up, dout) = (b.input(3, 8), b.input(3, 4));
    let (out, gradient) = (b.tensor(3, 4), b.tensor(3, 8));
    let mut d = b.device("swiglu");
    let seed = d.read(dout);
    d.copy(gate_up, gradient);
    d.swiglu_backward(gradient, dout, out);
    check("gate|up", &mut d, (gate_up, gradient), out, &seed, &|d| d.swiglu(gate_up, out));
}

#[test]
fn attention() {
    let (batch, length, heads, kv_heads, width) = (2, 5, 4, 2, 3);
    let n = batch * length;
    let mut b = Bench::new();
    let (q, k, v) = (b.input(n, heads * width), b.input(n, kv_heads * width), b.input(n, kv_heads * width));
    let dout = b.input(n, heads * width);
    let (out, lse) = (b.tensor(n, heads * width), b.tensor(n, heads));
    let (dq, dk, dv) =
        (b.tensor(n, heads * width), b.tensor(n, kv_heads * width), b.tensor(n, kv_heads * width));
    let document_starts = b.layout.reserve(DType::U32, 1, n);
    let mut d = b.device("attention");
    d.upload_ids(document_starts, &[0, 0, 2, 2, 2, 0, 0, 0, 0, 4]);
    let op = Attention {
        q,
        k,
        v,
        document_starts,
        out,
        lse,
        batch_size: batch,
        sequence_length: length,
        head_dim: width,
        scale: 0.6,
    };
    let seed = d.read(dout);
    d.attention(op);
    d.attention_backward(AttentionBackward { forward: op, dout, dq, dk, dv });
    let forward = |d: &mut Reference| d.attention(op);
    check("q", &mut d, (q, dq), out, &seed, &forward);
    check("k", &mut d, (k, dk), out, &seed, &forward);
    check("v", &mut d, (v, dv), out, &seed, &forward);
}

#[test]
fn linear_cross_entropy() {
    let (n, width, vocabulary) = (5, 4, 7);
    let mut b = Bench::new();
    let (x, weight) = (b.input(n, width), b.input(vocabulary, width));
    let (dx, dweight, weights) = (b.tensor(n, width), b.tensor(vocabulary, width), b.tensor(1, n));
    let scratch = b.tensor(n, vocabulary);
    let loss_sum = b.layout.reserve(DType::F64, 1, 1);
    let targets = b.layout.reserve(DType::U32, 1, n);
    let mut d = b.device("loss");
    d.upload_ids(targets, &[0, 3, 6, 2, 2]);
    d.write(weights, &[1.0, 0.5, 0.0, 2.0, 1.0]);
    let gradient = Some(LinearCrossEntropyGradient { dx, dweight: Some(dweight), scale: 0.25 });
    let op = LinearCrossEntropy { x, weight, targets, weights, scratch, loss_sum, gradient };
    d.linear_cross_entropy(op);
    let forward = |d: &mut Reference| {
        d.write(loss_sum, &[0.0]);
        d.linear_cross_entropy(LinearCrossEntropy { gradient: None, ..op });
    };
    check("x", &mut d, (x, dx), loss_sum, &[0.25], &forward);
    check("weight", &mut d, (weight, dweight), loss_sum, &[0.25], &forward);
}

#[test]
fn linear_and_embedding() {
    let mut b = Bench::new();
    let (x, weight, dout) = (b.input(4, 3), b.input(5, 3), b.input(4, 5));
    let (out, dx, dweight) = (b.tensor(4, 5), b.tensor(4, 3), b.tensor(5, 3));
    let mut d = b.device("linear");
    let product = |a, a_transposed, b, b_transposed, out| Gemm {
        a,
        a_transposed,
        b,
        b_transposed,
        out,
        residual: None,
        accumulate: false,
    };
    let seed = d.read(dout);
    d.gemm(product(dout, false, weight, false, dx));
    d.gemm(product(dout, true, x, false, dweight));
    let forward = |d: &mut Reference| d.gemm(product(x, false, weight, true, out));
    check("x", &mut d, (x, dx), out, &seed, &forward);
    check("weight", &mut d, (weight, dweight), out, &seed, &forward);

    let mut b = Bench::new();
    let (table, dout) = (b.input(4, 3), b.input(5, 3));
    let (out, dtable) = (b.tensor(5, 3), b.tensor(4, 3));
    let ids = b.layout.reserve(DType::U32, 1, 5);
    let mut d = b.device("embedding");
    d.upload_ids(ids, &[1, 3, 1, 0, 3]);
    let seed = d.read(dout);
    d.embedding_backward(ids, dout, dtable);
    check("table", &mut d, (table, dtable), out, &seed, &|d| d.embedding(ids, table, out));
}
