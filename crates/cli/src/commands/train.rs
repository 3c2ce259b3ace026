//! `text2llm train`: train a run without validation and export, preparing text and tokenizer as needed.

use clap::Args;
use pipeline::stages::Until;

use super::run;
use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::Outcome;
use crate::output::Console;

/// Prepare data and train, without the final validation and export
///
/// Data and tokenizer are prepared if they are missing or out of date. A later `text2llm run` reuses the
/// training and adds validation and export.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Use the prepared text in data/ even if the corpus or [data] changed
    #[arg(long)]
    pub skip_corpus: bool,
    /// Use the tokenizer in tokenizer/ even if [tokenizer] changed
    #[arg(long)]
    pub skip_tokenizer: bool,
    /// Continue the latest unfinished run, with the recipe it was started with
    #[arg(long)]
    pub resume: bool,
    /// With --resume, apply changed recipe keys that may change within a run (schedule, checkpoints,
    /// validation, export)
    #[arg(long, requires = "resume")]
    pub accept_changes: bool,
    /// Run in the background under a supervisor that resumes after a crash; returns once training has started
    #[arg(long)]
    pub detach: bool,
}

/// Runs the stages up to training.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let Arguments { recipe, skip_corpus, skip_tokenizer, resume, accept_changes, detach } = arguments;
    let whole = run::Arguments {
        recipe,
        skip_corpus,
        skip_tokenizer,
        resume,
        accept_changes,
        fresh: !resume,
        detach,
    };
    run::run_until(global, whole, &[], Until::Training, console)
}
