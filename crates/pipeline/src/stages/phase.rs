//! One phase of a job, between its header and its summary line.

use std::time::Instant;

use runs::report::{Event, Phase, Reporter};

use crate::{Result, stop};

/// The phases of a job, in order, with their titles.
pub(super) const PHASES: [(Phase, &str); 7] = [
    (Phase::Prerequisites, "Prerequisites"),
    (Phase::Corpus, "Corpus"),
    (Phase::Tokenizer, "Tokenizer"),
    (Phase::Model, "Model"),
    (Phase::Training, "Training"),
    (Phase::Validation, "Validation"),
    (Phase::Export, "Export"),
];

/// Runs one phase between its header and its summary line.
pub(super) fn phase<T>(
    phase: Phase,
    of: usize,
    reporter: &mut dyn Reporter,
    work: impl FnOnce(&mut dyn Reporter) -> Result<(T, Done)>,
) -> Result<T> {
    let index = PHASES.iter().position(|(known, _)| *known == phase).unwrap_or(0);
    let title = PHASES[index].1.to_owned();
    let start = Instant::now();
    stop::settle(stop::enter(phase))?;
    reporter.event(&Event::PhaseStarted { phase, index: index + 1, of, title });
    let (value, done) = stop::settle(work(reporter))?;
    reporter.event(&match done {
        Done::Worked(summary) => {
            Event::PhaseFinished { phase, seconds: start.elapsed().as_secs_f64(), summary }
        }
        Done::Reused(reason) => Event::PhaseSkipped { phase, reason },
    });
    Ok(value)
}

/// Summary of a finished phase.
pub(super) enum Done {
    /// Work was done.
    Worked(String),
    /// What was there already is used.
    Reused(String),
}

impl Done {
    /// Output that was made or found unchanged, and a summary of it.
    pub fn of(reused: bool, summary: String) -> Done {
        if reused { Done::Reused(format!("unchanged: {summary}")) } else { Done::Worked(summary) }
    }
}
