//! The recipe: one TOML file that defines how a model is made.
//!
//! [`Recipe::load`] merges the file, the environment and flags, checks names, types and ranges against the
//! schema generated from the types, and then checks combinations of keys. All mistakes are reported at once,
//! each with its line, column and remedy. Reading order: `document` (values and their origins), `check`, then
//! `sections`.
//!
//! Not here: estimating a model's memory and time (`pipeline::plan`), and anything that reads the data.

mod adapter;
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
pub mod value;

use std::fmt;

use store::secret;

pub use adapter::{AdapterOptions, BaseFormat};
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

/// All mistakes found in a recipe.
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
    /// Parses the recipe `text`, called `file` in messages, and applies the overrides `layers` in order;
    /// later ones win.
    pub fn load(file: &str, text: &str, layers: &[Override]) -> Result<Recipe, RecipeErrors> {
        let mut document = Document::parse(file, text)?;
        for layer in layers {
            document.apply(layer)?;
        }
        let found = check::check(&document);
        if !found.is_empty() {
            return Err(RecipeErrors(found));
        }
        // The schema has been checked; whatever serde still refuses has no better position than its message.
        let recipe = Recipe::from_value(value::of_table(&document.values).into())
            .map_err(|error| document.diagnostic("", Aim::Key, format!("{file}: {error}"), None))?;
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

    /// What [finetune], [adapter] and train.init say of each other.
    fn finetuning_problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for (section, is_there) in
            [("finetune", self.finetune.is_some()), ("adapter", self.adapter.is_some())]
        {
            if is_there && self.train.init.is_none() {
                found.push(Problem::new(
                    section,
                    format!("`[{section}]` needs a model to start from, and `train.init` names none"),
                    "set train.init to a model folder or a GGUF file (--init)",
                ));
            }
        }
        if self.finetune.as_ref().is_some_and(|finetune| finetune.data.is_empty()) {
            found.push(Problem::new(
                "finetune",
                "`finetune.data` names no examples",
                "list files of examples: data = [\"chat.jsonl\"] (--data)",
            ));
        }
        let adapter = self.adapter.as_ref().filter(|adapter| adapter.enabled);
        if self.finetune.as_ref().is_some_and(|finetune| finetune.preference.is_some()) {
            if adapter.is_none() {
                found.push(Problem::new(
                    "finetune.preference",
                    "`[finetune.preference]` compares with the frozen base, and nothing is frozen",
                    "train adapters: add [adapter]",
                ));
            }
            if self.model.dropout > 0.0 {
                found.push(Problem::new(
                    "model.dropout",
                    "`model.dropout` must be 0 with [finetune.preference]: it would blur the comparison",
                    "remove model.dropout",
                ));
            }
            if adapter.is_some_and(|adapter| adapter.dropout > 0.0) {
                found.push(Problem::new(
                    "adapter.dropout",
                    "`adapter.dropout` must be 0 with [finetune.preference]: it would blur the comparison",
                    "set adapter.dropout = 0.0",
                ));
            }
        }
        if self.finetune.is_some() && !self.train.phase.is_empty() {
            found.push(Problem::new(
                "train.phase",
                "`train.phase`: examples are not divided into phases",
                "remove the phases, or [finetune]",
            ));
        }
        if self.adapter.as_ref().is_some_and(|adapter| adapter.enabled)
            && self.train.optimizer == ::model::Optimizer::Muon
        {
            found.push(Problem::new(
                "train.optimizer",
                "`train.optimizer` = \"muon\" is for weight matrices, not for adapters",
                "set train.optimizer = \"adamw\"",
            ));
        }
        found
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
        found.extend(self.finetuning_problems());
        if self.notify.webhook.as_ref().is_some_and(|webhook| !webhook.starts_with("env:")) {
            found.push(Problem::new(
                "notify.webhook",
                "`notify.webhook`: anyone who reads its URL can post to it, and it would be copied into the \
                 record of every run"
                    .to_owned(),
                "put the URL into an environment variable and write webhook = \"env:NAME\"",
            ));
        }
        if self.data.paths.iter().any(|path| secret::is_in_address(path)) {
            found.push(Problem::new(
                "data.paths",
                "`data.paths`: a URL contains a password or a signature, which would be copied into the \
                 record of every run"
                    .to_owned(),
                "download the file and use its path, or use a dataset (hf://OWNER/NAME) or a bucket \
                 (s3://BUCKET/KEY), whose keys come from the environment",
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
                "set it to at least train.sequence_length, or omit it",
            ));
        }
        if !self.name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ')) {
            found.push(Problem::new(
                "name",
                "`name` contains characters that are not allowed in a folder name",
                "use only letters, digits, `-`, `_` and `.`",
            ));
        }
        found
    }
}
