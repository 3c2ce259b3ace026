//! Integration tests of the recipe.

mod examples;
mod recipe_errors;
