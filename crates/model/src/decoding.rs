//! Decoding with a key/value cache: prompts in chunks, then a token of each sequence at a time.

use crate::error::{Error, Result};
use crate::network::{Arrangement, Model, at};
use crate::plan::DecodingLayout;
use compute::device::CachedAttention;
use compute::{Device, Tensor};

/// A token on its way to its sequence.
#[derive(Clone, Copy)]
struct Row {
    sequence: usize,
    position: usize,
    token: u32,
}

impl<D: Device> Model<D> {
    fn decoding(&self) -> DecodingLayout {
        match &self.layout {
            Arrangement::Decode(layout) => (**layout).clone(),
            Arrangement::Train(..) => panic!("this model was built for training"),
        }
    }

    /// Forgets all sequences.
    pub fn reset(&mut self) {
        self.past.fill(0);
    }

    /// Forgets one sequence.
    ///
    /// # Panics
    /// When the model was laid out for fewer.
    pub fn forget(&mut self, sequence: usize) {
        self.past[sequence] = 0;
    }

    /// Tokens that a sequence has room for in the cache.
    pub fn capacity(&self) -> usize {
        match &self.layout {
            Arrangement::Decode(layout) => layout.capacity,
            Arrangement::Train(..) => 0,
        }
    }

    /// Tokens of a sequence in the cache.
    ///
    /// # Panics
    /// When the model was laid out for fewer sequences.
    pub fn context_used(&self, sequence: usize) -> usize {
        self.past[sequence]
    }

    /// Appends `tokens` to sequence 0 and returns the logits (V) that follow the last one.
    ///
    /// # Errors
    /// As [`Model::decode_each`].
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
        let layout = self.decoding();
        let refuse =
            |message: String| Error::Tensor { name: "model.embed_tokens.weight".to_string(), message };
        let mut rows = Vec::new();
        let mut ends = Vec::new();
        let mut named = vec![false; layout.sequences];
        for &(sequence, tokens) in parts {
            assert!(!std::mem::replace(&mut named[sequence], true), "sequence {sequence} is named twice");
            let past = self.past[sequence];
            if tokens.len() > layout.capacity - past {
                return Err(Error::ContextFull { capacity: layout.capacity, asked: tokens.len() });
            }
            if tokens.is_empty() {
                return Err(refuse("there must be at least one token to decode after".to_string()));
            }
            if let Some(token) = tokens.iter().find(|&&t| t as usize >= self.config.vocab_size) {
                let size = self.config.vocab_size;
                return Err(refuse(format!(
                    "token {token} is outside the vocabulary of {size}: wrong tokenizer?"
                )));
            }
            rows.extend((past..).zip(tokens).map(|(position, &token)| Row { sequence, position, token }));
            ends.push(rows.len() - 1);
        }
        let chunk = layout.residual.rows;
        for (index, part) in rows.chunks(chunk).enumerate() {
            self.decode_chunk(&layout, part);
            for row in part {
                self.past[row.sequence] = row.position + 1;
            }
            for (part, &end) in ends.iter().enumerate().filter(|(_, end)| **end / chunk == index) {
                let last = layout.residual.row_range(end % chunk, 1);
                self.device.copy(last, layout.last.row_range(part, 1));
            }
        }
        let [last, normed, rstd, logits] =
            [layout.last, layout.normed, layout.rstd, layout.logits].map(|t| t.row_range(0, parts.len()));
        let norm = self.norm(last, at(self.weights.norm, layout.weights), rstd);
        self.device.rmsnorm(norm, normed);
        self.linear(normed, at(self.weights.head, layout.weights), logits, None);
        Ok(self.device.download(logits))
    }

    fn decode_chunk(&mut self, layout: &DecodingLayout, new: &[Row]) {
        let n = new.len();
        let start = layout.weights;
        let rows = |t: Tensor| t.row_range(0, n);
        let [ids, sequences, positions] =
            [layout.tokens, layout.token_sequences, layout.positions].map(|t| t.column_range(0, n));
        let (x, normed, rstd, qkv) =
            (rows(layout.residual), rows(layout.normed), rows(layout.rstd), rows(layout.qkv));
        let (attention, gate_up, hidden) =
            (rows(layout.attention), rows(layout.gate_up), rows(layout.hidden));
        let column = |f: fn(&Row) -> u32| new.iter().map(f).collect::<Vec<u32>>();
        self.device.upload_ids(ids, &column(|row| row.token));
        self.device.upload_ids(sequences, &column(|row| row.sequence as u32));
        self.device.upload_ids(positions, &column(|row| row.position as u32));
        self.device.embedding(ids, at(self.weights.embedding, start), x);
        for index in 0..self.config.num_hidden_layers {
            let w = self.layer(index, start);
            let (key_cache, value_cache) = layout.cache[index];
            let norm = self.norm(x, w.attention_norm, rstd);
            self.device.rmsnorm(norm, normed);
            self.linear(normed, w.qkv, qkv, None);
            if let Some(bias) = w.qkv_bias {
                self.device.add_bias(qkv, bias);
            }
            let [q, k, v] = self.split_qkv(qkv);
            if let Some((q_weight, k_weight)) = w.qk_norm {
                let heads = self.config.num_attention_heads;
                let qk_rstd = rows(layout.qk_rstd);
                let q_norm = self.norm(q, q_weight, qk_rstd.column_range(0, heads));
                self.device.rmsnorm(q_norm, q);
                let k_norm =
                    self.norm(k, k_weight, qk_rstd.column_range(heads, self.config.num_key_value_heads));
                self.device.rmsnorm(k_norm, k);
            }
            self.rotate(qkv, [layout.cos, layout.sin], positions, false);
            self.device.cached_attention(CachedAttention {
                q,
                k,
                v,
                key_cache,
                value_cache,
                sequences,
                positions,
                out: attention,
                capacity: layout.capacity,
                head_dim: self.config.head_dim,
                scale: self.attention_scale(),
            });
            self.linear(attention, w.output, x, Some(x));
            let norm = self.norm(x, w.mlp_norm, rstd);
            self.device.rmsnorm(norm, normed);
            self.linear(normed, w.gate_up, gate_up, None);
            self.device.swiglu(gate_up, hidden);
            self.linear(hidden, w.down, x, Some(x));
        }
    }
}
