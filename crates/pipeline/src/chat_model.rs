//! What checking and showing examples needs of a model: its tokenizer and chat template, but no weights.

use std::path::Path;

use corpus::examples::{FinetuneOptions, renderer};
use store::fs::RealFs;
use tokenizer::Tokenizer;
use tokenizer::chat::Renderer;

use crate::Result;
use crate::open_model::OpenModel;

/// A tokenizer with a renderer for its model's chat template.
pub struct ChatModel {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Renders examples.
    pub renderer: Renderer,
}

impl ChatModel {
    /// Opens a model folder or a GGUF file.
    ///
    /// # Errors
    /// A model or a chat template that cannot be read.
    pub fn open(path: &Path, options: &FinetuneOptions, base_dir: &Path) -> Result<ChatModel> {
        let model = OpenModel::open(path)?;
        let own = model.chat_template()?;
        let renderer = renderer(&RealFs, options, base_dir, &model.tokenizer, own)?;
        Ok(ChatModel { tokenizer: model.tokenizer, renderer })
    }
}
