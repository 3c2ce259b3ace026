//! Which parameters one call of the optimizer updates together, and their multiplier of the learning rate.

use crate::parameters::{Parameter, Role};
use crate::purpose::Optimizer;
use crate::weights::Weights;
use compute::{DType, Device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Multipliers of the learning rate by kind of parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LearningRateScales {
    /// Token embedding, and the output layer if it shares the embedding's weights.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub embedding: f64,
    /// Output layer, if it has its own weights.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub head: f64,
    /// Weight matrices of the layers.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub hidden: f64,
    /// Norms and biases.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub vectors: f64,
    /// Multiplier from each layer to the layer below it: layer i of L gets this to the power of L − 1 − i,
    /// the embedding to the power of L (discriminative fine-tuning, Howard & Ruder 2018); 0.8 to 0.95 is
    /// typical for fine-tuning.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub layer_decay: f64,
}

impl Default for LearningRateScales {
    fn default() -> LearningRateScales {
        LearningRateScales { embedding: 1.0, head: 1.0, hidden: 1.0, vectors: 1.0, layer_decay: 1.0 }
    }
}

impl LearningRateScales {
    fn of(&self, parameter: &Parameter, layers: usize) -> f32 {
        let role = match parameter.role {
            Role::Embedding => self.embedding,
            Role::Head => self.head,
            Role::Hidden => self.hidden,
            Role::Vector => self.vectors,
            Role::Adapter => 1.0,
        };
        let from_end = match (parameter.layer, parameter.role) {
            (Some(layer), _) => layers - 1 - layer,
            (None, Role::Embedding) => layers,
            (None, _) => 0,
        };
        role as f32 * (self.layer_decay as f32).powi(from_end as i32)
    }
}

/// Consecutive trained parameters that one call updates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// First element in the master weights.
    pub weight: usize,
    /// First element in each region of gradients and moments.
    pub state: usize,
    pub len: usize,
    pub scale: f32,
    pub is_decayed: bool,
    /// Rows and columns of a matrix that Muon updates.
    pub matrix: Option<(usize, usize)>,
}

/// The groups of a model, made anew when the scales of the learning rate change.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    of: Option<LearningRateScales>,
    pub groups: Vec<Group>,
}

impl Groups {
    /// Makes them anew where they are not those of these scales.
    pub fn update<D: Device>(
        &mut self,
        weights: &Weights<D>,
        optimizer: Optimizer,
        scales: &LearningRateScales,
    ) {
        if self.of.as_ref() != Some(scales) {
            *self = Groups { of: Some(*scales), groups: groups(weights, optimizer, scales) };
        }
    }
}

/// Trained parameters in order. Neighbors that are treated alike form one group, with the padding between
/// them.
fn groups<D: Device>(weights: &Weights<D>, optimizer: Optimizer, scales: &LearningRateScales) -> Vec<Group> {
    let size = DType::F32.size();
    let muon = optimizer == Optimizer::Muon;
    let mut groups: Vec<Group> = Vec::new();
    for parameter in weights.parameters() {
        let Some(tensor) = parameter.state else { continue };
        let is_muon = muon && parameter.role == Role::Hidden;
        let next = Group {
            weight: (parameter.weight.offset - weights.regions.master) / size,
            state: tensor.offset / size,
            len: parameter.len(),
            scale: scales.of(parameter, weights.config.num_hidden_layers),
            is_decayed: parameter.is_matrix(),
            matrix: is_muon.then_some((tensor.rows, tensor.columns)),
        };
        match groups.last_mut().filter(|last| last.is_continued_by(&next)) {
            Some(last) => last.len = next.weight + next.len - last.weight,
            None => groups.push(next),
        }
    }
    groups
}

/// Ranges of trained elements in the master weights; padding between them is part of a range.
pub(crate) fn trained_runs<D: Device>(weights: &Weights<D>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for parameter in weights.parameters().iter().filter(|parameter| parameter.is_trainable()) {
        let first = (parameter.weight.offset - weights.regions.master) / DType::F32.size();
        let end = first + parameter.len();
        match runs.last_mut().filter(|last| first - last.end < PADDING) {
            Some(last) => last.end = end,
            None => runs.push(first..end),
        }
    }
    runs
}

impl Group {
    /// Whether one update can go over both: the same rule, and the same distance in every region, with at
    /// most padding between them.
    fn is_continued_by(&self, next: &Group) -> bool {
        let alike = self.scale == next.scale && self.is_decayed == next.is_decayed;
        let plain = self.matrix.is_none() && next.matrix.is_none();
        let (weight, state) = (next.weight - self.weight, next.state - self.state);
        alike && plain && weight == state && weight - self.len < PADDING
    }
}

/// More f32 elements than lie between two tensors of a region.
const PADDING: usize = 64 / size_of::<f32>();
