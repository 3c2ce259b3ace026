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
    after_help = "Train a first model, in 1 to 7 minutes on a laptop, depending on its CPU:\n  \
                  text2llm run\n  \
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

/// What to do. The help of each command is the comment of its `Arguments`.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(commands::run::Arguments),
    Plan(commands::plan::Arguments),
    New(commands::new::Arguments),
    Finetune(commands::finetune::Arguments),
    Train(commands::train::Arguments),
    Resume(commands::resume::Arguments),
    Data(commands::data::Arguments),
    Status(commands::status::Arguments),
    Logs(commands::logs::Arguments),
    Tui(commands::tui::Arguments),
    Dashboard(commands::dashboard::Arguments),
    Stop(commands::stop::Arguments),
    List(commands::list::Arguments),
    Fork(commands::fork::Arguments),
    Rm(commands::rm::Arguments),
    Merge(commands::merge::Arguments),
    Export(commands::export::Arguments),
    Average(commands::average::Arguments),
    Generate(commands::generate::Arguments),
    Eval(commands::eval::Arguments),
    Bench(commands::bench::Arguments),
    Doctor(commands::doctor::Arguments),
    VerifyResume(commands::verify_resume::Arguments),
    Chaos(commands::chaos::Arguments),
    Schema(commands::schema::Arguments),
    #[command(hide = true)]
    Supervise(commands::supervise::Arguments),
}
