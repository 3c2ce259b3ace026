//! Retention: keeps the newest k checkpoints that verify, and the best one.

use runs::report::{Phase, Reporter};
use store::ownership;

use super::{Checkpoints, DELETING, FILES};
use crate::{ErrorKind, Result};

impl Checkpoints<'_> {
    /// Removes checkpoints of later steps than `newest`, which was just saved: the run has rolled back to an
    /// earlier one and would otherwise continue from a superseded one.
    pub fn supersede(&self, newest: u64) -> Result<()> {
        self.steps()?.into_iter().filter(|&step| step > newest).try_for_each(|step| self.remove(step))
    }

    /// Removes checkpoints other than the newest `keep_last` intact ones, sparing some: the best, and those
    /// to roll back to. `newest` was just saved and verified; later steps are superseded. A checkpoint that
    /// does not verify is not counted, and is removed only once `keep_last` others are intact.
    pub fn prune(
        &self,
        newest: u64,
        keep_last: usize,
        spared: &[u64],
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<u64>> {
        let mut whole = 1;
        let mut damaged = Vec::new();
        let mut doomed = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            if step == newest {
                continue;
            }
            if step > newest {
                doomed.push(step);
            } else if whole < keep_last {
                match self.verify(step) {
                    Ok(_) => whole += 1,
                    Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                        damaged.push(step);
                        let message = format!("the checkpoint of step {step} no longer verifies: {error}");
                        reporter.warning(Phase::Training, &message);
                    }
                    Err(error) => return Err(error),
                }
            } else if !spared.contains(&step) {
                doomed.push(step);
            }
        }
        if whole >= keep_last {
            doomed.extend(damaged.into_iter().filter(|step| !spared.contains(step)));
        }
        for &step in &doomed {
            self.remove(step)?;
        }
        doomed.sort_unstable();
        Ok(doomed)
    }

    pub(super) fn remove(&self, step: u64) -> Result<()> {
        let path = self.path(step);
        let aside = self.folder.join(format!(".step-{step:08}.{DELETING}"));
        ownership::discard_known(self.fs, &aside, &path, &FILES)?;
        self.fs.rename(&path, &aside).map_err(store::Error::io("remove", &path))?;
        // By name, not by hash: gigabytes that are deleted need not be read. Files of the user are kept in
        // `step-….kept`.
        ownership::discard_known(self.fs, &aside, &path, &FILES)?;
        Ok(())
    }
}
