//! What the supervisor leaves on the disk: `job/job.json` of the project, and `resume_metadata.json` of the
//! run.

use std::path::PathBuf;

use runs::run::RunDir;
use serde::{Deserialize, Serialize};
use store::fs::{Fs, RealFs};
use store::lock::RunLock;

use super::crash::CrashKind;
use crate::project::Project;

/// How a job in the background stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// A worker works.
    #[default]
    Running,
    /// Waiting before the next resume.
    Pausing,
    /// All is done.
    Completed,
    /// Somebody asked it to stop.
    Stopped,
    /// It ended with an error that would come again.
    Failed,
    /// Resuming led nowhere.
    GivenUp,
}

impl std::fmt::Display for JobStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            JobStatus::Running => "running",
            JobStatus::Pausing => "pausing before a resume",
            JobStatus::Completed => "completed",
            JobStatus::Stopped => "stopped",
            JobStatus::Failed => "failed",
            JobStatus::GivenUp => "given up",
        })
    }
}

/// `job/job.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobRecord {
    /// Where it stands.
    pub status: JobStatus,
    /// The supervisor.
    pub pid: u32,
    /// The process that does the work.
    pub worker_pid: Option<u32>,
    /// The run, once it is begun.
    pub run_id: Option<String>,
    /// When it was started (UTC, RFC 3339).
    pub started_at: String,
    /// Times that the worker was resumed.
    pub resumes: u64,
    /// What happened last.
    pub message: String,
    /// The exit code, once it ended.
    pub exit_code: Option<u8>,
}

impl JobRecord {
    /// Keys by which the file is told from others.
    pub(super) const KEYS: [&str; 6] = ["status", "pid", "worker_pid", "started_at", "resumes", "exit_code"];

    pub(super) fn path(project: &Project) -> PathBuf {
        project.job().join("job.json")
    }

    /// The project's newest job in the background, if there was one.
    pub fn read(project: &Project) -> Option<JobRecord> {
        store::atomic::read_json(&RealFs, &JobRecord::path(project)).ok()
    }

    /// Writes it. The work it tells of must not fail for want of a record.
    pub(super) fn write(&self, project: &Project) {
        let _ = store::atomic::write_json(&RealFs, &JobRecord::path(project), self);
    }
}

/// The supervisor of the project that lives now, if one does.
pub fn living_supervisor(project: &Project) -> Option<u32> {
    RunLock::holder(&project.job())
}

/// A crash, as the run remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashRecord {
    /// Its class.
    pub kind: CrashKind,
    /// What is known of it.
    pub message: String,
    /// When it was noticed.
    pub time: String,
}

/// `resume_metadata.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResumeMetadata {
    /// Step of the checkpoint that the last resume went on from.
    pub last_step: u64,
    /// Resumes in all.
    pub resume_count: u64,
    /// When the last one was (UTC, RFC 3339).
    pub last_resume_time: Option<String>,
    /// Resumes in a row that ended without a newer checkpoint.
    pub resumes_without_progress: u64,
    /// Why the last one was needed.
    pub last_crash: Option<CrashRecord>,
    /// Why the run was given up, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<String>,
}

impl ResumeMetadata {
    /// Of a run; empty where there is none or it cannot be read.
    pub fn read(run: &RunDir) -> ResumeMetadata {
        store::atomic::read_json(&RealFs, &run.resume_metadata()).unwrap_or_default()
    }

    pub(super) fn write(&self, run: &RunDir) {
        // A run folder that was deleted must not come back as a shell.
        if RealFs.exists(run.path()) {
            let _ = store::atomic::write_json(&RealFs, &run.resume_metadata(), self);
        }
    }
}
