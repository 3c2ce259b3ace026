//! Output: messages for people on stderr; tagged lines or JSON lines for programs on stdout.
//!
//! Results go to stdout, messages to stderr. Text from outside cannot control the terminal: people see it
//! through `store::plain`, programs get it as JSON with escapes. Only requested text (`generate`, `logs`,
//! `data extract`) goes to a pipe or a file unchanged. A closed stdout never stops running work: reports are
//! dropped silently, and commands that only print exit quietly.

mod agent;
mod human;
mod json;
mod numbers;
mod pace;
mod patient;
mod secrets;

use std::io::{self, BufRead, IsTerminal, Write};

use clap::error::{ContextKind, ContextValue};
use pipeline::project::Project;
use runs::report::Reporter;
use serde_json::{Value, json};
use store::{plain, secret};

pub use numbers::{bytes, count, short_duration};
pub use store::plain::line as plain_line;

use crate::arguments::{GlobalArguments, OutputStyle};
use crate::failure::{Failure, Outcome};
use crate::select::Selected;

/// The output format, from `--json` and `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Human,
    Agent,
    Json,
}

/// All output goes through this type.
#[derive(Clone)]
pub struct Console {
    mode: Mode,
    yes: bool,
}

impl Console {
    /// The console that the global flags select; `--json` wins over `--output`.
    pub fn new(global: &GlobalArguments) -> Console {
        let mode = match (global.json, global.output) {
            (true, _) => Mode::Json,
            (false, OutputStyle::Agent) => Mode::Agent,
            (false, OutputStyle::Human) => Mode::Human,
        };
        Console { mode, yes: global.yes }
    }

    /// Whether the output is for a person.
    pub fn is_human(&self) -> bool {
        self.mode == Mode::Human
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.mode == Mode::Json
    }

    /// Prints a line of results to stdout. For a program it is, or ends in, JSON.
    pub fn data(&mut self, line: &str) -> Outcome {
        let line = if self.is_human() { plain::line(line) } else { plain::json(line) };
        Ok(patient::stdout(format!("{line}\n").as_bytes())?)
    }

    /// Prints streamed text to stdout at once, without a line ending.
    pub fn stream(&mut self, text: &str) -> Outcome {
        Ok(patient::stdout(text.as_bytes())?)
    }

    /// Prints requested text of a model, a page or a log: unchanged to a pipe or a file, without control
    /// characters to a terminal.
    pub fn stream_text(&mut self, text: &str) -> Outcome {
        if io::stdout().is_terminal() { self.stream(&plain::text(text)) } else { self.stream(text) }
    }

    /// Like `stream_text`, as whole lines.
    pub fn text(&mut self, text: &str) -> Outcome {
        self.stream_text(text)?;
        self.stream("\n")
    }

    /// Prints an excerpt for a person as whole lines, always without control characters.
    pub fn excerpt(&mut self, text: &str) -> Outcome {
        self.stream(&plain::text(text))?;
        self.stream("\n")
    }

    /// Prints a message for a person as one line on stderr.
    pub fn prose(&mut self, text: &str) {
        patient::stderr_line(&plain::line(&secret::hidden(text)));
    }

    /// Asks a person for a line, on stderr.
    pub fn ask(&mut self, question: &str) {
        // An error is ignored: if the terminal is gone there is nobody to ask.
        let _ = patient::stderr(plain::line(question).as_bytes());
    }

    /// Announces the recipe and project of a job.
    pub fn heading(&mut self, selected: &Selected, project: &Project) {
        let name = &selected.recipe.name;
        let (source, root) = (&selected.source, project.root().display());
        match self.mode {
            Mode::Human => {
                let version = env!("CARGO_PKG_VERSION");
                self.prose(&format!("text2llm {version} · {name} ({source}) · {root}"));
            }
            _ => self.tell(
                "begin",
                &json!({
                    "version": env!("CARGO_PKG_VERSION"), "name": name, "recipe": source, "project": project.root()
                }),
            ),
        }
    }

    /// Prints a command's result for a program: one JSON line, or one tagged line with JSON after the tag.
    pub fn result(&mut self, kind: &str, value: &Value) -> Outcome {
        let mut line = json!({ "event": kind });
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, value) {
            for (key, value) in fields {
                line.insert(key.clone(), value.clone());
            }
        }
        match self.mode {
            Mode::Json => self.data(&line.to_string()),
            _ => self.data(&agent::tagged(&kind.to_uppercase().replace('_', "-"), value)),
        }
    }

    /// Like `result`, for work that must go on if the reader has closed stdout.
    pub fn tell(&mut self, kind: &str, value: &Value) {
        // A closed pipe takes no more lines, but the work is worth finishing.
        let _ = self.result(kind, value);
    }

    /// The reporter that long work sends its events to.
    pub fn reporter(&self) -> Box<dyn Reporter> {
        match self.mode {
            Mode::Human => Box::new(human::HumanReporter::new()),
            Mode::Agent => Box::new(agent::AgentReporter::new()),
            Mode::Json => Box::new(json::JsonReporter),
        }
    }

    /// Prints an error in the selected format, and always as a message on stderr.
    pub fn failure(&mut self, failure: &Failure) {
        if failure.is_stop() {
            let told_already = matches!(failure, Failure::Child(..));
            return self.stopped(&failure.to_string(), failure.exit_code(), told_already);
        }
        let message = failure.to_string();
        let message = secret::hidden(&message);
        match self.mode {
            Mode::Human => {}
            Mode::Agent => {
                let _ = self.data(&format!("❌ ERROR: {}", agent::one_line(&message)));
            }
            Mode::Json => {
                let line = json!({
                    "event": "error", "message": message, "exit_code": failure.exit_code()
                });
                let _ = self.data(&line.to_string());
            }
        }
        if matches!(failure, Failure::Child(..) | Failure::Broken(..)) {
            return;
        }
        // As in `prose`, except for the prefix and for errors that have several lines.
        let shown = if failure.has_lines() { plain::text(&message) } else { plain::line(&message) };
        patient::stderr_line(&format!("{}: {shown}", human::error_mark()));
    }

    /// Prints an error message on stderr.
    pub fn error(&mut self, message: &str) {
        let message = secret::hidden(message);
        patient::stderr_line(&format!("{}: {}", human::error_mark(), plain::line(&message)));
    }

    /// Reports a requested stop, which is not an error.
    pub fn stopped(&mut self, message: &str, exit_code: u8, told_already: bool) {
        if !self.is_human() {
            self.tell("stopped", &json!({ "message": message, "exit_code": exit_code }));
        }
        if !told_already {
            if io::stderr().is_terminal() {
                // A progress bar may be on the line.
                let _ = patient::stderr(b"\r\x1b[K");
            }
            self.prose(message);
        }
    }

    /// Prints a warning that belongs to no phase.
    pub fn warning(&mut self, message: &str) {
        let message = secret::hidden(message);
        match self.mode {
            Mode::Json => self.tell("warning", &json!({ "phase": null, "message": message })),
            Mode::Agent => {
                let _ = self.data(&format!("⚠️ WARNING: {}", agent::one_line(&message)));
            }
            Mode::Human => self.prose(&format!("warning: {message}")),
        }
    }

    /// Whether `--yes` answers every question.
    pub fn says_yes(&self) -> bool {
        self.yes
    }

    /// Asks a yes-or-no question. `--yes` answers it; without a terminal the answer is no.
    pub fn confirm(&mut self, question: &str) -> Outcome<bool> {
        if self.yes {
            return Ok(true);
        }
        if !self.is_human() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(false);
        }
        write!(io::stderr().lock(), "{} [y/N] ", plain::line(question))?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}

/// A usage error as clap words it, made plain: it repeats arguments and environment variables, which may
/// contain anything.
pub fn usage_error(error: clap::Error) -> Result<(), ()> {
    let text = usage_text(error);
    let text = text.strip_prefix("error").unwrap_or(&text);
    write!(io::stderr().lock(), "{}{text}", human::error_mark()).map_err(drop)
}

fn usage_text(mut error: clap::Error) -> String {
    let plain_line = |given: &String| plain::line(given).into_owned();
    let fields = error.context().filter_map(|(kind, value)| match value {
        ContextValue::String(given) => Some((kind, ContextValue::String(plain_line(given)))),
        ContextValue::Strings(all) => {
            Some((kind, ContextValue::Strings(all.iter().map(plain_line).collect())))
        }
        // "To pass … as a value" repeats it too.
        ContextValue::StyledStrs(all) if kind == ContextKind::Suggested => {
            let plain = all.iter().map(|given| plain_line(&given.to_string()).into());
            Some((kind, ContextValue::StyledStrs(plain.collect())))
        }
        _ => None,
    });
    for (kind, value) in fields.collect::<Vec<_>>() {
        error.insert(kind, value);
    }
    // Without clap's colors.
    let text = error.render().to_string();
    plain::text(&secret::masked_addresses(&secret::hidden(&text))).into_owned()
}

#[cfg(test)]
mod tests;
