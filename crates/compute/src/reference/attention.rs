//! Causal grouped-query attention within documents, forward and backward, one query at a time.

use super::Reference;
use crate::device::{Attention, AttentionBackward, CachedAttention};
use crate::tensor::Tensor;

impl Reference {
    /// softmax(scale · q·kᵀ) over `keys`, with its log-sum-exp.
    fn probabilities(
        &self,
        (q, row, head): (Tensor, usize, usize),
        (k, kv_head): (Tensor, usize),
        keys: std::ops::Range<usize>,
        head_dim: usize,
        scale: f32,
    ) -> (Vec<f64>, f64) {
        let scores: Vec<f64> = keys
            .map(|key| {
                let dot: f64 = (0..head_dim)
                    .map(|c| self.get(q, row, head * head_dim + c) * self.get(k, key, kv_head * head_dim + c))
                    .sum();
                dot * f64::from(scale)
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        (scores.iter().map(|s| (s - max).exp() / sum).collect(), max + sum.ln())
    }

    pub(super) fn attention_kernel(&mut self, op: Attention) {
        let (d, t) = (op.head_dim, op.sequence_length);
        let heads = op.q.columns / d;
        let group = op.q.columns / op.k.columns;
        for row in 0..op.batch_size * t {
            let start = row / t * t + self.get(op.document_starts, 0, row) as usize;
            for head in 0..heads {
                let kv_head = head / group;
                let (p, lse) =
                    self.probabilities((op.q, row, head), (op.k, kv_head), start..row + 1, d, op.scale);
                self.set(op.lse, row, head, lse);
                for c in 0..d {
                    let y = p
                        .iter()
                        .enumerate()
                        .map(|(j, p)| p * self.get(op.v, start + j, kv_head * d + c))
                        .sum();
                    self.set(op.out, row, head * d + c, y);
                }
            }
        }
    }

    pub(super) fn attention_backward_kernel(&mut self, op: AttentionBackward) {
        let f = op.forward;
        let (d, t) = (f.head_dim, f.sequence_length);
        let heads = f.q.columns / d;
        let group = f.q.columns / f.k.columns;
        for x in [op.dq, op.dk, op.dv] {
            self.write(x, &vec![0.0; x.len()]);
        }
        for row in 0..f.batch_size * t {
            let start = row / t * t + self.get(f.document_starts, 0, row) as usize;
            for head in 0..heads {
                let kv_head = head / group;
                let (p, _) = self.probabilities((f.q, row, head), (f.k, kv_head), start..row + 1, d, f.scale);
                let dp: Vec<f64> = (0..p.len())
                    .map(|j| {
                        (0..d)
                            .map(|c| {
                                self.get(op.dout, row, head * d + c)
                                    * self.get(f.v, start + j, kv_head * d + c)
                            })
                            .sum()
                    })
                    .collect();
                let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                for (j, (p, dp)) in p.iter().zip(&dp).enumerate() {
                    let ds = p * (dp - mean) * f64::from(f.scale);
                    for c in 0..d {
                        let (q_at, kv_at) = (head * d + c, kv_head * d + c);
                        let (q, k) = (self.get(f.q, row, q_at), self.get(f.k, start + j, kv_at));
                        let dy = self.get(op.dout, row, q_at);
                        self.add_to(op.dq, row, q_at, ds * k);
                        self.add_to(op.dk, start + j, kv_at, ds * q);
                        self.add_to(op.dv, start + j, kv_at, p * dy);
                    }
                }
            }
        }
    }

    pub(super) fn cached_attention_kernel(&mut self, op: CachedAttention) {
        let d = op.head_dim;
        let group = op.q.columns / op.k.columns;
        let place = |this: &Reference, row| {
            let first = this.get(op.sequences, 0, row) as usize * op.capacity;
            (first, first + this.get(op.positions, 0, row) as usize)
        };
        for row in 0..op.q.rows {
            let (_, at) = place(self, row);
            for (from, to) in [(op.k, op.key_cache), (op.v, op.value_cache)] {
                for c in 0..from.columns {
                    let value = self.get(from, row, c);
                    self.set(to, at, c, value);
                }
            }
        }
        for row in 0..op.q.rows {
            let (first, last) = place(self, row);
            for head in 0..op.q.columns / d {
                let kv_head = head / group;
                let start = op.first_positions.map_or(0, |starts| self.get(starts, 0, row) as usize);
                let (first, keys) = (first + start, first + start..last + 1);
                let key_cache = (op.key_cache, kv_head);
                let (p, _) = self.probabilities((op.q, row, head), key_cache, keys, d, op.scale);
                for c in 0..d {
                    let value = |j| self.get(op.value_cache, first + j, kv_head * d + c);
                    let y = p.iter().enumerate().map(|(j, p)| p * value(j)).sum();
                    self.set(op.out, row, head * d + c, y);
                }
            }
        }
    }
}
