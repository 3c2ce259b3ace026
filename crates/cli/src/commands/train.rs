//! `text2llm train`: training alone, on text and a tokenizer that are prepared as needed.

use clap::Args;
use pipeline::stages::Until;

use super::run;
use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::Outcome;
use crate::output::Console;

/// Train a new run; corpus and tokenizer are prepared only if they are missing or out of date. Validation and
/// export come with a later `text2llm run`, which reuses the finished training.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Use the prepared text in data/ as it is, even if the corpus or [data] changed
    #[arg(long)]
    pub skip_corpus: bool,
    /// Use the tokenizer in tokenizer/ as it is, even if [tokenizer] changed
    #[arg(long)]
    pub skip_tokenizer: bool,
    /// Continue the latest unfinished run, with the recipe it was started with
    #[arg(long)]
    pub resume: bool,
    /// Continue with what was changed of the recipe since and may change within a run: schedule, checkpoints,
    /// validation, export
    #[arg(long, requires = "resume")]
    pub accept_changes: bool,
    /// Work in the background, watched over and resumed after a crash; returns once it is seen to train
    #[arg(long)]
    pub detach: bool,
}

/// Carries out the phases up to training.
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
    run::run_until(global, whole, Until::Training, console)
}
