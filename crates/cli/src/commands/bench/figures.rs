//! Figures for a program.

use serde::Serialize;

use crate::failure::Outcome;
use crate::output::Console;

/// Prints figures for a program: one JSON object with `--json`, a tagged line with `--output agent`. Returns
/// false without printing if a person reads.
pub fn told_a_program(figures: &impl Serialize, console: &mut Console) -> Outcome<bool> {
    if console.is_json() {
        console.data(&serde_json::to_string(figures)?)?;
    } else if !console.is_human() {
        console.result("bench", &serde_json::to_value(figures)?)?;
    }
    Ok(!console.is_human())
}
