//! The validation phase: losses of the selected checkpoint, samples in each language, repetition, and memory
//! and latency of generation in a separate process.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use compute::Batch;
use model::{Evaluator, Precision, TrainingModel};
use runs::report::{Event, Phase, Reporter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::fs::{Fs, RealFs};
use store::stage::Stage;
use tokens::{Split, TokenDataset};
use train::StopFlag;
use train::checkpoint::{Checkpoints, Part, Which};

use super::data::Prepared;
use super::phase::Done;
use super::request::Request;
use super::trained::Trained;
use crate::base::BaseModel;
use crate::error::Unmet;
use crate::generate::{Extent, Generator, Options};
use crate::measure::{self, Generation};
use crate::{Error, Result};
use recipe::{CheckpointChoice, ValidateOptions};

/// Name of the stage; the number changes when the meaning of a value does.
pub(super) const STAGE: &str = "evaluation-1";

/// The content of `evals/results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Id of the run.
    pub run_id: String,
    /// Step of the evaluated checkpoint.
    pub checkpoint_step: u64,
    /// Hash of its manifest.
    pub checkpoint_hash: String,
    /// Mean loss over the validation set, in nats per token.
    pub validation_loss: Option<f64>,
    /// exp(validation_loss).
    pub perplexity: Option<f64>,
    /// Mean loss over as much of the training set, with the same weights, in nats per token.
    pub training_loss: Option<f64>,
    /// validation_loss − training_loss.
    pub loss_gap: Option<f64>,
    /// Validation loss in bits per byte of text, which does not depend on the tokenizer.
    pub bits_per_byte: Option<f64>,
    /// Fraction of token 4-grams in the samples that occurred before.
    pub repetition: f64,
    /// Memory and speed of generation.
    pub generation: Generation,
    /// Samples.
    pub samples: Vec<Sample>,
    /// The limits at the time of measurement.
    pub limits: ValidateOptions,
    /// Values that exceed their limits.
    pub unmet: Vec<String>,
}

/// A sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// ISO 639-1 code, if the prompt is from a document with a known language.
    pub language: Option<String>,
    /// The prompt.
    pub prompt: String,
    /// The generated text, without the prompt.
    pub text: String,
}

pub(super) fn which(choice: CheckpointChoice) -> &'static str {
    match choice {
        CheckpointChoice::Best => "best",
        CheckpointChoice::Latest => "latest",
    }
}

pub(super) fn validate(
    request: &Request<'_>,
    prepared: &Prepared,
    trained: &Trained,
    reporter: &mut dyn Reporter,
) -> Result<(Evaluation, Done)> {
    let folder = request.project.evals();
    let choice = which(request.recipe.export.checkpoint);
    let (step, checkpoint_hash) = chosen(trained, request.recipe.export.checkpoint, reporter)?;
    let options = json!({ "validate": request.recipe.validate, "checkpoint": choice });
    let inputs = BTreeMap::from([
        ("checkpoint".to_owned(), checkpoint_hash.clone()),
        ("tokens".to_owned(), prepared.tokens_hash.clone()),
    ]);
    let stage = Stage { name: STAGE, options, inputs };
    let disk = Error::disk(Phase::Validation);
    if stage.current(&RealFs, &folder).map_err(&disk)?.is_some()
        && let Ok(evaluation) = store::atomic::read_json::<Evaluation>(&RealFs, &folder.join("results.json"))
        && evaluation.unmet.is_empty()
    {
        let reason =
            format!("the checkpoint of step {step} has already been evaluated: {}", summary(&evaluation));
        return Ok((evaluation, Done::Reused(reason)));
    }

    let limits = &request.recipe.validate;
    let losses = losses(request, prepared, trained, step)?;
    let prompts = sample_prompts(prepared, limits);
    let extent = Extent::new(prompts.iter().map(|(_, prompt)| prompt.as_str()), limits.sample_tokens);
    let mut generator = Generator::open_run(&trained.run, &step.to_string(), request.target, None, &extent)?;
    let (samples, repetition) = samples(&mut generator, prompts, limits, &trained.stop)?;
    trained.check_stop()?;
    for sample in &samples {
        reporter.event(&Event::Sample { step, prompt: sample.prompt.clone(), text: sample.text.clone() });
    }
    drop(generator);
    trained.check_stop()?;
    let prompt = samples.first().map_or("", |sample| sample.prompt.as_str());
    let generation = measure::generation(request, &trained.run, step, prompt, &trained.stop, reporter)?;
    let generation = generation.ok_or_else(crate::stop::stopped)?;
    let loss_gap = losses.validation.zip(losses.training).map(|(validation, training)| validation - training);
    let mut evaluation = Evaluation {
        run_id: trained.run.id(),
        checkpoint_step: step,
        checkpoint_hash,
        validation_loss: losses.validation,
        perplexity: losses.validation.map(f64::exp),
        training_loss: losses.training,
        loss_gap,
        bits_per_byte: losses.bits_per_byte,
        repetition,
        generation,
        samples,
        limits: limits.clone(),
        unmet: Vec::new(),
    };
    let unmet = unmet(&evaluation);
    evaluation.unmet = unmet.iter().map(|gate| gate.key.to_owned()).collect();

    let staged = stage.begin(&RealFs, &folder).map_err(&disk)?;
    store::atomic::write_json(&RealFs, &staged.path().join("results.json"), &evaluation).map_err(&disk)?;
    write_text(&staged.path().join("report.md"), &report(&evaluation, &request.recipe.name))
        .map_err(&disk)?;
    let made = staged.commit(stage.manifest()).map_err(&disk)?;
    reporter.kept(Phase::Validation, &made);
    if !unmet.is_empty() {
        return Err(Error::Gates { unmet, report: folder.join("report.md") });
    }
    let summary = summary(&evaluation);
    Ok((evaluation, Done::Worked(summary)))
}

/// The step and the manifest hash of the checkpoint that the recipe selects.
fn chosen(trained: &Trained, choice: CheckpointChoice, reporter: &mut dyn Reporter) -> Result<(u64, String)> {
    let folder = trained.run.checkpoints();
    let checkpoints = Checkpoints::new(&RealFs, &folder);
    checkpoints.repair()?;
    let mut newest = |part| {
        checkpoints.latest_state(part, reporter)?.ok_or_else(|| Error::Argument {
            message: format!(
                "run {} has no checkpoint: train again with `text2llm run --fresh`",
                trained.run.id()
            ),
        })
    };
    let best = match choice {
        CheckpointChoice::Best => newest(Part::Weights)?.best,
        CheckpointChoice::Latest => None,
    };
    let step = match best {
        Some(best) => best.step,
        None => newest(Part::Weights)?.step,
    };
    let manifest = checkpoints.verify_part(step, Part::Weights)?;
    Ok((step, manifest.hash()))
}

struct Losses {
    validation: Option<f64>,
    training: Option<f64>,
    bits_per_byte: Option<f64>,
}

/// Σ weight · loss and Σ weight of a batch, by a checkpoint's weights.
type Loss = Box<dyn FnMut(&Batch) -> (f64, f64)>;

/// The loss under a checkpoint, in f32, like programs that load the exported weights; of an adapter with its
/// base as in training, where a copy in f32 might not fit. Also the micro-batch, which does not affect it.
fn loss_at(
    request: &Request<'_>,
    prepared: &Prepared,
    trained: &Trained,
    step: u64,
) -> Result<(Loss, usize)> {
    let tuning = trained.meta.recipe.tuning();
    let device = request.target.open()?;
    let config = prepared.model.clone();
    if tuning.adapter.is_some() {
        let options = &trained.meta.recipe.train;
        let micro_batch_size = train::micro_batch_size(&config, options, &tuning, request.target);
        let training = options.training(micro_batch_size, request.target, &tuning);
        let mut model = TrainingModel::new(device, config, training)?;
        if let Some(base) = BaseModel::of_run(&trained.run, &trained.meta)? {
            base.load(model.weights_mut())?;
        }
        crate::generate::load_weights(&trained.run, Which::Step(step), model.weights_mut())?;
        let preference = trained.meta.recipe.preference();
        let loss = move |batch: &Batch| match &preference {
            Some(preference) => {
                let found = model.evaluate_pairs(batch, preference);
                (found.loss_sum, found.pairs as f64)
            }
            None => train::weighted(model.evaluate(batch), batch),
        };
        return Ok((Box::new(loss), micro_batch_size));
    }
    let options = train::TrainOptions {
        precision: Some(Precision::F32),
        micro_batch_size: 0,
        ..trained.meta.recipe.train.clone()
    };
    let micro_batch_size = train::micro_batch_size(&config, &options, &tuning, request.target);
    let evaluation = model::Evaluation {
        logits_bytes: request.target.logits_bytes(),
        ..model::Evaluation::new(micro_batch_size, options.sequence_length, Precision::F32)
    };
    let mut model = Evaluator::new(device, config, evaluation)?;
    crate::generate::load_weights(&trained.run, Which::Step(step), model.weights_mut())?;
    let loss = move |batch: &Batch| train::weighted(model.evaluate(batch), batch);
    Ok((Box::new(loss), micro_batch_size))
}

/// Measures both losses with the same weights and code; the training loss over as many sequences as the
/// validation set has, spread evenly over the training tokens.
fn losses(request: &Request<'_>, prepared: &Prepared, trained: &Trained, step: u64) -> Result<Losses> {
    let (mut loss, micro_batch_size) = loss_at(request, prepared, trained, step)?;
    let sequence_length = trained.meta.recipe.train.sequence_length;
    let stop = &trained.stop;
    let tokens = request.project.tokens();
    let open = |split| TokenDataset::open(&RealFs, &tokens, split, prepared.tokenizer.hash());
    let validation = open(Split::Validation)?;
    if validation.token_count() == 0 {
        return Ok(Losses { validation: None, training: None, bits_per_byte: None });
    }
    let sequences = validation.token_count().div_ceil(sequence_length as u64);
    let batches = validation.batches(micro_batch_size, sequence_length);
    let on_validation = train::evaluate(&mut loss, batches, stop)?;
    let training = open(Split::Train)?;
    let batches = training.spread_batches(micro_batch_size, sequence_length, sequences);
    let on_training = train::evaluate(&mut loss, batches, stop)?;
    trained.check_stop()?;
    let bits_per_byte = on_validation.map(|evaluation| {
        // Nats over the whole set, converted to bits per byte of its text.
        evaluation.loss * evaluation.tokens / std::f64::consts::LN_2 / prepared.validation_bytes.max(1) as f64
    });
    Ok(Losses {
        validation: on_validation.map(|evaluation| evaluation.loss),
        training: on_training.map(|evaluation| evaluation.loss),
        bits_per_byte: bits_per_byte.filter(|_| prepared.validation_bytes > 0),
    })
}

/// The recipe's prompts, or the first words of a validation document per language, with the language.
fn sample_prompts(prepared: &Prepared, limits: &ValidateOptions) -> Vec<(Option<String>, String)> {
    if limits.prompts.is_empty() {
        prepared.openings.clone()
    } else {
        limits.prompts.iter().map(|prompt| (None, prompt.clone())).collect()
    }
}

/// Samples for those prompts, and the fraction of repeated 4-grams in them.
fn samples(
    generator: &mut Generator,
    prompts: Vec<(Option<String>, String)>,
    limits: &ValidateOptions,
    stop: &StopFlag,
) -> Result<(Vec<Sample>, f64)> {
    let mut samples = Vec::new();
    let (mut repeated, mut total) = (0, 0);
    for (index, (language, prompt)) in prompts.into_iter().enumerate() {
        let options = Options {
            temperature: limits.temperature,
            top_p: limits.top_p,
            seed: index as u64,
            ..Options::greedy(limits.sample_tokens)
        };
        let generated = generator.generate(&prompt, &options, &mut |_| !stop.is_raised())?;
        let mut seen = HashSet::new();
        for four in generated.ids.windows(4) {
            total += 1;
            repeated += usize::from(!seen.insert(four.to_vec()));
        }
        samples.push(Sample { language, prompt, text: generated.text });
    }
    Ok((samples, repeated as f64 / total.max(1) as f64))
}

fn unmet(evaluation: &Evaluation) -> Vec<Unmet> {
    let limits = &evaluation.limits;
    let figures = [
        (
            "maximum_validation_loss",
            evaluation.validation_loss,
            limits.maximum_validation_loss,
            "nats per token",
        ),
        ("maximum_loss_gap", evaluation.loss_gap, limits.maximum_loss_gap, "nats per token"),
        ("maximum_repetition", Some(evaluation.repetition), limits.maximum_repetition, "of all 4-grams"),
        ("maximum_rss_mb", Some(evaluation.generation.rss_mb), limits.maximum_rss_mb, "MB"),
        ("maximum_p95_ms", Some(evaluation.generation.p95_ms), limits.maximum_p95_ms, "ms"),
    ];
    figures
        .into_iter()
        .filter_map(|(key, value, limit, unit)| Some(Unmet { key, value: value?, limit: limit?, unit }))
        // NaN exceeds any limit.
        .filter(|gate| gate.value.is_nan() || gate.value > gate.limit)
        .collect()
}

fn summary(evaluation: &Evaluation) -> String {
    let loss = match (evaluation.validation_loss, evaluation.loss_gap) {
        (Some(loss), Some(gap)) => format!("validation loss {loss:.4} ({gap:+.3} vs. training), "),
        (Some(loss), None) => format!("validation loss {loss:.4}, "),
        _ => String::new(),
    };
    format!(
        "{loss}repetition {:.2}, generation: {:.0} MB resident, p95 {:.0} ms for {} tokens",
        evaluation.repetition,
        evaluation.generation.rss_mb,
        evaluation.generation.p95_ms,
        evaluation.generation.tokens
    )
}

fn report(evaluation: &Evaluation, name: &str) -> String {
    let mut text = format!(
        "# Evaluation of {name}\n\nRun {}, checkpoint of step {}.\n\n| metric | value | limit \
         |\n|---|---|---|\n",
        evaluation.run_id, evaluation.checkpoint_step
    );
    let limits = &evaluation.limits;
    let mut row = |figure: &str, value: Option<f64>, unit: &str, limit: Option<f64>, key: &str| {
        let Some(value) = value else { return };
        let limit = limit.map_or_else(|| "–".to_owned(), |limit| format!("≤ {limit}"));
        let mark = if evaluation.unmet.iter().any(|unmet| unmet == key) { " **exceeded**" } else { "" };
        text.push_str(&format!("| {figure} | {value:.4} {unit} | {limit}{mark} |\n"));
    };
    row(
        "validation loss",
        evaluation.validation_loss,
        "nats per token",
        limits.maximum_validation_loss,
        "maximum_validation_loss",
    );
    row("perplexity", evaluation.perplexity, "", None, "");
    row("validation loss, bits per byte", evaluation.bits_per_byte, "bits", None, "");
    row("training loss, same weights", evaluation.training_loss, "nats per token", None, "");
    row(
        "gap to training loss",
        evaluation.loss_gap,
        "nats per token",
        limits.maximum_loss_gap,
        "maximum_loss_gap",
    );
    row(
        "repeated 4-grams",
        Some(evaluation.repetition),
        "of all 4-grams",
        limits.maximum_repetition,
        "maximum_repetition",
    );
    let generation = &evaluation.generation;
    row(
        "resident memory during generation",
        Some(generation.rss_mb),
        "MB",
        limits.maximum_rss_mb,
        "maximum_rss_mb",
    );
    row(
        &format!("p95 latency of {} tokens", generation.tokens),
        Some(generation.p95_ms),
        "ms",
        limits.maximum_p95_ms,
        "maximum_p95_ms",
    );
    row("median latency", Some(generation.median_ms), "ms", None, "");
    text.push_str(&format!(
        "\nGeneration was measured {} times {}.\n",
        generation.runs,
        if generation.own_process { "in a separate process" } else { "in the training process" }
    ));
    text.push_str("\n## Samples\n\nNeither selected nor edited.\n");
    for sample in &evaluation.samples {
        let language = sample.language.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
        text.push_str(&format!("\nPrompt{language}: {}\n\n", json!(sample.prompt)));
        // Indented, so that no generated text can end the block.
        for line in format!("{}{}", sample.prompt, sample.text).lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

fn write_text(path: &Path, text: &str) -> store::Result<()> {
    let mut file = RealFs.create(path).map_err(store::Error::io("write", path))?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(store::Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(limits: ValidateOptions) -> Evaluation {
        Evaluation {
            run_id: "r".into(),
            checkpoint_step: 1,
            checkpoint_hash: String::new(),
            validation_loss: Some(2.0),
            perplexity: Some(2f64.exp()),
            training_loss: Some(1.5),
            loss_gap: Some(0.5),
            bits_per_byte: None,
            repetition: 0.25,
            generation: Generation {
                runs: 3,
                tokens: 32,
                rss_mb: 100.0,
                p95_ms: f64::NAN,
                median_ms: 5.0,
                own_process: true,
            },
            samples: vec![Sample { language: None, prompt: "a".into(), text: "```\n# b".into() }],
            limits,
            unmet: Vec::new(),
        }
    }

    #[test]
    fn only_figures_beyond_a_given_limit_are_unmet() {
        let keys = |limits| unmet(&evaluation(limits)).iter().map(|gate| gate.key).collect::<Vec<_>>();
        assert!(keys(ValidateOptions::default()).is_empty());
        let limits = ValidateOptions {
            maximum_validation_loss: Some(2.0),
            maximum_loss_gap: Some(0.4),
            maximum_rss_mb: Some(99.0),
            maximum_p95_ms: Some(250.0),
            ..ValidateOptions::default()
        };
        assert_eq!(keys(limits), ["maximum_loss_gap", "maximum_rss_mb", "maximum_p95_ms"]);
    }

    #[test]
    fn a_sample_cannot_break_the_report() {
        let text = report(&evaluation(ValidateOptions::default()), "x");
        assert!(text.contains("\n    a```\n    # b\n"), "{text}");
    }
}
