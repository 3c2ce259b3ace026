//! Prepares data with many processes: an executor starts the ranks, checks that each has written its
//! manifest, and retries those that have not.
//!
//! The stages themselves are in `stages::shared`; an executor only starts commands and waits for them. A
//! failed exit is believed; after a successful one the folder's manifest must confirm it. Reading order: this
//! file, `local`, `slurm`, `ray`, `kubernetes`.

pub mod kubernetes;
pub mod local;
pub mod ray;
pub mod slurm;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use corpus::Rank;
use runs::report::{Phase, Reporter};
use store::fs::{Fs, RealFs};
use store::lock::RunLock;
use store::secret;
use train::StopFlag;

use crate::share::Share;
use crate::stages::{DataStage, PreparedData, Request, shared};
use crate::stop;
use crate::stopped::Stopped;
use crate::{Error, Result};

/// Bytes read from the end of a log for its last output, and lines of it that are shown.
const LAST_BYTES: u64 = 4096;
const LAST_LINES: usize = 5;

/// The work to launch.
pub struct Launch<'a> {
    /// The recipe and the project.
    pub request: &'a Request<'a>,
    /// Path of this program for the ranks.
    pub program: PathBuf,
    /// Arguments that select the same recipe and project for `data stage NAME`: the recipe first.
    pub arguments: Vec<String>,
    /// Number of ranks of `filter` and `encode`.
    pub ranks: usize,
    /// How often to retry a failed rank.
    pub retries: usize,
    /// Object storage for results, if machines have no shared file system.
    pub share: Option<&'a Share>,
    /// Raised to stop the launch.
    pub stop: &'a StopFlag,
}

/// One stage, and its ranks to run.
pub struct Work<'a> {
    /// The launch it belongs to.
    pub launch: &'a Launch<'a>,
    /// The stage.
    pub stage: DataStage,
    /// Ranks out of `launch.ranks`; `[0]` for a stage of one process.
    pub ranks: Vec<usize>,
}

/// A failed rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The rank.
    pub rank: usize,
    /// The reason.
    pub why: String,
}

/// Starts commands on some system.
pub trait Executor {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Whether stages of one process run in this process.
    fn stays_here(&self) -> bool {
        false
    }

    /// Runs the ranks, waits for all, and returns the failed ones.
    ///
    /// # Errors
    /// Nothing can be started; a stop was requested.
    fn run(&mut self, work: &Work<'_>, reporter: &mut dyn Reporter) -> Result<Vec<Failed>>;
}

/// Runs all data stages in order.
///
/// # Errors
/// A recipe with missing files, before anything is started; a rank that failed `retries` + 1 times; another
/// launcher at work. Finished work is kept, and the same call continues from it.
pub fn prepare(
    launch: &Launch<'_>,
    executor: &mut dyn Executor,
    reporter: &mut dyn Reporter,
) -> Result<PreparedData> {
    // Covers work outside of the stages too: listing sources, downloading from a share.
    stop::settle(prepare_all(launch, executor, reporter))
}

fn prepare_all(
    launch: &Launch<'_>,
    executor: &mut dyn Executor,
    reporter: &mut dyn Reporter,
) -> Result<PreparedData> {
    let request = launch.request;
    Rank::new(0, launch.ranks)?;
    let folder = request.project.ranks();
    let logs = launch.logs();
    RealFs.create_dir_all(&logs).map_err(store::Error::io("create the folder", &logs))?;
    let _busy = RunLock::acquire(&folder)?;
    let options = shared::gathered(request, reporter)?;
    for stage in DataStage::ALL {
        let start = Instant::now();
        if !stage.is_shared() && executor.stays_here() {
            shared::run_stage(request, stage, Rank::new(0, launch.ranks)?, launch.share, reporter)?;
            continue;
        }
        let mut ranks: Vec<usize> = (0..if stage.is_shared() { launch.ranks } else { 1 }).collect();
        let count = ranks.len();
        for tried in 0..=launch.retries {
            let work = Work { launch, stage, ranks };
            let mut failed = executor.run(&work, reporter)?;
            let unmarked = shared::unmarked(request, &options, stage, launch.ranks, launch.share, reporter)?;
            for &rank in unmarked.iter().filter(|rank| work.ranks.contains(rank)) {
                if !failed.iter().any(|known| known.rank == rank) {
                    let why =
                        format!("exited without writing its result; {}", launch.last_words(stage, rank));
                    failed.push(Failed { rank, why });
                }
            }
            failed.sort_by_key(|failed| failed.rank);
            let Some(first) = failed.first() else { break };
            let told = format!("{stage}: {} {}", launch.rank_in_words(stage, first.rank), first.why);
            let more = match failed.len() {
                1 => String::new(),
                number => format!(" ({number} ranks failed)"),
            };
            // A stage that wrote its result and failed anyway, for example at the quarantine limit, would
            // fail again.
            let is_settled = !stage.is_shared() && unmarked.is_empty();
            if tried == launch.retries || is_settled {
                let log = launch.log(stage, first.rank);
                let times = if tried == 0 {
                    String::new()
                } else {
                    format!("It was attempted {} times. ", tried + 1)
                };
                let message = format!(
                    "{told}{more}. {times}See `{}`. Finished work is kept: run the same command again to \
                     continue",
                    log.display()
                );
                return Err(Error::Data { message });
            }
            reporter.warning(Phase::Corpus, &format!("{told}{more}; retrying"));
            ranks = failed.into_iter().map(|failed| failed.rank).collect();
            continue;
        }
        let message =
            format!("{stage}: {count} of {count} ranks done in {:.1} s", start.elapsed().as_secs_f64());
        reporter.note(Phase::Corpus, &message);
    }
    shared::prepared(request, launch.share, reporter)
}

impl Launch<'_> {
    /// The arguments that run a rank of a stage; `rank` is inserted verbatim, so it can be a variable.
    pub fn command(&self, stage: DataStage, rank: &str) -> Vec<String> {
        let mut command: Vec<String> = ["data", "stage", stage.name()].map(str::to_owned).to_vec();
        command.extend(self.arguments.iter().cloned());
        if stage.is_shared() {
            command.extend(["--rank".to_owned(), rank.to_owned()]);
        }
        command.extend(["--of".to_owned(), self.ranks.to_string()]);
        if let Some(share) = self.share {
            command.extend(["--share".to_owned(), share.address().to_owned()]);
        }
        command
    }

    /// Folder of ranks' logs.
    pub fn logs(&self) -> PathBuf {
        self.request.project.ranks().join("logs")
    }

    /// Log file of a rank.
    pub fn log(&self, stage: DataStage, rank: usize) -> PathBuf {
        self.logs().join(log_name(stage, &rank.to_string()))
    }

    fn rank_in_words(&self, stage: DataStage, rank: usize) -> String {
        if stage.is_shared() { format!("rank {rank} of {}", self.ranks) } else { "its process".to_owned() }
    }

    /// The end of a rank's log, on one line.
    pub fn last_words(&self, stage: DataStage, rank: usize) -> String {
        match last_lines(&self.log(stage, rank)) {
            words if words.is_empty() => "it printed nothing".to_owned(),
            words => format!("its last output: {words}"),
        }
    }
}

/// File name of a log; `rank` is inserted verbatim.
fn log_name(stage: DataStage, rank: &str) -> String {
    format!("{stage}-{rank}.log")
}

fn last_lines(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = store::fs::regular::read(path)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(LAST_BYTES)))?;
        let mut end = Vec::new();
        file.take(LAST_BYTES).read_to_end(&mut end)?;
        Ok(end)
    };
    let end = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join(" / ")
}

/// The download cache, as ranks find it.
fn cache() -> PathBuf {
    let folder = cloud::cache_folder();
    std::path::absolute(&folder).unwrap_or(folder)
}

/// Environment variables of other programs that locate things.
const PASSED_ON: [&str; 8] = [
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SHARED_CREDENTIALS_FILE",
    "HF_ENDPOINT",
];

/// Environment variables that tasks need, wherever they run; never secrets.
fn rank_environment(launch: &Launch<'_>, cpus: usize) -> BTreeMap<String, String> {
    let holds_secret = |name: &str, value: &str| secret::is_secret_name(name) || secret::is_in_address(value);
    let webhook = launch.request.recipe.notify.webhook.as_deref();
    let webhook = webhook.and_then(|webhook| webhook.strip_prefix("env:"));
    let recipe = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("TEXT2LLM_") || PASSED_ON.contains(&name.as_str()))
        .filter(|(name, _)| !matches!(name.as_str(), "TEXT2LLM_JSON" | "TEXT2LLM_OUTPUT"))
        // Notifications are the launcher's task, and `env:NAME` of a webhook may name any variable.
        .filter(|(name, value)| !name.starts_with("TEXT2LLM_NOTIFY_") && !holds_secret(name, value))
        .filter(|(name, _)| Some(name.as_str()) != webhook);
    let mut environment: BTreeMap<String, String> = recipe.collect();
    environment.insert("TEXT2LLM_THREADS".to_owned(), cpus.to_string());
    // The launcher has downloaded everything to where ranks find it.
    if launch.share.is_none() {
        environment.insert("HF_HUB_OFFLINE".to_owned(), "1".to_owned());
        // Set explicitly, since a rank may have another home folder.
        environment.insert("TEXT2LLM_CACHE".to_owned(), cache().to_string_lossy().into_owned());
    }
    environment
}

/// The error of a requested stop.
fn stopped() -> Error {
    // Run the same command to continue; it has too many options to repeat here.
    Stopped { phase: Some(Phase::Corpus), steps: None, command: None }.into()
}

/// The error if a program cannot be started.
fn cannot_start(program: &str, error: &std::io::Error, remedy: &str) -> Error {
    Error::Environment { message: format!("cannot start `{program}`: {error}; {remedy}") }
}
