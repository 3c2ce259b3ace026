//! The forward over a batch and its loss, which training and evaluation share.
//!
//! A layer is x′ = x + Wo·attention(norm(x)), x″ = x′ + Wd·swiglu(norm(x′)). Streams are f32; with bfloat16
//! everything beside them is bfloat16.

use crate::config::ModelConfig;
use crate::layout::{ForwardBuffers, TrainedRows};
use crate::linear::{Linear, LinearPass};
use crate::network::{Network, Norm};
use compute::device::{Attention, LinearCrossEntropy, LinearCrossEntropyGradient, RmsNorm, Rope};
use compute::{Batch, Device, Tensor, rng};

/// The part of the buffers that a batch uses, which may be smaller than the layout.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rows {
    pub n: usize,
    pub batch_size: usize,
    pub sequence_length: usize,
}

impl Rows {
    pub fn of(&self, t: Tensor) -> Tensor {
        t.row_range(0, self.n)
    }

    pub fn vector(&self, t: Tensor) -> Tensor {
        t.column_range(0, self.n)
    }
}

/// Positions of the tokens of sequences one after the other, on the device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions {
    host: Vec<u32>,
    /// T of the batches that they are for.
    sequence_length: usize,
    /// Of a batch: the first token that each token sees through the sliding window.
    window_starts: Vec<u32>,
}

impl Positions {
    /// For batches of sequences of this length; only another length than the last one's is uploaded.
    fn upload<D: Device>(&mut self, device: &mut D, to: Tensor, sequence_length: usize) {
        if self.sequence_length != sequence_length {
            self.sequence_length = sequence_length;
            self.host.clear();
            self.host.extend((0..to.columns).map(|row| (row % sequence_length) as u32));
            device.upload_ids(to, &self.host);
        }
    }
}

/// One forward: the device and what is read and written there.
pub(crate) struct Pass<'a, D: Device> {
    pub device: &'a mut D,
    pub config: &'a ModelConfig,
    pub network: &'a Network,
    pub buffers: &'a ForwardBuffers,
    pub rows: Rows,
    /// Probability of dropping an element of an adapter's input while training.
    pub adapter_dropout: f32,
    /// Compute the base alone.
    pub without_adapters: bool,
}

/// The four linear layers of a block, by which adapters' dropout tells them apart.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Qkv,
    Output,
    GateUp,
    Down,
}

/// Views of Q, K and V inside a (rows, (H + 2K)·d) matrix.
pub(crate) fn split_qkv(config: &ModelConfig, qkv: Tensor) -> [Tensor; 3] {
    let (query, key_value) = (config.query_width(), config.key_value_width());
    [
        qkv.column_range(0, query),
        qkv.column_range(query, key_value),
        qkv.column_range(query + key_value, key_value),
    ]
}

/// The norm of x.
pub(crate) fn rms_norm(config: &ModelConfig, x: Tensor, norm: Norm, rstd: Tensor) -> RmsNorm {
    RmsNorm { x, weight: norm.weight, rstd, eps: config.rms_norm_eps as f32 }
}

/// The rotation of queries and keys in place.
pub(crate) fn rotation(
    config: &ModelConfig,
    qkv: Tensor,
    [cos, sin]: [Tensor; 2],
    positions: Tensor,
    inverse: bool,
) -> Rope {
    let width = config.query_width() + config.key_value_width();
    Rope { x: qkv.column_range(0, width), cos, sin, positions, inverse }
}

/// 1/√d.
pub(crate) fn attention_scale(config: &ModelConfig) -> f32 {
    1.0 / (config.head_dim as f32).sqrt()
}

/// The norms of queries and of keys, each with its weight, from their raw form to their place in `qkv`.
pub(crate) fn qk_norms(
    config: &ModelConfig,
    raw: Tensor,
    rstd: Tensor,
    (query_norm, key_norm): (Norm, Norm),
    qkv: Tensor,
) -> [(RmsNorm, Tensor, Norm); 2] {
    let (query, key) = (config.query_width(), config.key_value_width());
    let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
    [(query_norm, 0, query, 0, heads), (key_norm, query, key, heads, kv_heads)].map(
        |(norm, first, width, first_head, heads)| {
            let rstd = rstd.column_range(first_head, heads);
            let op = rms_norm(config, raw.column_range(first, width), norm, rstd);
            (op, qkv.column_range(first, width), norm)
        },
    )
}

/// Uploads a batch and says which part of the buffers it uses.
///
/// # Panics
/// When the batch is larger than the layout, or not a batch of this model.
pub(crate) fn upload_batch<D: Device>(
    device: &mut D,
    config: &ModelConfig,
    buffers: &ForwardBuffers,
    positions: &mut Positions,
    batch: &Batch,
) -> Rows {
    let n = batch.batch_size * batch.sequence_length;
    let (capacity, longest) = (buffers.tokens.columns, buffers.cos.rows);
    assert!(
        n <= capacity && batch.sequence_length <= longest && n > 0,
        "a batch of {} × {} on a model laid out for {} × {longest}",
        batch.batch_size,
        batch.sequence_length,
        capacity / longest.max(1)
    );
    let known = |ids: &[u32]| ids.iter().all(|&id| (id as usize) < config.vocab_size);
    assert!(known(&batch.tokens) && known(&batch.targets), "a batch has ids outside the vocabulary");
    for row in batch.document_starts.chunks(batch.sequence_length) {
        let ordered = row.windows(2).all(|pair| pair[0] <= pair[1]);
        let behind = row.iter().enumerate().all(|(at, &start)| start as usize <= at);
        assert!(ordered && behind, "document starts must not decrease, nor lie ahead of their token");
    }
    let rows = Rows { n, batch_size: batch.batch_size, sequence_length: batch.sequence_length };
    device.upload_ids(rows.vector(buffers.tokens), &batch.tokens);
    device.upload_ids(rows.vector(buffers.targets), &batch.targets);
    device.upload_ids(rows.vector(buffers.document_starts), &batch.document_starts);
    if let (Some(window), Some(to)) = (config.sliding_window, buffers.window_starts) {
        let first_seen = |(at, &start): (usize, &u32)| {
            let within = at % batch.sequence_length;
            start.max((within + 1).saturating_sub(window) as u32)
        };
        positions.window_starts.clear();
        positions.window_starts.extend(batch.document_starts.iter().enumerate().map(first_seen));
        device.upload_ids(rows.vector(to), &positions.window_starts);
    }
    positions.upload(device, buffers.positions, batch.sequence_length);
    device.upload(rows.vector(buffers.token_weights), &batch.weights);
    rows
}

/// Prepares [`Pass::gathered_loss`] of a batch that is uploaded: the number of rows that are trained; `None`
/// where they are so many that gathering them is not worth it, or none.
pub(crate) fn gather_trained<D: Device>(
    device: &mut D,
    config: &ModelConfig,
    buffers: &ForwardBuffers,
    batch: &Batch,
    room: Tensor,
) -> Option<usize> {
    let TrainedRows { gather, scatter } = buffers.trained_rows?;
    let trained: Vec<usize> = (0..batch.weights.len()).filter(|&row| batch.weights[row] != 0.0).collect();
    let (n, count) = (batch.weights.len(), trained.len());
    let d = config.hidden_size;
    if count == 0 || count >= n * 9 / 10 || d > buffers.hidden.columns {
        return None;
    }
    let mut places = vec![count as u32; n];
    for (place, &row) in trained.iter().enumerate() {
        places[row] = place as u32;
    }
    let ids = |of: &dyn Fn(usize) -> u32| trained.iter().map(|&row| of(row)).collect::<Vec<u32>>();
    let weights: Vec<f32> = trained.iter().map(|&row| batch.weights[row]).collect();
    device.upload_ids(gather.column_range(0, count), &ids(&|row| row as u32));
    device.upload_ids(scatter.column_range(0, n), &places);
    device.upload_ids(buffers.targets.column_range(0, count), &ids(&|row| batch.targets[row]));
    device.upload(buffers.token_weights.column_range(0, count), &weights);
    device.upload(room.column_range(0, d).row_range(count, 1), &vec![0.0; d]);
    Some(count)
}

impl<D: Device> Pass<'_, D> {
    /// From tokens to `normed`, the last norm's output. `dropout_seed` decides what dropout drops; without it
    /// nothing is dropped.
    pub fn forward(&mut self, dropout_seed: Option<u64>) {
        let (buffers, rows) = (self.buffers, self.rows);
        let first = rows.of(buffers.residual[0]);
        self.device.embedding(rows.vector(buffers.tokens), self.network.embedding, first);
        self.dropout(first, dropout_seed, 0);
        for index in 0..self.network.layers.len() {
            self.layer(index, dropout_seed);
        }
        let x = rows.of(buffers.residual[self.network.layers.len()]);
        self.device.rmsnorm(self.final_norm(x), rows.of(buffers.normed));
    }

    /// The norm before the head, of the last stream.
    pub fn final_norm(&self, x: Tensor) -> RmsNorm {
        rms_norm(self.config, x, self.network.norm, self.rows.of(self.buffers.final_rstd))
    }

    fn layer(&mut self, index: usize, dropout_seed: Option<u64>) {
        self.activations(index, dropout_seed);
        let (buffers, rows) = (self.buffers, self.rows);
        let a = &buffers.layers[index];
        let hidden = rows.of(buffers.hidden);
        let streams = (rows.of(a.middle), rows.of(buffers.residual[index + 1]));
        self.device.swiglu(rows.of(a.gate_up), hidden);
        let down = (&self.network.layers[index].down, self.linear(index, Place::Down, dropout_seed));
        self.add_to_residual(hidden, down, streams, dropout_seed, 2 * index + 2);
    }

    /// What a linear layer of block `index` needs.
    pub fn linear(&self, index: usize, place: Place, dropout_seed: Option<u64>) -> LinearPass {
        let p = self.adapter_dropout;
        let seed = dropout_seed.filter(|_| p > 0.0);
        // Apart from the seeds of the model's own sites.
        let of_place = |seed: u64| rng::mix(!seed.wrapping_add((4 * index + place as usize) as u64));
        let pass = LinearPass::of(&self.buffers.linear, seed.map(|seed| (p, of_place(seed))));
        LinearPass { adapter: pass.adapter.filter(|_| !self.without_adapters), ..pass }
    }

    /// A layer from the stream before it to `gate_up`: all that its backward reads.
    pub fn activations(&mut self, index: usize, dropout_seed: Option<u64>) {
        let (buffers, rows) = (self.buffers, self.rows);
        let (w, a) = (&self.network.layers[index], &buffers.layers[index]);
        let (x, middle) = (rows.of(buffers.residual[index]), rows.of(a.middle));
        let (normed, qkv) = (rows.of(buffers.normed), rows.of(a.qkv));

        let norm = rms_norm(self.config, x, w.attention_norm, rows.of(a.attention_rstd));
        self.device.rmsnorm(norm, normed);
        let pass = self.linear(index, Place::Qkv, dropout_seed);
        w.qkv.forward(self.device, normed, qkv, None, &pass);
        if let (Some((raw, rstd)), Some(norms)) = (a.qk_raw, w.qk_norm) {
            let raw = rows.of(raw);
            self.device.copy(qkv.column_range(0, raw.columns), raw);
            for (norm, out, _) in qk_norms(self.config, raw, rows.of(rstd), norms, qkv) {
                self.device.rmsnorm(norm, out);
            }
        }
        if self.config.is_rotated(index) {
            let positions = rows.vector(buffers.positions);
            self.device.rope(rotation(self.config, qkv, [buffers.cos, buffers.sin], positions, false));
        }
        self.device.attention(self.attention(index));
        let output = (&w.output, self.linear(index, Place::Output, dropout_seed));
        self.add_to_residual(rows.of(a.attention), output, (x, middle), dropout_seed, 2 * index + 1);

        let norm = rms_norm(self.config, middle, w.mlp_norm, rows.of(a.mlp_rstd));
        self.device.rmsnorm(norm, normed);
        let pass = self.linear(index, Place::GateUp, dropout_seed);
        w.gate_up.forward(self.device, normed, rows.of(a.gate_up), None, &pass);
    }

    /// `out = residual + dropout(linear(x))`; without dropout the residual is added by the product.
    fn add_to_residual(
        &mut self,
        x: Tensor,
        (linear, pass): (&Linear, LinearPass),
        (residual, out): (Tensor, Tensor),
        dropout_seed: Option<u64>,
        site: usize,
    ) {
        if self.config.dropout == 0.0 || dropout_seed.is_none() {
            linear.forward(self.device, x, out, Some(residual), &pass);
            return;
        }
        let scratch = self.rows.of(self.buffers.normed);
        linear.forward(self.device, x, scratch, None, &pass);
        self.dropout(scratch, dropout_seed, site);
        self.device.copy(residual, out);
        self.device.add(out, scratch);
    }

    /// Drops elements of x at one of the model's sites for dropout: 0 after the embedding, then two a layer.
    pub fn dropout(&mut self, x: Tensor, seed: Option<u64>, site: usize) {
        if let (Some(seed), true) = (seed, self.config.dropout > 0.0) {
            self.device.dropout(x, self.config.dropout, rng::mix(seed.wrapping_add(site as u64)));
        }
    }

    /// The attention of a layer.
    pub fn attention(&self, index: usize) -> Attention {
        let (rows, a) = (self.rows, &self.buffers.layers[index]);
        let starts = match (self.config.window(index), self.buffers.window_starts) {
            (Some(_), Some(starts)) => starts,
            _ => self.buffers.document_starts,
        };
        let [q, k, v] = split_qkv(self.config, rows.of(a.qkv));
        Attention {
            q,
            k,
            v,
            document_starts: rows.vector(starts),
            out: rows.of(a.attention),
            lse: rows.of(a.lse),
            batch_size: rows.batch_size,
            sequence_length: rows.sequence_length,
            head_dim: self.config.head_dim,
            scale: attention_scale(self.config),
        }
    }

    /// Sets the loss to 0.
    pub fn clear_loss(&mut self) {
        // An empty sum of squares is the trait's way to write an f64 zero.
        let nothing = self.buffers.token_weights.column_range(0, 0);
        self.device.squared_norm(nothing, self.buffers.loss_sum);
    }

    /// Adds the loss of `normed`, and with a gradient that of the loss.
    pub fn loss(&mut self, gradient: Option<LinearCrossEntropyGradient>) {
        let (buffers, rows) = (self.buffers, self.rows);
        self.device.linear_cross_entropy(LinearCrossEntropy {
            x: rows.of(buffers.normed),
            weight: self.network.head.operand,
            targets: rows.vector(buffers.targets),
            weights: rows.vector(buffers.token_weights),
            scratch: buffers.logits,
            loss_sum: buffers.loss_sum,
            gradient,
        });
    }

    /// As [`Pass::loss`] for the `count` rows that are trained and a head that is frozen: the others' logits
    /// are never computed. `room`: (N, at least D) for the rows' gradient.
    pub fn gathered_loss(&mut self, count: usize, gradient: LinearCrossEntropyGradient, room: Tensor) {
        let d = self.config.hidden_size;
        let Some(TrainedRows { scatter, .. }) = self.buffers.trained_rows else { return };
        let dx = room.column_range(0, d).row_range(0, count);
        self.trained_loss(count, Some(LinearCrossEntropyGradient { dx, ..gradient }));
        // Rows that are not trained get the row of zeros behind the others.
        let whole = room.column_range(0, d).row_range(0, count + 1);
        self.device.embedding(self.rows.vector(scatter), whole, gradient.dx);
    }

    /// Adds the loss of the `count` rows whose ids, targets and weights are uploaded.
    pub fn trained_loss(&mut self, count: usize, gradient: Option<LinearCrossEntropyGradient>) {
        let (buffers, d) = (self.buffers, self.config.hidden_size);
        let Some(TrainedRows { gather, .. }) = buffers.trained_rows else { return };
        // Not in use between the layers' forward and backward.
        let x = buffers.hidden.column_range(0, d).row_range(0, count);
        self.device.embedding(gather.column_range(0, count), self.rows.of(buffers.normed), x);
        self.device.linear_cross_entropy(LinearCrossEntropy {
            x,
            weight: self.network.head.operand,
            targets: buffers.targets.column_range(0, count),
            weights: buffers.token_weights.column_range(0, count),
            scratch: buffers.logits,
            loss_sum: buffers.loss_sum,
            gradient,
        });
    }

    /// Σ weight · loss of a batch that is uploaded, in nats.
    pub fn evaluate(&mut self) -> f64 {
        self.forward(None);
        self.clear_loss();
        self.loss(None);
        self.device.download_scalar(self.buffers.loss_sum)
    }

    /// Logits (N, V) of a batch that is uploaded.
    pub fn logits(&mut self) -> Vec<f32> {
        self.forward(None);
        let buffers = self.buffers;
        let chunk = buffers.logits.rows;
        let mut logits = Vec::with_capacity(self.rows.n * self.config.vocab_size);
        for first in (0..self.rows.n).step_by(chunk) {
            let len = chunk.min(self.rows.n - first);
            let out = buffers.logits.row_range(0, len);
            let normed = buffers.normed.row_range(first, len);
            self.network.head.forward(self.device, normed, out, None, &LinearPass::default());
            logits.extend(self.device.download(out));
        }
        logits
    }
}
