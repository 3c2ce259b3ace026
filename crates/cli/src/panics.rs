//! The first panic of the process is reported in one line, whatever its thread; backtraces of all panics go
//! to a file that the line names.

use std::backtrace::Backtrace;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pipeline::stop::{Progress, place};
use store::time::Timestamp;

use crate::failure::{Failure, Outcome};
use crate::output::{Console, plain_line};

/// Backtraces kept per process: a thousand documents can cause the same one.
const MOST_TRACES: usize = 20;

/// Panics of this process so far.
#[derive(Default)]
struct Heard {
    traces: usize,
    file: Option<(File, PathBuf)>,
    /// Phase and message of the first panic that was not caught.
    fatal: Option<(Progress, String)>,
}

static HEARD: Mutex<Option<Heard>> = Mutex::new(None);

fn heard() -> MutexGuard<'static, Option<Heard>> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs the panic hook.
pub fn listen(console: &Console) {
    let console = console.clone();
    std::panic::set_hook(Box::new(move |panic| tell(&mut console.clone(), panic)));
}

/// Runs `work`; a panic in it becomes a failure with the exit code of the phase.
pub fn guard(console: &mut Console, work: impl FnOnce(&mut Console) -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| work(console))).unwrap_or_else(|_| {
        let fatal = heard().as_mut().and_then(|heard| heard.fatal.take());
        let (place, message) = fatal.unwrap_or_default();
        place.fail("bug", &message);
        Err(Failure::Broken(place.exit_code(), message))
    })
}

fn tell(console: &mut Console, panic: &PanicHookInfo<'_>) {
    let (place, is_caught) = (place(), store::panics::is_caught());
    let message = plain_line(&store::panics::message(panic.payload())).into_owned();
    let at = panic.location().map_or_else(String::new, |at| format!(", {}:{}", at.file(), at.line()));
    let what = format!("{message}{at}");
    let mut guard = heard();
    let heard = guard.get_or_insert_default();
    heard.traces += 1;
    if heard.traces <= MOST_TRACES {
        if heard.file.is_none() {
            heard.file = trace_file(&place);
        }
        let time = Timestamp::now().rfc3339();
        let thread = std::thread::current().name().unwrap_or("(unnamed)").to_owned();
        if let Some((file, _)) = &mut heard.file {
            // An error is ignored: the message matters more, and a full disk takes no backtrace.
            let _ = writeln!(
                file,
                "{time} text2llm {}: thread {thread}{}: {what}\n{}",
                env!("CARGO_PKG_VERSION"),
                place.in_words(),
                Backtrace::force_capture()
            );
        }
    }
    let trace = match &heard.file {
        Some((_, path)) => format!("Please report it with the backtrace in `{}`", path.display()),
        None => "Please report it with this line".to_owned(),
    };
    let line = match is_caught {
        true => format!(
            "internal error{} while processing a document, which is quarantined: {what}. {trace}",
            place.in_words()
        ),
        false => format!("internal error{}: {what}. {trace}", place.in_words()),
    };
    let is_first = heard.traces == 1;
    let is_first_fatal = !is_caught && heard.fatal.is_none();
    if is_first_fatal {
        heard.fatal = Some((place, line.clone()));
    }
    drop(guard);
    match (is_caught, is_first, is_first_fatal) {
        (true, true, _) => console.warning(&line),
        (false, _, true) => console.error(&line),
        _ => {}
    }
}

/// A new file in the run's folder, or else in the cache folder, or else in the system's temporary folder.
fn trace_file(place: &Progress) -> Option<(File, PathBuf)> {
    let name = format!("panic-{}-{}.log", Timestamp::now().compact(), std::process::id());
    let folders =
        [place.run_folder().map(Path::to_owned), Some(pipeline::cache_folder()), Some(std::env::temp_dir())];
    folders.into_iter().flatten().find_map(|folder| {
        if Some(folder.as_path()) != place.run_folder() {
            std::fs::create_dir_all(&folder).ok()?;
        }
        let path = folder.join(&name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // Private, since it may repeat text of a document and the temporary folder is shared by all users.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).ok()?;
        Some((file, path))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::Parser;

    use super::*;
    use crate::command_line::Cli;

    /// What the test below runs in a process of its own: a panic's hook is the process's.
    #[test]
    fn child() {
        let Ok(kind) = std::env::var("PANICS_TEST_KIND") else { return };
        let mut console = Console::new(&Cli::parse_from(["text2llm", "list"]).global);
        listen(&console);
        let outcome = guard(&mut console, |_| {
            if kind == "caught" {
                for _ in 0..100 {
                    assert_eq!(store::panics::catch(|| panic!("document\n7")), None::<()>);
                }
                return Ok(());
            }
            // One in another thread, then the one that follows from it here.
            std::thread::scope(|scope| {
                scope.spawn(|| panic!("a cause"));
            });
            Ok(())
        });
        let code = outcome.map_or_else(|failure| failure.exit_code(), |()| 0);
        std::fs::write(std::env::var("PANICS_TEST_CODE").unwrap(), code.to_string()).unwrap();
    }

    #[test]
    fn a_panic_is_one_line_and_a_trace_in_the_file_that_it_names() {
        for (kind, code, mark) in
            [("fatal", "1", "error: internal error"), ("caught", "0", "warning: internal error")]
        {
            let folder = tempfile::tempdir().unwrap();
            let said = Command::new(std::env::current_exe().unwrap())
                .args(["panics::tests::child", "--exact", "--nocapture"])
                .env("PANICS_TEST_KIND", kind)
                .env("PANICS_TEST_CODE", folder.path().join("code"))
                .env("TEXT2LLM_CACHE", folder.path().join("cache"))
                .env("NO_COLOR", "1")
                .output()
                .unwrap();
            let words = String::from_utf8_lossy(&said.stderr).into_owned();
            assert_eq!(std::fs::read_to_string(folder.path().join("code")).unwrap(), code, "{words}");
            let told: Vec<&str> = words.lines().filter(|line| line.contains("report it with")).collect();
            assert_eq!(told.len(), 1, "{words}");
            assert!(told[0].starts_with(mark) && !words.contains("stack backtrace"), "{words}");
            let path = told[0].split('`').nth(1).unwrap();
            let trace = std::fs::read_to_string(path).unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let mode = std::fs::metadata(path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "for its owner alone");
            }
            assert!(Path::new(path).starts_with(folder.path()) && trace.contains("panics::tests"), "{trace}");
            assert!(trace.matches("text2llm ").count() <= MOST_TRACES, "{trace}");
        }
    }
}
