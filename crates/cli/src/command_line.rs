//! The command line: the list of commands.

use clap::{Parser, Subcommand};

use crate::arguments::GlobalArguments;
use crate::commands;

/// Train a language model from raw text, with one program.
#[derive(Debug, Parser)]
#[command(
    name = "text2llm",
    version,
    about,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Train a first model, in about 3 minutes on 2 cores:\n  text2llm run\n  \
                  text2llm generate --prompt \"The \"\n\n\
                  Exit codes: 0 success; 1 usage, configuration or environment; 2 crash loop; 3 corpus or \
                  tokenizer;\n\
                  4 training; 5 validation; 130 stopped by Ctrl-C; 143 stopped by SIGTERM or `text2llm stop`"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArguments,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model from text: corpus, tokenizer, training, validation, export
    Run(commands::run::Arguments),
    /// Estimate a recipe's model size, memory, compute and time
    Plan(commands::plan::Arguments),
    /// Create a project with a commented recipe
    New(commands::new::Arguments),
    /// Train without the validation and export phases
    Train(commands::train::Arguments),
    /// Continue a run from a checkpoint, to its end or beyond
    Resume(commands::resume::Arguments),
    /// Prepare, inspect and compare training text
    Data(commands::data::Arguments),
    /// Show the state of a run
    Status(commands::status::Arguments),
    /// Show the log of a run
    Logs(commands::logs::Arguments),
    /// Monitor runs in the terminal: curves, metrics, samples, log
    Tui(commands::tui::Arguments),
    /// Monitor runs in a browser: compare curves, samples and recipes
    Dashboard(commands::dashboard::Arguments),
    /// Stop a run after saving a checkpoint
    Stop(commands::stop::Arguments),
    /// List the runs of the project
    List(commands::list::Arguments),
    /// Create a new run from a checkpoint of another run
    Fork(commands::fork::Arguments),
    /// Delete a run
    Rm(commands::rm::Arguments),
    /// Average the weights of several checkpoints of a run into one model
    Average(commands::average::Arguments),
    /// Generate text from a prompt with a trained model
    Generate(commands::generate::Arguments),
    /// Benchmark a training step, its kernels, or decoding
    Bench(commands::bench::Arguments),
    /// Report this machine's CPU, memory and GPU, and how to install what is missing
    Doctor(commands::doctor::Arguments),
    /// Test that a killed and resumed run is bit-identical to an uninterrupted one
    VerifyResume(commands::verify_resume::Arguments),
    /// Test crash safety: kill a run at random moments and compare its result
    Chaos(commands::chaos::Arguments),
    /// Print the JSON Schema of recipes
    Schema(commands::schema::Arguments),
    /// Run as the supervisor that --detach starts
    #[command(hide = true)]
    Supervise(commands::supervise::Arguments),
}
