//! The recipe with its sections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapter::AdapterOptions;
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
    /// Examples to train on instead of the text of [data].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finetune: Option<corpus::examples::FinetuneOptions>,
    /// Adapters to train on a frozen model. Without this section all weights are trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterOptions>,
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
            finetune: None,
            adapter: None,
            validate: ValidateOptions::default(),
            export: ExportOptions::default(),
            notify: NotifyOptions::default(),
        }
    }
}

impl Recipe {
    /// How preference pairs are learned; `None`: the examples are none.
    pub fn preference(&self) -> Option<::model::Preference> {
        let options = self.finetune.as_ref()?.preference.as_ref()?;
        Some(options.preference())
    }

    /// What is trained.
    pub fn tuning(&self) -> train::Tuning {
        let adapter = self.adapter.as_ref().filter(|adapter| adapter.enabled);
        train::Tuning {
            adapter: adapter.map(AdapterOptions::config),
            frozen: adapter.and_then(AdapterOptions::frozen),
        }
    }
}
