//! The recipe with its sections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gates::{ExportOptions, ValidateOptions};
use crate::model::ModelOptions;
use crate::notify::NotifyOptions;

/// The definition of a model. Omitted keys have the defaults shown in their sections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Name of the model, used in the run's id and the model card.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Training text.
    pub data: corpus::CorpusOptions,
    /// Tokenizer.
    pub tokenizer: tokenizer::TokenizerOptions,
    /// Model architecture. Set one of: `depth`; `size`; or `hidden_size` with `num_hidden_layers`. If none is
    /// set, the size is chosen from the amount of training text.
    pub model: ModelOptions,
    /// Training.
    pub train: train::TrainOptions,
    /// Validation of the finished model. A value without a limit is measured but not enforced.
    pub validate: ValidateOptions,
    /// Export of the model folder.
    pub export: ExportOptions,
    /// Notifications about background runs.
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
    /// The recipe as TOML, with all defaults.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }
}
