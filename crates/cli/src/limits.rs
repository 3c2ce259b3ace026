//! Limits of the process that a library would not survive: told, with what lifts them, before it ends.

use std::io::Write;
use std::sync::{Mutex, OnceLock};

use compute::heap;
use store::limit::Limit;

use crate::failure::{Failure, Outcome};
use crate::output::Console;

#[global_allocator]
static HEAP: heap::Telling = heap::Telling;

/// Let go of once memory is not to be had, so that there is some to tell of it with.
const BALLAST_BYTES: usize = 2 << 20;

struct Waiting {
    console: Console,
    ballast: Vec<u8>,
}

static WAITING: OnceLock<Mutex<Option<Waiting>>> = OnceLock::new();

/// From now on a write beyond the limit on the size of a file is an error like others, and memory that is not
/// to be had ends the process with one.
pub fn listen(console: &Console) -> Outcome {
    train::survive_file_size_limit().map_err(pipeline::Error::from)?;
    // Zeroed pages that nobody touches take address space only, which is what a limit counts.
    let waiting = Waiting { console: console.clone(), ballast: vec![0; BALLAST_BYTES] };
    let _ = WAITING.set(Mutex::new(Some(waiting)));
    heap::on_refusal(tell);
    Ok(())
}

fn tell(bytes: usize) {
    let Some(mut waiting) = WAITING.get().and_then(|waiting| waiting.try_lock().ok()?.take()) else { return };
    drop(std::mem::take(&mut waiting.ballast));
    let place = pipeline::stop::place();
    let message = format!(
        "{:.1} MB of memory were refused{}: {}. {}",
        bytes as f64 / 1e6,
        place.in_words(),
        Limit::Memory,
        pipeline::remedy::of_limit(Limit::Memory)
    );
    place.fail("out_of_memory", &message);
    let code = place.exit_code();
    waiting.console.error(&message);
    waiting.console.failure(&Failure::Broken(code, message));
    let _ = std::io::stdout().lock().flush();
    exit(code);
}

// The allocation cannot return, and its thread may be any.
#[expect(clippy::exit)]
fn exit(code: u8) {
    std::process::exit(i32::from(code))
}
