//! A stop of this very process by Ctrl-C, SIGTERM or a request: told as a stop, with an exit code of its own.

use std::io::Write;

use crate::failure::Outcome;
use crate::output::Console;

/// From now on a stop ends this process soon, wherever it is: by itself, or from here, with what it works on marked as stopped.
pub fn listen(console: &Console) -> Outcome {
    let mut console = console.clone();
    pipeline::stop::watch(move |stopped, exit_code| {
        console.stopped(&stopped.to_string(), exit_code, false);
        let _ = std::io::stdout().lock().flush();
        exit(exit_code);
    })?;
    Ok(())
}

// What unwinds from `main` cannot be waited for: it is in the middle of something long.
#[expect(clippy::exit)]
fn exit(code: u8) {
    std::process::exit(i32::from(code))
}
