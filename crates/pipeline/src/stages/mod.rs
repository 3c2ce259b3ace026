//! The main job: prerequisites → corpus → tokenizer → model → training → validation → export.
//!
//! A stage whose manifest matches its options and inputs is skipped, so running again does no work twice; a
//! finished training with the same recipe on the same tokens is reused. Reading order: this file,
//! `prerequisites`, `data`, `history` (which run to continue), `training`, `validation`, `export`; `shared`
//! runs the data stages one by one, for many machines, and `passed_on` says what they pass to each other.

mod curves;
mod data;
mod export;
mod folders;
mod history;
mod missing;
pub mod passed_on;
mod prerequisites;
pub mod shared;
mod training;
mod validation;

use std::path::PathBuf;
use std::time::Instant;

use compute::Target;
use runs::report::{Event, Phase, Reporter};
use runs::run::{RunDir, RunStatus};
use serde::{Deserialize, Serialize};
use store::fs::RealFs;
use store::walk::bytes_below;
use train::checkpoint::Which;

use crate::meta::RunMeta;
use crate::project::Project;
use crate::stop::{self, Working};
use crate::{Error, Result, record};
use history::ToContinue;
use recipe::Recipe;

pub use crate::meta::go_on;
pub(crate) use export::write_model;
pub use missing::{Missing, missing};
pub use training::More;
pub use validation::{Evaluation, Sample};

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Stop after training.
    Training,
    /// All phases.
    Export,
}

/// What `run` and `train` ask for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Where.
    pub project: &'a Project,
    /// What.
    pub recipe: Recipe,
    /// The folder that relative corpus paths start from.
    pub base_dir: PathBuf,
    /// Where the recipe came from, in words.
    pub recipe_source: String,
    /// Whether the user named a recipe or changed a key, rather than taking what is there.
    pub recipe_is_explicit: bool,
    /// Use `data/documents/` as it is.
    pub skip_corpus: bool,
    /// Use `tokenizer/` as it is.
    pub skip_tokenizer: bool,
    /// Continue the latest unfinished run.
    pub resume: bool,
    /// Continue it with what of the recipe was changed since and may change within a run.
    pub accept_changes: bool,
    /// Train although a finished run has the same recipe and data.
    pub fresh: bool,
    /// How far to go.
    pub until: Until,
    /// Where to compute.
    pub target: Target,
    /// Go on where a prerequisite is not met but work may still succeed.
    pub accept_risks: bool,
    /// The program to measure generation with, in a process of its own; `None`: this process.
    pub generator: Option<PathBuf>,
}

impl Request<'_> {
    /// The arguments that go on with the run that this began.
    fn again(&self) -> String {
        let mut again = match self.until {
            Until::Training => "train --resume".to_owned(),
            Until::Export => "run --resume".to_owned(),
        };
        for (given, flag) in
            [(self.skip_corpus, " --skip-corpus"), (self.skip_tokenizer, " --skip-tokenizer")]
        {
            if given {
                again.push_str(flag);
            }
        }
        again
    }
}

/// What `resume` asks for.
#[derive(Clone, Debug)]
pub struct ResumeRequest<'a> {
    /// Where.
    pub project: &'a Project,
    /// Run id, its unique beginning or end, or `latest`.
    pub run: String,
    /// latest, best or a step.
    pub checkpoint: String,
    /// How far beyond the run's end.
    pub more: Option<More>,
    /// Where to compute.
    pub target: Target,
    /// Go on where a prerequisite is not met but work may still succeed.
    pub accept_risks: bool,
    /// The program to measure generation with, in a process of its own; `None`: this process.
    pub generator: Option<PathBuf>,
}

/// Something left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// What it is.
    pub name: String,
    /// Where.
    pub path: PathBuf,
    /// How large, everything below included.
    pub bytes: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunOutcome {
    /// The run.
    pub run_id: String,
    /// Its folder.
    pub run_dir: PathBuf,
    /// Steps done.
    pub step: u64,
    /// Loss of the last step.
    pub train_loss: Option<f64>,
    /// Loss of the last validation.
    pub validation_loss: Option<f64>,
    /// The lowest validation loss.
    pub best_validation_loss: Option<f64>,
    /// Whether a finished training was reused.
    pub training_reused: bool,
    /// All phases together.
    pub seconds: f64,
    /// What lies where.
    pub artifacts: Vec<Artifact>,
    /// Commands worth trying next.
    pub next: Vec<String>,
}

const PHASES: [(Phase, &str); 7] = [
    (Phase::Prerequisites, "Prerequisites"),
    (Phase::Corpus, "Corpus"),
    (Phase::Tokenizer, "Tokenizer"),
    (Phase::Model, "Model"),
    (Phase::Training, "Training"),
    (Phase::Validation, "Validation"),
    (Phase::Export, "Export"),
];

/// Runs one phase between its header and its summary line.
fn phase<T>(
    phase: Phase,
    of: usize,
    reporter: &mut dyn Reporter,
    work: impl FnOnce(&mut dyn Reporter) -> Result<(T, Done)>,
) -> Result<T> {
    let index = PHASES.iter().position(|(known, _)| *known == phase).unwrap_or(0);
    let title = PHASES[index].1.to_owned();
    let start = Instant::now();
    stop::settle(stop::enter(phase))?;
    reporter.event(&Event::PhaseStarted { phase, index: index + 1, of, title });
    let (value, done) = stop::settle(work(reporter))?;
    reporter.event(&match done {
        Done::Worked(summary) => {
            Event::PhaseFinished { phase, seconds: start.elapsed().as_secs_f64(), summary }
        }
        Done::Reused(reason) => Event::PhaseSkipped { phase, reason },
    });
    Ok(value)
}

/// How a phase ended, in a sentence.
enum Done {
    Worked(String),
    Reused(String),
}

/// Text to model.
///
/// # Errors
/// See [`Error`]. Whatever was finished before is kept and used by the next call.
pub fn run(mut request: Request<'_>, reporter: &mut dyn Reporter) -> Result<RunOutcome> {
    let start = Instant::now();
    let of = if request.until == Until::Training { 5 } else { PHASES.len() };
    // What "auto" means here is written down with the run, so that it means the same wherever the run goes
    // on.
    request.recipe.train.precision = Some(request.recipe.train.settled_precision(request.target));
    prerequisites::writable(&request)?;
    // One job at a time: two would write the same folders.
    let _busy = history::lock_project(request.project)?;
    let working = Working::begin(Some(request.project.command(&request.again())));
    let mut outcome = stop::settle(run_locked(&mut request, &working, of, reporter))?;
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

fn run_locked(
    request: &mut Request<'_>,
    working: &Working,
    of: usize,
    reporter: &mut dyn Reporter,
) -> Result<RunOutcome> {
    let continued = history::to_continue(request, reporter)?;
    let request = &*request;
    folders::check(request)?;
    let (continued, trained_run) = match continued {
        ToContinue::Nothing => (None, None),
        ToContinue::Training(begun) => (Some(*begun), None),
        ToContinue::AfterTraining(run_id) => (None, Some(run_id)),
    };
    phase(Phase::Prerequisites, of, reporter, |reporter| prerequisites::check(request, reporter))?;

    // Begun before the corpus, so that a run that is cut off anywhere can be found and continued.
    let run = match continued {
        Some(run) => Some(run),
        None if history::has_finished_twin(request)? => None,
        None => Some(history::begin(request)?),
    };
    let run_dir = run.as_ref().map(|begun| begun.run.clone());
    if let Some(run) = &run_dir {
        working.on(run);
    }
    let done = phases(request, working, run, trained_run.as_deref(), of, reporter);
    done.inspect_err(|error| run_dir.iter().for_each(|run| history::note_failure(run, error)))
}

fn phases(
    request: &Request<'_>,
    working: &Working,
    run: Option<history::Begun>,
    trained_run: Option<&str>,
    of: usize,
    reporter: &mut dyn Reporter,
) -> Result<RunOutcome> {
    let documents = phase(Phase::Corpus, of, reporter, |reporter| data::documents(request, None, reporter))?;
    let tokenizer =
        phase(Phase::Tokenizer, of, reporter, |reporter| data::tokenizer(request, &documents, reporter))?;
    let mut prepared =
        phase(Phase::Model, of, reporter, |reporter| data::model(request, &documents, tokenizer, reporter))?;
    let trained = phase(Phase::Training, of, reporter, |reporter| {
        training::train_or_reuse(request, &mut prepared, run, trained_run, reporter)
    })?;
    working.on(&trained.run);
    let mut outcome = RunOutcome::of(&trained);
    if request.until >= Until::Export {
        finish(request, &prepared, &trained, of, reporter)?;
    }
    working.done();
    outcome.close(request, &trained, reporter)?;
    Ok(outcome)
}

/// What preparing the data gave.
#[derive(Clone, Debug)]
pub struct PreparedData {
    /// What became of the documents.
    pub summary: corpus::CorpusSummary,
    /// What became of the text.
    pub tokens: corpus::TokenSummary,
    /// The report to look at.
    pub report: PathBuf,
}

/// Text to token shards, without a model.
///
/// # Errors
/// See [`Error`]. Whatever was finished before is kept and used by the next call.
pub fn prepare_data(request: &Request<'_>, reporter: &mut dyn Reporter) -> Result<PreparedData> {
    let _busy = history::lock_project(request.project)?;
    let _working = Working::begin(Some(request.project.command("data prepare")));
    stop::settle(prepare_locked(request, reporter))
}

fn prepare_locked(request: &Request<'_>, reporter: &mut dyn Reporter) -> Result<PreparedData> {
    folders::check_data(request)?;
    // Numbered as in a whole run.
    let of = 4;
    let documents = phase(Phase::Corpus, of, reporter, |reporter| data::documents(request, None, reporter))?;
    let tokenizer =
        phase(Phase::Tokenizer, of, reporter, |reporter| data::tokenizer(request, &documents, reporter))?;
    let tokens =
        phase(Phase::Model, of, reporter, |reporter| data::tokens(request, &tokenizer, None, reporter))?;
    let report = request.project.documents().join("report.html");
    Ok(PreparedData { summary: documents.summary, tokens, report })
}

/// Goes on with a run, from where it stopped or beyond its end.
///
/// # Errors
/// No such run or checkpoint; another process at work on it; whatever training may meet.
pub fn resume(request: ResumeRequest<'_>, reporter: &mut dyn Reporter) -> Result<RunOutcome> {
    let start = Instant::now();
    let _busy = history::lock_project(request.project)?;
    let which: Which = request
        .checkpoint
        .parse()
        .map_err(|message| Error::Argument { message: format!("--checkpoint: {message}") })?;
    let run = RunDir::find(&RealFs, &request.project.runs(), &request.run)?;
    let meta = RunMeta::read(&RealFs, &run)?;
    let working = Working::begin(Some(request.project.command(&format!("resume {}", run.id()))));
    // The project's lock keeps everybody else from it.
    working.on(&run);
    let mut outcome = stop::settle(resume_locked(&request, &working, run, meta, which, reporter))?;
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

fn resume_locked(
    request: &ResumeRequest<'_>,
    working: &Working,
    run: RunDir,
    meta: RunMeta,
    which: Which,
    reporter: &mut dyn Reporter,
) -> Result<RunOutcome> {
    // Of a training that is done nothing is left but what comes after it, which `train` has left to a later
    // command.
    let as_it_is = request.more.is_none() && which == Which::Latest;
    let is_trained = as_it_is && record::state(&run).is_ok_and(|state| state.is_trained());
    let until = if is_trained { Until::Export } else { meta.until };
    let of = if until == Until::Training { 5 } else { PHASES.len() };
    let mut whole = Request {
        project: request.project,
        recipe: meta.recipe.clone(),
        base_dir: meta.base_dir.clone(),
        recipe_source: meta.recipe_source.clone(),
        recipe_is_explicit: false,
        skip_corpus: true,
        skip_tokenizer: true,
        resume: true,
        accept_changes: false,
        fresh: false,
        until,
        target: request.target,
        accept_risks: request.accept_risks,
        generator: request.generator.clone(),
    };
    folders::check_results(&whole)?;
    let trained = phase(Phase::Training, of, reporter, |reporter| {
        training::resume(request, run, meta, which, reporter)
    })?;
    whole.recipe = trained.meta.recipe.clone();
    let mut outcome = RunOutcome::of(&trained);
    if until >= Until::Export {
        let prepared = data::existing(&whole, &trained)?;
        finish(&whole, &prepared, &trained, of, reporter)?;
    }
    working.done();
    outcome.close(&whole, &trained, reporter)?;
    Ok(outcome)
}

/// Validation and export.
fn finish(
    request: &Request<'_>,
    prepared: &data::Prepared,
    trained: &training::Trained,
    of: usize,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let evaluation = phase(Phase::Validation, of, reporter, |reporter| {
        validation::validate(request, prepared, trained, reporter)
    })?;
    phase(Phase::Export, of, reporter, |reporter| {
        export::export(request, prepared, trained, &evaluation, reporter)
    })
}

impl RunOutcome {
    fn of(trained: &training::Trained) -> RunOutcome {
        RunOutcome {
            run_id: trained.run.id(),
            run_dir: trained.run.path().to_owned(),
            step: trained.step,
            train_loss: trained.train_loss,
            validation_loss: trained.validation_loss,
            best_validation_loss: trained.best_validation_loss,
            training_reused: trained.reused,
            seconds: 0.0,
            artifacts: Vec::new(),
            next: Vec::new(),
        }
    }

    /// Marks the job as done and lists what it left.
    fn close(
        &mut self,
        request: &Request<'_>,
        trained: &training::Trained,
        reporter: &mut dyn Reporter,
    ) -> Result<()> {
        history::note_finished(trained, request.until)?;
        let commands = match request.until {
            // What is left of this training: validation and export.
            Until::Training => {
                let rest = format!("resume {}", self.run_id);
                [
                    "generate --run latest --prompt \"The \"".to_owned(),
                    rest,
                    "resume --more-epochs 2".to_owned(),
                ]
            }
            Until::Export => {
                ["generate --prompt \"The \"", "resume --more-epochs 2", "list"].map(str::to_owned)
            }
        };
        self.next = commands.map(|command| request.project.command(&command)).to_vec();
        self.artifacts = artifacts(request.project, &trained.run);
        for Artifact { name, path, bytes } in self.artifacts.clone() {
            reporter.event(&Event::Artifact { name, path, bytes });
        }
        Ok(())
    }
}

fn artifacts(project: &Project, run: &RunDir) -> Vec<Artifact> {
    let wanted = [
        ("cleaned text and token shards", project.data()),
        ("tokenizer", project.tokenizer()),
        ("the run: checkpoints, metrics, log", run.path().to_owned()),
        ("loss curve (and loss.png)", run.path().join("loss.svg")),
        ("training history in one file", project.training_metrics()),
        ("evaluation", project.evals()),
        ("the model, for transformers and others", project.model()),
    ];
    wanted
        .into_iter()
        .filter(|(_, path)| path.exists())
        .map(|(name, path)| Artifact { name: name.to_owned(), bytes: bytes_below(&path), path })
        .collect()
}

/// Whether a run's training still has work to do.
fn is_unfinished(status: RunStatus) -> bool {
    matches!(status, RunStatus::Queued | RunStatus::Stopped | RunStatus::Interrupted | RunStatus::Failed)
}
