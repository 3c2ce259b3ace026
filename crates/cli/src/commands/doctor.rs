//! `text2llm doctor`: what this machine has to train on, and what brings what is missing.

use clap::Args;
use serde_json::{Value, json};

use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::{Console, bytes};

/// Tell what this machine has to train on. Nothing is changed.
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
    let precision = if set.has_bf16() { "bf16" } else { "f32: this CPU has no bf16 products" };
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
    console.data("NVIDIA      this program was built without it: cargo build --release --features cuda")
}

#[cfg(feature = "cuda")]
fn cuda_findings() -> Value {
    use compute::cuda::libraries::{PARTS, Part, gpus};
    let mut libraries = serde_json::Map::new();
    let mut devices = json!([]);
    for part in PARTS {
        let found = part.find();
        if let (Part::Driver, Some(driver)) = (part, &found) {
            devices = match gpus(driver) {
                Ok(gpus) => gpus.iter().map(describe).collect(),
                Err(message) => json!({ "error": message }),
            };
        }
        let value = match found {
            Some(found) => json!({ "path": found.path, "version": found.version }),
            None => json!({ "missing": part.remedy(), "optional": part.is_optional() }),
        };
        libraries.insert(part.name().to_owned(), value);
    }
    json!({ "libraries": libraries, "gpus": devices })
}

#[cfg(feature = "cuda")]
fn describe(gpu: &compute::cuda::libraries::Gpu) -> Value {
    json!({
        "name": gpu.name,
        "capability": format!("{}.{}", gpu.capability.0, gpu.capability.1),
        "memory_bytes": gpu.memory_bytes,
        "multiprocessors": gpu.multiprocessors,
        "supported": gpu.is_supported(),
    })
}

#[cfg(feature = "cuda")]
fn print_cuda(console: &mut Console) -> Outcome {
    use compute::cuda::libraries::{PARTS, Part, gpus};
    for part in PARTS {
        let found = part.find();
        match &found {
            Some(found) => {
                console.data(&format!("{:<15} {} ({})", part.name(), found.version, found.path.display()))?;
            }
            None => {
                let missing = if part.is_optional() { "not found, and not needed" } else { "not found" };
                console.data(&format!("{:<15} {missing}; {}", part.name(), part.remedy()))?;
            }
        }
        if let (Part::Driver, Some(driver)) = (part, &found) {
            match gpus(driver) {
                Ok(gpus) => {
                    for gpu in gpus {
                        let old = if gpu.is_supported() { "" } else { ", too old: sm_80 is the least" };
                        console.data(&format!(
                            "  {}, {}, sm_{}{}, {} multiprocessors{old}",
                            gpu.name,
                            bytes(gpu.memory_bytes),
                            gpu.capability.0,
                            gpu.capability.1,
                            gpu.multiprocessors
                        ))?;
                    }
                }
                Err(message) => console.data(&format!("  {message}"))?,
            }
        }
    }
    Ok(())
}
