//! Which tensors are trained, their Hugging Face names, and where they lie.
//!
//! Queries, keys and values of a layer lie row after row, and so do gate and up: each pair or triple is one
//! matrix to the kernels and separate tensors by name. The layers' matrices come first, then embedding and
//! output layer, then norms and biases: what is treated alike lies together.

use crate::config::ModelConfig;
use compute::rng::Rng;
use compute::{DType, Layout, Tensor};
use std::collections::BTreeMap;

/// One named tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Hugging Face's name.
    pub name: String,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Its place from the start of the parameter region: the same for weights, gradients and moments.
    pub(crate) tensor: Tensor,
    /// What it is to the model.
    pub role: Role,
    /// Of which layer it is part, from 0.
    pub layer: Option<usize>,
    pub(crate) start: Start,
}

/// What a parameter is to the model: how fast it learns, and by which rule, may depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix of a layer.
    Hidden,
    /// The token embedding, and where they are tied the output layer.
    Embedding,
    /// The output layer.
    Head,
    /// A norm or a bias.
    Vector,
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

    /// Whether weight decay applies.
    pub fn is_matrix(&self) -> bool {
        self.role != Role::Vector
    }

    /// The initial values for a seed: a function of the name, so that neither order nor fusion changes them.
    pub(crate) fn initial(&self, seed: u64) -> Vec<f32> {
        match self.start {
            Start::Ones => vec![1.0; self.len()],
            Start::Zeros => vec![0.0; self.len()],
            Start::Normal { deviation } => {
                let mut values = vec![0.0; self.len()];
                Rng::from_parts(seed, &self.name, &[]).fill_normal(&mut values, deviation);
                values
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
    /// Bytes of the layers' matrices, which come first, padding included.
    pub hidden_bytes: usize,
    /// Bytes in all, padding included.
    pub bytes: usize,
}

impl Weights {
    /// All of them in f32, as training needs them.
    pub fn new(config: &ModelConfig) -> Weights {
        Weights::of(config, &WeightTypes::All(DType::F32))
    }

    /// Matrices in the types asked for, as far as their shapes can be kept in them.
    pub fn of(config: &ModelConfig, types: &WeightTypes) -> Weights {
        let mut b = Builder { layout: Layout::new(), parameters: Vec::new(), layer: None, types };
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

        let matrices: Vec<[Tensor; 4]> = (0..config.num_hidden_layers)
            .map(|layer| {
                let gate_up = ["gate_proj", "up_proj"].map(|p| (name(layer, &format!("mlp.{p}.weight")), f));
                b.layer = Some(layer);
                [
                    b.matrix(Role::Hidden, &qkv(layer, "weight"), d, normal),
                    b.matrix(
                        Role::Hidden,
                        &[(name(layer, "self_attn.o_proj.weight"), d)],
                        query,
                        into_residual,
                    ),
                    b.matrix(Role::Hidden, &gate_up, d, normal),
                    b.matrix(Role::Hidden, &[(name(layer, "mlp.down_proj.weight"), d)], f, into_residual),
                ]
            })
            .collect();
        let hidden_bytes = b.layout.bytes();
        b.layer = None;
        let mut end = |role, name: &str| b.matrix(role, &[(name.to_string(), config.vocab_size)], d, normal);
        let embedding = end(Role::Embedding, "model.embed_tokens.weight");
        let head = if config.tie_word_embeddings { embedding } else { end(Role::Head, "lm_head.weight") };

        let layers = matrices
            .into_iter()
            .enumerate()
            .map(|(layer, [qkv_weight, output, gate_up, down])| {
                b.layer = Some(layer);
                LayerWeights {
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
                }
            })
            .collect();
        b.layer = None;
        let norm = b.vector(&[("model.norm.weight".to_string(), d)], Start::Ones);
        let bytes = b.layout.bytes();
        Weights { parameters: b.parameters, embedding, head, norm, layers, hidden_bytes, bytes }
    }
}

/// In which types a model's matrices are kept for decoding. Norms and biases are f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightTypes {
    /// One type; of four bits, the embedding and the output layer get eight, as is usual.
    All(DType),
    /// By name; f32 where there is none.
    Each(BTreeMap<String, DType>),
}

impl WeightTypes {
    fn of(&self, name: &str) -> DType {
        match self {
            WeightTypes::All(DType::Q4_0) if ENDS.contains(&name) => DType::Q8_0,
            WeightTypes::All(dtype) => *dtype,
            WeightTypes::Each(types) => types.get(name).copied().unwrap_or(DType::F32),
        }
    }

    /// The type of the key/value cache: f32 beside weights that are all f32.
    pub(crate) fn cache(&self) -> DType {
        let narrow = match self {
            WeightTypes::All(dtype) => *dtype != DType::F32,
            WeightTypes::Each(types) => types.values().any(|&dtype| dtype != DType::F32),
        };
        if narrow { DType::Bf16 } else { DType::F32 }
    }
}

/// Where a token's row is read, and where logits come from.
const ENDS: [&str; 2] = ["model.embed_tokens.weight", "lm_head.weight"];

struct Builder<'a> {
    layout: Layout,
    parameters: Vec<Parameter>,
    /// Which one is being built.
    layer: Option<usize>,
    types: &'a WeightTypes,
}

impl Builder<'_> {
    /// Named blocks of rows of one (Σ rows, columns) matrix.
    fn matrix(&mut self, role: Role, parts: &[(String, usize)], columns: usize, start: Start) -> Tensor {
        let rows = parts.iter().map(|(_, rows)| rows).sum();
        let whole = self.layout.reserve(self.dtype(parts, columns), rows, columns);
        let mut first = 0;
        for (name, rows) in parts {
            let tensor = whole.row_range(first, *rows);
            let (name, shape) = (name.clone(), vec![*rows, columns]);
            self.parameters.push(Parameter { name, shape, tensor, role, layer: self.layer, start });
            first += rows;
        }
        whole
    }

    /// The type of a matrix: that of its parts where they agree and fit, else bfloat16, or f32 where one of
    /// them is f32.
    fn dtype(&self, parts: &[(String, usize)], columns: usize) -> DType {
        let types: Vec<DType> = parts.iter().map(|(name, _)| self.types.of(name)).collect();
        let mut begins = 0;
        let fit = parts.iter().all(|(_, rows)| {
            let fits = types[0].holds(begins, columns);
            begins += rows;
            fits
        });
        match types[0] {
            first if fit && types.iter().all(|&dtype| dtype == first) => first,
            _ if types.contains(&DType::F32) => DType::F32,
            _ => DType::Bf16,
        }
    }

    /// Named stretches of one vector.
    fn vector(&mut self, parts: &[(String, usize)], start: Start) -> Tensor {
        let whole = self.layout.reserve(DType::F32, 1, parts.iter().map(|(_, len)| len).sum());
        let mut first = 0;
        for (name, len) in parts {
            let tensor = whole.column_range(first, *len);
            let (name, shape) = (name.clone(), vec![*len]);
            self.parameters.push(Parameter {
                name,
                shape,
                tensor,
                role: Role::Vector,
                layer: self.layer,
                start,
            });
            first += len;
        }
        whole
    }
}
