//! Every byte of the arena, laid out before the first step: what `plan` prints is what the device allocates.

use crate::config::ModelConfig;
use crate::parameters::{Role, WeightTypes, Weights};
use compute::device::{Product, Work};
use compute::{DType, Layout, Target, Tensor};
use serde::Serialize;

/// What a model is built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Training.
    Train(Training),
    /// Continuing sequences.
    Decode(Decoding),
}

/// What a model in training has room for, and how it computes: micro-batches of `batch_size` ×
/// `sequence_length` tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Training {
    /// B.
    pub batch_size: usize,
    /// T.
    pub sequence_length: usize,
    /// Arithmetic of products, and type of what layers keep.
    pub precision: Precision,
    /// Keep the residual stream before each layer and nothing else of it; the backward computes the layer
    /// again (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"). The same bits, for a
    /// forward more.
    pub recompute: bool,
    /// By which rule the layers' matrices are updated.
    pub optimizer: Optimizer,
    /// Whether a moving average of the weights is kept.
    pub average: bool,
    /// Least room for the logits of one chunk of rows. More where the output layer is larger than that: each
    /// chunk reads it twice and adds to its gradient.
    pub logits_bytes: usize,
}

impl Training {
    /// Every layer keeps what its backward reads.
    pub fn new(batch_size: usize, sequence_length: usize, precision: Precision) -> Training {
        let logits_bytes = Target::cpu(0).logits_bytes();
        Training {
            batch_size,
            sequence_length,
            precision,
            recompute: false,
            optimizer: Optimizer::AdamW,
            average: false,
            logits_bytes,
        }
    }
}

/// The rule that updates the matrices of the layers; all else is updated by AdamW (Loshchilov & Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// AdamW, two moments a weight.
    AdamW,
    /// Muon (Jordan et al. 2024): orthogonalised momentum, one moment a weight.
    Muon,
}

/// What a model for decoding has room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoding {
    /// Sequences that are continued at the same time.
    pub sequences: usize,
    /// Tokens of the longest one.
    pub max_sequence: usize,
    /// What its matrices are kept in.
    pub weights: WeightTypes,
}

impl Decoding {
    /// One sequence, all in f32.
    pub fn one(max_sequence: usize) -> Decoding {
        Decoding { sequences: 1, max_sequence, weights: WeightTypes::All(DType::F32) }
    }
}

/// Arithmetic of training. Weights, moments, gradients of weights and the residual stream are f32 in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// All of it in f32.
    F32,
    /// Products of bfloat16 with f32 sums; activations beside the residual stream are kept in bfloat16
    /// (Micikevicius et al. 2018).
    Bf16,
}

impl Precision {
    /// The type of operands and activations.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
        }
    }
}

/// Bytes of the arena by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Weights, rounded copies for products included.
    pub parameters_bytes: usize,
    /// Their gradients.
    pub gradients_bytes: usize,
    /// What the optimizer keeps: moments, and the average of the weights.
    pub moments_bytes: usize,
    /// What the forward keeps for the backward; the key/value cache when decoding.
    pub activations_bytes: usize,
    /// Buffers shared by all layers, rotary tables, inputs.
    pub scratch_bytes: usize,
    /// The arena.
    pub total_bytes: usize,
}

impl MemoryPlan {
    /// The plan of a model for a purpose.
    pub fn new(config: &ModelConfig, purpose: &Purpose) -> MemoryPlan {
        match purpose {
            Purpose::Train(training) => TrainingLayout::new(config, &Weights::new(config), training).plan,
            Purpose::Decode(decoding) => {
                DecodingLayout::new(config, &Weights::of(config, &decoding.weights), decoding).plan
            }
        }
    }
}

/// What training asks of the device beside the arena.
pub fn training_work(config: &ModelConfig, training: &Training) -> Work {
    let &Training { batch_size, sequence_length, precision, optimizer, .. } = training;
    let layout = TrainingLayout::new(config, &Weights::new(config), training);
    let bf16 = precision == Precision::Bf16;
    let (n, d, v, chunk) =
        (batch_size * sequence_length, config.hidden_size, config.vocab_size, layout.logits.rows);
    let mut work = Work {
        attention: (sequence_length, config.head_dim),
        stream: (n, d),
        heads: config.num_attention_heads,
        products: Vec::new(),
    };
    let mut add = |m, k, n, out| work.products.push(Product { m, k, n, bf16, out });
    // (in, out) of each linear layer; those into the residual stream give f32.
    for (inner, outer, out) in [
        (d, config.qkv_width(), precision.dtype()),
        (config.query_width(), d, DType::F32),
        (d, 2 * config.intermediate_size, precision.dtype()),
        (config.intermediate_size, d, DType::F32),
    ] {
        add(n, inner, outer, out);
        add(n, outer, inner, precision.dtype());
        add(outer, n, inner, DType::F32);
    }
    if optimizer == Optimizer::Muon {
        for (rows, columns) in hidden_shapes(&Weights::new(config)) {
            let side = rows.min(columns);
            add(side, rows.max(columns), side, precision.dtype());
            add(side, side, side, precision.dtype());
            add(rows, if rows <= columns { rows } else { columns }, columns, precision.dtype());
        }
    }
    add(chunk, d, v, DType::F32);
    add(chunk, v, d, precision.dtype());
    add(v, chunk, d, DType::F32);
    work
}

/// The different shapes of what Muon updates.
fn hidden_shapes(weights: &Weights) -> Vec<(usize, usize)> {
    let hidden = weights.parameters.iter().filter(|parameter| parameter.role == Role::Hidden);
    let mut shapes: Vec<_> =
        hidden.map(|parameter| (parameter.tensor.rows, parameter.tensor.columns)).collect();
    shapes.sort_unstable();
    shapes.dedup();
    shapes
}

/// Where Muon finds a direction; in the type of products.
#[derive(Clone, Debug)]
pub(crate) struct MuonRoom {
    /// (1, the longest matrix).
    pub x: Tensor,
    /// As `x`.
    pub next: Tensor,
    /// (1, the square of the longest shorter side).
    pub gram: Tensor,
    /// As `gram`.
    pub square: Tensor,
    /// (1, 1) of f64: of one matrix's momentum.
    pub squared_norm: Tensor,
}

/// What the forward of one layer keeps for its backward. The residual streams are kept beside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerActivations {
    /// (N, D): the stream after attention.
    pub middle: Tensor,
    /// (N, 1).
    pub attention_rstd: Tensor,
    /// (N, (H + 2K)·d): rotated queries and keys, and values.
    pub qkv: Tensor,
    /// (N, (H + K)·d) before the norm, (N, H + K) of its rstd.
    pub qk_raw: Option<(Tensor, Tensor)>,
    /// (N, H·d).
    pub attention: Tensor,
    /// (N, H).
    pub lse: Tensor,
    /// (N, 1).
    pub mlp_rstd: Tensor,
    /// (N, 2F): gate and up; becomes their gradient.
    pub gate_up: Tensor,
}

/// All handles that training needs.
#[derive(Clone, Debug)]
pub(crate) struct TrainingLayout {
    pub plan: MemoryPlan,
    pub weights: usize,
    /// The weights as products read them, where that is not f32.
    pub rounded: Option<usize>,
    pub gradients: usize,
    pub moment1: usize,
    /// With Muon it begins where the layers' matrices end: nothing before that is read or written.
    pub moment2: usize,
    pub average: Option<usize>,
    pub muon: Option<MuonRoom>,
    /// Of each layer; all of them the same where layers are computed again.
    pub layers: Vec<LayerActivations>,
    pub recompute: bool,
    /// (N, D) before each layer, and after the last.
    pub residual: Vec<Tensor>,
    pub final_rstd: Tensor,
    /// (N, D): a norm's output.
    pub normed: Tensor,
    /// (N, F).
    pub hidden: Tensor,
    /// (N, D): gradient of the residual stream.
    pub d_residual: Tensor,
    /// (N, D).
    pub d_normed: Tensor,
    /// (N, F).
    pub d_hidden: Tensor,
    /// (N, (H + 2K)·d).
    pub d_qkv: Tensor,
    /// (N, H·d).
    pub d_attention: Tensor,
    /// (chunk, V).
    pub logits: Tensor,
    pub tokens: Tensor,
    pub targets: Tensor,
    pub document_starts: Tensor,
    pub positions: Tensor,
    pub token_weights: Tensor,
    pub cos: Tensor,
    pub sin: Tensor,
    pub loss_sum: Tensor,
    pub squared_norm: Tensor,
}

/// Reserves one region of parameters and returns its offset.
fn region(layout: &mut Layout, weights: &Weights) -> usize {
    layout.reserve(DType::F32, 1, weights.bytes / DType::F32.size()).offset
}

impl TrainingLayout {
    pub fn new(config: &ModelConfig, weights: &Weights, training: &Training) -> TrainingLayout {
        let &Training { batch_size, sequence_length, precision, recompute, optimizer, average, logits_bytes } =
            training;
        let mut layout = Layout::new();
        let mut mark = 0;
        let mut plan = MemoryPlan::default();
        let [weights_at, gradients, moment1] = [0; 3].map(|_| region(&mut layout, weights));
        let mut taken = |layout: &Layout| {
            let bytes = layout.bytes() - mark;
            mark = layout.bytes();
            bytes
        };
        let region_bytes = taken(&layout) / 3;
        let absent = if optimizer == Optimizer::Muon { weights.hidden_bytes } else { 0 };
        let moment2 =
            layout.reserve(DType::F32, 1, (weights.bytes - absent) / DType::F32.size()).offset - absent;
        let average = average.then(|| region(&mut layout, weights));
        plan.moments_bytes = region_bytes + taken(&layout);
        let element = precision.dtype();
        let rounded = (element != DType::F32)
            .then(|| layout.reserve(element, 1, weights.bytes / DType::F32.size()).offset);
        plan.parameters_bytes = region_bytes + taken(&layout);
        plan.gradients_bytes = region_bytes;

        let n = batch_size * sequence_length;
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        // The stream, statistics of rows and what sums over layers are f32; the rest has the type of
        // operands.
        let mut matrix = |dtype, columns| layout.reserve_spaced(dtype, n, columns);
        let residual = (0..=config.num_hidden_layers).map(|_| matrix(DType::F32, d)).collect();
        let mut layer = || LayerActivations {
            middle: matrix(DType::F32, d),
            attention_rstd: matrix(DType::F32, 1),
            qkv: matrix(element, config.qkv_width()),
            qk_raw: config.qk_norm.then(|| {
                let raw = matrix(element, (heads + kv_heads) * config.head_dim);
                (raw, matrix(DType::F32, heads + kv_heads))
            }),
            attention: matrix(element, config.query_width()),
            lse: matrix(DType::F32, heads),
            mlp_rstd: matrix(DType::F32, 1),
            gate_up: matrix(element, 2 * f),
        };
        let layers = match recompute {
            true => vec![layer(); config.num_hidden_layers],
            false => (0..config.num_hidden_layers).map(|_| layer()).collect(),
        };
        let final_rstd = matrix(DType::F32, 1);
        plan.activations_bytes = taken(&layout);

        let d_residual = layout.reserve(DType::F32, n, d);
        let mut matrix = |columns| layout.reserve_spaced(element, n, columns);
        let (normed, hidden, d_normed, d_hidden) = (matrix(d), matrix(f), matrix(d), matrix(f));
        let (d_qkv, d_attention) = (matrix(config.qkv_width()), matrix(config.query_width()));
        let chunk = (logits_bytes / (config.vocab_size * DType::F32.size())).max(d);
        let chunks = n.div_ceil(chunk.max(16));
        let chunk = n.div_ceil(chunks);
        let logits = layout.reserve_spaced(DType::F32, chunk, config.vocab_size);
        let [tokens, targets, document_starts, positions] = [0; 4].map(|_| layout.reserve(DType::U32, 1, n));
        let token_weights = layout.reserve(DType::F32, 1, n);
        let [cos, sin] = [0; 2].map(|_| layout.reserve(DType::F32, sequence_length, config.head_dim / 2));
        let [loss_sum, squared_norm] = [0; 2].map(|_| layout.reserve(DType::F64, 1, 1));
        let muon = (optimizer == Optimizer::Muon).then(|| {
            let shapes = hidden_shapes(weights);
            let longest = shapes.iter().map(|(rows, columns)| rows * columns).max().unwrap_or(0);
            let side = shapes.iter().map(|(rows, columns)| *rows.min(columns)).max().unwrap_or(0);
            let mut room = |len| layout.reserve(element, 1, len);
            let (x, next, gram, square) =
                (room(longest), room(longest), room(side * side), room(side * side));
            MuonRoom { x, next, gram, square, squared_norm: layout.reserve(DType::F64, 1, 1) }
        });
        plan.scratch_bytes = taken(&layout);
        plan.total_bytes = layout.bytes();
        TrainingLayout {
            plan,
            weights: weights_at,
            rounded,
            gradients,
            moment1,
            moment2,
            average,
            muon,
            layers,
            recompute,
            residual,
            final_rstd,
            normed,
            hidden,
            d_residual,
            d_normed,
            d_hidden,
            d_qkv,
            d_attention,
            logits,
            tokens,
            targets,
            document_starts,
            positions,
            token_weights,
            cos,
            sin,
            loss_sum,
            squared_norm,
        }
    }
}

/// All handles that decoding needs.
#[derive(Clone, Debug)]
pub(crate) struct DecodingLayout {
    pub plan: MemoryPlan,
    pub weights: usize,
    pub sequences: usize,
    /// Tokens that a sequence has room for.
    pub capacity: usize,
    /// (sequences · capacity, K·d) of keys and of values, a layer.
    pub cache: Vec<(Tensor, Tensor)>,
    /// (chunk, D): the stream.
    pub residual: Tensor,
    pub normed: Tensor,
    pub rstd: Tensor,
    pub qkv: Tensor,
    pub qk_rstd: Tensor,
    pub attention: Tensor,
    pub gate_up: Tensor,
    pub hidden: Tensor,
    /// (sequences, D): the last token of each.
    pub last: Tensor,
    /// (sequences, V).
    pub logits: Tensor,
    /// (1, chunk) each.
    pub tokens: Tensor,
    pub token_sequences: Tensor,
    pub positions: Tensor,
    pub cos: Tensor,
    pub sin: Tensor,
}

/// Prompt tokens that go through the layers together.
const PREFILL_CHUNK: usize = 512;

impl DecodingLayout {
    pub fn new(config: &ModelConfig, weights: &Weights, decoding: &Decoding) -> DecodingLayout {
        let mut layout = Layout::new();
        let region = region(&mut layout, weights);
        let parameters_bytes = layout.bytes();
        let (sequences, capacity) = (decoding.sequences.max(1), decoding.max_sequence.max(1));
        let (rows, width) = (sequences.saturating_mul(capacity), config.key_value_width());
        let cache = (0..config.num_hidden_layers)
            .map(|_| {
                let [keys, values] = [0; 2].map(|_| layout.reserve(decoding.weights.cache(), rows, width));
                (keys, values)
            })
            .collect();
        let activations_bytes = layout.bytes() - parameters_bytes;

        let chunk = PREFILL_CHUNK.min(rows).max(sequences);
        let mut matrix = |columns| layout.reserve(DType::F32, chunk, columns);
        let (residual, normed, rstd) = (matrix(config.hidden_size), matrix(config.hidden_size), matrix(1));
        let (qkv, qk_rstd) =
            (matrix(config.qkv_width()), matrix(config.num_attention_heads + config.num_key_value_heads));
        let attention = matrix(config.query_width());
        let (gate_up, hidden) = (matrix(2 * config.intermediate_size), matrix(config.intermediate_size));
        let last = layout.reserve(DType::F32, sequences, config.hidden_size);
        let logits = layout.reserve(DType::F32, sequences, config.vocab_size);
        let [tokens, token_sequences, positions] = [0; 3].map(|_| layout.reserve(DType::U32, 1, chunk));
        let [cos, sin] = [0; 2].map(|_| layout.reserve(DType::F32, capacity, config.head_dim / 2));
        let total_bytes = layout.bytes();
        let plan = MemoryPlan {
            parameters_bytes,
            activations_bytes,
            scratch_bytes: total_bytes - parameters_bytes - activations_bytes,
            total_bytes,
            ..MemoryPlan::default()
        };
        DecodingLayout {
            plan,
            weights: region,
            sequences,
            capacity,
            cache,
            residual,
            normed,
            rstd,
            qkv,
            qk_rstd,
            attention,
            gate_up,
            hidden,
            last,
            logits,
            tokens,
            token_sequences,
            positions,
            cos,
            sin,
        }
    }
}
