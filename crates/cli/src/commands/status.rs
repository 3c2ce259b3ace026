//! `text2llm status`: the state of a run, from its small `state.json`; no large file is read.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use pipeline::project::Project;
use pipeline::stages::{self, Missing};
use pipeline::supervise::{self, JobRecord, JobStatus, ResumeMetadata};
use runs::run::{RunDir, RunState, RunStatus};
use serde_json::{Value, json};
use store::fs::RealFs;
use store::lock::RunLock;

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::{Console, short_duration};
use crate::select;

const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Show the state of a run
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run id, a unique prefix or suffix of it, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// Refresh every second until the run ends
    #[arg(long, short = 'w')]
    pub watch: bool,
}

/// Prints the state.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    if arguments.run == "latest" && runs::run::latest(&RealFs, &project.runs())?.is_none() {
        if console.is_human() {
            console
                .prose(&format!("No runs in {}. Start one with `text2llm run`.", project.runs().display()));
            return Ok(());
        }
        return console.result("status", &json!({ "run_id": null }));
    }
    let run = RunDir::find(&RealFs, &project.runs(), &arguments.run)?;
    if let Some(damage) = pipeline::record::state_damage(&run) {
        console.warning(&damage);
    }
    loop {
        let standing = Standing::of(&project, &run)?;
        let clear = arguments.watch && console.is_human() && std::io::stdout().is_terminal();
        if clear {
            console.stream("\u{1b}[H\u{1b}[2J")?;
        }
        standing.print(&project, console)?;
        if !arguments.watch || !standing.at_work() {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

/// A run's state and the processes that work on it.
pub struct Standing {
    run: RunDir,
    state: RunState,
    worker: Option<u32>,
    supervisor: Option<u32>,
    resumes: ResumeMetadata,
    /// The background job that last worked on the run.
    job: Option<JobRecord>,
    /// Stages after training that have not run.
    missing: Missing,
}

impl Standing {
    /// Reads the current state from disk.
    pub fn of(project: &Project, run: &RunDir) -> Outcome<Standing> {
        let job = JobRecord::read(project).filter(|job| job.run_id.as_deref() == Some(run.id().as_str()));
        let state = pipeline::record::state(run)?;
        Ok(Standing {
            missing: stages::missing(project, run, &state),
            state,
            worker: RunLock::holder(run.path()),
            supervisor: supervise::living_supervisor(project).filter(|_| job.is_some()),
            resumes: ResumeMetadata::read(run),
            job,
            run: run.clone(),
        })
    }

    fn at_work(&self) -> bool {
        self.worker.is_some() || self.supervisor.is_some()
    }

    /// The JSON object of `status --json`.
    pub fn json(&self) -> Outcome<Value> {
        let Standing { run, state, worker, supervisor, resumes, job, missing } = self;
        let mut value = serde_json::to_value(state)?;
        value["missing"] = json!(missing.stages);
        value["run_id"] = json!(run.id());
        value["path"] = json!(run.path());
        value["alive"] = json!(worker.is_some());
        // A worker that has just resumed locks the run before it writes its process id.
        value["pid"] = json!(worker.unwrap_or(state.pid));
        value["supervisor_pid"] = json!(supervisor);
        value["resume_count"] = json!(resumes.resume_count);
        value["diagnosis"] = json!(resumes.diagnosis);
        value["job"] = job.as_ref().map_or(
            json!(null),
            |job| json!({ "status": job.status, "message": job.message, "exit_code": job.exit_code }),
        );
        Ok(value)
    }

    fn print(&self, project: &Project, console: &mut Console) -> Outcome {
        let Standing { run, state, worker, supervisor, resumes, job, missing } = self;
        if !console.is_human() {
            return console.result("status", &self.json()?);
        }
        console.data(&format!("run         {}", run.id()))?;
        let status = match (worker, state.status) {
            // The state describes training; the job continues with validation and export.
            (Some(_), RunStatus::Completed) => "trained; validating and exporting".to_owned(),
            (Some(_), RunStatus::Queued) => "preparing corpus and tokenizer".to_owned(),
            (Some(_), RunStatus::Stopped | RunStatus::Interrupted) if !state.is_trained() => {
                "preparing corpus and tokenizer".to_owned()
            }
            (None, RunStatus::Completed) => match missing.in_words(project) {
                Some(missing) => format!("trained; {missing}"),
                None => state.status.to_string(),
            },
            (None, RunStatus::Stopped) => match missing.in_words(project) {
                Some(missing) => format!("stopped; trained, {missing}"),
                None => state.status.to_string(),
            },
            (_, _) => state.status_in_words(),
        };
        console.data(&format!("status      {status}"))?;
        if let Some(why) = &state.paused {
            console.data(&format!("            {why}"))?;
        }
        if !state.message.is_empty() {
            console.data(&format!("            {}", state.message))?;
        }
        let share = 100.0 * state.step as f64 / state.total_steps.max(1) as f64;
        console.data(&format!(
            "step        {} of {} ({share:.0} %), epoch {:.2}",
            state.step, state.total_steps, state.epoch
        ))?;
        if let Some(loss) = state.train_loss {
            let rate =
                state.learning_rate.map(|rate| format!(", learning rate {rate:.2e}")).unwrap_or_default();
            console.data(&format!("loss        {loss:.4} nats per token{rate}"))?;
        }
        if let Some(loss) = state.validation_loss {
            let best =
                state.best_validation_loss.map(|best| format!(" (best {best:.4})")).unwrap_or_default();
            console.data(&format!("validation  {loss:.4}{best}"))?;
        }
        if state.status == RunStatus::Running && state.eta_s > 0.0 {
            console.data(&format!(
                "speed       {:.0} tokens/s on the {}, {} left",
                state.tokens_per_s,
                state.device,
                short_duration(state.eta_s)
            ))?;
        }
        if let Some(step) = state.checkpoint_step {
            console.data(&format!("checkpoint  step {step}"))?;
        }
        let process = match worker {
            Some(pid) => format!("{pid}, running"),
            None if state.pid != 0 => format!("{}, not running", state.pid),
            None => "none".to_owned(),
        };
        let watched = supervisor.map(|pid| format!("; supervisor {pid}, running")).unwrap_or_default();
        console.data(&format!("process     {process}{watched}"))?;
        if resumes.resume_count > 0 {
            let crash = resumes
                .last_crash
                .as_ref()
                .map(|crash| format!(", last crash: {}", crash.kind))
                .unwrap_or_default();
            console.data(&format!(
                "resumes     {}, last at {} from step {}{crash}",
                resumes.resume_count,
                resumes.last_resume_time.as_deref().unwrap_or("?"),
                resumes.last_step
            ))?;
        }
        let unwell = |job: &&JobRecord| {
            matches!(job.status, JobStatus::Pausing | JobStatus::Failed | JobStatus::GivenUp)
        };
        let unwell = job.as_ref().filter(unwell);
        if let Some(job) = unwell {
            let code = job.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
            console.data(&format!("job         {}{code}: {}", job.status, job.message))?;
        }
        console.data(&format!("updated     {}", state.updated_at))?;
        let next = match state.status {
            _ if self.at_work() => return Ok(()),
            _ if !missing.stages.is_empty() => missing.arguments.clone(),
            RunStatus::Completed if unwell.is_none() => "generate --prompt \"The \"".to_owned(),
            RunStatus::Running => return Ok(()),
            _ => stages::go_on(run),
        };
        console.prose(&format!("Next: {}", project.command(&next)));
        Ok(())
    }
}
