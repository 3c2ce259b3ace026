//! The length of a run: the one rule by which plans, checks and the training loop count steps and epochs.

use tokens::TokenDataset;

use crate::{Error, Result, TrainOptions};

/// Optimizer steps of a run over training data of a known size.
///
/// An epoch serves every token once, in ⌈N/T⌉ sequences of T (the last one padded); a batch that an epoch
/// does not fill is filled from the next one. So a run of E epochs has ⌈E·⌈N/T⌉/B⌉ steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLength {
    /// Optimizer steps in all.
    pub steps: u64,
    /// Sequences that an epoch serves; 0 if the data is shorter than one sequence.
    pub sequences_per_epoch: u64,
    /// N: training tokens.
    tokens: u64,
    /// B: sequences an optimizer step.
    batch_size: usize,
    /// T: tokens a sequence.
    sequence_length: usize,
}

impl RunLength {
    /// The length of a run with these options over `tokens` training tokens.
    pub fn new(options: &TrainOptions, tokens: u64) -> RunLength {
        let sequences = tokens::windows_per_epoch(tokens, options.sequence_length);
        RunLength::of_sequences(options, tokens, sequences)
    }

    /// The length of a run with these options over a dataset; examples are packed into sequences.
    pub fn of_dataset(options: &TrainOptions, dataset: &TokenDataset) -> RunLength {
        let sequences = dataset.sequences(options.sequence_length);
        RunLength::of_sequences(options, dataset.token_count(), sequences)
    }

    /// The length of a run over `tokens` tokens, which an epoch serves in so many sequences.
    pub fn of_sequences(options: &TrainOptions, tokens: u64, sequences_per_epoch: u64) -> RunLength {
        let TrainOptions { batch_size, sequence_length, .. } = *options;
        let of_epochs = || {
            let epochs = options.epochs_wanted().unwrap_or(1);
            epochs.saturating_mul(sequences_per_epoch).div_ceil(batch_size.max(1) as u64)
        };
        let steps = options.steps.or(options.steps_of_phases()).unwrap_or_else(of_epochs);
        RunLength { steps, sequences_per_epoch, tokens, batch_size, sequence_length }
    }

    /// Tokens of all steps, with the padding of the last sequence of each epoch.
    pub fn tokens_trained(&self) -> u64 {
        self.steps * (self.batch_size * self.sequence_length) as u64
    }

    /// Steps of one epoch, rounded up.
    pub fn steps_per_epoch(&self) -> u64 {
        self.sequences_per_epoch.div_ceil(self.batch_size.max(1) as u64).max(1)
    }

    /// Epochs of all steps; `None` if there is no data.
    pub fn epochs(&self) -> Option<f64> {
        let sequences = (self.steps * self.batch_size as u64) as f64;
        (self.sequences_per_epoch > 0).then(|| sequences / self.sequences_per_epoch as f64)
    }

    /// Returns an error for data that cannot fill one batch.
    ///
    /// # Errors
    /// [`Error::Data`], which names sufficient values.
    pub fn check(&self) -> Result<()> {
        let RunLength { sequences_per_epoch: sequences, tokens, batch_size, sequence_length, .. } = *self;
        let message = if sequences == 0 {
            format!(
                "the training text has {tokens} tokens, fewer than one sequence of {sequence_length}: lower \
                 train.sequence_length to {} or less, or add text to data.paths",
                tokens.max(1)
            )
        } else if sequences < batch_size as u64 {
            format!(
                "the training text has {tokens} tokens, or {sequences} sequences of {sequence_length}: fewer \
                 than one batch of {batch_size}. Lower train.batch_size to {sequences} or less, lower \
                 train.sequence_length, or add text to data.paths"
            )
        } else {
            return Ok(());
        };
        Err(Error::Data { message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(tokens: u64, sequence_length: usize, batch_size: usize, epochs: u64) -> RunLength {
        let options =
            TrainOptions { epochs: Some(epochs), batch_size, sequence_length, ..TrainOptions::default() };
        RunLength::new(&options, tokens)
    }

    #[test]
    fn the_last_sequence_of_an_epoch_counts_though_it_is_padded() {
        let run = length(321, 64, 4, 3);
        assert_eq!((run.sequences_per_epoch, run.steps, run.steps_per_epoch()), (6, 5, 2));
        assert_eq!(run.epochs(), Some(20.0 / 6.0));
        assert_eq!(run.tokens_trained(), 5 * 4 * 64);
        run.check().unwrap();
    }

    #[test]
    fn data_that_fills_one_batch_is_enough() {
        length(385, 128, 4, 1).check().unwrap();
        let told = |run: RunLength| run.check().unwrap_err().to_string();
        assert!(told(length(384, 128, 4, 1)).contains("batch_size to 3 or less"));
        assert!(told(length(100, 128, 1, 1)).contains("sequence_length to 100 or less"));
        length(100, 100, 1, 1).check().unwrap();
        assert_eq!(length(0, 100, 1, 1).epochs(), None);
    }

    #[test]
    fn steps_win_over_epochs_and_phases_over_neither() {
        let steps = TrainOptions { steps: Some(7), ..TrainOptions::default() };
        assert_eq!(RunLength::new(&steps, 1_000_000).steps, 7);
    }
}
