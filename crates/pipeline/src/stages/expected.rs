//! The stage that a folder must have been made by.

use store::manifest::Manifest;
use store::stage::Stage;

/// The stage that a folder must have been made by.
pub(super) struct Expected {
    pub stage: Stage,
    /// Whether inputs are ignored and only options compared.
    pub of_any_inputs: bool,
}

impl Expected {
    /// By options and inputs.
    pub fn exactly(stage: Stage) -> Expected {
        Expected { stage, of_any_inputs: false }
    }

    /// Whether a folder's manifest matches.
    pub fn is(&self, mark: &Manifest) -> bool {
        if self.of_any_inputs { self.stage.has_options_of(mark) } else { self.stage.is_of(mark) }
    }
}
