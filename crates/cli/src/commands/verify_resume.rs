//! `text2llm verify-resume`: test that a killed and resumed run is bit-identical to an uninterrupted one.

use clap::Args;
use pipeline::project::Project;
use pipeline::trials::{self, Compared, Trial};

use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::{Failure, Outcome};
use crate::output::{Console, bytes, short_duration};
use crate::select::{self, Selected};

/// Test that a killed and resumed run is bit-identical to an uninterrupted one
///
/// Trains N steps without interruption; then trains N/2 steps, kills the process with SIGKILL, resumes, and
/// trains the rest. Compares weights, optimizer state, data loader state and metrics bit for bit. Uses a
/// scratch folder in the project and removes it; if the runs differ, both are kept.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Optimizer steps per run
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(2..))]
    pub steps: u64,
}

/// Runs the test and prints what was compared.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::project(global, arguments.recipe.output_dir.as_deref())?;
    let mut selected = select::recipe(global, &arguments.recipe, &[], &project)?;
    pipeline::hub::localize(&mut selected.recipe, &selected.base_dir, console.reporter().as_mut())?;
    let found = trials::verify_resume(&trial(global, &project, &selected, arguments.steps)?)?;
    if console.is_human() {
        console.data(&format!(
            "{} ({}): killed at step {} of {}, resumed from the checkpoint of step {}",
            selected.recipe.name, selected.source, found.killed_at, found.steps, found.resumed_from
        ))?;
        print(&found.compared, console)?;
        console.prose(&format!("({})", short_duration(found.seconds)));
    } else {
        console.result("verify_resume", &serde_json::to_value(&found)?)?;
    }
    match found.kept {
        None => Ok(()),
        Some(kept) => {
            Err(not_kept(&format!("the resumed run differs; both runs are kept in {}", kept.display())))
        }
    }
}

/// Sets up a trial in a scratch folder; Ctrl-C stops it.
pub fn trial<'a>(
    global: &GlobalArguments,
    project: &'a Project,
    selected: &'a Selected,
    steps: u64,
) -> Outcome<Trial<'a>> {
    Ok(Trial {
        project,
        recipe: &selected.recipe,
        base_dir: &selected.base_dir,
        program: std::env::current_exe()?,
        steps,
        target: global.target(),
        stop: train::StopFlag::of_process().map_err(pipeline::Error::from)?,
    })
}

/// Prints one line per compared part.
pub fn print(compared: &[Compared], console: &mut Console) -> Outcome {
    for part in compared {
        let equal = if part.equal { "bit-identical" } else { "DIFFERENT" };
        console.data(&format!("  {:<18}{:>10}  {equal}", part.what, bytes(part.bytes)))?;
    }
    Ok(())
}

/// The error for a guarantee of training that a trial has found broken.
pub fn not_kept(message: &str) -> Failure {
    Failure::Pipeline(pipeline::Error::Promise { message: message.to_owned() })
}
