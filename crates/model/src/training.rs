//! A model in training: its weights, gradients and optimizer state on a device.

use crate::backward::Backward;
use crate::config::ModelConfig;
use crate::decoder::TrainedDecoder;
use crate::error::{Error, Result};
use crate::forward::{Pass, Positions, Rows, gather_trained, upload_batch};
use crate::groups::{Groups, trained_runs};
use crate::layout::{DecodingLayout, MemoryPlan, TrainingLayout};
use crate::network::at;
use crate::parameters::{Parameter, Role};
use crate::preference::{PairOutcome, Preference};
use crate::purpose::Training;
use crate::weights::{Weights, check_len, vector};
use compute::{Batch, DType, Device, Tensor};
use std::ops::Range;

/// A model with what training adds to its weights: gradients and moments of the trained parameters, and
/// activations that the backward reads.
pub struct TrainingModel<D: Device> {
    pub(crate) weights: Weights<D>,
    pub(crate) layout: TrainingLayout,
    pub(crate) groups: Groups,
    /// Of the master weights: all but what is frozen and fused with what is trained.
    pub(crate) trained_runs: Vec<Range<usize>>,
    pub(crate) training: Training,
    positions: Positions,
}

/// The state of a parameter that decides how training continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKind {
    /// The weights themselves.
    Weight,
    /// AdamW's first moment, or Muon's momentum.
    Moment1,
    /// AdamW's second moment; matrices that Muon updates have none.
    Moment2,
    /// The moving average of the weights.
    Average,
}

impl StateKind {
    /// All of them.
    pub const ALL: [StateKind; 4] =
        [StateKind::Weight, StateKind::Moment1, StateKind::Moment2, StateKind::Average];
}

/// Results of a step, read when the device is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Σ weight · loss over the step's tokens, in nats.
    pub loss_sum: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
    /// The gradient was not finite, so the optimizer changed nothing.
    pub skipped_non_finite: bool,
}

impl<D: Device> TrainingModel<D> {
    /// Lays the model out on `device`. Weights are zeros until [`TrainingModel::initialize`] or an upload.
    ///
    /// # Errors
    /// A configuration that cannot be built; a device without the memory.
    pub fn new(device: D, config: ModelConfig, training: Training) -> Result<TrainingModel<D>> {
        config.validate()?;
        for (key, value) in
            [("batch_size", training.batch_size), ("sequence_length", training.sequence_length)]
        {
            if value == 0 {
                return Err(Error::Configuration { key, message: "must be at least 1".to_string() });
            }
        }
        let layout = TrainingLayout::new(&config, &training);
        if let Some(adapter) = &training.adapter {
            adapter.validate()?;
        }
        let tables = [layout.forward.cos, layout.forward.sin];
        let bytes = layout.plan.total_bytes;
        let weights = Weights::allocate(device, config, training.storage(), layout.regions, tables, bytes)?;
        Ok(TrainingModel {
            trained_runs: trained_runs(&weights),
            weights,
            layout,
            groups: Groups::default(),
            training,
            positions: Positions::default(),
        })
    }

    /// Initializes weights (normal, norms 1, biases 0), clears the moments, and resets the average.
    pub fn initialize(&mut self, seed: u64) {
        self.weights.initialize(seed);
        self.clear_state();
    }

    /// Clears the moments, and lets the average be the weights.
    pub fn clear_state(&mut self) {
        for kind in [StateKind::Moment1, StateKind::Moment2] {
            if let Some(flat) = self.whole(kind) {
                self.weights.device.fill(flat, 0.0);
            }
        }
        if let (Some(weights), Some(average)) =
            (self.whole(StateKind::Weight), self.whole(StateKind::Average))
        {
            self.weights.device.copy(weights, average);
        }
    }

    /// The weights.
    pub fn weights(&self) -> &Weights<D> {
        &self.weights
    }

    /// The weights, to replace them.
    pub fn weights_mut(&mut self) -> &mut Weights<D> {
        &mut self.weights
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        self.weights.config()
    }

    /// The training layout.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// The arena's bytes by part.
    pub fn plan(&self) -> MemoryPlan {
        self.layout.plan
    }

    /// Values of a parameter's state, row-major in its shape.
    ///
    /// # Errors
    /// No such parameter, or a state that is not kept of it.
    pub fn download(&mut self, name: &str, kind: StateKind) -> Result<Vec<f32>> {
        if kind == StateKind::Weight {
            return self.weights.download(name);
        }
        let tensor = self.find(name, kind)?;
        Ok(self.weights.device.download(tensor))
    }

    /// Replaces a parameter's state.
    ///
    /// # Errors
    /// No such parameter, a state that is not kept of it, or another number of values.
    pub fn upload(&mut self, name: &str, kind: StateKind, values: &[f32]) -> Result<()> {
        if kind == StateKind::Weight {
            return self.weights.upload(name, values);
        }
        check_len(self.weights.find(name)?, values)?;
        let tensor = self.find(name, kind)?;
        self.weights.device.upload(tensor, values);
        Ok(())
    }

    /// Whether a state is kept of a parameter.
    pub fn has(&self, parameter: &Parameter, kind: StateKind) -> bool {
        self.state(parameter, kind).is_some()
    }

    /// The gradient of a parameter since [`TrainingModel::begin_step`].
    ///
    /// # Errors
    /// No such parameter, or a frozen one.
    pub fn gradient(&mut self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.gradient_of(name)?;
        Ok(self.weights.device.download(tensor))
    }

    /// Replaces the gradient of a parameter.
    ///
    /// # Errors
    /// No such parameter, a frozen one, or another number of values.
    pub fn set_gradient(&mut self, name: &str, values: &[f32]) -> Result<()> {
        check_len(self.weights.find(name)?, values)?;
        let tensor = self.gradient_of(name)?;
        self.weights.device.upload(tensor, values);
        Ok(())
    }

    /// Clears the gradients and the loss.
    pub fn begin_step(&mut self) {
        let gradients = self.gradients();
        self.weights.device.fill(gradients, 0.0);
        self.pass(Rows::default()).clear_loss();
    }

    /// Forward and backward of a micro-batch: adds its gradients, times `gradient_scale` (1 / trained tokens
    /// of the whole step), and its loss. `dropout_seed` decides what dropout drops, where the model has any.
    ///
    /// # Panics
    /// When the batch is larger than the model was laid out for.
    pub fn accumulate(&mut self, batch: &Batch, gradient_scale: f32, dropout_seed: u64) {
        let rows = self.upload_batch(batch);
        let Weights { device, config, network, .. } = &mut self.weights;
        let gathered = gather_trained(device, config, &self.layout.forward, batch, self.layout.d_hidden);
        let adapter_dropout = self.training.adapter.as_ref().map_or(0.0, |adapter| adapter.dropout);
        let buffers = &self.layout.forward;
        let pass = Pass { device, config, network, buffers, rows, adapter_dropout, without_adapters: false };
        Backward { pass, layout: &self.layout, dropout_seed, gathered }.accumulate(gradient_scale);
    }

    /// As [`TrainingModel::accumulate`] for pairs of answers, the chosen one first: the gradients of the
    /// preference's loss, without dropout. The base is the model without its adapters.
    ///
    /// # Panics
    /// As [`TrainingModel::accumulate`]; for a model without adapters.
    pub fn accumulate_pairs(
        &mut self,
        batch: &Batch,
        preference: &Preference,
        gradient_scale: f32,
    ) -> PairOutcome {
        assert!(self.training.adapter.is_some(), "the base is the model without its adapters");
        let rows = self.upload_batch(batch);
        let compared = self.pass(rows).compare(batch);
        let (outcome, of_answers) = compared.weighted(preference);
        let mut weighted = Batch { weights: vec![0.0; batch.weights.len()], ..batch.clone() };
        for (answer, weight) in compared.answers.iter().zip(of_answers) {
            answer.iter().for_each(|&row| weighted.weights[row] = weight);
        }
        let Weights { device, config, network, .. } = &mut self.weights;
        let buffers = &self.layout.forward;
        device.upload_ids(rows.vector(buffers.targets), &weighted.targets);
        device.upload(rows.vector(buffers.token_weights), &weighted.weights);
        let gathered = gather_trained(device, config, buffers, &weighted, self.layout.d_hidden);
        let pass =
            Pass { device, config, network, buffers, rows, adapter_dropout: 0.0, without_adapters: false };
        Backward { pass, layout: &self.layout, dropout_seed: 0, gathered }.backward_from_loss(gradient_scale);
        outcome
    }

    /// What a model thinks of pairs of answers. Changes neither weights nor gradients.
    ///
    /// # Panics
    /// As [`TrainingModel::accumulate_pairs`].
    pub fn evaluate_pairs(&mut self, batch: &Batch, preference: &Preference) -> PairOutcome {
        let rows = self.upload_batch(batch);
        self.pass(rows).compare(batch).weighted(preference).0
    }

    /// Waits for the step and reads its figures.
    pub fn step_outcome(&mut self) -> StepOutcome {
        let device = &mut self.weights.device;
        let squared_norm = device.download_scalar(self.layout.squared_norm);
        StepOutcome {
            loss_sum: device.download_scalar(self.layout.forward.loss_sum),
            gradient_norm: squared_norm.sqrt(),
            skipped_non_finite: !squared_norm.is_finite(),
        }
    }

    /// Σ weight · loss of a batch, in nats. Changes neither weights nor gradients.
    ///
    /// # Panics
    /// When the batch is larger than the model was laid out for.
    pub fn evaluate(&mut self, batch: &Batch) -> f64 {
        let rows = self.upload_batch(batch);
        self.pass(rows).evaluate()
    }

    /// Continues a sequence of at most `tokens` with the weights as they are now, in the memory of the
    /// activations, which every step writes anew; `None`: they take less than that needs. Changes neither
    /// weights nor gradients.
    pub fn decoder(&mut self, tokens: usize) -> Option<TrainedDecoder<'_, D>> {
        let layout = DecodingLayout::within(&self.layout, &self.weights.config, &self.training, tokens)?;
        Some(TrainedDecoder::new(&mut self.weights, layout))
    }

    /// Whether every trained weight, moment and average is finite: a checkpoint must never contain anything
    /// else.
    pub fn state_is_finite(&mut self) -> bool {
        let scalar = self.layout.squared_norm;
        StateKind::ALL.into_iter().all(|kind| {
            let Some(flat) = self.whole(kind) else { return true };
            self.weights.device.squared_norm(flat, scalar);
            self.weights.device.download_scalar(scalar).is_finite()
        })
    }

    /// Swaps the average and the weights until the next call: in between, reads, validation and sampling use
    /// the average. Does nothing without an average.
    pub fn swap_average(&mut self) {
        if let Some(average) = self.layout.state.average {
            self.layout.state.average = Some(self.weights.regions.master);
            self.weights.set_master(average);
        }
    }

    fn upload_batch(&mut self, batch: &Batch) -> Rows {
        self.weights.update_derived();
        let Weights { device, config, .. } = &mut self.weights;
        upload_batch(device, config, &self.layout.forward, &mut self.positions, batch)
    }

    fn pass(&mut self, rows: Rows) -> Pass<'_, D> {
        let Weights { device, config, network, .. } = &mut self.weights;
        let buffers = &self.layout.forward;
        Pass { device, config, network, buffers, rows, adapter_dropout: 0.0, without_adapters: false }
    }

    fn find(&self, name: &str, kind: StateKind) -> Result<Tensor> {
        self.state(self.weights.find(name)?, kind).ok_or_else(|| Error::Tensor {
            name: name.to_string(),
            message: "this model has no such state for it".to_string(),
        })
    }

    fn gradient_of(&self, name: &str) -> Result<Tensor> {
        let state = self.weights.find(name)?.state.ok_or_else(|| Error::Tensor {
            name: name.to_string(),
            message: "it is frozen and has no gradient".to_string(),
        })?;
        Ok(at(state, self.weights.regions.gradients))
    }

    fn state(&self, parameter: &Parameter, kind: StateKind) -> Option<Tensor> {
        let (state, regions) = (&self.layout.state, &self.weights.regions);
        match kind {
            StateKind::Weight => Some(parameter.weight),
            StateKind::Moment1 => Some(at(parameter.state?, state.moment1)),
            StateKind::Moment2 if parameter.role == Role::Hidden && self.layout.muon.is_some() => None,
            StateKind::Moment2 => Some(at(parameter.state?, state.moment2)),
            StateKind::Average => {
                parameter.state?;
                let offset = parameter.weight.offset - regions.master + state.average?;
                Some(Tensor { offset, ..parameter.weight })
            }
        }
    }

    /// All gradients as one vector.
    pub(crate) fn gradients(&self) -> Tensor {
        let columns = self.weights.network.bytes.state / DType::F32.size();
        vector(self.weights.regions.gradients, columns)
    }

    /// A state of all trained parameters as one vector, as far as it exists.
    pub(crate) fn whole(&self, kind: StateKind) -> Option<Tensor> {
        let (state, bytes) = (&self.layout.state, &self.weights.network.bytes);
        let (start, bytes) = match kind {
            StateKind::Weight => (self.weights.regions.master, bytes.master),
            StateKind::Moment1 => (state.moment1, bytes.state),
            StateKind::Moment2 => (state.moment2 + state.moment2_absent, bytes.state - state.moment2_absent),
            StateKind::Average => (state.average?, bytes.master),
        };
        Some(vector(start, bytes / DType::F32.size()))
    }
}
