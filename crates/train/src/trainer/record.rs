//! Writes checkpoints and the run's records.

use std::time::Instant;

use compute::Device;
use runs::report::{Event, Phase, Reporter};
use runs::run::RunStatus;

use super::Trainer;
use crate::checkpoint::Checkpoints;
use crate::job::{Ending, Outcome};
use crate::ledger::Figures;
use crate::summary::{Measured, training_metrics};
use crate::{Error, Result};

/// Checkpoints to roll back to.
const ANCHORS: usize = 2;

impl<D: Device> Trainer<'_, '_, '_, D> {
    /// Writes an anchor, a checkpoint that is due by the schedule; non-finite weights cause a rollback
    /// instead.
    pub(super) fn save_as_anchor(&mut self, reporter: &mut dyn Reporter) -> Result<()> {
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

    /// Writes a checkpoint unless the newest one has the same state.
    pub(super) fn save(&mut self, prune: bool, reporter: &mut dyn Reporter) -> Result<()> {
        if self.saved.as_ref() == Some(&self.state) {
            return Ok(());
        }
        self.ledger.check_folder()?;
        let began = Instant::now();
        let step = self.state.step;
        let needed_bytes = Checkpoints::size_bytes(self.model);
        let what = format!("the checkpoint of step {step}");
        let (checkpoints, ledger, state) = (&self.checkpoints, &mut self.ledger, &self.state);
        let (disk, run) = (self.job.fs, self.job.run);
        let told = |full: bool| {
            let place = run.checkpoints();
            let why = match full {
                true => format!(
                    "disk full: {:.1} MB needed on `{}`; training continues by itself when space is \
                     available",
                    needed_bytes as f64 / 1e6,
                    place.display()
                ),
                false => format!("{what} cannot be written to `{}`; retrying", place.display()),
            };
            // Without it `status` shows "running", and only the log has the reason for the pause.
            let _ = runs::pause::tell(disk, run.path(), Some(&why));
        };
        let mut paused = false;
        let saved = self.job.patience.wait_out(&what, self.job.stop, reporter, |_| {
            let attempt = ledger.sync().and_then(|()| checkpoints.save(state, self.model));
            if let Err(error) = &attempt {
                paused = true;
                told(error.kind() == crate::ErrorKind::StorageFull);
            }
            attempt
        });
        if paused {
            let _ = runs::pause::tell(disk, run.path(), None);
        }
        let saved = match saved {
            Ok(saved) => saved,
            Err(source) if source.kind() == crate::ErrorKind::Diverged => return Err(source),
            Err(source) => {
                return Err(Error::Save {
                    step,
                    folder: self.job.run.checkpoints(),
                    needed_bytes,
                    last_good: match self.checkpoint_step {
                        Some(step) => format!("The last good checkpoint is of step {step}."),
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
                self.ledger.warning(format!("cannot remove superseded checkpoints: {error}"), reporter);
            }
        } else {
            let best = self.state.best.map(|best| best.step);
            let plateau_end = self.schedule.plateau_end();
            let spared: Vec<u64> =
                best.into_iter().chain(plateau_end).chain(self.state.anchors.iter().copied()).collect();
            let keep_last = self.state.options.keep_last;
            if let Err(error) = self.checkpoints.prune(step, keep_last, &spared, reporter) {
                self.ledger.warning(format!("cannot remove old checkpoints: {error}"), reporter);
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self, ending: Ending, reporter: &mut dyn Reporter) -> Result<Outcome> {
        let (status, message) = match ending {
            Ending::Completed if self.state.stopped_early || self.state.decaying_after.is_some() => {
                (RunStatus::Completed, format!("stopped early at step {}", self.state.step))
            }
            Ending::Completed => (RunStatus::Completed, "all steps done".to_owned()),
            Ending::Stopped => {
                let message = format!("stopped at step {}: continue with `text2llm resume`", self.state.step);
                (RunStatus::Stopped, message)
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

    pub(super) fn fail(&mut self, error: &Error, reporter: &mut dyn Reporter) {
        if self.ledger.check_folder().is_err() {
            return;
        }
        self.write_training_metrics(RunStatus::Failed, reporter);
        self.write_state_of(RunStatus::Failed, &error.to_string(), Some(error.kind().name()), reporter);
    }

    pub(super) fn write_training_metrics(
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

    pub(super) fn write_state(&mut self, status: RunStatus, message: &str, reporter: &mut dyn Reporter) {
        self.write_state_of(status, message, None, reporter);
    }

    pub(super) fn write_state_of(
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

    pub(super) fn tokens_per_s(&self) -> f64 {
        if self.session_step_s > 0.0 { self.session_tokens as f64 / self.session_step_s } else { 0.0 }
    }

    /// Epochs done, with the fraction of the current one.
    pub(super) fn epoch(&self) -> f64 {
        self.loader.epochs_at(&self.state.cursor)
    }
}
