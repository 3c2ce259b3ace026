//! `text2llm doctor`: this machine's CPU, memory and GPUs, and how to install what is missing.

use clap::Args;
#[cfg(feature = "cuda")]
use compute::cuda::libraries::{Found, Gpu, Part};
#[cfg(feature = "cuda")]
use serde_json::Map;
use serde_json::{Value, json};

use super::finetune;
use crate::arguments::{GlobalArguments, RecipeArguments};
use crate::failure::{Failure, Outcome};
use crate::output::{Console, bytes};
use crate::preflight::{Machine, Preflight, Status};
use crate::select;

/// Report CPU, memory and GPU, and how to install what is missing
///
/// In a CUDA build (`--features cuda`), lists the driver, the GPUs and NVIDIA's libraries. With --for, checks
/// instead whether a recipe can run on this machine, one line per check, and fails if it cannot. Changes
/// nothing, but downloads what the recipe names on a hub.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Check whether this recipe can run here: its keys, data, base model, disk, memory and device
    #[arg(long = "for", value_name = "RECIPE")]
    pub recipe: Option<String>,
    /// With --for: model to fine-tune (train.init)
    #[arg(long, value_name = "MODEL", requires = "recipe")]
    pub init: Option<String>,
    /// With --for: file of examples; can be repeated (finetune.data)
    #[arg(long, value_name = "FILE", requires = "recipe")]
    pub data: Vec<String>,
    /// With --for: the machine that this should be
    #[arg(long, value_name = "MACHINE", requires = "recipe", default_value = "none")]
    pub machine: Machine,
    /// With --for: free disk space that is needed at least, in GB
    #[arg(long, value_name = "GB", requires = "recipe", default_value_t = 5.0, value_parser = gigabytes)]
    pub minimum_disk_gb: f64,
    /// With --for: check that WANDB_API_KEY is set, for a notification command that reports to Weights &
    /// Biases
    #[arg(long, requires = "recipe")]
    pub wandb: bool,
}

fn gigabytes(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| format!("`{}` is not a number of GB", store::plain::line(text)))
}

/// Prints the findings.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    if arguments.recipe.is_some() {
        return check(global, arguments, console);
    }
    let set = compute::cpu::InstructionSet::detect();
    let cpu = store::system::cpu_model();
    let threads = store::system::available_threads();
    let memory = store::system::available_memory_bytes();
    if !console.is_human() {
        let cpu = json!({
            "model": cpu,
            "threads": threads,
            "instruction_set": set.name(),
            "bf16": set.has_bf16(),
            "available_memory_bytes": memory,
        });
        return console.result("doctor", &json!({ "cpu": cpu, "cuda": cuda_findings() }));
    }
    console.data(&format!("CPU         {cpu}, {threads} threads, {}", set.name()))?;
    let precision = if set.has_bf16() { "bf16" } else { "f32 (this CPU has no bf16 instructions)" };
    console.data(&format!("  trains in {precision}"))?;
    if let Some(memory) = memory {
        console.data(&format!("Memory      {} free", bytes(memory)))?;
    }
    print_cuda(console)
}

/// Prints the checks of a recipe; fails if one has found an error.
fn check(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::project(global, None)?;
    let named = RecipeArguments { recipe: arguments.recipe, ..RecipeArguments::default() };
    let overrides = finetune::overrides(arguments.init.as_ref(), &arguments.data, &[])?;
    let selected = select::recipe(global, &named, &overrides, &project).and_then(|mut selected| {
        pipeline::hub::localize(&mut selected.recipe, &selected.base_dir, console.reporter().as_mut())?;
        Ok(selected)
    });
    let preflight = Preflight {
        selected,
        project: &project,
        machine: arguments.machine,
        minimum_disk_gb: arguments.minimum_disk_gb,
        wandb: arguments.wandb,
        target: global.target(),
    };
    let checks = preflight.checks();
    let count = |status: Status| checks.iter().filter(|check| check.status == status).count();
    let (errors, warnings) = (count(Status::Error), count(Status::Warning));
    for check in &checks {
        if console.is_human() {
            console.data(&check.line())?;
        } else {
            console.result("check", &check.json())?;
        }
    }
    if !console.is_human() {
        let summary = json!({ "checks": checks.len(), "errors": errors, "warnings": warnings });
        console.result("summary", &summary)?;
    }
    if errors > 0 {
        return Err(Failure::message(format!("{errors} of {} checks failed", checks.len())));
    }
    console.prose(&format!("{} checks passed, {warnings} with a warning", checks.len()));
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn cuda_findings() -> Value {
    Value::Null
}

#[cfg(not(feature = "cuda"))]
fn print_cuda(console: &mut Console) -> Outcome {
    console
        .data("NVIDIA      not supported by this build; rebuild with `cargo build --release --features cuda`")
}

#[cfg(feature = "cuda")]
fn cuda_findings() -> Value {
    let survey = compute::cuda::libraries::survey();
    let library = |(part, found): &(Part, Option<Found>)| {
        let value = match found {
            Some(found) => json!({ "path": found.path, "version": found.version }),
            None => json!({ "missing": part.remedy(), "optional": part.is_optional() }),
        };
        (part.name().to_owned(), value)
    };
    let gpu = |gpu: &Gpu| {
        json!({
            "name": gpu.name,
            "capability": format!("{}.{}", gpu.capability.0, gpu.capability.1),
            "memory_bytes": gpu.memory_bytes,
            "multiprocessors": gpu.multiprocessors,
            "supported": gpu.is_supported(),
        })
    };
    let gpus = match &survey.gpus {
        Ok(gpus) => gpus.iter().map(gpu).collect(),
        Err(message) => json!({ "error": message }),
    };
    json!({ "libraries": survey.libraries.iter().map(library).collect::<Map<_, _>>(), "gpus": gpus })
}

#[cfg(feature = "cuda")]
fn print_cuda(console: &mut Console) -> Outcome {
    let survey = compute::cuda::libraries::survey();
    for (part, found) in &survey.libraries {
        let told = match found {
            Some(found) => format!("{} ({})", found.version, found.path.display()),
            None if part.is_optional() => "not found (not needed yet)".to_owned(),
            None => format!("not found; {}", part.remedy()),
        };
        console.data(&format!("{:<15} {told}", part.name()))?;
        if *part == Part::Driver {
            print_gpus(&survey.gpus, console)?;
        }
    }
    Ok(())
}

#[cfg(feature = "cuda")]
fn print_gpus(gpus: &Result<Vec<Gpu>, String>, console: &mut Console) -> Outcome {
    let gpus = match gpus {
        Ok(gpus) => gpus,
        Err(message) => return console.data(&format!("  {message}")),
    };
    for gpu in gpus {
        console.data(&format!(
            "  {}, {}, sm_{}{}, {} multiprocessors{}",
            gpu.name,
            bytes(gpu.memory_bytes),
            gpu.capability.0,
            gpu.capability.1,
            gpu.multiprocessors,
            if gpu.is_supported() { "" } else { ", not supported: sm_80 or later is required" },
        ))?;
    }
    Ok(())
}
