//! Flags that several commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use compute::{Place, Target};
use store::plain;

/// Flags of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArguments {
    /// Project folder to work on [default: the current folder]
    #[arg(long, global = true, value_name = "DIR", env = "TEXT2LLM_PROJECT", hide_env = true)]
    pub project: Option<PathBuf>,
    /// JSON lines on stdout, for programs
    #[arg(long, global = true, env = "TEXT2LLM_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
    /// How to tell what happens: prose for a person, or stable tagged lines for an agent
    #[arg(
        long,
        global = true,
        value_name = "WHO",
        env = "TEXT2LLM_OUTPUT",
        hide_env = true,
        default_value = "human"
    )]
    pub output: OutputStyle,
    /// Answer every question with yes
    #[arg(long, short = 'y', global = true, env = "TEXT2LLM_YES", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub yes: bool,
    /// CPU threads; 0 takes all. The result does not depend on it
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
    /// Seed of everything random in training (train.seed) or sampling
    #[arg(long, global = true, value_name = "N", env = "TEXT2LLM_SEED", hide_env = true)]
    pub seed: Option<u64>,
    /// Where to compute
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
    if threads <= 1024 { Ok(threads) } else { Err("more than 1024 threads help nobody".to_owned()) }
}

/// For whom to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputStyle {
    /// Prose, progress bars and short sentences on stderr.
    Human,
    /// Stable tagged lines on stdout.
    Agent,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// The best this machine has.
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, with a program that was built with `--features cuda`.
    Cuda,
}

impl GlobalArguments {
    /// Where to compute. `auto` takes a GPU where there is all that it needs.
    pub fn target(&self) -> Target {
        match self.device {
            DeviceChoice::Auto => Target::best(self.threads),
            DeviceChoice::Cpu => Target::cpu(self.threads),
            DeviceChoice::Cuda => Target { place: Place::Cuda(0), threads: self.threads },
        }
    }
}

/// Types that weights can be kept in for decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightDtype {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// Blocks of eight-bit integers.
    #[value(name = "q8_0")]
    Q8_0,
    /// Blocks of four-bit integers; the embedding and the output layer in eight bits.
    #[value(name = "q4_0")]
    Q4_0,
}

impl WeightDtype {
    /// As the libraries name it.
    pub fn dtype(self) -> model::DType {
        match self {
            WeightDtype::F32 => model::DType::F32,
            WeightDtype::Bf16 => model::DType::Bf16,
            WeightDtype::Q8_0 => model::DType::Q8_0,
            WeightDtype::Q4_0 => model::DType::Q4_0,
        }
    }
}

/// The recipe and what is changed of it.
#[derive(Clone, Debug, Default, Args)]
pub struct RecipeArguments {
    /// Recipe file, or the name of an example [default: text2llm.toml in the project, else quickstart]
    #[arg(value_name = "RECIPE")]
    pub recipe: Option<String>,
    /// Passes over the training text (train.epochs)
    #[arg(long, value_name = "N")]
    pub epochs: Option<String>,
    /// Sequences of an optimizer step (train.batch_size)
    #[arg(long, value_name = "N")]
    pub batch_size: Option<String>,
    /// Highest learning rate (train.learning_rate)
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<String>,
    /// Tokens of the vocabulary (tokenizer.vocab_size)
    #[arg(long, value_name = "N")]
    pub vocab_size: Option<String>,
    /// Text to train on: file, folder or pattern; may be given more than once (data.paths)
    #[arg(long, value_name = "PATH")]
    pub corpus_path: Vec<String>,
    /// Any key of the recipe, as section.key=value; may be given more than once
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Make this the project folder: data, tokenizer, runs, evals and model go there
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
}
