//! Retries on a full or failing disk: pauses, warns, retries, and gives up after a limited time.

use std::time::{Duration, Instant};

use runs::report::{Phase, Reporter};

use crate::{ErrorKind, Result, StopFlag};

/// Retry times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// Time between attempts.
    pub retry_every: Duration,
    /// Maximum time from the first failure.
    pub give_up_after: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { retry_every: Duration::from_secs(5), give_up_after: Duration::from_secs(600) }
    }
}

impl Patience {
    /// Runs `attempt` until it succeeds, fails for a reason that waiting cannot fix, or time is up. `what`
    /// starts the message: "the checkpoint of step 500". A raised flag ends the wait too.
    pub fn wait_out<T>(
        &self,
        what: &str,
        stop: &StopFlag,
        reporter: &mut dyn Reporter,
        mut attempt: impl FnMut(&mut dyn Reporter) -> Result<T>,
    ) -> Result<T> {
        let mut paused_since: Option<Instant> = None;
        loop {
            let error = match attempt(reporter) {
                Ok(done) => {
                    if let Some(since) = paused_since {
                        let message = format!(
                            "{what} was written after {:.0} s; continuing",
                            since.elapsed().as_secs_f64()
                        );
                        reporter.note(Phase::Training, &message);
                    }
                    return Ok(done);
                }
                Err(error) => error,
            };
            let mendable =
                matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::Io | ErrorKind::Corrupt);
            let since = *paused_since.get_or_insert_with(Instant::now);
            let left = self.give_up_after.saturating_sub(since.elapsed());
            if !mendable || left.is_zero() || stop.is_raised() {
                return Err(error);
            }
            // No command fails here that could name a remedy.
            let remedy = if error.kind() == ErrorKind::StorageFull { ": free some space" } else { "" };
            reporter.warning(
                Phase::Training,
                &format!(
                    "{what} cannot be written: {error}. Training is paused{remedy}; older checkpoints are \
                     kept. Retrying in {:.0} s, giving up in {:.0} s",
                    self.retry_every.as_secs_f64(),
                    left.as_secs_f64()
                ),
            );
            let wake = Instant::now() + self.retry_every.min(left);
            while Instant::now() < wake && !stop.is_raised() {
                std::thread::sleep(
                    Duration::from_millis(100).min(wake.saturating_duration_since(Instant::now())),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use runs::report::Recorder;

    const QUICK: Patience =
        Patience { retry_every: Duration::from_millis(1), give_up_after: Duration::from_millis(50) };

    fn full() -> Error {
        let source = std::io::ErrorKind::StorageFull.into();
        Error::Store(store::Error::Io { action: "write", path: "/x".into(), source })
    }

    #[test]
    fn it_goes_on_when_space_is_back() {
        let mut recorder = Recorder::default();
        let mut calls = 0;
        let done = QUICK.wait_out("the thing", &StopFlag::new(), &mut recorder, |_| {
            calls += 1;
            if calls < 4 { Err(full()) } else { Ok(calls) }
        });
        assert_eq!(done.unwrap(), 4);
        assert_eq!(recorder.warnings().len(), 3);
        assert!(recorder.warnings()[0].contains("free some space"), "{}", recorder.warnings()[0]);
    }

    #[test]
    fn it_gives_up_in_bounded_time_and_at_once_when_told_or_hopeless() {
        let mut recorder = Recorder::default();
        let start = Instant::now();
        assert!(QUICK.wait_out("x", &StopFlag::new(), &mut recorder, |_| Err::<(), _>(full())).is_err());
        assert!(start.elapsed() >= QUICK.give_up_after && start.elapsed() < Duration::from_secs(5));

        let patient = Patience { give_up_after: Duration::from_secs(600), ..QUICK };
        let stop = StopFlag::new();
        stop.raise();
        assert!(patient.wait_out("x", &stop, &mut recorder, |_| Err::<(), _>(full())).is_err());
        let hopeless = || Error::NonFiniteWeights { step: 1, tensor: "w".into() };
        assert!(
            patient.wait_out("x", &StopFlag::new(), &mut recorder, |_| Err::<(), _>(hopeless())).is_err()
        );
    }
}
