//! Models as sources and targets of checkpoints, and the choice of the micro-batch.

use compute::{Device, Target};
use model::{MemoryPlan, ModelConfig, Parameter, Purpose, StateKind, Training, TrainingModel, Weights};

use crate::checkpoint::{SavedTensor, TensorStore};
use crate::{Error, Result, TrainOptions, Tuning};

fn saved(parameter: &Parameter, kind: StateKind) -> SavedTensor {
    SavedTensor { name: parameter.name.clone(), kind, shape: parameter.shape.clone() }
}

impl<D: Device> TensorStore for TrainingModel<D> {
    fn saved_tensors(&self) -> Vec<SavedTensor> {
        let of = |kind| {
            // Frozen weights are those of the run's base.
            let kept = self.weights().parameters().iter().filter(|parameter| parameter.is_trainable());
            let kept = kept.filter(move |parameter| self.has(parameter, kind));
            kept.map(move |parameter| saved(parameter, kind))
        };
        StateKind::ALL.into_iter().flat_map(of).collect()
    }

    fn read_tensor(&mut self, tensor: &SavedTensor) -> Result<Vec<f32>> {
        Ok(self.download(&tensor.name, tensor.kind)?)
    }

    fn write_tensor(&mut self, tensor: &SavedTensor, values: &[f32]) -> Result<()> {
        Ok(self.upload(&tensor.name, tensor.kind, values)?)
    }
}

/// Weights alone, of whatever model; of one with adapters, the adapters alone.
impl<D: Device> TensorStore for Weights<D> {
    fn saved_tensors(&self) -> Vec<SavedTensor> {
        let adapters = self.has_adapters();
        let kept = self.parameters().iter().filter(|parameter| !adapters || parameter.is_adapter());
        kept.map(|parameter| saved(parameter, StateKind::Weight)).collect()
    }

    fn read_tensor(&mut self, tensor: &SavedTensor) -> Result<Vec<f32>> {
        only_weights(tensor)?;
        Ok(self.download(&tensor.name)?)
    }

    fn write_tensor(&mut self, tensor: &SavedTensor, values: &[f32]) -> Result<()> {
        only_weights(tensor)?;
        Ok(self.upload(&tensor.name, values)?)
    }
}

fn only_weights(tensor: &SavedTensor) -> Result<()> {
    if tensor.kind == StateKind::Weight {
        return Ok(());
    }
    let message = "this model has no such state for it".to_owned();
    Err(Error::Model(model::Error::Tensor { name: tensor.name.clone(), message }))
}

/// `micro_batch_size`, or for 0 the largest divisor of `batch_size` whose activations fit in
/// [`Target::activations_bytes`]: the same recipe and precision must give the same bits whatever else runs on
/// the machine.
pub fn micro_batch_size(
    config: &ModelConfig,
    options: &TrainOptions,
    tuning: &Tuning,
    target: Target,
) -> usize {
    if options.micro_batch_size > 0 {
        return options.micro_batch_size;
    }
    // Recomputation saves memory and must not change any bit, so it does not affect the choice.
    let fits = |batch_size: usize| {
        let training = Training { recompute: false, ..options.training(batch_size, target, tuning) };
        let plan = MemoryPlan::new(config, &Purpose::Train(training));
        plan.activations_bytes + plan.scratch_bytes <= target.activations_bytes()
    };
    (1..=options.batch_size)
        .rev()
        .filter(|&size| options.batch_size.is_multiple_of(size))
        .find(|&size| fits(size))
        .unwrap_or(1)
}
