//! Phases of a run (`[[train.phase]]`), each with its own length, sequence length, data mix and learning-rate
//! schedule.
//!
//! A phase's sequence length may be shorter than the run's and then divides it: a step always covers the same
//! tokens, cut into more and shorter rows. So the loader's windows, and the guarantee that every token occurs
//! once per epoch, do not change.

use compute::Batch;

use crate::options::TrainOptions;
use crate::phase_options::{PhaseOptions, PhaseSchedule};
use crate::ranges::Problem;
use crate::schedule::{DecayShape, Piece, Schedule, WholeRun};

/// A phase with its steps within the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// The step before its first step.
    pub after: u64,
    /// Its last step.
    pub until: u64,
    /// Number of rows that a sequence of train.sequence_length is cut into.
    pub cut: usize,
}

/// Problems of the phases, reported as `train.phase`.
pub(crate) fn problems(options: &TrainOptions) -> Vec<Problem> {
    let phases = &options.phase;
    let mut problems = Vec::new();
    let mut refuse = |message: String| problems.push(Problem { key: "phase".to_owned(), message });
    if phases.is_empty() {
        return problems;
    }
    let shares: f64 = phases.iter().filter_map(|phase| phase.share).sum();
    let shared = phases.iter().filter(|phase| phase.share.is_some()).count();
    for (index, phase) in phases.iter().enumerate() {
        let name = &phase.name;
        // The name becomes that of a folder if the phase has a mix.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
            refuse(format!("the phase name \"{name}\" may contain only letters, digits, - and _"));
        }
        if phases[..index].iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
            refuse(format!("two phases have the name \"{name}\""));
        }
        let lengths = [phase.share.is_some(), phase.steps.is_some(), phase.tokens.is_some()];
        if lengths.iter().filter(|given| **given).count() != 1 {
            refuse(format!("phase \"{name}\" needs exactly one of share, steps and tokens"));
        }
        if phase.share == Some(0.0) {
            refuse(format!("phase \"{name}\" has length zero"));
        }
        if let Some(length) = phase.sequence_length
            && (length < 2 || !options.sequence_length.is_multiple_of(length))
        {
            refuse(format!(
                "phase \"{name}\": sequence_length = {length} must divide train.sequence_length = {}",
                options.sequence_length
            ));
        }
        if phase.schedule.is_none()
            && (phase.learning_rate.is_some()
                || phase.final_learning_rate.is_some()
                || phase.warmup_steps.is_some())
        {
            refuse(format!(
                "phase \"{name}\" sets a learning rate without a schedule: add schedule = \"constant\" or \
                 another schedule"
            ));
        }
        if phase.schedule == Some(PhaseSchedule::Constant) && phase.final_learning_rate.is_some() {
            refuse(format!(
                "phase \"{name}\": final_learning_rate has no effect on a constant schedule; remove it"
            ));
        }
    }
    if shared > 0 && shared < phases.len() {
        refuse("some phases have a share and others steps or tokens: use the same key for all".to_owned());
    } else if shared > 0 && (shares - 1.0).abs() > 1e-6 {
        refuse(format!("phase shares sum to {shares}; they must sum to 1"));
    } else if shared == 0 && options.epochs.is_some() {
        refuse(
            "the phases define the length of the run: remove train.epochs, or give the phases shares"
                .to_owned(),
        );
    } else if shared == 0 && options.steps.is_some() && options.steps != options.steps_of_phases() {
        refuse(
            "the phases define the length of the run: remove train.steps, or give the phases shares"
                .to_owned(),
        );
    }
    let scheduled = phases.iter().filter(|phase| phase.schedule.is_some()).count();
    if scheduled > 0 && scheduled < phases.len() {
        refuse(
            "some phases have a schedule and others do not: set it for all phases, or for none to use \
             train.schedule"
                .to_owned(),
        );
    }
    problems
}

impl TrainOptions {
    /// Steps of the whole run, if the phases define them.
    pub fn steps_of_phases(&self) -> Option<u64> {
        let step_tokens = self.step_tokens();
        let steps = || self.phase.iter().map(|phase| phase.own_steps(step_tokens)).sum();
        if self.phase.is_empty() { None } else { steps() }
    }

    /// Tokens per optimizer step.
    fn step_tokens(&self) -> u64 {
        (self.batch_size * self.sequence_length) as u64
    }

    /// Sets the length of the run; phases with lengths of their own keep their proportions.
    pub fn set_steps(&mut self, steps: u64) {
        if let Some(of_phases) = self.steps_of_phases().filter(|&of_phases| of_phases > 0) {
            let step_tokens = self.step_tokens();
            for phase in &mut self.phase {
                phase.share = phase.own_steps(step_tokens).map(|own| own as f64 / of_phases as f64);
                (phase.steps, phase.tokens) = (None, None);
            }
        }
        (self.steps, self.epochs) = (Some(steps), None);
    }

    /// Extends a run planned with `planned` steps to `length`. Phases keep their steps: the last one gets the
    /// added steps; with `at`, a phase after that step gets all the rest.
    pub fn extend(&mut self, planned: u64, length: u64, at: Option<u64>) {
        if self.phase.is_empty() {
            (self.steps, self.epochs) = (Some(length), None);
            return;
        }
        let settled = self.phases(planned);
        self.phase
            .truncate(at.map_or(settled.len(), |step| settled.partition_point(|phase| phase.after <= step)));
        let last = self.phase.len() - 1;
        for (index, (phase, settled)) in self.phase.iter_mut().zip(&settled).enumerate() {
            let until = if index == last { length } else { settled.until };
            (phase.steps, phase.tokens, phase.share) = (Some(until - settled.after), None, None);
        }
        (self.steps, self.epochs) = (None, None);
    }

    /// The phases of a run of `total_steps`, in order. A run without phases is one phase.
    pub fn phases(&self, total_steps: u64) -> Vec<Phase> {
        let (mut after, mut share) = (0, 0.0);
        let last = self.phase.len().saturating_sub(1);
        let settle = |(index, phase): (usize, &PhaseOptions)| {
            share += phase.share.unwrap_or(0.0);
            let until = match phase.own_steps(self.step_tokens()) {
                _ if index == last => total_steps,
                Some(steps) => after + steps,
                None => (share * total_steps as f64).round() as u64,
            };
            let until = until.clamp(after, total_steps);
            let cut = self.sequence_length / phase.sequence_length.unwrap_or(self.sequence_length);
            let phase = Phase { name: phase.name.clone(), after, until, cut };
            after = until;
            phase
        };
        if self.phase.is_empty() {
            return vec![Phase { name: String::new(), after: 0, until: total_steps, cut: 1 }];
        }
        self.phase.iter().enumerate().map(settle).collect()
    }

    /// The learning-rate schedule defined by phases.
    fn pieces(&self, total_steps: u64, warmup_steps: u64) -> Vec<Piece> {
        let (mut pieces, mut from) = (Vec::new(), 0.0);
        for (index, (phase, settled)) in self.phase.iter().zip(self.phases(total_steps)).enumerate() {
            let Some(schedule) = phase.schedule else { return Vec::new() };
            let start = phase.learning_rate.unwrap_or(if index == 0 { self.learning_rate } else { from });
            let minimum = self.learning_rate * self.minimum_learning_rate_ratio;
            let end = phase.final_learning_rate.unwrap_or_else(|| minimum.min(start));
            let shape = match schedule {
                PhaseSchedule::Constant => None,
                PhaseSchedule::Linear => Some(DecayShape::Linear),
                PhaseSchedule::Cosine => Some(DecayShape::Cosine),
                PhaseSchedule::Sqrt => Some(DecayShape::Sqrt),
            };
            let end = if shape.is_some() { end } else { start };
            let default_warmup = if index == 0 { warmup_steps } else { 0 };
            let warmup = phase.warmup_steps.unwrap_or(default_warmup).min(settled.until - settled.after);
            pieces.push(Piece {
                after: settled.after,
                until: settled.until,
                from,
                warmup,
                start,
                end,
                shape,
            });
            from = end;
        }
        pieces
    }

    /// The number of epochs, if the run's length is given in epochs.
    pub fn epochs_wanted(&self) -> Option<u64> {
        match (self.epochs, self.steps) {
            (None, None) if self.steps_of_phases().is_none() => Some(1),
            (epochs, _) => epochs,
        }
    }

    /// The learning rate of every step of a run of `total_steps`.
    pub fn schedule(&self, total_steps: u64) -> Schedule {
        let share = |ratio: f64| (ratio * total_steps as f64).round() as u64;
        let warmup_steps = self.warmup_steps.unwrap_or_else(|| share(self.warmup_ratio)).min(total_steps);
        let pieces = self.pieces(total_steps, warmup_steps);
        if !pieces.is_empty() {
            return Schedule::of_pieces(pieces);
        }
        Schedule::from(WholeRun {
            kind: self.schedule,
            peak: self.learning_rate,
            minimum: self.learning_rate * self.minimum_learning_rate_ratio,
            total_steps,
            warmup_steps,
            decay_steps: share(self.decay_fraction).min(total_steps),
            decay_shape: self.decay_shape,
        })
    }
}

/// The same tokens in `rows` times as many rows, each `rows` times shorter. A document that continues in the
/// next row starts anew there.
pub(crate) fn cut(batch: &mut Batch, rows: usize) {
    if rows <= 1 {
        return;
    }
    batch.batch_size *= rows;
    batch.sequence_length /= rows;
    for (at, start) in batch.document_starts.iter_mut().enumerate() {
        let column = at % (batch.sequence_length * rows);
        let begins = column / batch.sequence_length * batch.sequence_length;
        *start = (*start as usize).saturating_sub(begins) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(phases: &str) -> TrainOptions {
        toml::from_str(&format!(
            "batch_size = 4\nsequence_length = 32\nlearning_rate = 1.0\nwarmup_steps = 2\n{phases}"
        ))
        .unwrap()
    }

    #[test]
    fn shares_and_tokens_become_steps() {
        let thirds = options(
            "[[phase]]\nname = \"a\"\nshare = 0.33\nsequence_length = 8\n[[phase]]\nname = \"b\"\nshare = \
             0.67",
        );
        assert_eq!(thirds.problems(), []);
        let settled: Vec<_> = thirds.phases(100).into_iter().map(|p| (p.after, p.until, p.cut)).collect();
        assert_eq!(settled, [(0, 33, 4), (33, 100, 1)]);
        assert_eq!(thirds.steps_of_phases(), None);
        let tokens = options("[[phase]]\nname = \"a\"\ntokens = 1000\n[[phase]]\nname = \"b\"\nsteps = 5");
        assert_eq!(tokens.steps_of_phases(), Some(8 + 5));
        let mut shorter = tokens.clone();
        shorter.set_steps(26);
        assert_eq!(shorter.problems(), []);
        let settled: Vec<_> = shorter.phases(26).into_iter().map(|p| (p.after, p.until)).collect();
        assert_eq!(settled, [(0, 16), (16, 26)]);
    }

    #[test]
    fn a_longer_run_keeps_its_phases_where_they_were() {
        let settled = |options: &TrainOptions| -> Vec<_> {
            assert_eq!(options.problems(), []);
            let total = options.steps_of_phases().unwrap();
            options.phases(total).into_iter().map(|p| (p.after, p.until)).collect()
        };
        let run = options(
            "steps = 1000\n[[phase]]\nname = \"a\"\nshare = 0.8\n[[phase]]\nname = \"b\"\nshare = 0.2",
        );
        let mut more = run.clone();
        more.extend(1000, 2000, None);
        assert_eq!(settled(&more), [(0, 800), (800, 2000)]);
        more.extend(2000, 2100, None);
        assert_eq!(settled(&more), [(0, 800), (800, 2100)]);
        for (at, phases) in [(300, vec![(0, 400)]), (799, vec![(0, 899)]), (800, vec![(0, 800), (800, 900)])]
        {
            let mut now = run.clone();
            now.extend(1000, at + 100, Some(at));
            assert_eq!(settled(&now), phases, "at {at}");
        }
        let mut plain = options("epochs = 3");
        plain.extend(30, 50, None);
        assert_eq!((plain.steps, plain.epochs), (Some(50), None));
    }

    #[test]
    fn each_phase_has_its_course() {
        let options = options(
            "minimum_learning_rate_ratio = 0.1\n\
             [[phase]]\nname = \"a\"\nsteps = 10\nschedule = \"constant\"\n\
             [[phase]]\nname = \"b\"\nsteps = 10\nschedule = \"linear\"\nfinal_learning_rate = 0.5\n\
             [[phase]]\nname = \"c\"\nsteps = 10\nschedule = \"linear\"\nlearning_rate = 0.8\nwarmup_steps = \
             3",
        );
        assert_eq!(options.problems(), []);
        let schedule = options.schedule(30);
        let close = |step: u64, expected: f64| {
            let found = schedule.learning_rate(step);
            assert!((found - expected).abs() < 1e-12, "step {step}: {found}, not {expected}");
        };
        for (step, expected) in [(1, 0.5), (2, 1.0), (10, 1.0), (11, 0.95), (15, 0.75), (20, 0.5)] {
            close(step, expected);
        }
        for (step, expected) in [(21, 0.6), (22, 0.7), (23, 0.8), (30, 0.1), (31, 0.1)] {
            close(step, expected);
        }
    }

    #[test]
    fn every_mistake_is_told() {
        let told = |phases: &str, words: &str| {
            let found = options(phases).problems();
            assert!(
                found.iter().any(|p| p.key == "phase" && p.message.contains(words)),
                "{phases}: {found:?}"
            );
        };
        told("[[phase]]\nname = \"a\"", "one of share");
        told("[[phase]]\nname = \"a\"\nshare = 0.5", "sum to 0.5");
        told("[[phase]]\nname = \"a\"\nshare = 0.5\n[[phase]]\nname = \"b\"\nsteps = 2", "the same key");
        told("epochs = 3\n[[phase]]\nname = \"a\"\nsteps = 2", "remove train.epochs");
        told("steps = 1\n[[phase]]\nname = \"a\"\nsteps = 2", "remove train.steps");
        told("steps = 3\n[[phase]]\nname = \"a\"\nsteps = 2", "remove train.steps");
        told("[[phase]]\nname = \"a\"\nsteps = 2\nsequence_length = 5", "must divide");
        told("[[phase]]\nname = \"a\"\nsteps = 2\nlearning_rate = 0.1", "without a schedule");
        told(
            "[[phase]]\nname = \"a\"\nsteps = 2\nschedule = \"constant\"\n[[phase]]\nname = \"b\"\nsteps = 2",
            "not",
        );
    }

    #[test]
    fn cut_rows_begin_anew() {
        let mut batch = Batch::new(1, 8);
        batch.document_starts = vec![0, 0, 0, 3, 3, 3, 6, 6];
        cut(&mut batch, 2);
        assert_eq!((batch.batch_size, batch.sequence_length), (2, 4));
        assert_eq!(batch.document_starts, [0, 0, 0, 3, 0, 0, 2, 2]);
    }
}
