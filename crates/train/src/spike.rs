//! Loss-spike detection: several consecutive losses far above recent ones.
//!
//! A single bad batch is not a spike: its gradient is clipped and the next loss is normal. A spike is a model
//! that has diverged, which shows in the following losses. The window is part of the checkpoint, so a resumed
//! run detects exactly what an uninterrupted one does.

use serde::{Deserialize, Serialize};

/// Size of the window of recent losses.
const WINDOW: usize = 64;
/// With fewer losses nothing is detected.
const LEAST: usize = 16;
/// Consecutive steps above the limit.
const IN_A_ROW: u32 = 3;
/// The limit is this many robust standard deviations above the median …
const DEVIATIONS: f64 = 8.0;
/// … and at least this much in nats, and this share of the median.
const LEAST_RISE: (f64, f64) = (0.3, 0.15);

/// Recent losses, and the number of last ones that were too high.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpikeWindow {
    losses: Vec<f64>,
    above: u32,
}

/// A detected spike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// The loss at which it was detected.
    pub loss: f64,
    /// Median of recent losses.
    pub median: f64,
    /// The limit that was exceeded.
    pub limit: f64,
}

impl SpikeWindow {
    /// Adds the loss of a step; returns a spike once enough consecutive losses are too high.
    pub fn push(&mut self, loss: f64) -> Option<Spike> {
        if let Some((median, limit)) = self.limit()
            && loss > limit
        {
            self.above += 1;
            return (self.above >= IN_A_ROW).then_some(Spike { loss, median, limit });
        }
        self.above = 0;
        if self.losses.len() == WINDOW {
            self.losses.remove(0);
        }
        self.losses.push(loss);
        None
    }

    /// Clears the window, since the data have changed.
    pub fn forget(&mut self) {
        self.losses.clear();
    }

    /// Whether the last losses are normal.
    pub fn is_calm(&self) -> bool {
        self.above == 0
    }

    fn limit(&self) -> Option<(f64, f64)> {
        if self.losses.len() < LEAST {
            return None;
        }
        let center = median(self.losses.clone());
        // From differences of neighbors, so that a steep curve does not look noisy. 1.4826 converts a median
        // absolute deviation to a standard deviation of a normal distribution; √2 since these are differences
        // of two values.
        let differences = self.losses.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
        let deviation = 1.4826 / std::f64::consts::SQRT_2 * median(differences);
        Some((center, center + (DEVIATIONS * deviation).max(LEAST_RISE.0 + LEAST_RISE.1 * center)))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use compute::rng::Rng;

    /// A loss curve as training gives it: falling, noisy, with a bad batch now and then.
    fn usual(step: u64, rng: &mut Rng) -> f64 {
        let bad_batch = if rng.below(97) == 0 { 2.0 } else { 0.0 };
        2.0 + 6.0 / (1.0 + step as f64 / 50.0) + 0.08 * rng.normal() + bad_batch
    }

    #[test]
    fn a_usual_curve_has_no_spike() {
        for seed in 0..20 {
            let mut rng = Rng::from_parts(seed, "usual", &[]);
            let mut window = SpikeWindow::default();
            for step in 0..3000 {
                assert_eq!(window.push(usual(step, &mut rng)), None, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn a_curve_that_jumps_and_stays_up_is_noticed_by_the_third_step() {
        for seed in 0..20 {
            let mut rng = Rng::from_parts(seed, "spike", &[]);
            let mut window = SpikeWindow::default();
            let from = 100 + 20 * seed;
            for step in 0..from {
                assert_eq!(window.push(usual(step, &mut rng)), None);
            }
            let noticed = (0..9).position(|after| {
                let height = 3.0 + rng.normal().abs();
                window.push(usual(from + after, &mut rng) + height).is_some()
            });
            // Sooner where a bad batch came just before.
            assert!(matches!(noticed, Some(0..=2)), "seed {seed}: {noticed:?}");
        }
    }

    #[test]
    fn it_comes_back_from_a_checkpoint_as_it_was() {
        let mut rng = Rng::from_parts(1, "json", &[]);
        let mut window = SpikeWindow::default();
        for step in 0..100 {
            window.push(usual(step, &mut rng));
        }
        window.push(99.0);
        let back: SpikeWindow = serde_json::from_str(&serde_json::to_string(&window).unwrap()).unwrap();
        assert_eq!(back, window);
        assert_eq!(back.above, 1);
    }
}
