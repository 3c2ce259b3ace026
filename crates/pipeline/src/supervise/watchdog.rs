//! Detects hung workers. Pure: it gets observations of the worker with their times.
//!
//! A sign of progress is a changed file (state, metrics, console, the loop's heartbeat) or a byte read or
//! written. A worker hangs if it shows no sign and uses no CPU time (stopped, deadlocked, waiting for a disk
//! that does not respond), or if it trains and uses CPU time without a sign for so long that its loop cannot
//! be running (waiting for a GPU that does not respond looks like this). Preparing data, validating and
//! saving use the CPU or the disk, and so are never taken for a hang.

use std::time::Duration;

/// Limit without a sign and without CPU time, in steps.
const IDLE_STEPS: f64 = 20.0;
/// Limit without a sign, with CPU time, in steps.
const BUSY_STEPS: f64 = 100.0;
/// Minimum limit for a worker that uses CPU time, as a multiple of that for one that does not.
const BUSY_PATIENCE: u32 = 6;
/// CPU use of a waiting process, as a fraction of one CPU.
const IDLE_SHARE: f64 = 0.02;

/// An observation of a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sighting {
    /// Monotonic time.
    pub at: Duration,
    /// Changes with any sign of progress.
    pub signs: u64,
    /// CPU time so far, if the system reports it.
    pub cpu_s: Option<f64>,
    /// Duration of a step, if the worker is between two measured steps.
    pub step_s: Option<f64>,
}

/// Watches one worker.
#[derive(Clone, Debug)]
pub struct Watchdog {
    least: Duration,
    last: Sighting,
    sign_at: Duration,
    alive_at: Duration,
}

impl Watchdog {
    /// `least`: the minimum limit for a worker that does nothing, whatever its step time.
    pub fn new(least: Duration, at: Duration) -> Watchdog {
        Watchdog { least, last: Sighting { at, ..Sighting::default() }, sign_at: at, alive_at: at }
    }

    /// Adds an observation; returns the problem once there is one.
    pub fn look(&mut self, seen: Sighting) -> Option<String> {
        if seen.signs != self.last.signs {
            (self.sign_at, self.alive_at) = (seen.at, seen.at);
        }
        let interval_s = seen.at.saturating_sub(self.last.at).as_secs_f64();
        match (seen.cpu_s, self.last.cpu_s) {
            (Some(now), Some(before)) if now - before <= IDLE_SHARE * interval_s => {}
            // It uses CPU time, or that is unknown.
            _ => self.alive_at = seen.at,
        }
        let (step_s, training) = (seen.step_s.unwrap_or(0.0), seen.step_s.is_some());
        let idle = seen.at.saturating_sub(self.alive_at);
        let silent = seen.at.saturating_sub(self.sign_at);
        self.last = seen;
        let patience =
            |least: Duration, steps: f64| least.max(Duration::from_secs_f64((steps * step_s).min(1e7)));
        if idle >= patience(self.least, IDLE_STEPS) {
            return Some(format!("no activity for {} s (no step, no output, no CPU time)", idle.as_secs()));
        }
        if training && silent >= patience(BUSY_PATIENCE * self.least, BUSY_STEPS) {
            return Some(format!(
                "no step finished in {} s of computing, and a step takes {step_s:.1} s",
                silent.as_secs()
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_secs(300);

    /// Looks each second at a worker that uses `share` of a processor; the second at which it is called hung.
    fn called_hung(seconds: u64, share: f64, step_s: Option<f64>, sign: impl Fn(u64) -> u64) -> Option<u64> {
        let mut watchdog = Watchdog::new(LEAST, Duration::ZERO);
        (1..=seconds).find(|&at| {
            let seen = Sighting {
                at: Duration::from_secs(at),
                signs: sign(at),
                cpu_s: Some(share * at as f64),
                step_s,
            };
            watchdog.look(seen).is_some()
        })
    }

    #[test]
    fn a_worker_that_does_nothing_is_called_hung_and_one_that_works_is_not() {
        let never = |_: u64| 0;
        assert_eq!(
            called_hung(1000, 0.0, Some(1.0), never),
            Some(301),
            "the first look knows no processor time"
        );
        assert_eq!(called_hung(100_000, 0.0, Some(1.0), |at| at / 290), None, "a sign now and then");
        // Preparing data: hours on one processor without a word.
        assert_eq!(called_hung(100_000, 1.0, None, never), None);
        // Validating: it computes, and the loop's heartbeat comes.
        assert_eq!(called_hung(100_000, 1.0, Some(1.0), |at| at / 60), None);
        // A GPU that does not answer.
        assert_eq!(called_hung(100_000, 1.0, Some(1.0), never), Some(1800));
        // Long steps have more patience.
        assert_eq!(called_hung(100_000, 1.0, Some(600.0), never), Some(60_000));
        assert_eq!(called_hung(100_000, 0.0, Some(600.0), never), Some(12_001));
    }

    #[test]
    fn one_that_worked_for_long_is_not_the_longer_waited_for() {
        let mut watchdog = Watchdog::new(LEAST, Duration::ZERO);
        let hung = (1..20_000u64).find(|&at| {
            let seen = Sighting {
                at: Duration::from_secs(at),
                signs: 0,
                cpu_s: Some(at.min(10_000) as f64),
                step_s: None,
            };
            watchdog.look(seen).is_some()
        });
        assert_eq!(hung, Some(10_300));
    }

    #[test]
    fn where_nobody_tells_of_processor_time_only_steps_count() {
        let mut watchdog = Watchdog::new(LEAST, Duration::ZERO);
        let mut look = |at, step_s| {
            watchdog.look(Sighting { at: Duration::from_secs(at), step_s, ..Sighting::default() })
        };
        assert_eq!(look(5000, None), None);
        assert!(look(5001, Some(1.0)).is_some());
    }
}
