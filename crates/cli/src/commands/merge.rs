//! `text2llm merge`: a model folder from an adapter and its base.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use formats::safetensors::Dtype;
use pipeline::merge::{Measured, MergeOptions, Onto, merge};
use serde_json::json;

use crate::failure::Outcome;
use crate::model_source::model_path;
use crate::output::Console;

/// Merge adapters into their base, as a model folder of its own
///
/// The merged model needs no adapter: programs that know the base's architecture load it. Several adapters of
/// one base are added up.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Adapter folders in PEFT format, such as model/ of a fine-tuning
    #[arg(value_name = "ADAPTER", required = true)]
    pub adapters: Vec<PathBuf>,
    /// Model to merge into [default: the one that the first adapter names]
    #[arg(long, value_name = "MODEL")]
    pub base: Option<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Data type of the merged weights
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    pub dtype: MergedDtype,
    /// Weights to merge into, of an adapter that was trained on a quantized base [default: the better ones on
    /// the project's validation examples]
    #[arg(long, value_name = "WEIGHTS")]
    pub onto: Option<OntoWeights>,
    /// Take the adapters out of the merged model that --base names, instead
    #[arg(long, requires = "base", conflicts_with = "onto")]
    pub undo: bool,
}

/// The weights that an adapter is merged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OntoWeights {
    /// The base's own.
    Base,
    /// The base's, quantized as in training, and dequantized.
    Dequantized,
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
    let onto = arguments.onto.map(|onto| match onto {
        OntoWeights::Base => Onto::Base,
        OntoWeights::Dequantized => Onto::Dequantized,
    });
    let options = MergeOptions { base, dtype, onto, undo: arguments.undo };
    let merged = merge(&arguments.adapters, &options, &arguments.out)?;
    if !console.is_human() {
        return console.result("merged", &json!(merged));
    }
    console.prose(&format!(
        "{} `{}`: {}, {:.1} MB",
        match (arguments.undo, arguments.adapters.len()) {
            (true, _) => "Took the adapters out of".to_owned(),
            (false, 1) => format!("Merged `{}` into", arguments.adapters[0].display()),
            (false, count) => format!("Merged {count} adapters into"),
        },
        merged.base.display(),
        merged.out.display(),
        merged.bytes as f64 / 1e6
    ));
    if let Some(quantization) = merged.quantization {
        let onto = match merged.onto {
            Onto::Base => "the base's own weights".to_owned(),
            Onto::Dequantized => format!("the base's weights as {quantization} has them"),
        };
        console.prose(&match merged.measured {
            Some(Measured { base, dequantized, tokens }) => format!(
                "It was trained on the base in {quantization}. Merged into {onto}, the better on {tokens} held-out \
                 tokens: loss {base:.4} with the base's own, {dequantized:.4} with {quantization}"
            ),
            None => format!(
                "It was trained on the base in {quantization}, and is merged into {onto}{}",
                match arguments.onto {
                    Some(_) => "",
                    None => ": not measured, which needs model/ of a project with validation examples, and memory",
                }
            ),
        });
    }
    Ok(())
}
