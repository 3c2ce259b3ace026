//! Work after a step: validation, end of epoch, samples, checkpoint.

use std::time::Instant;

use compute::{Batch, Device};
use runs::metrics::{EpochRecord, Metric, SampleRecord};
use runs::report::{Event, PhaseLoss, Reporter, ValidationRecord};
use runs::run::RunStatus;

use super::{Flow, Trainer};
use crate::Result;
use crate::checkpoint::{Best, EpochLoss, EpochSummary};
use crate::evaluate::{Evaluation, evaluate, weighted};

impl<D: Device> Trainer<'_, '_, '_, D> {
    /// Does the work that is due after `self.state.step`.
    pub(super) fn duties(&mut self, reporter: &mut dyn Reporter) -> Result<Flow> {
        let step = self.state.step;
        let options = &self.state.options;
        let every = |n: u64| n > 0 && step.is_multiple_of(n);
        let last = step == self.state.total_steps;
        let epoch_done = self.state.cursor.epoch > self.state.epoch.epoch;
        let phase_done = !last && self.phases.iter().any(|phase| phase.until == step);
        let sample_due = every(options.sample_every) || last;
        // A longer run can continue from there.
        let plateau_done = self.schedule.plateau_end() == Some(step);
        let mut save_due = every(options.checkpoint_every)
            || phase_done
            || plateau_done
            || (options.checkpoint_every == 0 && epoch_done);
        let (mut new_best, mut answer_due) = (false, false);
        if every(options.validate_every) || epoch_done || phase_done || last {
            match self.validate(reporter)? {
                Some(best) => new_best = best,
                None => return Ok(Flow::Stop),
            }
            answer_due = true;
        }
        if epoch_done {
            self.finish_epoch(reporter);
        }
        if phase_done {
            // Other data and other sequence lengths have other losses.
            self.state.spikes.forget();
        }
        save_due |= self.stop_early(reporter);
        self.state.duties_due = false;
        if sample_due {
            self.sample(reporter);
        }
        if save_due || new_best {
            self.save_as_anchor(reporter)?;
        }
        if answer_due {
            self.answer(reporter);
        }
        if phase_done {
            self.tell_phase(reporter);
        }
        Ok(Flow::Continue)
    }

    /// Validates; returns whether the loss is the best so far, or `None` if stopped before the end.
    pub(super) fn validate(&mut self, reporter: &mut dyn Reporter) -> Result<Option<bool>> {
        let Some(dataset) = self.job.validation else { return Ok(Some(false)) };
        let began = Instant::now();
        let step = self.state.step;
        let options = &self.state.options;
        let (rows, sequence_length) = (options.micro_batch_size, options.sequence_length);
        let cut = self.phase_of(step).map_or(1, |phase| phase.cut);
        self.model.swap_average();
        let mut at = |cut: usize| {
            let batches = dataset.batches(rows * cut, sequence_length / cut);
            let model = &mut *self.model;
            let loss = |batch: &Batch| match &self.job.preference {
                Some(preference) => {
                    let found = model.evaluate_pairs(batch, preference);
                    (found.loss_sum, found.pairs as f64)
                }
                None => weighted(model.evaluate(batch), batch),
            };
            evaluate(loss, batches, self.job.stop)
        };
        let whole = at(1);
        let in_phase = if cut > 1 { at(cut) } else { Ok(None) };
        self.model.swap_average();
        let Some(Evaluation { loss, .. }) = whole? else {
            return Ok(if self.job.stop.is_raised() { None } else { Some(false) });
        };
        let in_phase =
            in_phase?.map(|found| PhaseLoss { sequence_length: sequence_length / cut, loss: found.loss });
        if !loss.is_finite() {
            self.ledger.warning(format!("step {step}: the validation loss is {loss}"), reporter);
            return Ok(Some(false));
        }
        let best = self.state.best.is_none_or(|best| loss < best.loss);
        if best {
            self.state.best = Some(Best { step, loss });
            self.state.validations_since_best = 0;
        } else {
            self.state.validations_since_best += 1;
        }
        self.state.validation_loss = Some(loss);
        let record = ValidationRecord {
            step,
            epoch: self.epoch(),
            loss,
            perplexity: loss.exp(),
            best,
            in_phase,
            seconds: began.elapsed().as_secs_f64(),
        };
        self.ledger.metric(&Metric::Validation(record.clone()), reporter);
        self.ledger.tell(&Event::Validation(record), reporter);
        Ok(Some(best))
    }

    /// Early stopping: starts the final decay of a plateau, or else ends the run, after too many validations
    /// without improvement. Returns whether the plateau's last checkpoint is due.
    fn stop_early(&mut self, reporter: &mut dyn Reporter) -> bool {
        let (patience, since) = (self.state.options.early_stopping, self.state.validations_since_best);
        let is_over = self.state.stopped_early || self.state.decaying_after.is_some();
        let Some(Best { step: best_step, loss }) = self.state.best else { return false };
        if patience == 0 || since < patience || is_over {
            return false;
        }
        let step = self.state.step;
        let why = format!(
            "no improvement in {since} validations since step {best_step} (validation loss {loss:.4})"
        );
        // Later phases may use other data, so none of them is skipped.
        let decaying = self.schedule.decaying_after(step).filter(|_| self.phases.len() == 1);
        let is_decaying = decaying.is_some();
        let message = match decaying {
            Some(schedule) => {
                self.state.decaying_after = Some(step);
                self.state.total_steps = schedule.last_step();
                self.phases = self.state.options.phases(self.state.total_steps);
                self.schedule = schedule;
                let last = self.state.total_steps;
                format!(
                    "early stopping: {why}; the learning rate decays from step {step} to step {last}, where \
                     the run ends"
                )
            }
            None => {
                self.state.stopped_early = true;
                format!("early stopping at step {step} of {}: {why}", self.state.total_steps)
            }
        };
        self.ledger.note(message, reporter);
        is_decaying
    }

    pub(super) fn finish_epoch(&mut self, reporter: &mut dyn Reporter) {
        let state = &mut self.state;
        let sums = std::mem::take(&mut state.epoch);
        // Epochs of other phases' mixes are counted separately.
        let epoch = state.history.last().map_or(0, |last| last.epoch).max(sums.epoch) + 1;
        state.epoch = EpochLoss { epoch: state.cursor.epoch, ..EpochLoss::default() };
        if sums.weight_sum <= 0.0 {
            self.ledger.warning(format!("epoch {epoch} has no loss: all its steps were skipped"), reporter);
            return;
        }
        let train_loss = sums.loss_sum / sums.weight_sum;
        let validation_loss = self.job.validation.and(state.validation_loss);
        state.history.push(EpochSummary {
            epoch,
            step: state.step,
            train_loss,
            validation_loss,
            tokens: sums.tokens,
        });
        let now = self.meter.elapsed_s();
        let seconds = now - self.epoch_began_s;
        self.epoch_began_s = now;
        self.epoch_seconds.push(seconds);
        let step = state.step;
        let record = EpochRecord { epoch, step, train_loss, validation_loss, tokens: sums.tokens, seconds };
        self.ledger.metric(&Metric::EpochFinished(record), reporter);
        self.ledger.tell(&Event::EpochFinished { epoch, train_loss, validation_loss, seconds }, reporter);
        self.write_training_metrics(RunStatus::Running, reporter);
    }

    pub(super) fn sample(&mut self, reporter: &mut dyn Reporter) {
        let prompts = &self.state.options.sample_prompts;
        let Some(sampler) = self.sampler.as_mut().filter(|_| !prompts.is_empty()) else { return };
        self.model.swap_average();
        let texts = sampler.sample(self.model, prompts);
        self.model.swap_average();
        let samples = texts.map(|texts| prompts.clone().into_iter().zip(texts).collect());
        self.tell_samples(samples, reporter);
    }

    /// Answers conversations of the validation data, in fine-tuning.
    fn answer(&mut self, reporter: &mut dyn Reporter) {
        let Some(sampler) = self.sampler.as_mut().filter(|_| self.job.validation.is_some()) else { return };
        self.model.swap_average();
        let samples = sampler.answer(self.model);
        self.model.swap_average();
        self.tell_samples(samples, reporter);
    }

    fn tell_samples(&mut self, samples: Samples, reporter: &mut dyn Reporter) {
        match samples {
            Ok(samples) => {
                for (prompt, text) in samples {
                    let step = self.state.step;
                    let record = SampleRecord { step, prompt: prompt.clone(), text: text.clone() };
                    self.ledger.metric(&Metric::Sample(record), reporter);
                    self.ledger.tell(&Event::Sample { step, prompt, text }, reporter);
                }
            }
            Err(error) => self.ledger.warning(format!("cannot generate samples: {error}"), reporter),
        }
    }
}

/// Prompts and what follows them.
type Samples = std::result::Result<Vec<(String, String)>, Box<dyn std::error::Error + Send + Sync>>;
