//! `text2llm train`: training alone, on text and a tokenizer that are prepared as needed.

use clap::Args;
use pipeline::stages::{self, Request, Until};

use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::Outcome;
use crate::output::Console;
use crate::{select, summary};

/// Train a new run; corpus and tokenizer are prepared only if they are missing or out of date. Validation and export
/// come with a later `text2llm run`, which reuses the finished training.
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
}

/// Carries out the phases up to training.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::project(global, arguments.recipe.output_dir.as_deref())?;
    let selected = select::recipe(global, &arguments.recipe, &[], &project)?;
    console.heading(&selected, &project);
    let request = Request {
        project: &project,
        recipe: selected.recipe,
        base_dir: selected.base_dir,
        recipe_source: selected.source,
        recipe_is_explicit: selected.explicit,
        skip_corpus: arguments.skip_corpus,
        skip_tokenizer: arguments.skip_tokenizer,
        resume: false,
        fresh: true,
        until: Until::Training,
        threads: global.threads,
        accept_risks: global.yes,
        generator: std::env::current_exe().ok(),
    };
    let outcome = stages::run(request, console.reporter().as_mut())?;
    summary::print(&outcome, &project, console)
}
