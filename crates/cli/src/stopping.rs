//! A stop of this very process by Ctrl-C, SIGTERM or a request: told as a stop, with an exit code of its own.

use std::sync::mpsc;
use std::time::Duration;

use crate::failure::Outcome;
use crate::output::Console;

/// For telling of the stop.
const TELLING: Duration = Duration::from_secs(1);

/// From now on a stop ends this process soon, wherever it is: by itself, or from here, with what it works on
/// marked as stopped.
pub fn listen(console: &Console) -> Outcome {
    let mut console = console.clone();
    pipeline::stop::watch(move |stopped, exit_code| {
        // On a thread of its own: whoever works may hold stdout, and wait for somebody who does not read.
        let (told, hear) = mpsc::channel();
        let message = stopped.to_string();
        let tell = move || {
            console.stopped(&message, exit_code, false);
            let _ = told.send(());
        };
        if std::thread::Builder::new().name("stop told".to_owned()).spawn(tell).is_ok() {
            let _ = hear.recv_timeout(TELLING);
        }
        exit(exit_code);
    })?;
    Ok(())
}

// What unwinds from `main` cannot be waited for: it is in the middle of something long.
#[expect(clippy::exit)]
fn exit(code: u8) {
    std::process::exit(i32::from(code))
}
