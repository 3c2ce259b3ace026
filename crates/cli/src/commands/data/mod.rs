//! `text2llm data`: commands for training text, without a model.

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

/// Prepare, inspect and compare training text.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub what: What,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Prepare text and tokenizer and write token shards, without training
    Prepare(prepare::Arguments),
    /// Run a single stage of `data prepare`, or one rank's share of it, for use on many machines
    Stage(stage::Arguments),
    /// Print the main text of an HTML page
    Extract(extract::Arguments),
    /// Train a quality classifier
    Classifier(classifier::Arguments),
    /// Browse prepared documents and what was dropped
    Inspect(inspect::Arguments),
    /// Show statistics of prepared text
    Stats(stats::Arguments),
    /// Compare two versions of prepared text
    Diff(diff::Arguments),
}

/// Runs the subcommand.
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
