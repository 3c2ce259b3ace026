//! `text2llm resume`: continue a run from a checkpoint, to its end or beyond.

use clap::Args;
use pipeline::project::Project;
use pipeline::stages::{self, More, ResumeRequest};
use pipeline::supervise;
use runs::run::RunDir;
use store::fs::RealFs;

use crate::arguments::GlobalArguments;
use crate::detach::{self, Detached};
use crate::failure::Outcome;
use crate::output::Console;
use crate::{select, summary};

/// Resume a run bit for bit from a checkpoint, or extend it
///
/// The resumed run is bit-identical to one that was never interrupted, unless a flag below changes its
/// length. Runs started with `run`, and runs that have finished training, continue with validation and
/// export.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run id, a unique prefix or suffix of it, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// Train N epochs beyond the run's end
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "more_steps",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub more_epochs: Option<u64>,
    /// Train N steps beyond the run's end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub more_steps: Option<u64>,
    /// Decay the learning rate over the next N steps, then end the run; needs train.schedule = "wsd" or
    /// "constant"
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["more_steps", "more_epochs"],
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub decay_now: Option<u64>,
    /// Checkpoint to continue from: latest, best, or a step; later checkpoints are discarded
    #[arg(long, value_name = "CHECKPOINT", default_value = "latest")]
    pub checkpoint: String,
    /// Run in the background under a supervisor that resumes after a crash; returns once training has started
    #[arg(long)]
    pub detach: bool,
}

/// Continues the run.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    if arguments.detach {
        return detach(global, &project, &arguments, console);
    }
    crate::stopping::listen(console)?;
    let more = match (arguments.more_epochs, arguments.more_steps, arguments.decay_now) {
        (Some(epochs), _, _) => Some(More::Epochs(epochs)),
        (_, Some(steps), _) => Some(More::Steps(steps)),
        (_, _, Some(steps)) => Some(More::DecayNow(steps)),
        _ => None,
    };
    let request = ResumeRequest {
        project: &project,
        run: arguments.run,
        checkpoint: arguments.checkpoint,
        more,
        target: global.target(),
        accept_risks: global.yes,
        generator: std::env::current_exe().ok(),
    };
    let outcome = stages::resume(request, console.reporter().as_mut())?;
    summary::print(&outcome, &project, console)
}

fn detach(
    global: &GlobalArguments,
    project: &Project,
    arguments: &Arguments,
    console: &mut Console,
) -> Outcome {
    // Resolved now: `latest` could be another run by the time of a resume.
    let run = RunDir::find(&RealFs, &project.runs(), &arguments.run)?;
    let run_id = run.id();
    let notify = (supervise::recorded_notify(&run)?, false);
    // Values of flags may be equal to the run's name.
    const VALUED: [&str; 8] = [
        "--more-epochs",
        "--more-steps",
        "--decay-now",
        "--checkpoint",
        "--project",
        "--threads",
        "--device",
        "--seed",
    ];
    let name = |mut given: Vec<String>| {
        let is_value = |at: usize| at > 0 && VALUED.contains(&given[at - 1].as_str());
        if let Some(at) = (0..given.len()).rfind(|&at| given[at] == arguments.run && !is_value(at)) {
            given.remove(at);
        }
        if let Some(at) = given.iter().rposition(|argument| argument == "resume") {
            given.insert(at + 1, run_id.clone());
        }
        given
    };
    let first = detach::arguments_without(&detach::OUTPUT_FLAGS);
    let mut once = detach::OUTPUT_FLAGS.to_vec();
    once.extend([("--more-epochs", 1), ("--more-steps", 1), ("--decay-now", 1), ("--checkpoint", 1)]);
    let again = detach::arguments_without(&once);
    let detached =
        Detached { project, first: name(first), again: name(again), run_id: Some(run_id.clone()), notify };
    detach::launch(global, detached, console)
}
