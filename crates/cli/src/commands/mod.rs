//! One file per subcommand.

pub mod average;
pub mod bench;
pub mod chaos;
pub mod dashboard;
pub mod data;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod finetune;
pub mod fork;
pub mod generate;
pub mod list;
pub mod logs;
pub mod merge;
pub mod new;
pub mod plan;
pub mod resume;
pub mod rm;
pub mod run;
pub mod schema;
pub mod status;
pub mod stop;
pub mod supervise;
pub mod train;
pub mod tui;
pub mod verify_resume;

use crate::command_line::{Cli, Command};
use crate::failure::Outcome;
use crate::output::Console;

/// Runs the command.
pub fn dispatch(cli: Cli, console: &mut Console) -> Outcome {
    let global = cli.global;
    match cli.command {
        Command::Run(arguments) => run::run(&global, arguments, console),
        Command::Plan(arguments) => plan::run(&global, arguments, console),
        Command::New(arguments) => new::run(&global, arguments, console),
        Command::Finetune(arguments) => finetune::run(&global, arguments, console),
        Command::Train(arguments) => train::run(&global, arguments, console),
        Command::Resume(arguments) => resume::run(&global, arguments, console),
        Command::Data(arguments) => data::run(&global, arguments, console),
        Command::Status(arguments) => status::run(&global, arguments, console),
        Command::Logs(arguments) => logs::run(&global, arguments, console),
        Command::Stop(arguments) => stop::run(&global, arguments, console),
        Command::Fork(arguments) => fork::run(&global, arguments, console),
        Command::Rm(arguments) => rm::run(&global, arguments, console),
        Command::Supervise(arguments) => supervise::run(&global, arguments, console),
        Command::List(arguments) => list::run(&global, arguments, console),
        Command::Generate(arguments) => generate::run(&global, arguments, console),
        Command::Eval(arguments) => eval::run(&global, arguments, console),
        Command::Merge(arguments) => merge::run(&arguments, console),
        Command::Export(arguments) => export::run(&global, &arguments, console),
        Command::Average(arguments) => average::run(&global, arguments, console),
        Command::Bench(arguments) => bench::run(&global, arguments, console),
        Command::Doctor(arguments) => doctor::run(&global, arguments, console),
        Command::VerifyResume(arguments) => verify_resume::run(&global, arguments, console),
        Command::Chaos(arguments) => chaos::run(&global, arguments, console),
        Command::Tui(arguments) => tui::run(&global, arguments),
        Command::Dashboard(arguments) => dashboard::run(&global, arguments, console),
        Command::Schema(arguments) => schema::run(&global, arguments, console),
    }
}
