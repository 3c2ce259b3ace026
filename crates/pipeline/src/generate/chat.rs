//! A conversation that goes on: of each prompt, only what the key/value cache does not have is decoded.

use tokenizer::chat::{Conversation, Renderer};

use super::{Continuation, Generated, Generator, Options};
use crate::Result;

/// A generator in a conversation.
pub struct Chat<'a> {
    generator: &'a mut Generator,
    renderer: Renderer,
    /// Ids in the key/value cache.
    cached: Vec<u32>,
}

impl<'a> Chat<'a> {
    /// A conversation with a model.
    ///
    /// # Errors
    /// A model without a chat template.
    pub fn new(generator: &'a mut Generator) -> Result<Chat<'a>> {
        let renderer = generator.renderer()?;
        Ok(Chat { generator, renderer, cached: Vec::new() })
    }

    /// The longest conversation in tokens, its last answer included.
    pub fn capacity(&self) -> usize {
        self.generator.model.capacity()
    }

    /// Answers the last message of a conversation, with as many tokens as the capacity has left; `None`: it
    /// has none left.
    ///
    /// # Errors
    /// As [`Generator::generate`]; a conversation that the template refuses.
    pub fn answer(
        &mut self,
        conversation: &Conversation,
        options: &Options,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Option<Generated>> {
        let mut ids = self.renderer.prompt(conversation, true)?;
        let left = self.capacity().saturating_sub(ids.len());
        if left == 0 {
            return Ok(None);
        }
        let options = Options { max_new_tokens: options.max_new_tokens.min(left), ..options.clone() };
        let had = std::mem::take(&mut self.cached);
        // Logits follow a token that is decoded now.
        let same = had.iter().zip(&ids).take_while(|(had, id)| had == id).count();
        let cached = same.min(ids.len().saturating_sub(1));
        let from = Continuation { space_owed: false, skip_special: false, cached };
        let generated = self.generator.continue_ids(ids.clone(), from, &options, on_text)?;
        ids.extend(&generated.ids);
        ids.truncate(self.generator.model.context_used(0));
        self.cached = ids;
        Ok(Some(generated))
    }
}
