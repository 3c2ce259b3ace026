//! Records of the supervisor: `job/job.json` of the project, and `resume_metadata.json` of the run.

use std::path::PathBuf;

use runs::run::RunDir;
use serde::{Deserialize, Serialize};
use store::fs::{Fs, RealFs};
use store::lock::RunLock;

use super::crash::CrashKind;
use crate::project::Project;

/// State of a background job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// A worker is running.
    #[default]
    Running,
    /// Waiting before the next resume.
    Pausing,
    /// The job is done.
    Completed,
    /// Stopped on request.
    Stopped,
    /// It failed with an error that would repeat.
    Failed,
    /// Given up after a crash loop.
    GivenUp,
}

impl std::fmt::Display for JobStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            JobStatus::Running => "running",
            JobStatus::Pausing => "waiting to resume",
            JobStatus::Completed => "completed",
            JobStatus::Stopped => "stopped",
            JobStatus::Failed => "failed",
            JobStatus::GivenUp => "given up",
        })
    }
}

/// The content of `job/job.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobRecord {
    /// State of the job.
    pub status: JobStatus,
    /// Process id of the supervisor.
    pub pid: u32,
    /// Process id of the worker.
    pub worker_pid: Option<u32>,
    /// Id of the run, once it exists.
    pub run_id: Option<String>,
    /// Start time (UTC, RFC 3339).
    pub started_at: String,
    /// Number of resumes.
    pub resumes: u64,
    /// Last message.
    pub message: String,
    /// Exit code, once it has ended.
    pub exit_code: Option<u8>,
}

impl JobRecord {
    /// Keys that identify the file.
    pub(super) const KEYS: [&str; 6] = ["status", "pid", "worker_pid", "started_at", "resumes", "exit_code"];

    pub(super) fn path(project: &Project) -> PathBuf {
        project.job().join("job.json")
    }

    /// The project's latest background job, if any.
    pub fn read(project: &Project) -> Option<JobRecord> {
        store::atomic::read_json(&RealFs, &JobRecord::path(project)).ok()
    }

    /// Writes it. Errors are ignored, since the job must not fail for its record.
    pub(super) fn write(&self, project: &Project) {
        let _ = store::atomic::write_json(&RealFs, &JobRecord::path(project), self);
    }
}

/// Process id of the project's running supervisor, if any.
pub fn living_supervisor(project: &Project) -> Option<u32> {
    RunLock::holder(&project.job())
}

/// A crash in a run's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashRecord {
    /// Kind of crash.
    pub kind: CrashKind,
    /// Message.
    pub message: String,
    /// Time of detection.
    pub time: String,
}

/// The content of `resume_metadata.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResumeMetadata {
    /// Step of the checkpoint of the last resume.
    pub last_step: u64,
    /// Total number of resumes.
    pub resume_count: u64,
    /// Time of the last one (UTC, RFC 3339).
    pub last_resume_time: Option<String>,
    /// Consecutive resumes without a newer checkpoint.
    pub resumes_without_progress: u64,
    /// The crash before the last one.
    pub last_crash: Option<CrashRecord>,
    /// Why the run was given up, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<String>,
}

impl ResumeMetadata {
    /// Reads a run's file; empty if it is missing or unreadable.
    pub fn read(run: &RunDir) -> ResumeMetadata {
        store::atomic::read_json(&RealFs, &run.resume_metadata()).unwrap_or_default()
    }

    pub(super) fn write(&self, run: &RunDir) {
        // A deleted run folder must not be created again as an empty shell.
        if RealFs.exists(run.path()) {
            let _ = store::atomic::write_json(&RealFs, &run.resume_metadata(), self);
        }
    }
}
