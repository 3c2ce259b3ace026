//! A stop on request, wherever the job is: told as one, recorded as one, and soon.
//!
//! Training looks at its flag, saves and ends by itself. All other work holds nothing that the next call
//! would not make again, and is too varied to look at a flag everywhere (merges, sorts, a page of a PDF): it
//! is given [`GRACE`] to come to a place that looks, and then [`watch`] records the stop and ends the
//! process. Reading order: [`Stopped`], [`Working`], [`watch`].

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use runs::report::Phase;
use runs::run::{RunDir, RunState, RunStatus};
use store::fs::RealFs;
use train::StopFlag;

use crate::stopped::{Stopped, in_words};
use crate::{Error, ErrorKind, Result};

/// For work that is stopped to end by itself.
pub const GRACE: Duration = Duration::from_secs(2);
/// Between two looks at the flag.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the process works on.
#[derive(Debug)]
struct Work {
    phase: Option<Phase>,
    run: Option<RunDir>,
    command: Option<String>,
    /// Nothing is left of it but to tell.
    done: bool,
}

/// One job a process at a time; whoever ends the process keeps the lock, so that nothing is recorded after.
static WORK: Mutex<Option<Work>> = Mutex::new(None);

fn work() -> MutexGuard<'static, Option<Work>> {
    // A panic elsewhere leaves whole values behind.
    WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the phase that begins, and ends the job there where somebody has asked to stop.
pub(crate) fn enter(phase: Phase) -> Result<()> {
    if StopFlag::of_process()?.is_raised() {
        // In the phase that has just ended: nothing of this one is begun.
        return Err(stopped().into());
    }
    if let Some(work) = work().as_mut() {
        work.phase = Some(phase);
    }
    Ok(())
}

/// Where the job is now.
pub(crate) fn stopped() -> Stopped {
    of(work().as_ref())
}

fn of(work: Option<&Work>) -> Stopped {
    Stopped {
        phase: work.and_then(|work| work.phase),
        steps: None,
        command: work.and_then(|work| work.command.clone()),
    }
}

/// Where a process is, for who tells how it ended.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The phase, within a job.
    pub phase: Option<Phase>,
    run: Option<RunDir>,
}

/// Where this process is now. Never waits: it is asked for in the middle of a panic.
pub fn place() -> Place {
    let work = match WORK.try_lock() {
        Ok(work) => work,
        Err(TryLockError::Poisoned(work)) => work.into_inner(),
        Err(TryLockError::WouldBlock) => return Place::default(),
    };
    work.as_ref().map_or_else(Place::default, |work| Place { phase: work.phase, run: work.run.clone() })
}

impl Place {
    /// The exit code of what fails there.
    pub fn exit_code(&self) -> u8 {
        self.phase.map_or(ErrorKind::Environment, ErrorKind::of_phase).exit_code()
    }

    /// The run's folder, within a run.
    pub fn run_folder(&self) -> Option<&Path> {
        self.run.as_ref().map(RunDir::path)
    }

    /// In words, to be put behind what happened: " in the corpus phase".
    pub fn in_words(&self) -> String {
        in_words(self.phase)
    }

    /// Marks the run as failed; `failure` is the kind, for programs. One whose training is done stays what it
    /// is.
    pub fn fail(&self, failure: &str, message: &str) {
        let Some(run) = &self.run else { return };
        let Ok(state) = run.read_state(&RealFs) else { return };
        if state.is_trained() {
            return;
        }
        let state = RunState {
            status: RunStatus::Failed,
            message: message.to_owned(),
            failure: Some(failure.to_owned()),
            eta_s: 0.0,
            ..state
        };
        // What happened is told all the same.
        let _ = run.write_state(&RealFs, state);
    }
}

/// A job of this process, from its first phase to its last.
#[derive(Debug)]
pub(crate) struct Working;

impl Working {
    /// Begins; `command` goes on with it, where it can be said in a few words.
    pub fn begin(command: Option<String>) -> Working {
        *work() = Some(Work { phase: None, run: None, command, done: false });
        Working
    }

    /// Says which run is to be marked as stopped.
    pub fn on(&self, run: &RunDir) {
        if let Some(work) = work().as_mut() {
            work.run = Some(run.clone());
        }
    }

    /// All is done: a stop that comes now is too late to be one.
    pub fn done(&self) {
        if let Some(work) = work().as_mut() {
            (work.run, work.done) = (None, true);
        }
    }
}

/// Whether the job at work is done.
fn is_done(work: Option<&Work>) -> bool {
    work.is_some_and(|work| work.done)
}

/// Tells a stop as a stop, whatever error it came out as: a transfer that broke off, a child that the same
/// Ctrl-C ended. What training says stays, since there is something to lose: a checkpoint that could not be
/// saved is not a stop. Called while the run's lock is held.
pub(crate) fn settle<T>(result: Result<T>) -> Result<T> {
    let Err(error) = result else { return result };
    let guard = work();
    let training = guard.as_ref().is_some_and(|work| work.phase == Some(Phase::Training));
    let raised = StopFlag::of_process().is_ok_and(|flag| flag.was_raised());
    let stopped = match error {
        Error::Stopped(stopped) => stopped,
        _ if raised && !training && !is_done(guard.as_ref()) => of(guard.as_ref()),
        error => return Err(error),
    };
    if let Some(run) = guard.as_ref().and_then(|work| work.run.as_ref()) {
        mark(run, &stopped);
    }
    Err(stopped.into())
}

impl Drop for Working {
    fn drop(&mut self) {
        *work() = None;
    }
}

/// Marks a run as stopped. Who marks holds its lock, or knows that nobody does.
pub(crate) fn mark(run: &RunDir, stopped: &Stopped) {
    let Ok(state) = run.read_state(&RealFs) else { return };
    if state.status == RunStatus::Stopped {
        return;
    }
    let trained = state.is_trained();
    let message = stopped.to_string();
    let state = RunState { status: RunStatus::Stopped, trained, message, failure: None, eta_s: 0.0, ..state };
    // The stop itself is what counts; without the mark the run is told as interrupted.
    let _ = run.write_state(&RealFs, state);
}

/// Takes the mark back from a run whose training is done, since what comes after it is at work again.
pub(crate) fn unmark(run: &RunDir) -> Result<()> {
    let state = run.read_state(&RealFs)?;
    if state.status == RunStatus::Stopped && state.trained {
        let message = "all steps are done".to_owned();
        let state = RunState { status: RunStatus::Completed, trained: false, message, ..state };
        run.write_state(&RealFs, state)?;
    }
    Ok(())
}

/// Sees to it that a stop takes effect: from now on this process listens for SIGINT and SIGTERM, and `end`,
/// which is to end it, is called on a thread of its own where the work has not ended by itself. The job is
/// recorded as stopped by then.
///
/// # Errors
/// The system does not let this process listen.
pub fn watch(end: impl FnOnce(&Stopped, u8) + Send + 'static) -> Result<()> {
    let (ready, go) = std::sync::mpsc::channel::<StopFlag>();
    let watch = move || {
        let Ok(flag) = go.recv() else { return };
        while !flag.was_raised() {
            std::thread::sleep(LOOK_EVERY);
        }
        store::ending::end();
        let mut free_since = Instant::now();
        // Kept to the end.
        let guard = loop {
            let guard = work();
            if flag.is_held() || is_done(guard.as_ref()) {
                free_since = Instant::now();
            } else if free_since.elapsed() >= GRACE {
                break guard;
            }
            drop(guard);
            std::thread::sleep(LOOK_EVERY);
        };
        let stopped = of(guard.as_ref());
        if let Some(run) = guard.as_ref().and_then(|work| work.run.as_ref()) {
            mark(run, &stopped);
        }
        end(&stopped, flag.exit_code());
    };
    // A system without another thread for us ends the process at the signal, as if nobody listened.
    if std::thread::Builder::new().name("stop".to_owned()).spawn(watch).is_ok() {
        let _ = ready.send(StopFlag::of_process()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is at work is the process's, and tests share one.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn a_stop_says_where_and_how_to_go_on() {
        let told = |phase, steps, command: Option<&str>| {
            Stopped { phase, steps, command: command.map(str::to_owned) }.to_string()
        };
        assert_eq!(
            told(Some(Phase::Training), Some((7, 40)), Some("text2llm run --resume")),
            "stopped on request at step 7 of 40; what is done stays. Go on with `text2llm run --resume`"
        );
        assert!(told(Some(Phase::Export), None, None).contains("in the export phase"));
        assert_eq!(told(None, None, None), "stopped on request; what is done stays");
    }

    #[test]
    fn a_mark_keeps_what_training_has_reached_and_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&RealFs, folder.path(), "x").unwrap();
        let stopped = Stopped { phase: Some(Phase::Corpus), steps: None, command: None };
        mark(&run, &stopped);
        let state = run.read_state(&RealFs).unwrap();
        assert!(state.status == RunStatus::Stopped && !state.is_trained(), "{state:?}");
        let done = RunState { status: RunStatus::Completed, step: 9, ..state };
        run.write_state(&RealFs, done).unwrap();
        mark(&run, &stopped);
        mark(&run, &stopped);
        let state = run.read_state(&RealFs).unwrap();
        assert!(state.status == RunStatus::Stopped && state.is_trained() && state.step == 9, "{state:?}");
        unmark(&run).unwrap();
        assert_eq!(run.read_state(&RealFs).unwrap().status, RunStatus::Completed);
    }

    #[test]
    fn a_job_that_is_done_is_not_stopped_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&RealFs, folder.path(), "x").unwrap();
        let _alone = ALONE.lock();
        let working = Working::begin(None);
        working.on(&run);
        assert!(!is_done(work().as_ref()) && place().run_folder().is_some());
        working.done();
        assert!(is_done(work().as_ref()) && place().run_folder().is_none());
        drop(working);
        assert!(!is_done(work().as_ref()));
    }

    #[test]
    fn an_error_of_a_job_that_nobody_stopped_stays_one() {
        let _alone = ALONE.lock();
        let _working = Working::begin(Some("text2llm run --resume".to_owned()));
        let refused = settle::<()>(Err(Error::Environment { message: "x".into() }));
        assert_eq!(refused.unwrap_err().to_string(), "x");
        let stopped = settle::<()>(Err(stopped().into())).unwrap_err();
        assert_eq!(stopped.kind(), crate::ErrorKind::Stopped);
    }
}
