//! `text2llm average`: the mean of the weights of several checkpoints, as a model folder.

use std::path::PathBuf;

use clap::Args;
use pipeline::average::average;
use runs::run::RunDir;
use store::fs::RealFs;

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::Console;
use crate::select;

/// Average the weights of several checkpoints of a run into one model
///
/// Compares the validation loss of the average with that of the most recent of these checkpoints. The average
/// of checkpoints from the plateau of a run, where the learning rate is at its peak, often has a lower loss
/// than any one of them.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run id, a unique prefix or suffix of it, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// Number of most recent checkpoints to average; fewer if the run kept fewer (see train.keep_last)
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..))]
    pub last: u64,
    /// Average the checkpoints of these steps instead: 800,900,1000
    #[arg(long, value_name = "STEPS", value_delimiter = ',', conflicts_with = "last")]
    pub checkpoints: Vec<u64>,
    /// Folder to write the model to [default: model-average in the project]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Averages the checkpoints and prints both validation losses.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    crate::stopping::listen(console)?;
    let project = select::existing_project(global)?;
    let run = RunDir::find(&RealFs, &project.runs(), &arguments.run)?;
    let out = arguments.out.unwrap_or_else(|| project.root().join("model-average"));
    let chosen = (arguments.checkpoints.as_slice(), arguments.last as usize);
    let found = average(&project, &run, chosen, &out, global.target())?;
    if !console.is_human() {
        let mut value = serde_json::to_value(&found)?;
        value["path"] = out.display().to_string().into();
        return console.result("average", &value);
    }
    let steps: Vec<String> = found.steps.iter().map(u64::to_string).collect();
    console.data(&format!("{}: average of the checkpoints of steps {}", out.display(), steps.join(", ")))?;
    let loss = |loss: Option<f64>| loss.map_or("not measured".to_owned(), |loss| format!("{loss:.4}"));
    console.data(&format!("validation loss {}", loss(found.validation_loss)))?;
    console.data(&format!("  most recent checkpoint {}", loss(found.newest_validation_loss)))?;
    console.prose(&format!("Next: text2llm generate --model {} --prompt \"The \"", out.display()));
    Ok(())
}
