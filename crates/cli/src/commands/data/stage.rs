//! `text2llm data stage`: run one stage of `data prepare`, or one rank's part of it.

use clap::Args;
use pipeline::share::Share;
use pipeline::stages::{DataStage, shared};

use super::prepare::request;
use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::Outcome;
use crate::output::Console;
use crate::select;

/// Run a single stage of `data prepare`, or one rank's part of it, for use on many machines
///
/// The stages are, in order: filter, documents, tokenizer, encode, tokens. `filter` and `encode` are split
/// among ranks: run them once for each --rank. The other stages run once, in one process. Processes exchange
/// results through a shared file system or, with --share, object storage. A stage whose output is up to date
/// and passes verification is skipped. The result is byte-identical to that of `data prepare` for any number
/// of ranks.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Stage: filter, documents, tokenizer, encode or tokens
    #[arg(value_name = "STAGE")]
    pub stage: DataStage,
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Rank of this process for `filter` or `encode`, from 0
    #[arg(long, value_name = "I", default_value_t = 0)]
    pub rank: usize,
    /// Total number of ranks (`--ranks` of `data prepare`); the same for all stages
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub of: usize,
    /// Exchange results through object storage instead of a shared file system: s3://BUCKET/PREFIX
    #[arg(long, value_name = "URL", env = "TEXT2LLM_SHARE", hide_env = true)]
    pub share: Option<String>,
}

/// Runs the stage.
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
