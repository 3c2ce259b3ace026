//! Flags that several commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use compute::{DeviceKind, Target};
use store::plain;

/// Flags that every command accepts.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArguments {
    /// Project folder to work on [default: the current folder]
    #[arg(long, global = true, value_name = "DIR", env = "TEXT2LLM_PROJECT", hide_env = true)]
    pub project: Option<PathBuf>,
    /// Print results and events as JSON Lines on stdout
    #[arg(
        long,
        global = true,
        env = "TEXT2LLM_JSON",
        hide_env = true,
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub json: bool,
    /// Output style: human, or agent (one tagged `[STAGE] key=value` line per event)
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "TEXT2LLM_OUTPUT",
        hide_env = true,
        default_value = "human"
    )]
    pub output: OutputStyle,
    /// Answer yes to all prompts, and proceed despite warnings that would otherwise stop the command, such as
    /// too little memory
    #[arg(
        long,
        short = 'y',
        global = true,
        env = "TEXT2LLM_YES",
        hide_env = true,
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub yes: bool,
    /// Number of CPU threads; 0 uses all. Results do not depend on it
    #[arg(
        long,
        global = true,
        value_name = "N",
        env = "TEXT2LLM_THREADS",
        hide_env = true,
        default_value_t = 0,
        value_parser = thread_count
    )]
    pub threads: usize,
    /// Random seed for training (train.seed) or sampling
    #[arg(long, global = true, value_name = "N", env = "TEXT2LLM_SEED", hide_env = true)]
    pub seed: Option<u64>,
    /// Device to compute on
    #[arg(
        long,
        global = true,
        value_name = "DEVICE",
        env = "TEXT2LLM_DEVICE",
        hide_env = true,
        default_value = "auto"
    )]
    pub device: DeviceChoice,
}

fn thread_count(text: &str) -> Result<usize, String> {
    let threads = text.parse().map_err(|_| format!("`{}` is not a number", plain::line(text)))?;
    if threads <= 1024 { Ok(threads) } else { Err("the largest number of threads is 1024".to_owned()) }
}

/// Format of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputStyle {
    /// Messages and progress bars on stderr, results on stdout.
    Human,
    /// Stable tagged lines on stdout.
    Agent,
}

/// Device to compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// An NVIDIA GPU if one can be used, otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU; needs a build with `--features cuda`.
    Cuda,
}

impl GlobalArguments {
    /// The device and thread count to compute with. `auto` selects a GPU if the driver and libraries it needs
    /// are found.
    pub fn target(&self) -> Target {
        match self.device {
            DeviceChoice::Auto => Target::best(self.threads),
            DeviceChoice::Cpu => Target::cpu(self.threads),
            DeviceChoice::Cuda => Target { place: DeviceKind::Cuda(0), threads: self.threads },
        }
    }
}

/// Data types that weights can be stored in for decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightDtype {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// 8-bit integers in blocks, each with a scale.
    #[value(name = "q8_0")]
    Q8_0,
    /// 4-bit integers in blocks, each with a scale; embedding and output layer in 8 bits.
    #[value(name = "q4_0")]
    Q4_0,
}

impl WeightDtype {
    /// The same type in `model`.
    pub fn dtype(self) -> model::DType {
        match self {
            WeightDtype::F32 => model::DType::F32,
            WeightDtype::Bf16 => model::DType::Bf16,
            WeightDtype::Q8_0 => model::DType::Q8_0,
            WeightDtype::Q4_0 => model::DType::Q4_0,
        }
    }
}

/// Flags that select a recipe and override its keys.
#[derive(Clone, Debug, Default, Args)]
pub struct RecipeArguments {
    /// Recipe file or name of an example [default: text2llm.toml in the project, else quickstart]
    #[arg(value_name = "RECIPE")]
    pub recipe: Option<String>,
    /// Number of passes over the training text (train.epochs)
    #[arg(long, value_name = "N")]
    pub epochs: Option<String>,
    /// Sequences per optimizer step (train.batch_size)
    #[arg(long, value_name = "N")]
    pub batch_size: Option<String>,
    /// Peak learning rate (train.learning_rate)
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<String>,
    /// Vocabulary size in tokens (tokenizer.vocab_size)
    #[arg(long, value_name = "N")]
    pub vocab_size: Option<String>,
    /// Training text: a file, folder, glob, `hf://` dataset, `s3://` URL, or `-` for standard input; can be
    /// repeated (data.paths)
    #[arg(long, value_name = "PATH")]
    pub corpus_path: Vec<String>,
    /// Set any key of the recipe, as section.key=value; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Project folder to create or use (like --project, but created if missing)
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
}
