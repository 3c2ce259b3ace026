//! The trait a device implements: fused kernels over handles into one arena.
//!
//! Legend of shapes: N = B·T tokens, D model width, F feed-forward width, V vocabulary, H query heads, K
//! key/value heads, d head width. A kernel call enqueues; only [`Device::download`] and
//! [`Device::synchronize`] wait. Gradients of weights are accumulated (`+=`), gradients of activations are
//! written, except where a field says otherwise. Every kernel's meaning is its implementation in
//! [`crate::reference`].

use crate::tensor::{DType, Tensor};

/// `out = op(a) · op(b)`, plus `residual` or plus `out` itself. Where one operand is bfloat16 the other may
/// be rounded to it; sums are f32 either way, and rounded once where `out` is bfloat16 (k is at most 4096
/// where that is accumulated to). Where `b` is in blocks (transposed, and `a` and `out` f32), `a` may be
/// rounded to bfloat16 or to blocks of signed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// (m, k), or (k, m) when `a_transposed`.
    pub a: Tensor,
    /// Whether `a` is read transposed.
    pub a_transposed: bool,
    /// (k, n), or (n, k) when `b_transposed`: the layout of a linear layer's weight.
    pub b: Tensor,
    /// Whether `b` is read transposed.
    pub b_transposed: bool,
    /// (m, n).
    pub out: Tensor,
    /// (m, n), added to the product.
    pub residual: Option<Tensor>,
    /// Add to what `out` holds (weight gradients).
    pub accumulate: bool,
}

/// Root-mean-square norm over groups of `weight.columns` elements (Zhang & Sennrich 2019).
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// (rows, groups · width).
    pub x: Tensor,
    /// (1, width).
    pub weight: Tensor,
    /// (rows, groups): 1/√(mean(x²) + eps), written by the forward and read by the backward.
    pub rstd: Tensor,
    /// Added to the mean square.
    pub eps: f32,
}

/// Gradients of [`RmsNorm`].
#[derive(Clone, Copy, Debug)]
pub struct RmsNormBackward {
    /// What the forward saw and wrote.
    pub forward: RmsNorm,
    /// (rows, groups · width).
    pub dout: Tensor,
    /// (rows, groups · width): added to, or written with `overwrite`; `dout` itself only with `overwrite`.
    pub dx: Tensor,
    /// Write `dx` instead of adding to it.
    pub overwrite: bool,
    /// (1, width), accumulated; `None`: the weight is frozen.
    pub dweight: Option<Tensor>,
}

/// Rotary position embedding, split halves (Su et al. 2021, in Hugging Face's layout).
#[derive(Clone, Copy, Debug)]
pub struct Rope {
    /// (rows, heads · d), rotated in place.
    pub x: Tensor,
    /// (positions, d/2).
    pub cos: Tensor,
    /// (positions, d/2).
    pub sin: Tensor,
    /// (1, rows) of u32.
    pub positions: Tensor,
    /// Rotate by −θ: the backward.
    pub inverse: bool,
}

/// Causal grouped-query attention within documents: query t sees keys `document_starts[t]..=t` of its row. A
/// sliding window is a later start.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// (N, H·d).
    pub q: Tensor,
    /// (N, K·d).
    pub k: Tensor,
    /// (N, K·d).
    pub v: Tensor,
    /// (1, N) of u32: index within the row; never decreases within it.
    pub document_starts: Tensor,
    /// (N, H·d), the forward's result.
    pub out: Tensor,
    /// (N, H): log-sum-exp of the scaled scores, written by the forward and read by the backward.
    pub lse: Tensor,
    /// B.
    pub batch_size: usize,
    /// T.
    pub sequence_length: usize,
    /// d.
    pub head_dim: usize,
    /// Multiplies the scores; 1/√d.
    pub scale: f32,
}

/// Gradients of [`Attention`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionBackward {
    /// What the forward saw and wrote.
    pub forward: Attention,
    /// (N, H·d).
    pub dout: Tensor,
    /// (N, H·d), written.
    pub dq: Tensor,
    /// (N, K·d), written.
    pub dk: Tensor,
    /// (N, K·d), written.
    pub dv: Tensor,
}

/// Appends keys and values to a cache of several sequences, then lets each new token attend to its own
/// sequence up to itself.
#[derive(Clone, Copy, Debug)]
pub struct CachedAttention {
    /// (new, H·d).
    pub q: Tensor,
    /// (new, K·d).
    pub k: Tensor,
    /// (new, K·d).
    pub v: Tensor,
    /// (sequences · capacity, K·d): the keys of sequence s from row s · capacity on.
    pub key_cache: Tensor,
    /// (sequences · capacity, K·d).
    pub value_cache: Tensor,
    /// (1, new) of u32: each token's sequence.
    pub sequences: Tensor,
    /// (1, new) of u32: each token's position in it, which the cache holds everything before. Tokens of one
    /// sequence follow each other.
    pub positions: Tensor,
    /// (1, new) of u32: the first position that each token sees, ascending within a sequence; `None`: 0.
    pub first_positions: Option<Tensor>,
    /// (new, H·d), written.
    pub out: Tensor,
    /// Capacity per sequence, in tokens.
    pub capacity: usize,
    /// d.
    pub head_dim: usize,
    /// Multiplies the scores.
    pub scale: f32,
}

/// The output layer and its loss in chunks of rows: full logits never exist.
#[derive(Clone, Copy, Debug)]
pub struct LinearCrossEntropy {
    /// (N, D).
    pub x: Tensor,
    /// (V, D).
    pub weight: Tensor,
    /// (1, N) of u32.
    pub targets: Tensor,
    /// (1, N): loss weight of each row.
    pub weights: Tensor,
    /// (chunk, V): room for the logits of one chunk.
    pub scratch: Tensor,
    /// (1, 1) of f64: Σ weight · loss (nats) is added.
    pub loss_sum: Tensor,
    /// The backward in the same pass, if wanted.
    pub gradient: Option<LinearCrossEntropyGradient>,
}

/// Where [`LinearCrossEntropy`] puts its gradients.
#[derive(Clone, Copy, Debug)]
pub struct LinearCrossEntropyGradient {
    /// (N, D), written.
    pub dx: Tensor,
    /// (V, D), accumulated; `None`: the weight is frozen.
    pub dweight: Option<Tensor>,
    /// Multiplies every row's weight: 1 / trained tokens of the optimizer step.
    pub scale: f32,
}

/// One AdamW update (Loshchilov & Hutter 2019) of a contiguous range, with clipping by global norm.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// (1, P) weights, updated.
    pub weight: Tensor,
    /// (1, P) of bfloat16: the updated weights as products read them.
    pub rounded: Option<Tensor>,
    /// (1, P).
    pub gradient: Tensor,
    /// (1, P) first moment, updated.
    pub moment1: Tensor,
    /// (1, P) second moment, updated.
    pub moment2: Tensor,
    /// (1, 1) of f64: the squared global gradient norm. Not finite: nothing is changed.
    pub squared_norm: Tensor,
    /// Gradients are scaled to at most this norm; 0 = off.
    pub max_gradient_norm: f32,
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay; 0 for norms and biases.
    pub weight_decay: f32,
    /// 1-based step, for the bias correction.
    pub step: u64,
}

/// The first part of a Muon update (Jordan et al. 2024): momentum over the clipped gradient, which Nesterov's
/// form of it then replaces. All contiguous and of one length.
#[derive(Clone, Copy, Debug)]
pub struct Momentum {
    /// g, which becomes β·m′ + (1 − β)·g.
    pub gradient: Tensor,
    /// m, which becomes m′ = β·m + (1 − β)·g.
    pub moment: Tensor,
    /// (1, 1) of f64: the squared global gradient norm. Not finite: nothing is changed.
    pub squared_norm: Tensor,
    /// Gradients are scaled to at most this norm; 0 = off.
    pub max_gradient_norm: f32,
    /// β.
    pub beta: f32,
}

/// The last part of a Muon update: a step against a direction, with decoupled decay. All contiguous and of
/// one length.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// Of f32; becomes (1 − `decay`)·weight − `step`·direction.
    pub weight: Tensor,
    /// Of bfloat16: the updated weights as products read them.
    pub rounded: Option<Tensor>,
    /// Of f32 or bfloat16.
    pub direction: Tensor,
    /// (1, 1) of f64: the squared global gradient norm. Not finite: nothing is changed.
    pub squared_norm: Tensor,
    /// Learning rate times the direction's scale.
    pub step: f32,
    /// Learning rate times weight decay.
    pub decay: f32,
}

/// `out = a·x + b·y`, element by element. Contiguous tensors of one length, each f32 or bfloat16; `out` may
/// be `x` or `y`.
#[derive(Clone, Copy, Debug)]
pub struct Axpby {
    /// Multiplies `x`.
    pub a: f32,
    /// x.
    pub x: Tensor,
    /// Multiplies `y`.
    pub b: f32,
    /// y.
    pub y: Tensor,
    /// Written.
    pub out: Tensor,
}

/// What decides the memory that kernels take beside the arena.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Every product, as (m, k, n).
    pub products: Vec<Product>,
    /// (T, d) of attention.
    pub attention: (usize, usize),
    /// (N, D) of the stream.
    pub stream: (usize, usize),
    /// H.
    pub heads: usize,
}

/// A product's sizes and types.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// Length of the sums.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// Whether operands are bfloat16.
    pub bf16: bool,
    /// The result's type.
    pub out: DType,
}

/// A set of kernels over one arena.
pub trait Device {
    /// What a person would call it.
    fn name(&self) -> String;
    /// Allocates the arena, zeroed. Called once, before any kernel.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    fn allocate(&mut self, bytes: usize) -> crate::Result<()>;
    /// Writes a contiguous tensor of numbers, rounded to its type.
    fn upload(&mut self, to: Tensor, values: &[f32]);
    /// Writes a contiguous tensor of blocks as [`quant`] describes them.
    fn upload_blocks(&mut self, to: Tensor, blocks: &[u8]);
    /// Writes a contiguous u32 tensor.
    fn upload_ids(&mut self, to: Tensor, values: &[u32]);
    /// Waits, then reads a contiguous f32 or bfloat16 tensor.
    fn download(&mut self, from: Tensor) -> Vec<f32>;
    /// Waits, then reads an f64 scalar.
    fn download_scalar(&mut self, from: Tensor) -> f64;
    /// Waits for all kernels enqueued.
    fn synchronize(&mut self);

    /// Sets every element of an f32 tensor.
    fn fill(&mut self, x: Tensor, value: f32);
    /// Copies element by element; shapes equal, strides free.
    fn copy(&mut self, from: Tensor, to: Tensor);
    /// `x += y`.
    fn add(&mut self, x: Tensor, y: Tensor);
    /// Zeroes elements with probability `p` and scales the rest by 1/(1−p). The mask is a function of `seed`
    /// and the element's index, so the same call on the gradient is the backward.
    fn dropout(&mut self, x: Tensor, p: f32, seed: u64);
    /// Matrix product.
    fn gemm(&mut self, op: Gemm);
    /// Adds a (1, columns) bias to every row of `x`.
    fn add_bias(&mut self, x: Tensor, bias: Tensor);
    /// Adds the column sums of `dy` to `dbias`.
    fn bias_backward(&mut self, dy: Tensor, dbias: Tensor);
    /// Multiplies each column of `x` by its element of `scale`, (1, columns) of f32.
    fn scale_columns(&mut self, x: Tensor, scale: Tensor);
    /// Adds `scale ⊙ Σ_rows x ⊙ y` to `out`; x and y are of one shape, `scale` and `out` (1, columns) of f32.
    fn column_dots(&mut self, x: Tensor, y: Tensor, scale: Tensor, out: Tensor);
    /// Row `ids[n]` of `table` (V, D), of any type, to row n of `out` (N, D), of f32; or both of bfloat16.
    fn embedding(&mut self, ids: Tensor, table: Tensor, out: Tensor);
    /// Adds row n of `dout` to row `ids[n]` of `dtable`.
    fn embedding_backward(&mut self, ids: Tensor, dout: Tensor, dtable: Tensor);
    /// Writes `out` and `op.rstd`.
    fn rmsnorm(&mut self, op: RmsNorm, out: Tensor);
    /// Writes `dx` or adds to it, and adds to `dweight`.
    fn rmsnorm_backward(&mut self, op: RmsNormBackward);
    /// Rotates in place.
    fn rope(&mut self, op: Rope);
    /// Writes `op.out` and `op.lse`.
    fn attention(&mut self, op: Attention);
    /// Writes `dq`, `dk`, `dv`.
    fn attention_backward(&mut self, op: AttentionBackward);
    /// Writes the caches and `op.out`.
    fn cached_attention(&mut self, op: CachedAttention);
    /// `out = silu(gate) ⊙ up`, where `gate_up` is (N, 2F) with the gate first (Shazeer 2020).
    fn swiglu(&mut self, gate_up: Tensor, out: Tensor);
    /// Replaces `gate_up` by its gradient, and writes what the forward wrote to `out` once more.
    fn swiglu_backward(&mut self, gate_up: Tensor, dout: Tensor, out: Tensor);
    /// Loss, and gradients if wanted.
    fn linear_cross_entropy(&mut self, op: LinearCrossEntropy);
    /// Writes Σx² of a contiguous tensor to the f64 scalar `out`.
    fn squared_norm(&mut self, x: Tensor, out: Tensor);
    /// One optimizer step.
    fn adamw(&mut self, op: AdamW);
    /// Momentum, Nesterov's.
    fn momentum(&mut self, op: Momentum);
    /// `out = x / (1.02·√squared_norm + 1e-6)`: no singular value is above 1 then, nor will rounding lift one
    /// there. `x` is f32, `out` f32 or bfloat16, both contiguous; `squared_norm` is an f64 scalar.
    fn scale_by_frobenius_norm(&mut self, x: Tensor, squared_norm: Tensor, out: Tensor);
    /// Sum of two, weighted.
    fn axpby(&mut self, op: Axpby);
    /// A step of the weights.
    fn sgd_step(&mut self, op: SgdStep);
}
