//! How things look: prose for a person on stderr, tagged lines or JSON lines for a program on stdout.
//!
//! Data goes to stdout, prose to stderr. A reader that has gone away never stops work that runs: reports are dropped
//! silently, while commands that only print end quietly.

mod agent;
mod human;
mod json;
mod numbers;
mod pace;
mod plain;

use std::io::{self, BufRead, IsTerminal, Write};

use pipeline::project::Project;
use serde_json::{Value, json};
use store::report::Reporter;

pub use numbers::{bytes, count, short_duration};
pub use plain::{plain, plain_line};

use crate::arguments::{GlobalArguments, OutputStyle};
use crate::failure::{Failure, Outcome};
use crate::select::Selected;

/// For whom to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Human,
    Agent,
    Json,
}

/// Where all output goes through.
#[derive(Clone)]
pub struct Console {
    mode: Mode,
    yes: bool,
}

impl Console {
    /// As the global flags say; `--json` wins over `--output`.
    pub fn new(global: &GlobalArguments) -> Console {
        let mode = match (global.json, global.output) {
            (true, _) => Mode::Json,
            (false, OutputStyle::Agent) => Mode::Agent,
            (false, OutputStyle::Human) => Mode::Human,
        };
        Console { mode, yes: global.yes }
    }

    /// Whether a person reads.
    pub fn is_human(&self) -> bool {
        self.mode == Mode::Human
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.mode == Mode::Json
    }

    /// A line of data, to stdout. For a person, without what would steer a terminal.
    pub fn data(&mut self, line: &str) -> Outcome {
        let line = if self.is_human() { plain(line) } else { line.into() };
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
        Ok(())
    }

    /// Data without a line's end, to stdout at once: streamed text.
    pub fn stream(&mut self, text: &str) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Text of a model or a log, streamed: as it is to a file, to a terminal without what would steer it.
    pub fn stream_text(&mut self, text: &str) -> Outcome {
        if io::stdout().is_terminal() { self.stream(&plain(text)) } else { self.stream(text) }
    }

    /// A sentence for a person, to stderr.
    pub fn prose(&mut self, text: &str) {
        // stderr is the last resort; there is nowhere to report that it is gone.
        let _ = writeln!(io::stderr().lock(), "{}", plain(text));
    }

    /// What is about to be done, where.
    pub fn heading(&mut self, selected: &Selected, project: &Project) {
        let name = &selected.recipe.name;
        let (source, root) = (&selected.source, project.root().display());
        match self.mode {
            Mode::Human => self.prose(&format!("text2llm {} · {name} ({source}) · {root}", env!("CARGO_PKG_VERSION"))),
            _ => self.tell(
                "begin",
                &json!({
                    "version": env!("CARGO_PKG_VERSION"), "name": name, "recipe": source, "project": project.root()
                }),
            ),
        }
    }

    /// A command's result for a program: one JSON line, or one tagged line with the JSON behind the tag.
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

    /// The same, from work that must go on when nobody reads.
    pub fn tell(&mut self, kind: &str, value: &Value) {
        // A closed pipe takes no more lines; the work behind them is worth finishing all the same.
        let _ = self.result(kind, value);
    }

    /// What hears the events of long work.
    pub fn reporter(&self) -> Box<dyn Reporter> {
        match self.mode {
            Mode::Human => Box::new(human::HumanReporter::new()),
            Mode::Agent => Box::new(agent::AgentReporter::new()),
            Mode::Json => Box::new(json::JsonReporter),
        }
    }

    /// An error, in the form the reader expects, always also as prose on stderr.
    pub fn failure(&mut self, failure: &Failure) {
        if failure.is_stop() {
            let told_already = matches!(failure, Failure::Child(..));
            return self.stopped(&failure.to_string(), failure.exit_code(), told_already);
        }
        match self.mode {
            Mode::Human => {}
            Mode::Agent => {
                let _ = self.data(&format!("❌ ERROR: {}", failure.to_string().replace('\n', " | ")));
            }
            Mode::Json => {
                let line = json!({
                    "event": "error", "message": failure.to_string(), "exit_code": failure.exit_code()
                });
                let _ = self.data(&line.to_string());
            }
        }
        if matches!(failure, Failure::Child(..) | Failure::Broken(..)) {
            return;
        }
        self.error(&failure.to_string());
    }

    /// An error as prose, on stderr.
    pub fn error(&mut self, message: &str) {
        let mark = if human::colors() { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
        // As in `prose`, but for the mark.
        let _ = writeln!(io::stderr().lock(), "{mark}: {}", plain(message));
    }

    /// A stop on request, which is no error.
    pub fn stopped(&mut self, message: &str, exit_code: u8, told_already: bool) {
        if !self.is_human() {
            self.tell("stopped", &json!({ "message": message, "exit_code": exit_code }));
        }
        if !told_already {
            // A live bar may stand on the line.
            let _ =
                write!(io::stderr().lock(), "{}", if io::stderr().is_terminal() { "\r\u{1b}[K" } else { "" });
            self.prose(message);
        }
    }

    /// A warning outside any phase.
    pub fn warning(&mut self, message: &str) {
        match self.mode {
            Mode::Json => self.tell("warning", &json!({ "phase": null, "message": message })),
            Mode::Agent => {
                let _ = self.data(&format!("⚠️ WARNING: {}", message.replace('\n', " | ")));
            }
            Mode::Human => self.prose(&format!("warning: {message}")),
        }
    }

    /// Asks a person; `--yes` answers, and nobody there means no.
    pub fn confirm(&mut self, question: &str) -> Outcome<bool> {
        if self.yes {
            return Ok(true);
        }
        if !self.is_human() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(false);
        }
        write!(io::stderr().lock(), "{} [y/N] ", plain(question))?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}
