//! `--json`: every event as one JSON line on stdout. Terminal control characters are escaped, which JSON
//! parsers undo.

use runs::report::{Event, Reporter};
use store::plain;

use super::patient;
use super::secrets::without_secrets;

/// Writes each event as it comes.
pub struct JsonReporter;

impl Reporter for JsonReporter {
    fn event(&mut self, event: &Event) {
        if let Some(line) = line(event) {
            // Work goes on if the reader has closed stdout.
            let _ = patient::stdout(format!("{line}\n").as_bytes());
        }
    }
}

/// The line of an event, without the line ending.
pub fn line(event: &Event) -> Option<String> {
    let line = serde_json::to_string(&*without_secrets(event)).ok()?;
    Some(plain::json(&line).into_owned())
}
