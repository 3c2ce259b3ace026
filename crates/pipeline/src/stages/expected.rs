//! What a folder must be made of to be the one that is wanted.

use store::manifest::Manifest;
use store::stage::Stage;

/// What a folder must be made of.
pub(super) struct Expected {
    pub stage: Stage,
    /// Whether its inputs are not looked at: its options alone decide.
    pub of_any_inputs: bool,
}

impl Expected {
    /// By options and inputs.
    pub fn exactly(stage: Stage) -> Expected {
        Expected { stage, of_any_inputs: false }
    }

    /// Whether a folder's mark is such a one.
    pub fn is(&self, mark: &Manifest) -> bool {
        if self.of_any_inputs { self.stage.has_options_of(mark) } else { self.stage.is_of(mark) }
    }
}
