//! The recipe: one TOML that says everything about a model to be made.
//!
//! [`Recipe::load`] merges the file, the environment and flags, checks names, types and ranges against the
//! schema that the types give, then what only several keys together can get wrong. All mistakes are reported
//! at once, each with its line, column and remedy. Reading order: `document` (values and where they came
//! from), `check`, then `sections`.
//!
//! Not here: what a shape costs (`pipeline::plan`) and anything that touches the data.

mod check;
mod diagnostic;
mod document;
pub mod examples;
mod gates;
mod model;
mod notify;
mod overrides;
mod problem;
mod rope;
mod schema;
mod sections;
mod template;

use std::fmt;

use store::secret;

pub use diagnostic::{Diagnostic, Origin, Place};
pub use gates::{CheckpointChoice, ExportOptions, ValidateOptions};
pub use model::{ModelOptions, ShapeChoice, parse_size};
pub use notify::NotifyOptions;
pub use overrides::{ENVIRONMENT_PREFIX, Override};
pub use rope::RopeScalingOptions;
pub use schema::json_schema;
pub use sections::Recipe;
pub use template::commented;

use diagnostic::Aim;
use document::Document;
use problem::Problem;

/// Every mistake found in a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeErrors(pub Vec<Diagnostic>);

impl std::error::Error for RecipeErrors {}

impl fmt::Display for RecipeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl From<Diagnostic> for RecipeErrors {
    fn from(diagnostic: Diagnostic) -> RecipeErrors {
        RecipeErrors(vec![diagnostic])
    }
}

impl Recipe {
    /// Reads the recipe `text`, called `file` in messages, with `layers` laid over it in order; later layers
    /// win.
    pub fn load(file: &str, text: &str, layers: &[Override]) -> Result<Recipe, RecipeErrors> {
        let mut document = Document::parse(file, text)?;
        for layer in layers {
            document.apply(layer)?;
        }
        let found = check::check(&document);
        if !found.is_empty() {
            return Err(RecipeErrors(found));
        }
        // The schema has checked the shape; what serde still refuses has no better place than its message.
        let values = toml::Value::Table(document.values.clone());
        let recipe: Recipe = values.try_into().map_err(|error: toml::de::Error| {
            document.diagnostic("", Aim::Key, format!("{file}: {}", error.message()), None)
        })?;
        let found: Vec<Diagnostic> = recipe
            .problems()
            .into_iter()
            .map(|problem| {
                let aim = if document.is_written(&problem.path) { Aim::Value } else { Aim::Key };
                document.diagnostic(&problem.path, aim, problem.message, problem.help)
            })
            .collect();
        if found.is_empty() { Ok(recipe) } else { Err(RecipeErrors(found)) }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut found = self.model.problems();
        for problem in self.train.problems() {
            let path = format!("train.{}", problem.key);
            found.push(Problem { message: format!("`{path}`: {}", problem.message), path, help: None });
        }
        if let Err(corpus::Error::Options { key, message }) = self.data.validate() {
            let path = format!("data.{key}");
            found.push(Problem { message: format!("`{path}`: {message}"), path, help: None });
        }
        if let Err(tokenizer::Error::Options { key, message }) = self.tokenizer.validate() {
            let path = format!("tokenizer.{key}");
            found.push(Problem { message: format!("`{path}`: {message}"), path, help: None });
        }
        for phase in &self.train.phase {
            if let Some(problem) = phase.mix.as_ref().and_then(|mix| mix.problem(&self.data.paths)) {
                let message = format!("`train.phase`: the mix of phase \"{}\": {problem}", phase.name);
                found.push(Problem { message, path: "train.phase".to_owned(), help: None });
            }
        }
        if self.notify.webhook.as_ref().is_some_and(|webhook| !webhook.starts_with("env:")) {
            found.push(Problem::new(
                "notify.webhook",
                "`notify.webhook`: its URL lets whoever reads it post, and would be copied into every run's records".to_owned(),
                "put it into a variable of the environment and write webhook = \"env:NAME\"",
            ));
        }
        if self.data.paths.iter().any(|path| secret::is_in_address(path)) {
            found.push(Problem::new(
                "data.paths",
                "`data.paths`: an address holds a password or a signature, which would be copied into every run's records".to_owned(),
                "download the file and name that, or name a data set (hf://OWNER/NAME) or a bucket (s3://BUCKET/KEY), whose keys stand \
                 in the environment",
            ));
        }
        if let Some(context) = self.model.max_position_embeddings
            && context < self.train.sequence_length
        {
            found.push(Problem::new(
                "model.max_position_embeddings",
                format!(
                    "`model.max_position_embeddings` = {context} is shorter than train.sequence_length = {}",
                    self.train.sequence_length
                ),
                "make it at least train.sequence_length, or leave it out",
            ));
        }
        if !self.name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ')) {
            found.push(Problem::new(
                "name",
                "`name` has characters that a folder's name should not have",
                "use letters, digits, `-`, `_` and `.`",
            ));
        }
        found
    }
}
