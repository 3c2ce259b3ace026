//! `text2llm merge`: a model folder from an adapter and its base.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use formats::safetensors::Dtype;
use serde_json::json;

use crate::failure::Outcome;
use crate::model_source::model_path;
use crate::output::Console;

/// Merge an adapter into its base, as a model folder of its own
///
/// The merged model needs no adapter: programs that know the base's architecture load it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Adapter folder in PEFT format, such as model/ of a fine-tuning
    #[arg(value_name = "ADAPTER")]
    pub adapter: PathBuf,
    /// Model to merge it into [default: the one that the adapter names]
    #[arg(long, value_name = "MODEL")]
    pub base: Option<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Data type of the merged weights
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    pub dtype: MergedDtype,
}

/// Data types of merged weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MergedDtype {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// bfloat16.
    Bf16,
}

/// Merges.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let dtype = match arguments.dtype {
        MergedDtype::F32 => Dtype::F32,
        MergedDtype::F16 => Dtype::F16,
        MergedDtype::Bf16 => Dtype::BF16,
    };
    let base = arguments.base.as_ref().map(|base| model_path(base, console)).transpose()?;
    let merged = pipeline::merge::merge(&arguments.adapter, base.as_deref(), dtype, &arguments.out)?;
    if !console.is_human() {
        return console.result("merged", &json!(merged));
    }
    console.prose(&format!(
        "Merged `{}` into `{}`: {}, {:.1} MB",
        arguments.adapter.display(),
        merged.base.display(),
        merged.out.display(),
        merged.bytes as f64 / 1e6
    ));
    Ok(())
}
