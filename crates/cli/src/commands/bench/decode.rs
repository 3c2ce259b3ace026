//! `text2llm bench decode`: throughput of prompt processing and of generation.

use std::path::PathBuf;

use clap::Args;
use pipeline::bench::decode::{self, DecodeOptions, Subject};

use super::figures::told_a_program;
use super::kernels;
use crate::arguments::{GlobalArguments, WeightDtype};
use crate::failure::Outcome;
use crate::output::Console;

/// Benchmark prompt processing (prefill) and generation, for one sequence and for several at once
#[derive(Debug, Args)]
#[command(
    after_help = "Without --model, random weights with the shape of SmolLM2-135M are used. With several\n\
                  sequences, each has a prompt of 64 tokens (as in `llama-batched-bench -npp 64`), and the \
                  speed is\n\
                  new tokens divided by the total time, prompts included."
)]
pub struct Arguments {
    /// Model folder in Hugging Face format, or a GGUF file
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Data type of the weights [default: as stored in the model; bf16 for random weights]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<WeightDtype>,
    /// Tokens in the prompt
    #[arg(
        long,
        value_name = "N",
        default_value_t = 512,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000)
    )]
    pub prompt_tokens: u64,
    /// Tokens to generate
    #[arg(
        long,
        value_name = "N",
        default_value_t = 128,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000)
    )]
    pub new_tokens: u64,
    /// Batch sizes to measure, as a list of numbers of sequences
    #[arg(
        long,
        value_name = "N,N",
        default_value = "4,16",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u64).range(1..=1024)
    )]
    pub sequences: Vec<u64>,
    /// Repetitions of each measurement; the median is reported
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=1000)
    )]
    pub runs: u64,
    /// Show the time per token by kernel, without prompts, for one sequence or for --sequences N
    #[arg(long, conflicts_with_all = ["prompt_tokens", "runs"])]
    pub profile: bool,
}

/// Runs the benchmark and prints its figures.
pub fn run(global: &GlobalArguments, arguments: &Arguments, console: &mut Console) -> Outcome {
    let options = DecodeOptions {
        prompt_tokens: arguments.prompt_tokens as usize,
        new_tokens: arguments.new_tokens as usize,
        sequences: arguments.sequences.iter().map(|&n| n as usize).collect(),
        runs: arguments.runs as usize,
        target: global.target(),
        seed: global.seed.unwrap_or(0),
    };
    let dtype = arguments.dtype.map(WeightDtype::dtype);
    let subject = match &arguments.model {
        Some(path) => Subject::stored(path, dtype)?,
        None => Subject::random(dtype),
    };
    if arguments.profile {
        return kernels::by_kernel(&decode::profile(subject, &options)?, console);
    }
    let figures = decode::run(subject, &options)?;
    if told_a_program(&figures, console)? {
        return Ok(());
    }
    console.prose(&format!(
        "{} ({} parameters), {}, on {}",
        figures.model, figures.params, figures.dtype, figures.device
    ));
    console.data(&format!(
        "prompt of {:<6} {:>10.1} tokens/s",
        figures.prompt_tokens, figures.prefill_tokens_per_s
    ))?;
    let [slowest, fastest] = figures.decode_min_max;
    console.data(&format!(
        "1 sequence       {:>10.1} tokens/s   ({slowest:.1} to {fastest:.1})",
        figures.decode_tokens_per_s
    ))?;
    console.data(&format!(
        "                 {:>10.1} GB/s of weights; memory read bandwidth {:.1} GB/s ({:.0} %)",
        figures.weight_gbs,
        figures.read_gbs,
        100.0 * figures.weight_gbs / figures.read_gbs
    ))?;
    for batch in &figures.batches {
        console.data(&format!(
            "{:<4} sequences   {:>10.1} new tokens/s, {:.1} without prompt time",
            batch.sequences, batch.new_tokens_per_s, batch.decode_tokens_per_s
        ))?;
    }
    console.data(&format!("peak RSS         {:>10.0} MB", figures.peak_rss_mb))
}
