//! Tests that cannot run on this machine. Every skip goes through here, so that none goes unnoticed.

use std::fmt::Display;

/// Notes that a test is left out because something that can be installed is missing: a program, a package, a
/// right of the user. The caller returns.
///
/// # Panics
/// With `TEXT2LLM_REQUIRE_ALL=1`, which `.ci/run` sets.
#[track_caller]
pub fn skip(reason: impl Display) {
    let is_required = std::env::var_os("TEXT2LLM_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!is_required, "TEXT2LLM_REQUIRE_ALL=1 forbids skipping this: {reason}");
    say(reason);
}

/// As [`skip`] where the machine itself is another one than the test needs: no GPU, no such instructions, too
/// much memory to run out of. Never a failure.
pub fn skip_without_hardware(reason: impl Display) {
    say(reason);
}

#[allow(clippy::print_stderr)] // this is what a test says
fn say(reason: impl Display) {
    eprintln!("skipped: {reason}");
}

/// Whether a program is there; where it is not, the test is skipped.
///
/// # Panics
/// As [`skip`].
#[track_caller]
pub fn has_program(name: &str) -> bool {
    let version = std::process::Command::new(name).arg("--version").output();
    if version.is_err() {
        skip(format_args!("there is no `{name}` on this machine"));
    }
    version.is_ok()
}
