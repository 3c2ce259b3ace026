//! `cargo xtask bench-peers`: whole training steps of text2llm and PyTorch, in turn, on the same machine.
//!
//! Only ratios of one session count, and the machine's speed drifts, so the two alternate and the medians are
//! compared.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use crate::python;

/// What `cargo xtask bench-peers` takes.
#[derive(Args)]
pub struct Arguments {
    /// Python with torch [default: python3]
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// Shapes to time
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "tiny,small,base")]
    presets: Vec<String>,
    /// Runs of each side
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Threads of each side
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Arithmetic of both sides
    #[arg(long, value_name = "DTYPE", default_value = "f32")]
    dtype: String,
    /// Let the peer compile its model
    #[arg(long)]
    compile: bool,
}

/// The runs of one side.
#[derive(Default)]
struct Runs {
    tokens_per_s: Vec<f64>,
    model_gflops: Vec<f64>,
    peak_rss_mb: f64,
    peer: String,
}

impl Runs {
    fn add(&mut self, text: &str) -> Result<()> {
        let line =
            text.lines().rev().find(|line| line.starts_with('{')).context("a bench printed no JSON line")?;
        let value: Value = serde_json::from_str(line)?;
        let number = |key: &str| value[key].as_f64().with_context(|| format!("no number `{key}` in {line}"));
        self.tokens_per_s.push(number("tokens_per_s")?);
        self.model_gflops.push(number("model_gflops")?);
        self.peak_rss_mb = self.peak_rss_mb.max(number("peak_rss_mb")?);
        self.peer = value["peer"].as_str().unwrap_or("text2llm").to_owned();
        Ok(())
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs both sides in turn and prints a table.
pub fn run(arguments: &Arguments) -> Result<()> {
    let script = python::repository().join("xtask/pytorch_train_bench.py");
    let binary = python::text2llm_binary()?;
    let threads = arguments.threads.to_string();
    let mut rows = Vec::new();
    for preset in &arguments.presets {
        let (mut ours, mut theirs) = (Runs::default(), Runs::default());
        let shared = ["--preset", preset, "--dtype", &arguments.dtype, "--threads", &threads];
        for round in 1..=arguments.rounds.max(1) {
            eprintln!("{preset}: round {round} of {}", arguments.rounds.max(1));
            ours.add(&python::output(Command::new(&binary).arg("bench").args(shared).arg("--json"))?)?;
            let mut peer = Command::new(&arguments.python);
            peer.arg(&script).args(shared);
            if arguments.compile {
                peer.arg("--compile");
            }
            theirs.add(&python::output(&mut peer)?)?;
        }
        rows.push((preset, ours, theirs));
    }
    let peer = rows.first().map_or("peer", |row| row.2.peer.as_str());
    let compiled = if arguments.compile { ", compiled" } else { "" };
    println!(
        "text2llm beside {peer}{compiled}: {}, {} threads, medians of {} alternating runs; ratio of tokens/s \
         (lowest to highest pair)",
        arguments.dtype,
        arguments.threads,
        arguments.rounds.max(1)
    );
    println!(
        "| preset | ours tokens/s (GFLOP/s) | peer tokens/s (GFLOP/s) | ratio | ours RSS MB | peer RSS MB |"
    );
    println!("|---|---|---|---|---|---|");
    for (preset, ours, theirs) in &rows {
        let ratios: Vec<f64> =
            ours.tokens_per_s.iter().zip(&theirs.tokens_per_s).map(|(a, b)| a / b).collect();
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(0.0, f64::max);
        println!(
            "| {preset} | {:.0} ({:.0}) | {:.0} ({:.0}) | {:.2}× ({low:.2}–{high:.2}) | {:.0} | {:.0} |",
            median(&ours.tokens_per_s),
            median(&ours.model_gflops),
            median(&theirs.tokens_per_s),
            median(&theirs.model_gflops),
            median(&ours.tokens_per_s) / median(&theirs.tokens_per_s),
            ours.peak_rss_mb,
            theirs.peak_rss_mb,
        );
    }
    Ok(())
}
