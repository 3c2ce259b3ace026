//! Developer tasks that need other programs: `cargo xtask <task>`. None of them is needed to build, test or
//! use text2llm.

#[cfg(unix)]
mod attack;
mod bench_extraction;
mod bench_peers;
mod extraction_features;
mod golden_corpus;
mod parity;
mod parity_gguf;
mod python;
mod structure;

use std::path::Path;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What `attack` bounds the memory of a call by.
#[global_allocator]
static HEAP: compute::counting::Counting = compute::counting::Counting;

/// Developer tasks of text2llm.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Kill, disturb, damage and flood text2llm, and check that nothing is lost, changed in silence or taken
    /// down
    #[cfg(unix)]
    Attack(attack::Arguments),
    /// Load an exported model in transformers and compare logits, greedy text and token ids with ours
    Parity(parity::Arguments),
    /// Compare logits of GGUF files with transformers'
    ParityGguf(parity_gguf::Arguments),
    /// Time text2llm beside PyTorch, in turn, and print the ratios
    BenchPeers(bench_peers::Arguments),
    /// Time main-text extraction on labeled pages, and score it
    BenchExtraction(bench_extraction::Arguments),
    /// Compare filters and near-duplicates with datatrove's decisions, and time them
    GoldenCorpus(golden_corpus::Arguments),
    /// Write the features of labeled pages, for `tools/train_extraction.py`
    ExtractionFeatures(extraction_features::Arguments),
    /// Check that no files of a crate use each other in a circle, that crates keep their order, and that
    /// comments and files are not too long
    Structure,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        #[cfg(unix)]
        Task::Attack(arguments) => attack::run(&arguments),
        Task::Parity(arguments) => parity::run(&arguments),
        Task::ParityGguf(arguments) => parity_gguf::run(&arguments),
        Task::BenchPeers(arguments) => bench_peers::run(&arguments),
        Task::BenchExtraction(arguments) => bench_extraction::run(&arguments),
        Task::GoldenCorpus(arguments) => golden_corpus::run(&arguments),
        Task::ExtractionFeatures(arguments) => extraction_features::run(&arguments),
        Task::Structure => structure::run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")),
    }
}
