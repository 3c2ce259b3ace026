//! The optimizer's step: AdamW for every parameter, or Muon for the layers' matrices and AdamW for the rest.
//!
//! Adjacent trained parameters that are treated alike are updated in one call, so that a plain AdamW step is
//! two calls. Muon (Jordan et al. 2024) processes each named matrix separately: momentum, then the nearest
//! semi-orthogonal matrix, found by five products of odd polynomials with the coefficients of Polar Express
//! (Amsel et al. 2025). The length of a step is that of an AdamW step (Liu et al. 2025, "Muon is Scalable for
//! LLM Training"), so that one learning rate serves both.

use crate::groups::{Group, LearningRateScales};
use crate::layout::MuonBuffers;
use crate::linear::product;
use crate::training::TrainingModel;
use crate::weights::vector;
use compute::device::{AdamW, Axpby, Gemm, Momentum, SgdStep};
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
    /// Muon's momentum.
    pub momentum: f32,
    /// Decoupled decay of matrices; norms and biases have none.
    pub weight_decay: f32,
    /// Gradients are scaled to at most this global norm; 0 = off.
    pub max_gradient_norm: f32,
    /// Step number, from 1.
    pub step: u64,
    /// Multipliers of the learning rate.
    pub scales: LearningRateScales,
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

/// The typical root mean square of an AdamW update (Liu et al. 2025), to which Muon updates are scaled.
const ADAMW_RMS: f32 = 0.2;

impl<D: Device> TrainingModel<D> {
    /// Applies the accumulated gradients, which Muon uses up. When they are not finite nothing changes, which
    /// the outcome says.
    pub fn optimizer_step(&mut self, update: &Update) {
        self.groups.update(&self.weights, self.training.optimizer, &update.scales);
        let gradients = self.gradients();
        let squared_norm = self.layout.squared_norm;
        self.weights.device.squared_norm(gradients, squared_norm);
        if self.layout.muon.is_some() {
            let columns = self.weights.network.bytes.hidden_state / DType::F32.size();
            self.weights.device.momentum(Momentum {
                gradient: vector(gradients.offset, columns),
                moment: vector(self.layout.state.moment1, columns),
                squared_norm,
                max_gradient_norm: update.max_gradient_norm,
                beta: update.momentum,
            });
        }
        for index in 0..self.groups.groups.len() {
            let group = self.groups.groups[index];
            let rate = update.learning_rate * group.scale;
            let weight_decay = if group.is_decayed { update.weight_decay } else { 0.0 };
            match (self.layout.muon, group.matrix) {
                (Some(buffers), Some(shape)) => self.muon(&buffers, &group, shape, rate, weight_decay),
                _ => self.adamw(&group, rate, weight_decay, update),
            }
        }
        self.weights.updated();
    }

    /// `average = decay·average + (1 − decay)·weights`.
    ///
    /// # Panics
    /// In a model that keeps no average.
    pub fn average_weights(&mut self, decay: f32) {
        let average = self.layout.state.average;
        let average = average.expect("invariant: only models with an average are asked for it");
        let master = self.weights.regions.master;
        for run in &self.trained_runs {
            let [x, y] =
                [average, master].map(|start| vector(start, run.end).column_range(run.start, run.len()));
            self.weights.device.axpby(Axpby { a: decay, x, b: 1.0 - decay, y, out: x });
        }
    }

    fn adamw(&mut self, group: &Group, learning_rate: f32, weight_decay: f32, update: &Update) {
        let state = |start| vector(start, group.state + group.len).column_range(group.state, group.len);
        let op = AdamW {
            weight: self.master(group),
            rounded: self.rounded(group),
            gradient: state(self.weights.regions.gradients),
            moment1: state(self.layout.state.moment1),
            moment2: state(self.layout.state.moment2),
            squared_norm: self.layout.squared_norm,
            max_gradient_norm: update.max_gradient_norm,
            learning_rate,
            beta1: update.beta1,
            beta2: update.beta2,
            epsilon: update.epsilon,
            weight_decay,
            step: update.step,
        };
        self.weights.device.adamw(op);
    }

    /// The update of one matrix whose gradient holds its momentum.
    fn muon(
        &mut self,
        buffers: &MuonBuffers,
        group: &Group,
        (rows, columns): (usize, usize),
        learning_rate: f32,
        weight_decay: f32,
    ) {
        let gradients = self.gradients();
        let gradient = gradients.column_range(group.state, group.len);
        let (weight, rounded) = (self.master(group), self.rounded(group));
        let device = &mut self.weights.device;
        device.squared_norm(gradient, buffers.squared_norm);
        let x = buffers.x.column_range(0, group.len);
        device.scale_by_frobenius_norm(gradient, buffers.squared_norm, x);
        let direction = orthogonalize(device, buffers, rows, columns);
        device.sgd_step(SgdStep {
            weight,
            rounded,
            direction,
            squared_norm: self.layout.squared_norm,
            step: learning_rate * ADAMW_RMS * (rows.max(columns) as f32).sqrt(),
            decay: learning_rate * weight_decay,
        });
    }

    fn master(&self, group: &Group) -> Tensor {
        let end = group.weight + group.len;
        vector(self.weights.regions.master, end).column_range(group.weight, group.len)
    }

    fn rounded(&self, group: &Group) -> Option<Tensor> {
        let offset = self.weights.regions.rounded? + group.weight * DType::Bf16.size();
        Some(Tensor { offset, dtype: DType::Bf16, ..vector(0, group.len) })
    }
}

/// The semi-orthogonal factor of the (rows, columns) matrix in `buffers.x`, as one vector in one of the
/// buffers. No singular value may be above 1.
fn orthogonalize<D: Device>(device: &mut D, buffers: &MuonBuffers, rows: usize, columns: usize) -> Tensor {
    let shaped = |t: Tensor, rows, columns| Tensor {
        rows,
        columns,
        row_stride: columns,
        ..t.column_range(0, rows * columns)
    };
    let wide = rows <= columns;
    let side = rows.min(columns);
    let [mut x, mut next] = [buffers.x, buffers.next].map(|t| shaped(t, rows, columns));
    let [gram, square] = [buffers.gram, buffers.square].map(|t| shaped(t, side, side));
    for (a, b, c) in POLYNOMIALS {
        device.gemm(Gemm { a_transposed: !wide, b_transposed: wide, ..product(x, x, gram) });
        device.gemm(product(gram, gram, square));
        device.axpby(Axpby { a: b, x: gram, b: c, y: square, out: square });
        device.gemm(if wide { product(square, x, next) } else { product(x, square, next) });
        device.axpby(Axpby { a, x, b: 1.0, y: next, out: next });
        std::mem::swap(&mut x, &mut next);
    }
    Tensor { rows: 1, columns: rows * columns, row_stride: rows * columns, ..x }
}
