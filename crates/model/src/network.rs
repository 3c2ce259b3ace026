//! A model on a device: its weights by name, and what its layers have in common between training and
//! decoding.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::parameters::{LayerWeights, Parameter, Role, Weights};
use crate::plan::{DecodingLayout, MemoryPlan, Purpose, Training, TrainingLayout};
use crate::rope;
use compute::device::{Gemm, RmsNorm, Rope};
use compute::{DType, Device, Tensor};

/// A model of the Llama family on a device, laid out for one purpose.
pub struct Model<D: Device> {
    pub(crate) device: D,
    pub(crate) config: ModelConfig,
    pub(crate) weights: Weights,
    pub(crate) layout: Arrangement,
    /// Tokens in the key/value cache, of each sequence.
    pub(crate) past: Vec<usize>,
    /// Weights were replaced since the rounded copies were made.
    pub(crate) rounded_is_stale: bool,
}

/// The arena of one purpose.
#[derive(Clone, Debug)]
pub(crate) enum Arrangement {
    Train(Box<TrainingLayout>, Training),
    Decode(Box<DecodingLayout>),
}

/// Which of a parameter's tensors is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// The weights themselves.
    Weight,
    /// AdamW's first moment, or Muon's momentum.
    Moment1,
    /// AdamW's second moment; of a matrix that Muon updates there is none.
    Moment2,
    /// The moving average of the weights.
    Average,
    /// The gradient accumulated since `begin_step`.
    Gradient,
}

impl<D: Device> Model<D> {
    /// Lays the model out on `device`. Weights are zeros until [`Model::initialize`] or [`Model::upload`].
    ///
    /// # Errors
    /// A shape that cannot be built; a device without the memory.
    pub fn new(mut device: D, config: ModelConfig, purpose: Purpose) -> Result<Model<D>> {
        config.validate()?;
        let (weights, layout, positions, [cos, sin], bytes) = match purpose {
            Purpose::Train(training) => {
                let Training { batch_size, sequence_length, .. } = training;
                for (key, value) in [("batch_size", batch_size), ("sequence_length", sequence_length)] {
                    if value == 0 {
                        return Err(Error::Configuration { key, message: "must be at least 1".to_string() });
                    }
                }
                let weights = Weights::new(&config);
                let layout = TrainingLayout::new(&config, &weights, &training);
                let (tables, bytes) = ([layout.cos, layout.sin], layout.plan.total_bytes);
                let arrangement = Arrangement::Train(Box::new(layout), training);
                (weights, arrangement, sequence_length, tables, bytes)
            }
            Purpose::Decode(decoding) => {
                let weights = Weights::of(&config, &decoding.weights);
                let layout = DecodingLayout::new(&config, &weights, &decoding);
                let (tables, bytes) = ([layout.cos, layout.sin], layout.plan.total_bytes);
                (weights, Arrangement::Decode(Box::new(layout)), decoding.max_sequence.max(1), tables, bytes)
            }
        };
        device.allocate(bytes)?;
        let tables = rope::tables(&config, positions);
        device.upload(cos, &tables.cos);
        device.upload(sin, &tables.sin);
        let sequences = match &layout {
            Arrangement::Train(..) => 0,
            Arrangement::Decode(layout) => layout.sequences,
        };
        Ok(Model { device, config, weights, layout, past: vec![0; sequences], rounded_is_stale: true })
    }

    /// Draws initial weights (normal, norms 1, biases 0), clears the moments, and begins the average anew.
    pub fn initialize(&mut self, seed: u64) {
        for index in 0..self.weights.parameters.len() {
            let values = self.weights.parameters[index].initial(seed);
            let to = self.handle(index, StateKind::Weight);
            if let Some(to) = to {
                self.device.upload(to, &values);
            }
        }
        self.rounded_is_stale = true;
        for kind in [StateKind::Moment1, StateKind::Moment2] {
            if let Some(flat) = self.whole(kind) {
                self.device.fill(flat, 0.0);
            }
        }
        if let (Some(weights), Some(average)) =
            (self.whole(StateKind::Weight), self.whole(StateKind::Average))
        {
            self.device.copy(weights, average);
        }
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What the model was laid out for, where that is training.
    pub fn training_room(&self) -> Option<&Training> {
        match &self.layout {
            Arrangement::Train(_, training) => Some(training),
            Arrangement::Decode(..) => None,
        }
    }

    /// What the arena holds, by part.
    pub fn plan(&self) -> MemoryPlan {
        match &self.layout {
            Arrangement::Train(layout, ..) => layout.plan,
            Arrangement::Decode(layout) => layout.plan,
        }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The device, to set something about it between calls.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Bytes that a parameter takes.
    ///
    /// # Errors
    /// No such parameter.
    pub fn parameter_bytes(&self, name: &str) -> Result<usize> {
        let tensor = self.find(name, StateKind::Weight)?;
        Ok(tensor.dtype.bytes(tensor.rows, tensor.columns))
    }

    /// The types of its matrices in words, the one with most elements first.
    pub fn weight_types(&self) -> String {
        let mut elements: Vec<(DType, usize)> = Vec::new();
        for parameter in self.weights.parameters.iter().filter(|parameter| parameter.is_matrix()) {
            match elements.iter_mut().find(|(dtype, _)| *dtype == parameter.tensor.dtype) {
                Some((_, count)) => *count += parameter.len(),
                None => elements.push((parameter.tensor.dtype, parameter.len())),
            }
        }
        elements.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        elements.iter().map(|(dtype, _)| dtype.name()).collect::<Vec<_>>().join("+")
    }

    /// Every trained tensor, in a fixed order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.weights.parameters
    }

    /// Values of a parameter, row-major in its shape.
    ///
    /// # Errors
    /// No such parameter, a kind that this purpose does not keep, or weights in blocks.
    pub fn download(&mut self, name: &str, kind: StateKind) -> Result<Vec<f32>> {
        let tensor = self.find(name, kind)?;
        if tensor.dtype.is_blocks() {
            let message = format!("weights in {} are not read back", tensor.dtype.name());
            return Err(Error::Tensor { name: name.to_string(), message });
        }
        Ok(self.device.download(tensor))
    }

    /// Replaces a parameter's values.
    ///
    /// # Errors
    /// No such parameter, a kind that this purpose does not keep, or another number of values.
    pub fn upload(&mut self, name: &str, kind: StateKind, values: &[f32]) -> Result<()> {
        let tensor = self.find(name, kind)?;
        if values.len() != tensor.len() {
            let message = format!("{} values where the model has {}", values.len(), tensor.len());
            return Err(Error::Tensor { name: name.to_string(), message });
        }
        self.device.upload(tensor, values);
        self.rounded_is_stale |= kind == StateKind::Weight;
        Ok(())
    }

    /// Whether a weight is kept in this type.
    ///
    /// # Errors
    /// No such parameter.
    pub fn keeps(&self, name: &str, dtype: DType) -> Result<bool> {
        Ok(self.find(name, StateKind::Weight)?.dtype == dtype)
    }

    /// Replaces a weight that is kept in blocks by others, as [`quant`] describes them, to the bit.
    ///
    /// # Errors
    /// No such parameter, one that is not kept in blocks, or another number of them.
    pub fn upload_blocks(&mut self, name: &str, from: &[u8]) -> Result<()> {
        let tensor = self.find(name, StateKind::Weight)?;
        let refuse = |message| Err(Error::Tensor { name: name.to_string(), message });
        if !tensor.dtype.is_blocks() {
            return refuse(format!("blocks for a tensor of {}", tensor.dtype.name()));
        }
        let expected = tensor.dtype.block_format().bytes_of(tensor.len());
        if from.len() != expected {
            return refuse(format!("{} bytes where the model has {expected}", from.len()));
        }
        self.device.upload_blocks(tensor, from);
        Ok(())
    }

    /// Copies all weights from another model of the same shape.
    ///
    /// # Errors
    /// A parameter that the other does not have in this size.
    pub fn copy_weights_from<E: Device>(&mut self, other: &mut Model<E>) -> Result<()> {
        let names: Vec<String> = self.weights.parameters.iter().map(|p| p.name.clone()).collect();
        for name in names {
            let values = other.download(&name, StateKind::Weight)?;
            self.upload(&name, StateKind::Weight, &values)?;
        }
        Ok(())
    }

    fn find(&self, name: &str, kind: StateKind) -> Result<Tensor> {
        let refuse = |message: &str| Error::Tensor { name: name.to_string(), message: message.to_string() };
        let index = self.weights.parameters.iter().position(|p| p.name == name);
        let index = index.ok_or_else(|| refuse("this model has no such tensor"))?;
        self.handle(index, kind).ok_or_else(|| refuse("this model keeps no such state of it"))
    }

    fn handle(&self, index: usize, kind: StateKind) -> Option<Tensor> {
        let parameter = &self.weights.parameters[index];
        if kind == StateKind::Moment2 && parameter.role == Role::Hidden && self.has_muon() {
            return None;
        }
        Some(at(parameter.tensor, self.region(kind)?))
    }

    /// Whether a parameter has values of this kind.
    pub fn has(&self, parameter: &Parameter, kind: StateKind) -> bool {
        self.find(&parameter.name, kind).is_ok()
    }

    fn has_muon(&self) -> bool {
        matches!(&self.layout, Arrangement::Train(layout, ..) if layout.muon.is_some())
    }

    /// A region as one vector, as far as it exists.
    pub(crate) fn whole(&self, kind: StateKind) -> Option<Tensor> {
        let flat = self.flat(self.region(kind)?);
        let absent = match kind {
            StateKind::Moment2 if self.has_muon() => self.weights.hidden_bytes / DType::F32.size(),
            _ => 0,
        };
        Some(flat.column_range(absent, flat.columns - absent))
    }

    /// Where a region of parameters starts.
    pub(crate) fn region(&self, kind: StateKind) -> Option<usize> {
        match &self.layout {
            Arrangement::Train(layout, ..) => match kind {
                StateKind::Weight => Some(layout.weights),
                StateKind::Moment1 => Some(layout.moment1),
                StateKind::Moment2 => Some(layout.moment2),
                StateKind::Average => layout.average,
                StateKind::Gradient => Some(layout.gradients),
            },
            Arrangement::Decode(layout) => (kind == StateKind::Weight).then_some(layout.weights),
        }
    }

    /// A whole region as one vector.
    pub(crate) fn flat(&self, start: usize) -> Tensor {
        let columns = self.weights.bytes / DType::F32.size();
        Tensor { offset: start, dtype: DType::F32, rows: 1, columns, row_stride: columns }
    }

    /// Views of Q, K and V inside a (rows, (H + 2K)·d) matrix.
    pub(crate) fn split_qkv(&self, qkv: Tensor) -> [Tensor; 3] {
        let (query, key_value) = (self.config.query_width(), self.config.key_value_width());
        [
            qkv.column_range(0, query),
            qkv.column_range(query, key_value),
            qkv.column_range(query + key_value, key_value),
        ]
    }

    /// `out = x · weightᵀ (+ residual)`.
    pub(crate) fn linear(&mut self, x: Tensor, weight: Tensor, out: Tensor, residual: Option<Tensor>) {
        self.device.gemm(Gemm {
            a: x,
            a_transposed: false,
            b: weight,
            b_transposed: true,
            out,
            residual,
            accumulate: false,
        });
    }

    pub(crate) fn norm(&self, x: Tensor, weight: Tensor, rstd: Tensor) -> RmsNorm {
        RmsNorm { x, weight, rstd, eps: self.config.rms_norm_eps as f32 }
    }

    /// Rotates queries and keys in place.
    pub(crate) fn rotate(&mut self, qkv: Tensor, [cos, sin]: [Tensor; 2], positions: Tensor, inverse: bool) {
        let width = self.config.query_width() + self.config.key_value_width();
        self.device.rope(Rope { x: qkv.column_range(0, width), cos, sin, positions, inverse });
    }

    /// A layer's weights at their place in a region.
    pub(crate) fn layer(&self, index: usize, start: usize) -> LayerWeights {
        let w = self.weights.layers[index];
        LayerWeights {
            attention_norm: at(w.attention_norm, start),
            qkv: at(w.qkv, start),
            qkv_bias: w.qkv_bias.map(|t| at(t, start)),
            qk_norm: w.qk_norm.map(|(q, k)| (at(q, start), at(k, start))),
            output: at(w.output, start),
            mlp_norm: at(w.mlp_norm, start),
            gate_up: at(w.gate_up, start),
            down: at(w.down, start),
        }
    }

    /// 1/√d.
    pub(crate) fn attention_scale(&self) -> f32 {
        1.0 / (self.config.head_dim as f32).sqrt()
    }
}

/// A region-relative handle at its place in the arena.
pub(crate) fn at(tensor: Tensor, start: usize) -> Tensor {
    Tensor { offset: tensor.offset + start, ..tensor }
}
