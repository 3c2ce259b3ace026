//! `text2llm tui`: the runs in a terminal, live.

use clap::Args;

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::{select, tui};

/// Watch the project's runs in the terminal: curves, figures, samples, log; stop, resume and try them.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Shows it until the user leaves.
pub fn run(global: &GlobalArguments, _arguments: Arguments) -> Outcome {
    tui::run(&select::existing_project(global)?)
}
