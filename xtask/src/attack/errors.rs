//! System calls that fail, once or from some call on: a clear error and a documented exit code, or a run that gets over it; what
//! was whole stays whole, and afterwards the same run ends in the right bits.

use std::time::Duration;

use anyhow::Result;
use compute::rng::Rng;

use super::project::{self, Bits, Project};
use super::strace::{self, Call};
use super::watched::{Ended, LIMIT, Watched, signal};
use super::{Field, kills};

const ERRORS: [&str; 5] = ["ENOSPC", "EIO", "EMFILE", "EACCES", "EDQUOT"];
/// A disk that is full, or fails, pauses a training: it says so, and tries again after five seconds.
const PAUSED: &str = "Training is paused";

/// Where a disturbed run begins.
struct Beginning {
    project: Project,
    arguments: [&'static str; 3],
    calls: Vec<Call>,
}

/// Runs the attack.
pub fn run(field: &mut Field) -> Result<()> {
    field.skipped = strace::missing();
    if field.skipped.is_some() {
        return Ok(());
    }
    let (_, _, wanted) = project::undisturbed(field)?;
    let mut beginnings = Vec::new();
    for (name, project) in
        [("new", Project::new(field, "new")?), ("half", project::half_trained(field, "half")?)]
    {
        let arguments = ["run", "--json", "--resume"];
        let traced = project.copied(field, &format!("{name}-traced"))?;
        beginnings.push(Beginning { calls: strace::calls(&traced, &arguments)?, project, arguments });
    }
    while let Some((case, mut rng)) = field.next() {
        let beginning = &beginnings[case as usize % beginnings.len()];
        let project = beginning.project.copied(field, "disturbed")?;
        let disturbed = Disturbance::draw(&beginning.calls, &mut rng);
        let problem = disturbed.check(beginning, &project, &wanted)?;
        field.did(1);
        if let Some(problem) = problem {
            field.fail(case, format!("{}: {problem}", disturbed.told()), Some(&project.folder))?;
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
        if let Some(outrage) = ended.outrage() {
            return Ok(Some(outrage));
        }
        // What cannot be written cannot be told either.
        let mute = self.call == "write";
        if ended.code != Some(0) && ended.warnings().is_empty() && !mute {
            return Ok(Some(format!("it ended with {:?} and said nothing", ended.code)));
        }
        if ended.code == Some(0)
            && let Some(difference) = project::difference(&project.bits()?, wanted)
        {
            return Ok(Some(format!("it ended with 0, and {difference}")));
        }
        let left = project.whole_stages();
        if let Some(stage) = stages.iter().find(|stage| !left.contains(stage)) {
            return Ok(Some(format!("{stage} was whole and is no more")));
        }
        if let Some(lost) = kills::lost(project, checkpoint) {
            return Ok(Some(lost));
        }
        Ok(project.finish(wanted)?.map(|problem| format!("afterwards {problem}")))
    }

    /// Runs it to its end; one that is paused for its disk is asked to stop.
    fn run(&self, beginning: &Beginning, project: &Project) -> Result<Ended> {
        let when = if self.sticky { format!("{}+", self.number) } else { self.number.to_string() };
        let options = strace::inject(&self.call, &format!("error={}", self.error), &when);
        let mut watched = Watched::start(&mut project.traced(&options, &beginning.arguments))?;
        let mut limit = LIMIT;
        let runs = watched.wait_until(LIMIT, |said| self.sticky && said.contains(PAUSED))?;
        // Where it can write nothing, it cannot say that it waits.
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
