//! `--json`: every event as one JSON line on stdout. What would steer a terminal is escaped; it reads back
//! the same.

use runs::report::{Event, Reporter};
use store::plain;

use super::patient;
use super::secrets::without_secrets;

/// Writes each event as it comes.
pub struct JsonReporter;

impl Reporter for JsonReporter {
    fn event(&mut self, event: &Event) {
        if let Some(line) = line(event) {
            // Nobody reads any more: the work goes on without a listener.
            let _ = patient::stdout(format!("{line}\n").as_bytes());
        }
    }
}

/// An event's line, without its end.
pub fn line(event: &Event) -> Option<String> {
    let line = serde_json::to_string(&*without_secrets(event)).ok()?;
    Some(plain::json(&line).into_owned())
}
