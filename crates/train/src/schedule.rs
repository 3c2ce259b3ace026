//! The learning rate of each step: warm-up, then cosine, wsd, linear or constant.
//!
//! A pure function of the step, so nothing of it has to be saved for a resume.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate moves after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine from the peak to the minimum (Loshchilov & Hutter 2017).
    #[default]
    Cosine,
    /// Warm-up, stable, decay: the peak until the last part, which decays (Hu et al. 2024, MiniCPM).
    Wsd,
    /// A straight line from the peak to the minimum.
    Linear,
    /// The peak to the end.
    Constant,
}

/// The curve of wsd's decay, over its progress p from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecayShape {
    /// 1 − p.
    Linear,
    /// 1 − √p (Hägele et al. 2024).
    #[default]
    Sqrt,
    /// (1 + cos πp) / 2.
    Cosine,
}

impl DecayShape {
    /// The share of the way from minimum to peak that is left at `progress` (0 to 1).
    fn left(self, progress: f64) -> f64 {
        match self {
            DecayShape::Linear => 1.0 - progress,
            DecayShape::Sqrt => 1.0 - progress.sqrt(),
            DecayShape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

/// The course of the learning rate within one phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// The step before its first.
    pub after: u64,
    /// Its last step.
    pub until: u64,
    /// The rate before it, where its warm-up begins.
    pub from: f64,
    /// Steps of linear warm-up, within its steps.
    pub warmup: u64,
    /// The rate after the warm-up.
    pub start: f64,
    /// The rate of its last step.
    pub end: f64,
    /// How it goes from one to the other; `None`: it stays.
    pub shape: Option<DecayShape>,
}

impl Piece {
    fn learning_rate(&self, step: u64) -> f64 {
        let done = step.min(self.until) - self.after;
        if done <= self.warmup && self.warmup > 0 {
            return self.from + (self.start - self.from) * done as f64 / self.warmup as f64;
        }
        let length = (self.until - self.after - self.warmup).max(1);
        let progress = (done - self.warmup) as f64 / length as f64;
        self.shape.map_or(self.start, |shape| self.end + (self.start - self.end) * shape.left(progress))
    }
}

/// A schedule with its lengths settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The form.
    pub kind: ScheduleKind,
    /// The highest learning rate.
    pub peak: f64,
    /// The lowest, reached at the last step.
    pub minimum: f64,
    /// Steps of the run.
    pub total_steps: u64,
    /// Steps of linear warm-up, within the total.
    pub warmup_steps: u64,
    /// Steps of wsd's decay, within the total.
    pub decay_steps: u64,
    /// Form of wsd's decay.
    pub decay_shape: DecayShape,
    /// What phases say of the learning rate, in their order; then nothing else counts.
    pub pieces: Vec<Piece>,
}

impl Schedule {
    /// The learning rate of `step`, counted from 1. The peak is reached at the last warm-up step and the minimum at the
    /// last step; beyond it the minimum stays.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let piece = self.pieces.iter().find(|piece| step <= piece.until).or(self.pieces.last());
        if let Some(piece) = piece {
            return piece.learning_rate(step);
        }
        if step <= self.warmup_steps {
            return self.peak * step as f64 / self.warmup_steps as f64;
        }
        let between = |shape: DecayShape, from: u64| {
            let length = self.total_steps.saturating_sub(from).max(1);
            let progress = (step.saturating_sub(from) as f64 / length as f64).min(1.0);
            self.minimum + (self.peak - self.minimum) * shape.left(progress)
        };
        match self.kind {
            ScheduleKind::Constant => self.peak,
            ScheduleKind::Cosine => between(DecayShape::Cosine, self.warmup_steps),
            ScheduleKind::Linear => between(DecayShape::Linear, self.warmup_steps),
            ScheduleKind::Wsd => {
                let stable_until = self.total_steps.saturating_sub(self.decay_steps).max(self.warmup_steps);
                if step <= stable_until { self.peak } else { between(self.decay_shape, stable_until) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, decay_shape: DecayShape) -> Schedule {
        Schedule {
            kind,
            peak: 1.0,
            minimum: 0.5,
            total_steps: 20,
            warmup_steps: 4,
            decay_steps: 4,
            decay_shape,
            pieces: Vec::new(),
        }
    }

    fn check(schedule: Schedule, expected: &[(u64, f64)]) {
        for &(step, expected) in expected {
            let got = schedule.learning_rate(step);
            assert!(
                (got - expected).abs() < 1e-15,
                "{:?}, step {step}: {got}, not {expected}",
                schedule.kind
            );
        }
    }

    const WARMUP: [(u64, f64); 4] = [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)];

    #[test]
    fn exact_values() {
        use DecayShape as Shape;
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear, ScheduleKind::Constant, ScheduleKind::Wsd] {
            check(schedule(kind, Shape::Sqrt), &WARMUP);
        }
        let cosine = schedule(ScheduleKind::Cosine, Shape::Sqrt);
        let quarter = 0.5 + 0.25 * (1.0 + 0.5f64.sqrt());
        check(cosine, &[(8, quarter), (12, 0.75), (20, 0.5), (99, 0.5)]);
        check(schedule(ScheduleKind::Linear, Shape::Sqrt), &[(8, 0.875), (12, 0.75), (20, 0.5), (99, 0.5)]);
        check(schedule(ScheduleKind::Constant, Shape::Sqrt), &[(5, 1.0), (20, 1.0)]);
        check(
            schedule(ScheduleKind::Wsd, Shape::Linear),
            &[(5, 1.0), (16, 1.0), (17, 0.875), (18, 0.75), (20, 0.5)],
        );
        check(schedule(ScheduleKind::Wsd, Shape::Sqrt), &[(16, 1.0), (17, 0.75), (20, 0.5)]);
        check(schedule(ScheduleKind::Wsd, Shape::Cosine), &[(16, 1.0), (18, 0.75), (20, 0.5)]);
    }

    #[test]
    fn extremes_stay_finite_and_within_bounds() {
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear, ScheduleKind::Constant, ScheduleKind::Wsd] {
            for (total_steps, warmup_steps, decay_steps) in
                [(1, 0, 0), (1, 1, 1), (5, 5, 5), (3, 0, 3), (3, 2, 3)]
            {
                let schedule =
                    Schedule { total_steps, warmup_steps, decay_steps, ..schedule(kind, DecayShape::Sqrt) };
                for step in 1..=total_steps + 2 {
                    let rate = schedule.learning_rate(step);
                    assert!(rate > 0.0 && rate <= 1.0, "{schedule:?}, step {step}: {rate}");
                }
            }
        }
    }

    #[test]
    fn wsd_before_its_decay_does_not_depend_on_the_length() {
        let short = schedule(ScheduleKind::Wsd, DecayShape::Sqrt);
        let long = Schedule { total_steps: 1000, ..short.clone() };
        for step in 1..=16 {
            assert_eq!(short.learning_rate(step).to_bits(), long.learning_rate(step).to_bits());
        }
    }
}
