//! Which tensors are trained, their Hugging Face names, and where they lie.
//!
//! Queries, keys and values of a layer lie row after row, and so do gate and up: each pair or triple is one matrix to the
//! kernels and separate tensors by name. Matrices come first, norms and biases after, so that weight decay is two ranges.

use crate::config::ModelConfig;
use compute::rng::Rng;
use compute::{DType, Layout, Tensor};

/// One named tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Hugging Face's name.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Byte offset from the start of the parameter region: the same for weights, gradients and moments.
    pub(crate) offset: usize,
    /// Whether weight decay applies: matrices only.
    pub decay: bool,
    pub(crate) start: Start,
}

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    Normal { deviation: f64 },
    Ones,
    Zeros,
}

impl Parameter {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The initial values for a seed: a function of the name, so that neither order nor fusion changes them.
    pub(crate) fn initial(&self, seed: u64) -> Vec<f32> {
        match self.start {
            Start::Ones => vec![1.0; self.len()],
            Start::Zeros => vec![0.0; self.len()],
            Start::Normal { deviation } => {
                let mut rng = Rng::from_parts(seed, &self.name, &[]);
                (0..self.len()).map(|_| (rng.normal() * deviation) as f32).collect()
            }
        }
    }
}

/// A layer's weights as the kernels see them, relative to the region's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerWeights {
    /// (1, D).
    pub attention_norm: Tensor,
    /// ((H + 2K)·d, D).
    pub qkv: Tensor,
    /// (1, (H + 2K)·d).
    pub qkv_bias: Option<Tensor>,
    /// (1, d) each.
    pub qk_norm: Option<(Tensor, Tensor)>,
    /// (D, H·d).
    pub output: Tensor,
    /// (1, D).
    pub mlp_norm: Tensor,
    /// (2F, D).
    pub gate_up: Tensor,
    /// (D, F).
    pub down: Tensor,
}

/// All weights, relative to the region's start.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub parameters: Vec<Parameter>,
    /// (V, D).
    pub embedding: Tensor,
    /// (V, D); the embedding when tied.
    pub head: Tensor,
    /// (1, D).
    pub norm: Tensor,
    pub layers: Vec<LayerWeights>,
    /// Elements of the range with weight decay, padding included.
    pub decayed: usize,
    /// Elements in all, padding included.
    pub elements: usize,
}

impl Weights {
    pub fn new(config: &ModelConfig) -> Weights {
        let mut b = Builder { layout: Layout::new(), parameters: Vec::new() };
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let (query, key_value) = (config.query_width(), config.key_value_width());
        let normal = Start::Normal { deviation: config.initializer_range };
        let residual = (2.0 * config.num_hidden_layers as f64).sqrt();
        let into_residual = Start::Normal { deviation: config.initializer_range / residual };
        let name = |layer: usize, part: &str| format!("model.layers.{layer}.{part}");
        let qkv = |layer, kind: &str| -> [(String, usize); 3] {
            [("q_proj", query), ("k_proj", key_value), ("v_proj", key_value)]
                .map(|(projection, rows)| (name(layer, &format!("self_attn.{projection}.{kind}")), rows))
        };

        let embedding = b.matrix(&[("model.embed_tokens.weight".to_string(), config.vocab_size)], d, normal);
        let matrices: Vec<[Tensor; 4]> = (0..config.num_hidden_layers)
            .map(|layer| {
                let gate_up = ["gate_proj", "up_proj"].map(|p| (name(layer, &format!("mlp.{p}.weight")), f));
                [
                    b.matrix(&qkv(layer, "weight"), d, normal),
                    b.matrix(&[(name(layer, "self_attn.o_proj.weight"), d)], query, into_residual),
                    b.matrix(&gate_up, d, normal),
                    b.matrix(&[(name(layer, "mlp.down_proj.weight"), d)], f, into_residual),
                ]
            })
            .collect();
        let head = if config.tie_word_embeddings {
            embedding
        } else {
            b.matrix(&[("lm_head.weight".to_string(), config.vocab_size)], d, normal)
        };
        let decayed = b.layout.bytes() / DType::F32.size();

        let layers = matrices
            .into_iter()
            .enumerate()
            .map(|(layer, [qkv_weight, output, gate_up, down])| LayerWeights {
                attention_norm: b.vector(&[(name(layer, "input_layernorm.weight"), d)], Start::Ones),
                qkv: qkv_weight,
                qkv_bias: config.attention_bias.then(|| b.vector(&qkv(layer, "bias"), Start::Zeros)),
                qk_norm: config.qk_norm.then(|| {
                    let mut norm = |part| b.vector(&[(name(layer, part), config.head_dim)], Start::Ones);
                    (norm("self_attn.q_norm.weight"), norm("self_attn.k_norm.weight"))
                }),
                output,
                mlp_norm: b.vector(&[(name(layer, "post_attention_layernorm.weight"), d)], Start::Ones),
                gate_up,
                down,
            })
            .collect();
        let norm = b.vector(&[("model.norm.weight".to_string(), d)], Start::Ones);
        let elements = b.layout.bytes() / DType::F32.size();
        Weights { parameters: b.parameters, embedding, head, norm, layers, decayed, elements }
    }
}

struct Builder {
    layout: Layout,
    parameters: Vec<Parameter>,
}

impl Builder {
    /// Named blocks of rows of one (Σ rows, columns) matrix.
    fn matrix(&mut self, parts: &[(String, usize)], columns: usize, start: Start) -> Tensor {
        let rows = parts.iter().map(|(_, rows)| rows).sum();
        let whole = self.layout.reserve(DType::F32, rows, columns);
        let mut first = 0;
        for (name, rows) in parts {
            let offset = whole.row_range(first, *rows).offset;
            let (name, shape) = (name.clone(), vec![*rows, columns]);
            self.parameters.push(Parameter { name, shape, offset, decay: true, start });
            first += rows;
        }
        whole
    }

    /// Named stretches of one vector.
    fn vector(&mut self, parts: &[(String, usize)], start: Start) -> Tensor {
        let whole = self.layout.reserve(DType::F32, 1, parts.iter().map(|(_, len)| len).sum());
        let mut first = 0;
        for (name, len) in parts {
            let offset = whole.column_range(first, *len).offset;
            let (name, shape) = (name.clone(), vec![*len]);
            self.parameters.push(Parameter { name, shape, offset, decay: false, start });
            first += len;
        }
        whole
    }
}
