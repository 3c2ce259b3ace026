//! Loss spikes: losses far above what was usual, for several steps in a row.
//!
//! One bad batch among good ones is no spike: its gradient is clipped and the next loss is as before. What
//! counts is a model that was thrown off its course, and that shows in the losses after it. The window is
//! part of the checkpoint, so a resumed run notices exactly what an uninterrupted one does.

use serde::{Deserialize, Serialize};

/// Losses that say what is usual.
const WINDOW: usize = 64;
/// Fewer say nothing.
const LEAST: usize = 16;
/// Steps in a row above the limit.
const IN_A_ROW: u32 = 3;
/// The limit is this many robust standard deviations above the median …
const DEVIATIONS: f64 = 8.0;
/// … and at least this much in nats, and this share of the median.
const LEAST_RISE: (f64, f64) = (0.3, 0.15);

/// Recent losses, and how many of the last were too high.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpikeWindow {
    losses: Vec<f64>,
    above: u32,
}

/// A spike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// The loss that made it certain.
    pub loss: f64,
    /// What was usual.
    pub median: f64,
    /// What would have been let pass.
    pub limit: f64,
}

impl SpikeWindow {
    /// Takes the loss of a step; a spike once enough of them in a row are too high.
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

    /// What was usual counts no more: the data are others now.
    pub fn forget(&mut self) {
        self.losses.clear();
    }

    /// Whether the last losses are usual.
    pub fn is_calm(&self) -> bool {
        self.above == 0
    }

    fn limit(&self) -> Option<(f64, f64)> {
        if self.losses.len() < LEAST {
            return None;
        }
        let centre = median(self.losses.clone());
        // From differences of neighbours, so that a curve that falls steeply does not look noisy. 1.4826:
        // what makes a median a standard deviation, were they normal; √2: they are differences of two.
        let differences = self.losses.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
        let deviation = 1.4826 / std::f64::consts::SQRT_2 * median(differences);
        Some((centre, centre + (DEVIATIONS * deviation).max(LEAST_RISE.0 + LEAST_RISE.1 * centre)))
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
