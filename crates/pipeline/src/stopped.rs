//! A stop on request, as it is told.

use std::fmt;

use runs::report::Phase;

/// Where a job was stopped, and how to go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Stopped {
    /// The phase, where the job has any.
    pub phase: Option<Phase>,
    /// Steps done, and steps in all, where it was in training.
    pub steps: Option<(u64, u64)>,
    /// What goes on from here.
    pub command: Option<String>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped on request")?;
        match (self.phase, self.steps) {
            (_, Some((step, of))) => write!(f, " at step {step} of {of}")?,
            (phase, None) => f.write_str(&in_words(phase))?,
        }
        f.write_str("; what is done stays")?;
        match &self.command {
            Some(command) => write!(f, ". Go on with `{command}`"),
            None => Ok(()),
        }
    }
}

/// Where something happened, to be put behind what happened: " in the corpus phase".
pub(crate) fn in_words(phase: Option<Phase>) -> String {
    phase.map_or_else(String::new, |phase| format!(" in the {} phase", format!("{phase:?}").to_lowercase()))
}
