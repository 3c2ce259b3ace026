//! `text2llm schema`: print the JSON Schema of recipes, for editors and programs.

use clap::Args;

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::Console;

/// Print the JSON Schema of recipes, for editors and programs
#[derive(Debug, Args)]
pub struct Arguments {}

/// Prints the schema.
pub fn run(global: &GlobalArguments, _arguments: Arguments, console: &mut Console) -> Outcome {
    let schema = recipe::json_schema();
    let text = if global.json { schema.to_string() } else { format!("{schema:#}") };
    console.text(&text)
}
