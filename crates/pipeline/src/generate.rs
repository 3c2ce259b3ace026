//! Text generation with a trained model, from a model folder or a run's checkpoint.

use std::path::{Path, PathBuf};
use std::time::Instant;

use compute::{AnyDevice, Device, Target};
use model::sampling::{Sampler, SamplingOptions};
use model::{DType, Decoder, Decoding, MemoryPlan, ModelConfig, Purpose, Stored, WeightTypes, Weights};
use runs::report::NoReport;
use runs::run::RunDir;
use serde::Serialize;
use store::fs::RealFs;
use store::manifest::Manifest;
use tokenizer::{StreamDecoder, Tokenizer};
use train::checkpoint::{Checkpoints, Part, Which};

use crate::meta::RunMeta;
use crate::project::Project;
use crate::stop_texts::StopGate;
use crate::{Error, Result, record};

/// The source of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `model/` of the project, or else the best checkpoint of its latest run.
    Default,
    /// A model folder in Hugging Face format.
    Folder(PathBuf),
    /// A run's checkpoint.
    Run {
        /// Run id, a unique prefix or suffix of it, or `latest`.
        run: String,
        /// best, latest or a step.
        checkpoint: String,
    },
}

/// Sampling options.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Maximum number of new tokens.
    pub max_new_tokens: usize,
    /// 0 means greedy decoding.
    pub temperature: f64,
    /// 0: off.
    pub top_k: usize,
    /// 1: off.
    pub top_p: f64,
    /// 0: off.
    pub min_p: f64,
    /// 1: off.
    pub repetition_penalty: f64,
    /// Random seed.
    pub seed: u64,
    /// Texts to stop before.
    pub stop: Vec<String>,
    /// Ignore the end-of-text token, for benchmarks.
    pub ignore_end: bool,
}

impl Options {
    /// Greedy decoding.
    pub fn greedy(max_new_tokens: usize) -> Options {
        Options {
            max_new_tokens,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
            ignore_end: false,
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::Argument { message });
        if !(0.0..=100.0).contains(&self.temperature) {
            return refuse(format!("--temperature {} must be from 0 to 100", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse(format!("--top-p {} must be more than 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return refuse(format!("--min-p {} must be from 0 to 1", self.min_p));
        }
        if !(0.01..=100.0).contains(&self.repetition_penalty) {
            return refuse(format!(
                "--repetition-penalty {} must be from 0.01 to 100",
                self.repetition_penalty
            ));
        }
        Ok(())
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// The model generated the end-of-text token.
    End,
    /// A stop text occurred.
    Stop,
    /// The maximum number of tokens was reached.
    Length,
    /// The callback returned false.
    Cancelled,
}

/// The generated text and its statistics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generated {
    /// The continuation, without the prompt.
    pub text: String,
    /// Number of new tokens.
    pub tokens: usize,
    /// Their ids.
    #[serde(skip)]
    pub ids: Vec<u32>,
    /// Number of prompt tokens, BOS included.
    pub prompt_tokens: usize,
    /// Number of prompt tokens that were dropped to fit the context.
    pub prompt_tokens_dropped: usize,
    /// Seconds from the first prompt token to the last new one.
    pub seconds: f64,
    /// New tokens divided by that time.
    pub tokens_per_s: f64,
    /// Why it ended.
    pub stopped: Stopped,
}

/// The capacity of a generator: the longest of some prompts with its new tokens. It is the length of the
/// key/value cache, and never more than the model's context; the context that an untrusted folder declares
/// does not size it.
#[derive(Clone, Debug)]
pub struct Extent<'a> {
    prompts: Vec<&'a str>,
    new_tokens: usize,
}

impl<'a> Extent<'a> {
    /// The capacity for these prompts, with at most `new_tokens` after each. Without a prompt: for the empty
    /// one.
    pub fn new(prompts: impl IntoIterator<Item = &'a str>, new_tokens: usize) -> Extent<'a> {
        Extent { prompts: prompts.into_iter().collect(), new_tokens }
    }

    /// Tokens of the longest sequence, BOS included.
    fn tokens(&self, tokenizer: &Tokenizer, context: usize) -> Result<usize> {
        // A trailing space may become part of the first new token.
        let ways = self.prompts.iter().flat_map(|prompt| [Some(*prompt), prompt.strip_suffix(' ')]).flatten();
        let lengths = ways.map(|prompt| Ok(tokenizer.encode(prompt)?.len()));
        let longest = lengths.collect::<Result<Vec<usize>>>()?.into_iter().max().unwrap_or(0);
        // The model starts from one token at least.
        let before = tokenizer.prefix_ids().len().max(1);
        Ok(longest.saturating_add(self.new_tokens.max(1)).saturating_add(before).min(context))
    }

    /// A model of this shape with that capacity, in f32.
    pub(crate) fn decoder(
        &self,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        target: Target,
    ) -> Result<Decoder<AnyDevice>> {
        let tokens = self.tokens(tokenizer, config.max_position_embeddings)?;
        decoder(config, target, WeightTypes::All(DType::F32), tokens)
    }
}

/// Files read from a model folder that has a manifest, that is, one made by this program.
const READ_FILES: [&str; 5] = [
    model::folder::CONFIG_FILE,
    model::folder::WEIGHTS_FILE,
    tokenizer::TOKENIZER_FILE,
    tokenizer::CONFIG_FILE,
    tokenizer::SPECIAL_TOKENS_FILE,
];

/// A model ready to generate.
pub struct Generator {
    model: Decoder<AnyDevice>,
    tokenizer: Tokenizer,
    /// Ids that are never generated: all special tokens except EOS.
    barred: Vec<u32>,
    /// Whether tokens carry the space before a word.
    spaced_words: bool,
    source: String,
}

impl Generator {
    /// Opens the model of `source` with its tokenizer, verifying all available hashes. Weights are stored as
    /// `dtype`, or in their own type; there is capacity for texts of `extent`.
    ///
    /// # Errors
    /// A missing or damaged model, or one that does not fit into memory.
    pub fn open(
        project: &Project,
        source: &Source,
        target: Target,
        dtype: Option<DType>,
        extent: &Extent<'_>,
    ) -> Result<Generator> {
        match source {
            Source::Folder(folder) => Generator::open_folder(folder, target, dtype, extent),
            Source::Run { run, checkpoint } => {
                let run = RunDir::find(&RealFs, &project.runs(), run)?;
                Generator::open_run(&run, checkpoint, target, dtype, extent)
            }
            Source::Default if project.model().join(model::folder::CONFIG_FILE).exists() => {
                Generator::open_folder(&project.model(), target, dtype, extent)
            }
            Source::Default => match runs::run::latest(&RealFs, &project.runs())? {
                Some(run) => Generator::open_run(&run, "best", target, dtype, extent),
                None => Err(Error::Argument {
                    message: format!(
                        "there is no model in `{}`: train one with `text2llm run`, or select one with \
                         --model DIR or --project DIR",
                        project.root().display()
                    ),
                }),
            },
        }
    }

    /// Opens a model folder in Hugging Face format. If it has a manifest, every file that is read is
    /// verified; the model card may have been edited, and other files may have been added.
    ///
    /// # Errors
    /// A folder that is not a model, is damaged, or does not fit into memory.
    pub fn open_folder(
        folder: &Path,
        target: Target,
        dtype: Option<DType>,
        extent: &Extent<'_>,
    ) -> Result<Generator> {
        if folder.join(store::manifest::FILE_NAME).exists() {
            let manifest = Manifest::read(&RealFs, folder)?;
            manifest.verify_selected(&RealFs, folder, |name| READ_FILES.contains(&name))?;
        }
        if folder.is_file() {
            return Err(Error::Argument {
                message: format!(
                    "--model: `{}` is a file; pass the folder that contains {} and the tokenizer (to \
                     benchmark a GGUF file, use `text2llm bench decode --model FILE`)",
                    folder.display(),
                    model::folder::CONFIG_FILE
                ),
            });
        }
        let mut stored = Stored::open(&RealFs, folder)?;
        let tokenizer = Tokenizer::open(&RealFs, folder)?;
        let weights = stored.weight_types(&RealFs, dtype)?;
        let tokens = extent.tokens(&tokenizer, stored.config().max_position_embeddings)?;
        let mut model = decoder(stored.config(), target, weights, tokens).map_err(|error| {
            too_large(error, &folder.join(model::folder::CONFIG_FILE).display().to_string())
        })?;
        stored.load(&RealFs, model.weights_mut())?;
        Generator::new(model, tokenizer, folder.display().to_string())
    }

    /// Opens a checkpoint of a run.
    ///
    /// # Errors
    /// A missing or damaged checkpoint.
    pub fn open_run(
        run: &RunDir,
        checkpoint: &str,
        target: Target,
        dtype: Option<DType>,
        extent: &Extent<'_>,
    ) -> Result<Generator> {
        let which: Which = checkpoint
            .parse()
            .map_err(|message| Error::Argument { message: format!("--checkpoint: {message}") })?;
        let meta = RunMeta::read(&RealFs, run)?;
        let nothing = || Error::Argument {
            message: format!(
                "run {} has no checkpoint yet: wait for the first one (see `text2llm status`)",
                run.id()
            ),
        };
        let config = meta.model.clone().ok_or_else(nothing)?;
        let tokenizer = record::tokenizer(run, &meta)?;
        let weights = WeightTypes::All(dtype.unwrap_or(DType::F32));
        let tokens = extent.tokens(&tokenizer, config.max_position_embeddings)?;
        let mut model = decoder(&config, target, weights, tokens)
            .map_err(|error| too_large(error, &format!("run {}", run.id())))?;
        let step = load_weights(run, which, model.weights_mut())?.ok_or_else(nothing)?;
        Generator::new(model, tokenizer, format!("run {} step {step}", run.id()))
    }

    /// Uses a decoding model that is already loaded.
    ///
    /// # Errors
    /// A tokenizer whose size differs from the model's.
    pub fn new(model: Decoder<AnyDevice>, tokenizer: Tokenizer, source: String) -> Result<Generator> {
        if tokenizer.vocab_size() > model.config().vocab_size {
            return Err(Error::Data {
                message: format!(
                    "{source}: the tokenizer has {} tokens and the model {}: they do not match",
                    tokenizer.vocab_size(),
                    model.config().vocab_size
                ),
            });
        }
        let ids = 0..model.config().vocab_size as u32;
        let known = tokenizer.vocab_size() as u32;
        let barred = ids
            .filter(|&id| id >= known || (tokenizer.is_special(id) && Some(id) != tokenizer.eos_id()))
            .collect();
        let spaced_words = (0..known).any(|id| {
            let bytes = tokenizer.token_bytes(id);
            bytes.len() > 1 && bytes[0] == b' ' && bytes[1].is_ascii_alphabetic()
        });
        Ok(Generator { model, tokenizer, barred, spaced_words, source })
    }

    /// Description of the model's origin.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// Continues `prompt`. `on_text` gets each piece of text once it is final, and returns whether to
    /// continue.
    ///
    /// A prompt that ends in a space is a special case: tokens include the space before a word, so the model
    /// has rarely seen a trailing space alone. The space is removed, and the first token must start with one.
    ///
    /// A text longer than the context slides: when the context is full, generation continues from its second
    /// half.
    ///
    /// # Errors
    /// Options out of range; a text longer than the generator's capacity; errors of the model.
    pub fn generate(
        &mut self,
        prompt: &str,
        options: &Options,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated> {
        options.check()?;
        let start = Instant::now();
        let context = self.model.capacity();
        let (asked, mut space_owed) = self.without_last_space(prompt);
        let mut ids = self.start(asked)?;
        let prompt_tokens = ids.len();
        let longest = prompt_tokens.saturating_add(options.max_new_tokens);
        if longest > context && context < self.model.config().max_position_embeddings {
            return Err(Error::Argument {
                message: format!(
                    "a prompt of {prompt_tokens} tokens and {} new ones do not fit into the {context} tokens \
                     that the generator was opened for: open it with a larger `Extent`",
                    options.max_new_tokens
                ),
            });
        }
        // Leaves space for at least one new token; the end of the prompt matters most.
        let kept = prompt_tokens.min((context - 1).max(1));
        let mut pending = ids[prompt_tokens - kept..].to_vec();
        let mut sampler = Sampler::new(SamplingOptions {
            temperature: options.temperature as f32,
            top_k: options.top_k,
            top_p: options.top_p as f32,
            min_p: options.min_p as f32,
            repetition_penalty: options.repetition_penalty as f32,
            seed: options.seed,
        });
        let tokenizer = &self.tokenizer;
        let mut decoder = StreamDecoder::continuing(tokenizer, true);
        let stop: Vec<String> =
            options.stop.iter().map(|text| tokenizer.normalize_within(text).into()).collect();
        let mut gate = StopGate::new(&stop);
        let mut written = 0;
        let mut stopped = Stopped::Length;
        self.model.reset();
        while written < options.max_new_tokens {
            if self.model.context_used(0) + pending.len() > context {
                self.model.reset();
                pending = ids[ids.len() - (context / 2).max(1)..].to_vec();
            }
            let mut logits = self.model.decode(&pending)?;
            for &id in &self.barred {
                logits[id as usize] = f32::NEG_INFINITY;
            }
            if let Some(end) = tokenizer.eos_id().filter(|_| options.ignore_end) {
                logits[end as usize] = f32::NEG_INFINITY;
            }
            if space_owed {
                for (id, logit) in (0..).zip(&mut logits) {
                    if !tokenizer.token_bytes(id).starts_with(b" ") {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
            let id = sampler.sample(&mut logits, &ids);
            written += 1;
            ids.push(id);
            pending.clear();
            pending.push(id);
            if Some(id) == tokenizer.eos_id() {
                stopped = Stopped::End;
                break;
            }
            if let Some(mut text) = decoder.push(id) {
                if std::mem::take(&mut space_owed) {
                    // The prompt includes it already.
                    text.remove(0);
                }
                let certain = gate.push(&text);
                if !certain.is_empty() && !on_text(&certain) {
                    stopped = Stopped::Cancelled;
                    break;
                }
                if gate.closed {
                    stopped = Stopped::Stop;
                    break;
                }
            }
        }
        if stopped != Stopped::Stop && stopped != Stopped::Cancelled {
            let mut rest = decoder.finish().map(|text| gate.push(&text)).unwrap_or_default();
            rest.push_str(&gate.finish());
            if !rest.is_empty() {
                on_text(&rest);
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(Generated {
            text: gate.passed,
            tokens: written,
            ids: ids.split_off(prompt_tokens),
            prompt_tokens,
            prompt_tokens_dropped: prompt_tokens - kept,
            seconds,
            tokens_per_s: written as f64 / seconds.max(1e-9),
            stopped,
        })
    }

    /// The encoded prompt, and whether its trailing space was removed, to be part of the first token.
    fn without_last_space<'a>(&self, prompt: &'a str) -> (&'a str, bool) {
        match prompt.strip_suffix(' ') {
            // The last of several spaces does not belong to a word.
            Some(rest) if self.spaced_words && !rest.is_empty() && !rest.ends_with(char::is_whitespace) => {
                (rest, true)
            }
            _ => (prompt, false),
        }
    }

    /// What the model starts from: what the tokenizer puts before a text, and the encoded prompt.
    fn start(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.prefix_ids().to_vec();
        ids.extend(self.tokenizer.encode(prompt)?);
        if ids.is_empty() {
            // A model needs a token to continue from: documents follow each other's end.
            ids.extend(self.tokenizer.bos_id().or(self.tokenizer.eos_id()));
        }
        if ids.is_empty() {
            return Err(Error::Argument {
                message:
                    "the prompt is empty, and the tokenizer has no token that begins a text: pass a prompt"
                        .into(),
            });
        }
        Ok(ids)
    }

    /// Logits (V) after BOS and `prompt`, truncated to the capacity.
    ///
    /// # Errors
    /// Errors of the model.
    pub fn logits(&mut self, prompt: &str) -> Result<Vec<f32>> {
        let mut ids = self.start(prompt)?;
        ids.truncate(self.model.capacity());
        self.model.reset();
        Ok(self.model.decode(&ids)?)
    }

    /// The weights, for an export.
    pub(crate) fn weights_mut(&mut self) -> &mut Weights<AnyDevice> {
        self.model.weights_mut()
    }
}

/// Below this number of parameters, a token takes about as long as waking a second thread.
const SINGLE_THREAD_PARAMETERS: usize = 8_000_000;

/// The target; if no number of threads was given, with one thread for a small model, whose many short kernels
/// would otherwise wait for each other when the machine is busy, and all threads for a larger one.
fn decoding_target(config: &ModelConfig, target: Target) -> Target {
    let one = target.threads == 0 && config.parameter_count().total < SINGLE_THREAD_PARAMETERS;
    if one { Target { threads: 1, ..target } } else { target }
}

/// A model laid out for decoding one sequence of `tokens`.
///
/// # Errors
/// [`compute::Error::OutOfMemory`] if the plan exceeds free memory, before anything is allocated.
fn decoder(
    config: &ModelConfig,
    target: Target,
    weights: WeightTypes,
    tokens: usize,
) -> Result<Decoder<AnyDevice>> {
    let decoding = Decoding { weights, ..Decoding::one(tokens) };
    let needed_bytes = MemoryPlan::new(config, &Purpose::Decode(decoding.clone())).total_bytes;
    let device = decoding_target(config, target).open()?;
    // Systems overcommit memory, and kill processes that use it.
    let available = store::system::available_memory_bytes().filter(|_| target.is_cpu());
    if available.is_some_and(|available| needed_bytes as u64 > available) {
        return Err(compute::Error::OutOfMemory { needed_bytes, device: device.name() }.into());
    }
    Ok(Decoder::new(device, config.clone(), decoding)?)
}

/// The error for a model that does not fit: its shape is in `place`, and no recipe key changes it.
fn too_large(error: Error, place: &str) -> Error {
    let needed_bytes = match error {
        Error::Device(compute::Error::OutOfMemory { needed_bytes, .. })
        | Error::Model(model::Error::Device(compute::Error::OutOfMemory { needed_bytes, .. })) => {
            needed_bytes
        }
        other => return other,
    };
    let available = store::system::available_memory_bytes()
        .map_or_else(String::new, |bytes| format!(", and {:.1} GB are free", bytes as f64 / 1e9));
    Error::Environment {
        message: format!(
            "{place}: decoding needs {:.1} GB with this num_hidden_layers, hidden_size, intermediate_size, \
             vocab_size and num_key_value_heads × head_dim per token of the prompt and of the new \
             text{available}. Ask for fewer --max-new-tokens, shorten the prompt, or use weights with fewer \
             bits (--dtype q8_0 or q4_0)",
            needed_bytes as f64 / 1e9
        ),
    }
}

/// Loads a checkpoint's weights and returns its step; `best` falls back to the latest in a run that was never
/// validated.
pub(crate) fn load_weights(
    run: &RunDir,
    which: Which,
    weights: &mut Weights<AnyDevice>,
) -> Result<Option<u64>> {
    let folder = run.checkpoints();
    let checkpoints = Checkpoints::new(&RealFs, &folder);
    let which = match which {
        Which::Best => match checkpoints.latest_state(Part::Weights, &mut NoReport)? {
            Some(state) if state.best.is_none() => Which::Latest,
            _ => Which::Best,
        },
        other => other,
    };
    Ok(checkpoints.load_weights(which, weights, &mut NoReport)?.map(|state| state.step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_name_their_flag() {
        let mut options = Options::greedy(1);
        options.top_p = 0.0;
        assert!(options.check().expect_err("top_p 0").to_string().contains("--top-p 0"));
        options.top_p = f64::NAN;
        assert!(options.check().is_err());
    }
}
