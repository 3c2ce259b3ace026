//! Merges an adapter into its base: a model folder that needs no adapter.
//!
//! An adapter that was trained on a quantized base (QLoRA) has learned to correct what quantization changed.
//! Merged into the unquantized base it corrects what is not there, which degrades some models; merged into
//! the dequantized base it is what was trained. Both are measured on held-out examples, and the better is
//! taken.

use std::path::{Path, PathBuf};

use compute::Target;
use compute::cpu::Cpu;
use formats::safetensors::Dtype;
use model::adapter_folder;
use model::adapter_merge::{self, Merge};
use model::{AdapterConfig, DType, Evaluation, Evaluator, MemoryPlan, Precision, Purpose};
use serde::Serialize;
use serde_json::{Value, json};
use store::fs::{Fs, RealFs};
use store::manifest::Manifest;
use store::stage::StagedFolder;
use store::{ownership, stage};
use tokenizer::TOKENIZER_FILE;
use tokens::{Split, TokenDataset};
use train::StopFlag;

use crate::base_of_adapter::Adapter;
use crate::generate::verify;
use crate::open_model::{GENERATION_FILE, OpenModel};
use crate::project::Project;
use crate::{Error, Result};

/// The stage's name in the folder's manifest.
const STAGE: &str = "merge-1";
/// Files that are copied from the adapter's folder, or else from the base's.
const COPIED: [&str; 5] = [
    TOKENIZER_FILE,
    tokenizer::CONFIG_FILE,
    tokenizer::SPECIAL_TOKENS_FILE,
    GENERATION_FILE,
    tokenizer::chat::TEMPLATE_FILE,
];
/// Most tokens of held-out examples that are measured.
const MEASURED_TOKENS: u64 = 32_768;

/// The weights that an adapter is merged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Onto {
    /// The base's own.
    Base,
    /// The base's, quantized as in training, and dequantized.
    Dequantized,
}

/// Held-out losses of both ways to merge, in nats per trained token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Merged into the base's own weights.
    pub base: f64,
    /// Merged into the dequantized weights.
    pub dequantized: f64,
    /// Trained tokens that were measured.
    pub tokens: u64,
}

/// What was merged.
#[derive(Clone, Debug, Serialize)]
pub struct Merged {
    /// The base.
    pub base: PathBuf,
    /// The merged model's folder.
    pub out: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// The type that the base was quantized to in training, where it was.
    pub quantization: Option<&'static str>,
    /// The weights that the adapter was merged into.
    pub onto: Onto,
    /// Both ways, where the base was quantized and there are held-out examples.
    pub measured: Option<Measured>,
}

/// How to merge.
#[derive(Clone, Debug)]
pub struct MergeOptions {
    /// The model to merge into; `None`: the one that the first adapter names, which must be the one that it
    /// was trained on.
    pub base: Option<PathBuf>,
    /// Type of the merged weights.
    pub dtype: Dtype,
    /// The weights to merge into; `None`: of one adapter on a quantized base the better ones on the
    /// validation examples of the project whose `model/` it is, or the base's own if there are none.
    pub onto: Option<Onto>,
    /// Take the adapters out of a merged model instead.
    pub undo: bool,
}

/// Merges the adapters in folders into their base.
///
/// # Errors
/// No adapter; an adapter for another base; a folder with files of others in the way; `onto` dequantized
/// weights of a base that was not quantized; I/O errors.
pub fn merge(adapters: &[PathBuf], options: &MergeOptions, out: &Path) -> Result<Merged> {
    let &MergeOptions { ref base, dtype, onto, undo } = options;
    let adapter = adapters.first().ok_or_else(|| Error::Argument { message: "no adapter".to_owned() })?;
    let mut found = Vec::new();
    for folder in adapters {
        verify(folder)?;
        let missing = || Error::Argument {
            message: format!("`{}` holds no adapter ({})", folder.display(), formats::peft::CONFIG_FILE),
        };
        found.push(Adapter::find(folder, base.as_deref())?.ok_or_else(missing)?);
    }
    verify(&found[0].base)?;
    let mut open = OpenModel::open(&found[0].base)?;
    // Another one is named on purpose: the same model in another type, for one.
    if base.is_none() {
        found.iter().try_for_each(|adapter| adapter.check_base(&open))?;
    }
    let base = open.path.clone();
    let quantization = found[0].quantization;
    for (other, folder) in found.iter().zip(adapters) {
        if other.quantization != quantization && onto != Some(Onto::Base) {
            let message = format!(
                "`{}` and `{}` were trained on the base in different types: merge them into its own weights \
                 with --onto base",
                adapter.display(),
                folder.display()
            );
            return Err(Error::Argument { message });
        }
    }
    stage::repair(&RealFs, out)?;
    ownership::check(&RealFs, out, STAGE)?;
    if undo && options.base.is_none() {
        let message = "merge --undo: name the merged model with --base MODEL".to_owned();
        return Err(Error::Argument { message });
    }
    if undo && merged_onto(&open.path).as_ref() == Some(&json!(Onto::Dequantized)) {
        let message = format!(
            "`{}` was merged from the dequantized weights of its base, and only they could be had from it: use \
             the base itself",
            open.path.display()
        );
        return Err(Error::Argument { message });
    }
    let quantization = quantization.filter(|_| !undo);
    let measured = match (quantization, onto) {
        (None, Some(Onto::Dequantized)) => {
            let message = format!(
                "`{}` was not trained on a quantized base, or not by this program: merge it into the base's \
                 own weights",
                adapter.display()
            );
            return Err(Error::Argument { message });
        }
        (Some(quantization), None) if adapters.len() == 1 => {
            measure(adapter, &mut open, &found[0].config, quantization)?
        }
        _ => None,
    };
    let better = |losses: Measured| match losses.dequantized < losses.base {
        true => Onto::Dequantized,
        false => Onto::Base,
    };
    let onto = onto.or_else(|| measured.map(better)).unwrap_or(Onto::Base);
    let staged = StagedFolder::begin(&RealFs, out, STAGE)?;
    let quantized = quantization.filter(|_| onto == Onto::Dequantized);
    let merge = Merge { adapters, quantization: quantized, undo, dtype };
    adapter_merge::merge(&RealFs, &mut open.stored, &merge, staged.path())?;
    // The adapter's files are those that it was trained with.
    let folders = if undo { [&base, adapter] } else { [adapter, &base] };
    for name in COPIED {
        let from = folders.map(|folder| folder.join(name)).into_iter().find(|path| RealFs.exists(path));
        if let Some(from) = from {
            let bytes = RealFs.read(&from).map_err(store::Error::io("read", &from))?;
            store::atomic::write(staged.fs(), &staged.path().join(name), &bytes)?;
        }
    }
    if !RealFs.exists(&staged.path().join(TOKENIZER_FILE)) {
        open.tokenizer.save(staged.fs(), staged.path(), None)?;
    }
    // Read back as any program would.
    OpenModel::open(staged.path())?;
    let options = json!({ "dtype": dtype.to_string(), "onto": onto, "undo": undo, "measured": measured });
    let made = staged.commit(Manifest::new(STAGE, options, Default::default()))?;
    let bytes = made.manifest.outputs.values().map(|file| file.bytes).sum();
    let quantization = quantization.map(DType::name);
    Ok(Merged { base, out: out.to_owned(), bytes, quantization, onto, measured })
}

/// What a folder that this program merged was merged onto.
fn merged_onto(folder: &Path) -> Option<Value> {
    let manifest = Manifest::read(&RealFs, folder).ok()?;
    manifest.options.get("onto").cloned()
}

/// Losses of both ways to merge on the validation examples of the project whose `model/` the adapter is;
/// `None`: there are none, they are preference pairs, or memory does not suffice.
fn measure(
    adapter: &Path,
    open: &mut OpenModel,
    config: &AdapterConfig,
    quantization: DType,
) -> Result<Option<Measured>> {
    let folder = std::path::absolute(adapter).unwrap_or_else(|_| adapter.to_owned());
    let Some(project) = folder.parent().map(Project::new).filter(|project| project.model() == folder) else {
        return Ok(None);
    };
    let tokens = project.tokens();
    if !RealFs.exists(&tokens.join(store::manifest::FILE_NAME)) {
        return Ok(None);
    }
    let manifest = Manifest::read(&RealFs, &tokens)?;
    let Some(sequence_length) = manifest.options["sequence_length"].as_u64() else { return Ok(None) };
    if !manifest.options["finetune"]["preference"].is_null() {
        return Ok(None);
    }
    let held_out = TokenDataset::open(&RealFs, &tokens, Split::Validation, open.tokenizer.hash())?;
    if held_out.token_count() == 0 {
        return Ok(None);
    }
    let has_bf16 = Target::cpu(0).has_bf16();
    let precision = if has_bf16 { Precision::Bf16 } else { Precision::F32 };
    let length = sequence_length as usize;
    let evaluation = Evaluation { adapter: Some(config.clone()), ..Evaluation::new(1, length, precision) };
    let shape = open.stored.config().clone();
    let memory = MemoryPlan::new(&shape, &Purpose::Evaluate(evaluation.clone()));
    if store::system::available_memory_bytes().is_some_and(|bytes| bytes < memory.total_bytes as u64) {
        return Ok(None);
    }
    let sequences = (MEASURED_TOKENS / sequence_length.max(1)).max(1);
    let mut model = Evaluator::new(Cpu::new(0), shape, evaluation)?;
    let loss = |model: &mut Evaluator<Cpu>| -> Result<(f64, f64)> {
        adapter_folder::load(&RealFs, adapter, model.weights_mut())?;
        let mut of_batch = |batch: &compute::Batch| train::weighted(model.evaluate(batch), batch);
        let batches = held_out.spread_batches(1, length, sequences);
        let found = train::evaluate(&mut of_batch, batches, &StopFlag::default())?;
        Ok(found.map_or((f64::NAN, 0.0), |found| (found.loss, found.tokens)))
    };
    open.stored.load(model.weights_mut())?;
    let (base, tokens) = loss(&mut model)?;
    adapter_merge::dequantize_base(&mut open.stored, model.weights_mut(), config, quantization)?;
    let (dequantized, _) = loss(&mut model)?;
    let measured = Measured { base, dequantized, tokens: tokens as u64 };
    Ok(Some(measured).filter(|losses| losses.base.is_finite() && losses.dequantized.is_finite()))
}
