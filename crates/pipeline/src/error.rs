//! What can stop the pipeline.

use crate::recipe::RecipeErrors;

/// What kind of trouble, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A recipe or an argument is wrong.
    Configuration,
}

/// Any error of the pipeline; says what happened, where, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Mistakes in the recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeErrors),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What kind of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Recipe(_) => ErrorKind::Configuration,
        }
    }
}
