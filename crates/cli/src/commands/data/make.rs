//! `text2llm data make`: generate example data sets.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use store::fs::RealFs;
use synthetic::files;
use synthetic::weather_persona::{self, Options};

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::{Console, bytes};

/// Where the files are written, in the project folder.
const DEFAULT_OUT: &str = "data/synthetic";

/// Generate an example data set
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub what: What,
}

/// The data sets. The help of each is the comment of its arguments.
#[derive(Debug, Subcommand)]
pub enum What {
    WeatherPersona(WeatherPersonaArguments),
}

/// Generate conversations of a weather assistant with personas, for fine-tuning with tool calls
///
/// Writes final_train.jsonl.zst, final_validation.jsonl.zst (a tenth of the conversations) and
/// merge_metadata.json (seed, counts, hashes). The same --seed (default 42) and --conversations give the same
/// conversations on every machine. Files that this command did not write are never overwritten.
#[derive(Debug, Args)]
pub struct WeatherPersonaArguments {
    /// Folder to write to [default: data/synthetic in the project folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Number of conversations, of both parts together
    #[arg(long, value_name = "N", default_value_t = Options::default().conversations)]
    pub conversations: usize,
}

/// Runs the subcommand.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let What::WeatherPersona(arguments) = arguments.what;
    crate::stopping::listen(console)?;
    let out = arguments.out.unwrap_or_else(|| global.project.clone().unwrap_or_default().join(DEFAULT_OUT));
    let options = Options {
        seed: global.seed.unwrap_or(Options::default().seed),
        conversations: arguments.conversations,
    };
    let generated = weather_persona::generate(&options)?;
    let written = files::write(&RealFs, &out, &generated)?;
    if !console.is_human() {
        let file = |file: &files::Written| json!({ "path": file.path, "bytes": file.bytes, "unchanged": file.was_there });
        let files: Vec<_> = written.iter().map(file).collect();
        let metadata = &generated.metadata;
        return console.result(
            "data_set",
            &json!({
                "name": "weather-persona",
                "seed": options.seed,
                "train": generated.train.len(),
                "validation": generated.validation.len(),
                "personas": metadata["personas"],
                "kinds": metadata["kinds"],
                "files": files,
            }),
        );
    }
    console.data(&format!(
        "{} conversations for training, {} for validation (seed {})",
        generated.train.len(),
        generated.validation.len(),
        options.seed
    ))?;
    for file in &written {
        let was_there = if file.was_there { ", unchanged" } else { "" };
        console.data(&format!("{} ({}{was_there})", file.path.display(), bytes(file.bytes)))?;
    }
    Ok(())
}
