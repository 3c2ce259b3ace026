//! Stops of this process by Ctrl-C, SIGTERM or a request: reported as a stop, with exit code 130 or 143.

use std::sync::mpsc;
use std::time::Duration;

use crate::failure::Outcome;
use crate::output::Console;

/// How long to wait for the message about the stop to be written.
const TELLING: Duration = Duration::from_secs(1);

/// Makes a stop request end this process soon, whatever it does: it stops by itself, or this thread exits
/// after marking its work as stopped.
pub fn listen(console: &Console) -> Outcome {
    let mut console = console.clone();
    pipeline::stop::watch(move |stopped, exit_code| {
        // On its own thread: a working thread may hold stdout while it waits for a reader.
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

// The main thread is in the middle of long work, so returning from `main` is not possible.
#[expect(clippy::exit)]
fn exit(code: u8) {
    std::process::exit(i32::from(code))
}
