//! The recipe's `[finetune]`: which examples to train on, and what of them.

use std::collections::BTreeMap;

use model::{Preference, PreferenceLoss};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenizer::chat::{MaskOptions, RenderOptions, Train};

/// `[finetune]`: train the model that `train.init` names on examples (conversations, prompts with
/// completions, or texts) instead of the text of [data].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FinetuneOptions {
    /// Files of examples: .jsonl, .json or .parquet, also compressed (.gz, .zst). The format is detected by
    /// the fields of a record: OpenAI chat (messages, tools), prompt and completion, ShareGPT
    /// (conversations), Alpaca (instruction, output), or text.
    pub data: Vec<String>,
    /// Files of validation examples. Empty: `validation_fraction` of `data`.
    pub validation: Vec<String>,
    /// Fraction of the examples in `data` used for validation, selected by their content.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub validation_fraction: f64,
    /// Maximum number of validation examples of `validation`, spread evenly over its files. 0: all.
    pub validation_examples: u64,
    /// Which turns are trained.
    pub train_on: TrainOn,
    /// Roles whose turns are trained instead of the assistant's.
    pub roles: Vec<String>,
    /// Train the token that ends a turn, so that the model learns to stop.
    pub end_of_turn: bool,
    /// Chat template: the name of a built-in one (chatml, llama3, mistral, …) or the path of a Jinja file.
    /// Default: the model's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Variables for the chat template, such as enable_thinking.
    #[schemars(with = "BTreeMap<String, Value>")]
    pub template_variables: BTreeMap<String, Value>,
    /// Learn from preference pairs (chosen, rejected) instead of answers: the chosen answer becomes likelier
    /// than the rejected one, relative to the frozen base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferenceOptions>,
    /// Maximum fraction of examples longer than train.sequence_length, which are cut off.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub maximum_truncated: f64,
    /// Skip records that cannot be used instead of refusing them.
    pub skip_invalid: bool,
    /// Seed of the split into training and validation examples.
    pub seed: u64,
}

/// `[finetune.preference]`: how preference pairs are learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PreferenceOptions {
    /// Loss of a pair.
    pub loss: PreferenceLoss,
    /// β: the larger, the closer the model stays to the base.
    #[schemars(range(min = 1e-4, max = 100.0))]
    pub beta: f64,
    /// Probability that a pair's order is wrong (of the sigmoid loss).
    #[schemars(range(min = 0.0, max = 0.49))]
    pub label_smoothing: f64,
}

impl Default for PreferenceOptions {
    /// As the DPO paper and TRL have it.
    fn default() -> PreferenceOptions {
        PreferenceOptions { loss: PreferenceLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0 }
    }
}

impl PreferenceOptions {
    /// For training.
    pub fn preference(&self) -> Preference {
        let PreferenceOptions { loss, beta, label_smoothing } = *self;
        Preference { loss, beta, label_smoothing }
    }
}

/// Which turns of a conversation are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Every assistant turn.
    #[default]
    Assistant,
    /// The last assistant turn.
    Last,
}

impl Default for FinetuneOptions {
    fn default() -> FinetuneOptions {
        FinetuneOptions {
            data: Vec::new(),
            validation: Vec::new(),
            validation_fraction: 0.05,
            validation_examples: 256,
            train_on: TrainOn::Assistant,
            roles: Vec::new(),
            end_of_turn: true,
            chat_template: None,
            template_variables: BTreeMap::new(),
            preference: None,
            maximum_truncated: 0.05,
            skip_invalid: false,
            seed: 42,
        }
    }
}

impl FinetuneOptions {
    /// Which tokens are trained.
    pub fn mask(&self) -> MaskOptions {
        let train = match (&self.roles[..], self.train_on) {
            ([], TrainOn::Assistant) => Train::Assistant,
            ([], TrainOn::Last) => Train::Last,
            (roles, _) => Train::Roles(roles.to_vec()),
        };
        MaskOptions { train, end_of_turn: self.end_of_turn, from_message: 0 }
    }

    /// How conversations are rendered.
    pub fn render(&self) -> RenderOptions {
        let variables = self.template_variables.clone().into_iter().collect();
        let roles = if self.roles.is_empty() { RenderOptions::default().roles } else { self.roles.clone() };
        RenderOptions { variables, roles, ..RenderOptions::default() }
    }
}
