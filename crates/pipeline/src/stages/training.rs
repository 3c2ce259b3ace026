//! The training phase: a new run, a continued one, or a finished one that is reused.

use std::path::Path;

use compute::{AnyDevice, Target};
use model::TrainingModel;
use runs::report::{Phase, Reporter};
use runs::run::{RunDir, RunState, RunStatus};
use store::fs::{Fs, RealFs};
use store::lock::RunLock;
use tokens::{Split, TokenDataset};
use train::checkpoint::{Part, Which};
use train::{Ending, Job, Patience, RunLength, ScheduleKind, Start, StopFlag, TrainOptions};

use super::data::Prepared;
use super::history::{self, Begun};
use super::phase::Done;
use super::request::{More, Request, ResumeRequest};
use super::sampler::Sampler;
use super::trained::Trained;
use super::{curves, prerequisites};
use crate::base::BaseModel;
use crate::meta::{RunInputs, RunMeta};
use crate::project::Project;
use crate::stopped::Stopped;
use crate::{Error, Result, forecast, plan, record};

pub(super) fn train_or_reuse(
    request: &Request<'_>,
    prepared: &mut Prepared,
    mut begun: Option<Begun>,
    trained_run: Option<&str>,
    reporter: &mut dyn Reporter,
) -> Result<(Trained, Done)> {
    let mut trial = RunMeta::new(
        request.recipe.clone(),
        request.recipe_source.clone(),
        request.base_dir.clone(),
        request.until,
        request.target,
    );
    describe(&mut trial, prepared);
    if begun.as_ref().is_none_or(|begun| !begun.continued)
        && let Some((run, meta)) = history::finished_twin(request, &trial.fingerprint())?
    {
        if let Some(begun) = begun.take()
            && !record::remove_unused(&begun.run)
        {
            let message = format!("run {} already trained this recipe on this text", run.id());
            let state = RunState { status: RunStatus::Failed, message, ..RunState::default() };
            begun.run.write_state(&RealFs, state)?;
        }
        let lock = run.lock()?;
        crate::stop::unmark(&run)?;
        let state = run.read_state(&RealFs)?;
        let reason = format!(
            "run {} already trained this recipe on this text, to step {}; reusing it (train again with \
             --fresh)",
            run.id(),
            state.step
        );
        copy_metrics(&run, &request.project.training_metrics())?;
        let trained = Trained {
            step: state.step,
            train_loss: state.train_loss,
            validation_loss: state.validation_loss,
            best_validation_loss: state.best_validation_loss,
            run,
            meta,
            reused: true,
            stop: StopFlag::of_process()?,
            _lock: lock,
        };
        return Ok((trained, Done::Reused(reason)));
    }
    if let Some(run_id) = trained_run {
        return Err(other_data(run_id, "text, the tokenizer or the recipe"));
    }
    let Begun { run, lock, mut meta, continued } = match begun {
        Some(begun) => begun,
        None => history::begin(request)?,
    };
    if let Some(model) = &meta.model {
        same_inputs(&run, &meta, prepared)?;
        // The recipe may have been extended since, from which another shape would follow.
        prepared.model = model.clone();
    } else {
        describe(&mut meta, prepared);
        record::write_tokenizer(&prepared.tokenizer, &run, &meta)?;
        meta.write(&RealFs, &run)?;
    }
    meta.note_options(&RealFs, &run)?;
    let start = if continued { Start::Resume(Which::Latest) } else { Start::Fresh };
    let session = Session {
        run: &run,
        lock: &lock,
        meta: &meta,
        project: request.project,
        resume_command: request.project.command(&request.again()),
        start,
        target: request.target,
    };
    let stop = StopFlag::of_process()?;
    let outcome = session.train(&stop, reporter).map_err(|error| {
        with_remedy(error, &format!("For this run, `{}` does both", session.resume_command))
    })?;
    let summary = summary(&outcome);
    Ok((trained(run, lock, meta, &outcome, stop), Done::Worked(summary)))
}

/// Continues a run by name.
pub(super) fn resume(
    request: &ResumeRequest<'_>,
    run: RunDir,
    mut meta: RunMeta,
    which: Which,
    reporter: &mut dyn Reporter,
) -> Result<(Trained, Done)> {
    let lock = run.lock()?;
    if meta.model.is_none() {
        return Err(Error::Argument {
            message: format!(
                "run {} stopped before training started: continue it with `{}`",
                run.id(),
                request.project.command(&crate::meta::go_on(&run))
            ),
        });
    }
    prerequisites::check_device(&meta.recipe.train, request.target)?;
    if let Some(model) = meta.model.clone() {
        let plan = plan::of_shape(&meta.recipe, model, 0, request.target);
        prerequisites::check_memory(&plan, request.accept_risks, reporter)?;
    }
    record::heal(&run, reporter)?;
    let before = meta.clone();
    let state = run.read_state(&RealFs)?;
    let begun_with_steps = meta.recipe.train.steps.or(meta.recipe.train.steps_of_phases());
    let total = begun_with_steps.unwrap_or(state.total_steps);
    if request.more.is_some() && meta.began_with.is_none() {
        meta.began_with = Some(meta.recipe.train.clone());
    }
    let which = match request.more {
        Some(More::Epochs(_) | More::Steps(_)) if which == Which::Latest => {
            plateau(&run, &meta.recipe.train, total, request.project, reporter)?.map_or(which, Which::Step)
        }
        _ => which,
    };
    match (request.more, begun_with_steps) {
        (None, _) => {}
        (Some(More::Steps(more)), _) => meta.recipe.train.extend(total, longer(total, more)?, None),
        (Some(More::DecayNow(steps)), _) => {
            decay_now(&mut meta, total, checkpoint_step(&run, which)?, steps)?
        }
        (Some(More::Epochs(more)), None) if meta.recipe.train.phase.is_empty() => {
            let epochs = meta.recipe.train.epochs.unwrap_or(1).max(1);
            // As many steps per epoch as so far; the exact number is known once the data are open.
            longer(total, more.saturating_mul(total.div_ceil(epochs).max(1)))?;
            meta.recipe.train.epochs = Some(epochs + more);
        }
        (Some(More::Epochs(more)), _) => {
            let dataset = open(&request.project.tokens(), Split::Train, &meta)?;
            let length = RunLength::new(&meta.recipe.train, dataset.token_count());
            let length = longer(total, more.saturating_mul(length.steps_per_epoch()))?;
            meta.recipe.train.extend(total, length, None);
        }
    }
    if request.more.is_some() {
        meta.finished = None;
        meta.write(&RealFs, &run)?;
    }
    meta.note_options(&RealFs, &run)?;
    let session = Session {
        run: &run,
        lock: &lock,
        meta: &meta,
        project: request.project,
        resume_command: request.project.command(&format!("resume {}", run.id())),
        start: Start::Resume(which),
        target: request.target,
    };
    let stop = StopFlag::of_process()?;
    let outcome = match session.train(&stop, reporter) {
        Ok(outcome) => outcome,
        Err(error) => {
            // An extension that failed before its first step leaves the run unchanged, so repeating it does
            // not add up.
            let began = run.read_state(&RealFs).is_ok_and(|now| now != state);
            if !began && !matches!(error, Error::Stopped(_)) {
                before.write(&RealFs, &run)?;
            }
            return Err(with_remedy(error, &format!("The run's recipe is {}", meta.recipe_source)));
        }
    };
    let summary = summary(&outcome);
    Ok((trained(run, lock, meta, &outcome, stop), Done::Worked(summary)))
}

/// The checkpoint at the end of the plateau of a run whose final decay has started: an extension continues
/// there, at the plateau's learning rate, as if the decay had not happened.
fn plateau(
    run: &RunDir,
    options: &TrainOptions,
    planned: u64,
    project: &Project,
    reporter: &mut dyn Reporter,
) -> Result<Option<u64>> {
    let folder = run.checkpoints();
    let checkpoints = train::Checkpoints::new(&RealFs, &folder);
    let Some(state) = checkpoints.latest_state(Part::All, reporter)? else { return Ok(None) };
    let planned = options.schedule(planned).plateau_end();
    let Some(end) = state.decaying_after.or(planned).filter(|&end| end < state.step) else {
        return Ok(None);
    };
    if checkpoints.verify(end).is_err() {
        let message = format!(
            "there is no intact checkpoint of step {end}, the last one before the learning-rate decay: \
             continuing from step {}, so the learning rate rises again",
            state.step
        );
        reporter.warning(Phase::Training, &message);
        return Ok(None);
    }
    let message = format!(
        "continuing from step {end}, the last one before the learning-rate decay; the checkpoints of the \
         decay (up to step {}) are discarded. To keep them, run `{}` and train that run",
        state.step,
        project.command(&format!("fork {} --from {end}", run.id()))
    );
    reporter.note(Phase::Training, &message);
    Ok(Some(end))
}

/// The length of a run of `steps` that is extended by `more`.
fn longer(steps: u64, more: u64) -> Result<u64> {
    /// Far more than any machine can do, and far below an overflow of token counts.
    const MOST: u64 = 1 << 40;
    steps.checked_add(more).filter(|&length| length <= MOST).ok_or_else(|| Error::Argument {
        message: format!("--more-epochs, --more-steps, --decay-now: a run can have at most {MOST} steps"),
    })
}

/// Adds to the error of damaged shards the command that makes them again with the run's recipe, since the
/// current one may differ.
fn with_remedy(error: Error, remedy: &str) -> Error {
    match &error {
        Error::Tokens(tokens) | Error::Training(train::Error::Tokens(tokens))
            if tokens.kind() == tokens::ErrorKind::Corrupt =>
        {
            Error::Data { message: format!("{error}. {remedy}") }
        }
        _ => error,
    }
}

/// Ends the plateau of a WSD schedule at `step`: the rest of the run is its decay.
fn decay_now(meta: &mut RunMeta, total_steps: u64, step: u64, steps: u64) -> Result<()> {
    let options = &mut meta.recipe.train;
    if !matches!(options.schedule, ScheduleKind::Wsd | ScheduleKind::Constant) {
        return Err(Error::Argument {
            message: "--decay-now needs a run whose learning rate is still at its peak: train.schedule = \
                      \"wsd\" or \"constant\". The learning rate of this run has been decaying since its \
                      warm-up"
                .to_owned(),
        });
    }
    if options.phase.iter().any(|phase| phase.schedule.is_some()) {
        return Err(Error::Argument {
            message: "--decay-now: the phases of this run define its learning-rate schedule (train.phase); \
                      start a new run instead"
                .to_owned(),
        });
    }
    let warmup_steps = options.schedule(total_steps).warmup_steps();
    if step < warmup_steps {
        return Err(Error::Argument {
            message: format!(
                "--decay-now: the checkpoint of step {step} is within the warm-up, which ends at step \
                 {warmup_steps}: train further first"
            ),
        });
    }
    // A ratio would change with the run's length.
    options.warmup_steps = Some(warmup_steps);
    options.schedule = ScheduleKind::Wsd;
    options.extend(total_steps, longer(step, steps)?, Some(step));
    options.decay_fraction = steps as f64 / (step + steps) as f64;
    Ok(())
}

/// The step that a resume starts from.
fn checkpoint_step(run: &RunDir, which: Which) -> Result<u64> {
    let newest =
        || train::Checkpoints::new(&RealFs, &run.checkpoints()).steps().map(|steps| steps.last().copied());
    match which {
        Which::Step(step) => Ok(step),
        Which::Latest => newest()?.ok_or_else(|| Error::Argument {
            message: format!("run {} has no checkpoint to decay from yet", run.id()),
        }),
        Which::Best => Err(Error::Argument {
            message: "--decay-now: select the checkpoint by its step (--checkpoint N), or omit --checkpoint \
                      for the newest one"
                .to_owned(),
        }),
    }
}

fn trained(run: RunDir, lock: RunLock, meta: RunMeta, outcome: &train::Outcome, stop: StopFlag) -> Trained {
    Trained {
        run,
        meta,
        step: outcome.step,
        train_loss: outcome.train_loss,
        validation_loss: outcome.validation_loss,
        best_validation_loss: outcome.best.map(|best| best.loss),
        reused: false,
        stop,
        _lock: lock,
    }
}

fn summary(outcome: &train::Outcome) -> String {
    let loss = outcome.train_loss.map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
    let validation =
        outcome.best.map(|best| format!(", best validation loss {:.4}", best.loss)).unwrap_or_default();
    let speed = if outcome.steps_this_session > 0 {
        format!(", {:.0} tokens/s", outcome.tokens_per_s)
    } else {
        String::new()
    };
    format!("{} steps{loss}{validation}{speed}", outcome.step)
}

/// Fills in values that are known once the text is tokenized.
fn describe(meta: &mut RunMeta, prepared: &Prepared) {
    meta.model = Some(prepared.model.clone());
    meta.parameters = Some(prepared.model.parameter_count().total as u64);
    meta.inputs = inputs(prepared);
    meta.stop_ids.clone_from(&prepared.stop_ids);
}

fn inputs(prepared: &Prepared) -> RunInputs {
    RunInputs {
        documents: prepared.documents_hash.clone(),
        tokenizer: prepared.tokenizer.hash().to_owned(),
        tokens: prepared.tokens_hash.clone(),
        base: prepared.base_hash.clone(),
    }
}

/// Returns an error if a run would be continued on other text; the run is not changed.
fn same_inputs(run: &RunDir, meta: &RunMeta, prepared: &Prepared) -> Result<()> {
    let (was, is) = (&meta.inputs, inputs(prepared));
    if was.tokens == is.tokens && was.tokenizer == is.tokenizer && was.base == is.base {
        return Ok(());
    }
    if was.base != is.base {
        return Err(other_data(&run.id(), "model that it starts from"));
    }
    Err(other_data(&run.id(), if was.tokenizer == is.tokenizer { "text" } else { "text or the tokenizer" }))
}

fn other_data(run_id: &str, what: &str) -> Error {
    Error::Argument {
        message: format!(
            "run {run_id} was started with other data: the {what} has changed since. Restore it (the run was \
             not changed), or start a new run without --resume"
        ),
    }
}

fn open(tokens: &Path, split: Split, meta: &RunMeta) -> Result<TokenDataset> {
    Ok(TokenDataset::open(&RealFs, tokens, split, &meta.inputs.tokenizer)?)
}

fn copy_metrics(run: &RunDir, to: &Path) -> Result<()> {
    let from = run.path().join("training_metrics.json");
    if RealFs.exists(&from) {
        let bytes = RealFs.read(&from).map_err(store::Error::io("read", &from))?;
        store::atomic::write(&RealFs, to, &bytes)?;
    }
    Ok(())
}

/// A session of training.
struct Session<'a> {
    run: &'a RunDir,
    lock: &'a RunLock,
    meta: &'a RunMeta,
    project: &'a Project,
    /// The command that continues it after a stop.
    resume_command: String,
    start: Start,
    target: Target,
}

impl Session<'_> {
    fn train(&self, stop: &StopFlag, reporter: &mut dyn Reporter) -> Result<train::Outcome> {
        let config = self.meta.model.clone().ok_or_else(|| Error::Argument {
            message: format!("run {} has no model shape yet", self.run.id()),
        })?;
        let options = &self.meta.recipe.train;
        prerequisites::check_device(options, self.target)?;
        let training = open(&self.project.tokens(), Split::Train, self.meta)?;
        let validation = open(&self.project.tokens(), Split::Validation, self.meta)?;
        let validation = (validation.token_count() > 0).then_some(&validation);
        let of_phase = |phase: &train::PhaseOptions| {
            let own = phase.mix.is_some().then(|| self.project.phase_tokens(&phase.name));
            own.map(|tokens| open(&tokens, Split::Train, self.meta)).transpose()
        };
        let phases = options.phase.iter().map(of_phase).collect::<Result<Vec<_>>>()?;
        if validation.is_none() {
            reporter.warning(
                Phase::Training,
                "there is no validation text: the best checkpoint is unknown, the last one is used",
            );
        }
        let done = match self.start {
            Start::Fresh => 0,
            Start::Resume(_) => self.run.read_state(&RealFs).map_or(0, |state| state.step),
        };
        // Open before memory is forecast, since its tokenizer stays.
        let base = BaseModel::of_run(self.run, self.meta)?;
        let forecast =
            forecast::before(self.meta, training.token_count() as u64, done, self.target, reporter)?;
        let tuning = self.meta.recipe.tuning();
        let micro_batch_size = train::micro_batch_size(&config, options, &tuning, self.target);
        let laid_out = options.training(micro_batch_size, self.target, &tuning);
        let mut model = TrainingModel::new(self.target.open()?, config.clone(), laid_out)?;
        if let Some(base) = &base {
            base.load(model.weights_mut())?;
            reporter.note(Phase::Training, &trained_parameters(&model));
        }
        let mut sampler = Sampler {
            run: self.run,
            meta: self.meta,
            target: self.target,
            base: base.as_ref(),
            validation,
            stop,
        };
        let job = Job {
            fs: &RealFs,
            run: self.run,
            lock: self.lock,
            options,
            start: self.start,
            base: base.as_ref().map(|base| base as &dyn train::Base),
            preference: self.meta.recipe.preference(),
            trained_with: &self.meta.trained_with,
            training: &training,
            phases: &phases,
            validation,
            stop,
            patience: Patience::default(),
            environment: train::environment(self.target),
        };
        let outcome = train::train(&mut model, &job, Some(&mut sampler), reporter);
        drop(model);
        // A failed run has a history too. Its error is reported, not one of copying.
        let copied = copy_metrics(self.run, &self.project.training_metrics());
        let outcome = outcome?;
        copied?;
        if let Some(forecast) = forecast.filter(|_| outcome.steps_this_session > 0) {
            forecast.compare(&outcome, reporter);
        }
        if let Err(error) = curves::draw(self.run, &self.meta.recipe.name) {
            // A failed plot must not fail a finished training.
            reporter.warning(Phase::Training, &format!("the loss curve could not be drawn: {error}"));
        }
        match outcome.ending {
            Ending::Completed => Ok(outcome),
            Ending::Stopped => Err(Error::Stopped(Stopped {
                phase: Some(Phase::Training),
                steps: Some((outcome.step, outcome.total_steps)),
                command: Some(self.resume_command.clone()),
            })),
        }
    }
}

/// How many of a model's parameters are trained.
fn trained_parameters(model: &TrainingModel<AnyDevice>) -> String {
    let count = |trained: bool| -> usize {
        let counted = model.weights().parameters().iter().filter(|p| !trained || p.is_trainable());
        counted.map(|parameter| parameter.len()).sum()
    };
    let (trained, all) = (count(true), count(false));
    format!(
        "training {trained} of {all} parameters ({:.2} %); frozen weights are kept as {}",
        100.0 * trained as f64 / all.max(1) as f64,
        model.weights().type_names()
    )
}
