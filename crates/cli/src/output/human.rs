//! Output for people: phase headers, a progress bar on a terminal (an occasional line elsewhere), samples,
//! and the loss curve as a sparkline.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use runs::report::{Event, Phase, Reporter, StepRecord};
use store::plain;

use super::numbers::{bytes, count, short_duration};
use super::pace::Pace;
use super::patient;
use super::secrets::without_secrets;

const LINE_INTERVAL: Duration = Duration::from_secs(10);
const SPARKLINE_WIDTH: usize = 24;
const SAMPLE_WIDTH: usize = 160;

/// Writes to stderr.
pub struct HumanReporter {
    out: Box<dyn Write>,
    terminal: bool,
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    pace: Pace,
    losses: VecDeque<f64>,
    /// Steps per point of the sparkline; doubles when it is full.
    stride: u64,
}

/// Whether to write colors to stderr.
pub fn colors() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The prefix of an error message.
pub fn error_mark() -> &'static str {
    if colors() { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" }
}

fn bold(text: &str) -> String {
    if colors() { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}

fn green(text: &str) -> String {
    if colors() { format!("\u{1b}[32m{text}\u{1b}[0m") } else { text.to_owned() }
}

fn yellow(text: &str) -> String {
    if colors() { format!("\u{1b}[33m{text}\u{1b}[0m") } else { text.to_owned() }
}

impl HumanReporter {
    /// A reporter that writes to the stderr of this process.
    pub fn new() -> HumanReporter {
        HumanReporter::to(Box::new(patient::Stderr), io::stderr().is_terminal())
    }

    /// A reporter for any writer, with a progress bar if it is a terminal.
    pub fn to(out: Box<dyn Write>, terminal: bool) -> HumanReporter {
        HumanReporter {
            out,
            terminal,
            bar: None,
            last_line: None,
            pace: Pace::default(),
            losses: VecDeque::new(),
            stride: 1,
        }
    }

    /// Writes a line; text from outside must have been made plain before.
    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // An error is ignored: if the terminal is gone there is nobody to report it to.
            None => drop(writeln!(self.out, "{text}")),
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Draws the progress bar on a terminal; elsewhere writes `text` from time to time.
    fn live(&mut self, done: u64, total: u64, text: &str) {
        if self.terminal {
            let bar = self.bar.get_or_insert_with(|| {
                let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
                let style = ProgressStyle::with_template("  {bar:20.green/dim} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                bar.set_style(style.progress_chars("━━─"));
                bar
            });
            bar.set_length(total.max(1));
            bar.set_position(if total == 0 { 0 } else { done });
            bar.set_message(text.to_owned());
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINE_INTERVAL) {
            self.last_line = Some(Instant::now());
            self.line(&format!("  {text}"));
        }
    }

    fn step(&mut self, step: &StepRecord) {
        if step.step.is_multiple_of(self.stride) {
            self.losses.push_back(step.loss);
            if self.losses.len() >= 2 * SPARKLINE_WIDTH {
                self.losses = self
                    .losses
                    .iter()
                    .collect::<Vec<_>>()
                    .chunks(2)
                    .map(|pair| (pair[0] + pair[1]) / 2.0)
                    .collect();
                self.stride *= 2;
            }
        }
        // The most important figures first: a narrow terminal cuts off the end.
        let text = format!(
            "step {}/{}  loss {:.3}  {} left  {} tok/s  epoch {:.2}",
            step.step,
            step.total_steps,
            step.loss,
            short_duration(step.eta_s),
            count(step.tokens_per_s as u64),
            step.epoch
        );
        self.live(step.step, step.total_steps, &text);
    }
}

impl Reporter for HumanReporter {
    fn event(&mut self, event: &Event) {
        match &*without_secrets(event) {
            Event::PhaseStarted { phase: _, index, of, title } => {
                self.clear();
                self.last_line = Some(Instant::now());
                self.line(&format!("\n{}", bold(&format!("[{index}/{of}] {}", plain::line(title)))));
            }
            Event::PhaseFinished { phase, seconds, summary } => {
                self.clear();
                if *phase == Phase::Training && self.losses.len() > 3 {
                    let line = format!("  loss {}", sparkline(&self.losses));
                    self.line(&line);
                }
                let (summary, took) = (plain::line(summary), short_duration(*seconds));
                self.line(&format!("  {} {summary} ({took})", green("✓")));
            }
            Event::PhaseSkipped { reason, .. } => {
                self.clear();
                self.line(&format!("  {} {}", green("✓"), plain::line(reason)));
            }
            Event::Progress { phase, done, total, unit } => {
                let amount = |number: u64| if *unit == "bytes" { bytes(number) } else { number.to_string() };
                let unit_word = if *unit == "bytes" { "" } else { *unit };
                let mut text = match total {
                    0 => format!("{} {unit_word}", amount(*done)),
                    total => format!("{} of {} {unit_word}", amount(*done), amount(*total)),
                };
                text.truncate(text.trim_end().len());
                if let Some(rate) = self.pace.hear(*phase, unit, *done, *total) {
                    text.push_str(&format!("  {}/s", amount(rate.per_s as u64)));
                    if *total > *done {
                        text.push_str(&format!("  {} left", short_duration(rate.eta_s)));
                    }
                }
                self.live(*done, *total, &text);
            }
            Event::Note { message, .. } => self.line(&format!("  {}", plain::line(message))),
            Event::Warning { message, .. } => {
                self.line(&format!("  {} {}", yellow("warning:"), plain::line(message)));
            }
            Event::Step(step) => self.step(step),
            Event::Validation(record) => {
                let mark = if record.best { " (best so far)" } else { "" };
                let in_phase = record.in_phase.map(|phase| {
                    format!("  ({:.4} at sequence length {})", phase.loss, phase.sequence_length)
                });
                self.line(&format!(
                    "  step {:<6} validation loss {:.4}  perplexity {:.1}{mark}{}",
                    record.step,
                    record.loss,
                    record.perplexity,
                    in_phase.unwrap_or_default()
                ));
            }
            Event::Sample { step, prompt, text } => {
                self.line(&format!("  step {step:<6} {}{}", bold(&shown(prompt)), shown(text)));
            }
            Event::EpochFinished { epoch, train_loss, validation_loss, seconds } => {
                let validation =
                    validation_loss.map(|loss| format!("  validation loss {loss:.4}")).unwrap_or_default();
                self.line(&format!(
                    "  epoch {epoch} done: loss {train_loss:.4}{validation}  ({})",
                    short_duration(*seconds)
                ));
            }
            // Checkpoints and files are summed up at the end; one line each would bury the losses.
            Event::CheckpointSaved { .. } | Event::Artifact { .. } => {}
            _ => {}
        }
    }
}

impl Drop for HumanReporter {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A text from a model, on one line.
fn shown(text: &str) -> String {
    let mut out = plain::line(text).into_owned();
    if out.chars().count() > SAMPLE_WIDTH {
        out = out.chars().take(SAMPLE_WIDTH).chain(['…']).collect();
    }
    out
}

fn sparkline(values: &VecDeque<f64>) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (least, most) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &v| (least.min(v), most.max(v)));
    let range = (most - least).max(1e-9);
    let bars: String =
        values.iter().map(|v| LEVELS[((v - least) / range * 7.0).round() as usize & 7]).collect();
    format!("{most:.2} {bars} {:.2}", values.back().copied().unwrap_or(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_output_cannot_steer_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\nc"), "a·[2Jb⏎c");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), SAMPLE_WIDTH + 1);
    }

    #[test]
    fn a_falling_loss_falls() {
        let losses = VecDeque::from([4.0, 3.0, 2.0, 1.0]);
        assert_eq!(sparkline(&losses), "4.00 █▆▃▁ 1.00");
    }
}
