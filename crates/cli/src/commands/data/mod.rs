//! `text2llm data`: commands for training text, without a model.

mod classifier;
mod diff;
mod doctor;
mod executors;
mod extract;
mod inspect;
mod make;
mod prepare;
mod prepared;
mod show_mask;
mod stage;
mod stats;

use clap::{Args, Subcommand};

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::Console;

/// Prepare, inspect and compare training text
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub what: What,
}

/// The subcommands. The help of each is the comment of its `Arguments`.
#[derive(Debug, Subcommand)]
pub enum What {
    Prepare(prepare::Arguments),
    Stage(stage::Arguments),
    Extract(extract::Arguments),
    Classifier(classifier::Arguments),
    Make(make::Arguments),
    Doctor(doctor::Arguments),
    ShowMask(show_mask::Arguments),
    Inspect(inspect::Arguments),
    Stats(stats::Arguments),
    Diff(diff::Arguments),
}

/// Runs the subcommand.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    match arguments.what {
        What::Prepare(arguments) => prepare::run(global, arguments, console),
        What::Stage(arguments) => stage::run(global, arguments, console),
        What::Extract(arguments) => extract::run(arguments, console),
        What::Classifier(arguments) => classifier::run(global, arguments, console),
        What::Doctor(arguments) => doctor::run(&arguments, console),
        What::ShowMask(arguments) => show_mask::run(&arguments, console),
        What::Make(arguments) => make::run(global, arguments, console),
        What::Inspect(arguments) => inspect::run(global, &arguments, console),
        What::Stats(arguments) => stats::run(global, &arguments, console),
        What::Diff(arguments) => diff::run(global, &arguments, console),
    }
}
