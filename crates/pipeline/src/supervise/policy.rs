//! Decides when to resume, after which pause, and when to give up. Pure, so that tests can run thousands of
//! histories.

use std::time::Duration;

/// Consecutive resumes without a newer checkpoint before the run is given up.
pub const RESUMES_WITHOUT_PROGRESS: u64 = 3;

/// Progress of a job, for comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// Number of milestones reached: run created, training started.
    pub parts: u8,
    /// Step of the newest checkpoint.
    pub checkpoint_step: u64,
}

/// The decision after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Resume after a pause.
    Resume(Duration),
    /// Give up: resumes bring no progress.
    GiveUp,
}

/// Counts resumes and their progress.
#[derive(Clone, Debug)]
pub struct Policy {
    pause: Duration,
    furthest: Progress,
    without_progress: u64,
}

impl Policy {
    /// `pause` before the first resume; four times as long before each further one without progress.
    pub fn new(pause: Duration, begun_at: Progress) -> Policy {
        Policy { pause, furthest: begun_at, without_progress: 0 }
    }

    /// Consecutive resumes without progress.
    pub fn without_progress(&self) -> u64 {
        self.without_progress
    }

    /// Records a crash at this progress; `resumed`: whether the worker had been resumed.
    pub fn crashed(&mut self, progress: Progress, resumed: bool) -> Decision {
        // The first worker may have been sent back to an earlier checkpoint: its progress starts there.
        if progress > self.furthest || !resumed {
            self.furthest = progress;
            self.without_progress = 0;
        } else {
            self.without_progress += 1;
        }
        if self.without_progress >= RESUMES_WITHOUT_PROGRESS {
            return Decision::GiveUp;
        }
        Decision::Resume(self.pause * 4u32.pow(self.without_progress as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compute::rng::Rng;

    fn at(checkpoint_step: u64) -> Progress {
        Progress { parts: 2, checkpoint_step }
    }

    #[test]
    fn a_run_that_was_sent_back_counts_from_there() {
        let mut policy = Policy::new(Duration::ZERO, at(1000));
        let steps = [(250, false), (500, true), (750, true), (1000, true), (1250, true)];
        for (step, resumed) in steps {
            assert_eq!(policy.crashed(at(step), resumed), Decision::Resume(Duration::ZERO), "step {step}");
        }
    }

    #[test]
    fn pauses_grow_until_there_is_progress() {
        let second = Duration::from_secs(1);
        let mut policy = Policy::new(second, Progress::default());
        assert_eq!(policy.crashed(at(0), false), Decision::Resume(second));
        assert_eq!(policy.crashed(at(0), true), Decision::Resume(4 * second));
        assert_eq!(policy.crashed(at(0), true), Decision::Resume(16 * second));
        assert_eq!(policy.crashed(at(10), true), Decision::Resume(second));
        assert_eq!(policy.crashed(at(10), true), Decision::Resume(4 * second));
    }

    /// Row 11 of the reliability matrix: of 50 runs that crash at random, each ends at the third resume in a
    /// row without progress, neither sooner nor later.
    #[test]
    fn every_crash_loop_of_fifty_is_ended_at_the_third_resume() {
        for seed in 0..50 {
            let mut rng = Rng::from_parts(seed, "crash loop", &[]);
            let mut policy = Policy::new(Duration::ZERO, Progress::default());
            let (mut step, mut in_vain, mut resumed) = (0, 0, false);
            loop {
                // Progress in most crashes at first, then none: a run that breaks for good.
                let gain = if step < 50 + seed && rng.below(3) > 0 { 1 + rng.below(9) } else { 0 };
                step += gain;
                in_vain = match (gain, resumed) {
                    (0, true) => in_vain + 1,
                    (0, false) => 0,
                    _ => 0,
                };
                let first = !resumed;
                let decision =
                    policy.crashed(Progress { parts: u8::from(step > 0), checkpoint_step: step }, resumed);
                resumed = true;
                assert_eq!(
                    decision == Decision::GiveUp,
                    in_vain >= 3,
                    "seed {seed}, step {step}, first {first}"
                );
                if decision == Decision::GiveUp {
                    break;
                }
            }
        }
    }
}
