//! `--json`: every event as one JSON line on stdout.

use std::io::{self, Write};

use store::report::{Event, Reporter};

/// Writes each event as it comes.
pub struct JsonReporter;

impl Reporter for JsonReporter {
    fn event(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            // Nobody reads any more: the work goes on without a listener.
            let _ = writeln!(io::stdout().lock(), "{line}");
        }
    }
}
