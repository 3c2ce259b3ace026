//! `text2llm data`: the corpus alone.

mod classifier;
mod diff;
mod executors;
mod extract;
mod inspect;
mod prepare;
mod prepared;
mod stage;
mod stats;

use clap::{Args, Subcommand};

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::Console;

/// Work on the corpus alone.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub what: What,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Text to token shards: corpus and tokenizer, no training
    Prepare(prepare::Arguments),
    /// One stage of it, or one rank's share: for many machines
    Stage(stage::Arguments),
    /// Print the main text of an HTML page
    Extract(extract::Arguments),
    /// Train a judge of quality
    Classifier(classifier::Arguments),
    /// Browse prepared documents and what was dropped
    Inspect(inspect::Arguments),
    /// Prepared text in numbers
    Stats(stats::Arguments),
    /// Compare two versions of prepared text
    Diff(diff::Arguments),
}

/// Carries it out.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    match arguments.what {
        What::Prepare(arguments) => prepare::run(global, arguments, console),
        What::Stage(arguments) => stage::run(global, arguments, console),
        What::Extract(arguments) => extract::run(arguments, console),
        What::Classifier(arguments) => classifier::run(global, arguments, console),
        What::Inspect(arguments) => inspect::run(global, &arguments, console),
        What::Stats(arguments) => stats::run(global, &arguments, console),
        What::Diff(arguments) => diff::run(global, &arguments, console),
    }
}
