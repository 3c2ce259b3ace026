//! SIGKILL at random moments, up to three times in a row, then a resume: the result is bit-identical to that
//! of an undisturbed run, and no kill loses more than one checkpoint interval.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::campaign::Campaign;
use super::project::{self, CHECKPOINT_EVERY, Project};
use super::watched::{LIMIT, Watched};

/// How often one run is killed at most.
const IN_A_ROW: u64 = 3;

/// Runs the attack.
pub fn run(campaign: &mut Campaign) -> Result<()> {
    let begun = Instant::now();
    let (_, whole, wanted) = project::undisturbed(campaign)?;
    let (whole_s, lines) = (begun.elapsed().as_secs_f64(), whole.stdout.lines().count() as u64);
    while let Some((case, mut rng)) = campaign.next() {
        let project = Project::new(campaign, "killed")?;
        let mut problem = None;
        for _ in 0..=rng.below(IN_A_ROW) {
            let before = project.newest_checkpoint();
            let mut watched = Watched::start(&mut project.command(&["run", "--json", "--resume"]))?;
            // Half of them at a random line of output, which reaches every phase equally; half at a random
            // time, which also reaches what prints nothing.
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
            campaign.did(1);
            problem = lost(&project, before);
            if problem.is_some() {
                break;
            }
        }
        if problem.is_none() {
            problem = project.finish(&wanted)?;
        }
        if let Some(problem) = problem {
            campaign.fail(case, problem, Some(&project.folder))?;
        }
    }
    Ok(())
}

/// More than one checkpoint interval, or a checkpoint, lost since `before`, the newest whole checkpoint then.
pub fn lost(project: &Project, before: Option<u64>) -> Option<String> {
    let newest = project.newest_checkpoint();
    if newest < before {
        return Some(format!("the checkpoint of step {before:?} is gone; the newest is {newest:?}"));
    }
    let lost = project.reached().saturating_sub(newest.unwrap_or(0));
    (lost > CHECKPOINT_EVERY).then(|| format!("{lost} steps are lost, more than one checkpoint interval"))
}
