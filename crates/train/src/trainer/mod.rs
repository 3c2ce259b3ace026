//! The training loop: step, validate, sample, save, until the steps are done or a stop is requested.
//!
//! Work after a step has a fixed order: validation, end of epoch, samples, checkpoint. A stop within a step
//! drops the step (only gradients have changed); a stop within the work after it saves it as due, and the
//! next session starts with it. A spike or a non-finite loss rolls the run back to a checkpoint. So a run
//! that was stopped anywhere goes through the same sequence as one that was not.
//!
//! Reading order: this file, `duties`, `record`, `rollback`.

mod duties;
mod record;
mod rollback;

use std::time::Instant;

use compute::rng::Rng;
use compute::{Batch, Device};
use model::{StepOutcome, TrainingModel};
use runs::metrics::Metric;
use runs::report::{Event, Reporter, StepRecord};
use runs::run::RunStatus;
use tokens::{Loader, LoaderOptions};

use crate::checkpoint::{Checkpoints, LeftStream, Spike, TrainerState};
use crate::job::{Ending, Job, Outcome, Sampler};
use crate::ledger::Ledger;
use crate::meter::Meter;
use crate::schedule::Schedule;
use crate::{Error, Result, TrainOptions, begin, phase};

/// Trains until done or stopped. The state is on disk when it returns `Ok`; after an error, that of the
/// newest intact checkpoint is.
///
/// # Errors
/// See [`Error`]; the run's `state.json` then has status failed and the reason.
pub fn train<D: Device>(
    model: &mut TrainingModel<D>,
    job: &Job,
    sampler: Option<&mut dyn Sampler<D>>,
    reporter: &mut dyn Reporter,
) -> Result<Outcome> {
    let started = begin::begin(model, job, reporter)?;
    // From here on there are steps to lose.
    let _hold = job.stop.hold();
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
    model: &'a mut TrainingModel<D>,
    job: &'a Job<'j>,
    sampler: Option<&'s mut dyn Sampler<D>>,
    loader: Loader<'a>,
    /// The micro-batches of a step; their weights must be known before the first is processed.
    batches: Vec<Batch>,
    schedule: Schedule,
    phases: Vec<phase::Phase>,
    checkpoints: Checkpoints<'a>,
    ledger: Ledger<'a>,
    meter: Meter,
    state: TrainerState,
    /// The state in the newest checkpoint of this session.
    saved: Option<TrainerState>,
    /// The state of step 0, to roll back to before there is a checkpoint.
    fresh: TrainerState,
    checkpoint_step: Option<u64>,
    epoch_seconds: Vec<f64>,
    epoch_began_s: f64,
    session_steps: u64,
    /// Tokens that went through the model, trained or not.
    session_tokens: u64,
    session_step_s: f64,
}

/// The phase of `step`, if it has data of its own.
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
        // Another phase reads the same text in another order.
        seed: options.seed.wrapping_add(stream.map_or(0, |index| index as u64 + 1)),
        shuffle: true,
    };
    Ok(Loader::new(own.unwrap_or(job.training), loader)?)
}

/// Whether to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

impl<'a, 'j, 's, D: Device> Trainer<'a, 'j, 's, D> {
    fn new(
        model: &'a mut TrainingModel<D>,
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
            schedule: begin::schedule_of(options, fresh.total_steps, state.decaying_after),
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
            // Non-finite weights cause a rollback.
            self.save_as_anchor(reporter)?;
            if self.state.step == self.state.total_steps || self.state.stopped_early {
                return Ok(Ending::Completed);
            }
        }
    }

    fn phase_of(&self, step: u64) -> Option<&phase::Phase> {
        self.phases.iter().find(|phase| step <= phase.until)
    }

    /// Switches the loader to the data of the phase of `step`, at their last position.
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

    /// Reports the current phase, if there are several.
    fn tell_phase(&mut self, reporter: &mut dyn Reporter) {
        let (next, count) = (self.state.step + 1, self.phases.len());
        if let Some(phase) = self.phase_of(next).filter(|_| count > 1) {
            let message = format!(
                "phase \"{}\": steps {} to {}, sequence length {}",
                phase.name,
                phase.after + 1,
                phase.until,
                self.state.options.sequence_length / phase.cut
            );
            self.ledger.note(message, reporter);
        }
    }

    /// One optimizer step. On `Stop` nothing was updated.
    fn step(&mut self, reporter: &mut dyn Reporter) -> Result<Flow> {
        let began = Instant::now();
        let step = self.state.step + 1;
        self.turn_to_stream_of(step)?;
        let before = self.loader.cursor();
        let cut = self.phase_of(step).map_or(1, |phase| phase.cut);
        let mut weight_sum = 0.0;
        let (mut tokens, mut positions) = (0, 0);
        for batch in &mut self.batches {
            self.loader.next_batch(batch)?;
            phase::cut(batch, cut);
            weight_sum += match self.job.preference {
                Some(_) => model::pairs(batch) as f64,
                None => batch.weight_sum(),
            };
            positions += batch.tokens.len() as u64;
            tokens += batch.weights.iter().filter(|&&weight| weight > 0.0).count() as u64;
        }
        let learning_rate = self.schedule.learning_rate(step);
        // No trained tokens, for example if all are masked: no update.
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
        self.session_tokens += positions;
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
            tokens_per_s: positions as f64 / duration.as_secs_f64().max(1e-9),
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

    /// Computes gradients and the update; `None` if stopped before the update.
    fn update(&mut self, step: u64, weight_sum: f64, learning_rate: f64) -> Option<StepOutcome> {
        // Weighted by trained tokens over the whole step, so that the result does not depend on the
        // micro-batches.
        let gradient_scale = (1.0 / weight_sum) as f32;
        self.model.begin_step();
        let mut of_pairs = 0.0;
        for (i, batch) in self.batches.iter().enumerate() {
            if self.job.stop.is_raised() {
                return None;
            }
            let dropout_seed =
                Rng::from_parts(self.state.options.seed, "dropout", &[step, i as u64]).next_u64();
            match &self.job.preference {
                Some(preference) => {
                    of_pairs += self.model.accumulate_pairs(batch, preference, gradient_scale).loss_sum;
                }
                None => self.model.accumulate(batch, gradient_scale, dropout_seed),
            }
        }
        let (options, updates) = (&self.state.options, self.state.updates + 1);
        self.model.optimizer_step(&options.update(learning_rate, updates));
        let mut outcome = self.model.step_outcome();
        if self.job.preference.is_some() {
            outcome.loss_sum = of_pairs;
        }
        // A skipped update must not enter the average twice.
        if options.ema_decay > 0.0 && !outcome.skipped_non_finite {
            self.model.average_weights(options.ema_decay_at(updates) as f32);
        }
        Some(outcome)
    }

    fn interrupt(&mut self, reporter: &mut dyn Reporter) -> Result<Ending> {
        self.ledger.note("stop requested: saving a checkpoint".to_owned(), reporter);
        // Verifying old checkpoints can wait; a requested stop cannot.
        self.save(false, reporter)?;
        Ok(Ending::Stopped)
    }
}
