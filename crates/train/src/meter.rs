//! Measures speed and estimates the remaining time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Number of steps in the moving average of the speed.
const WINDOW: usize = 50;

/// The meter of one session of a run.
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    elapsed_before_s: f64,
    /// End times of recent steps.
    ends: VecDeque<Instant>,
    in_steps: Duration,
    steps: u64,
}

impl Meter {
    /// Starts the meter; `elapsed_before_s` is the time of earlier sessions of the run.
    pub fn start(elapsed_before_s: f64) -> Meter {
        Meter {
            begun: Instant::now(),
            elapsed_before_s,
            ends: VecDeque::with_capacity(WINDOW + 1),
            in_steps: Duration::ZERO,
            steps: 0,
        }
    }

    /// Records a step that took `duration`.
    pub fn step(&mut self, duration: Duration) {
        if self.ends.len() > WINDOW {
            self.ends.pop_front();
        }
        self.ends.push_back(Instant::now());
        self.in_steps += duration;
        self.steps += 1;
    }

    /// Time of all sessions of the run.
    pub fn elapsed_s(&self) -> f64 {
        self.elapsed_before_s + self.begun.elapsed().as_secs_f64()
    }

    /// Estimated time for `steps` more: recent wall time per step, which includes validation and checkpoints.
    /// Until the window is full it is the mean of the session, so that one early checkpoint does not distort
    /// it.
    pub fn eta_s(&self, steps: u64) -> f64 {
        let per_step = match (self.ends.front(), self.ends.back()) {
            (Some(first), Some(last)) if self.ends.len() > WINDOW => {
                let recent = last.duration_since(*first).as_secs_f64() / (self.ends.len() - 1) as f64;
                // Work that is rarer than the window would be missed by it.
                recent.max(self.in_steps.as_secs_f64() / self.steps as f64)
            }
            (Some(_), Some(_)) => self.begun.elapsed().as_secs_f64() / self.steps as f64,
            _ => 0.0,
        };
        per_step * steps as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_the_speed() {
        let mut meter = Meter::start(100.0);
        assert_eq!(meter.eta_s(10), 0.0);
        for _ in 0..WINDOW + 10 {
            let start = Instant::now();
            std::thread::sleep(Duration::from_millis(1));
            meter.step(start.elapsed());
        }
        let eta = meter.eta_s(1000);
        assert!((1.0..20.0).contains(&eta), "{eta}");
        assert!(meter.elapsed_s() > 100.05 && meter.elapsed_s() < 200.0);
    }
}
