//! `text2llm data stage`: one of the stages of `data prepare`, or a rank's share of one.

use clap::Args;
use pipeline::share::Share;
use pipeline::stages::{DataStage, shared};

use super::prepare::request;
use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::Outcome;
use crate::output::Console;
use crate::select;

/// Run one stage of `data prepare`. Over a folder that all machines share, or over object storage with
/// --share, `judge` and `encode` are shared among ranks, each a process with its number; the others are one
/// process each: judge, documents, tokenizer, encode, tokens. What is done already and still verifies is
/// skipped; the result is that of `data prepare`, byte for byte, whatever the number of ranks.
#[derive(Debug, Args)]
pub struct Arguments {
    /// judge, documents, tokenizer, encode or tokens
    #[arg(value_name = "STAGE")]
    pub stage: DataStage,
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Which share of `judge` or `encode`, counted from 0
    #[arg(long, value_name = "I", default_value_t = 0)]
    pub rank: usize,
    /// Of how many; the same for all stages
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub of: usize,
    /// Object storage that passes on what the stages make, where machines see no common folder:
    /// s3://BUCKET/PREFIX
    #[arg(long, value_name = "ADDRESS", env = "TEXT2LLM_SHARE", hide_env = true)]
    pub share: Option<String>,
}

/// Runs it.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    crate::stopping::listen(console)?;
    let rank = corpus::Rank::new(arguments.rank, arguments.of)?;
    let project = select::project(global, arguments.recipe.output_dir.as_deref())?;
    let selected = select::recipe(global, &arguments.recipe, &[], &project)?;
    console.heading(&selected, &project);
    let request = request(global, selected, &project);
    let share = arguments.share.as_deref().map(Share::open).transpose()?;
    let done =
        shared::run_stage(&request, arguments.stage, rank, share.as_ref(), console.reporter().as_mut())?;
    if !console.is_human() {
        return console.result("stage", &serde_json::to_value(done)?);
    }
    Ok(())
}
