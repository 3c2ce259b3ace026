//! `text2llm export`: a model or an adapter as a file of another format.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use formats::gguf::{BlockFormat, TensorType};
use pipeline::gguf::Exported;
use serde_json::json;

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::model_source::model_path;
use crate::output::{Console, bytes};
use crate::select;

/// Export a model or an adapter as a GGUF file, for llama.cpp, Ollama and LM Studio
///
/// A model folder becomes a complete GGUF file with its tokenizer and chat template. An adapter folder
/// becomes a GGUF adapter, which llama.cpp applies to a GGUF file of its base with --lora.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Model folder in Hugging Face format or adapter folder in PEFT format [default: model/ of the project]
    #[arg(value_name = "SOURCE")]
    pub source: Option<PathBuf>,
    /// Format to write
    #[arg(long, value_name = "FORMAT", default_value = "gguf")]
    pub to: ExportFormat,
    /// Data type of the matrices [default: that of the weights; f32 for an adapter]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<ExportedDtype>,
    /// Base of an adapter: a path, also of a GGUF file, or hf://OWNER/NAME [default: the one that it names]
    #[arg(long, value_name = "MODEL")]
    pub base: Option<PathBuf>,
    /// File to write [default: beside SOURCE, named after it and the data type]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Formats to export to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// The file of llama.cpp, Ollama and LM Studio.
    Gguf,
}

/// Data types of exported matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportedDtype {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// bfloat16.
    Bf16,
    /// 8.5 bits a weight.
    #[value(name = "q8_0")]
    Q8_0,
    /// 4.5 bits a weight; the embedding and the output layer have 8.5.
    #[value(name = "q4_0")]
    Q4_0,
}

impl ExportedDtype {
    fn tensor_type(self) -> TensorType {
        match self {
            ExportedDtype::F32 => TensorType::F32,
            ExportedDtype::F16 => TensorType::F16,
            ExportedDtype::Bf16 => TensorType::BF16,
            ExportedDtype::Q8_0 => TensorType::Blocks(BlockFormat::Q8_0),
            ExportedDtype::Q4_0 => TensorType::Blocks(BlockFormat::Q4_0),
        }
    }
}

/// Exports.
pub fn run(global: &GlobalArguments, arguments: &Arguments, console: &mut Console) -> Outcome {
    let ExportFormat::Gguf = arguments.to;
    let source = match &arguments.source {
        Some(source) => std::path::absolute(source)?,
        None => std::path::absolute(select::existing_project(global)?.model())?,
    };
    let base = arguments.base.as_ref().map(|base| model_path(base, console)).transpose()?;
    let out = arguments.out.as_ref().map(std::path::absolute).transpose()?;
    let dtype = arguments.dtype.map(ExportedDtype::tensor_type);
    let mut reporter = console.reporter();
    let exported =
        pipeline::gguf::export(&source, base.as_deref(), dtype, out.as_deref(), reporter.as_mut())?;
    drop(reporter);
    if !console.is_human() {
        return console.result("exported", &json!(exported));
    }
    tell(&exported, console)
}

fn tell(exported: &Exported, console: &mut Console) -> Outcome {
    let out = shown(&exported.out);
    console.data(&format!(
        "{out}: {} tensors of architecture {}, {}, {}",
        exported.tensors,
        exported.architecture,
        exported.dtype,
        bytes(exported.bytes)
    ))?;
    for note in &exported.notes {
        console.prose(&format!("note: {note}"));
    }
    let from = match exported.out.is_absolute() && !out.starts_with('/') {
        true => format!("./{out}"),
        false => out.clone(),
    };
    match &exported.base {
        None => {
            console.prose(&format!("llama.cpp: llama-server -m {out} --jinja"));
            console.prose(&format!("Ollama:    write `FROM {from}` to a file, Modelfile, then"));
        }
        Some(base) => {
            let base = base.file_name().unwrap_or(base.as_os_str()).to_string_lossy();
            console.prose(&format!("llama.cpp: llama-server -m BASE.gguf --lora {out} --jinja"));
            console.prose(&format!(
                "Ollama:    write `FROM ./BASE.gguf` and `ADAPTER {from}` to a file, Modelfile, then"
            ));
            console.prose(&format!("           (BASE.gguf: a GGUF file of {base})"));
        }
    }
    console.prose("           ollama create NAME -f Modelfile && ollama run NAME");
    Ok(())
}

/// A path relative to the current folder, if it is inside.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let inside = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    inside.unwrap_or_else(|| path.to_owned()).display().to_string()
}
