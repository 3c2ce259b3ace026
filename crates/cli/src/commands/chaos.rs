//! `text2llm chaos`: kill a real run repeatedly and check that nothing is lost.

use clap::Args;
use pipeline::trials;

use super::verify_resume::{not_kept, print, trial};
use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::Outcome;
use crate::output::{Console, short_duration};
use crate::select;

/// Test crash safety: kill a run at random moments and compare its result
///
/// Kills training with SIGKILL, resumes it each time, and compares the result with that of an uninterrupted
/// run bit for bit. After each kill, every checkpoint must pass verification, and at most one checkpoint
/// interval may be lost. Uses a scratch folder in the project.
#[derive(Debug, Args)]
#[command(
    after_help = "Without RECIPE, the example quick-test is used. --seed sets the moments of the kills."
)]
pub struct Arguments {
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Number of kills
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub kills: u64,
    /// Optimizer steps per run
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..))]
    pub steps: u64,
}

/// Runs the test and prints what was found.
pub fn run(global: &GlobalArguments, mut arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::project(global, arguments.recipe.output_dir.as_deref())?;
    arguments.recipe.recipe.get_or_insert_with(|| "quick-test".to_owned());
    let mut selected = select::recipe(global, &arguments.recipe, &[], &project)?;
    pipeline::hub::localize(&mut selected.recipe, &selected.base_dir, console.reporter().as_mut())?;
    let trial = trial(global, &project, &selected, arguments.steps)?;
    let human = console.is_human();
    let found = trials::chaos(&trial, arguments.kills, global.seed.unwrap_or(0), |kills| {
        if human && kills.is_multiple_of(25) {
            console.prose(&format!("  {kills} kills"));
        }
    })?;
    if human {
        console.data(&format!(
            "{} kills over {} runs of {} steps, a checkpoint every {} steps: {} during a save, at most {} \
             steps lost",
            found.kills,
            found.runs,
            found.steps,
            found.checkpoint_every,
            found.kills_in_a_save,
            found.most_steps_lost
        ))?;
        print(&found.compared, console)?;
        console.prose(&format!("({})", short_duration(found.seconds)));
    } else {
        console.result("chaos", &serde_json::to_value(&found)?)?;
    }
    if found.sound {
        return Ok(());
    }
    let kept = found.kept.map(|path| format!("; kept in {}", path.display())).unwrap_or_default();
    Err(not_kept(&format!("{}{kept}", found.violations.join("; "))))
}
