//! Integration tests of the pipeline.

mod examples;
mod recipe_errors;
