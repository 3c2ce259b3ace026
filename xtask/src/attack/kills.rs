//! SIGKILL at random moments, up to three times in a row, then a resume: the end of a run that nobody killed, bit for bit, and no
//! kill costs more than the steps since a checkpoint.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Field;
use super::project::{self, CHECKPOINT_EVERY, Project};
use super::watched::{LIMIT, Watched};

/// How often one run is killed at most.
const IN_A_ROW: u64 = 3;

/// Runs the attack.
pub fn run(field: &mut Field) -> Result<()> {
    let begun = Instant::now();
    let (_, whole, wanted) = project::undisturbed(field)?;
    let (whole_s, lines) = (begun.elapsed().as_secs_f64(), whole.stdout.lines().count() as u64);
    while let Some((case, mut rng)) = field.next() {
        let project = Project::new(field, "killed")?;
        let mut problem = None;
        for _ in 0..=rng.below(IN_A_ROW) {
            let before = project.newest_checkpoint();
            let mut watched = Watched::start(&mut project.command(&["run", "--json", "--resume"]))?;
            // Half of them by what it says, which meets every phase alike; half by the clock, which meets what says nothing.
            let (line, after) = (rng.below(lines), rng.uniform() * 1.2 * whole_s);
            let pause = Duration::from_micros(rng.below(3000));
            let runs = if rng.below(2) == 0 {
                let runs = watched.wait_until(LIMIT, |said| said.lines().count() as u64 > line)?;
                std::thread::sleep(pause);
                runs
            } else {
                watched.wait_until(Duration::from_secs_f64(after), |_| false)?
            };
            if !runs {
                break;
            }
            watched.kill();
            watched.end(LIMIT)?;
            field.did(1);
            problem = lost(&project, before);
            if problem.is_some() {
                break;
            }
        }
        if problem.is_none() {
            problem = project.finish(&wanted)?;
        }
        if let Some(problem) = problem {
            field.fail(case, problem, Some(&project.folder))?;
        }
    }
    Ok(())
}

/// What a kill has cost that it must not, where `before` was the newest whole checkpoint.
pub fn lost(project: &Project, before: Option<u64>) -> Option<String> {
    let newest = project.newest_checkpoint();
    if newest < before {
        return Some(format!("the checkpoint of step {before:?} is gone; the newest is {newest:?}"));
    }
    let lost = project.reached().saturating_sub(newest.unwrap_or(0));
    (lost > CHECKPOINT_EVERY).then(|| format!("a kill cost {lost} steps"))
}
