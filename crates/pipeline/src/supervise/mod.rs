//! Background jobs: a worker process, and this supervisor, which resumes it after a crash and gives up on
//! crash loops.
//!
//! The supervisor keeps no state of the run: it starts the program again with `--resume`, so a resume
//! restores what the checkpoints contain. Reading order: `crash` (classifies an exit), `policy` (whether to
//! resume), this file, `watchdog` (hangs), `memory` (out of memory), then `record` and `notify`.

mod crash;
mod memory;
mod notify;
mod policy;
mod record;
mod watchdog;

use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use compute::Target;
use runs::report::{Phase, Reporter};
use runs::run::{RunDir, RunState, RunStatus};
use store::fs::{Fs, RealFs, regular};
use store::lock::RunLock;
use store::time::Timestamp;
use store::{plain, secret};
use train::{Checkpoints, StopFlag};

use crate::meta::RunMeta;
use crate::project::Project;
use crate::stopped::Stopped;
use crate::{Error, Result, ours};
use recipe::NotifyOptions;

pub use crash::{CrashKind, End};
pub use policy::{Policy, Progress, RESUMES_WITHOUT_PROGRESS};
pub use record::{JobRecord, JobStatus, ResumeMetadata, living_supervisor};

use crash::{Witness, classify};
use memory::Kills;
use policy::Decision;
use record::CrashRecord;
use watchdog::{Sighting, Watchdog};

/// Time between two checks whether the worker is running.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time between two checks of its progress.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Time for a hung worker to stop by itself.
const HANG_GRACE: Duration = Duration::from_secs(30);
/// Bytes of the worker's output read after its exit.
const TAIL_BYTES: u64 = 8 << 10;

/// A background job.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The project.
    pub project: &'a Project,
    /// The program.
    pub program: PathBuf,
    /// Arguments of the first worker.
    pub first: Vec<String>,
    /// Arguments of a resumed worker.
    pub again: Vec<String>,
    /// Id of the run, if it exists already.
    pub run_id: Option<String>,
    /// Pause before the first resume.
    pub pause: Duration,
    /// Minimum time without activity before a worker counts as hung.
    pub hang_after: Duration,
    /// Device and threads.
    pub target: Target,
    /// Notification options, set by whoever starts the job: a project from someone else must not run commands
    /// by itself.
    pub notify: NotifyOptions,
}

/// The output file of worker and supervisor, `job/console.log`.
pub fn console_path(project: &Project) -> PathBuf {
    project.job().join("console.log")
}

/// Supervises until the job is done, stopped, or given up; returns the exit code. Raising `stop` lets the
/// worker save first.
///
/// # Errors
/// Another supervisor works on the project, or the program cannot be started.
pub fn supervise(job: &Job<'_>, stop: &StopFlag, reporter: &mut dyn Reporter) -> Result<u8> {
    let folder = job.project.job();
    RealFs.create_private_dir_all(&folder).map_err(store::Error::io("create the folder", &folder))?;
    let _lock = RunLock::acquire(&folder)?;
    // A worker without a supervisor keeps its record.
    let data = job.project.data();
    if RunLock::is_held(&data) {
        return Err(store::Error::Locked { path: data.clone(), pid: RunLock::holder(&data) }.into());
    }
    check_folder(job.project)?;
    runs::stop::clear(&folder);
    let mut supervisor = Supervisor {
        job,
        record: JobRecord {
            pid: std::process::id(),
            run_id: job.run_id.clone(),
            started_at: Timestamp::now().rfc3339(),
            ..JobRecord::default()
        },
        began: None,
        recomputing: false,
        reporter,
    };
    supervisor.work(stop)
}

/// Checks that `job/` has no file of the user with the name of one of the job's files.
///
/// # Errors
/// Names the file.
pub fn check_folder(project: &Project) -> Result<()> {
    ours::check_request(&project.job())?;
    ours::check_json(&JobRecord::path(project), &JobRecord::KEYS)
}

/// Notification options in a run's record, which may come from someone else.
///
/// # Errors
/// An unreadable record.
pub fn recorded_notify(run: &RunDir) -> Result<NotifyOptions> {
    let mut notify = RunMeta::read(&RealFs, run)?.recipe.notify;
    // Only in the form allowed in recipes: a run may come from someone else, whose URL is not the user's
    // choice.
    notify.webhook = notify.webhook.filter(|webhook| webhook.starts_with("env:"));
    Ok(notify)
}

/// Asks the process that works on a run to stop after saving: its supervisor if it has one, since that would
/// take a worker's exit for a crash, or else the worker. `None` if no process works on it.
///
/// # Errors
/// I/O errors.
pub fn ask_to_stop(project: &Project, run: &RunDir) -> Result<Option<Asked>> {
    let asked = match responsible(project, run) {
        Some(asked) => asked,
        None => return Ok(None),
    };
    let folder = match asked {
        Asked::Supervisor(_) => project.job(),
        Asked::Worker(_) => project.data(),
    };
    ours::check_request(&folder)?;
    runs::stop::request(&folder)?;
    Ok(Some(asked))
}

/// The process that works on a run, with its id if known. The id is for display: it may be of another
/// container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A supervisor.
    Supervisor(Option<u32>),
    /// A worker without a supervisor.
    Worker(Option<u32>),
}

impl Asked {
    /// Its process id.
    pub fn process(self) -> Option<u32> {
        let (Asked::Supervisor(process) | Asked::Worker(process)) = self;
        process
    }
}

/// The process that works on a run now.
pub fn responsible(project: &Project, run: &RunDir) -> Option<Asked> {
    let supervised =
        JobRecord::read(project).is_some_and(|record| record.run_id.as_deref() == Some(run.id().as_str()));
    if supervised && RunLock::is_held(&project.job()) {
        return Some(Asked::Supervisor(RunLock::holder(&project.job())));
    }
    RunLock::is_held(run.path()).then(|| Asked::Worker(RunLock::holder(run.path())))
}

struct Supervisor<'a, 'r> {
    job: &'a Job<'a>,
    record: JobRecord,
    /// The run's record before the first worker, for [`Supervisor::has_begun`].
    began: Option<serde_json::Value>,
    /// Whether recomputation was enabled after running out of memory.
    recomputing: bool,
    reporter: &'r mut dyn Reporter,
}

/// The supervisor's part in a worker's life.
#[derive(Default)]
struct Watched {
    asked_to_stop: bool,
    hung: Option<String>,
}

impl Supervisor<'_, '_> {
    fn work(&mut self, stop: &StopFlag) -> Result<u8> {
        self.began = self.run().and_then(|run| run.read_meta(&RealFs).ok());
        let mut policy = Policy::new(self.job.pause, self.progress());
        loop {
            let console_bytes =
                std::fs::metadata(console_path(self.job.project)).map_or(0, |meta| meta.len());
            let mut kills = Kills::watch();
            let mut worker = match self.start() {
                Ok(worker) => worker,
                // The program may have been replaced or removed, which must be reported.
                Err(error) => return Ok(self.end(JobStatus::Failed, 1, error.to_string())),
            };
            let watched = self.wait(&mut worker, &mut kills, stop)?;
            let status = worker.wait().map_err(|error| cannot("wait for the worker", &error))?;
            self.find_run_of(worker.id());
            // A worker that failed before writing its state has left the previous one's.
            let state = self.run().and_then(|run| run.read_state(&RealFs).ok());
            let state = state.filter(|state| state.pid == worker.id());
            let end = classify(&Witness {
                status,
                state: state.as_ref(),
                console_tail: &self.console_since(console_bytes),
                killed_for_memory: kills.came_just_now(),
                hung: watched.hung.as_deref(),
                asked_to_stop: watched.asked_to_stop,
            });
            let (kind, message) = match end {
                End::Completed => return Ok(self.end(JobStatus::Completed, 0, "the job is done".to_owned())),
                End::Stopped => {
                    let by_worker = status.code().and_then(|code| u8::try_from(code).ok());
                    let code = by_worker.filter(|&code| code == train::EXIT_AFTER_SIGINT);
                    return Ok(self.stopped(code.unwrap_or_else(|| stop.exit_code())));
                }
                End::Hopeless(code, why) => return Ok(self.end(JobStatus::Failed, code, why)),
                End::Crashed(kind, message) => (kind, message),
            };
            if kind == CrashKind::OutOfMemory {
                self.take_less_memory();
            }
            let resumed = self.record.resumes > 0;
            let decision = policy.crashed(self.progress(), resumed);
            self.remember_crash(kind, &message, &policy);
            let Decision::Resume(pause) = decision else {
                return Ok(self.give_up(kind, &message));
            };
            self.say(&format!(
                "the worker crashed ({kind}): {message}. Resuming from the checkpoint of step {} in {:.0} s",
                self.progress().checkpoint_step,
                pause.as_secs_f64()
            ));
            self.set(JobStatus::Pausing, &message);
            let wake = Instant::now() + pause;
            while Instant::now() < wake {
                if self.is_asked_to_stop(stop) {
                    return Ok(self.stopped(stop.exit_code()));
                }
                std::thread::sleep(LOOK_EVERY.min(wake.saturating_duration_since(Instant::now())));
            }
            self.remember_resume();
        }
    }

    fn start(&mut self) -> Result<Child> {
        let arguments = if self.has_begun() { &self.job.again } else { &self.job.first };
        let mut command = Command::new(&self.job.program);
        if self.recomputing {
            // A recipe named on the command line would disable it again.
            command.env("TEXT2LLM_TRAIN_RECOMPUTE", "true");
        }
        let child = command
            .args(arguments)
            // The console is read by people and by `logs`.
            .env_remove("TEXT2LLM_JSON")
            .env_remove("TEXT2LLM_OUTPUT")
            .stdin(Stdio::null())
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| cannot("start the worker", &error))?;
        self.record.worker_pid = Some(child.id());
        self.set(JobStatus::Running, "");
        Ok(child)
    }

    /// Whether there is something to resume: a new run was created, or an existing one was extended
    /// (extending twice would add up).
    fn has_begun(&self) -> bool {
        let Some(run) = self.run() else { return false };
        match (&self.job.run_id, &self.began) {
            (None, _) => true,
            (Some(_), Some(began)) => {
                let working = run
                    .read_state(&RealFs)
                    .is_ok_and(|state| state.pid != 0 && Some(state.pid) == self.record.worker_pid);
                working || run.read_meta(&RealFs).is_ok_and(|now| now != *began)
            }
            (Some(_), None) => false,
        }
    }

    /// Waits until the worker has exited, by itself, on request, or because it hung.
    fn wait(&mut self, worker: &mut Child, kills: &mut Kills, stop: &StopFlag) -> Result<Watched> {
        let began = Instant::now();
        let mut watched = Watched::default();
        let mut watchdog = Watchdog::new(self.job.hang_after, Duration::ZERO);
        let mut watch_at = began + WATCH_EVERY;
        let mut kill_at = None;
        while worker.try_wait().map_err(|error| cannot("wait for the worker", &error))?.is_none() {
            if self.record.run_id.is_none()
                && let Some(run) = runs::run::held_by(&RealFs, &self.job.project.runs(), worker.id())
            {
                self.record.run_id = Some(run.id());
                self.set(JobStatus::Running, "");
            }
            if !watched.asked_to_stop && self.is_asked_to_stop(stop) {
                watched.asked_to_stop = true;
                self.say("stop requested: the worker saves a checkpoint and exits");
                self.ask(worker);
            }
            if Instant::now() >= watch_at {
                watch_at = Instant::now() + WATCH_EVERY;
                kills.look();
                let seen = self.sighting(worker, began);
                if watched.hung.is_none()
                    && let Some(why) = watchdog.look(seen)
                {
                    self.say(&format!("the worker hangs: {why}. Asking it to stop, then killing it"));
                    self.ask(worker);
                    kill_at = Some(Instant::now() + HANG_GRACE.min(self.job.hang_after));
                    watched.hung = Some(why);
                }
            }
            if kill_at.is_some_and(|at| Instant::now() >= at) {
                kill_at = None;
                worker.kill().map_err(|error| cannot("kill the worker", &error))?;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(watched)
    }

    fn is_asked_to_stop(&self, stop: &StopFlag) -> bool {
        stop.is_raised() || runs::stop::is_requested(&self.job.project.job())
    }

    /// Asks the worker to save and exit.
    fn ask(&self, worker: &mut Child) {
        if store::process::terminate(worker).is_err()
            && runs::stop::request(&self.job.project.data()).is_err()
        {
            // There is no graceful way here; the last checkpoint is kept.
            let _ = worker.kill();
        }
    }

    /// Observes the worker.
    fn sighting(&self, worker: &Child, began: Instant) -> Sighting {
        let run = self.run();
        let usage = store::process::usage(worker);
        let mut files =
            vec![console_path(self.job.project), self.job.project.data().join(train::HEARTBEAT_FILE)];
        if let Some(run) = &run {
            files.extend([run.path().join("state.json"), run.metrics(), run.log()]);
        }
        let mut signs = DefaultHasher::new();
        usage.map(|usage| usage.io_bytes).hash(&mut signs);
        for file in files {
            let known = std::fs::metadata(file).ok().map(|meta| (meta.len(), meta.modified().ok()));
            known.hash(&mut signs);
        }
        let state = run.and_then(|run| run.read_state(&RealFs).ok()).filter(|state| {
            state.pid == worker.id() && state.status == RunStatus::Running && state.tokens_per_s > 0.0
        });
        Sighting {
            at: began.elapsed(),
            signs: signs.finish(),
            cpu_s: usage.map(|usage| usage.cpu_s),
            step_s: state
                .map(|state| state.eta_s / state.total_steps.saturating_sub(state.step).max(1) as f64),
        }
    }

    /// Once: saves memory with bit-identical results, if possible.
    fn take_less_memory(&mut self) {
        let chosen =
            |arguments: &[String]| arguments.iter().any(|argument| argument.contains("train.recompute"));
        if self.recomputing || chosen(&self.job.first) {
            return;
        }
        let Some(run) = self.run() else { return };
        let untouched = !self.has_begun();
        if let Some(told) = memory::recompute_from_now_on(self.job.project, &run, self.job.target) {
            self.recomputing = true;
            if untouched {
                // The extension of an existing run is still to be requested.
                self.began = run.read_meta(&RealFs).ok();
            }
            self.say(&told);
        }
    }

    /// A worker that exited before the next check has left its process id in the run it created.
    fn find_run_of(&mut self, worker: u32) {
        if self.record.run_id.is_some() {
            return;
        }
        let runs = runs::run::list(&RealFs, &self.job.project.runs()).unwrap_or_default();
        // Process ids are reused, in containers soon: one recorded before this job started was another
        // process's.
        let worked = |run: &&runs::run::RunSummary| {
            let mine = |state: &RunState| state.pid == worker && state.updated_at >= self.record.started_at;
            run.state.as_ref().is_some_and(mine)
        };
        self.record.run_id = runs.iter().rev().find(worked).map(|run| run.run_id.clone());
    }

    fn run(&self) -> Option<RunDir> {
        let id = self.record.run_id.as_ref()?;
        RunDir::open(&RealFs, &self.job.project.runs().join(id)).ok()
    }

    fn progress(&self) -> Progress {
        let Some(run) = self.run() else { return Progress::default() };
        let trains = RunMeta::read(&RealFs, &run).is_ok_and(|meta| meta.model.is_some());
        let steps = Checkpoints::new(&RealFs, &run.checkpoints()).steps().unwrap_or_default();
        Progress { parts: 1 + u8::from(trains), checkpoint_step: steps.last().copied().unwrap_or(0) }
    }

    fn remember_crash(&mut self, kind: CrashKind, message: &str, policy: &Policy) {
        let Some(run) = self.run() else { return };
        let mut metadata = ResumeMetadata::read(&run);
        metadata.resumes_without_progress = policy.without_progress();
        metadata.last_crash =
            Some(CrashRecord { kind, message: message.to_owned(), time: Timestamp::now().rfc3339() });
        metadata.write(&run);
    }

    fn remember_resume(&mut self) {
        self.record.resumes += 1;
        let step = self.progress().checkpoint_step;
        if let Some(run) = self.run() {
            let mut metadata = ResumeMetadata::read(&run);
            metadata.last_step = step;
            metadata.resume_count += 1;
            metadata.last_resume_time = Some(Timestamp::now().rfc3339());
            metadata.diagnosis = None;
            metadata.write(&run);
        }
        self.tell("resumed", &format!("was resumed from the checkpoint of step {step} after a crash"));
    }

    fn give_up(&mut self, kind: CrashKind, message: &str) -> u8 {
        let step = self.progress().checkpoint_step;
        let remedy = self
            .run()
            .filter(|_| kind == CrashKind::OutOfMemory)
            .and_then(|run| memory::remedy(self.job.project, &run, self.job.target))
            .unwrap_or_else(|| kind.remedy().to_owned());
        let diagnosis = format!(
            "crash loop: {RESUMES_WITHOUT_PROGRESS} resumes in a row saved no checkpoint after step {step}. \
             Last crash ({kind}): {message}. To fix it: {remedy}. Then continue with `{}`",
            self.job.project.command(&match &self.record.run_id {
                Some(id) => format!("resume {id} --detach"),
                None => "run --detach".to_owned(),
            })
        );
        if let Some(run) = self.run() {
            let mut metadata = ResumeMetadata::read(&run);
            metadata.diagnosis = Some(diagnosis.clone());
            metadata.write(&run);
            if let Ok(state) = run.read_state(&RealFs) {
                let state = RunState {
                    status: runs::run::RunStatus::Failed,
                    message: diagnosis.clone(),
                    failure: Some("crash_loop".to_owned()),
                    ..state
                };
                // The job's record has the same message.
                let _ = run.write_state(&RealFs, state);
            }
        }
        self.end(JobStatus::GivenUp, 2, diagnosis)
    }

    /// Reports a stop, and marks the run if its worker could not: one that exited before it handled signals,
    /// or between two workers.
    fn stopped(&mut self, exit_code: u8) -> u8 {
        let Some(run) = self.run() else {
            return self.end(JobStatus::Stopped, exit_code, "stopped on request".to_owned());
        };
        let state = run.read_state(&RealFs).unwrap_or_default();
        let is_done =
            RunMeta::read(&RealFs, &run).is_ok_and(|meta| meta.finished.is_some_and(|to| to >= meta.until));
        let has_ended =
            matches!(state.status, RunStatus::Stopped | RunStatus::Failed) || (is_done && state.is_trained());
        if !has_ended && !RunLock::is_held(run.path()) {
            let steps = (state.step > 0).then_some((state.step, state.total_steps));
            let command = Some(self.job.project.command(&crate::meta::go_on(&run)));
            crate::stop::mark(&run, &Stopped { phase: None, steps, command });
        }
        let message = match run.read_state(&RealFs) {
            Ok(state) if state.status == RunStatus::Stopped => state.message,
            _ => format!("stopped on request at step {}", state.step),
        };
        self.end(JobStatus::Stopped, exit_code, message)
    }

    fn end(&mut self, status: JobStatus, exit_code: u8, message: String) -> u8 {
        self.record.worker_pid = None;
        self.record.exit_code = Some(exit_code);
        match status {
            // The worker has just reported the reason.
            JobStatus::Failed => self.say("not resuming the worker: it would fail the same way again"),
            _ => self.say(&message),
        }
        self.set(status, &message);
        match status {
            JobStatus::Completed => self.tell("completed", "is complete"),
            JobStatus::Stopped => self.tell("stopped", &message),
            _ => self.tell("failed", &format!("has failed: {message}")),
        }
        exit_code
    }

    fn set(&mut self, status: JobStatus, message: &str) {
        self.record.status = status;
        self.record.message = secret::hidden(message).into_owned();
        self.record.write(self.job.project);
    }

    /// Writes to the console and to the run's log, where users look first.
    fn say(&mut self, message: &str) {
        self.reporter.note(Phase::Training, &format!("supervisor: {message}"));
        if let Some(run) = self.run()
            && let Ok(mut log) = regular::open(OpenOptions::new().append(true), &run.log())
        {
            let message = secret::hidden(message);
            let _ = writeln!(log, "{} supervisor: {}", Timestamp::now().rfc3339(), plain::line(&message));
        }
    }

    fn tell(&mut self, event: &'static str, what: &str) {
        let state = self.run().and_then(|run| run.read_state(&RealFs).ok()).unwrap_or_default();
        let text = match &self.record.run_id {
            Some(id) => format!("text2llm: run {id} {what} (step {} of {})", state.step, state.total_steps),
            // It exited before there was a run: no text, a wrong key.
            None => format!("text2llm: the job in {} {what}", self.job.project.root().display()),
        };
        let message = notify::Message {
            event,
            text,
            run_id: self.record.run_id.clone().unwrap_or_default(),
            step: state.step,
            total_steps: state.total_steps,
            time: Timestamp::now().rfc3339(),
        };
        for failed in notify::tell(&self.job.notify, &message) {
            self.reporter.warning(Phase::Training, &failed);
        }
    }

    fn console_since(&self, from: u64) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = regular::read(&console_path(self.job.project))?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL_BYTES)).min(end)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }
}

fn cannot(what: &str, error: &std::io::Error) -> Error {
    Error::Environment { message: format!("cannot {what}: {error}") }
}
