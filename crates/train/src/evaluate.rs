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

/// The mean of a set's batches, where `loss` is Σ weight · loss of one. `None` when the flag was raised
/// before the end, or the set has no token to predict.
pub fn evaluate(
    mut loss: impl FnMut(&Batch) -> f64,
    batches: impl Iterator<Item = tokens::Result<Batch>>,
    stop: &StopFlag,
) -> Result<Option<Evaluation>> {
    let (mut loss_sum, mut weight_sum) = (0.0, 0.0);
    for batch in batches {
        if stop.is_raised() {
            return Ok(None);
        }
        let batch = batch?;
        loss_sum += loss(&batch);
        weight_sum += batch.weight_sum();
    }
    Ok((weight_sum > 0.0).then(|| Evaluation { loss: loss_sum / weight_sum, tokens: weight_sum }))
}
