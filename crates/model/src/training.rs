//! Forward and backward of a micro-batch, written out.
//!
//! A layer is x′ = x + Wo·attention(norm(x)), x″ = x′ + Wd·swiglu(norm(x′)). The forward keeps both streams,
//! rotated QKV, the attention's output and gate|up; norms' outputs and swiglu's are computed again in the
//! backward, which is cheaper than keeping them. With [`Training::recompute`] only the stream before each
//! layer is kept. The backward carries one gradient of the residual stream from the loss to the embedding. In
//! bfloat16 the streams stay f32, and products read copies of the weights that the optimizer rounds.

use crate::network::{Arrangement, Model, StateKind, at};
use crate::parameters::LayerWeights;
use crate::plan::{LayerActivations, Training, TrainingLayout};
use compute::device::{Attention, AttentionBackward, Gemm, LinearCrossEntropy, LinearCrossEntropyGradient};
use compute::rng;
use compute::{Batch, DType, Device, Tensor};

/// What a step did, read when the device is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Σ weight · loss over the step's tokens, in nats.
    pub loss_sum: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
    /// The gradient was not finite, so the optimizer changed nothing.
    pub skipped_non_finite: bool,
}

/// The handles of a batch's rows: a batch may be smaller than the plan.
struct Rows {
    n: usize,
    batch_size: usize,
    sequence_length: usize,
}

impl Rows {
    fn of(&self, t: Tensor) -> Tensor {
        t.row_range(0, self.n)
    }

    fn vector(&self, t: Tensor) -> Tensor {
        t.column_range(0, self.n)
    }
}

impl<D: Device> Model<D> {
    pub(crate) fn training(&self) -> TrainingLayout {
        match &self.layout {
            Arrangement::Train(layout, ..) => (**layout).clone(),
            Arrangement::Decode(..) => panic!("this model was built for decoding"),
        }
    }

    /// Clears the gradients and the loss.
    pub fn begin_step(&mut self) {
        let layout = self.training();
        let gradients = self.flat(layout.gradients);
        self.device.fill(gradients, 0.0);
        self.clear_loss(&layout);
    }

    /// Forward and backward of a micro-batch: adds its gradients, times `gradient_scale` (1 / trained tokens
    /// of the whole step), and its loss. `dropout_seed` decides what dropout drops, where the model has any.
    ///
    /// # Panics
    /// When the batch is larger than the model was laid out for.
    pub fn accumulate(&mut self, batch: &Batch, gradient_scale: f32, dropout_seed: u64) {
        let layout = self.training();
        let rows = self.upload_batch(&layout, batch);
        self.forward(&layout, &rows, Some(dropout_seed));
        self.loss(&layout, &rows, Some(gradient_scale));
        self.backward(&layout, &rows, dropout_seed);
    }

    /// Waits for the step and reads its figures.
    pub fn step_outcome(&mut self) -> StepOutcome {
        let layout = self.training();
        let squared_norm = self.device.download_scalar(layout.squared_norm);
        StepOutcome {
            loss_sum: self.device.download_scalar(layout.loss_sum),
            gradient_norm: squared_norm.sqrt(),
            skipped_non_finite: !squared_norm.is_finite(),
        }
    }

    /// Σ weight · loss of a batch, in nats. Changes neither weights nor gradients.
    ///
    /// # Panics
    /// When the batch is larger than the model was laid out for.
    pub fn evaluate(&mut self, batch: &Batch) -> f64 {
        let layout = self.training();
        let rows = self.upload_batch(&layout, batch);
        self.forward(&layout, &rows, None);
        self.clear_loss(&layout);
        self.loss(&layout, &rows, None);
        self.device.download_scalar(layout.loss_sum)
    }

    /// Logits (N, V) of a batch, for tests and exports. Full logits exist only here.
    pub fn logits(&mut self, batch: &Batch) -> Vec<f32> {
        let layout = self.training();
        let rows = self.upload_batch(&layout, batch);
        self.forward(&layout, &rows, None);
        let mut logits = Vec::new();
        let head = operand(&layout, self.weights.head);
        let chunk = layout.logits.rows;
        for first in (0..rows.n).step_by(chunk) {
            let len = chunk.min(rows.n - first);
            let out = layout.logits.row_range(0, len);
            self.linear(layout.normed.row_range(first, len), head, out, None);
            logits.extend(self.device.download(out));
        }
        logits
    }

    pub(crate) fn rounded_flat(&self, start: usize) -> Tensor {
        rounded(self.flat(0), start)
    }

    /// Makes the rounded copies anew after weights were replaced; the optimizer keeps them up to date from
    /// then on.
    fn round_weights(&mut self, layout: &TrainingLayout) {
        if let (Some(start), true) = (layout.rounded, self.rounded_is_stale) {
            let (from, to) = (self.flat(layout.weights), self.rounded_flat(start));
            self.device.copy(from, to);
        }
        self.rounded_is_stale = false;
    }

    /// A layer's weights as its kernels read them: matrices in the type of products.
    fn operands(&self, index: usize, layout: &TrainingLayout) -> LayerWeights {
        let w = self.weights.layers[index];
        LayerWeights {
            qkv: operand(layout, w.qkv),
            output: operand(layout, w.output),
            gate_up: operand(layout, w.gate_up),
            down: operand(layout, w.down),
            ..self.layer(index, layout.weights)
        }
    }

    fn clear_loss(&mut self, layout: &TrainingLayout) {
        // An empty sum of squares is the trait's way to write an f64 zero.
        let nothing = layout.token_weights.column_range(0, 0);
        self.device.squared_norm(nothing, layout.loss_sum);
    }

    fn upload_batch(&mut self, layout: &TrainingLayout, batch: &Batch) -> Rows {
        let Arrangement::Train(_, Training { batch_size, sequence_length, .. }) = self.layout else {
            panic!("this model was built for decoding");
        };
        let n = batch.batch_size * batch.sequence_length;
        assert!(
            n <= batch_size * sequence_length && batch.sequence_length <= sequence_length && n > 0,
            "a batch of {} × {} on a model laid out for {batch_size} × {sequence_length}",
            batch.batch_size,
            batch.sequence_length
        );
        let known = |ids: &[u32]| ids.iter().all(|&id| (id as usize) < self.config.vocab_size);
        assert!(known(&batch.tokens) && known(&batch.targets), "a batch has ids outside the vocabulary");
        for row in batch.document_starts.chunks(batch.sequence_length) {
            let ordered = row.windows(2).all(|pair| pair[0] <= pair[1]);
            let behind = row.iter().enumerate().all(|(at, &start)| start as usize <= at);
            assert!(ordered && behind, "document starts must not decrease, nor lie ahead of their token");
        }
        let rows = Rows { n, batch_size: batch.batch_size, sequence_length: batch.sequence_length };
        self.device.upload_ids(rows.vector(layout.tokens), &batch.tokens);
        self.device.upload_ids(rows.vector(layout.targets), &batch.targets);
        self.device.upload_ids(rows.vector(layout.document_starts), &batch.document_starts);
        let positions: Vec<u32> = (0..n).map(|row| (row % batch.sequence_length) as u32).collect();
        self.device.upload_ids(rows.vector(layout.positions), &positions);
        self.device.upload(rows.vector(layout.token_weights), &batch.weights);
        rows
    }

    /// From tokens to `normed`, the last norm's output.
    fn forward(&mut self, layout: &TrainingLayout, rows: &Rows, dropout_seed: Option<u64>) {
        self.round_weights(layout);
        let tokens = rows.vector(layout.tokens);
        let embedding = at(self.weights.embedding, layout.weights);
        self.device.embedding(tokens, embedding, rows.of(layout.residual[0]));
        self.dropout(rows.of(layout.residual[0]), dropout_seed, 0);
        for index in 0..self.config.num_hidden_layers {
            self.forward_layer(layout, rows, index, dropout_seed);
        }
        let x = rows.of(layout.residual[self.config.num_hidden_layers]);
        let norm = self.norm(x, at(self.weights.norm, layout.weights), rows.of(layout.final_rstd));
        self.device.rmsnorm(norm, rows.of(layout.normed));
    }

    fn forward_layer(
        &mut self,
        layout: &TrainingLayout,
        rows: &Rows,
        index: usize,
        dropout_seed: Option<u64>,
    ) {
        self.layer_activations(layout, rows, index, dropout_seed);
        let a = layout.layers[index];
        let (hidden, normed) = (rows.of(layout.hidden), rows.of(layout.normed));
        let (middle, out) = (rows.of(a.middle), rows.of(layout.residual[index + 1]));
        self.device.swiglu(rows.of(a.gate_up), hidden);
        let down = self.operands(index, layout).down;
        self.residual_linear(hidden, down, (middle, out), normed, dropout_seed, 2 * index + 2);
    }

    /// A layer from the stream before it to `gate_up`: all that its backward reads.
    fn layer_activations(
        &mut self,
        layout: &TrainingLayout,
        rows: &Rows,
        index: usize,
        dropout_seed: Option<u64>,
    ) {
        let w = self.operands(index, layout);
        let a = layout.layers[index];
        let (x, middle) = (rows.of(layout.residual[index]), rows.of(a.middle));
        let (normed, qkv) = (rows.of(layout.normed), rows.of(a.qkv));

        let norm = self.norm(x, w.attention_norm, rows.of(a.attention_rstd));
        self.device.rmsnorm(norm, normed);
        self.linear(normed, w.qkv, qkv, None);
        if let Some(bias) = w.qkv_bias {
            self.device.add_bias(qkv, bias);
        }
        if let (Some((raw, rstd)), Some(weights)) = (a.qk_raw, w.qk_norm) {
            let raw = rows.of(raw);
            self.device.copy(qkv.column_range(0, raw.columns), raw);
            for (norm, out) in self.qk_norms(raw, rows.of(rstd), weights, qkv) {
                self.device.rmsnorm(norm, out);
            }
        }
        self.rotate(qkv, [layout.cos, layout.sin], rows.vector(layout.positions), false);
        let attention = self.attention(layout, rows, &a);
        self.device.attention(attention);
        self.residual_linear(
            rows.of(a.attention),
            w.output,
            (x, middle),
            normed,
            dropout_seed,
            2 * index + 1,
        );

        let norm = self.norm(middle, w.mlp_norm, rows.of(a.mlp_rstd));
        self.device.rmsnorm(norm, normed);
        self.linear(normed, w.gate_up, rows.of(a.gate_up), None);
    }

    /// `out = residual + dropout(x · weightᵀ)`; without dropout the residual rides on the product.
    fn residual_linear(
        &mut self,
        x: Tensor,
        weight: Tensor,
        (residual, out): (Tensor, Tensor),
        scratch: Tensor,
        dropout_seed: Option<u64>,
        site: usize,
    ) {
        if self.config.dropout == 0.0 || dropout_seed.is_none() {
            self.linear(x, weight, out, Some(residual));
            return;
        }
        self.linear(x, weight, scratch, None);
        self.dropout(scratch, dropout_seed, site);
        self.device.copy(residual, out);
        self.device.add(out, scratch);
    }

    fn dropout(&mut self, x: Tensor, seed: Option<u64>, site: usize) {
        if let (Some(seed), true) = (seed, self.config.dropout > 0.0) {
            self.device.dropout(x, self.config.dropout, rng::mix(seed.wrapping_add(site as u64)));
        }
    }

    fn attention(&self, layout: &TrainingLayout, rows: &Rows, a: &LayerActivations) -> Attention {
        let [q, k, v] = self.split_qkv(rows.of(a.qkv));
        Attention {
            q,
            k,
            v,
            document_starts: rows.vector(layout.document_starts),
            out: rows.of(a.attention),
            lse: rows.of(a.lse),
            batch_size: rows.batch_size,
            sequence_length: rows.sequence_length,
            head_dim: self.config.head_dim,
            scale: self.attention_scale(),
        }
    }

    /// The norms of queries and of keys, from their raw form to their place in `qkv`.
    fn qk_norms(
        &self,
        raw: Tensor,
        rstd: Tensor,
        (q_weight, k_weight): (Tensor, Tensor),
        qkv: Tensor,
    ) -> [(compute::device::RmsNorm, Tensor); 2] {
        let (query, key) = (self.config.query_width(), self.config.key_value_width());
        let (heads, kv_heads) = (self.config.num_attention_heads, self.config.num_key_value_heads);
        [
            (
                self.norm(raw.column_range(0, query), q_weight, rstd.column_range(0, heads)),
                qkv.column_range(0, query),
            ),
            (
                self.norm(raw.column_range(query, key), k_weight, rstd.column_range(heads, kv_heads)),
                qkv.column_range(query, key),
            ),
        ]
    }

    /// The loss of `normed`, and with a scale the gradient: `d_normed`, and the head's into the gradients.
    fn loss(&mut self, layout: &TrainingLayout, rows: &Rows, gradient_scale: Option<f32>) {
        let gradient = gradient_scale.map(|scale| LinearCrossEntropyGradient {
            dx: rows.of(layout.d_normed),
            dweight: at(self.weights.head, layout.gradients),
            scale,
        });
        self.device.linear_cross_entropy(LinearCrossEntropy {
            x: rows.of(layout.normed),
            weight: operand(layout, self.weights.head),
            targets: rows.vector(layout.targets),
            weights: rows.vector(layout.token_weights),
            scratch: layout.logits,
            loss_sum: layout.loss_sum,
            gradient,
        });
    }

    /// From `d_normed` to the gradients of every weight.
    fn backward(&mut self, layout: &TrainingLayout, rows: &Rows, dropout_seed: u64) {
        let d_residual = rows.of(layout.d_residual);
        let x = rows.of(layout.residual[self.config.num_hidden_layers]);
        let norm = self.norm(x, at(self.weights.norm, layout.weights), rows.of(layout.final_rstd));
        let d_weight = at(self.weights.norm, layout.gradients);
        self.device.rmsnorm_backward(norm, rows.of(layout.d_normed), d_residual, true, d_weight);
        for index in (0..self.config.num_hidden_layers).rev() {
            // The last layer's activations are still there.
            if layout.recompute && index + 1 < self.config.num_hidden_layers {
                self.layer_activations(layout, rows, index, Some(dropout_seed));
            }
            self.backward_mlp(layout, rows, index, dropout_seed);
            self.backward_attention(layout, rows, index, dropout_seed);
        }
        self.dropout(d_residual, Some(dropout_seed), 0);
        let d_embedding = at(self.weights.embedding, layout.gradients);
        self.device.embedding_backward(rows.vector(layout.tokens), d_residual, d_embedding);
    }

    /// What reaches a block's output: the residual's gradient, through the block's dropout, in the type of
    /// operands.
    fn block_gradient(
        &mut self,
        layout: &TrainingLayout,
        rows: &Rows,
        dropout_seed: u64,
        site: usize,
    ) -> Tensor {
        let d_residual = rows.of(layout.d_residual);
        if self.config.dropout == 0.0 && layout.rounded.is_none() {
            return d_residual;
        }
        let masked = rows.of(layout.d_normed);
        self.device.copy(d_residual, masked);
        self.dropout(masked, Some(dropout_seed), site);
        masked
    }

    fn backward_mlp(&mut self, layout: &TrainingLayout, rows: &Rows, index: usize, dropout_seed: u64) {
        let (w, g) = (self.operands(index, layout), self.layer(index, layout.gradients));
        let a = layout.layers[index];
        let (gate_up, hidden, d_hidden) =
            (rows.of(a.gate_up), rows.of(layout.hidden), rows.of(layout.d_hidden));
        let (normed, d_normed, d_residual) =
            (rows.of(layout.normed), rows.of(layout.d_normed), rows.of(layout.d_residual));
        let middle = rows.of(a.middle);

        let d_out = self.block_gradient(layout, rows, dropout_seed, 2 * index + 2);
        self.input_gradient(d_out, w.down, d_hidden);
        self.device.swiglu_backward(gate_up, d_hidden, hidden);
        self.weight_gradient(d_out, hidden, g.down);
        let norm = self.norm(middle, w.mlp_norm, rows.of(a.mlp_rstd));
        self.device.rmsnorm(norm, normed);
        self.weight_gradient(gate_up, normed, g.gate_up);
        self.input_gradient(gate_up, w.gate_up, d_normed);
        self.device.rmsnorm_backward(norm, d_normed, d_residual, false, g.mlp_norm);
    }

    fn backward_attention(&mut self, layout: &TrainingLayout, rows: &Rows, index: usize, dropout_seed: u64) {
        let (w, g) = (self.operands(index, layout), self.layer(index, layout.gradients));
        let a = layout.layers[index];
        let (normed, d_normed, d_residual) =
            (rows.of(layout.normed), rows.of(layout.d_normed), rows.of(layout.d_residual));
        let (d_qkv, d_attention) = (rows.of(layout.d_qkv), rows.of(layout.d_attention));

        let d_out = self.block_gradient(layout, rows, dropout_seed, 2 * index + 1);
        self.weight_gradient(d_out, rows.of(a.attention), g.output);
        self.input_gradient(d_out, w.output, d_attention);
        let [dq, dk, dv] = self.split_qkv(d_qkv);
        let forward = self.attention(layout, rows, &a);
        self.device.attention_backward(AttentionBackward { forward, dout: d_attention, dq, dk, dv });
        self.rotate(d_qkv, [layout.cos, layout.sin], rows.vector(layout.positions), true);
        if let (Some((raw, rstd)), Some(weights), Some((dq_weight, dk_weight))) =
            (a.qk_raw, w.qk_norm, g.qk_norm)
        {
            let norms = self.qk_norms(rows.of(raw), rows.of(rstd), weights, d_qkv);
            for ((norm, d), d_weight) in norms.into_iter().zip([dq_weight, dk_weight]) {
                self.device.rmsnorm_backward(norm, d, d, true, d_weight);
            }
        }
        if let Some(bias) = g.qkv_bias {
            self.device.bias_backward(d_qkv, bias);
        }
        let norm = self.norm(rows.of(layout.residual[index]), w.attention_norm, rows.of(a.attention_rstd));
        self.device.rmsnorm(norm, normed);
        self.weight_gradient(d_qkv, normed, g.qkv);
        self.input_gradient(d_qkv, w.qkv, d_normed);
        self.device.rmsnorm_backward(norm, d_normed, d_residual, false, g.attention_norm);
    }

    /// `gradient += d_outᵀ · x`.
    fn weight_gradient(&mut self, d_out: Tensor, x: Tensor, gradient: Tensor) {
        self.device.gemm(Gemm {
            a: d_out,
            a_transposed: true,
            b: x,
            b_transposed: false,
            out: gradient,
            residual: None,
            accumulate: true,
        });
    }

    /// `d_x = d_out · weight`.
    fn input_gradient(&mut self, d_out: Tensor, weight: Tensor, d_x: Tensor) {
        self.device.gemm(Gemm {
            a: d_out,
            a_transposed: false,
            b: weight,
            b_transposed: false,
            out: d_x,
            residual: None,
            accumulate: false,
        });
    }

    /// Whether every weight, moment and mean is a finite number: a checkpoint must never hold anything else.
    pub fn state_is_finite(&mut self) -> bool {
        let layout = self.training();
        let scalar = layout.squared_norm;
        let kinds = [StateKind::Weight, StateKind::Moment1, StateKind::Moment2, StateKind::Average];
        kinds.into_iter().all(|kind| {
            let Some(flat) = self.whole(kind) else { return true };
            self.device.squared_norm(flat, scalar);
            self.device.download_scalar(scalar).is_finite()
        })
    }
}

/// A region-relative weight as products read it.
fn operand(layout: &TrainingLayout, weight: Tensor) -> Tensor {
    layout.rounded.map_or_else(|| at(weight, layout.weights), |start| rounded(weight, start))
}

/// The bfloat16 copy of a region-relative f32 handle, in the region that starts at `start`.
fn rounded(tensor: Tensor, start: usize) -> Tensor {
    let (from, to) = (tensor.dtype.size(), DType::Bf16.size());
    Tensor { offset: start + tensor.offset / from * to, dtype: DType::Bf16, ..tensor }
}
