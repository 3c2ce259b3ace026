//! The whole job, from text to model, and what of it is left of a run that is continued.

use std::time::Instant;

use runs::report::{Phase, Reporter};
use runs::run::RunDir;
use store::fs::RealFs;
use train::checkpoint::Which;

use super::history::ToContinue;
use super::outcome::RunOutcome;
use super::phase::{PHASES, phase};
use super::request::{Request, ResumeRequest};
use super::trained::Trained;
use super::{data, export, folders, history, prerequisites, training, validation};
use crate::meta::{RunMeta, Until};
use crate::stop::{self, Working};
use crate::{Error, Result, record};

/// Runs all phases from text to model.
///
/// # Errors
/// See [`Error`]. Whatever was finished before is kept and used by the next call.
pub fn run(mut request: Request<'_>, reporter: &mut dyn Reporter) -> Result<RunOutcome> {
    let start = Instant::now();
    let of = if request.until == Until::Training { 5 } else { PHASES.len() };
    // The meaning of "auto" is recorded with the run, so that it stays the same wherever the run continues.
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

    // Created before the corpus, so that an interrupted run can be found and continued.
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

/// Continues a run, to its end or beyond.
///
/// # Errors
/// A missing run or checkpoint; another process working on it; errors of training.
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
    // The project's lock locks out all others.
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
    // If training is done, only the later phases are left, which `train` leaves to another command.
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
    trained: &Trained,
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
