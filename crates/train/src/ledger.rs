//! Records of a run other than checkpoints: `metrics.jsonl`, `state.json`, `train.log`.
//!
//! None of these may stop training: on a full disk metrics are kept in memory and the others are skipped,
//! with one warning until writing works again. A checkpoint, which needs them on disk, waits for space
//! itself.

use std::io::Write;
use std::time::{Duration, Instant};

use runs::metrics::{self, Metric, MetricsLog};
use runs::report::{Event, Phase, Reporter};
use runs::run::{RunDir, RunState, RunStatus};
use store::fs::{Fs, FsFile};
use store::time::Timestamp;
use store::{plain, secret};

use crate::Result;
use crate::checkpoint::TrainerState;

/// Time between two routine writes of `state.json`.
const STATE_EVERY: Duration = Duration::from_secs(2);
/// Time between two step lines in `train.log`.
const STEP_LINE_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Ledger<'a> {
    fs: &'a dyn Fs,
    run: &'a RunDir,
    metrics: MetricsLog,
    log: Option<Box<dyn FsFile>>,
    state_written: Option<Instant>,
    step_told: Option<Instant>,
    troubled: bool,
}

/// History from `metrics.jsonl` of earlier sessions.
pub(crate) struct Past {
    pub elapsed_s: f64,
    /// Seconds of each epoch of the history, where known.
    pub epoch_seconds: Vec<f64>,
}

impl<'a> Ledger<'a> {
    /// Opens the files and truncates metrics to `step`.
    pub fn open(fs: &'a dyn Fs, run: &'a RunDir, step: u64) -> Result<(Ledger<'a>, Past)> {
        let path = run.metrics();
        let log = MetricsLog::open(fs, &path, step)?;
        let mut past = Past { elapsed_s: 0.0, epoch_seconds: Vec::new() };
        for metric in metrics::read(fs, &path)? {
            match metric {
                Metric::Step(record) => past.elapsed_s = record.elapsed_s,
                Metric::EpochFinished(record) => past.epoch_seconds.push(record.seconds),
                _ => {}
            }
        }
        // A missing file does not affect the run.
        let _ = runs::pause::reserve(fs, run.path());
        let ledger = Ledger {
            fs,
            run,
            metrics: log,
            log: match fs.append(&run.log()) {
                // A file that is not the program's must not be written to, and ignoring it silently would
                // hide that.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                    return Err(store::Error::io("write", &run.log())(error).into());
                }
                opened => opened.ok(),
            },
            state_written: None,
            step_told: None,
            troubled: false,
        };
        Ok((ledger, past))
    }

    /// Appends to `metrics.jsonl`.
    pub fn metric(&mut self, metric: &Metric, reporter: &mut dyn Reporter) {
        let written = self.metrics.append(metric);
        self.settle(written, reporter);
    }

    /// Removes metrics after `step`, after a rollback to it.
    pub fn cut_back(&mut self, step: u64) -> Result<()> {
        // Lines still in memory are of later steps, or of steps that are on disk.
        self.metrics = MetricsLog::open(self.fs, &self.run.metrics(), step)?;
        Ok(())
    }

    /// Syncs metrics to disk before a checkpoint relies on them.
    pub fn sync(&mut self) -> Result<()> {
        Ok(self.metrics.sync()?)
    }

    /// Reports an event, and logs what a person would want to read later.
    pub fn tell(&mut self, event: &Event, reporter: &mut dyn Reporter) {
        let line = match event {
            Event::Note { message, .. } => message.clone(),
            Event::Warning { message, .. } => format!("WARNING: {message}"),
            Event::Validation(record) => {
                let best = if record.best { " (best so far)" } else { "" };
                let in_phase = record.in_phase.map(|phase| {
                    format!(" ({:.4} at sequence length {})", phase.loss, phase.sequence_length)
                });
                let in_phase = in_phase.unwrap_or_default();
                format!("step {}: validation loss {:.4}{best}{in_phase}", record.step, record.loss)
            }
            Event::EpochFinished { epoch, train_loss, .. } => {
                format!("epoch {epoch} done: training loss {train_loss:.4}")
            }
            Event::CheckpointSaved { step, path, .. } => {
                format!("step {step}: checkpoint {}", path.display())
            }
            Event::Sample { step, prompt, text } => format!("step {step}: sample {prompt:?} → {text:?}"),
            Event::Step(record) if self.step_told.is_none_or(|at| at.elapsed() >= STEP_LINE_EVERY) => {
                self.step_told = Some(Instant::now());
                format!(
                    "step {} of {}: loss {:.4}, learning rate {:.2e}, {:.0} tokens/s, {:.0} s left",
                    record.step,
                    record.total_steps,
                    record.loss,
                    record.learning_rate,
                    record.tokens_per_s,
                    record.eta_s
                )
            }
            _ => String::new(),
        };
        if !line.is_empty() {
            self.log_line(&line);
        }
        reporter.event(event);
    }

    pub fn note(&mut self, message: String, reporter: &mut dyn Reporter) {
        self.tell(&Event::Note { phase: Phase::Training, message }, reporter);
    }

    pub fn warning(&mut self, message: String, reporter: &mut dyn Reporter) {
        self.tell(&Event::Warning { phase: Some(Phase::Training), message }, reporter);
    }

    fn log_line(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            let line = format!("{} {}\n", Timestamp::now().rfc3339(), plain::line(&secret::hidden(line)));
            // A lost log line affects nothing else.
            let _ = log.write_all(line.as_bytes());
        }
    }

    /// Returns an error if the run's folder was removed: writing would create an empty shell of the run.
    pub fn check_folder(&self) -> Result<()> {
        if self.fs.exists(self.run.path()) {
            return Ok(());
        }
        Err(crate::Error::FolderGone { folder: self.run.path().to_owned() })
    }

    /// Whether the next routine write of `state.json` is due.
    pub fn state_is_due(&self) -> bool {
        self.state_written.is_none_or(|at| at.elapsed() >= STATE_EVERY)
    }

    /// Writes `state.json` if the last write is long enough ago or `status` is not plain running.
    pub fn state(
        &mut self,
        status: RunStatus,
        state: &TrainerState,
        figures: Figures,
        message: &str,
        reporter: &mut dyn Reporter,
    ) {
        if status == RunStatus::Running && !self.state_is_due() {
            return;
        }
        self.state_written = Some(Instant::now());
        let written = self.run.write_state(
            self.fs,
            RunState {
                status,
                step: state.step,
                total_steps: state.total_steps,
                epoch: figures.epoch,
                train_loss: state.train_loss,
                validation_loss: state.validation_loss,
                best_validation_loss: state.best.map(|best| best.loss),
                learning_rate: figures.learning_rate,
                device: figures.device,
                failure: figures.failure.map(str::to_owned),
                tokens_per_s: figures.tokens_per_s,
                eta_s: figures.eta_s,
                checkpoint_step: figures.checkpoint_step,
                message: message.to_owned(),
                ..RunState::default()
            },
        );
        self.settle(written, reporter);
        if status != RunStatus::Running {
            self.log_line(&format!("{status} at step {} of {}: {message}", state.step, state.total_steps));
        }
    }

    fn settle(&mut self, written: store::Result<()>, reporter: &mut dyn Reporter) {
        match written {
            Ok(()) => self.troubled = false,
            Err(error) => {
                if !std::mem::replace(&mut self.troubled, true) {
                    reporter.warning(
                        Phase::Training,
                        &format!(
                            "{error}. Training continues; metrics are kept in memory until they can be \
                             written"
                        ),
                    );
                }
            }
        }
    }
}

/// Values of `state.json` that are not part of the trainer's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub epoch: f64,
    pub learning_rate: Option<f64>,
    pub device: String,
    pub failure: Option<&'static str>,
    pub tokens_per_s: f64,
    pub eta_s: f64,
    pub checkpoint_step: Option<u64>,
}
