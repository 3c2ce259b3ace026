//! Learning-rate schedules: warm-up, then cosine, wsd, linear or constant.
//!
//! The learning rate is a pure function of the step, so resuming needs no saved state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Learning-rate schedule after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine from the peak to the minimum (Loshchilov & Hutter 2017).
    #[default]
    Cosine,
    /// Warm-up, stable, decay: constant at the peak, then a decay at the end (Hu et al. 2024, MiniCPM).
    Wsd,
    /// Linear from the peak to the minimum.
    Linear,
    /// Constant at the peak.
    Constant,
}

/// Shape of wsd's decay, over its progress p from 0 to 1.
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
    /// The fraction of the way from minimum to peak that remains at `progress` (0 to 1).
    fn left(self, progress: f64) -> f64 {
        match self {
            DecayShape::Linear => 1.0 - progress,
            DecayShape::Sqrt => 1.0 - progress.sqrt(),
            DecayShape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

/// A part of a run with one formula for its learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// The step before its first step.
    pub after: u64,
    /// Its last step.
    pub until: u64,
    /// The learning rate at `after`, where the warm-up starts.
    pub from: f64,
    /// Number of linear warm-up steps, within its steps.
    pub warmup: u64,
    /// The learning rate after the warm-up.
    pub start: f64,
    /// The learning rate of its last step.
    pub end: f64,
    /// The shape from `start` to `end`; `None`: constant.
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

/// The learning rate of every step, as consecutive pieces.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pieces: Vec<Piece>,
}

/// The numbers that turn a [`ScheduleKind`] into pieces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WholeRun {
    pub kind: ScheduleKind,
    /// The learning rate after the warm-up.
    pub peak: f64,
    /// The learning rate of the last step, unless `kind` is constant.
    pub minimum: f64,
    pub total_steps: u64,
    /// Steps of linear warm-up, within the total.
    pub warmup_steps: u64,
    /// Steps of wsd's decay, within the total.
    pub decay_steps: u64,
    pub decay_shape: DecayShape,
}

impl From<WholeRun> for Schedule {
    fn from(run: WholeRun) -> Schedule {
        let WholeRun { kind, peak, minimum, total_steps, warmup_steps, decay_steps, decay_shape } = run;
        let piece = |after, until, warmup, end, shape| Piece {
            after,
            until,
            from: if after == 0 { 0.0 } else { peak },
            warmup,
            start: peak,
            end,
            shape,
        };
        let whole = |end, shape| vec![piece(0, total_steps, warmup_steps, end, shape)];
        let pieces = match kind {
            ScheduleKind::Constant => whole(peak, None),
            ScheduleKind::Cosine => whole(minimum, Some(DecayShape::Cosine)),
            ScheduleKind::Linear => whole(minimum, Some(DecayShape::Linear)),
            ScheduleKind::Wsd => {
                let plateau_end = total_steps.saturating_sub(decay_steps).max(warmup_steps);
                let stable = piece(0, plateau_end, warmup_steps, peak, None);
                let decay = piece(plateau_end, total_steps, 0, minimum, Some(decay_shape));
                [stable, decay].into_iter().filter(|piece| piece.until > piece.after).collect()
            }
        };
        Schedule { pieces }
    }
}

impl Schedule {
    /// A schedule of consecutive pieces, from step 0.
    pub(crate) fn of_pieces(pieces: Vec<Piece>) -> Schedule {
        Schedule { pieces }
    }

    /// The learning rate of `step`, counted from 1. The peak is reached at the last warm-up step and the
    /// minimum at the last step; after it the learning rate is constant.
    pub fn learning_rate(&self, step: u64) -> f64 {
        let piece = self.pieces.iter().find(|piece| step <= piece.until).or(self.pieces.last());
        piece.map_or(0.0, |piece| piece.learning_rate(step))
    }

    /// Number of warm-up steps at the beginning.
    pub fn warmup_steps(&self) -> u64 {
        self.pieces.first().map_or(0, |piece| piece.warmup)
    }

    /// Its last step.
    pub fn last_step(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.until)
    }

    /// The last step of the plateau that a final decay follows: a run can be continued from there as if the
    /// decay had not been. `None` where the learning rate decays all the time, or not at all.
    pub fn plateau_end(&self) -> Option<u64> {
        let [.., plateau, decay] = self.pieces.as_slice() else { return None };
        (plateau.shape.is_none() && decay.shape.is_some()).then_some(plateau.until)
    }

    /// The same schedule with its final decay, of the same length, begun after `step` of the plateau. `None`
    /// where `step` is not on one, or still in the warm-up.
    pub fn decaying_after(&self, step: u64) -> Option<Schedule> {
        let plateau_end = self.plateau_end()?;
        let [before @ .., plateau, decay] = self.pieces.as_slice() else { return None };
        if step <= plateau.after + plateau.warmup || step >= plateau_end {
            return None;
        }
        let plateau = Piece { until: step, ..*plateau };
        let decay = Piece { after: step, until: step + (decay.until - decay.after), ..*decay };
        Some(Schedule { pieces: before.iter().copied().chain([plateau, decay]).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(kind: ScheduleKind, decay_shape: DecayShape) -> WholeRun {
        WholeRun {
            kind,
            peak: 1.0,
            minimum: 0.5,
            total_steps: 20,
            warmup_steps: 4,
            decay_steps: 4,
            decay_shape,
        }
    }

    fn schedule(kind: ScheduleKind, decay_shape: DecayShape) -> Schedule {
        whole(kind, decay_shape).into()
    }

    fn check(schedule: Schedule, expected: &[(u64, f64)]) {
        for &(step, expected) in expected {
            let got = schedule.learning_rate(step);
            assert!((got - expected).abs() < 1e-15, "{schedule:?}, step {step}: {got}, not {expected}");
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
                let whole = whole(kind, DecayShape::Sqrt);
                let schedule = Schedule::from(WholeRun { total_steps, warmup_steps, decay_steps, ..whole });
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
        let long =
            Schedule::from(WholeRun { total_steps: 1000, ..whole(ScheduleKind::Wsd, DecayShape::Sqrt) });
        for step in 1..=16 {
            assert_eq!(short.learning_rate(step).to_bits(), long.learning_rate(step).to_bits());
        }
    }

    #[test]
    fn a_decay_can_begin_earlier_on_the_plateau() {
        let planned = schedule(ScheduleKind::Wsd, DecayShape::Linear);
        assert_eq!((planned.plateau_end(), planned.last_step(), planned.warmup_steps()), (Some(16), 20, 4));
        let early = planned.decaying_after(10).unwrap();
        assert_eq!((early.plateau_end(), early.last_step()), (Some(10), 14));
        check(early, &[(2, 0.5), (10, 1.0), (11, 0.875), (12, 0.75), (14, 0.5), (99, 0.5)]);
        for step in [0, 4, 16, 20] {
            assert_eq!(planned.decaying_after(step), None, "{step}");
        }
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear, ScheduleKind::Constant] {
            let schedule = schedule(kind, DecayShape::Sqrt);
            assert_eq!((schedule.plateau_end(), schedule.decaying_after(10)), (None, None));
        }
    }
}
