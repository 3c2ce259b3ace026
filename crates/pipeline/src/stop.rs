//! Requested stops, in any phase: reported and recorded as such, and effective soon.
//!
//! Training polls its flag, saves and ends by itself. All other work holds nothing that the next call would
//! not make again, and is too varied to poll a flag everywhere (merges, sorts, a page of a PDF): it gets
//! [`GRACE`] to reach a place that polls; then [`watch`] records the stop and ends the process. Reading
//! order: [`Stopped`], [`Working`], [`watch`].

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use runs::report::Phase;
use runs::run::{RunDir, RunState, RunStatus};
use store::fs::RealFs;
use train::StopFlag;

use crate::stopped::{Stopped, in_words};
use crate::{Error, ErrorKind, Result};

/// Time for stopped work to end by itself.
pub const GRACE: Duration = Duration::from_secs(2);
/// Time between two checks of the flag.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The current work of the process.
#[derive(Debug)]
struct CurrentWork {
    phase: Option<Phase>,
    run: Option<RunDir>,
    command: Option<String>,
    /// Everything is done except reporting.
    done: bool,
}

/// One job per process at a time; whoever ends the process keeps the lock, so that nothing is recorded
/// afterwards.
static WORK: Mutex<Option<CurrentWork>> = Mutex::new(None);

fn work() -> MutexGuard<'static, Option<CurrentWork>> {
    // A panic elsewhere leaves the value intact.
    WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records the start of a phase, and ends the job there if a stop was requested.
pub(crate) fn enter(phase: Phase) -> Result<()> {
    if StopFlag::of_process()?.is_raised() {
        // Attributed to the phase that has just ended: nothing of this one was started.
        return Err(stopped().into());
    }
    if let Some(work) = work().as_mut() {
        work.phase = Some(phase);
    }
    Ok(())
}

/// The current position of the job.
pub(crate) fn stopped() -> Stopped {
    of(work().as_ref())
}

fn of(work: Option<&CurrentWork>) -> Stopped {
    Stopped {
        phase: work.and_then(|work| work.phase),
        steps: None,
        command: work.and_then(|work| work.command.clone()),
    }
}

/// The current position of a process, for reports about its end.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The phase, if a job is running.
    pub phase: Option<Phase>,
    run: Option<RunDir>,
}

/// The current position of this process. Never blocks, since it is used during panics.
pub fn place() -> Progress {
    let work = match WORK.try_lock() {
        Ok(work) => work,
        Err(TryLockError::Poisoned(work)) => work.into_inner(),
        Err(TryLockError::WouldBlock) => return Progress::default(),
    };
    work.as_ref().map_or_else(Progress::default, |work| Progress { phase: work.phase, run: work.run.clone() })
}

impl Progress {
    /// The exit code of a failure there.
    pub fn exit_code(&self) -> u8 {
        self.phase.map_or(ErrorKind::Environment, ErrorKind::of_phase).exit_code()
    }

    /// The run's folder, if there is a run.
    pub fn run_folder(&self) -> Option<&Path> {
        self.run.as_ref().map(RunDir::path)
    }

    /// A phrase to append to a message: " in the corpus phase".
    pub fn in_words(&self) -> String {
        in_words(self.phase)
    }

    /// Marks the run as failed; `failure` is the kind, for programs. A run whose training is done is not
    /// changed.
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
        // The failure is reported in any case.
        let _ = run.write_state(&RealFs, state);
    }
}

/// A job of this process.
#[derive(Debug)]
pub(crate) struct Working;

impl Working {
    /// Starts a job; `command` continues it, if a short command can.
    pub fn begin(command: Option<String>) -> Working {
        *work() = Some(CurrentWork { phase: None, run: None, command, done: false });
        Working
    }

    /// Sets the run to mark as stopped.
    pub fn on(&self, run: &RunDir) {
        if let Some(work) = work().as_mut() {
            work.run = Some(run.clone());
        }
    }

    /// Marks the job as done: a later stop has no effect.
    pub fn done(&self) {
        if let Some(work) = work().as_mut() {
            (work.run, work.done) = (None, true);
        }
    }
}

/// Whether the current job is done.
fn is_done(work: Option<&CurrentWork>) -> bool {
    work.is_some_and(|work| work.done)
}

/// Converts any error after a stop request into a stop: an interrupted transfer, a child ended by the same
/// Ctrl-C. Errors of training are kept, since something can be lost: a checkpoint that could not be saved is
/// not a stop. Called while the run's lock is held.
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

/// Marks a run as stopped. The caller holds its lock, or knows that nobody does.
pub(crate) fn mark(run: &RunDir, stopped: &Stopped) {
    let Ok(state) = run.read_state(&RealFs) else { return };
    if state.status == RunStatus::Stopped {
        return;
    }
    let trained = state.is_trained();
    let message = stopped.to_string();
    let state = RunState { status: RunStatus::Stopped, trained, message, failure: None, eta_s: 0.0, ..state };
    // The stop itself matters; without the mark the run is shown as interrupted.
    let _ = run.write_state(&RealFs, state);
}

/// Removes the mark from a run whose training is done, since its later phases are running again.
pub(crate) fn unmark(run: &RunDir) -> Result<()> {
    let state = run.read_state(&RealFs)?;
    if state.status == RunStatus::Stopped && state.trained {
        let message = "all steps done".to_owned();
        let state = RunState { status: RunStatus::Completed, trained: false, message, ..state };
        run.write_state(&RealFs, state)?;
    }
    Ok(())
}

/// Makes stops effective: from now on this process handles SIGINT and SIGTERM, and a separate thread calls
/// `end`, which must end the process, if the work has not ended by itself. The job is recorded as stopped by
/// then.
///
/// # Errors
/// Signal handlers cannot be installed.
pub fn watch(end: impl FnOnce(&Stopped, u8) + Send + 'static) -> Result<()> {
    let (ready, go) = std::sync::mpsc::channel::<StopFlag>();
    let watch = move || {
        let Ok(flag) = go.recv() else { return };
        while !flag.was_raised() {
            std::thread::sleep(LOOK_EVERY);
        }
        store::ending::end();
        let mut free_since = Instant::now();
        // Held until the process ends.
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
    // If no thread can be started, a signal ends the process at once.
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
            "stopped on request at step 7 of 40; finished work is kept. Resume with `text2llm run --resume`"
        );
        assert!(told(Some(Phase::Export), None, None).contains("in the export phase"));
        assert_eq!(told(None, None, None), "stopped on request; finished work is kept");
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
