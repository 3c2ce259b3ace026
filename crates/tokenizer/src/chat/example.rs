//! Records as training examples: tokens and which of them are trained.

use std::ops::Range;

use super::conversation::Conversation;
use super::error::ChatError;
use super::finding::{Finding, Problem};
use super::mask::MaskOptions;
use super::record::{Content, Record, joined};
use super::render::{RenderOptions, Rendered, Renderer, Turn};
use crate::Result;

/// A record's tokens and their mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The rendered text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// For each token, its bytes in `text`; empty for BOS and EOS around text without turns.
    pub offsets: Vec<Range<usize>>,
    /// For each token, whether it is trained as a target.
    pub mask: Vec<bool>,
    /// The trained turns; empty for text without turns.
    pub turns: Vec<Turn>,
    /// Messages that the template does not render ([`Rendered::dropped`]).
    pub dropped: Vec<usize>,
}

/// The two sides of a preference pair. In each only the answer is trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceExample {
    /// Prompt and better answer.
    pub chosen: Example,
    /// Prompt and worse answer.
    pub rejected: Example,
}

impl Renderer {
    /// Renders a record for training.
    ///
    /// A conversation's turns are trained as `mask` says. Of a prompt and a completion only the completion
    /// is: as text with EOS if both are text, and with the template otherwise. Text is trained whole, behind
    /// the tokenizer's prefix (BOS or nothing), with EOS.
    ///
    /// # Errors
    /// As [`Renderer::render`]; a preference pair, which is [`Renderer::preference`]'s.
    pub fn example(&self, record: &Record, options: &RenderOptions, mask: &MaskOptions) -> Result<Example> {
        match record {
            Record::Conversation(conversation) => self.turns(conversation, options, mask),
            Record::Text(text) => self.continuation("", text),
            Record::Completion { prompt, completion, tools } => {
                self.answer(prompt, completion, tools, options, mask)
            }
            Record::Preference { prompt, chosen, tools, .. } => {
                self.answer(prompt, chosen, tools, options, mask)
            }
        }
    }

    /// Renders both sides of a preference pair; `None` for another record.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn preference(
        &self,
        record: &Record,
        options: &RenderOptions,
        mask: &MaskOptions,
    ) -> Result<Option<PreferenceExample>> {
        let Record::Preference { prompt, chosen, rejected, tools } = record else { return Ok(None) };
        let side = |answer| self.answer(prompt, answer, tools, options, mask);
        Ok(Some(PreferenceExample { chosen: side(chosen)?, rejected: side(rejected)? }))
    }

    fn turns(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
        mask: &MaskOptions,
    ) -> Result<Example> {
        let rendered = self.render(conversation, options)?;
        let trained = rendered.mask(mask);
        let turns = mask.turns(&rendered).into_iter().cloned().collect();
        let Rendered { text, ids, offsets, dropped, .. } = rendered;
        Ok(Example { text, ids, offsets, mask: trained, turns, dropped })
    }

    fn answer(
        &self,
        prompt: &Content,
        answer: &Content,
        tools: &[serde_json::Value],
        options: &RenderOptions,
        mask: &MaskOptions,
    ) -> Result<Example> {
        if let (Content::Text(prompt), Content::Text(answer)) = (prompt, answer) {
            return self.continuation(prompt, answer);
        }
        let (messages, from) = joined(prompt, answer);
        let conversation = Conversation { messages, tools: tools.to_vec(), ..Conversation::default() };
        let mask = MaskOptions { from_message: from.max(mask.from_message), ..mask.clone() };
        self.turns(&conversation, options, &mask)
    }

    /// Text behind a prompt that is not trained.
    fn continuation(&self, prompt: &str, text: &str) -> Result<Example> {
        let whole = format!("{prompt}{text}");
        let (encoded, places) = self.encode(&whole)?;
        let mut ids = self.prefix.clone();
        let mut offsets = vec![0..0; ids.len()];
        // The prefix is trained with a text as a whole, where nothing precedes it.
        let mut mask = vec![prompt.is_empty(); ids.len()];
        mask.extend(places.iter().map(|place| place.start >= prompt.len()));
        ids.extend(encoded);
        offsets.extend(places);
        if let Some((eos, _)) = &self.eos
            && ids.last() != Some(eos)
        {
            ids.push(*eos);
            offsets.push(whole.len()..whole.len());
            mask.push(true);
        }
        self.check_bos(&ids)?;
        if !mask.contains(&true) {
            return Err(ChatError::Record(Finding::error("", Problem::Empty)).into());
        }
        Ok(Example { text: whole, ids, offsets, mask, turns: Vec::new(), dropped: Vec::new() })
    }
}
