//! Rate and remaining time of a progress count, measured from its first report.

use std::time::Instant;

use runs::report::Phase;

/// Tracks the progress counts of phases, one at a time.
#[derive(Default)]
pub struct Pace {
    began: Option<Began>,
}

struct Began {
    at: Instant,
    what: (Phase, &'static str, u64),
    done: u64,
    last: u64,
}

/// Units a second, and seconds left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_s: f64,
    pub eta_s: f64,
}

impl Pace {
    /// Takes a progress report; returns a rate after the first second.
    pub fn hear(&mut self, phase: Phase, unit: &'static str, done: u64, total: u64) -> Option<Rate> {
        self.hear_at(phase, unit, done, total, Instant::now())
    }

    fn hear_at(
        &mut self,
        phase: Phase,
        unit: &'static str,
        done: u64,
        total: u64,
        now: Instant,
    ) -> Option<Rate> {
        let what = (phase, unit, total);
        // A count that decreases is a new one.
        if !matches!(&self.began, Some(began) if began.what == what && done >= began.last) {
            self.began = Some(Began { at: now, what, done, last: done });
            return None;
        }
        let began = self.began.as_mut()?;
        began.last = done;
        let seconds = now.duration_since(began.at).as_secs_f64();
        let per_s = (done - began.done) as f64 / seconds;
        if seconds < 1.0 || per_s <= 0.0 {
            return None;
        }
        Some(Rate { per_s, eta_s: total.saturating_sub(done) as f64 / per_s })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_rate_is_that_of_the_count_that_runs() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        let mut hear = |done, total, seconds| {
            pace.hear_at(Phase::Corpus, "bytes", done, total, begin + Duration::from_secs(seconds))
        };
        assert_eq!(hear(100, 1000, 0), None);
        assert_eq!(hear(300, 1000, 2), Some(Rate { per_s: 100.0, eta_s: 7.0 }));
        assert_eq!(hear(10, 1000, 3), None, "another count begins");
        assert_eq!(hear(20, 1000, 4), Some(Rate { per_s: 10.0, eta_s: 98.0 }));
        assert_eq!(hear(20, 50, 5), None);
    }
}
