//! Arenas, walked once: each purpose's handles, and the bytes of each part.

use crate::config::ModelConfig;
use crate::linear::{AdapterScratch, LinearBuffers, ScaledOutputs};
use crate::network::{Extremes, Network, RegionBytes, Regions};
use crate::parameters::{Parameter, Role, Storage};
use crate::purpose::{Decoding, Evaluation, Optimizer, Precision, Training};
use compute::{DType, Layout, Tensor};
use serde::Serialize;

/// Bytes of the arena by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Weights, rounded copies for products included.
    pub parameters_bytes: usize,
    /// Gradients of trained weights.
    pub gradients_bytes: usize,
    /// Optimizer state: moments, and the weight average.
    pub moments_bytes: usize,
    /// Activations stored for the backward pass; the key/value cache for decoding.
    pub activations_bytes: usize,
    /// Buffers shared by all layers, rotary tables, inputs.
    pub scratch_bytes: usize,
    /// The arena.
    pub total_bytes: usize,
}

/// Bytes reserved since the last question.
struct Taken(usize);

impl Taken {
    fn since(&mut self, layout: &Layout) -> usize {
        layout.bytes() - std::mem::replace(&mut self.0, layout.bytes())
    }
}

fn region(layout: &mut Layout, bytes: usize) -> usize {
    layout.reserve(DType::F32, 1, bytes / DType::F32.size()).offset
}

fn sizes(config: &ModelConfig, storage: &Storage) -> (RegionBytes, Extremes) {
    let network = Network::new(config, storage, &Regions::default());
    (network.bytes, network.extremes)
}

/// Buffers of adapters. `has_dropout`: whether adapters drop elements of their input; `is_trained`: whether
/// there is a backward.
fn linear_buffers(
    layout: &mut Layout,
    (element, rows): (DType, usize),
    extremes: &Extremes,
    (has_dropout, is_trained): (bool, bool),
) -> LinearBuffers {
    let mut flat = |columns: usize| layout.reserve(element, 1, rows * columns);
    let adapter = (extremes.adapter_rows > 0).then(|| {
        let hidden = flat(extremes.adapter_rows);
        let d_hidden = if is_trained { flat(extremes.adapter_rows) } else { hidden };
        let input = has_dropout.then(|| flat(extremes.adapter_input));
        let scaled = (extremes.scaled_output > 0).then(|| {
            let output = flat(extremes.scaled_output);
            let d_output = if is_trained { flat(extremes.scaled_output) } else { output };
            ScaledOutputs { output, d_output }
        });
        AdapterScratch { hidden, d_hidden, input, scaled }
    });
    LinearBuffers { adapter, dequantized: None }
}

/// Activations of one layer stored for its backward pass. The residual streams are stored separately.
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

/// The buffers of a forward over a batch.
#[derive(Clone, Debug)]
pub(crate) struct ForwardBuffers {
    /// Of each layer; one and the same where nothing is kept.
    pub layers: Vec<LayerActivations>,
    /// (N, D) before each layer, and after the last.
    pub residual: Vec<Tensor>,
    pub final_rstd: Tensor,
    /// (N, D): a norm's output.
    pub normed: Tensor,
    /// (N, F).
    pub hidden: Tensor,
    /// (chunk, V).
    pub logits: Tensor,
    /// (1, N) each.
    pub tokens: Tensor,
    pub targets: Tensor,
    pub document_starts: Tensor,
    /// (1, N): the same for layers with a sliding window, where the model has one.
    pub window_starts: Option<Tensor>,
    pub positions: Tensor,
    pub token_weights: Tensor,
    /// (T, d/2) each.
    pub cos: Tensor,
    pub sin: Tensor,
    /// (1, 1) of f64.
    pub loss_sum: Tensor,
    pub linear: LinearBuffers,
    /// Of a model with adapters, whose head is frozen: rows of its loss.
    pub trained_rows: Option<TrainedRows>,
}

/// Ids by which rows that are trained are gathered for the head, and its gradient put back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrainedRows {
    /// (1, N): the rows that are trained, of which there may be fewer.
    pub gather: Tensor,
    /// (1, N): the place of each row among them; behind the last for the others.
    pub scatter: Tensor,
}

impl TrainedRows {
    fn new(layout: &mut Layout, rows: usize) -> TrainedRows {
        let [gather, scatter] = [0; 2].map(|_| layout.reserve(DType::U32, 1, rows));
        TrainedRows { gather, scatter }
    }
}

/// The sizes of a batch's buffers and their type.
struct Extent {
    /// N.
    rows: usize,
    sequence_length: usize,
    element: DType,
    logits_bytes: usize,
}

impl Extent {
    /// `middle`: a stream to use instead of one of the layer's own.
    fn layer(&self, config: &ModelConfig, layout: &mut Layout, middle: Option<Tensor>) -> LayerActivations {
        let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let element = self.element;
        let mut matrix = |dtype, columns| layout.reserve_spaced(dtype, self.rows, columns);
        LayerActivations {
            middle: middle.unwrap_or_else(|| matrix(DType::F32, config.hidden_size)),
            attention_rstd: matrix(DType::F32, 1),
            qkv: matrix(element, config.qkv_width()),
            qk_raw: config.qk_norm.then(|| {
                let raw = matrix(element, (heads + kv_heads) * config.head_dim);
                (raw, matrix(DType::F32, heads + kv_heads))
            }),
            attention: matrix(element, config.query_width()),
            lse: matrix(DType::F32, heads),
            mlp_rstd: matrix(DType::F32, 1),
            gate_up: matrix(element, 2 * config.intermediate_size),
        }
    }

    fn logits(&self, config: &ModelConfig, layout: &mut Layout) -> Tensor {
        let chunk = (self.logits_bytes / (config.vocab_size * DType::F32.size())).max(config.hidden_size);
        let chunks = self.rows.div_ceil(chunk.max(16));
        layout.reserve_spaced(DType::F32, self.rows.div_ceil(chunks), config.vocab_size)
    }
}

/// Scratch space of Muon, in the type of matrix products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MuonBuffers {
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

/// The different shapes of the matrices that Muon updates.
pub(crate) fn muon_shapes(parameters: &[Parameter]) -> Vec<(usize, usize)> {
    let hidden = parameters.iter().filter(|parameter| parameter.role == Role::Hidden);
    let mut shapes: Vec<_> = hidden.map(|parameter| (parameter.shape[0], parameter.shape[1])).collect();
    shapes.sort_unstable();
    shapes.dedup();
    shapes
}

impl MuonBuffers {
    fn new(parameters: &[Parameter], element: DType, layout: &mut Layout) -> MuonBuffers {
        let shapes = muon_shapes(parameters);
        let longest = shapes.iter().map(|(rows, columns)| rows * columns).max().unwrap_or(0);
        let side = shapes.iter().map(|(rows, columns)| *rows.min(columns)).max().unwrap_or(0);
        let mut buffer = |len| layout.reserve(element, 1, len);
        let (x, next) = (buffer(longest), buffer(longest));
        let (gram, square) = (buffer(side * side), buffer(side * side));
        MuonBuffers { x, next, gram, square, squared_norm: layout.reserve(DType::F64, 1, 1) }
    }
}

/// The regions of trained parameters beside their weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateRegions {
    pub moment1: usize,
    /// With Muon it begins where the layers' matrices end: nothing before that is read or written.
    pub moment2: usize,
    /// Bytes at the beginning of `moment2` that do not exist.
    pub moment2_absent: usize,
    /// Of the master weights; changes places with them.
    pub average: Option<usize>,
}

/// All handles that training needs.
#[derive(Clone, Debug)]
pub(crate) struct TrainingLayout {
    pub plan: MemoryPlan,
    pub regions: Regions,
    pub state: StateRegions,
    pub muon: Option<MuonBuffers>,
    pub recompute: bool,
    pub forward: ForwardBuffers,
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
    /// (1, 1) of f64.
    pub squared_norm: Tensor,
}

impl TrainingLayout {
    pub fn new(config: &ModelConfig, training: &Training) -> TrainingLayout {
        let &Training { batch_size, sequence_length, precision, recompute, optimizer, .. } = training;
        let network = Network::new(config, &training.storage(), &Regions::default());
        let bytes = network.bytes;
        let element = precision.dtype();
        let mut layout = Layout::new();
        let mut taken = Taken(0);
        let mut plan = MemoryPlan::default();

        let master = region(&mut layout, bytes.master);
        let frozen = region(&mut layout, bytes.frozen);
        plan.parameters_bytes = taken.since(&layout);
        let gradients = region(&mut layout, bytes.state);
        plan.gradients_bytes = taken.since(&layout);
        let moment1 = region(&mut layout, bytes.state);
        let moment2_absent = if optimizer == Optimizer::Muon { bytes.hidden_state } else { 0 };
        let moment2 = region(&mut layout, bytes.state - moment2_absent) - moment2_absent;
        let average = training.average.then(|| region(&mut layout, bytes.master));
        plan.moments_bytes = taken.since(&layout);
        let rounded = (precision != Precision::F32)
            .then(|| layout.reserve(element, 1, bytes.master / DType::F32.size()).offset);
        plan.parameters_bytes += taken.since(&layout);

        let n = batch_size * sequence_length;
        let logits_bytes = training.logits_bytes;
        let extent = Extent { rows: n, sequence_length, element, logits_bytes };
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let layers = config.num_hidden_layers;
        let residual = (0..=layers).map(|_| layout.reserve_spaced(DType::F32, n, d)).collect();
        let activations = match recompute {
            true => vec![extent.layer(config, &mut layout, None); layers],
            false => (0..layers).map(|_| extent.layer(config, &mut layout, None)).collect(),
        };
        let final_rstd = layout.reserve_spaced(DType::F32, n, 1);
        plan.activations_bytes = taken.since(&layout);

        let d_residual = layout.reserve(DType::F32, n, d);
        let mut matrix = |columns| layout.reserve_spaced(element, n, columns);
        let (normed, hidden, d_normed, d_hidden) = (matrix(d), matrix(f), matrix(d), matrix(f));
        let (d_qkv, d_attention) = (matrix(config.qkv_width()), matrix(config.query_width()));
        let has_dropout = training.adapter.as_ref().is_some_and(|adapter| adapter.dropout > 0.0);
        let size = (element, n);
        let mut linear = linear_buffers(&mut layout, size, &network.extremes, (has_dropout, true));
        let largest = network.extremes.block_matrix;
        linear.dequantized = (largest > 0).then(|| layout.reserve(element, 1, largest));
        let mut forward =
            extent.forward(config, &mut layout, (residual, activations, final_rstd), (normed, hidden));
        forward.linear = linear;
        forward.trained_rows = training.adapter.as_ref().map(|_| TrainedRows::new(&mut layout, n));
        let squared_norm = layout.reserve(DType::F64, 1, 1);
        let muon = (optimizer == Optimizer::Muon)
            .then(|| MuonBuffers::new(&network.parameters, element, &mut layout));
        plan.scratch_bytes = taken.since(&layout);
        plan.total_bytes = layout.bytes();
        TrainingLayout {
            plan,
            regions: Regions { master, rounded, frozen, gradients },
            state: StateRegions { moment1, moment2, moment2_absent, average },
            muon,
            recompute,
            forward,
            d_residual,
            d_normed,
            d_hidden,
            d_qkv,
            d_attention,
            squared_norm,
        }
    }
}

/// (streams, activations of layers, rstd of the last norm).
type Kept = (Vec<Tensor>, Vec<LayerActivations>, Tensor);

impl Extent {
    /// The rest of the forward's buffers beside what is kept for a backward.
    fn forward(
        &self,
        config: &ModelConfig,
        layout: &mut Layout,
        (residual, layers, final_rstd): Kept,
        (normed, hidden): (Tensor, Tensor),
    ) -> ForwardBuffers {
        let logits = self.logits(config, layout);
        let [tokens, targets, document_starts, positions] =
            [0; 4].map(|_| layout.reserve(DType::U32, 1, self.rows));
        let window_starts = config.sliding_window.map(|_| layout.reserve(DType::U32, 1, self.rows));
        let token_weights = layout.reserve(DType::F32, 1, self.rows);
        let [cos, sin] =
            [0; 2].map(|_| layout.reserve(DType::F32, self.sequence_length, config.head_dim / 2));
        let loss_sum = layout.reserve(DType::F64, 1, 1);
        ForwardBuffers {
            layers,
            residual,
            final_rstd,
            normed,
            hidden,
            logits,
            tokens,
            targets,
            document_starts,
            window_starts,
            positions,
            token_weights,
            cos,
            sin,
            loss_sum,
            linear: LinearBuffers::default(),
            trained_rows: None,
        }
    }
}

/// All handles that evaluation needs: weights in the type of products, and the activations of one layer.
#[derive(Clone, Debug)]
pub(crate) struct EvaluationLayout {
    pub plan: MemoryPlan,
    pub regions: Regions,
    pub forward: ForwardBuffers,
}

impl EvaluationLayout {
    pub fn new(config: &ModelConfig, evaluation: &Evaluation) -> EvaluationLayout {
        let element = evaluation.precision.dtype();
        let (bytes, extremes) = sizes(config, &evaluation.storage());
        let mut layout = Layout::new();
        let frozen = region(&mut layout, bytes.frozen);
        let parameters_bytes = layout.bytes();
        let sequence_length = evaluation.sequence_length;
        let rows = evaluation.batch_size * sequence_length;
        let extent = Extent { rows, sequence_length, element, logits_bytes: evaluation.logits_bytes };
        // One stream, to which each block adds.
        let stream = layout.reserve_spaced(DType::F32, rows, config.hidden_size);
        let layer = extent.layer(config, &mut layout, Some(stream));
        let final_rstd = layout.reserve_spaced(DType::F32, rows, 1);
        let mut matrix = |columns| layout.reserve_spaced(element, rows, columns);
        let (normed, hidden) = (matrix(config.hidden_size), matrix(config.intermediate_size));
        let layers = config.num_hidden_layers;
        let kept = (vec![stream; layers + 1], vec![layer; layers], final_rstd);
        let mut forward = extent.forward(config, &mut layout, kept, (normed, hidden));
        forward.linear = linear_buffers(&mut layout, (element, rows), &extremes, (false, false));
        let total_bytes = layout.bytes();
        let scratch_bytes = total_bytes - parameters_bytes;
        EvaluationLayout {
            plan: MemoryPlan { parameters_bytes, scratch_bytes, total_bytes, ..MemoryPlan::default() },
            regions: Regions { frozen, ..Regions::default() },
            forward,
        }
    }
}

/// All handles that decoding needs.
#[derive(Clone, Debug)]
pub(crate) struct DecodingLayout {
    pub plan: MemoryPlan,
    pub regions: Regions,
    pub sequences: usize,
    /// Capacity per sequence, in tokens.
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
    /// The first position that each token sees in layers with a sliding window, where the model has one.
    pub first_positions: Option<Tensor>,
    pub cos: Tensor,
    pub sin: Tensor,
    pub linear: LinearBuffers,
}

/// Prompt tokens that go through the layers together.
const PREFILL_CHUNK: usize = 512;

impl DecodingLayout {
    pub fn new(config: &ModelConfig, decoding: &Decoding) -> DecodingLayout {
        let (bytes, extremes) = sizes(config, &decoding.storage());
        let mut layout = Layout::new();
        let frozen = region(&mut layout, bytes.frozen);
        let size = (decoding.sequences.max(1), decoding.max_sequence.max(1));
        let regions = Regions { frozen, ..Regions::default() };
        DecodingLayout::beside(layout, regions, config, &extremes, decoding.weights.cache(), size)
    }

    /// For one sequence and the weights of a model in training, in the memory of its activations; `None`:
    /// they take less.
    pub fn within(
        trained: &TrainingLayout,
        config: &ModelConfig,
        training: &Training,
        capacity: usize,
    ) -> Option<DecodingLayout> {
        let (_, extremes) = sizes(config, &training.storage());
        let start = trained.forward.residual.first()?.offset;
        let mut layout = Layout::new();
        region(&mut layout, start);
        let element = training.precision.dtype();
        let dequantized =
            (extremes.block_matrix > 0).then(|| layout.reserve(element, 1, extremes.block_matrix));
        let size = (1, capacity.max(1));
        let mut found = DecodingLayout::beside(layout, trained.regions, config, &extremes, element, size);
        found.linear.dequantized = dequantized;
        (found.plan.total_bytes <= start + trained.plan.activations_bytes).then_some(found)
    }

    /// Cache and buffers behind what `layout` has already. `cache`: the type of keys and values.
    fn beside(
        mut layout: Layout,
        regions: Regions,
        config: &ModelConfig,
        extremes: &Extremes,
        cache: DType,
        (sequences, capacity): (usize, usize),
    ) -> DecodingLayout {
        let parameters_bytes = layout.bytes();
        let (rows, width) = (sequences.saturating_mul(capacity), config.key_value_width());
        let cache = (0..config.num_hidden_layers)
            .map(|_| {
                let [keys, values] = [0; 2].map(|_| layout.reserve(cache, rows, width));
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
        let first_positions = config.sliding_window.map(|_| layout.reserve(DType::U32, 1, chunk));
        let [cos, sin] = [0; 2].map(|_| layout.reserve(DType::F32, capacity, config.head_dim / 2));
        let size = (DType::F32, chunk);
        let linear = linear_buffers(&mut layout, size, extremes, (false, false));
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
            regions,
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
            first_positions,
            cos,
            sin,
            linear,
        }
    }
}
