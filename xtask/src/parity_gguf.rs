//! `cargo xtask parity-gguf`: what a GGUF file says to us and to transformers, which widens it to f32 with
//! its own code.
//!
//! Logits of the same random ids: ours in f32 must agree, ours in the file's own types within what their
//! products round.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Args;
use compute::cpu::Cpu;
use compute::rng::Rng;
use model::{DType, Decoder, Decoding, Stored, WeightTypes};
use store::fs::RealFs;

use crate::python;

/// What `cargo xtask parity-gguf` takes.
#[derive(Args)]
pub struct Arguments {
    /// GGUF files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Python with torch, transformers and gguf [default: an environment of its own]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

/// Tokens that logits follow.
const LENGTH: usize = 64;
/// Largest difference of a logit in f32, relative to the largest logit.
const LIMIT_F32: f32 = 1e-4;
/// The same with products of bfloat16 or integers.
const LIMIT_OWN_TYPES: f32 = 5e-2;

const SCRIPT: &str = r#"
import json, os, sys
import torch
from transformers import AutoModelForCausalLM
path, ids = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(os.path.dirname(path) or ".", gguf_file=os.path.basename(path), dtype=torch.float32)
with torch.no_grad():
    print(json.dumps(model(torch.tensor([ids])).logits[0, -1].tolist()))
"#;

/// Compares each file.
pub fn run(arguments: &Arguments) -> Result<()> {
    let python = match &arguments.python {
        Some(python) => python.clone(),
        None => python::interpreter(&["torch", "transformers", "gguf"])?,
    };
    for file in &arguments.files {
        let file = std::path::absolute(file)?;
        let mut stored = Stored::open(&RealFs, &file)?;
        let mut rng = Rng::from_parts(0, "parity-gguf", &[]);
        let ids: Vec<u32> =
            (0..LENGTH).map(|_| rng.below(stored.config().vocab_size as u64) as u32).collect();
        let output = python::output(
            Command::new(&python).args(["-c", SCRIPT]).arg(&file).arg(serde_json::to_string(&ids)?),
        )?;
        let theirs: Vec<f32> = serde_json::from_str(output.lines().last().unwrap_or_default())?;
        let own = stored.weight_types(None)?;
        for (weights, limit) in [(WeightTypes::All(DType::F32), LIMIT_F32), (own, LIMIT_OWN_TYPES)] {
            for (how, cut) in [("as a prompt", LENGTH), ("a token at a time", 1)] {
                let decoding = Decoding { weights: weights.clone(), ..Decoding::one(LENGTH) };
                let config = stored.config().clone();
                let mut model = Decoder::new(Cpu::new(0), config, decoding)?;
                stored.load(model.weights_mut())?;
                let mut ours = Vec::new();
                for part in ids.chunks(cut) {
                    ours = model.decode(part)?;
                }
                ensure!(ours.len() == theirs.len(), "{} logits for {}", ours.len(), theirs.len());
                let largest = theirs.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                let difference =
                    ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
                println!(
                    "{}: {} {how}: largest difference of a logit {difference:.1e} of the largest logit",
                    file.file_name().unwrap_or_default().display(),
                    model.weights().type_names()
                );
                ensure!(difference <= limit, "more than {limit:e}");
            }
        }
    }
    Ok(())
}
