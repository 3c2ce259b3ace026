//! Contradictions within a recipe.

/// A mistake that only the finished recipe shows, such as two keys that contradict each other.
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
