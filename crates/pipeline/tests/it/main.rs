//! Integration tests of the pipeline.

mod recipe_errors;
mod examples;
