//! `text2llm tui`: monitor runs in the terminal.

use clap::Args;

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::{select, tui};

/// Monitor runs in the terminal: curves, metrics, samples, log
///
/// Keys stop a run, resume it and generate text.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Shows the runs until the user quits.
pub fn run(global: &GlobalArguments, _arguments: Arguments) -> Outcome {
    tui::run(&select::existing_project(global)?)
}
