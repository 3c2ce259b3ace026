//! What long work tells its caller: typed events, rendered by whoever listens (a terminal, JSON lines, a
//! log).
//!
//! Libraries never print; they call [`Reporter::event`]. Events also serialise as the lines of `--json`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::stage::Committed;

/// Listens to events. Called on the thread that does the work, so an implementation should be quick.
pub trait Reporter {
    /// Something happened.
    fn event(&mut self, event: &Event);

    /// Shorthand for an [`Event::Note`].
    fn note(&mut self, phase: Phase, message: &str) {
        self.event(&Event::Note { phase, message: message.to_owned() });
    }

    /// Shorthand for an [`Event::Warning`].
    fn warning(&mut self, phase: Phase, message: &str) {
        self.event(&Event::Warning { phase: Some(phase), message: message.to_owned() });
    }

    /// Warns where the folder that `made` replaced held what somebody had added or changed.
    fn kept(&mut self, phase: Phase, made: &Committed) {
        if let Some(kept) = &made.kept {
            let message = format!(
                "files that were added or changed in the folder that has been replaced are kept in `{}`",
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

/// A reporter that hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReport;

impl Reporter for NoReport {
    fn event(&mut self, _event: &Event) {}
}

/// A reporter that keeps every event, for tests and for replaying.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// What was heard, in order.
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
    /// The training loop.
    Training,
    /// The gates after training.
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

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A phase begins.
    PhaseStarted {
        /// Which.
        phase: Phase,
        /// Its place, from 1.
        index: usize,
        /// Out of how many.
        of: usize,
        /// In words.
        title: String,
    },
    /// A phase is done.
    PhaseFinished {
        /// Which.
        phase: Phase,
        /// How long it took.
        seconds: f64,
        /// What came of it, in one sentence.
        summary: String,
    },
    /// A phase had nothing to do.
    PhaseSkipped {
        /// Which.
        phase: Phase,
        /// Why.
        reason: String,
    },
    /// How far along a phase is.
    Progress {
        /// Which.
        phase: Phase,
        /// Units done.
        done: u64,
        /// Units in all; 0 where unknown.
        total: u64,
        /// Of what: "bytes", "documents".
        unit: &'static str,
    },
    /// Good to know.
    Note {
        /// Where.
        phase: Phase,
        /// What.
        message: String,
    },
    /// Something is off, though work goes on.
    Warning {
        /// Where, if in a phase.
        phase: Option<Phase>,
        /// What, and what to do.
        message: String,
    },
    /// An optimizer step.
    Step(StepRecord),
    /// A pass over the validation set.
    Validation(ValidationRecord),
    /// Text generated during training.
    Sample {
        /// After which step.
        step: u64,
        /// From what.
        prompt: String,
        /// What came, without the prompt.
        text: String,
    },
    /// An epoch is complete.
    EpochFinished {
        /// From 1.
        epoch: u64,
        /// Mean over the epoch's trained tokens, in nats a token.
        train_loss: f64,
        /// After the epoch, where there is a validation set.
        validation_loss: Option<f64>,
        /// How long it took, validation included.
        seconds: f64,
    },
    /// A checkpoint was written and verified.
    CheckpointSaved {
        /// After which step.
        step: u64,
        /// Where.
        path: PathBuf,
        /// How long it took.
        seconds: f64,
    },
    /// A file or folder the job leaves behind.
    Artifact {
        /// What it is.
        name: String,
        /// Where.
        path: PathBuf,
        /// How large.
        bytes: u64,
    },
}

/// One optimizer step, as in `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// From 1.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Epochs done, with the fraction.
    pub epoch: f64,
    /// Mean over the step's trained tokens, in nats a token.
    pub loss: f64,
    /// Used in this step.
    pub learning_rate: f64,
    /// Before clipping.
    pub gradient_norm: f64,
    /// Tokens taken in a second, since the last record.
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
    /// After which step.
    pub step: u64,
    /// Epochs done, with the fraction.
    pub epoch: f64,
    /// Mean over the set's tokens at the run's sequence length, in nats a token.
    pub loss: f64,
    /// exp(loss).
    pub perplexity: f64,
    /// Whether no earlier pass was lower.
    pub best: bool,
    /// The same over sequences of the training phase, where these are shorter than the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_phase: Option<PhaseLoss>,
    /// How long it took.
    pub seconds: f64,
}

/// A validation at the sequence length of a training phase.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseLoss {
    /// Tokens a sequence.
    pub sequence_length: usize,
    /// In nats a token.
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
