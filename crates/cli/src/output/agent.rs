//! `--output agent`: tagged lines on stdout that a program can follow: `[TRAIN] key=value …`, `✅ …`, `⚠️
//! WARNING: …`, `❌ ERROR: …`, `[TRAIN-COMPLETE] …`. Tags and keys are stable. There is one line per event,
//! and at most one progress line per second.

use std::time::{Duration, Instant};

use runs::report::{Event, Reporter};
use serde_json::Value;
use store::plain;

use super::pace::Pace;
use super::patient;
use super::secrets::without_secrets;

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Writes tagged lines.
pub struct AgentReporter {
    last_progress: Option<Instant>,
    pace: Pace,
}

impl AgentReporter {
    /// Before the first event.
    pub fn new() -> AgentReporter {
        AgentReporter { last_progress: None, pace: Pace::default() }
    }

    fn due(&mut self, last: bool) -> bool {
        let due = last || self.last_progress.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL);
        if due {
            self.last_progress = Some(Instant::now());
        }
        due
    }
}

impl Reporter for AgentReporter {
    fn event(&mut self, event: &Event) {
        if let Some(line) = self.line(&without_secrets(event)) {
            // Work goes on if the reader has closed stdout.
            let _ = patient::stdout(format!("{line}\n").as_bytes());
        }
    }
}

impl AgentReporter {
    /// The lines of an event, without the last line ending; `None` for progress that comes too soon.
    pub fn line(&mut self, event: &Event) -> Option<String> {
        Some(match event {
            Event::PhaseStarted { phase, index, of, title } => {
                format!("[{phase}] start phase={index}/{of} title={}", quoted(title))
            }
            Event::PhaseFinished { phase, seconds, summary } => {
                format!(
                    "✅ [{phase}] done seconds={seconds:.1} summary={}\n[{phase}-COMPLETE] \
                     seconds={seconds:.1}",
                    quoted(summary)
                )
            }
            Event::PhaseSkipped { phase, reason } => {
                format!("✅ [{phase}] skipped reason={}", quoted(reason))
            }
            Event::Progress { phase, done, total, unit } => {
                let rate = self.pace.hear(*phase, unit, *done, *total);
                if !self.due(*total > 0 && done >= total) {
                    return None;
                }
                let rate = rate.map_or(String::new(), |rate| {
                    format!(" per_s={:.0} eta_s={:.0}", rate.per_s, rate.eta_s)
                });
                format!("[{phase}] progress={done}/{total} unit={unit}{rate}")
            }
            Event::Note { phase, message } => format!("[{phase}] note={}", quoted(message)),
            Event::Warning { phase: Some(phase), message } => {
                format!("⚠️ WARNING: [{phase}] {}", one_line(message))
            }
            Event::Warning { phase: None, message } => format!("⚠️ WARNING: {}", one_line(message)),
            Event::Step(step) => {
                if !self.due(step.step >= step.total_steps) {
                    return None;
                }
                format!(
                    "[TRAIN] step={}/{} epoch={:.3} loss={:.4} learning_rate={:.3e} gradient_norm={:.3} \
                     tokens_per_s={:.0} eta_s={:.0} rss_mb={:.0}",
                    step.step,
                    step.total_steps,
                    step.epoch,
                    step.loss,
                    step.learning_rate,
                    step.gradient_norm,
                    step.tokens_per_s,
                    step.eta_s,
                    step.rss_bytes as f64 / 1e6
                )
            }
            Event::Validation(record) => {
                let in_phase = record.in_phase.map(|phase| {
                    format!(" phase_loss={:.4} phase_sequence_length={}", phase.loss, phase.sequence_length)
                });
                format!(
                    "[TRAIN] validation step={} epoch={:.3} loss={:.4} perplexity={:.2} best={}{}",
                    record.step,
                    record.epoch,
                    record.loss,
                    record.perplexity,
                    record.best,
                    in_phase.unwrap_or_default()
                )
            }
            Event::Sample { step, prompt, text } => {
                format!("[TRAIN] sample step={step} prompt={} text={}", quoted(prompt), quoted(text))
            }
            Event::EpochFinished { epoch, train_loss, validation_loss, seconds } => format!(
                "[TRAIN] epoch={epoch} train_loss={train_loss:.4} validation_loss={} seconds={seconds:.1}",
                validation_loss.map_or_else(|| "none".to_owned(), |loss| format!("{loss:.4}"))
            ),
            Event::CheckpointSaved { step, path, seconds } => {
                format!(
                    "[TRAIN] checkpoint step={step} path={} seconds={seconds:.2}",
                    quoted(&path.display().to_string())
                )
            }
            Event::Artifact { name, path, bytes } => {
                format!(
                    "[ARTIFACT] name={} path={} bytes={bytes}",
                    quoted(name),
                    quoted(&path.display().to_string())
                )
            }
            other => tagged("EVENT", &serde_json::to_value(other).ok()?),
        })
    }
}

/// `[TAG] key=value key="two words"`, nested values as JSON.
pub fn tagged(tag: &str, value: &Value) -> String {
    let mut line = format!("[{tag}]");
    if let Value::Object(fields) = value {
        for (key, value) in fields {
            line.push_str(&format!(" {}={}", plain::line(key), plain::json(&value.to_string())));
        }
    }
    line
}

/// Text as a JSON string, which is always one line.
fn quoted(text: &str) -> String {
    plain::json(&Value::String(text.to_owned()).to_string()).into_owned()
}

/// A message on one line; its line breaks become ` | `.
pub fn one_line(text: &str) -> String {
    plain::line(&text.replace('\n', " | ")).into_owned()
}
