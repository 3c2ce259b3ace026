//! Decoding with a key/value cache: a prompt in chunks, then a token at a time.

use crate::error::{Error, Result};
use crate::network::{Arrangement, Model, Rotation, StateKind, at};
use crate::plan::DecodingLayout;
use compute::Device;
use compute::device::CachedAttention;

impl<D: Device> Model<D> {
    fn decoding(&self) -> (DecodingLayout, usize) {
        match &self.layout {
            Arrangement::Decode(layout, capacity) => ((**layout).clone(), *capacity),
            Arrangement::Train(..) => panic!("this model was built for training"),
        }
    }

    /// Forgets the sequence.
    pub fn reset(&mut self) {
        self.past = 0;
    }

    /// Tokens in the cache.
    pub fn context_used(&self) -> usize {
        self.past
    }

    /// Appends `tokens` to the sequence and returns the logits (V) that follow the last one.
    ///
    /// # Errors
    /// [`Error::ContextFull`]; nothing was appended then. [`Error::Tensor`] for a token outside the vocabulary, or no token at all.
    pub fn decode(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let (layout, capacity) = self.decoding();
        if tokens.len() > capacity - self.past {
            return Err(Error::ContextFull { capacity, asked: tokens.len() });
        }
        let refuse =
            |message: String| Error::Tensor { name: "model.embed_tokens.weight".to_string(), message };
        if tokens.is_empty() {
            return Err(refuse("there must be at least one token to decode after".to_string()));
        }
        if let Some(token) = tokens.iter().find(|&&t| t as usize >= self.config.vocab_size) {
            let size = self.config.vocab_size;
            return Err(refuse(format!(
                "token {token} is outside the vocabulary of {size}: wrong tokenizer?"
            )));
        }
        let chunk = layout.residual.rows;
        for part in tokens.chunks(chunk) {
            self.decode_chunk(&layout, part);
            self.past += part.len();
        }
        let last = (tokens.len() - 1) % chunk;
        let start = layout.weights;
        let x = layout.residual.row_range(last, 1);
        let normed = layout.normed.row_range(0, 1);
        let norm = self.norm(x, at(self.weights.norm, start), layout.rstd.row_range(0, 1));
        self.device.rmsnorm(norm, normed);
        self.linear(normed, at(self.weights.head, start), layout.logits, None);
        Ok(self.device.download(layout.logits))
    }

    fn decode_chunk(&mut self, layout: &DecodingLayout, tokens: &[u32]) {
        let n = tokens.len();
        let start = self.region(StateKind::Weight).unwrap_or(layout.weights);
        let rows = |t: compute::Tensor| t.row_range(0, n);
        let ids = layout.tokens.column_range(0, n);
        let (x, normed, rstd, qkv) =
            (rows(layout.residual), rows(layout.normed), rows(layout.rstd), rows(layout.qkv));
        let (attention, gate_up, hidden) =
            (rows(layout.attention), rows(layout.gate_up), rows(layout.hidden));
        self.device.upload_ids(ids, tokens);
        self.device.embedding(ids, at(self.weights.embedding, start), x);
        for index in 0..self.config.num_hidden_layers {
            let w = self.layer(index, start);
            let (keys, values) = layout.cache[index];
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
            let rotation = Rotation { sequence_length: n, first_position: self.past, inverse: false };
            self.rotate(qkv, (layout.cos, layout.sin), rotation);
            self.device.copy(k, keys.row_range(self.past, n));
            self.device.copy(v, values.row_range(self.past, n));
            self.device.cached_attention(CachedAttention {
                q,
                k: keys,
                v: values,
                out: attention,
                past: self.past,
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
