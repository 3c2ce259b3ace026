//! Exports the selected checkpoint to `model/` in Hugging Face format; it is read back and compared before it
//! is put in place.

use std::collections::BTreeMap;
use std::path::Path;

use compute::AnyDevice;
use formats::hf::GenerationConfig;
use formats::model_card::{CardResult, CardSample, CardSection, ModelCard};
use model::adapter_folder::{self, BaseName};
use model::folder::{self, TokenIds};
use model::{AdapterConfig, DType, Precision, Weights};
use recipe::Recipe;
use runs::report::{Phase, Reporter};
use serde_json::json;
use store::fs::RealFs;
use store::stage::{Stage, StagedFolder};
use tokenizer::Tokenizer;

use super::data::Prepared;
use super::examples::renderer_of;
use super::phase::Done;
use super::request::Request;
use super::trained::Trained;
use super::validation::Evaluation;
use crate::base::BaseModel;
use crate::generate::{Extent, Generator, Options};
use crate::hub;
use crate::open_model::GENERATION_FILE;
use crate::{Error, Result};

/// Name of the stage; the number changes when the files' meaning does.
pub(super) const STAGE: &str = "export-1";
/// Maximum logit difference between checkpoint and export: none, since both have the same f32 values.
const MAXIMUM_LOGIT_DIFFERENCE: f32 = 0.0;
const GREEDY_TOKENS: usize = 32;

pub(super) fn export(
    request: &Request<'_>,
    prepared: &Prepared,
    trained: &Trained,
    evaluation: &Evaluation,
    reporter: &mut dyn Reporter,
) -> Result<((), Done)> {
    let target = request.project.model();
    if !request.recipe.export.enabled {
        return Ok(((), Done::Reused("disabled (export.enabled = false)".to_owned())));
    }
    let disk = Error::disk(Phase::Export);
    let sampling = &request.recipe.validate;
    let options = json!({
        "export": request.recipe.export,
        "name": request.recipe.name,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    });
    let inputs = BTreeMap::from([
        ("checkpoint".to_owned(), evaluation.checkpoint_hash.clone()),
        ("tokenizer".to_owned(), prepared.tokenizer.hash().to_owned()),
    ]);
    let stage = Stage { name: STAGE, options, inputs };
    if stage.current(&RealFs, &target).map_err(&disk)?.is_some() {
        return Ok((
            (),
            Done::Reused("model/ already has this checkpoint, and every file verifies".to_owned()),
        ));
    }
    trained.check_stop()?;
    let step = evaluation.checkpoint_step.to_string();
    let extent = Extent::new(compared_prompts(evaluation), GREEDY_TOKENS);
    let mut checkpoint = Generator::open_run(&trained.run, &step, request.target, None, &extent)?;
    let staged = stage.begin(&RealFs, &target).map_err(&disk)?;
    write(request, prepared, trained, evaluation, &mut checkpoint, &staged)?;
    trained.check_stop()?;
    let difference = compare(&mut checkpoint, staged.path(), evaluation, request, &target)?;
    trained.check_stop()?;
    let made = staged.commit(stage.manifest()).map_err(&disk)?;
    reporter.kept(Phase::Export, &made);
    let manifest = made.manifest;
    let bytes: u64 = manifest.outputs.values().map(|file| file.bytes).sum();
    reporter.note(
        Phase::Export,
        &format!("read back and compared: largest logit difference {difference:e}, greedy text equal"),
    );
    let summary = format!("wrote model/ with {} files, {:.1} MB", manifest.outputs.len(), bytes as f64 / 1e6);
    Ok(((), Done::Worked(summary)))
}

/// What belongs beside weights.
pub(crate) struct Beside<'a> {
    tokenizer: &'a Tokenizer,
    /// Of a chat model, in Jinja.
    chat_template: Option<String>,
    /// Ids that end a text.
    stop_ids: Vec<u32>,
}

impl<'a> Beside<'a> {
    /// Of a model that was trained on text.
    pub fn of(tokenizer: &'a Tokenizer) -> Beside<'a> {
        Beside { tokenizer, chat_template: None, stop_ids: tokenizer.eos_id().into_iter().collect() }
    }

    /// Of a trained run: the chat template that its examples were rendered with, else its base's.
    fn of_run(trained: &Trained, tokenizer: &'a Tokenizer, base: Option<&BaseModel>) -> Result<Beside<'a>> {
        let Some(base) = base else { return Ok(Beside::of(tokenizer)) };
        let template = match &trained.meta.recipe.finetune {
            Some(options) => renderer_of(options, &trained.meta.base_dir, base)?.template().cloned(),
            None => base.chat_template()?,
        };
        let chat_template = template.map(|template| template.source(true).to_owned());
        Ok(Beside { tokenizer, chat_template, stop_ids: trained.meta.stop_ids.clone() })
    }

    fn write(
        &self,
        to: &StagedFolder<'_>,
        model_max_length: Option<usize>,
        sampling: GenerationConfig,
    ) -> Result<()> {
        self.tokenizer.save(to.fs(), to.path(), model_max_length)?;
        if let Some(template) = &self.chat_template {
            store::atomic::write(
                to.fs(),
                &to.path().join(tokenizer::chat::TEMPLATE_FILE),
                template.as_bytes(),
            )?;
        }
        let generation = GenerationConfig {
            bos_token_id: self.tokenizer.bos_id(),
            eos_token_ids: self.stop_ids.clone(),
            pad_token_id: self.tokenizer.pad_id(),
            ..sampling
        };
        Ok(generation.write(to.fs(), &to.path().join(GENERATION_FILE))?)
    }
}

/// Writes weights, configuration, tokenizer and generation defaults for other programs.
pub(crate) fn write_model(
    to: &StagedFolder<'_>,
    weights: &mut Weights<AnyDevice>,
    beside: &Beside<'_>,
    sampling: GenerationConfig,
) -> Result<()> {
    let tokenizer = beside.tokenizer;
    let ids = TokenIds { bos: tokenizer.bos_id(), eos: tokenizer.eos_id(), pad: tokenizer.pad_id() };
    folder::save(to.fs(), to.path(), weights, ids)?;
    beside.write(to, Some(weights.config().max_position_embeddings), sampling)
}

/// Writes an adapter for PEFT.
fn write_adapter(
    to: &StagedFolder<'_>,
    weights: &mut Weights<AnyDevice>,
    (adapter, quantization): (&AdapterConfig, Option<DType>),
    base: &BaseModel,
) -> Result<()> {
    let path = std::path::absolute(base.path()).unwrap_or_else(|_| base.path().to_owned());
    let (name, revision) = match hub::name_of(&path) {
        Some((name, commit)) => (name, Some(commit)),
        None => (path.display().to_string(), None),
    };
    let hash = Some(base.weights_hash().to_owned());
    let base_name = BaseName {
        name: Some(name),
        revision,
        hash,
        quantization,
        fused_projections: base.has_fused_projections(),
    };
    Ok(adapter_folder::save(to.fs(), to.path(), weights, adapter, &base_name)?)
}

fn write(
    request: &Request<'_>,
    prepared: &Prepared,
    trained: &Trained,
    evaluation: &Evaluation,
    checkpoint: &mut Generator,
    to: &StagedFolder<'_>,
) -> Result<()> {
    let sampling = GenerationConfig {
        do_sample: Some(true),
        temperature: Some(request.recipe.validate.temperature.max(0.01)),
        top_p: Some(request.recipe.validate.top_p),
        ..GenerationConfig::default()
    };
    let base = BaseModel::of_run(&trained.run, &trained.meta)?;
    let beside = Beside::of_run(trained, &prepared.tokenizer, base.as_ref())?;
    let tuning = trained.meta.recipe.tuning();
    match (&tuning.adapter, &base) {
        (Some(adapter), Some(base)) => {
            write_adapter(to, checkpoint.weights_mut(), (adapter, tuning.quantization()), base)?;
            beside.write(to, None, sampling)?;
        }
        _ => write_model(to, checkpoint.weights_mut(), &beside, sampling)?,
    }
    let card = card(request, prepared, trained, evaluation).to_markdown();
    store::atomic::write(to.fs(), &to.path().join("README.md"), card.as_bytes())
        .map_err(Error::disk(Phase::Export))
}

/// Prompts after which the export must generate the same text as the checkpoint.
fn compared_prompts(evaluation: &Evaluation) -> impl Iterator<Item = &str> {
    evaluation.samples.iter().map(|sample| sample.prompt.as_str()).chain([""])
}

/// Opens the written folder like any program and compares it with the checkpoint.
fn compare(
    checkpoint: &mut Generator,
    written: &Path,
    evaluation: &Evaluation,
    request: &Request<'_>,
    target: &Path,
) -> Result<f32> {
    let refuse = |message: String| Error::Export { folder: target.to_owned(), message };
    let extent = Extent::new(compared_prompts(evaluation), GREEDY_TOKENS);
    // As the checkpoint was opened: in f32, or an adapter's base in its own type.
    let dtype = request.recipe.tuning().adapter.is_none().then_some(DType::F32);
    let mut export = Generator::open_folder(written, request.target, dtype, &extent)?;
    let mut largest = 0.0f32;
    for prompt in compared_prompts(evaluation) {
        let (a, b) = (checkpoint.logits(prompt)?, export.logits(prompt)?);
        for (a, b) in a.iter().zip(&b) {
            let difference = (a - b).abs();
            if difference.is_nan() || difference > MAXIMUM_LOGIT_DIFFERENCE {
                return Err(refuse(format!("a logit after {prompt:?} is {b}, not {a}")));
            }
            largest = largest.max(difference);
        }
        let greedy = Options::greedy(GREEDY_TOKENS);
        let a = checkpoint.generate(prompt, &greedy, &mut |_| true)?.text;
        let b = export.generate(prompt, &greedy, &mut |_| true)?.text;
        if a != b {
            return Err(refuse(format!("after {prompt:?} it generates {b:?}, the checkpoint {a:?}")));
        }
    }
    Ok(largest)
}

/// What the model is, in the model card.
fn summary(recipe: &Recipe, parameters: usize) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let how = match (&recipe.train.init, recipe.tuning().adapter) {
        (None, _) => format!(
            "A language model with {parameters} parameters, trained from scratch with text2llm {version}. It \
             continues text; it was not tuned to follow instructions"
        ),
        (Some(init), Some(adapter)) => format!(
            "A LoRA adapter of rank {} for `{init}` ({parameters} parameters), trained with text2llm {version}",
            adapter.rank
        ),
        (Some(init), None) => format!(
            "A language model with {parameters} parameters: `{init}`, trained further with text2llm {version}"
        ),
    };
    format!("{how}. Its output may be wrong.")
}

fn card(request: &Request<'_>, prepared: &Prepared, trained: &Trained, evaluation: &Evaluation) -> ModelCard {
    let recipe = &trained.meta.recipe;
    let model = &prepared.model;
    let parameters = model.parameter_count().total;
    let languages = match request.recipe.export.languages.as_slice() {
        [] => prepared.languages.clone(),
        given => given.to_vec(),
    };
    let result = |metric_type: &str, metric_name: &str, value: Option<f64>| {
        value.map(|value| CardResult {
            dataset_name: "Validation split of the training corpus".to_owned(),
            split: "validation".to_owned(),
            metric_type: metric_type.to_owned(),
            metric_name: metric_name.to_owned(),
            value,
        })
    };
    let results = [
        result("loss", "Validation loss (nats per token)", evaluation.validation_loss),
        result("perplexity", "Perplexity", evaluation.perplexity),
        result("bits_per_byte", "Validation loss (bits per byte)", evaluation.bits_per_byte),
    ];
    let row = |name: &str, value: String| (name.to_owned(), value);
    let train = &recipe.train;
    let sections = vec![
        CardSection {
            title: "Model".to_owned(),
            rows: vec![
                row("Parameters", parameters.to_string()),
                row("Layers", model.num_hidden_layers.to_string()),
                row("Width", model.hidden_size.to_string()),
                row(
                    "Heads (key/value)",
                    format!("{} ({})", model.num_attention_heads, model.num_key_value_heads),
                ),
                row("Feed-forward width", model.intermediate_size.to_string()),
                row("Vocabulary", model.vocab_size.to_string()),
                row("Context", model.max_position_embeddings.to_string()),
            ],
        },
        CardSection {
            title: "Training".to_owned(),
            rows: vec![
                row("Text", prepared.text_in_words.clone()),
                row("Steps", format!("{} (this checkpoint: {})", trained.step, evaluation.checkpoint_step)),
                row("Batch", format!("{} sequences of {} tokens", train.batch_size, train.sequence_length)),
                row(
                    "Learning rate",
                    format!("{} ({:?})", train.learning_rate, train.schedule).to_lowercase(),
                ),
                row(
                    "Training loss of this checkpoint",
                    evaluation
                        .training_loss
                        .map_or_else(String::new, |loss| format!("{loss:.4} nats per token")),
                ),
                row(
                    "Arithmetic",
                    match train.precision {
                        Some(Precision::F32) => "f32",
                        _ => "bfloat16 operands, f32 accumulation and master weights",
                    }
                    .to_owned(),
                ),
                row("Seed", train.seed.to_string()),
                row("Run", trained.run.id()),
                row("Tokenizer (BLAKE3)", prepared.tokenizer.hash().to_owned()),
                row("Token shards (BLAKE3)", prepared.tokens_hash.clone()),
                row("Checkpoint (BLAKE3)", evaluation.checkpoint_hash.clone()),
            ],
        },
        CardSection {
            title: "Generation on the training machine".to_owned(),
            rows: vec![
                row("Resident memory", format!("{:.0} MB", evaluation.generation.rss_mb)),
                row(
                    &format!("p95 latency of {} tokens", evaluation.generation.tokens),
                    format!("{:.0} ms", evaluation.generation.p95_ms),
                ),
            ],
        },
    ];
    ModelCard {
        name: recipe.name.clone(),
        summary: summary(recipe, parameters),
        base_model: recipe.train.init.clone(),
        license: Some(request.recipe.export.license.clone()).filter(|license| !license.is_empty()),
        languages,
        results: results.into_iter().flatten().collect(),
        sections,
        samples: evaluation
            .samples
            .iter()
            .map(|sample| CardSample {
                prompt: sample.prompt.clone(),
                text: format!("{}{}", sample.prompt, sample.text),
            })
            .collect(),
        ..ModelCard::default()
    }
}
