//! The recipe with its sections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gates::{ExportOptions, ValidateOptions};
use crate::model::ModelOptions;
use crate::notify::NotifyOptions;

/// Everything about a model to be made. A key left out has the default written in its section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// The model's name: part of the run's folder and of the model card.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The text to learn from.
    pub data: corpus::CorpusOptions,
    /// How text becomes tokens.
    pub tokenizer: tokenizer::TokenizerOptions,
    /// The shape.
    pub model: ModelOptions,
    /// The training loop.
    pub train: train::TrainOptions,
    /// What the finished model must meet.
    pub validate: ValidateOptions,
    /// What is written of it.
    pub export: ExportOptions,
    /// Whom to tell of a run in the background.
    pub notify: NotifyOptions,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            name: "my-llm".to_owned(),
            data: corpus::CorpusOptions::default(),
            tokenizer: tokenizer::TokenizerOptions::default(),
            model: ModelOptions::default(),
            train: train::TrainOptions::default(),
            validate: ValidateOptions::default(),
            export: ExportOptions::default(),
            notify: NotifyOptions::default(),
        }
    }
}

impl Recipe {
    /// The recipe as TOML, every default written out.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }
}
