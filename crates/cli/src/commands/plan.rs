//! `text2llm plan`: what a recipe will need, before anything is computed.

use clap::Args;
use model::Precision;
use pipeline::plan::{self, Plan};
use recipe::Override;

use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::Outcome;
use crate::output::{Console, bytes, count, short_duration};
use crate::select;

/// Estimate a recipe's model size, memory, compute and time
///
/// Writes nothing.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Choose width and layers for this number of parameters, such as 100M (model.size)
    #[arg(long, value_name = "SIZE", conflicts_with = "depth")]
    pub size: Option<String>,
    /// Choose the width for this number of layers (model.depth)
    #[arg(long, value_name = "LAYERS")]
    pub depth: Option<String>,
    /// Plan for a rented GPU instead of this machine: h200, h100, a100, l40s, rtx4090, a10g. Time and cost
    /// are estimated from its rated peak at 40 % MFU and an on-demand list price
    #[arg(long, value_name = "GPU", value_parser = pipeline::prices::Gpu::named)]
    pub gpu: Option<&'static pipeline::prices::Gpu>,
    /// Do not measure this machine's speed; the plan then shows no time
    #[arg(long)]
    pub no_calibration: bool,
}

/// Prints the plan.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::project(global, arguments.recipe.output_dir.as_deref())?;
    let mut extra = Vec::new();
    if let Some(size) = &arguments.size {
        extra.push(Override::typed_flag("--size", "model.size", size));
    }
    if let Some(depth) = &arguments.depth {
        extra.push(Override::typed_flag("--depth", "model.depth", depth));
    }
    let mut selected = select::recipe(global, &arguments.recipe, &extra, &project)?;
    pipeline::hub::localize(&mut selected.recipe, &selected.base_dir, console.reporter().as_mut())?;
    let target = global.target();
    let mut plan = plan::plan(&selected.recipe, &project, &selected.base_dir, target)?;
    match arguments.gpu {
        Some(gpu) => plan = plan.on_gpu(&selected.recipe, gpu),
        None if arguments.no_calibration => {}
        None => plan.calibrate(target)?,
    }
    if !console.is_human() {
        return console.result("plan", &serde_json::to_value(&plan)?);
    }
    console.prose(&format!("{} ({})", plan.name, selected.source));
    console.prose("");
    print(&plan, console)
}

fn print(plan: &Plan, console: &mut Console) -> Outcome {
    let shape = &plan.model;
    console.data(&format!(
        "Shape       {} layers, width {}, {} heads ({} key/value), feed-forward {}, vocabulary {}, context \
         {}",
        shape.num_hidden_layers,
        shape.hidden_size,
        shape.num_attention_heads,
        shape.num_key_value_heads,
        shape.intermediate_size,
        shape.vocab_size,
        plan.sequence_length,
    ))?;
    console.data(&format!("Parameters  {}", count(plan.parameters.total)))?;
    for (part, number) in plan.parameters.parts() {
        let share = 100.0 * number as f64 / plan.parameters.total.max(1) as f64;
        console.data(&format!("  {part:<12}{:>10}  {share:>3.0} %", count(number)))?;
    }
    let arithmetic = match (plan.precision, plan.training.adapter.is_some()) {
        (Precision::F32, _) => "f32",
        (Precision::Bf16, false) => "bf16 with f32 weights",
        (Precision::Bf16, true) => "bf16 with f32 adapters",
    };
    let recompute = if plan.recompute { ", with activation recomputation" } else { "" };
    console.data(&format!(
        "Memory      {} to train in {arithmetic}{recompute}",
        bytes(plan.memory.total_bytes)
    ))?;
    for (part, number) in plan.memory.parts() {
        console.data(&format!("  {part:<12}{:>10}", bytes(number)))?;
    }
    console.data(&format!(
        "Tokens      {} to train on{}: {} steps of {} sequences × {} tokens{}",
        count(plan.tokens.trained),
        if plan.tokens.estimated { " (estimated from the size of the text)" } else { "" },
        plan.tokens.steps,
        plan.tokens.batch_size,
        plan.sequence_length,
        plan.tokens.epochs.map(|epochs| format!(", {epochs:.1} epochs")).unwrap_or_default(),
    ))?;
    console.data(&format!(
        "  ratio     {:>10.1} tokens per parameter (about 20 is compute-optimal; more is fine for a small \
         model)",
        plan.tokens.per_parameter
    ))?;
    console.data(&format!(
        "Compute     {:.2e} FLOPs: {} per token ({})",
        plan.flops.total,
        count(plan.flops.per_token as u64),
        plan.flops_formula()
    ))?;
    match &plan.time {
        Some(time) => console.data(&format!(
            "Time        {} on this machine ({:.0} tokens/s, {:.0} GFLOP/s, {} threads, measured over \
             {} steps)",
            short_duration(time.training_s),
            time.tokens_per_s,
            time.model_gflops,
            time.threads,
            time.measured_steps
        ))?,
        None if plan.rent.is_none() => console.data("Time        not measured")?,
        None => {}
    }
    if let Some(rent) = &plan.rent {
        let gpu = rent.gpu;
        console.data(&format!(
            "Rent        about {} and {:.2} USD on one {}: {:.0} % of {:.0} TFLOP/s assumed, {:.2} USD per \
             hour ({}, {}; prices change)",
            short_duration(3600.0 * rent.hours),
            rent.usd,
            gpu.name,
            100.0 * rent.assumed_mfu,
            gpu.bf16_tflops,
            gpu.usd_per_hour,
            gpu.provider,
            gpu.price_date
        ))?;
        console.data(
            "  training steps only; validation, samples, setup and storage are extra; small models reach a \
             lower share",
        )?;
    }
    console.data(&format!("Result      {}", pipeline::forecast::assessment(plan)))?;
    for warning in &plan.warnings {
        console.warning(warning);
    }
    console.prose("");
    console.prose("Next: text2llm run");
    Ok(())
}
