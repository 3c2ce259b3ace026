//! The initial state of a session: fresh, or from a checkpoint that matches this model, data and options.

use std::collections::BTreeMap;

use compute::Device;
use model::TrainingModel;
use runs::report::Reporter;
use serde_json::Value;
use tokens::TokenDataset;

use crate::checkpoint::{Checkpoints, EpochLoss, Rollbacks, SpikeWindow, TrainerState, Which};
use crate::job::{Job, Start};
use crate::schedule::Schedule;
use crate::{Base, Error, Result, RunLength, TrainOptions, tuning};

pub(crate) struct Started {
    pub state: TrainerState,
    /// The state of step 0.
    pub fresh: TrainerState,
    /// The step of the checkpoint that was loaded; `None` for a fresh start.
    pub resumed_from: Option<u64>,
    /// Notes to report to the user.
    pub notes: Vec<String>,
}

/// Resolves options, initializes or loads weights, and checks that checkpoint and job match.
pub(crate) fn begin<D: Device>(
    model: &mut TrainingModel<D>,
    job: &Job,
    reporter: &mut dyn Reporter,
) -> Result<Started> {
    job.options.validate()?;
    let mut options = job.options.clone();
    options.micro_batch_size = model.training().batch_size;
    options.precision = Some(model.training().precision);
    let shape = serde_json::to_value(model.config()).expect("invariant: a configuration is plain data");
    let base = job.base.map(Base::hash);
    let identity = tuning::identity(shape, base, model.training().adapter.as_ref(), job.preference.as_ref());
    let length = RunLength::of_dataset(&options, job.training);
    length.check()?;
    let fresh = fresh_state(job, &options, identity, length.steps);

    if let Start::Resume(which) = job.start {
        let checkpoints = Checkpoints::new(job.fs, &job.run.checkpoints());
        if let Some(state) = checkpoints.load(which, model, reporter)? {
            check(&state, &fresh)?;
            check_options(&state, &fresh, job.trained_with)?;
            if which != Which::Latest {
                // Done now and not at the next save: if this session is killed before it, later checkpoints
                // must not be the latest.
                checkpoints.supersede(state.step)?;
            }
            let (state, notes) = resumed(state, &fresh, which, job.training);
            return Ok(Started { resumed_from: Some(state.step), state, fresh, notes });
        }
    }
    initialize(model, job, options.seed)?;
    let notes = match job.start {
        Start::Fresh => Vec::new(),
        Start::Resume(_) => vec!["this run has no checkpoint yet: starting again at step 0".to_owned()],
    };
    Ok(Started { state: fresh.clone(), fresh, resumed_from: None, notes })
}

/// Sets weights, moments and the average to those of step 0.
pub(crate) fn initialize<D: Device>(model: &mut TrainingModel<D>, job: &Job, seed: u64) -> Result<()> {
    match job.base {
        None => model.initialize(seed),
        Some(base) => {
            model.weights_mut().initialize_adapters(seed);
            base.write_trained(model)?;
            model.clear_state();
        }
    }
    Ok(())
}

/// Hash of all training data of the run.
fn data_hash(job: &Job) -> String {
    let of_phases = job.phases.iter().map(|own| own.as_ref().map_or("-", |dataset| dataset.hash()));
    let all: Vec<&str> = std::iter::once(job.training.hash()).chain(of_phases).collect();
    if job.phases.iter().any(Option::is_some) { all.join("+") } else { all[0].to_owned() }
}

/// The part of a checkpoint's data hash that covers the phases that the run still has; a decay removed those
/// after them.
fn of_phases_left<'a>(was: &'a str, now: &str) -> &'a str {
    match was.strip_prefix(now) {
        Some(rest) if rest.starts_with('+') => &was[..now.len()],
        _ => was,
    }
}

fn fresh_state(job: &Job, options: &TrainOptions, model: Value, total_steps: u64) -> TrainerState {
    TrainerState {
        format: TrainerState::FORMAT,
        step: 0,
        updates: 0,
        total_steps,
        duties_due: false,
        cursor: tokens::LoaderCursor::default(),
        stream: None,
        left: BTreeMap::new(),
        tokens_seen: 0,
        epoch: EpochLoss::default(),
        history: Vec::new(),
        train_loss: None,
        validation_loss: None,
        best: None,
        validations_since_best: 0,
        stopped_early: false,
        decaying_after: None,
        non_finite_in_a_row: 0,
        non_finite_steps: 0,
        anchors: Vec::new(),
        spikes: SpikeWindow::default(),
        rollbacks: Rollbacks::default(),
        options: options.clone(),
        model,
        data_hash: data_hash(job),
        tokenizer_hash: job.training.tokenizer_hash().to_owned(),
    }
}

/// Checks that nothing has changed that determines the batches or the meaning of weights.
fn check(state: &TrainerState, now: &TrainerState) -> Result<()> {
    for (what, was, is, remedy) in [
        (
            "the model",
            state.model.to_string(),
            now.model.to_string(),
            "restore the recipe's [model], [adapter] and base model, or start a new run",
        ),
        (
            "the tokenizer",
            state.tokenizer_hash.clone(),
            now.tokenizer_hash.clone(),
            "restore the run's tokenizer, or start a new run",
        ),
        (
            "the data",
            of_phases_left(&state.data_hash, &now.data_hash).to_owned(),
            now.data_hash.clone(),
            "restore the run's data, or start a new run",
        ),
    ] {
        if was != is {
            let what = what.to_owned();
            return Err(Error::Incompatible { step: state.step, what, was, now: is, remedy });
        }
    }
    let (was, is) = (state.options.of_stream(), now.options.of_stream());
    for (key, was) in was {
        if is[&key] != was {
            return Err(Error::Incompatible {
                step: state.step,
                what: format!("train.{key}"),
                was: was.to_string(),
                now: is[&key].to_string(),
                remedy: "restore it in the recipe, or start a new run",
            });
        }
    }
    Ok(())
}

/// Checks that the run's record knows the options of the checkpoint; otherwise one of the two does not belong
/// to the run.
fn check_options(state: &TrainerState, now: &TrainerState, trained_with: &[String]) -> Result<()> {
    let (was, is) = (state.options.hash(), now.options.hash());
    if was == is || trained_with.contains(&was) {
        return Ok(());
    }
    Err(Error::UnknownOptions { step: state.step, keys: changed(&state.options, &now.options) })
}

fn resumed(
    mut state: TrainerState,
    now: &TrainerState,
    which: Which,
    training: &TokenDataset,
) -> (TrainerState, Vec<String>) {
    let mut notes = Vec::new();
    let which = if which == Which::Latest { "latest intact" } else { "selected" };
    notes
        .push(format!("resuming from the {which} checkpoint, of step {} of {}", state.step, now.total_steps));
    let was_planned = RunLength::of_dataset(&state.options, training).steps;
    if was_planned != now.total_steps {
        notes.push(format!(
            "the run now has {} steps instead of {}: the learning-rate schedule follows the new length from \
             here on",
            now.total_steps, state.total_steps
        ));
    }
    for key in changed(&state.options, &now.options) {
        notes.push(format!(
            "train.{key} has changed since the checkpoint; the new value applies from here on"
        ));
    }
    if (state.step >= now.total_steps || state.stopped_early) && !state.duties_due {
        notes.push("all steps are done: train longer with `text2llm resume --more-epochs N`".to_owned());
    }
    if (state.stopped_early || state.decaying_after.is_some())
        && (was_planned != now.total_steps || state.options.early_stopping != now.options.early_stopping)
    {
        (state.stopped_early, state.decaying_after, state.validations_since_best) = (false, None, 0);
    }
    let schedule = schedule_of(&now.options, now.total_steps, state.decaying_after);
    let total_steps = state.decaying_after.map_or(now.total_steps, |_| schedule.last_step());
    state.total_steps = total_steps.max(state.step);
    state.options = now.options.clone();
    (state, notes)
}

/// The schedule of a run planned with `planned` steps, whose final decay may have started earlier.
pub(crate) fn schedule_of(options: &TrainOptions, planned: u64, decaying_after: Option<u64>) -> Schedule {
    let schedule = options.schedule(planned);
    decaying_after.and_then(|step| schedule.decaying_after(step)).unwrap_or(schedule)
}

/// Keys whose values differ, other than the run's length.
fn changed(was: &TrainOptions, is: &TrainOptions) -> Vec<String> {
    let value = |options| serde_json::to_value(options).expect("invariant: options are plain data");
    let (was, is): (Value, Value) = (value(was), value(is));
    let Value::Object(is) = is else { return Vec::new() };
    is.into_iter()
        .filter(|(key, value)| !matches!(key.as_str(), "epochs" | "steps") && was[key] != *value)
        .map(|(key, _)| key)
        .collect()
}
