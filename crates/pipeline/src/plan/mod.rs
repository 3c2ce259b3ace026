//! Plans: parameters, memory, tokens, FLOPs, disk and time of a recipe, before anything is computed.

mod memory;

use std::path::Path;

use compute::{DeviceKind, Target};
use model::plan::{forward_flops_per_token, training_flops_per_token};
use model::{MemoryPlan, ModelConfig, Optimizer, ParameterCount, Precision, Purpose, Training};
use serde::Serialize;
use tokenizer::Kind;
use train::RunLength;

use crate::base::BaseModel;
use crate::bench::time_parts;
use crate::prices::{Gpu, Rent};
use crate::project::Project;
use crate::{Result, shape, text};
pub use memory::Memory;
pub(crate) use memory::planned_bytes;
use recipe::Recipe;

/// Time limit of a calibration, in seconds.
const CALIBRATION_S: f64 = 3.0;
/// Below this number of tokens per parameter, a model learns little more than word frequencies.
const FEW_TOKENS_PER_PARAMETER: f64 = 0.2;
/// Shapes with more FLOPs per step than this are timed with fewer layers.
const CALIBRATION_FLOPS: f64 = 4e11;
/// The same limit on a GPU.
const GPU_CALIBRATION_FLOPS: f64 = 1e14;

/// The plan of a recipe.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The recipe's name.
    pub name: String,
    /// The model's shape.
    pub model: ModelConfig,
    /// Sequence length of training.
    pub sequence_length: usize,
    /// Precision of training on this machine.
    pub precision: Precision,
    /// Whether activation checkpointing is on.
    pub recompute: bool,
    /// Optimizer of the layers' weight matrices.
    pub optimizer: Optimizer,
    /// Whether a weight average is kept.
    pub average: bool,
    /// How a micro-batch is computed.
    #[serde(skip)]
    pub training: Training,
    /// Whether preference pairs are learned, which takes a forward of the base too.
    pub preference: bool,
    /// Parameters by part.
    pub parameters: Parameters,
    /// Memory of a training step, by part.
    pub memory: Memory,
    /// Training tokens.
    pub tokens: Tokens,
    /// Floating-point operations.
    pub flops: Flops,
    /// Approximate bytes on disk at the end.
    pub disk_bytes: u64,
    /// Time on this machine, once calibrated.
    pub time: Option<Time>,
    /// Estimate for a rented GPU, if requested.
    pub rent: Option<Rent>,
    /// If memory is insufficient: settings that would fit, as flags.
    pub fits_with: Option<String>,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// Parameters by part.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parameters {
    /// Token embedding; the output layer too when tied.
    pub embedding: u64,
    /// Attention of all layers.
    pub attention: u64,
    /// Feed-forward of all layers.
    pub feed_forward: u64,
    /// All norms.
    pub norms: u64,
    /// Output layer; 0 if tied.
    pub head: u64,
    /// Total.
    pub total: u64,
}

impl Parameters {
    /// Names and counts of the parts that are not empty.
    pub fn parts(&self) -> Vec<(&'static str, u64)> {
        let parts = [
            ("embedding", self.embedding),
            ("attention", self.attention),
            ("feed-forward", self.feed_forward),
            ("norms", self.norms),
            ("head", self.head),
        ];
        parts.into_iter().filter(|(_, number)| *number > 0).collect()
    }
}

impl From<ParameterCount> for Parameters {
    fn from(count: ParameterCount) -> Parameters {
        Parameters {
            embedding: count.embedding as u64,
            attention: count.attention as u64,
            feed_forward: count.mlp as u64,
            norms: count.norms as u64,
            head: count.head as u64,
            total: count.total as u64,
        }
    }
}

/// Training tokens.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tokens {
    /// Training tokens per epoch.
    pub available: u64,
    /// Training tokens of all epochs.
    pub trained: u64,
    /// Whether they are estimated from the size of the text, because it is not tokenized yet.
    pub estimated: bool,
    /// Number of epochs.
    pub epochs: Option<f64>,
    /// Optimizer steps.
    pub steps: u64,
    /// Sequences per step.
    pub batch_size: usize,
    /// `trained / parameters`.
    pub per_parameter: f64,
}

/// Floating-point operations of training.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Flops {
    /// Per token: [`training_flops_per_token`], and of preference pairs a forward of the base.
    pub per_token: f64,
    /// Of all trained tokens.
    pub total: f64,
}

/// Time measured on this machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Time {
    /// Time of the optimizer steps, without validation and saving.
    pub training_s: f64,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// GFLOP/s of the operations that [`Flops`] counts.
    pub model_gflops: f64,
    /// CPU threads used.
    pub threads: usize,
    /// Number of measured steps.
    pub measured_steps: usize,
}

/// The plan of a recipe in a project on a device. Uses the tokenized text if it exists, or else an estimate
/// from its size.
///
/// # Errors
/// Missing text; an invalid shape.
pub fn plan(recipe: &Recipe, project: &Project, base_dir: &Path, target: Target) -> Result<Plan> {
    // Checked even if there are tokens: a missing path must be reported now.
    let estimate = text::estimate_train_tokens(recipe, project, base_dir)?;
    let shape = BaseModel::shape_of(recipe, base_dir)?;
    match text::prepared_tokens(project).filter(|prepared| text::is_of_recipe(prepared, recipe)) {
        Some(prepared) => of_tokens(recipe, prepared.vocab_size, prepared.train_tokens, false, shape, target),
        None => of_tokens(recipe, expected_vocab_size(recipe), estimate, true, shape, target),
    }
}

/// The plan of a recipe whose text may be missing, from its prepared tokens.
pub(crate) fn of_prepared(
    recipe: &Recipe,
    project: &Project,
    base_dir: &Path,
    target: Target,
) -> Result<Plan> {
    let shape = BaseModel::shape_of(recipe, base_dir)?;
    match text::prepared_tokens(project) {
        Some(prepared) => of_tokens(recipe, prepared.vocab_size, prepared.train_tokens, false, shape, target),
        None => of_tokens(recipe, expected_vocab_size(recipe), 0, true, shape, target),
    }
}

/// The plan for a known number of training tokens. `shape`: that of the model that the run starts from.
pub(crate) fn of_tokens(
    recipe: &Recipe,
    vocab_size: usize,
    available: u64,
    estimated: bool,
    shape: Option<ModelConfig>,
    target: Target,
) -> Result<Plan> {
    let length = RunLength::new(&recipe.train, available);
    let model = match shape {
        Some(shape) => shape,
        None => shape::design(recipe, vocab_size, length.tokens_trained())?,
    };
    Ok(of_design(recipe, model, Available { tokens: available, estimated }, target))
}

/// The plan for a known shape.
pub(crate) fn of_shape(recipe: &Recipe, model: ModelConfig, available: u64, target: Target) -> Plan {
    of_design(recipe, model, Available { tokens: available, estimated: false }, target)
}

/// Training tokens per epoch.
struct Available {
    tokens: u64,
    estimated: bool,
}

fn of_design(recipe: &Recipe, model: ModelConfig, available: Available, target: Target) -> Plan {
    let options = &recipe.train;
    let Available { tokens: available, estimated } = available;
    let length = RunLength::new(options, available);
    let trained = length.tokens_trained();
    let parameters = Parameters::from(model.parameter_count());
    let memory = Memory::new(&model, recipe, !estimated, target);
    let training = options.training(memory.micro_batch_size, target, &recipe.tuning());
    let preference = recipe.preference().is_some();
    let of_base = match preference {
        true => forward_flops_per_token(&model, options.sequence_length),
        false => 0.0,
    };
    let per_token = training_flops_per_token(&model, &training) + of_base;
    let tokens = Tokens {
        available,
        trained,
        estimated,
        epochs: length.epochs(),
        steps: length.steps,
        batch_size: options.batch_size,
        per_parameter: trained as f64 / parameters.total.max(1) as f64,
    };
    // Weights, moments and average per checkpoint: the last ones, the best, and one being written.
    let each = if options.ema_decay > 0.0 { 16 } else { 12 };
    // Of adapters, nothing but what is trained is saved; that has gradients in f32.
    let is_adapter = recipe.tuning().adapter.is_some();
    let saved = if is_adapter { memory.plan.gradients_bytes as u64 / 4 } else { parameters.total };
    let checkpoints = each * saved * (options.keep_last as u64 + 2);
    let disk_bytes = checkpoints + 4 * saved + 4 * available + (16 << 20);
    let mut plan = Plan {
        name: recipe.name.clone(),
        sequence_length: options.sequence_length,
        precision: training.precision,
        recompute: training.recompute,
        optimizer: training.optimizer,
        average: training.average,
        training,
        preference,
        flops: Flops { per_token, total: per_token * trained as f64 },
        model,
        parameters,
        memory,
        tokens,
        disk_bytes,
        time: None,
        rent: None,
        fits_with: None,
        warnings: Vec::new(),
    };
    plan.fits_with = fits_with(&plan, recipe, target);
    plan.warnings = warnings(&plan, recipe);
    plan
}

/// The first settings that fit into memory: first those that keep results bit-identical, then smaller
/// micro-batches.
fn fits_with(plan: &Plan, recipe: &Recipe, target: Target) -> Option<String> {
    let available = plan.memory.available_bytes.filter(|&available| plan.memory.total_bytes > available)?;
    let now = plan.memory.micro_batch_size;
    let divisors = (1..=now).rev().filter(|micro| recipe.train.batch_size.is_multiple_of(*micro));
    for micro_batch_size in divisors {
        for recompute in [plan.recompute, true] {
            let mut trial = recipe.clone();
            (trial.train.micro_batch_size, trial.train.recompute) = (micro_batch_size, recompute);
            let needed = Memory::new(&plan.model, &trial, !plan.tokens.estimated, target).total_bytes;
            if needed > available {
                continue;
            }
            let mut flags = Vec::new();
            if micro_batch_size != now {
                flags.push(format!("--set train.micro_batch_size={micro_batch_size}"));
            }
            if recompute != plan.recompute {
                flags.push("--set train.recompute=true".to_owned());
            }
            return Some(format!("{} ({} MB)", flags.join(" "), needed / 1_000_000));
        }
    }
    None
}

/// The vocabulary size before the tokenizer is trained: character and byte tokenizers have few tokens.
fn expected_vocab_size(recipe: &Recipe) -> usize {
    match recipe.tokenizer.kind {
        Kind::Bpe | Kind::Unigram => recipe.tokenizer.vocab_size,
        Kind::Char | Kind::Byte => 256,
    }
}

fn warnings(plan: &Plan, recipe: &Recipe) -> Vec<String> {
    let mut found = Vec::new();
    let few = plan.tokens.per_parameter < FEW_TOKENS_PER_PARAMETER && plan.tokens.trained > 0;
    if few && recipe.train.init.is_none() {
        found.push(format!(
            "{:.2} tokens per parameter are very few: the model will hardly learn. Use a smaller model \
             (model.size), more epochs, or more text",
            plan.tokens.per_parameter
        ));
    }
    if let Some(epochs) = plan.tokens.epochs
        && epochs > 40.0
    {
        found.push(format!(
            "{epochs:.0} epochs over the same text: beyond about 40, a model learns little and begins to \
             memorize it"
        ));
    }
    if let Some(size) = recipe.model.size.as_deref().and_then(recipe::parse_size)
        && recipe.model.hidden_size.is_none()
    {
        let miss = plan.parameters.total as f64 / size as f64 - 1.0;
        if miss.abs() > 0.15 {
            found.push(format!(
                "the nearest shape to model.size = {} has {} parameters ({:+.0} %): the vocabulary of {} \
                 takes {} of them",
                size,
                plan.parameters.total,
                100.0 * miss,
                plan.model.vocab_size,
                plan.parameters.embedding
            ));
        }
    }
    found
}

impl Plan {
    /// The warning if training needs more memory than is available, with a remedy.
    pub fn memory_shortage(&self) -> Option<String> {
        let available =
            self.memory.available_bytes.filter(|available| self.memory.total_bytes > *available)?;
        let remedy = match &self.fits_with {
            Some(flags) => format!("training fits with {flags}"),
            None => "no micro-batch is small enough: use a shorter train.sequence_length or a smaller model \
                     (model.size)"
                .to_owned(),
        };
        Some(format!(
            "training needs about {} MB of memory, and {} MB are free: {remedy}",
            self.memory.total_bytes / 1_000_000,
            available / 1_000_000
        ))
    }

    /// The plan of the same recipe on a rented GPU of this kind: its memory, hours and price.
    pub fn on_gpu(mut self, recipe: &Recipe, gpu: &'static Gpu) -> Plan {
        let target = Target { place: DeviceKind::Cuda(0), threads: 0 };
        self.precision = recipe.train.settled_precision(target);
        self.training.precision = self.precision;
        self.memory = Memory::new(&self.model, recipe, !self.tokens.estimated, target);
        self.memory.available_bytes = Some(gpu.memory_bytes());
        self.fits_with = fits_with(&self, recipe, target);
        self.rent = Some(Rent::of(gpu, self.flops.total, self.precision));
        self
    }

    /// What [`Flops::per_token`] counts.
    pub fn flops_formula(&self) -> String {
        let mut terms = match self.training.adapter.is_some() {
            true => "4·N + 6·adapters",
            false => "6·N",
        }
        .to_owned();
        if self.training.adapter.as_ref().is_some_and(|adapter| adapter.dora) {
            terms.push_str(" + 2·(adapted weights + adapters)");
        }
        terms.push_str(" + 12·layers·heads·head size·T");
        if self.recompute {
            terms.push_str(" + recomputed forward");
        }
        if self.preference {
            terms.push_str(" + forward of the base");
        }
        terms
    }

    /// Measures real training steps of the planned shape, or of fewer layers if a step would take long, and
    /// sets [`Plan::time`].
    ///
    /// # Errors
    /// Not enough memory even for that.
    pub fn calibrate(&mut self, target: Target) -> Result<()> {
        let sequence_length = self.sequence_length;
        let most = if target.is_cpu() { CALIBRATION_FLOPS } else { GPU_CALIBRATION_FLOPS };
        let mut config = self.model.clone();
        let mut training = self.training.clone();
        let step_flops = |config: &ModelConfig, training: &Training| {
            training_flops_per_token(config, training) * (training.batch_size * sequence_length) as f64
        };
        while training.batch_size > 1 && step_flops(&config, &training) > most {
            training.batch_size = training.batch_size.div_ceil(2);
        }
        // The last layer is never recomputed; among few layers it would have too much weight.
        let least = if self.recompute { 4 } else { 1 };
        while config.num_hidden_layers > least && step_flops(&config, &training) > most {
            config.num_hidden_layers = config.num_hidden_layers.div_ceil(2).max(least);
        }
        if self.precision == Precision::Bf16 && !target.has_bf16() {
            self.warnings.push("the time was not measured: this CPU has no bf16 instructions".to_owned());
            return Ok(());
        }
        let memory = MemoryPlan::new(&config, &Purpose::Train(training.clone()));
        if let Some(available) =
            self.memory.available_bytes.filter(|available| memory.total_bytes as u64 > *available)
        {
            self.warnings.push(format!(
                "the time was not measured: even {} of {} layers with {} sequences need {} MB of \
                 memory, and {} MB are free",
                config.num_hidden_layers,
                self.model.num_hidden_layers,
                training.batch_size,
                memory.total_bytes / 1_000_000,
                available / 1_000_000
            ));
            return Ok(());
        }
        let flops = step_flops(&config, &training);
        let parts = time_parts(&config, training, CALIBRATION_S, target)?;
        // The time of the update does not depend on tokens but on trained parameters, so omitted layers are
        // counted there.
        let flops_per_s = flops / parts.micro_batch_s;
        let left_out = self.memory.plan.gradients_bytes as f64 / memory.gradients_bytes.max(1) as f64;
        let step_tokens = self.tokens.trained as f64 / self.tokens.steps.max(1) as f64;
        let step_s = step_tokens * self.flops.per_token / flops_per_s + parts.update_s * left_out;
        let tokens_per_s = step_tokens / step_s;
        self.time = Some(Time {
            training_s: self.tokens.trained as f64 / tokens_per_s,
            tokens_per_s,
            model_gflops: tokens_per_s * self.flops.per_token / 1e9,
            threads: parts.threads,
            measured_steps: parts.steps,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str, available: u64) -> Plan {
        let recipe = Recipe::load("r.toml", text, &[]).expect("valid");
        of_tokens(&recipe, 4096, available, false, None, Target::cpu(1)).expect("a plan")
    }

    #[test]
    fn flops_are_counted_by_palm_s_definition() {
        let plan = planned(
            "[model]\ndepth = 4\n[train]\nsteps = 10\nbatch_size = 2\nsequence_length = 128\n",
            1_000_000,
        );
        let params = (plan.parameters.total - looked_up(&plan)) as f64;
        assert_eq!(plan.flops.per_token, 6.0 * params + 12.0 * 4.0 * 256.0 * 128.0);
        assert_eq!(plan.tokens.trained, 10 * 2 * 128);
        assert_eq!(plan.parameters.parts().iter().map(|(_, n)| n).sum::<u64>(), plan.parameters.total);
        assert_eq!(plan.memory.parts().iter().map(|(_, n)| n).sum::<u64>(), plan.memory.total_bytes);
    }

    #[test]
    fn adapters_recomputation_and_pairs_have_their_own_flops() {
        let begin = "[model]\ndepth = 4\n[train]\ninit = \"m\"\nsteps = 10\nbatch_size = 2\n\
                     sequence_length = 128\noptimizer = \"adamw\"\n";
        let of = |more: &str| planned(&format!("{begin}{more}"), 1_000_000);
        let (whole, adapters) = (of(""), of("[adapter]\nrank = 2\ndropout = 0.0\n"));
        let n = (whole.parameters.total - looked_up(&whole)) as f64;
        let attention = 12.0 * 4.0 * 256.0 * 128.0;
        assert_eq!(whole.flops.per_token, 6.0 * n + attention);
        // Rank 2 on seven matrices of each layer: 2·(in + out) each.
        let ModelConfig { hidden_size: d, intermediate_size: f, head_dim, .. } = adapters.model;
        let [q, kv] = [adapters.model.num_attention_heads, adapters.model.num_key_value_heads]
            .map(|heads| heads * head_dim);
        let adapter = 4 * 2 * (2 * (d + q) + 2 * (d + kv) + 3 * (d + f));
        assert_eq!(adapters.flops.per_token, 4.0 * n + 6.0 * adapter as f64 + attention);
        assert_eq!(adapters.flops_formula(), "4·N + 6·adapters + 12·layers·heads·head size·T");

        let again = of("recompute = true\n[adapter]\nrank = 2\ndropout = 0.0\n");
        let layers = (whole.parameters.attention + whole.parameters.feed_forward) as f64 + adapter as f64;
        let repeated = again.flops.per_token - adapters.flops.per_token;
        assert!((repeated / (0.75 * (2.0 * layers + attention / 3.0)) - 1.0).abs() < 1e-9, "{repeated}");

        let pairs = "[finetune]\ndata = [\"d.jsonl\"]\n[finetune.preference]\n";
        let pairs = of(&format!("[adapter]\nrank = 2\ndropout = 0.0\n{pairs}"));
        assert_eq!(pairs.flops.per_token, adapters.flops.per_token + 2.0 * n + attention / 3.0);
        assert!(pairs.flops_formula().ends_with("+ forward of the base"));
    }

    /// Parameters of an embedding that is only looked up.
    fn looked_up(plan: &Plan) -> u64 {
        if plan.model.tie_word_embeddings { 0 } else { plan.parameters.embedding }
    }

    #[test]
    fn adapters_are_calibrated_as_they_are_trained() {
        let text = "[model]\ndepth = 2\n[train]\ninit = \"m\"\nsteps = 4\nbatch_size = 2\n\
                    sequence_length = 32\noptimizer = \"adamw\"\n[adapter]\nrank = 2\nbase = \"nf4\"\n";
        let mut plan = planned(text, 1_000_000);
        plan.calibrate(Target::cpu(1)).expect("timed");
        assert!(plan.time.expect("filled in").tokens_per_s > 0.0);
    }

    #[test]
    fn epochs_become_steps_and_few_tokens_are_warned_of() {
        let plan = planned(
            "[model]\ndepth = 8\n[train]\nepochs = 3\nbatch_size = 4\nsequence_length = 128\n",
            100_000,
        );
        // ⌈3 · ⌈100,000 / 128⌉ / 4⌉, as training does.
        assert_eq!(plan.tokens.steps, 587);
        assert!((plan.tokens.epochs.expect("there is text") - 3.0).abs() < 0.01);
        assert!(
            plan.warnings.iter().any(|warning| warning.contains("tokens per parameter")),
            "{:?}",
            plan.warnings
        );
    }

    #[test]
    fn checkpoints_of_adapters_are_small() {
        let text = "[model]\ndepth = 4\n[train]\ninit = \"m\"\noptimizer = \"adamw\"\n";
        let all = planned(text, 1000);
        let adapters = planned(&format!("{text}[adapter]\nrank = 2\n"), 1000);
        let rest = (16 << 20) + 4000;
        assert_eq!((all.disk_bytes - rest) % all.parameters.total, 0);
        assert!(adapters.disk_bytes - rest < (all.disk_bytes - rest) / 20, "{}", adapters.disk_bytes);
        // One tensor at a time passes through memory: of the embedding, or of an adapter.
        let less = all.memory.workspace_bytes - adapters.memory.workspace_bytes;
        let (embedding, adapter) =
            (all.model.vocab_size * all.model.hidden_size, 2 * all.model.intermediate_size);
        assert_eq!(less, 4 * (embedding - adapter) as u64);
    }

    #[test]
    fn a_size_that_the_vocabulary_prevents_is_told() {
        let plan = planned("[model]\nsize = \"30K\"\n", 1_000_000);
        assert!(
            plan.warnings.iter().any(|warning| warning.contains("the vocabulary of 4096")),
            "{:?}",
            plan.warnings
        );
    }

    #[test]
    fn where_memory_is_short_the_settings_that_fit_are_named() {
        let text = "[model]\ndepth = 8\n[train]\nsteps = 10\nbatch_size = 8\nmicro_batch_size = \
                    8\nsequence_length = 256\n";
        let recipe = Recipe::load("r.toml", text, &[]).expect("valid");
        let mut plan = of_tokens(&recipe, 4096, 1_000_000, false, None, Target::cpu(1)).expect("a plan");
        let whole = plan.memory.total_bytes;
        let mut with = |available_bytes: u64| {
            plan.memory.available_bytes = Some(available_bytes);
            fits_with(&plan, &recipe, Target::cpu(1))
        };
        assert_eq!(with(whole), None);
        let bits_stay = with(whole - 1).expect("recomputing suffices");
        assert!(bits_stay.starts_with("--set train.recompute=true ("), "{bits_stay}");
        let mut least = recipe.clone();
        (least.train.micro_batch_size, least.train.recompute) = (1, true);
        let least = Memory::new(&plan.model, &least, true, Target::cpu(1)).total_bytes;
        plan.memory.available_bytes = Some(least);
        let smallest = fits_with(&plan, &recipe, Target::cpu(1)).expect("the smallest fits");
        assert!(
            smallest.starts_with("--set train.micro_batch_size=1 --set train.recompute=true ("),
            "{smallest}"
        );
        plan.memory.available_bytes = Some(least - 1);
        assert_eq!(fits_with(&plan, &recipe, Target::cpu(1)), None);
        plan.fits_with = None;
        plan.memory.available_bytes = Some(1 << 20);
        assert!(plan.memory_shortage().expect("short").contains("no micro-batch is small enough"));
    }

    #[test]
    fn a_large_shape_is_calibrated_in_little_time() {
        let mut plan = planned(
            "[model]\ndepth = 2\n[train]\nsteps = 4\nbatch_size = 2\nsequence_length = 32\n",
            1_000_000,
        );
        plan.calibrate(Target::cpu(1)).expect("timed");
        let time = plan.time.expect("filled in");
        assert!(time.training_s > 0.0 && time.tokens_per_s > 0.0 && time.threads == 1);
    }
}
