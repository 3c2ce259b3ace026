//! Killed at a single system call that touches the disk, then resumed: what lies between two calls must be a state that a run
//! gets on from.

use anyhow::Result;

use super::project::{self, Project};
use super::watched::{LIMIT, Watched};
use super::{Field, kills, strace};

/// Runs the attack.
pub fn run(field: &mut Field) -> Result<()> {
    field.skipped = strace::missing();
    if field.skipped.is_some() {
        return Ok(());
    }
    let (_, _, wanted) = project::undisturbed(field)?;
    let calls = strace::calls(&Project::new(field, "traced")?, &["run", "--json"])?;
    while let Some((case, mut rng)) = field.next() {
        let call = &calls[case as usize % calls.len()];
        let number = call.first + rng.below(call.count - call.first + 1);
        let project = Project::new(field, "killed")?;
        let options = strace::inject(&call.name, "signal=KILL", &number.to_string());
        let ended = Watched::start(&mut project.traced(&options, &["run", "--json"]))?.end(LIMIT * 2)?;
        field.did(1);
        if ended.signal.is_none() && ended.code == Some(0) {
            // Fewer calls than were counted: threads share them otherwise.
            field.note(format!("{} not reached", call.name));
        }
        let problem = match kills::lost(&project, None) {
            None => project.finish(&wanted)?,
            problem => problem,
        };
        if let Some(problem) = problem {
            let what = format!("killed at {} {number}: {problem}", call.name);
            field.fail(case, what, Some(&project.folder))?;
        }
    }
    Ok(())
}
