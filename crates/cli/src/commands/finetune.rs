//! `text2llm finetune`: train a model further on examples.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pipeline::stages::Until;
use recipe::Override;

use super::run;
use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::Console;
use crate::select;

/// Fine-tune a model on conversations or other examples
///
/// Renders the examples with the model's chat template, shows what is trained, trains adapters (LoRA) on the
/// frozen model or all of its weights, and writes the result to model/. Everything else is as in `run`.
#[derive(Debug, Args)]
#[command(after_help = "Without a recipe, uses text2llm.toml of the project, or else the example finetune \
                  (`text2llm new --example finetune`).")]
pub struct Arguments {
    #[command(flatten)]
    pub run: run::Arguments,
    /// Model to fine-tune: a folder in Hugging Face format, a GGUF file, the folder of a run or of its
    /// checkpoint, or hf://OWNER/NAME[@REVISION][/FILE.gguf] (train.init)
    #[arg(long, value_name = "MODEL")]
    pub init: Option<String>,
    /// File of examples: .jsonl, .json or .parquet, or an `hf://` dataset; can be repeated (finetune.data)
    #[arg(long, value_name = "FILE")]
    pub data: Vec<String>,
    /// File of validation examples; can be repeated (finetune.validation)
    #[arg(long, value_name = "FILE")]
    pub validation: Vec<String>,
    /// What to train
    #[arg(long, value_name = "METHOD")]
    pub method: Option<Method>,
}

/// Ways of fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Low-rank adapters on the frozen model.
    Lora,
    /// Low-rank adapters on the frozen model in 4 bits: least memory.
    Qlora,
    /// Low-rank adapters and the norms of the adapted weights' rows: nearer to all weights, slower.
    Dora,
    /// All weights.
    Full,
    /// Low-rank adapters that learn from preference pairs: direct preference optimization, or another loss of
    /// [finetune.preference].
    Dpo,
}

/// Runs all stages.
pub fn run(global: &GlobalArguments, mut arguments: Arguments, console: &mut Console) -> Outcome {
    let mut layers = overrides(arguments.init.as_ref(), &arguments.data, &arguments.validation)?;
    match arguments.method {
        Some(Method::Qlora) => layers.push(Override::flag("--method qlora", "adapter.base", "nf4")),
        Some(Method::Lora) => layers.push(Override::flag("--method lora", "adapter.base", "auto")),
        Some(Method::Dora) => layers.push(Override::flag("--method dora", "adapter.dora", true)),
        Some(Method::Dpo) => {
            layers.push(Override::section("--method dpo", "finetune.preference"));
            layers.push(Override::flag("--method dpo", "adapter.dropout", 0.0));
        }
        Some(Method::Full) => layers.push(Override::flag("--method full", "adapter.enabled", false)),
        None => {}
    }
    let project = select::project(global, arguments.run.recipe.output_dir.as_deref())?;
    if arguments.run.recipe.recipe.is_none() && !project.recipe_file().is_file() {
        arguments.run.recipe.recipe = Some("finetune".to_owned());
    }
    run::run_until(global, arguments.run, &layers, Until::Export, console)
}

/// What the flags --init, --data and --validation set in a recipe.
pub fn overrides(init: Option<&String>, data: &[String], validation: &[String]) -> Outcome<Vec<Override>> {
    let mut layers = Vec::new();
    if let Some(init) = init {
        layers.push(Override::flag("--init", "train.init", absolute(init)?));
    }
    for (flag, path, files) in
        [("--data", "finetune.data", data), ("--validation", "finetune.validation", validation)]
    {
        if !files.is_empty() {
            let files: Vec<toml::Value> =
                files.iter().map(|file| absolute(file).map(toml::Value::String)).collect::<Outcome<_>>()?;
            layers.push(Override::flag(flag, path, files));
        }
    }
    Ok(layers)
}

fn absolute(path: &str) -> Outcome<String> {
    if path.starts_with("hf://") {
        return Ok(path.to_owned());
    }
    Ok(std::path::absolute(PathBuf::from(path))?.to_string_lossy().into_owned())
}
