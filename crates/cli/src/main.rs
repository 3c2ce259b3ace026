//! The `text2llm` binary: the only place that prints, asks and decides the exit code.
//!
//! One file per subcommand in `commands/`; how things look in `output/`; errors and exit codes in `failure`.
//! Everything else is in the libraries.

mod arguments;
mod command_line;
mod commands;
mod detach;
mod failure;
mod limits;
mod model_source;
mod output;
mod panics;
mod preflight;
mod select;
mod stopping;
mod summary;
mod tui;

use std::process::ExitCode;

use clap::Parser;
use compute::cpu::InstructionSet;

use command_line::Cli;
use failure::Failure;
use output::Console;

fn main() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own code for a usage error is 2, which here means a crash loop.
            let code = if error.use_stderr() { failure::USAGE } else { 0 };
            let printed =
                if error.use_stderr() { output::usage_error(error) } else { error.print().map_err(drop) };
            return ExitCode::from(if printed.is_ok() { code } else { failure::USAGE });
        }
    };
    let mut console = Console::new(&cli.global);
    panics::listen(&console);
    if let Err(failure) = limits::listen(&console) {
        return report(&mut console, &failure);
    }
    let available = store::system::available_threads();
    if cli.global.threads > available {
        // More threads would only take turns.
        let asked = std::mem::replace(&mut cli.global.threads, available);
        let message =
            format!("--threads {asked} is more than this process can run at once: using {available}");
        console.reporter().warning(runs::report::Phase::Prerequisites, &message);
    }
    tokenizer::set_threads(cli.global.threads);
    store::hash::set_threads(cli.global.threads);
    // Checked here, since a misspelled TEXT2LLM_CPU would silently select something else.
    let allowed = InstructionSet::allowed().map_err(Failure::message);
    let outcome =
        panics::guard(&mut console, |console| allowed.and_then(|_| commands::dispatch(cli, console)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed stdout (`text2llm list | head -1`), which is not an error.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => report(&mut console, &failure),
    }
}

fn report(console: &mut Console, failure: &Failure) -> ExitCode {
    console.failure(failure);
    ExitCode::from(failure.exit_code())
}
