//! From a recipe to a model: the recipe itself, the plan, and the stages that carry it out.
//!
//! Reading order: `recipe`, `plan`, `stages`. Prints nothing; what happens is told to a `store::report::Reporter`.

pub mod error;
pub mod recipe;

pub use error::{Error, ErrorKind, Result};
pub use recipe::Recipe;
