//! The recipe's `[finetune]`: which examples to train on, and what of them.

use std::collections::BTreeMap;

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
    /// Maximum fraction of examples longer than train.sequence_length, which are cut off.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub maximum_truncated: f64,
    /// Skip records that cannot be used instead of refusing them.
    pub skip_invalid: bool,
    /// Seed of the split into training and validation examples.
    pub seed: u64,
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
