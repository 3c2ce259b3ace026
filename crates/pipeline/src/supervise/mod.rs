//! A job in the background: a worker process, and this supervisor that resumes it after a crash and knows when to stop.
//!
//! The supervisor trains nothing and holds no state of the run; all it does is start the program again with `--resume`, so
//! what it brings back is what the checkpoints hold. Reading order: `crash` (what an end means), `policy` (whether to resume),
//! this file, then `record` and `notify`.

mod crash;
mod notify;
mod policy;
mod record;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use store::fs::{Fs, RealFs};
use store::lock::RunLock;
use store::report::{Phase, Reporter};
use store::run::{RunDir, RunState};
use store::time::Timestamp;
use train::{Checkpoints, StopFlag};

use crate::meta::RunMeta;
use crate::project::Project;
use crate::{Error, Result};

pub use crash::{CrashKind, End};
pub use policy::{Policy, Progress, RESUMES_WITHOUT_PROGRESS};
pub use record::{JobRecord, JobStatus, ResumeMetadata, living_supervisor};

use crash::{Witness, classify};
use policy::Decision;
use record::CrashRecord;

/// Between two looks at the worker.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What of the worker's words is read after its end.
const TAIL_BYTES: u64 = 8 << 10;

/// What to do in the background.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Where.
    pub project: &'a Project,
    /// The program.
    pub program: PathBuf,
    /// Its arguments the first time.
    pub first: Vec<String>,
    /// Its arguments after a crash, once there is something to resume.
    pub again: Vec<String>,
    /// The run, where it is an existing one.
    pub run_id: Option<String>,
    /// Before the first resume.
    pub pause: Duration,
}

/// The file that worker and supervisor write to, `job/console.log`.
pub fn console_path(project: &Project) -> PathBuf {
    project.job().join("console.log")
}

/// Works until the job is done, stopped, or given up; returns the exit code. Whoever raises `stop` lets the worker save first.
///
/// # Errors
/// Another supervisor is at work on the project, or the program cannot be started.
pub fn supervise(job: &Job<'_>, stop: &StopFlag, reporter: &mut dyn Reporter) -> Result<u8> {
    let folder = job.project.job();
    RealFs.create_dir_all(&folder).map_err(store::Error::io("create the folder", &folder))?;
    let _lock = RunLock::acquire(&folder)?;
    let mut supervisor = Supervisor {
        job,
        record: JobRecord {
            pid: std::process::id(),
            run_id: job.run_id.clone(),
            started_at: Timestamp::now().rfc3339(),
            ..JobRecord::default()
        },
        began: None,
        reporter,
    };
    supervisor.work(stop)
}

struct Supervisor<'a, 'r> {
    job: &'a Job<'a>,
    record: JobRecord,
    /// The run's record as it was before the first worker, for [`Supervisor::has_begun`].
    began: Option<serde_json::Value>,
    reporter: &'r mut dyn Reporter,
}

impl Supervisor<'_, '_> {
    fn work(&mut self, stop: &StopFlag) -> Result<u8> {
        self.began = self.run().and_then(|run| run.read_meta(&RealFs).ok());
        let mut policy = Policy::new(self.job.pause, self.progress());
        loop {
            let console_bytes =
                std::fs::metadata(console_path(self.job.project)).map_or(0, |meta| meta.len());
            let kills_before = out_of_memory_kills();
            let mut worker = match self.start() {
                Ok(worker) => worker,
                // The program was replaced or removed: that must not go unheard.
                Err(error) => return Ok(self.end(JobStatus::Failed, 1, error.to_string())),
            };
            let asked_to_stop = self.wait(&mut worker, stop)?;
            let status = worker.wait().map_err(|error| cannot("wait for the worker", &error))?;
            self.find_run_of(worker.id());
            // A worker that failed before it wrote its state has left that of another.
            let state = self.run().and_then(|run| run.read_state(&RealFs).ok());
            let state = state.filter(|state| state.pid == worker.id());
            let end = classify(&Witness {
                status,
                state: state.as_ref(),
                console_tail: &self.console_since(console_bytes),
                out_of_memory_kills: out_of_memory_kills().saturating_sub(kills_before),
                asked_to_stop,
            });
            let (kind, message) = match end {
                End::Completed => return Ok(self.end(JobStatus::Completed, 0, "the job is done".to_owned())),
                End::Stopped => {
                    let step = state.map_or(0, |state| state.step);
                    return Ok(self.end(JobStatus::Stopped, 4, format!("stopped on request at step {step}")));
                }
                End::Hopeless(code, why) => return Ok(self.end(JobStatus::Failed, code, why)),
                End::Crashed(kind, message) => (kind, message),
            };
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
                if stop.is_raised() {
                    return Ok(self.end(
                        JobStatus::Stopped,
                        4,
                        "stopped on request between two workers".to_owned(),
                    ));
                }
                std::thread::sleep(LOOK_EVERY.min(wake.saturating_duration_since(Instant::now())));
            }
            self.remember_resume();
        }
    }

    fn start(&mut self) -> Result<Child> {
        let arguments = if self.has_begun() { &self.job.again } else { &self.job.first };
        let child = Command::new(&self.job.program)
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

    /// Whether there is something to resume: a new run is begun, or an existing one was changed by what was asked of it
    /// (asking for more steps twice would add up).
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

    /// Until the worker has ended; whether it was asked to stop.
    fn wait(&mut self, worker: &mut Child, stop: &StopFlag) -> Result<bool> {
        let mut asked = false;
        while worker.try_wait().map_err(|error| cannot("wait for the worker", &error))?.is_none() {
            if self.record.run_id.is_none()
                && let Some(run) = store::run::held_by(&RealFs, &self.job.project.runs(), worker.id())
            {
                self.record.run_id = Some(run.id());
                self.set(JobStatus::Running, "");
            }
            if stop.is_raised() && !asked {
                asked = true;
                self.say("asked to stop: the worker saves a checkpoint and ends");
                if store::process::terminate(worker.id()).is_err() {
                    // No gentle way on this system; the last checkpoint is what stays.
                    let _ = worker.kill();
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(asked)
    }

    /// A worker that ended sooner than it was looked at has left its number in the run it began.
    fn find_run_of(&mut self, worker: u32) {
        if self.record.run_id.is_some() {
            return;
        }
        let runs = store::run::list(&RealFs, &self.job.project.runs()).unwrap_or_default();
        // Numbers come again, in containers soon: what was written before this job began was another's.
        let worked = |run: &&store::run::RunSummary| {
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
        let diagnosis = format!(
            "crash loop: {RESUMES_WITHOUT_PROGRESS} resumes in a row brought no checkpoint beyond step {step}. The last crash: {kind}: \
             {message}. What to do: {}. Then go on with `{}`",
            kind.remedy(),
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
                    status: store::run::RunStatus::Failed,
                    message: diagnosis.clone(),
                    failure: Some("crash_loop".to_owned()),
                    ..state
                };
                // The record of the job tells the same.
                let _ = run.write_state(&RealFs, state);
            }
        }
        self.end(JobStatus::GivenUp, 2, diagnosis)
    }

    fn end(&mut self, status: JobStatus, exit_code: u8, message: String) -> u8 {
        self.record.worker_pid = None;
        self.record.exit_code = Some(exit_code);
        match status {
            // The worker has just told why.
            JobStatus::Failed => self.say("the worker is not resumed: it would end the same way"),
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
        message.clone_into(&mut self.record.message);
        self.record.write(self.job.project);
    }

    /// To the console, and to the run's log, where whoever comes back looks first.
    fn say(&mut self, message: &str) {
        self.reporter.note(Phase::Training, &format!("supervisor: {message}"));
        if let Some(run) = self.run()
            && let Ok(mut log) = OpenOptions::new().append(true).open(run.log())
        {
            let _ = writeln!(log, "{} supervisor: {message}", Timestamp::now().rfc3339());
        }
    }

    fn tell(&mut self, event: &'static str, what: &str) {
        let Some(run) = self.run() else { return };
        let Ok(meta) = RunMeta::read(&RealFs, &run) else { return };
        let state = run.read_state(&RealFs).unwrap_or_default();
        let message = notify::Message {
            event,
            text: format!("text2llm: run {} {what} (step {} of {})", run.id(), state.step, state.total_steps),
            run_id: run.id(),
            step: state.step,
            total_steps: state.total_steps,
            time: Timestamp::now().rfc3339(),
        };
        for failed in notify::tell(&meta.recipe.notify, &message) {
            self.reporter.warning(Phase::Training, &failed);
        }
    }

    fn console_since(&self, from: u64) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(console_path(self.job.project))?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL_BYTES)).min(end)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }
}

/// Processes of this control group and those above it that the system killed for want of memory; 0 where it cannot be told.
fn out_of_memory_kills() -> u64 {
    let Ok(groups) = std::fs::read_to_string("/proc/self/cgroup") else { return 0 };
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::")) else { return 0 };
    let path = PathBuf::from("/sys/fs/cgroup").join(group.trim_start_matches('/')).join("memory.events");
    let Ok(events) = std::fs::read_to_string(path) else { return 0 };
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

fn cannot(what: &str, error: &std::io::Error) -> Error {
    Error::Environment { message: format!("cannot {what}: {error}") }
}
