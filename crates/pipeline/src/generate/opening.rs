//! Opens what can generate: model folders, GGUF files, adapters with their base, checkpoints of runs.

use std::path::{Path, PathBuf};

use compute::{AnyDevice, Device, Target};
use model::adapter_folder;
use model::{
    AdapterConfig, DType, Decoder, Decoding, MemoryPlan, ModelConfig, Purpose, WeightTypes, Weights,
};
use runs::report::NoReport;
use runs::run::RunDir;
use store::fs::RealFs;
use store::manifest::Manifest;
use tokenizer::Tokenizer;
use tokenizer::chat::ChatTemplate;
use train::checkpoint::{Checkpoints, Part, Which};

use super::Generator;
use crate::base::BaseModel;
use crate::base_of_adapter::Adapter;
use crate::meta::RunMeta;
use crate::open_model::{GENERATION_FILE, OpenModel, generation_stop_ids};
use crate::project::Project;
use crate::stages::examples;
use crate::{Error, Result, record};

/// The source of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `model/` of the project, or else the best checkpoint of its latest run.
    Default,
    /// A model folder in Hugging Face format, a GGUF file, an adapter's folder, or the folder of a run or of
    /// its checkpoint.
    Folder(PathBuf),
    /// An adapter's folder, on a base that it does not name.
    Adapter {
        /// The folder.
        folder: PathBuf,
        /// The base.
        base: PathBuf,
    },
    /// A run's checkpoint.
    Run {
        /// Run id, a unique prefix or suffix of it, or `latest`.
        run: String,
        /// best, latest or a step.
        checkpoint: String,
    },
}

/// The capacity of a generator: the longest of some prompts with its new tokens. It is the length of the
/// key/value cache, and never more than the model's context; the context that an untrusted folder declares
/// does not size it.
#[derive(Clone, Debug)]
pub struct Extent<'a> {
    prompts: Vec<&'a str>,
    /// Of a prompt that is not at hand.
    prompt_tokens: usize,
    new_tokens: usize,
    sequences: usize,
}

impl<'a> Extent<'a> {
    /// The capacity for these prompts, with at most `new_tokens` after each. Without a prompt: for the empty
    /// one.
    pub fn new(prompts: impl IntoIterator<Item = &'a str>, new_tokens: usize) -> Extent<'a> {
        Extent { prompts: prompts.into_iter().collect(), prompt_tokens: 0, new_tokens, sequences: 1 }
    }

    /// The capacity for a chat of at most so many tokens, of which `new_tokens` at most are new.
    pub fn chat(tokens: usize, new_tokens: usize) -> Extent<'a> {
        let prompt_tokens = tokens.saturating_sub(new_tokens);
        Extent { prompts: Vec::new(), prompt_tokens, new_tokens, sequences: 1 }
    }

    /// The same for so many sequences at a time.
    pub fn with_sequences(self, sequences: usize) -> Extent<'a> {
        Extent { sequences: sequences.max(1), ..self }
    }

    /// Tokens of the longest sequence, BOS included.
    fn tokens(&self, tokenizer: &Tokenizer, context: usize) -> Result<usize> {
        // A trailing space may become part of the first new token.
        let ways = self.prompts.iter().flat_map(|prompt| [Some(*prompt), prompt.strip_suffix(' ')]).flatten();
        let lengths = ways.map(|prompt| Ok(tokenizer.encode(prompt)?.len()));
        let longest =
            lengths.collect::<Result<Vec<usize>>>()?.into_iter().fold(self.prompt_tokens, usize::max);
        // The model starts from one token at least.
        let before = tokenizer.prefix_ids().len().max(1);
        Ok(longest.saturating_add(self.new_tokens.max(1)).saturating_add(before).min(context))
    }

    /// A model of this shape with that capacity, in f32.
    pub(crate) fn decoder(
        &self,
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        adapter: Option<AdapterConfig>,
        target: Target,
    ) -> Result<Decoder<AnyDevice>> {
        let tokens = self.tokens(tokenizer, config.max_position_embeddings)?;
        decoder(config, target, (WeightTypes::All(DType::F32), adapter), (tokens, self.sequences))
    }
}

/// Files read from a model folder that has a manifest, that is, one made by this program.
const READ_FILES: [&str; 9] = [
    model::folder::CONFIG_FILE,
    model::folder::WEIGHTS_FILE,
    formats::peft::CONFIG_FILE,
    formats::peft::WEIGHTS_FILE,
    GENERATION_FILE,
    tokenizer::TOKENIZER_FILE,
    tokenizer::CONFIG_FILE,
    tokenizer::SPECIAL_TOKENS_FILE,
    tokenizer::chat::TEMPLATE_FILE,
];

/// Verifies the files of a model folder that has a manifest.
///
/// # Errors
/// A file that is not as the manifest has it.
pub(crate) fn verify(folder: &Path) -> Result<()> {
    if folder.join(store::manifest::FILE_NAME).exists() {
        let manifest = Manifest::read(&RealFs, folder)?;
        manifest.verify_selected(&RealFs, folder, |name| READ_FILES.contains(&name))?;
    }
    Ok(())
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
            Source::Adapter { folder, base } => Generator::open_on(folder, Some(base), target, dtype, extent),
            Source::Run { run, checkpoint } => {
                let run = RunDir::find(&RealFs, &project.runs(), run)?;
                Generator::open_run(&run, checkpoint, target, dtype, extent)
            }
            Source::Default if has_model(&project.model()) => {
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

    /// Opens a model folder in Hugging Face format, a GGUF file, or an adapter's folder in PEFT format with
    /// its base. If a folder has a manifest, every file that is read is verified; the model card may have
    /// been edited, and other files may have been added.
    ///
    /// # Errors
    /// A folder that is not a model, is damaged, or does not fit into memory.
    pub fn open_folder(
        folder: &Path,
        target: Target,
        dtype: Option<DType>,
        extent: &Extent<'_>,
    ) -> Result<Generator> {
        Generator::open_on(folder, None, target, dtype, extent)
    }

    /// As [`Generator::open_folder`]; `base`: of an adapter, where it is not the one that it names.
    fn open_on(
        folder: &Path,
        base: Option<&Path>,
        target: Target,
        dtype: Option<DType>,
        extent: &Extent<'_>,
    ) -> Result<Generator> {
        verify(folder)?;
        let adapter = Adapter::find(folder, base)?;
        let mut open = OpenModel::open(adapter.as_ref().map_or(folder, |adapter| &adapter.base))?;
        if let Some(adapter) = &adapter {
            adapter.check_base(&open)?;
        }
        let weights = open.stored.weight_types(dtype)?;
        let tokens = extent.tokens(&open.tokenizer, open.stored.config().max_position_embeddings)?;
        let config = adapter.as_ref().map(|adapter| adapter.config.clone());
        let mut model = decoder(open.stored.config(), target, (weights, config), (tokens, extent.sequences))
            .map_err(|error| too_large(error, &open.shape_file().display().to_string()))?;
        open.stored.load(model.weights_mut())?;
        if adapter.is_some() {
            adapter_folder::load(&RealFs, folder, model.weights_mut())?;
        }
        // An adapter's folder has the template that it was trained with.
        let template = match ChatTemplate::read(&RealFs, folder)? {
            Some(own) if adapter.is_some() => Some(own),
            _ => open.chat_template()?,
        };
        let stop_ids = match adapter.is_some() && folder.join(GENERATION_FILE).exists() {
            true => generation_stop_ids(folder)?,
            false => open.stop_ids,
        };
        let generator = Generator::new(model, open.tokenizer, stop_ids, folder.display().to_string())?;
        Ok(generator.with_chat_template(template))
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
        let tokens = extent.tokens(&tokenizer, config.max_position_embeddings)?;
        let adapter = meta.recipe.tuning().adapter;
        let base = BaseModel::of_run(run, &meta)?;
        let frozen = base.as_ref().filter(|_| adapter.is_some());
        let weights = match (dtype, frozen) {
            (Some(dtype), _) => WeightTypes::All(dtype),
            (None, Some(base)) => base.weight_types()?,
            (None, None) => WeightTypes::All(DType::F32),
        };
        let sequences = extent.sequences;
        let mut model = decoder(&config, target, (weights, adapter.clone()), (tokens, sequences))
            .map_err(|error| too_large(error, &format!("run {}", run.id())))?;
        if let Some(base) = frozen {
            base.load(model.weights_mut())?;
        }
        let step = load_weights(run, which, model.weights_mut())?.ok_or_else(nothing)?;
        let template = match (&base, &meta.recipe.finetune) {
            (Some(base), Some(options)) => {
                examples::renderer_of(options, &meta.base_dir, base)?.template().cloned()
            }
            (Some(base), None) => base.chat_template()?,
            (None, _) => None,
        };
        let source = format!("run {} step {step}", run.id());
        let generator = Generator::new(model, tokenizer, meta.stop_ids.clone(), source)?;
        Ok(generator.with_chat_template(template))
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

/// A model laid out for decoding `sequences` of at most `tokens`.
///
/// # Errors
/// [`compute::Error::OutOfMemory`] if the plan exceeds free memory, before anything is allocated.
fn decoder(
    config: &ModelConfig,
    target: Target,
    (weights, adapter): (WeightTypes, Option<AdapterConfig>),
    (tokens, sequences): (usize, usize),
) -> Result<Decoder<AnyDevice>> {
    let decoding = Decoding { weights, adapter, sequences, max_sequence: tokens };
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

/// Whether a folder holds a model or an adapter.
fn has_model(folder: &Path) -> bool {
    folder.join(model::folder::CONFIG_FILE).exists() || adapter_folder::is_adapter(&RealFs, folder)
}
