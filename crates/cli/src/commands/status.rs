//! `text2llm status`: where a run stands, from its small `state.json`; nothing heavy is touched.

use clap::Args;
use serde_json::json;
use store::fs::RealFs;
use store::run::{RunDir, RunStatus};

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::{Console, short_duration};
use crate::select;

/// Tell where a run stands.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run id, its unique beginning or end, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
}

/// Prints the state.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    if arguments.run == "latest" && store::run::latest(&RealFs, &project.runs())?.is_none() {
        if console.is_human() {
            console
                .prose(&format!("No runs in {}. Start one with `text2llm run`.", project.runs().display()));
            return Ok(());
        }
        return console.result("status", &json!({ "run_id": null }));
    }
    let run = RunDir::find(&RealFs, &project.runs(), &arguments.run)?;
    let state = run.state(&RealFs)?;
    if !console.is_human() {
        let mut value = serde_json::to_value(&state)?;
        value["run_id"] = json!(run.id());
        value["path"] = json!(run.path());
        return console.result("status", &value);
    }
    console.data(&format!("run         {}", run.id()))?;
    console.data(&format!("status      {}", state.status))?;
    if !state.message.is_empty() {
        console.data(&format!("            {}", state.message))?;
    }
    let share = 100.0 * state.step as f64 / state.total_steps.max(1) as f64;
    console.data(&format!(
        "step        {} of {} ({share:.0} %), epoch {:.2}",
        state.step, state.total_steps, state.epoch
    ))?;
    if let Some(loss) = state.train_loss {
        console.data(&format!("loss        {loss:.4} nats a token"))?;
    }
    if let Some(loss) = state.validation_loss {
        let best = state.best_validation_loss.map(|best| format!(" (best {best:.4})")).unwrap_or_default();
        console.data(&format!("validation  {loss:.4}{best}"))?;
    }
    if state.status == RunStatus::Running && state.eta_s > 0.0 {
        console.data(&format!(
            "speed       {:.0} tokens/s, {} left",
            state.tokens_per_s,
            short_duration(state.eta_s)
        ))?;
    }
    if let Some(step) = state.checkpoint_step {
        console.data(&format!("checkpoint  step {step}"))?;
    }
    console.data(&format!("updated     {}", state.updated_at))?;
    let next = match state.status {
        RunStatus::Completed => "generate --prompt \"The \"",
        RunStatus::Running => return Ok(()),
        _ => "run --resume",
    };
    console.prose(&format!("Next: {}", project.command(next)));
    Ok(())
}
