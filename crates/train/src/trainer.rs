//! The loop: step, validate, sample, save, until the steps are done or somebody asks to stop.
//!
//! After each step its duties follow in a fixed order: validation, end of epoch, samples, checkpoint. A stop in the middle
//! of a step drops the step (nothing but gradients has changed); a stop in the middle of the duties saves them as due, and
//! the next session begins with them. A loss that spikes or is not finite sends the run back to a checkpoint. So a run that was stopped anywhere goes through the same sequence as one that
//! was not.

use std::time::Instant;

use compute::rng::Rng;
use compute::{Batch, Device};
use corpus::{Loader, LoaderOptions};
use model::{Model, StepOutcome};
use store::metrics::{EpochRecord, Metric, SampleRecord};
use store::report::{Event, Phase, Reporter, StepRecord, ValidationRecord};
use store::run::RunStatus;

use crate::checkpoint::{Best, Checkpoints, EpochLoss, EpochSummary, LeftStream, Spike, TrainerState, Which};
use crate::evaluate::evaluate;
use crate::job::{Ending, Job, Outcome, Sampler};
use crate::ledger::{Figures, Ledger};
use crate::meter::Meter;
use crate::schedule::Schedule;
use crate::summary::{Measured, training_metrics};
use crate::{Error, Result, TrainOptions, begin, phase};

/// Steps in a row without a finite loss and gradient before the run counts as diverged.
const NON_FINITE_LIMIT: u64 = 10;
/// Checkpoints to roll back to.
const ANCHORS: usize = 2;
/// Steps after a trouble within which the next one is the same, even where a checkpoint came between.
const ROLLBACKS_APART: u64 = 64;

/// Trains until done or stopped. The state is on the disk when it returns `Ok`; after an error the newest whole checkpoint is.
///
/// # Errors
/// See [`Error`]; the run's `state.json` then says failed and why.
pub fn train<D: Device>(
    model: &mut Model<D>,
    job: &Job,
    sampler: Option<&mut dyn Sampler<D>>,
    reporter: &mut dyn Reporter,
) -> Result<Outcome> {
    let started = begin::begin(model, job, reporter)?;
    let mut trainer = Trainer::new(model, job, sampler, started, reporter)?;
    match trainer.run(reporter) {
        Ok(ending) => trainer.finish(ending, reporter),
        Err(error) => {
            trainer.fail(&error, reporter);
            Err(error)
        }
    }
}

struct Trainer<'a, 'j, 's, D: Device> {
    model: &'a mut Model<D>,
    job: &'a Job<'j>,
    sampler: Option<&'s mut dyn Sampler<D>>,
    loader: Loader<'a>,
    /// The micro-batches of one step; their weights must be known before the first goes through the model.
    batches: Vec<Batch>,
    schedule: Schedule,
    phases: Vec<phase::Phase>,
    checkpoints: Checkpoints<'a>,
    ledger: Ledger<'a>,
    meter: Meter,
    state: TrainerState,
    /// What the newest checkpoint of this session holds.
    saved: Option<TrainerState>,
    /// The state of step 0, to roll back to before there is a checkpoint.
    fresh: TrainerState,
    checkpoint_step: Option<u64>,
    epoch_seconds: Vec<f64>,
    epoch_began_s: f64,
    session_steps: u64,
    session_tokens: u64,
    session_step_s: f64,
}

/// The phase of `step` where it has data of its own.
fn stream_of(job: &Job, phases: &[phase::Phase], step: u64) -> Option<usize> {
    let index = phases.iter().position(|phase| step <= phase.until)?;
    job.phases.get(index).is_some_and(Option::is_some).then_some(index)
}

fn stream_name(stream: Option<usize>) -> String {
    stream.map_or("all".to_owned(), |index| index.to_string())
}

fn open_loader<'a>(job: &'a Job, options: &TrainOptions, stream: Option<usize>) -> Result<Loader<'a>> {
    let own = stream.and_then(|index| job.phases.get(index)?.as_ref());
    let loader = LoaderOptions {
        batch_size: options.micro_batch_size,
        sequence_length: options.sequence_length,
        // The same text in another phase comes in another order.
        seed: options.seed.wrapping_add(stream.map_or(0, |index| index as u64 + 1)),
        shuffle: true,
    };
    Ok(Loader::new(own.unwrap_or(job.training), loader)?)
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

impl<'a, 'j, 's, D: Device> Trainer<'a, 'j, 's, D> {
    fn new(
        model: &'a mut Model<D>,
        job: &'a Job<'j>,
        sampler: Option<&'s mut dyn Sampler<D>>,
        started: begin::Started,
        reporter: &mut dyn Reporter,
    ) -> Result<Self> {
        let begin::Started { state, fresh, resumed_from, notes } = started;
        let options = &state.options;
        let micro = options.micro_batch_size;
        let phases = options.phases(state.total_steps);
        let mut loader = open_loader(job, options, state.stream)?;
        loader.seek(&state.cursor)?;
        let (ledger, past) = Ledger::open(job.fs, job.run, state.step)?;
        let mut trainer = Trainer {
            batches: (0..options.batch_size / micro)
                .map(|_| Batch::new(micro, options.sequence_length))
                .collect(),
            schedule: options.schedule(state.total_steps),
            phases,
            checkpoints: Checkpoints::new(job.fs, &job.run.checkpoints()),
            ledger,
            meter: Meter::start(past.elapsed_s),
            saved: resumed_from.map(|_| state.clone()),
            fresh,
            checkpoint_step: resumed_from,
            epoch_began_s: past.epoch_seconds.iter().sum::<f64>().min(past.elapsed_s),
            epoch_seconds: past.epoch_seconds,
            session_steps: 0,
            session_tokens: 0,
            session_step_s: 0.0,
            model,
            job,
            sampler,
            loader,
            state,
        };
        for note in notes {
            trainer.ledger.note(note, reporter);
        }
        Ok(trainer)
    }

    fn run(&mut self, reporter: &mut dyn Reporter) -> Result<Ending> {
        self.write_state(RunStatus::Running, "training", reporter);
        self.tell_phase(reporter);
        if self.state.duties_due && self.duties(reporter)? == Flow::Stop {
            return self.interrupt(reporter);
        }
        loop {
            while self.state.step < self.state.total_steps && !self.state.stopped_early {
                if self.job.stop.is_raised()
                    || self.step(reporter)? == Flow::Stop
                    || (self.state.duties_due && self.duties(reporter)? == Flow::Stop)
                {
                    return self.interrupt(reporter);
                }
                if self.ledger.state_is_due() {
                    self.ledger.check_folder()?;
                }
                self.write_state(RunStatus::Running, "training", reporter);
            }
            // Weights that are not finite send the run back.
            self.save_as_anchor(reporter)?;
            if self.state.step == self.state.total_steps || self.state.stopped_early {
                return Ok(Ending::Completed);
            }
        }
    }

    fn phase_of(&self, step: u64) -> Option<&phase::Phase> {
        self.phases.iter().find(|phase| step <= phase.until)
    }

    /// Lets the loader serve what the phase of `step` learns from, from where that was left.
    fn turn_to_stream_of(&mut self, step: u64) -> Result<()> {
        let stream = stream_of(self.job, &self.phases, step);
        let state = &mut self.state;
        if stream == state.stream {
            return Ok(());
        }
        let next = state.left.remove(&stream_name(stream)).unwrap_or_default();
        let mut loader = open_loader(self.job, &state.options, stream)?;
        loader.seek(&next.cursor)?;
        let before =
            LeftStream { cursor: state.cursor, epoch: std::mem::replace(&mut state.epoch, next.epoch) };
        state.left.insert(stream_name(state.stream), before);
        (self.loader, state.stream, state.cursor) = (loader, stream, next.cursor);
        Ok(())
    }

    /// Says in which phase the run is, where it has several.
    fn tell_phase(&mut self, reporter: &mut dyn Reporter) {
        let (next, count) = (self.state.step + 1, self.phases.len());
        if let Some(phase) = self.phase_of(next).filter(|_| count > 1) {
            let message = format!(
                "phase \"{}\": steps {} to {}, {} tokens a sequence",
                phase.name,
                phase.after + 1,
                phase.until,
                self.state.options.sequence_length / phase.cut
            );
            self.ledger.note(message, reporter);
        }
    }

    /// One optimizer step. On `Stop` nothing has been learned.
    fn step(&mut self, reporter: &mut dyn Reporter) -> Result<Flow> {
        let began = Instant::now();
        let step = self.state.step + 1;
        self.turn_to_stream_of(step)?;
        let before = self.loader.cursor();
        let cut = self.phase_of(step).map_or(1, |phase| phase.cut);
        let mut weight_sum = 0.0;
        let mut tokens = 0;
        for batch in &mut self.batches {
            self.loader.next_batch(batch)?;
            phase::cut(batch, cut);
            weight_sum += batch.weight_sum();
            tokens += batch.weights.iter().filter(|&&weight| weight > 0.0).count() as u64;
        }
        let learning_rate = self.schedule.learning_rate(step);
        // Nothing to learn from, such as a part of the data whose every token is masked: no update.
        let outcome = match weight_sum > 0.0 {
            true => match self.update(step, weight_sum, learning_rate) {
                Some(outcome) => Some(outcome),
                None => {
                    self.loader.seek(&before)?;
                    return Ok(Flow::Stop);
                }
            },
            false => None,
        };
        let duration = began.elapsed();
        self.meter.step(duration);

        let state = &mut self.state;
        state.step = step;
        state.cursor = self.loader.cursor();
        state.duties_due = true;
        self.session_steps += 1;
        self.session_step_s += duration.as_secs_f64();
        state.tokens_seen += tokens;
        self.session_tokens += tokens;
        let Some(outcome) = outcome else { return Ok(Flow::Continue) };
        let state = &mut self.state;
        let loss = outcome.loss_sum / weight_sum;
        if !outcome.skipped_non_finite {
            state.updates += 1;
        }
        if outcome.skipped_non_finite || !loss.is_finite() {
            return self.non_finite(loss, &outcome, learning_rate, reporter);
        }
        state.non_finite_in_a_row = 0;
        state.train_loss = Some(loss);
        state.epoch.loss_sum += outcome.loss_sum;
        state.epoch.weight_sum += weight_sum;
        state.epoch.tokens += tokens;
        let record = StepRecord {
            step,
            total_steps: self.state.total_steps,
            epoch: self.epoch(),
            loss,
            learning_rate,
            gradient_norm: outcome.gradient_norm,
            tokens_per_s: tokens as f64 / duration.as_secs_f64().max(1e-9),
            tokens_seen: self.state.tokens_seen,
            elapsed_s: self.meter.elapsed_s(),
            eta_s: self.meter.eta_s(self.state.total_steps - step),
            rss_bytes: store::system::rss_bytes().unwrap_or(0),
        };
        self.ledger.metric(&Metric::Step(record.clone()), reporter);
        self.ledger.tell(&Event::Step(record), reporter);
        let watched = self.state.options.rollbacks > 0;
        if let Some(Spike { loss, median, .. }) = watched.then(|| self.state.spikes.push(loss)).flatten() {
            let tries = self.state.options.rollbacks;
            self.roll_back(Error::Spike { step, loss, median, tries, learning_rate }, reporter)?;
        }
        Ok(Flow::Continue)
    }

    /// Back to the last good state, to go on from there with the batches after the trouble: what was met between is left out.
    /// Gives `trouble` back as the error when that was tried often enough.
    fn roll_back(&mut self, trouble: Error, reporter: &mut dyn Reporter) -> Result<()> {
        let at = self.state.step;
        let mut rollbacks = self.state.rollbacks;
        // Only a checkpoint beyond the last trouble shows that the run is past it.
        let passed = self.state.anchors.last().is_some_and(|&step| step > rollbacks.last_trouble);
        let again = rollbacks.tries > 0 && !(passed && at > rollbacks.last_trouble + ROLLBACKS_APART);
        rollbacks.tries = if again { rollbacks.tries + 1 } else { 1 };
        if rollbacks.tries > self.state.options.rollbacks {
            return Err(trouble);
        }
        (rollbacks.count, rollbacks.last_trouble) = (rollbacks.count + 1, at);
        let mut state = self.load_anchor(rollbacks.tries, reporter)?;
        let message = format!(
            "{}. Rolled back to step {} (try {} of {}); the batches up to step {at} are left out",
            self.told(&trouble),
            state.step,
            rollbacks.tries,
            self.state.options.rollbacks
        );
        state.rollbacks = rollbacks;
        // All data go on from where they were left last, also where the checkpoint is of a phase with other data.
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
        // What a resume may have changed since that checkpoint.
        (state.options, state.total_steps) = (self.state.options.clone(), self.state.total_steps);
        self.checkpoint_step = (state.step > 0).then_some(state.step);
        self.epoch_seconds.truncate(state.history.len());
        self.ledger.cut_back(state.step)?;
        self.state = state;
        self.saved = None;
        self.ledger.warning(message, reporter);
        Ok(())
    }

    /// In a sentence; the remedies in an error's message are for when it has come to the worst.
    fn told(&self, trouble: &Error) -> String {
        match trouble {
            Error::Spike { step, loss, median, .. } => {
                format!("step {step}: the loss has spiked to {loss:.3}, where {median:.3} was usual")
            }
            Error::Diverged { step, count, .. } => {
                format!("step {step}: loss or gradient was not finite in {count} steps in a row")
            }
            other => other.to_string(),
        }
    }

    /// The state to roll back to, with the model's weights and moments. It is one that every course of the run comes by,
    /// whether it was stopped or not, or else a stop would change the bits. The second try goes one further back, before the first to
    /// the beginning: what ruined the run may have been saved before it showed.
    fn load_anchor(&mut self, tries: u64, reporter: &mut dyn Reporter) -> Result<TrainerState> {
        let anchors = &self.state.anchors;
        let there = |step: &&u64| self.job.fs.exists(&self.checkpoints.path(**step));
        let passed_over = usize::from(tries > 1);
        let step = anchors.iter().rev().skip(passed_over).find(there);
        if let Some(&step) = step {
            let mut tensors = crate::tensors::ModelTensors(self.model);
            match self.checkpoints.load(Which::Step(step), &mut tensors, reporter) {
                Ok(Some(state)) => return Ok(state),
                Ok(None) => {}
                Err(error) => {
                    let message = format!("the checkpoint to roll back to cannot be used: {error}");
                    self.ledger.warning(message, reporter);
                    if let Some(state) = self.checkpoints.load(Which::Latest, &mut tensors, reporter)? {
                        return Ok(state);
                    }
                }
            }
        }
        self.model.initialize(self.state.options.seed);
        Ok(self.fresh.clone())
    }

    /// Gradients and the update; `None` when stopped before the update.
    fn update(&mut self, step: u64, weight_sum: f64, learning_rate: f64) -> Option<StepOutcome> {
        // Weighted by trained tokens over the whole step, so that how it is cut into micro-batches does not matter.
        let gradient_scale = (1.0 / weight_sum) as f32;
        self.model.begin_step();
        for (i, batch) in self.batches.iter().enumerate() {
            if self.job.stop.is_raised() {
                return None;
            }
            let dropout_seed =
                Rng::from_parts(self.state.options.seed, "dropout", &[step, i as u64]).next_u64();
            self.model.accumulate(batch, gradient_scale, dropout_seed);
        }
        let (options, updates) = (&self.state.options, self.state.updates + 1);
        self.model.optimizer_step(&options.update(learning_rate, updates));
        if options.ema_decay > 0.0 {
            self.model.average_weights(options.ema_decay_at(updates) as f32);
        }
        Some(self.model.step_outcome())
    }

    fn non_finite(
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
            "step {step}: loss {loss}, gradient norm {}: {consequence} ({count} in a row; the run stops at \
             {NON_FINITE_LIMIT})",
            outcome.gradient_norm
        );
        self.ledger.warning(message, reporter);
        if count >= NON_FINITE_LIMIT {
            self.roll_back(Error::Diverged { step, count, learning_rate }, reporter)?;
        }
        Ok(Flow::Continue)
    }

    /// What `self.state.step` brings with it besides itself.
    fn duties(&mut self, reporter: &mut dyn Reporter) -> Result<Flow> {
        let step = self.state.step;
        let options = &self.state.options;
        let every = |n: u64| n > 0 && step.is_multiple_of(n);
        let last = step == self.state.total_steps;
        let epoch_done = self.state.cursor.epoch > self.state.epoch.epoch;
        let phase_done = !last && self.phases.iter().any(|phase| phase.until == step);
        let sample_due = every(options.sample_every) || last;
        let save_due =
            every(options.checkpoint_every) || phase_done || (options.checkpoint_every == 0 && epoch_done);
        let mut new_best = false;
        if every(options.validate_every) || epoch_done || phase_done || last {
            match self.validate(reporter)? {
                Some(best) => new_best = best,
                None => return Ok(Flow::Stop),
            }
        }
        if epoch_done {
            self.finish_epoch(reporter);
        }
        if phase_done {
            // Other data have other losses, and so has another context.
            self.state.spikes.forget();
        }
        self.stop_early(reporter);
        self.state.duties_due = false;
        if sample_due {
            self.sample(reporter);
        }
        if save_due || new_best {
            self.save_as_anchor(reporter)?;
        }
        if phase_done {
            self.tell_phase(reporter);
        }
        Ok(Flow::Continue)
    }

    /// Whether the model is better than ever; `None` when stopped before the end.
    fn validate(&mut self, reporter: &mut dyn Reporter) -> Result<Option<bool>> {
        let Some(dataset) = self.job.validation else { return Ok(Some(false)) };
        let began = Instant::now();
        let options = &self.state.options;
        let batches = dataset.batches(options.micro_batch_size, options.sequence_length);
        self.model.swap_average();
        let evaluation = evaluate(self.model, batches, self.job.stop);
        self.model.swap_average();
        let Some(evaluation) = evaluation? else {
            return Ok(if self.job.stop.is_raised() { None } else { Some(false) });
        };
        let loss = evaluation.loss;
        let step = self.state.step;
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
            seconds: began.elapsed().as_secs_f64(),
        };
        self.ledger.metric(&Metric::Validation(record.clone()), reporter);
        self.ledger.tell(&Event::Validation(record), reporter);
        Ok(Some(best))
    }

    /// Ends the run where validation has not improved for as long as was asked for.
    fn stop_early(&mut self, reporter: &mut dyn Reporter) {
        let (patience, since) = (self.state.options.early_stopping, self.state.validations_since_best);
        if patience == 0 || since < patience || self.state.stopped_early {
            return;
        }
        if let Some(Best { step, loss }) = self.state.best {
            self.state.stopped_early = true;
            let message = format!(
                "stopping early at step {} of {}: {since} validations in a row were no better than {loss:.4}, of step {step}",
                self.state.step, self.state.total_steps
            );
            self.ledger.note(message, reporter);
        }
    }

    fn finish_epoch(&mut self, reporter: &mut dyn Reporter) {
        let state = &mut self.state;
        let sums = std::mem::take(&mut state.epoch);
        // Epochs of other phases' mixes count on.
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

    fn sample(&mut self, reporter: &mut dyn Reporter) {
        let prompts = &self.state.options.sample_prompts;
        let Some(sampler) = self.sampler.as_mut().filter(|_| !prompts.is_empty()) else { return };
        self.model.swap_average();
        let texts = sampler.sample(self.model, prompts);
        self.model.swap_average();
        match texts {
            Ok(texts) => {
                for (prompt, text) in prompts.clone().into_iter().zip(texts) {
                    let step = self.state.step;
                    let record = SampleRecord { step, prompt: prompt.clone(), text: text.clone() };
                    self.ledger.metric(&Metric::Sample(record), reporter);
                    self.ledger.tell(&Event::Sample { step, prompt, text }, reporter);
                }
            }
            Err(error) => self.ledger.warning(format!("no samples: {error}"), reporter),
        }
    }

    /// Writes a checkpoint that is due by the schedule alone; weights that are not finite send the run back instead.
    fn save_as_anchor(&mut self, reporter: &mut dyn Reporter) -> Result<()> {
        let before = self.state.anchors.clone();
        let calm = self.state.spikes.is_calm() && self.state.non_finite_in_a_row == 0;
        if calm && self.state.anchors.last() != Some(&self.state.step) {
            self.state.anchors.push(self.state.step);
            let old = self.state.anchors.len().saturating_sub(ANCHORS);
            self.state.anchors.drain(..old);
        }
        match self.save(true, reporter) {
            Err(trouble @ Error::NonFiniteWeights { .. }) => {
                self.state.anchors = before;
                self.roll_back(trouble, reporter)
            }
            done => done,
        }
    }

    /// Writes a checkpoint unless the newest one holds the same.
    fn save(&mut self, prune: bool, reporter: &mut dyn Reporter) -> Result<()> {
        if self.saved.as_ref() == Some(&self.state) {
            return Ok(());
        }
        self.ledger.check_folder()?;
        let began = Instant::now();
        let step = self.state.step;
        let mut tensors = crate::tensors::ModelTensors(self.model);
        let needed_bytes = Checkpoints::size_bytes(&tensors);
        let what = format!("the checkpoint of step {step}");
        let (checkpoints, ledger, state) = (&self.checkpoints, &mut self.ledger, &self.state);
        let saved = self.job.patience.wait_out(&what, self.job.stop, reporter, |_| {
            ledger.sync()?;
            checkpoints.save(state, &mut tensors)
        });
        let saved = match saved {
            Ok(saved) => saved,
            Err(source) if source.kind() == crate::ErrorKind::Diverged => return Err(source),
            Err(source) => {
                return Err(Error::Save {
                    step,
                    folder: self.job.run.checkpoints(),
                    needed_bytes,
                    last_good: match self.checkpoint_step {
                        Some(step) => format!("The last good checkpoint is that of step {step}."),
                        None => "There is no earlier checkpoint.".to_owned(),
                    },
                    source: Box::new(source),
                });
            }
        };
        self.checkpoint_step = Some(step);
        self.saved = Some(self.state.clone());
        let event = Event::CheckpointSaved { step, path: saved.path, seconds: began.elapsed().as_secs_f64() };
        self.ledger.tell(&event, reporter);
        if !prune {
            if let Err(error) = self.checkpoints.supersede(step) {
                self.ledger.warning(format!("superseded checkpoints were not removed: {error}"), reporter);
            }
        } else {
            let best = self.state.best.map(|best| best.step);
            let spared: Vec<u64> = best.into_iter().chain(self.state.anchors.iter().copied()).collect();
            let keep_last = self.state.options.keep_last;
            if let Err(error) = self.checkpoints.prune(step, keep_last, &spared, reporter) {
                self.ledger.warning(format!("old checkpoints were not removed: {error}"), reporter);
            }
        }
        Ok(())
    }

    fn interrupt(&mut self, reporter: &mut dyn Reporter) -> Result<Ending> {
        self.ledger.note("asked to stop: saving a checkpoint".to_owned(), reporter);
        // Verifying old checkpoints can wait; whoever asked to stop may not.
        self.save(false, reporter)?;
        Ok(Ending::Interrupted)
    }

    fn finish(mut self, ending: Ending, reporter: &mut dyn Reporter) -> Result<Outcome> {
        let (status, message) = match ending {
            Ending::Completed if self.state.stopped_early => {
                (RunStatus::Completed, format!("stopped early at step {}", self.state.step))
            }
            Ending::Completed => (RunStatus::Completed, "all steps are done".to_owned()),
            Ending::Interrupted => {
                let message = format!("stopped at step {}: go on with `text2llm resume`", self.state.step);
                (RunStatus::Interrupted, message)
            }
        };
        let training_metrics = self.write_training_metrics(status, reporter);
        self.write_state(status, &message, reporter);
        let at = |step| {
            let path = self.checkpoints.path(step);
            self.job.fs.exists(&path).then_some(path)
        };
        Ok(Outcome {
            ending,
            step: self.state.step,
            total_steps: self.state.total_steps,
            steps_this_session: self.session_steps,
            train_loss: self.state.train_loss,
            validation_loss: self.state.validation_loss,
            best: self.state.best,
            tokens_seen: self.state.tokens_seen,
            elapsed_s: self.meter.elapsed_s(),
            tokens_per_s: self.tokens_per_s(),
            last_checkpoint: self.checkpoint_step.and_then(at),
            best_checkpoint: self.state.best.and_then(|best| at(best.step)),
            history: self.state.history,
            training_metrics,
        })
    }

    fn fail(&mut self, error: &Error, reporter: &mut dyn Reporter) {
        if self.ledger.check_folder().is_err() {
            return;
        }
        self.write_training_metrics(RunStatus::Failed, reporter);
        self.write_state_of(RunStatus::Failed, &error.to_string(), Some(error.kind().name()), reporter);
    }

    fn write_training_metrics(
        &mut self,
        status: RunStatus,
        reporter: &mut dyn Reporter,
    ) -> serde_json::Value {
        let measured = Measured {
            elapsed_s: self.meter.elapsed_s(),
            tokens_per_s: self.tokens_per_s(),
            epoch_seconds: self.epoch_seconds.clone(),
        };
        let value =
            training_metrics(&self.job.run.id(), status, &self.state, &measured, &self.job.environment);
        let path = self.job.run.path().join("training_metrics.json");
        if let Err(error) = store::atomic::write_json(self.job.fs, &path, &value) {
            reporter.warning(Phase::Training, &error.to_string());
        }
        value
    }

    fn write_state(&mut self, status: RunStatus, message: &str, reporter: &mut dyn Reporter) {
        self.write_state_of(status, message, None, reporter);
    }

    fn write_state_of(
        &mut self,
        status: RunStatus,
        message: &str,
        failure: Option<&'static str>,
        reporter: &mut dyn Reporter,
    ) {
        let step = self.state.step;
        let figures = Figures {
            epoch: self.epoch(),
            learning_rate: (step > 0).then(|| self.schedule.learning_rate(step)),
            device: self.job.environment["device"].as_str().unwrap_or_default().to_owned(),
            failure,
            tokens_per_s: self.tokens_per_s(),
            eta_s: self.meter.eta_s(self.state.total_steps.saturating_sub(self.state.step)),
            checkpoint_step: self.checkpoint_step,
        };
        self.ledger.state(status, &self.state, figures, message, reporter);
    }

    fn tokens_per_s(&self) -> f64 {
        if self.session_step_s > 0.0 { self.session_tokens as f64 / self.session_step_s } else { 0.0 }
    }

    /// Epochs done, with the fraction.
    fn epoch(&self) -> f64 {
        self.loader.epochs_at(&self.state.cursor)
    }
}
