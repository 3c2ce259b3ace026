//! A model that only evaluates: weights in the type of products, and the activations of one layer at a time.

use crate::config::ModelConfig;
use crate::error::Result;
use crate::forward::{Pass, Positions, Rows, upload_batch};
use crate::layout::{EvaluationLayout, MemoryPlan};
use crate::purpose::Evaluation;
use crate::weights::Weights;
use compute::{Batch, Device};

/// A model for losses and logits of whole sequences. It reserves neither gradients nor moments: 4 bytes a
/// parameter in f32 and 2 in bfloat16, and its activations.
pub struct Evaluator<D: Device> {
    weights: Weights<D>,
    layout: EvaluationLayout,
    positions: Positions,
}

impl<D: Device> Evaluator<D> {
    /// Lays the model out on `device`. Weights are zeros until they are uploaded.
    ///
    /// # Errors
    /// A configuration that cannot be built; a device without the memory.
    pub fn new(device: D, config: ModelConfig, evaluation: Evaluation) -> Result<Evaluator<D>> {
        config.validate()?;
        let layout = EvaluationLayout::new(&config, &evaluation);
        let storage = evaluation.storage();
        let tables = [layout.forward.cos, layout.forward.sin];
        let bytes = layout.plan.total_bytes;
        let weights = Weights::allocate(device, config, storage, layout.regions, tables, bytes)?;
        Ok(Evaluator { weights, layout, positions: Positions::default() })
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

    /// The arena's bytes by part.
    pub fn plan(&self) -> MemoryPlan {
        self.layout.plan
    }

    /// Σ weight · loss of a batch, in nats.
    ///
    /// # Panics
    /// When the batch is larger than the model was laid out for.
    pub fn evaluate(&mut self, batch: &Batch) -> f64 {
        let rows = self.upload_batch(batch);
        self.pass(rows).evaluate()
    }

    /// Logits (N, V) of a batch. Nowhere else do full logits exist.
    ///
    /// # Panics
    /// As [`Evaluator::evaluate`].
    pub fn logits(&mut self, batch: &Batch) -> Vec<f32> {
        let rows = self.upload_batch(batch);
        self.pass(rows).logits()
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
}
