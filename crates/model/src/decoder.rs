//! Decoding with a key/value cache: prompts in chunks, then one token of each sequence at a time.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::forward::{attention_scale, qk_norms, rms_norm, rotation, split_qkv};
use crate::layout::{DecodingLayout, MemoryPlan};
use crate::linear::LinearPass;
use crate::purpose::Decoding;
use crate::weights::Weights;
use compute::device::CachedAttention;
use compute::{Device, Tensor};

/// A model that continues sequences: weights in the types asked for, and a key/value cache.
pub struct Decoder<D: Device> {
    weights: Weights<D>,
    sequences: Sequences,
}

/// A model in training that continues a sequence, in memory that its next step overwrites.
pub struct TrainedDecoder<'a, D: Device> {
    weights: &'a mut Weights<D>,
    sequences: Sequences,
}

/// Sequences that are continued: their key/value cache and the buffers beside it, on the device of some
/// weights.
pub(crate) struct Sequences {
    layout: DecodingLayout,
    /// Tokens in the key/value cache, of each sequence.
    past: Vec<usize>,
}

/// A token on its way to its sequence.
#[derive(Clone, Copy)]
struct Row {
    sequence: usize,
    position: usize,
    token: u32,
}

impl<D: Device> Decoder<D> {
    /// Lays the model out on `device`. Weights are zeros until they are uploaded.
    ///
    /// # Errors
    /// A configuration that cannot be built; a device without the memory.
    pub fn new(device: D, config: ModelConfig, decoding: Decoding) -> Result<Decoder<D>> {
        config.validate()?;
        let layout = DecodingLayout::new(&config, &decoding);
        let storage = decoding.storage();
        let (tables, bytes) = ([layout.cos, layout.sin], layout.plan.total_bytes);
        let weights = Weights::allocate(device, config, storage, layout.regions, tables, bytes)?;
        Ok(Decoder { weights, sequences: Sequences::new(layout) })
    }

    /// The weights.
    pub fn weights(&self) -> &Weights<D> {
        &self.weights
    }

    /// The weights, to replace them.
    pub fn weights_mut(&mut self) -> &mut Weights<D> {
        &mut self.weights
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        self.weights.config()
    }

    /// The arena's bytes by part.
    pub fn plan(&self) -> MemoryPlan {
        self.sequences.layout.plan
    }

    /// Clears all sequences.
    pub fn reset(&mut self) {
        self.sequences.past.fill(0);
    }

    /// Clears one sequence.
    ///
    /// # Panics
    /// When the model was laid out for fewer.
    pub fn forget(&mut self, sequence: usize) {
        self.sequences.past[sequence] = 0;
    }

    /// Keeps only the first `tokens` of a sequence.
    ///
    /// # Panics
    /// When the model was laid out for fewer sequences.
    pub fn truncate(&mut self, sequence: usize, tokens: usize) {
        let past = &mut self.sequences.past[sequence];
        *past = (*past).min(tokens);
    }

    /// Number of sequences that are continued together.
    pub fn sequences(&self) -> usize {
        self.sequences.past.len()
    }

    /// Capacity of the cache per sequence, in tokens.
    pub fn capacity(&self) -> usize {
        self.sequences.layout.capacity
    }

    /// Tokens of a sequence in the cache.
    ///
    /// # Panics
    /// When the model was laid out for fewer sequences.
    pub fn context_used(&self, sequence: usize) -> usize {
        self.sequences.past[sequence]
    }

    /// Appends `tokens` to sequence 0 and returns the logits (V) that follow the last one.
    ///
    /// # Errors
    /// As [`Decoder::decode_each`].
    pub fn decode(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.decode_each(&[(0, tokens)])
    }

    /// Appends tokens to several sequences and returns the logits (parts, V) that follow the last one of
    /// each.
    ///
    /// # Errors
    /// [`Error::ContextFull`]; nothing was appended then. [`Error::Tensor`] for a token outside the
    /// vocabulary, or no token at all.
    ///
    /// # Panics
    /// When a sequence is named twice, or the model was laid out for fewer.
    pub fn decode_each(&mut self, parts: &[(usize, &[u32])]) -> Result<Vec<f32>> {
        self.sequences.decode_each(&mut self.weights, parts)
    }
}

impl<'a, D: Device> TrainedDecoder<'a, D> {
    pub(crate) fn new(weights: &'a mut Weights<D>, layout: DecodingLayout) -> TrainedDecoder<'a, D> {
        weights.fill_rotary_tables([layout.cos, layout.sin]);
        TrainedDecoder { weights, sequences: Sequences::new(layout) }
    }

    /// Appends `tokens` to the sequence and returns the logits (V) that follow the last one.
    ///
    /// # Errors
    /// As [`Decoder::decode_each`].
    pub fn decode(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.sequences.decode_each(self.weights, &[(0, tokens)])
    }
}

impl Sequences {
    fn new(layout: DecodingLayout) -> Sequences {
        Sequences { past: vec![0; layout.sequences], layout }
    }

    /// See [`Decoder::decode_each`].
    fn decode_each<D: Device>(
        &mut self,
        weights: &mut Weights<D>,
        parts: &[(usize, &[u32])],
    ) -> Result<Vec<f32>> {
        let vocab_size = weights.config.vocab_size;
        let capacity = self.layout.capacity;
        let refuse =
            |message: String| Error::Tensor { name: "model.embed_tokens.weight".to_string(), message };
        let mut rows = Vec::new();
        let mut ends = Vec::new();
        let mut named = vec![false; self.layout.sequences];
        for &(sequence, tokens) in parts {
            assert!(!std::mem::replace(&mut named[sequence], true), "sequence {sequence} is named twice");
            let past = self.past[sequence];
            if tokens.len() > capacity - past {
                return Err(Error::ContextFull { capacity, asked: tokens.len() });
            }
            if tokens.is_empty() {
                return Err(refuse("the prompt is empty: decoding needs at least one token".to_string()));
            }
            if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
                return Err(refuse(format!(
                    "token {token} is outside the vocabulary of {vocab_size}: wrong tokenizer?"
                )));
            }
            rows.extend((past..).zip(tokens).map(|(position, &token)| Row { sequence, position, token }));
            ends.push(rows.len() - 1);
        }
        let chunk = self.layout.residual.rows;
        for (index, part) in rows.chunks(chunk).enumerate() {
            self.decode_chunk(weights, part);
            for row in part {
                self.past[row.sequence] = row.position + 1;
            }
            for (part, &end) in ends.iter().enumerate().filter(|(_, end)| **end / chunk == index) {
                let last = self.layout.residual.row_range(end % chunk, 1);
                weights.device.copy(last, self.layout.last.row_range(part, 1));
            }
        }
        Ok(self.logits(weights, parts.len()))
    }

    /// Logits (count, V) after the streams in `last`.
    fn logits<D: Device>(&self, weights: &mut Weights<D>, count: usize) -> Vec<f32> {
        let (Weights { device, config, network, .. }, layout) = (weights, &self.layout);
        let [last, normed, rstd, logits] =
            [layout.last, layout.normed, layout.rstd, layout.logits].map(|t| t.row_range(0, count));
        device.rmsnorm(rms_norm(config, last, network.norm, rstd), normed);
        network.head.forward(device, normed, logits, None, &LinearPass::of(&layout.linear, None));
        device.download(logits)
    }

    fn decode_chunk<D: Device>(&self, weights: &mut Weights<D>, new: &[Row]) {
        weights.update_derived();
        let (Weights { device, config, network, .. }, layout) = (weights, &self.layout);
        let n = new.len();
        let rows = |t: Tensor| t.row_range(0, n);
        let [ids, sequences, positions] =
            [layout.tokens, layout.token_sequences, layout.positions].map(|t| t.column_range(0, n));
        let (x, normed, rstd, qkv) =
            (rows(layout.residual), rows(layout.normed), rows(layout.rstd), rows(layout.qkv));
        let (attention, gate_up, hidden) =
            (rows(layout.attention), rows(layout.gate_up), rows(layout.hidden));
        let pass = LinearPass::of(&layout.linear, None);
        let column = |f: fn(&Row) -> u32| new.iter().map(f).collect::<Vec<u32>>();
        device.upload_ids(ids, &column(|row| row.token));
        device.upload_ids(sequences, &column(|row| row.sequence as u32));
        device.upload_ids(positions, &column(|row| row.position as u32));
        let first_positions = layout.first_positions.map(|t| t.column_range(0, n));
        if let (Some(window), Some(to)) = (config.sliding_window, first_positions) {
            let firsts: Vec<u32> =
                new.iter().map(|row| (row.position + 1).saturating_sub(window) as u32).collect();
            device.upload_ids(to, &firsts);
        }
        device.embedding(ids, network.embedding, x);
        let caches = layout.cache.iter().copied();
        for (index, (w, (key_cache, value_cache))) in network.layers.iter().zip(caches).enumerate() {
            device.rmsnorm(rms_norm(config, x, w.attention_norm, rstd), normed);
            w.qkv.forward(device, normed, qkv, None, &pass);
            let [q, k, v] = split_qkv(config, qkv);
            if let Some(norms) = w.qk_norm {
                for (norm, out, _) in qk_norms(config, qkv, rows(layout.qk_rstd), norms, qkv) {
                    device.rmsnorm(norm, out);
                }
            }
            if config.is_rotated(index) {
                device.rope(rotation(config, qkv, [layout.cos, layout.sin], positions, false));
            }
            device.cached_attention(CachedAttention {
                q,
                k,
                v,
                key_cache,
                value_cache,
                sequences,
                positions,
                first_positions: first_positions.filter(|_| config.window(index).is_some()),
                out: attention,
                capacity: layout.capacity,
                head_dim: config.head_dim,
                scale: attention_scale(config),
            });
            w.output.forward(device, attention, x, Some(x), &pass);
            device.rmsnorm(rms_norm(config, x, w.mlp_norm, rstd), normed);
            w.gate_up.forward(device, normed, gate_up, None, &pass);
            device.swiglu(gate_up, hidden);
            w.down.forward(device, hidden, x, Some(x), &pass);
        }
    }
}
