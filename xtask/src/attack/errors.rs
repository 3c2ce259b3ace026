//! System calls that fail, once or from some call on: the run recovers, or exits with a clear error and a
//! documented code. What was whole stays whole, and afterwards the same command completes with bit-identical
//! results.

use std::time::Duration;

use anyhow::Result;
use compute::rng::Rng;

use super::campaign::Campaign;
use super::kills;
use super::project::{self, Bits, Project};
use super::strace::{self, Call};
use super::watched::{Ended, LIMIT, Watched, signal};

const ERRORS: [&str; 5] = ["ENOSPC", "EIO", "EMFILE", "EACCES", "EDQUOT"];
/// A full or failing disk pauses training, with this message and a retry every five seconds.
const PAUSED: &str = "Training is paused";

/// The state that a run with failing calls starts from.
struct Beginning {
    project: Project,
    arguments: [&'static str; 3],
    calls: Vec<Call>,
}

/// Runs the attack.
pub fn run(campaign: &mut Campaign) -> Result<()> {
    campaign.skipped = strace::missing();
    if campaign.skipped.is_some() {
        return Ok(());
    }
    let (_, _, wanted) = project::undisturbed(campaign)?;
    let mut beginnings = Vec::new();
    for (name, project) in
        [("new", Project::new(campaign, "new")?), ("half", project::half_trained(campaign, "half")?)]
    {
        let arguments = ["run", "--json", "--resume"];
        let traced = project.copied(campaign, &format!("{name}-traced"))?;
        beginnings.push(Beginning { calls: strace::calls(&traced, &arguments)?, project, arguments });
    }
    while let Some((case, mut rng)) = campaign.next() {
        let beginning = &beginnings[case as usize % beginnings.len()];
        let project = beginning.project.copied(campaign, "disturbed")?;
        let disturbed = Disturbance::draw(&beginning.calls, &mut rng);
        let problem = disturbed.check(beginning, &project, &wanted)?;
        campaign.did(1);
        if let Some(problem) = problem {
            campaign.fail(case, format!("{}: {problem}", disturbed.told()), Some(&project.folder))?;
        }
    }
    Ok(())
}

/// Which call fails, how, and from when.
struct Disturbance {
    call: String,
    error: &'static str,
    number: u64,
    sticky: bool,
}

impl Disturbance {
    fn draw(calls: &[Call], rng: &mut Rng) -> Disturbance {
        let call = &calls[rng.below(calls.len() as u64) as usize];
        Disturbance {
            call: call.name.clone(),
            error: ERRORS[rng.below(ERRORS.len() as u64) as usize],
            number: call.first + rng.below(call.count - call.first + 1),
            sticky: rng.below(2) == 0,
        }
    }

    fn told(&self) -> String {
        let on = if self.sticky { " and all after it" } else { "" };
        format!("{} at {} {}{on}", self.error, self.call, self.number)
    }

    fn check(&self, beginning: &Beginning, project: &Project, wanted: &Bits) -> Result<Option<String>> {
        let (stages, checkpoint) = (project.whole_stages(), project.newest_checkpoint());
        let ended = self.run(beginning, project)?;
        if let Some(crash) = ended.crash() {
            return Ok(Some(crash));
        }
        // Where `write` fails, so does the error message.
        let mute = self.call == "write";
        if ended.code != Some(0) && ended.warnings().is_empty() && !mute {
            return Ok(Some(format!("it exited with {:?} and no error message", ended.code)));
        }
        if ended.code == Some(0)
            && let Some(difference) = project::difference(&project.bits()?, wanted)
        {
            return Ok(Some(format!("it exited with 0, but {difference}")));
        }
        let left = project.whole_stages();
        if let Some(stage) = stages.iter().find(|stage| !left.contains(stage)) {
            return Ok(Some(format!("{stage} was whole before and is not any more")));
        }
        if let Some(lost) = kills::lost(project, checkpoint) {
            return Ok(Some(lost));
        }
        Ok(project.finish(wanted)?.map(|problem| format!("afterwards {problem}")))
    }

    /// Runs it to its exit; where training is paused for a disk that keeps failing, SIGTERM stops it.
    fn run(&self, beginning: &Beginning, project: &Project) -> Result<Ended> {
        let when = if self.sticky { format!("{}+", self.number) } else { self.number.to_string() };
        let options = strace::inject(&self.call, &format!("error={}", self.error), &when);
        let mut watched = Watched::start(&mut project.traced(&options, &beginning.arguments))?;
        let mut limit = LIMIT;
        let runs = watched.wait_until(LIMIT, |said| self.sticky && said.contains(PAUSED))?;
        // Where every `write` fails, so does the message that training is paused.
        if runs && (watched.said().contains(PAUSED) || self.call == "write") {
            if self.sticky
                && let Some(tracee) = strace::tracee(watched.id())
            {
                signal("TERM", &tracee);
            }
            limit += LIMIT + Duration::from_secs(5);
        }
        watched.end(limit)
    }
}
