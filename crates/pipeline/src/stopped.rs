//! The message of a stop on request.

use std::fmt;

use runs::report::Phase;

/// A stopped job: where it stopped, and how to continue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Stopped {
    /// The phase, if the job has phases.
    pub phase: Option<Phase>,
    /// Steps done and total steps, if it was training.
    pub steps: Option<(u64, u64)>,
    /// The command that continues.
    pub command: Option<String>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped on request")?;
        match (self.phase, self.steps) {
            (_, Some((step, of))) => write!(f, " at step {step} of {of}")?,
            (phase, None) => f.write_str(&in_words(phase))?,
        }
        f.write_str("; finished work is kept")?;
        match &self.command {
            Some(command) => write!(f, ". Resume with `{command}`"),
            None => Ok(()),
        }
    }
}

/// Where something happened, to be put behind what happened: " in the corpus phase".
pub(crate) fn in_words(phase: Option<Phase>) -> String {
    phase.map_or_else(String::new, |phase| format!(" in the {} phase", format!("{phase:?}").to_lowercase()))
}
