//! Contradictions within a recipe.

/// A mistake that is only visible in the whole recipe, such as two contradictory keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Problem {
    pub(crate) fn new(path: &str, message: impl Into<String>, help: &str) -> Problem {
        Problem { path: path.to_owned(), message: message.into(), help: Some(help.to_owned()) }
    }
}
