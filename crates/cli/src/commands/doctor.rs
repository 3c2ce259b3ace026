//! `text2llm doctor`: this machine's CPU, memory and GPUs, and how to install what is missing.

use clap::Args;
#[cfg(feature = "cuda")]
use compute::cuda::libraries::{Found, Gpu, Part};
#[cfg(feature = "cuda")]
use serde_json::Map;
use serde_json::{Value, json};

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::{Console, bytes};

/// Report CPU, memory and GPU, and how to install what is missing
///
/// In a CUDA build (`--features cuda`), lists the driver, the GPUs and NVIDIA's libraries. Changes nothing.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Prints the findings.
pub fn run(_global: &GlobalArguments, _arguments: Arguments, console: &mut Console) -> Outcome {
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
