//! Conversations as tokens, and where each turn is.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use minijinja::Value as Jinja;
use serde_json::{Map, Value};

use super::conversation::{Conversation, Message, role, text};
use super::error::ChatError;
use super::spans::{Locator, Place, Probe};
use super::template::{ChatTemplate, Input, to_jinja};
use super::vanish;
use crate::library::Library;
use crate::{Result, Tokenizer};

/// Options of one rendering.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderOptions {
    /// Whether the header of an assistant turn follows the last message, for the model to continue.
    pub add_generation_prompt: bool,
    /// Further variables for the template, such as `enable_thinking`; those of the conversation come first.
    pub variables: Map<String, Value>,
    /// The roles whose turns are found. Assistant turns by default.
    pub roles: Vec<String>,
}

impl Default for RenderOptions {
    fn default() -> RenderOptions {
        RenderOptions { add_generation_prompt: false, variables: Map::new(), roles: vec!["assistant".into()] }
    }
}

/// A turn's place in a rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its role.
    pub role: String,
    /// Index of its message.
    pub message_index: usize,
    /// What the model itself writes: bytes of the text, from behind the header to behind the token that ends
    /// the turn.
    pub text: Range<usize>,
    /// The tokens that begin in `text`.
    pub tokens: Range<usize>,
    /// Index of the token that ends the turn: the special token right behind what the turn says. `None` if
    /// the template writes none, and then the model would not learn to stop.
    pub end_of_turn: Option<usize>,
}

/// A conversation as text and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text that the template writes.
    pub text: String,
    /// Its tokens; special tokens are recognised in the text, and nothing is added.
    pub ids: Vec<u32>,
    /// For each token, its bytes in `text`. Tokens of one character have the same range.
    pub offsets: Vec<Range<usize>>,
    /// The turns of the roles asked for, in order.
    pub turns: Vec<Turn>,
    /// Messages of other roles whose text the template does not render: Mistral's template, for one, drops
    /// the system turn unless the user's is the last.
    pub dropped: Vec<usize>,
}

/// Renders conversations for one tokenizer.
#[derive(Debug)]
pub struct Renderer {
    pub(super) encoder: Library,
    pub(super) bos: Option<(u32, String)>,
    pub(super) eos: Option<(u32, String)>,
    /// What the tokenizer puts before a text that is not a conversation.
    pub(super) prefix: Vec<u32>,
    template: Option<ChatTemplate>,
    variables: BTreeMap<String, Jinja>,
    special: Vec<String>,
    probe: OnceLock<Probe>,
}

impl Renderer {
    /// A renderer for a tokenizer and a chat template. Without a template only records without turns can be
    /// rendered.
    ///
    /// # Errors
    /// The tokenizers library does not load the vocabulary.
    pub fn new(tokenizer: &Tokenizer, template: impl Into<Option<ChatTemplate>>) -> Result<Renderer> {
        let encoder = tokenizer.marked()?;
        let roles = roles(tokenizer);
        let find =
            |key: &str| roles.iter().find(|(role, ..)| *role == key).map(|(_, id, text)| (*id, text.clone()));
        let ids = 0..tokenizer.vocab_size() as u32;
        let mut special: Vec<String> =
            ids.filter(|&id| tokenizer.is_special(id)).map(|id| tokenizer.decode(&[id], false)).collect();
        special.extend(find("eos_token").map(|(_, text)| text));
        // The longest first: one may begin with another.
        special.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        special.dedup();
        special.retain(|token| !token.is_empty());
        let variables = roles.iter().map(|(role, _, text)| ((*role).to_owned(), Jinja::from(text))).collect();
        Ok(Renderer {
            bos: find("bos_token"),
            eos: find("eos_token"),
            encoder,
            prefix: tokenizer.prefix_ids().to_vec(),
            template: template.into(),
            variables,
            special,
            probe: OnceLock::new(),
        })
    }

    /// The template, if there is one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// Renders a conversation to tokens, and finds the turns in it.
    ///
    /// Ids are those of transformers' `apply_chat_template(tokenize=True)`.
    ///
    /// # Errors
    /// The template refuses the conversation or exceeds a limit; a turn cannot be found; the template drops
    /// an assistant's text, a tool call or a declared tool; BOS is doubled.
    pub fn render(&self, conversation: &Conversation, options: &RenderOptions) -> Result<Rendered> {
        let template = self.template.as_ref().ok_or(ChatError::NoTemplate)?;
        let messages: Vec<Jinja> = conversation.messages.iter().map(template_message).collect();
        let tools = self.tools(&conversation.tools);
        let mut variables = self.variables.clone();
        for (key, value) in options.variables.iter().chain(&conversation.variables) {
            variables.insert(key.clone(), to_jinja(value));
        }
        let text = template.render(&Input {
            messages: &messages,
            tools: tools.as_ref(),
            add_generation_prompt: options.add_generation_prompt,
            variables: &variables,
        })?;
        let locator = Locator {
            template,
            variables: &variables,
            messages: &messages,
            tools: tools.as_ref(),
            add_generation_prompt: options.add_generation_prompt,
            text: &text,
            special: &self.special,
            probe: self.probe.get_or_init(|| Probe::new(template, &self.variables, &self.special)),
        };
        let mut places = Vec::new();
        for (index, message) in conversation.messages.iter().enumerate() {
            if options.roles.iter().any(|wanted| wanted == role(message)) {
                let place = locator.find(index, message)?;
                if role(message) == "assistant" {
                    let payload = &text[place.payload.clone()];
                    vanish::check_turn(payload, message, index, template.origin())?;
                }
                places.push((index, place));
            }
        }
        for i in 1..places.len() {
            // Where turns are merged, what follows one is the next one's text.
            let next = places[i].1.payload.start;
            let end = &mut places[i - 1].1.end_of_turn;
            *end = end.take().filter(|end| end.end <= next);
        }
        let payloads: Vec<Range<usize>> = places.iter().map(|(_, place)| place.payload.clone()).collect();
        if payloads.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Err(locator.not_found(places[0].0, "two turns overlap").into());
        }
        vanish::check_tools(&text, &payloads, &conversation.tools, template.origin())?;
        let dropped = dropped(&conversation.messages, &text);
        let (ids, offsets) = self.encode(&text)?;
        self.check_bos(&ids)?;
        let turn = |(index, place): (usize, Place)| turn(index, &conversation.messages, place, &offsets);
        let turns = places.into_iter().map(turn).collect();
        Ok(Rendered { text, ids, offsets, turns, dropped })
    }

    /// The tokens of a prompt for the model to continue.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn prompt(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<Vec<u32>> {
        let options = RenderOptions { add_generation_prompt, roles: Vec::new(), ..RenderOptions::default() };
        Ok(self.render(conversation, &options)?.ids)
    }

    fn tools(&self, tools: &[Value]) -> Option<Jinja> {
        (!tools.is_empty()).then(|| tools.iter().map(to_jinja).collect())
    }

    /// Tokens of a text with their places. Special tokens are recognised, and nothing is added.
    pub(super) fn encode(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        self.encoder.encode_with_offsets(text)
    }

    pub(super) fn check_bos(&self, ids: &[u32]) -> Result<()> {
        match (&self.bos, ids) {
            // Where one token is BOS and EOS, two of them can be an empty document.
            (Some((bos, token)), [first, second, ..])
                if first == bos && second == bos && self.eos.as_ref().is_none_or(|(eos, _)| eos != bos) =>
            {
                Err(ChatError::DoubledBos { token: token.clone() }.into())
            }
            _ => Ok(()),
        }
    }
}

/// Role, id and text of the special tokens, as transformers' `special_tokens_map` names them.
fn roles(tokenizer: &Tokenizer) -> Vec<(&'static str, u32, String)> {
    let ids = [
        ("bos_token", tokenizer.bos_id()),
        ("eos_token", tokenizer.eos_id()),
        ("pad_token", tokenizer.pad_id()),
        ("unk_token", tokenizer.unk_id()),
    ];
    let given = ids.into_iter().filter_map(|(role, id)| Some((role, id?)));
    given.map(|(role, id)| (role, id, tokenizer.decode(&[id], false))).collect()
}

/// A message as transformers passes it: without null values, reasoning under its three names.
fn template_message(message: &Message) -> Jinja {
    let given = message.iter().filter(|(_, value)| !value.is_null());
    let mut passed: Message = given.map(|(key, value)| (key.clone(), value.clone())).collect();
    let names = ["reasoning_content", "thinking", "reasoning"];
    if let Some(reasoning) = names.iter().find_map(|name| passed.get(*name)).cloned() {
        if !passed.contains_key("thinking") {
            let rest = std::mem::take(&mut passed);
            passed.insert("thinking".into(), reasoning.clone());
            passed.extend(rest);
        }
        passed.insert("reasoning_content".into(), reasoning);
    }
    to_jinja(&Value::Object(passed))
}

fn dropped(messages: &[Message], rendered: &str) -> Vec<usize> {
    let lost = |message: &Message| role(message) != "assistant" && !vanish::occurs(&text(message), rendered);
    messages.iter().enumerate().filter(|(_, message)| lost(message)).map(|(index, _)| index).collect()
}

fn turn(index: usize, messages: &[Message], place: Place, offsets: &[Range<usize>]) -> Turn {
    let text = place.payload.start..place.end_of_turn.as_ref().map_or(place.payload.end, |end| end.end);
    // Tokens are in order of their begin.
    let first = offsets.partition_point(|token| token.start < text.start);
    let last = offsets.partition_point(|token| token.start < text.end);
    let ends = |at: &usize| {
        let token = &offsets[*at];
        // An added token may take the white space around it along.
        place.end_of_turn.as_ref().is_some_and(|end| token.start <= end.start && end.end <= token.end)
    };
    Turn {
        role: role(&messages[index]).to_owned(),
        message_index: index,
        end_of_turn: (first..last).rev().find(ends),
        text,
        tokens: first..last,
    }
}
