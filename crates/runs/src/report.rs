//! Events that long work reports to its caller: typed, and rendered by the listener (a terminal, JSON lines,
//! a log).
//!
//! Libraries never print; they call [`Reporter::event`]. Events also serialize as the lines of `--json`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::stage::Committed;

/// A listener for events. Called on the working thread, so an implementation should be fast.
pub trait Reporter {
    /// Handles an event.
    fn event(&mut self, event: &Event);

    /// Shorthand for an [`Event::Note`].
    fn note(&mut self, phase: Phase, message: &str) {
        self.event(&Event::Note { phase, message: message.to_owned() });
    }

    /// Shorthand for an [`Event::Warning`].
    fn warning(&mut self, phase: Phase, message: &str) {
        self.event(&Event::Warning { phase: Some(phase), message: message.to_owned() });
    }

    /// Warns if the folder replaced by `made` contained added or changed files.
    fn kept(&mut self, phase: Phase, made: &Committed) {
        if let Some(kept) = &made.kept {
            let message = format!(
                "files that were added or changed in the replaced folder are kept in `{}`",
                kept.display()
            );
            self.warning(phase, &message);
        }
    }

    /// Shorthand for an [`Event::Progress`].
    fn progress(&mut self, phase: Phase, done: u64, total: u64, unit: &'static str) {
        self.event(&Event::Progress { phase, done, total, unit });
    }
}

/// A reporter that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReport;

impl Reporter for NoReport {
    fn event(&mut self, _event: &Event) {}
}

/// A reporter that keeps every event, for tests and for replaying.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// The events, in order.
    pub events: Vec<Event>,
}

impl Recorder {
    /// The messages of all warnings, in order.
    pub fn warnings(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Warning { message, .. } => Some(message.as_str()),
                _ => None,
            })
            .collect()
    }
}

impl Reporter for Recorder {
    fn event(&mut self, event: &Event) {
        self.events.push(event.clone());
    }
}

/// The phases of the main job, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Disk, memory, readable corpus, writable output.
    Prerequisites,
    /// Reading, cleaning and splitting text.
    Corpus,
    /// Training the tokenizer.
    Tokenizer,
    /// Choosing the shape; the memory plan.
    Model,
    /// Training.
    Training,
    /// Validation after training.
    Validation,
    /// Writing the model folder.
    Export,
}

impl Phase {
    /// The stable upper-case tag, as in `[TRAIN] …`.
    pub fn tag(self) -> &'static str {
        match self {
            Phase::Prerequisites => "PREREQUISITES",
            Phase::Corpus => "CORPUS",
            Phase::Tokenizer => "TOKENIZER",
            Phase::Model => "MODEL",
            Phase::Training => "TRAIN",
            Phase::Validation => "VALIDATION",
            Phase::Export => "EXPORT",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.tag())
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A phase has started.
    PhaseStarted {
        /// The phase.
        phase: Phase,
        /// Its number, from 1.
        index: usize,
        /// Number of phases.
        of: usize,
        /// Its title.
        title: String,
    },
    /// A phase is done.
    PhaseFinished {
        /// The phase.
        phase: Phase,
        /// Its duration in seconds.
        seconds: f64,
        /// A one-sentence summary.
        summary: String,
    },
    /// A phase had nothing to do.
    PhaseSkipped {
        /// The phase.
        phase: Phase,
        /// The reason.
        reason: String,
    },
    /// Progress of a phase.
    Progress {
        /// The phase.
        phase: Phase,
        /// Units done.
        done: u64,
        /// Total units; 0 if unknown.
        total: u64,
        /// The unit: "bytes", "documents".
        unit: &'static str,
    },
    /// An informational message.
    Note {
        /// The phase.
        phase: Phase,
        /// The message.
        message: String,
    },
    /// A warning; work continues.
    Warning {
        /// The phase, if any.
        phase: Option<Phase>,
        /// The problem and its remedy.
        message: String,
    },
    /// An optimizer step.
    Step(StepRecord),
    /// A pass over the validation set.
    Validation(ValidationRecord),
    /// Text generated during training.
    Sample {
        /// The step that it follows.
        step: u64,
        /// The prompt.
        prompt: String,
        /// The generated text, without the prompt.
        text: String,
    },
    /// An epoch is complete.
    EpochFinished {
        /// Number, from 1.
        epoch: u64,
        /// Mean loss over the epoch's trained tokens, in nats per token.
        train_loss: f64,
        /// Validation loss after the epoch, if there is a validation set.
        validation_loss: Option<f64>,
        /// Seconds, validation included.
        seconds: f64,
    },
    /// A checkpoint was written and verified.
    CheckpointSaved {
        /// The step that it follows.
        step: u64,
        /// Its path.
        path: PathBuf,
        /// Its duration in seconds.
        seconds: f64,
    },
    /// A file or folder that is a result of the job.
    Artifact {
        /// Description.
        name: String,
        /// Its path.
        path: PathBuf,
        /// Size in bytes.
        bytes: u64,
    },
}

/// One optimizer step, as in `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Number, from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Epochs done, with the fraction of the current one.
    pub epoch: f64,
    /// Mean loss over the step's trained tokens, in nats per token.
    pub loss: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Gradient norm before clipping.
    pub gradient_norm: f64,
    /// Tokens per second since the last record.
    pub tokens_per_s: f64,
    /// Trained tokens of the run so far.
    pub tokens_seen: u64,
    /// Time spent training, over all sessions of the run.
    pub elapsed_s: f64,
    /// Estimated time to the end, from the measured speed.
    pub eta_s: f64,
    /// Resident memory of this process.
    pub rss_bytes: u64,
}

/// One pass over the validation set, as in `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// The step that it follows.
    pub step: u64,
    /// Epochs done, with the fraction of the current one.
    pub epoch: f64,
    /// Mean loss over the set at the run's sequence length, in nats per token.
    pub loss: f64,
    /// exp(loss).
    pub perplexity: f64,
    /// Whether it is the lowest loss so far.
    pub best: bool,
    /// The loss at the sequence length of the training phase, if that is shorter than the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_phase: Option<PhaseLoss>,
    /// Its duration in seconds.
    pub seconds: f64,
}

/// A validation at the sequence length of a training phase.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseLoss {
    /// Sequence length in tokens.
    pub sequence_length: usize,
    /// Loss in nats per token.
    pub loss: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_tagged_json_line() {
        let event = Event::PhaseStarted { phase: Phase::Training, index: 5, of: 7, title: "Training".into() };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"phase_started","phase":"training","index":5,"of":7,"title":"Training"}"#
        );
        assert_eq!(format!("[{}]", Phase::Training), "[TRAIN]");
    }
}
