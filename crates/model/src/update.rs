//! The optimizer's step: AdamW for every parameter, or Muon for the layers' matrices and AdamW for the rest.
//!
//! Parameters that are treated alike and lie side by side are updated in one pass, so that a plain AdamW step
//! is two calls. Muon (Jordan et al. 2024) takes each named matrix by itself: momentum, then the nearest
//! semi-orthogonal matrix, found by five products of odd polynomials whose coefficients are those of Polar
//! Express (Amsel et al. 2025). A step's length is that of an AdamW step (Liu et al. 2025, "Muon is Scalable
//! for LLM Training"), so that one learning rate serves both.

use crate::network::{Arrangement, Model};
use crate::parameters::{Parameter, Role};
use crate::plan::{MuonRoom, TrainingLayout};
use compute::device::{AdamW, Blend, Descend, Gemm, Momentum};
use compute::{DType, Device, Tensor};

/// Options of one optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of AdamW's first moment.
    pub beta1: f32,
    /// Decay of AdamW's second moment.
    pub beta2: f32,
    /// Added to the root of AdamW's second moment.
    pub epsilon: f32,
    /// Decay of Muon's momentum.
    pub momentum: f32,
    /// Decoupled decay of matrices; norms and biases have none.
    pub weight_decay: f32,
    /// Gradients are scaled to at most this global norm; 0 = off.
    pub max_gradient_norm: f32,
    /// 1-based.
    pub step: u64,
    /// What multiplies the learning rate of some parameters.
    pub scales: Scales,
}

/// Factors on the learning rate by kind of parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Of the token embedding, and of the output layer where they are tied.
    pub embedding: f32,
    /// Of an output layer of its own.
    pub head: f32,
    /// Of the matrices of the layers.
    pub hidden: f32,
    /// Of norms and biases.
    pub vectors: f32,
    /// Layer i of L takes this to the power of L − 1 − i, the embedding to the power of L: below 1, what lies
    /// near the input moves less (Howard & Ruder 2018's discriminative fine-tuning).
    pub layer_decay: f32,
}

impl Default for Scales {
    fn default() -> Scales {
        Scales { embedding: 1.0, head: 1.0, hidden: 1.0, vectors: 1.0, layer_decay: 1.0 }
    }
}

impl Scales {
    fn of(&self, parameter: &Parameter, layers: usize) -> f32 {
        let role = match parameter.role {
            Role::Embedding => self.embedding,
            Role::Head => self.head,
            Role::Hidden => self.hidden,
            Role::Vector => self.vectors,
        };
        let from_end = match (parameter.layer, parameter.role) {
            (Some(layer), _) => layers - 1 - layer,
            (None, Role::Embedding) => layers,
            (None, _) => 0,
        };
        role * self.layer_decay.powi(from_end as i32)
    }
}

/// A range of the parameters that one call updates.
struct Group {
    first: usize,
    len: usize,
    scale: f32,
    decayed: bool,
    /// Rows and columns of a matrix that Muon updates.
    matrix: Option<(usize, usize)>,
}

/// p(X) = a·X + b·X·Xᵀ·X + c·(X·Xᵀ)²·X, one after the other: together they take singular values from 1e-3 to
/// 1 near 1 (Amsel et al. 2025, for five steps and that lower end).
const POLYNOMIALS: [(f32, f32, f32); 5] = [
    (8.156_554, -22.483_293, 15.878_77),
    (4.042_93, -2.808_917_5, 0.500_017_8),
    (3.891_667_8, -2.772_484_2, 0.506_064_8),
    (3.285_753_7, -2.368_129_5, 0.464_490_25),
    (2.346_541_3, -1.709_782_8, 0.423_235_5),
];

/// The root mean square of an AdamW update as it is usually found (Liu et al. 2025): what a Muon update is
/// scaled to.
const ADAMW_RMS: f32 = 0.2;

impl<D: Device> Model<D> {
    /// Applies the accumulated gradients, which Muon uses up. When they are not finite nothing changes, which
    /// the outcome says.
    pub fn optimizer_step(&mut self, update: &Update) {
        let layout = self.training();
        let gradients = self.flat(layout.gradients);
        self.device.squared_norm(gradients, layout.squared_norm);
        if layout.muon.is_some() {
            let hidden =
                |start| self.flat(start).column_range(0, self.weights.hidden_bytes / DType::F32.size());
            self.device.momentum(Momentum {
                gradient: hidden(layout.gradients),
                moment: hidden(layout.moment1),
                squared_norm: layout.squared_norm,
                max_gradient_norm: update.max_gradient_norm,
                beta: update.momentum,
            });
        }
        for group in self.groups(&update.scales, layout.muon.is_some()) {
            let rate = update.learning_rate * group.scale;
            let weight_decay = if group.decayed { update.weight_decay } else { 0.0 };
            match (&layout.muon, group.matrix) {
                (Some(room), Some(shape)) => {
                    self.muon(&layout, room, group.first, shape, rate, weight_decay);
                }
                _ => self.adamw(&layout, &group, rate, weight_decay, update),
            }
        }
    }

    /// `average = decay·average + (1 − decay)·weights`.
    ///
    /// # Panics
    /// In a model that keeps no average.
    pub fn average_weights(&mut self, decay: f32) {
        let layout = self.training();
        let average =
            self.flat(layout.average.expect("invariant: only models with an average are asked for it"));
        let weights = self.flat(layout.weights);
        self.device.blend(Blend { a: decay, x: average, b: 1.0 - decay, y: weights, out: average });
    }

    /// Lets the average and the weights change places, until the next call: what is read, validated or
    /// sampled between is the average. Nothing in a model that keeps none.
    pub fn swap_average(&mut self) {
        let Arrangement::Train(layout, ..) = &mut self.layout else { return };
        if let Some(average) = &mut layout.average {
            std::mem::swap(average, &mut layout.weights);
            self.rounded_is_stale = true;
        }
    }

    fn adamw(
        &mut self,
        layout: &TrainingLayout,
        group: &Group,
        learning_rate: f32,
        weight_decay: f32,
        update: &Update,
    ) {
        let range = |start| self.flat(start).column_range(group.first, group.len);
        let op = AdamW {
            weight: range(layout.weights),
            rounded: layout
                .rounded
                .map(|start| self.rounded_flat(start).column_range(group.first, group.len)),
            gradient: range(layout.gradients),
            moment1: range(layout.moment1),
            moment2: range(layout.moment2),
            squared_norm: layout.squared_norm,
            max_gradient_norm: update.max_gradient_norm,
            learning_rate,
            beta1: update.beta1,
            beta2: update.beta2,
            epsilon: update.epsilon,
            weight_decay,
            step: update.step,
        };
        self.device.adamw(op);
    }

    /// The step of one matrix whose gradient holds its momentum.
    fn muon(
        &mut self,
        layout: &TrainingLayout,
        room: &MuonRoom,
        first: usize,
        (rows, columns): (usize, usize),
        learning_rate: f32,
        weight_decay: f32,
    ) {
        let len = rows * columns;
        let range = |start| self.flat(start).column_range(first, len);
        let (gradient, weight) = (range(layout.gradients), range(layout.weights));
        let rounded = layout.rounded.map(|start| self.rounded_flat(start).column_range(first, len));
        let x = room.x.column_range(0, len);
        self.device.squared_norm(gradient, room.squared_norm);
        self.device.normalize(gradient, room.squared_norm, x);
        let direction = orthogonalize(&mut self.device, room, rows, columns);
        self.device.descend(Descend {
            weight,
            rounded,
            direction,
            squared_norm: layout.squared_norm,
            step: learning_rate * ADAMW_RMS * (rows.max(columns) as f32).sqrt(),
            decay: learning_rate * weight_decay,
        });
    }

    /// Ranges in the order of parameters. Where nothing tells neighbours apart they are one, with the padding
    /// between them.
    fn groups(&self, scales: &Scales, muon: bool) -> Vec<Group> {
        let parameters = &self.weights.parameters;
        let first = |parameter: &Parameter| parameter.tensor.offset / DType::F32.size();
        let mut groups: Vec<Group> = Vec::new();
        for (index, parameter) in parameters.iter().enumerate() {
            let begins = first(parameter);
            let ends = parameters.get(index + 1).map_or(self.weights.bytes / DType::F32.size(), first);
            let scale = scales.of(parameter, self.config.num_hidden_layers);
            let decayed = parameter.is_matrix();
            let tensor = parameter.tensor;
            let matrix = (muon && parameter.role == Role::Hidden).then_some((tensor.rows, tensor.columns));
            match groups.last_mut() {
                Some(last)
                    if matrix.is_none()
                        && last.matrix.is_none()
                        && last.scale == scale
                        && last.decayed == decayed =>
                {
                    last.len = ends - last.first;
                }
                _ => groups.push(Group { first: begins, len: ends - begins, scale, decayed, matrix }),
            }
        }
        groups
    }
}

/// The semi-orthogonal factor of the (rows, columns) matrix in `room.x`, as one vector somewhere in the room.
/// No singular value may be above 1.
fn orthogonalize<D: Device>(device: &mut D, room: &MuonRoom, rows: usize, columns: usize) -> Tensor {
    let shaped = |t: Tensor, rows, columns| Tensor {
        rows,
        columns,
        row_stride: columns,
        ..t.column_range(0, rows * columns)
    };
    let wide = rows <= columns;
    let side = rows.min(columns);
    let [mut x, mut next] = [room.x, room.next].map(|t| shaped(t, rows, columns));
    let [gram, square] = [room.gram, room.square].map(|t| shaped(t, side, side));
    let product = |a, b, out| Gemm {
        a,
        a_transposed: false,
        b,
        b_transposed: false,
        out,
        residual: None,
        accumulate: false,
    };
    for (a, b, c) in POLYNOMIALS {
        device.gemm(Gemm { a_transposed: !wide, b_transposed: wide, ..product(x, x, gram) });
        device.gemm(product(gram, gram, square));
        device.blend(Blend { a: b, x: gram, b: c, y: square, out: square });
        device.gemm(if wide { product(square, x, next) } else { product(x, square, next) });
        device.blend(Blend { a, x, b: 1.0, y: next, out: next });
        std::mem::swap(&mut x, &mut next);
    }
    Tensor { rows: 1, columns: rows * columns, row_stride: rows * columns, ..x }
}
