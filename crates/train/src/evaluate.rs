//! Computes the validation loss: one pass over the validation set, in order.

use compute::Batch;

use crate::{Result, StopFlag};

/// Mean loss over the set's trained tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// In nats per token.
    pub loss: f64,
    /// Number of tokens in the mean.
    pub tokens: f64,
}

/// Σ weight · loss and Σ weight of a batch, by a model's `evaluate`.
pub fn weighted(loss: f64, batch: &Batch) -> (f64, f64) {
    (loss, batch.weight_sum())
}

/// The mean of a set's batches, where `loss` is Σ weight · loss of one and Σ weight. `None` when the flag
/// was raised before the end, or the set has no token to predict.
pub fn evaluate(
    mut loss: impl FnMut(&Batch) -> (f64, f64),
    batches: impl Iterator<Item = tokens::Result<Batch>>,
    stop: &StopFlag,
) -> Result<Option<Evaluation>> {
    let (mut loss_sum, mut weight_sum) = (0.0, 0.0);
    for batch in batches {
        if stop.is_raised() {
            return Ok(None);
        }
        let batch = batch?;
        let (loss, weight) = loss(&batch);
        loss_sum += loss;
        weight_sum += weight;
    }
    Ok((weight_sum > 0.0).then(|| Evaluation { loss: loss_sum / weight_sum, tokens: weight_sum }))
}
