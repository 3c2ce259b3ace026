//! The command line: the list of commands.

use clap::{Parser, Subcommand};

use crate::arguments::GlobalArguments;
use crate::commands;

/// From text to a language model of your own.
#[derive(Debug, Parser)]
#[command(
    name = "text2llm",
    version,
    about,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "A first model, in about 3 minutes of training on 2 cores:\n  text2llm run\n  text2llm generate --prompt \"The \"\n\n\
                  Exit codes: 0 done; 1 usage, configuration or environment; 2 crash loop; 3 corpus or tokenizer; 4 training; 5 validation;\n\
                  130 stopped by Ctrl-C; 143 stopped by SIGTERM or `text2llm stop`"
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
    /// Text to model, all of it: corpus, tokenizer, training, validation, export
    Run(commands::run::Arguments),
    /// Size, memory, compute and time of a recipe, before anything is made
    Plan(commands::plan::Arguments),
    /// Write a new project with a commented recipe
    New(commands::new::Arguments),
    /// Train only: corpus and tokenizer as needed, no validation phase, no export
    Train(commands::train::Arguments),
    /// Continue a run, from where it stopped or beyond its end
    Resume(commands::resume::Arguments),
    /// The corpus alone: prepare it, or look at what is extracted of a page
    Data(commands::data::Arguments),
    /// Where a run stands
    Status(commands::status::Arguments),
    /// What happened in a run
    Logs(commands::logs::Arguments),
    /// Watch runs in the terminal: curves, figures, samples, log
    Tui(commands::tui::Arguments),
    /// Watch runs in a browser: curves compared, samples, recipes side by side
    Dashboard(commands::dashboard::Arguments),
    /// Save a checkpoint of a run that trains now, then stop it
    Stop(commands::stop::Arguments),
    /// All runs of the project
    List(commands::list::Arguments),
    /// Start a second run from a checkpoint of another one
    Fork(commands::fork::Arguments),
    /// Delete a run
    Rm(commands::rm::Arguments),
    /// One model from several checkpoints of a run: the mean of their weights
    Average(commands::average::Arguments),
    /// Continue a prompt with a trained model
    Generate(commands::generate::Arguments),
    /// Time a training step, its kernels, or decoding
    Bench(commands::bench::Arguments),
    /// What this machine has to train on, and what brings what is missing
    Doctor(commands::doctor::Arguments),
    /// Try whether a killed and resumed run is the same to the bit
    VerifyResume(commands::verify_resume::Arguments),
    /// Kill a run at random moments and compare its end
    Chaos(commands::chaos::Arguments),
    /// The recipe's JSON Schema
    Schema(commands::schema::Arguments),
    /// What --detach starts
    #[command(hide = true)]
    Supervise(commands::supervise::Arguments),
}
