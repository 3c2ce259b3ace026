//! System limits that would abort the process inside a library: they are reported, with a remedy, before it
//! exits.

use std::io::Write;
use std::sync::{Mutex, OnceLock};

use compute::heap;
use store::limit::Limit;

use crate::failure::{Failure, Outcome};
use crate::output::Console;

#[global_allocator]
static HEAP: heap::Telling = heap::Telling;

/// Freed when an allocation fails, so that there is memory to report the failure with.
const BALLAST_BYTES: usize = 2 << 20;

struct Waiting {
    console: Console,
    ballast: Vec<u8>,
}

static WAITING: OnceLock<Mutex<Option<Waiting>>> = OnceLock::new();

/// Makes a write beyond the file-size limit an ordinary error, and a failed allocation end the process with
/// an error message.
pub fn listen(console: &Console) -> Outcome {
    train::survive_file_size_limit().map_err(pipeline::Error::from)?;
    // Untouched zeroed pages take address space only, which is what the limit counts.
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
        "allocation of {:.1} MB failed{}: {}. {}",
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

// The failed allocation cannot return, and it may happen on any thread.
#[expect(clippy::exit)]
fn exit(code: u8) {
    std::process::exit(i32::from(code))
}
