//! Rollbacks: after non-finite values and loss spikes the run returns to a checkpoint.

use compute::Device;
use model::StepOutcome;
use runs::report::Reporter;

use super::{Flow, Trainer, open_loader, stream_name};
use crate::checkpoint::{EpochLoss, LeftStream, TrainerState, Which};
use crate::{Error, Result, begin};

/// Consecutive steps without a finite loss and gradient before the run counts as diverged.
const NON_FINITE_LIMIT: u64 = 10;
/// A problem within this many steps after another one counts as the same, even with a checkpoint in between.
const ROLLBACKS_APART: u64 = 64;

impl<D: Device> Trainer<'_, '_, '_, D> {
    pub(super) fn non_finite(
        &mut self,
        loss: f64,
        outcome: &StepOutcome,
        learning_rate: f64,
        reporter: &mut dyn Reporter,
    ) -> Result<Flow> {
        self.state.non_finite_in_a_row += 1;
        self.state.non_finite_steps += 1;
        let (step, count) = (self.state.step, self.state.non_finite_in_a_row);
        let consequence = if outcome.skipped_non_finite {
            "the update was skipped, the weights are unchanged"
        } else {
            "not finite"
        };
        let message = format!(
            "step {step}: loss {loss}, gradient norm {}: {consequence} ({count} consecutive; the run stops \
             at {NON_FINITE_LIMIT})",
            outcome.gradient_norm
        );
        self.ledger.warning(message, reporter);
        if count >= NON_FINITE_LIMIT {
            self.roll_back(Error::Diverged { step, count, learning_rate }, reporter)?;
        }
        Ok(Flow::Continue)
    }

    /// Rolls back to the last good state and skips the batches up to the problem. Returns `trouble` as the
    /// error if that was attempted often enough.
    pub(super) fn roll_back(&mut self, trouble: Error, reporter: &mut dyn Reporter) -> Result<()> {
        let at = self.state.step;
        let mut rollbacks = self.state.rollbacks;
        // Only a checkpoint after the last problem shows that the run is past it.
        let passed = self.state.anchors.last().is_some_and(|&step| step > rollbacks.last_trouble);
        let again = rollbacks.tries > 0 && !(passed && at > rollbacks.last_trouble + ROLLBACKS_APART);
        rollbacks.tries = if again { rollbacks.tries + 1 } else { 1 };
        if rollbacks.tries > self.state.options.rollbacks {
            return Err(trouble);
        }
        (rollbacks.count, rollbacks.last_trouble) = (rollbacks.count + 1, at);
        let mut state = self.load_anchor(rollbacks.tries, reporter)?;
        let message = format!(
            "{}. Rolled back to step {} (attempt {} of {}); the batches up to step {at} are skipped",
            self.told(&trouble),
            state.step,
            rollbacks.tries,
            self.state.options.rollbacks
        );
        state.rollbacks = rollbacks;
        // All loaders continue from their latest position, also if the checkpoint belongs to a phase with
        // other data.
        let now = &self.state;
        let epoch = EpochLoss { epoch: now.cursor.epoch, ..EpochLoss::default() };
        state.left.clone_from(&now.left);
        state.left.insert(stream_name(now.stream), LeftStream { cursor: now.cursor, epoch });
        if let Some(here) = state.left.remove(&stream_name(state.stream)) {
            state.cursor = here.cursor;
        }
        if state.stream != now.stream {
            self.loader = open_loader(self.job, &now.options, state.stream)?;
            self.loader.seek(&state.cursor)?;
        }
        // Values that a resume may have changed since that checkpoint.
        (state.options, state.total_steps) = (self.state.options.clone(), self.state.total_steps);
        state.decaying_after = self.state.decaying_after;
        self.checkpoint_step = (state.step > 0).then_some(state.step);
        self.epoch_seconds.truncate(state.history.len());
        self.ledger.cut_back(state.step)?;
        self.state = state;
        self.saved = None;
        self.ledger.warning(message, reporter);
        Ok(())
    }

    /// The problem as a sentence, without the remedies of the error's message.
    pub(super) fn told(&self, trouble: &Error) -> String {
        match trouble {
            Error::Spike { step, loss, median, .. } => {
                format!("step {step}: the loss spiked to {loss:.3} (recent median {median:.3})")
            }
            Error::Diverged { step, count, .. } => {
                format!("step {step}: loss or gradient was not finite in {count} consecutive steps")
            }
            other => other.to_string(),
        }
    }

    /// The state to roll back to, with weights and moments. It is one that every run of this recipe has,
    /// stopped or not; otherwise a stop would change the bits. The second attempt goes one state further
    /// back, before the first one to the start: the cause may have been saved before it showed.
    pub(super) fn load_anchor(&mut self, tries: u64, reporter: &mut dyn Reporter) -> Result<TrainerState> {
        let anchors = &self.state.anchors;
        let there = |step: &&u64| self.job.fs.exists(&self.checkpoints.path(**step));
        let passed_over = usize::from(tries > 1);
        let step = anchors.iter().rev().skip(passed_over).find(there);
        if let Some(&step) = step {
            match self.checkpoints.load(Which::Step(step), self.model, reporter) {
                Ok(Some(state)) => return Ok(state),
                Ok(None) => {}
                Err(error) => {
                    let message = format!("the checkpoint to roll back to is unusable: {error}");
                    self.ledger.warning(message, reporter);
                    if let Some(state) = self.checkpoints.load(Which::Latest, self.model, reporter)? {
                        return Ok(state);
                    }
                }
            }
        }
        begin::initialize(self.model, self.job, self.state.options.seed)?;
        Ok(self.fresh.clone())
    }
}
