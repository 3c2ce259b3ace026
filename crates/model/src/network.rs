//! The handles of a model's weights as kernels read them, found by one walk over the configuration.
//!
//! Queries, keys and values of a layer lie row after row, and so do gate and up: to the kernels each pair or
//! triple is one [`Linear`], by name they are separate parameters. The layers' matrices come first, then
//! embedding and output layer, then norms and biases: what the optimizer treats alike lies together.

use crate::adapter;
use crate::config::ModelConfig;
use crate::dora::NormBuffers;
use crate::linear::{Adapter, Gradient, Linear, Magnitude, Part as AdapterPart};
use crate::parameters::{InitialValues, Parameter, Role, Storage};
use compute::{DType, Layout, Tensor};

/// Where the regions of weights begin in the arena, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Regions {
    /// f32 weights that are trained, and what is fused with them.
    pub master: usize,
    /// The bfloat16 copies of the master weights that products read; `None`: they read the master weights.
    pub rounded: Option<usize>,
    /// Weights that are not trained, in types of their own.
    pub frozen: usize,
    /// Gradients of trained parameters.
    pub gradients: usize,
}

/// Sizes of the regions in bytes, padding included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionBytes {
    pub master: usize,
    pub frozen: usize,
    /// Of gradients, and of each moment.
    pub state: usize,
    /// Of the layers' matrices, with which each region of gradients and moments begins.
    pub hidden_state: usize,
}

/// The longest of the buffers that adapters and matrices in blocks ask for, in elements.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extremes {
    /// Rows of the A of one layer.
    pub adapter_rows: usize,
    /// Width of the input of a layer with an adapter.
    pub adapter_input: usize,
    /// Width of the output of a layer whose adapter has magnitudes.
    pub scaled_output: usize,
    /// Elements of a matrix in blocks.
    pub block_matrix: usize,
}

/// A norm's weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    /// (1, width).
    pub weight: Tensor,
    /// (1, width); `None`: frozen.
    pub gradient: Option<Tensor>,
}

/// The weights of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Over D.
    pub attention_norm: Norm,
    /// D to (H + 2K)·d.
    pub qkv: Linear,
    /// Of queries and of keys, over d.
    pub qk_norm: Option<(Norm, Norm)>,
    /// H·d to D.
    pub output: Linear,
    /// Over D.
    pub mlp_norm: Norm,
    /// D to 2F.
    pub gate_up: Linear,
    /// F to D.
    pub down: Linear,
}

/// All weights of a model.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// In the order of the walk.
    pub parameters: Vec<Parameter>,
    /// (V, D), as stored.
    pub embedding: Tensor,
    /// Of the embedding's rows; `None`: frozen. Where head and embedding are tied both add to it.
    pub embedding_gradient: Option<Tensor>,
    /// D to V.
    pub head: Linear,
    /// Over D, before the head.
    pub norm: Norm,
    pub layers: Vec<Layer>,
    /// The first layer that the backward reaches: layers before it, and the embedding, are frozen.
    pub first_trained_layer: usize,
    pub bytes: RegionBytes,
    pub extremes: Extremes,
    /// Room for the norms of rows, with DoRA.
    pub norm_buffers: Option<NormBuffers>,
}

impl Network {
    /// The walk. With regions that all begin at 0 it tells sizes, and places relative to each region.
    pub fn new(config: &ModelConfig, storage: &Storage, regions: &Regions) -> Network {
        let mut walk = Walk {
            storage,
            regions,
            master: Layout::new(),
            frozen: Layout::new(),
            state: Layout::new(),
            parameters: Vec::new(),
            layer: None,
            extremes: Extremes::default(),
        };
        walk.network(config)
    }

    /// The linear layers of the blocks.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(|layer| [&layer.qkv, &layer.output, &layer.gate_up, &layer.down])
    }

    /// Names, shapes and roles of a configuration's parameters, without adapters.
    pub fn parameters_of(config: &ModelConfig) -> Vec<Parameter> {
        Network::new(config, &Storage::frozen(DType::F32), &Regions::default()).parameters
    }
}

/// A matrix of a layer, before biases are known.
type HiddenMatrices = [Linear; 4];

struct Walk<'a> {
    storage: &'a Storage,
    regions: &'a Regions,
    master: Layout,
    frozen: Layout,
    state: Layout,
    parameters: Vec<Parameter>,
    /// The layer that is walked.
    layer: Option<usize>,
    extremes: Extremes,
}

/// A parameter's name and its rows, or its length.
type Part = (String, usize);

fn qkv_parts(config: &ModelConfig, layer: usize, kind: &str) -> [Part; 3] {
    let (query, key_value) = (config.query_width(), config.key_value_width());
    [("q_proj", query), ("k_proj", key_value), ("v_proj", key_value)]
        .map(|(part, rows)| (in_layer(layer, &format!("self_attn.{part}.{kind}")), rows))
}

fn in_layer(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}")
}

impl Walk<'_> {
    fn network(&mut self, config: &ModelConfig) -> Network {
        let (d, layers) = (config.hidden_size, config.num_hidden_layers);
        let normal = InitialValues::Normal { deviation: config.initializer_range };
        let matrices: Vec<HiddenMatrices> = (0..layers).map(|layer| self.hidden(config, layer)).collect();
        let hidden_state = self.state.bytes();
        self.layer = None;
        let mut end =
            |role, name: &str| self.matrix(role, &[(name.to_string(), config.vocab_size)], d, normal);
        let table = end(Role::Embedding, "model.embed_tokens.weight");
        let head = match config.tie_word_embeddings {
            true => table.clone(),
            false => end(Role::Head, "lm_head.weight"),
        };
        let layers: Vec<Layer> = matrices
            .into_iter()
            .enumerate()
            .map(|(layer, matrices)| self.vectors(config, layer, matrices))
            .collect();
        self.layer = None;
        let norm = self.norm("model.norm.weight".to_string(), d);
        let norm_buffers = self.norm_buffers();
        let embedding_gradient = table.gradients.first().map(|gradient| gradient.tensor);
        let trained =
            |p: &Parameter| p.state.is_some() && p.role != Role::Head && p.name != "model.norm.weight";
        let lowest = self.parameters.iter().filter(|parameter| trained(parameter));
        let lowest = lowest.map(|parameter| parameter.layer.unwrap_or(0)).min();
        Network {
            embedding: table.stored,
            embedding_gradient,
            head,
            norm,
            first_trained_layer: lowest.unwrap_or(layers.len()),
            layers,
            bytes: RegionBytes {
                master: self.master.bytes(),
                frozen: self.frozen.bytes(),
                state: self.state.bytes(),
                hidden_state,
            },
            extremes: self.extremes,
            norm_buffers,
            parameters: std::mem::take(&mut self.parameters),
        }
    }

    fn hidden(&mut self, config: &ModelConfig, layer: usize) -> HiddenMatrices {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let normal = InitialValues::Normal { deviation: config.initializer_range };
        let depth = (2.0 * config.num_hidden_layers as f64).sqrt();
        let into_residual = InitialValues::Normal { deviation: config.initializer_range / depth };
        let one = |part: &str, rows| [(in_layer(layer, part), rows)];
        let gate_up =
            ["gate_proj", "up_proj"].map(|part| (in_layer(layer, &format!("mlp.{part}.weight")), f));
        self.layer = Some(layer);
        [
            self.adapted(&qkv_parts(config, layer, "weight"), d, normal),
            self.adapted(&one("self_attn.o_proj.weight", d), config.query_width(), into_residual),
            self.adapted(&gate_up, d, normal),
            self.adapted(&one("mlp.down_proj.weight", d), f, into_residual),
        ]
    }

    /// A layer's matrices, with their adapters.
    fn adapted(&mut self, parts: &[Part], columns: usize, initial: InitialValues) -> Linear {
        let linear = self.matrix(Role::Hidden, parts, columns, initial);
        let adapter = self.adapter(parts, columns).map(Box::new);
        Linear { adapter, ..linear }
    }

    /// The adapters of the parts that the configuration names.
    fn adapter(&mut self, parts: &[Part], columns: usize) -> Option<Adapter> {
        let config = self.storage.adapter.as_ref()?;
        let mut first = 0;
        let mut adapted = Vec::new();
        for (name, rows) in parts {
            if config.adapts(name) {
                adapted.push((first, name, *rows));
            }
            first += rows;
        }
        if adapted.is_empty() {
            return None;
        }
        let named = |name: &String, matrix, rows| (adapter::parameter_name(name, matrix), rows);
        let a: Vec<Part> = adapted.iter().map(|(_, name, _)| named(name, 'A', config.rank)).collect();
        // Kaiming's uniform distribution with a = √5, as PEFT draws A.
        let bound = 1.0 / (columns as f64).sqrt();
        let a = self.matrix(Role::Adapter, &a, columns, InitialValues::Uniform { bound });
        self.extremes.adapter_rows = self.extremes.adapter_rows.max(a.stored.rows);
        self.extremes.adapter_input = self.extremes.adapter_input.max(columns);
        let parts = adapted.iter().map(|&(first, name, rows)| {
            let b = [named(name, 'B', rows)];
            let b = self.matrix(Role::Adapter, &b, config.rank, InitialValues::Zeros);
            AdapterPart { first, b, magnitude: config.dora.then(|| self.magnitude(name, rows)) }
        });
        let parts = parts.collect();
        if config.dora {
            let outputs = self.extremes.scaled_output.max(first);
            self.extremes.scaled_output = outputs;
        }
        Some(Adapter { a, parts, scale: config.scale() })
    }

    /// The magnitudes of a weight's rows.
    fn magnitude(&mut self, weight: &str, rows: usize) -> Magnitude {
        let part = [(adapter::magnitude_name(weight), rows)];
        // Until the base's norms are known.
        let (stored, gradients) = self.vector(Role::Adapter, &part, InitialValues::Ones);
        let mut derived = || at(self.frozen.reserve(DType::F32, 1, rows), self.regions.frozen);
        let (inverse_norm, gain) = (derived(), derived());
        let gradient = gradients.first().map(|gradient| gradient.tensor);
        Magnitude { stored, gradient, inverse_norm, gain }
    }

    /// What the norms of the adapted layers' rows are computed in, with DoRA.
    fn norm_buffers(&mut self) -> Option<NormBuffers> {
        let config = self.storage.adapter.as_ref().filter(|config| config.dora)?;
        let width = self.extremes.adapter_input;
        Some(NormBuffers::reserve(&mut self.frozen, width, config.rank, self.regions.frozen))
    }

    fn vectors(&mut self, config: &ModelConfig, layer: usize, matrices: HiddenMatrices) -> Layer {
        let [mut qkv, output, gate_up, down] = matrices;
        self.layer = Some(layer);
        let attention_norm = self.norm(in_layer(layer, "input_layernorm.weight"), config.hidden_size);
        if config.attention_bias {
            let (bias, gradients) =
                self.vector(Role::Vector, &qkv_parts(config, layer, "bias"), InitialValues::Zeros);
            (qkv.bias, qkv.bias_gradients) = (Some(bias), gradients);
        }
        let qk_norm = config.qk_norm.then(|| {
            let mut norm = |part| self.norm(in_layer(layer, part), config.head_dim);
            (norm("self_attn.q_norm.weight"), norm("self_attn.k_norm.weight"))
        });
        let mlp_norm = self.norm(in_layer(layer, "post_attention_layernorm.weight"), config.hidden_size);
        Layer { attention_norm, qkv, qk_norm, output, mlp_norm, gate_up, down }
    }

    fn norm(&mut self, name: String, width: usize) -> Norm {
        let (weight, gradients) = self.vector(Role::Vector, &[(name, width)], InitialValues::Ones);
        Norm { weight, gradient: gradients.first().map(|gradient| gradient.tensor) }
    }

    /// Consecutive row blocks of one (Σ rows, columns) matrix.
    fn matrix(&mut self, role: Role, parts: &[Part], columns: usize, initial: InitialValues) -> Linear {
        let rows = parts.iter().map(|(_, rows)| rows).sum();
        let (stored, operand) = if self.is_master(parts) {
            let relative = self.master.reserve(DType::F32, rows, columns);
            let stored = at(relative, self.regions.master);
            (stored, self.regions.rounded.map_or(stored, |start| rounded(relative, start)))
        } else {
            let dtype = self.dtype(role, parts, columns);
            if dtype.is_blocks() && role == Role::Hidden {
                self.extremes.block_matrix = self.extremes.block_matrix.max(rows * columns);
            }
            let stored = at(self.frozen.reserve(dtype, rows, columns), self.regions.frozen);
            (stored, stored)
        };
        let gradients = self.gradients(parts, |rows| (rows, columns));
        let mut first = 0;
        for (name, rows) in parts {
            self.parameters.push(Parameter {
                name: name.clone(),
                shape: vec![*rows, columns],
                weight: stored.row_range(first, *rows),
                state: state_of(&gradients, self.regions, first, |run, from| run.row_range(from, *rows)),
                role,
                layer: self.layer,
                initial,
            });
            first += rows;
        }
        Linear { stored, operand, gradients, bias: None, bias_gradients: Vec::new(), adapter: None }
    }

    /// Consecutive stretches of one vector, and the gradients of those that are trained.
    fn vector(&mut self, role: Role, parts: &[Part], initial: InitialValues) -> (Tensor, Vec<Gradient>) {
        let len = parts.iter().map(|(_, len)| len).sum();
        let stored = match self.is_master(parts) {
            true => at(self.master.reserve(DType::F32, 1, len), self.regions.master),
            false => at(self.frozen.reserve(DType::F32, 1, len), self.regions.frozen),
        };
        let gradients = self.gradients(parts, |len| (1, len));
        let mut first = 0;
        for (name, len) in parts {
            self.parameters.push(Parameter {
                name: name.clone(),
                shape: vec![*len],
                weight: stored.column_range(first, *len),
                state: state_of(&gradients, self.regions, first, |run, from| run.column_range(from, *len)),
                role,
                layer: self.layer,
                initial,
            });
            first += len;
        }
        (stored, gradients)
    }

    /// Whether any of the parts is trained: what is fused lies together.
    fn is_master(&self, parts: &[Part]) -> bool {
        parts.iter().any(|(name, _)| self.storage.trainable.contains(name))
    }

    /// Gradients of the trained parts; neighbors share one. `shape`: (rows, columns) of so many outputs.
    fn gradients(&mut self, parts: &[Part], shape: impl Fn(usize) -> (usize, usize)) -> Vec<Gradient> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        let mut first = 0;
        for (name, len) in parts {
            if self.storage.trainable.contains(name) {
                match runs.last_mut() {
                    Some((from, run)) if *from + *run == first => *run += len,
                    _ => runs.push((first, *len)),
                }
            }
            first += len;
        }
        let mut reserve = |(first, len)| {
            let (rows, columns) = shape(len);
            let tensor = at(self.state.reserve(DType::F32, rows, columns), self.regions.gradients);
            Gradient { first, len, tensor }
        };
        runs.into_iter().map(&mut reserve).collect()
    }

    /// The type of a frozen matrix: that of its parts where they agree and fit, else bfloat16, or f32 where
    /// one of them is f32. An adapter's matrices are never in blocks.
    fn dtype(&self, role: Role, parts: &[Part], columns: usize) -> DType {
        let types: Vec<DType> = parts.iter().map(|(name, _)| self.storage.types.of(name)).collect();
        if role == Role::Adapter && types[0].is_blocks() {
            return DType::Bf16;
        }
        let mut first = 0;
        let fit = parts.iter().all(|(_, rows)| {
            let fits = types[0].holds(first, columns);
            first += rows;
            fits
        });
        match types[0] {
            dtype if fit && types.iter().all(|&other| other == dtype) => dtype,
            _ if types.contains(&DType::F32) => DType::F32,
            _ => DType::Bf16,
        }
    }
}

/// The place, relative to a region of gradients or moments, of the part that begins at output `first`.
fn state_of(
    gradients: &[Gradient],
    regions: &Regions,
    first: usize,
    cut: impl Fn(Tensor, usize) -> Tensor,
) -> Option<Tensor> {
    let run = gradients.iter().find(|run| (run.first..run.first + run.len).contains(&first))?;
    let absolute = cut(run.tensor, first - run.first);
    Some(Tensor { offset: absolute.offset - regions.gradients, ..absolute })
}

/// A region-relative handle at its place in the arena.
pub(crate) fn at(tensor: Tensor, start: usize) -> Tensor {
    Tensor { offset: tensor.offset + start, ..tensor }
}

/// The bfloat16 copy of a handle relative to the f32 master region, in the region that starts at `start`.
pub(crate) fn rounded(tensor: Tensor, start: usize) -> Tensor {
    let (from, to) = (DType::F32.size(), DType::Bf16.size());
    Tensor { offset: start + tensor.offset / from * to, dtype: DType::Bf16, ..tensor }
}
