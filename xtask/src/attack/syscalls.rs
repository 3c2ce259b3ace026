//! SIGKILL at a single system call that touches the disk, then a resume: a run must recover from the state
//! between any two calls.

use anyhow::Result;

use super::campaign::Campaign;
use super::project::{self, Project};
use super::watched::{LIMIT, Watched};
use super::{kills, strace};

/// Runs the attack.
pub fn run(campaign: &mut Campaign) -> Result<()> {
    campaign.skipped = strace::missing();
    if campaign.skipped.is_some() {
        return Ok(());
    }
    let (_, _, wanted) = project::undisturbed(campaign)?;
    let calls = strace::calls(&Project::new(campaign, "traced")?, &["run", "--json"])?;
    while let Some((case, mut rng)) = campaign.next() {
        let call = &calls[case as usize % calls.len()];
        let number = call.first + rng.below(call.count - call.first + 1);
        let project = Project::new(campaign, "killed")?;
        let options = strace::inject(&call.name, "signal=KILL", &number.to_string());
        let ended = Watched::start(&mut project.traced(&options, &["run", "--json"]))?.end(LIMIT * 2)?;
        campaign.did(1);
        if ended.signal.is_none() && ended.code == Some(0) {
            // Threads shared the calls differently this time.
            campaign.note(format!("{} not reached", call.name));
        }
        let problem = match kills::lost(&project, None) {
            None => project.finish(&wanted)?,
            problem => problem,
        };
        if let Some(problem) = problem {
            let what = format!("killed at {} {number}: {problem}", call.name);
            campaign.fail(case, what, Some(&project.folder))?;
        }
    }
    Ok(())
}
