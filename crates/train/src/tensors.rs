//! The model as something with tensors to save, and how large its micro-batches should be.

use compute::{Device, Target};
use model::{MemoryPlan, Model, ModelConfig, Purpose, StateKind, Training};

use crate::checkpoint::{SavedTensor, TensorKind, TensorStore};
use crate::{Result, TrainOptions};

/// A model's weights and moments.
pub struct ModelTensors<'a, D: Device>(pub &'a mut Model<D>);

fn kind(kind: TensorKind) -> StateKind {
    match kind {
        TensorKind::Weight => StateKind::Weight,
        TensorKind::Moment1 => StateKind::Moment1,
        TensorKind::Moment2 => StateKind::Moment2,
        TensorKind::Average => StateKind::Average,
    }
}

impl<D: Device> TensorStore for ModelTensors<'_, D> {
    fn saved_tensors(&self) -> Vec<SavedTensor> {
        let kinds = [TensorKind::Weight, TensorKind::Moment1, TensorKind::Moment2, TensorKind::Average];
        let of = |of| {
            let kept = self.0.parameters().iter().filter(move |parameter| self.0.has(parameter, kind(of)));
            kept.map(move |parameter| SavedTensor {
                name: parameter.name.clone(),
                kind: of,
                shape: parameter.shape.clone(),
            })
        };
        kinds.into_iter().flat_map(of).collect()
    }

    fn read_tensor(&mut self, tensor: &SavedTensor) -> Result<Vec<f32>> {
        Ok(self.0.download(&tensor.name, kind(tensor.kind))?)
    }

    fn write_tensor(&mut self, tensor: &SavedTensor, values: &[f32]) -> Result<()> {
        Ok(self.0.upload(&tensor.name, kind(tensor.kind), values)?)
    }
}

/// `micro_batch_size`, or for 0 the largest divisor of `batch_size` whose activations fit in
/// [`Target::activations_bytes`]: the same recipe and precision should give the same bits whatever else runs
/// on the machine.
pub fn micro_batch_size(config: &ModelConfig, options: &TrainOptions, target: Target) -> usize {
    if options.micro_batch_size > 0 {
        return options.micro_batch_size;
    }
    // Computing layers again saves memory and must not change a bit, so it does not move the cut either.
    let fits = |batch_size: usize| {
        let training = Training { recompute: false, ..options.training(batch_size, target) };
        let plan = MemoryPlan::new(config, &Purpose::Train(training));
        plan.activations_bytes + plan.scratch_bytes <= target.activations_bytes()
    };
    (1..=options.batch_size)
        .rev()
        .filter(|&size| options.batch_size.is_multiple_of(size))
        .find(|&size| fits(size))
        .unwrap_or(1)
}
