//! The result of a check before training.

use serde_json::{Value, json};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// Training can start, with a reservation.
    Warning,
    /// Training would fail, or not be what was asked for.
    Error,
}

impl Status {
    /// The word in the output.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Error => "error",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked: a stable name for programs.
    pub name: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub message: String,
    /// What to do; `None` if there is nothing to do, or the message says it.
    pub remedy: Option<String>,
}

impl Check {
    /// A check that found nothing wrong.
    pub fn ok(name: &'static str, message: impl Into<String>) -> Check {
        Check { name, status: Status::Ok, message: message.into(), remedy: None }
    }

    /// A check that found something to know.
    pub fn warning(name: &'static str, message: impl Into<String>) -> Check {
        Check { status: Status::Warning, ..Check::ok(name, message) }
    }

    /// A check that found something wrong.
    pub fn error(name: &'static str, message: impl Into<String>) -> Check {
        Check { status: Status::Error, ..Check::ok(name, message) }
    }

    /// The same with a remedy.
    pub fn remedy(self, remedy: impl Into<String>) -> Check {
        Check { remedy: Some(remedy.into()), ..self }
    }

    /// For a person, on one line.
    pub fn line(&self) -> String {
        let remedy = self.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        format!("{:<8} {:<10} {}{remedy}", self.status.word(), self.name, self.message)
    }

    /// For a program.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name, "status": self.status.word(), "message": self.message, "remedy": self.remedy,
        })
    }
}
