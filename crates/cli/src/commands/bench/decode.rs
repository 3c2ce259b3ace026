//! `text2llm bench decode`: reading a prompt and continuing it.

use std::path::PathBuf;

use clap::Args;
use pipeline::bench::decode::{self, DecodeOptions, Subject};

use super::figures::told_a_program;
use super::kernels;
use crate::arguments::{GlobalArguments, WeightDtype};
use crate::failure::Outcome;
use crate::output::Console;

/// Time reading a prompt, continuing it, and continuing several sequences at once.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --model: random weights in the shape of SmolLM2-135M. Several sequences begin with 64 tokens each, as\n\
                  `llama-batched-bench -npp 64` has them; their speed counts new tokens over the whole time, prompts included."
)]
pub struct Arguments {
    /// Model folder in Hugging Face's form, or a GGUF file
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Type of the weights [default: what the model holds; bf16 for random weights]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<WeightDtype>,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub prompt_tokens: u64,
    /// Tokens to write after it
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub new_tokens: u64,
    /// How many sequences to continue at once, as a list
    #[arg(long, value_name = "N,N", default_value = "4,16", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub sequences: Vec<u64>,
    /// Measurements of each figure, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub runs: u64,
    /// Show where a token's time goes, kernel by kernel: of one sequence, or of N with --sequences N; prompts
    /// are left out
    #[arg(long, conflicts_with_all = ["prompt_tokens", "runs"])]
    pub profile: bool,
}

/// Times and prints.
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
        "                 {:>10.1} GB/s of weights; reading alone {:.1} GB/s ({:.0} %)",
        figures.weight_gbs,
        figures.read_gbs,
        100.0 * figures.weight_gbs / figures.read_gbs
    ))?;
    for batch in &figures.batches {
        console.data(&format!(
            "{:<4} sequences   {:>10.1} new tokens/s, {:.1} after the prompts",
            batch.sequences, batch.new_tokens_per_s, batch.decode_tokens_per_s
        ))?;
    }
    console.data(&format!("peak RSS         {:>10.0} MB", figures.peak_rss_mb))
}
