//! Where a turn is in the rendered text: found by rendering again, never by a table of markers.
//!
//! **Begin.** What the model writes begins where the prompt ends, and the prompt for a turn is the
//! conversation before it with the generation prompt. If the text begins with that, the place is known. If it
//! does not (templates move tools or a system text to the last turn, or drop earlier reasoning), the message
//! before is replaced by a marker in both: what stands between its end and the end of the prompt is the same.
//! If that fails too (a template that opens a think block in the prompt only, or has no generation prompt),
//! the turn itself is replaced by a marker, and the text before the marker is the header.
//!
//! **End.** With the turn replaced by a marker, what follows the marker is the end of the text, and begins
//! with the token that ends the turn. A template that refuses a plain turn in a tool call's place is given
//! the call with a marker for its name and arguments; the turn then ends with the first token of the kind
//! that ends this template's turns. At last the text up to the turn is rendered alone.
//!
//! An empty think block that the template writes before an answer without reasoning is part of the header.

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::Value as Jinja;
use serde_json::{Value, json};

use super::conversation::{Message, role, text, tool_calls};
use super::error::ChatError;
use super::template::{ChatTemplate, Input, to_jinja};

/// A turn's bytes in the text.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// What the turn says.
    pub payload: Range<usize>,
    /// The special token that ends it.
    pub end_of_turn: Option<Range<usize>>,
}

/// A template's habits, learned from one question and one answer.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// Whether the template's generation prompt is the header of an answer.
    has_generation_prompt: bool,
    /// The special token that ends an answer.
    end_of_turn: Option<String>,
}

impl Probe {
    pub fn new(template: &ChatTemplate, variables: &BTreeMap<String, Jinja>, special: &[String]) -> Probe {
        let mut probe = Probe { has_generation_prompt: true, end_of_turn: None };
        let question = to_jinja(&json!({"role": "user", "content": "Question"}));
        let answer = to_jinja(&json!({"role": "assistant", "content": "\u{e000}\u{e001}"}));
        let render = |messages: &[Jinja], add_generation_prompt| {
            template.render(&Input { messages, tools: None, add_generation_prompt, variables }).ok()
        };
        let answered = render(&[question.clone(), answer], false);
        let Some((head, tail)) = answered.as_deref().and_then(|text| text.split_once("\u{e000}\u{e001}"))
        else {
            return probe;
        };
        probe.end_of_turn = special_at(tail, special).map(|end| tail[end].to_owned());
        let question = [question];
        if let (Some(without), Some(with)) = (render(&question, false), render(&question, true))
            && without == with
        {
            // The header is empty (Mistral), or the template has none for generation.
            probe.has_generation_prompt =
                head.strip_prefix(without.as_str()).is_some_and(|gap| gap.trim().is_empty());
        }
        probe
    }
}

/// Finds turns in one rendered conversation.
pub(crate) struct Locator<'a> {
    pub template: &'a ChatTemplate,
    pub variables: &'a BTreeMap<String, Jinja>,
    /// The messages as the template sees them.
    pub messages: &'a [Jinja],
    pub tools: Option<&'a Jinja>,
    pub add_generation_prompt: bool,
    /// The rendered conversation.
    pub text: &'a str,
    /// Texts of the special tokens, the longest first.
    pub special: &'a [String],
    pub probe: &'a Probe,
}

impl Locator<'_> {
    /// Finds the turn of a message.
    pub fn find(&self, index: usize, message: &Message) -> Result<Place, ChatError> {
        let marker =
            self.marker().ok_or_else(|| self.not_found(index, "no character is left for a marker"))?;
        let plain = self.with_marker(index, &plain_turn(message, &marker), &marker);
        let own = role(message) == "assistant";
        let start = if own { self.start(index, message, &marker, plain.as_ref()) } else { None };
        let start = start.or_else(|| self.start_by_marker(plain.as_ref()));
        let start = start.ok_or_else(|| self.not_found(index, "its begin differs from every prompt"))?;
        let place = self.end_by_marker(start, plain.as_ref());
        let place = place.or_else(|| self.end_by_call(index, start, message, &marker));
        let place = place.or_else(|| self.end_by_prefix(index, start));
        place.ok_or_else(|| self.not_found(index, "its end differs with every marker"))
    }

    pub fn not_found(&self, message: usize, reason: &'static str) -> ChatError {
        let role = self.messages[message].get_attr("role").map(|role| role.to_string()).unwrap_or_default();
        ChatError::TurnNotFound { origin: self.template.origin().to_owned(), message, role, reason }
    }

    /// Two private-use characters that do not occur in the text.
    fn marker(&self) -> Option<String> {
        let unused: String = ('\u{e000}'..='\u{f8ff}').filter(|c| !self.text.contains(*c)).take(2).collect();
        (unused.chars().count() == 2).then_some(unused)
    }

    fn render(&self, messages: &[Jinja], add_generation_prompt: bool) -> Option<String> {
        let (tools, variables) = (self.tools, self.variables);
        self.template.render(&Input { messages, tools, add_generation_prompt, variables }).ok()
    }

    /// The conversation with one message replaced: the text before and after the marker, which occurs once.
    fn with_marker(&self, index: usize, message: &Jinja, marker: &str) -> Option<(String, String)> {
        let mut messages = self.messages.to_vec();
        messages[index] = message.clone();
        let text = self.render(&messages, self.add_generation_prompt)?;
        let (head, tail) = text.split_once(marker)?;
        (!tail.contains(marker)).then(|| (head.to_owned(), tail.to_owned()))
    }

    /// The begin of what the model writes, behind the prompt.
    fn start(
        &self,
        index: usize,
        message: &Message,
        marker: &str,
        plain: Option<&(String, String)>,
    ) -> Option<usize> {
        if index == 0 || !self.probe.has_generation_prompt {
            return None;
        }
        let prompt =
            self.render(&self.messages[..index], true).filter(|prompt| self.text.starts_with(prompt));
        let start = match prompt {
            Some(prompt) => prompt.len(),
            None => self.start_after_previous(index, marker)?,
        };
        let gap = plain.and_then(|(head, _)| head.strip_prefix(&self.text[..start]));
        let rest = &self.text[start..];
        let skipped = match gap {
            Some(gap) if empty_think(gap) == Some(gap.len()) && rest.starts_with(gap) => gap.len(),
            Some(_) => 0,
            None if has_reasoning(message) => 0,
            None => empty_think(rest).unwrap_or(0),
        };
        Some(start + skipped)
    }

    /// The end of the prompt by what follows the message before.
    fn start_after_previous(&self, index: usize, marker: &str) -> Option<usize> {
        let before = index - 1;
        let previous = self.marked(before, marker)?;
        let (_, tail) = self.with_marker(before, &previous, marker)?;
        let end = self.text.strip_suffix(tail.as_str())?.len();
        let mut messages = self.messages[..index].to_vec();
        messages[before] = previous;
        let prompt = self.render(&messages, true)?;
        let (_, header) = prompt.split_once(marker)?;
        self.text[end..].starts_with(header).then_some(end + header.len())
    }

    /// A message with a marker as its content, and everything else kept.
    fn marked(&self, index: usize, marker: &str) -> Option<Jinja> {
        let mut message = serde_json::to_value(self.messages.get(index)?).ok()?;
        *message.get_mut("content")? = marker.into();
        Some(to_jinja(&message))
    }

    /// The begin by the text before the marker in the turn's place.
    fn start_by_marker(&self, plain: Option<&(String, String)>) -> Option<usize> {
        let (head, _) = plain?;
        if self.text.starts_with(head.as_str()) {
            return Some(head.len());
        }
        // With reasoning in the data, the template's empty think block is not in the text.
        let open = head.rfind("<think>")?;
        let is_empty = empty_think(&head[open..]) == Some(head.len() - open);
        (is_empty && self.text.starts_with(&head[..open])).then_some(open)
    }

    /// The end by the text after the marker in the turn's place.
    fn end_by_marker(&self, start: usize, plain: Option<&(String, String)>) -> Option<Place> {
        let (_, tail) = plain?;
        let end = self.text.strip_suffix(tail.as_str())?.len();
        if end < start {
            return None;
        }
        let end_of_turn = special_at(tail, self.special).map(|at| end + at.start..end + at.end);
        Some(Place { payload: start..end, end_of_turn })
    }

    /// The end of a tool call's turn, with a marker as the last call's name and arguments.
    fn end_by_call(&self, index: usize, start: usize, message: &Message, marker: &str) -> Option<Place> {
        if tool_calls(message).is_empty() {
            return None;
        }
        let mut changed = serde_json::to_value(&self.messages[index]).ok()?;
        let function = changed["tool_calls"].as_array_mut()?.last_mut()?.get_mut("function")?;
        function["name"] = marker.into();
        function["arguments"] = json!({marker: marker});
        let mut messages = self.messages.to_vec();
        messages[index] = to_jinja(&changed);
        let other = self.render(&messages, self.add_generation_prompt)?;
        let behind = other.rfind(marker)? + marker.len();
        let shared = shared_suffix(self.text, &other[behind..]);
        let tail_start = self.text.len() - shared;
        if tail_start < start {
            return None;
        }
        // The next turn may end with the usual token, and this one with another (Llama 3.1's `<|eom_id|>`).
        let next = self.marked(index + 1, marker).and_then(|next| self.with_marker(index + 1, &next, marker));
        let next = next.filter(|(head, _)| self.text.starts_with(head.as_str()) && head.len() >= tail_start);
        let tail = &self.text[tail_start..next.map_or(self.text.len(), |(head, _)| head.len())];
        let usual = self.probe.end_of_turn.as_ref();
        let at = usual.and_then(|end| tail.find(end.as_str()).map(|at| at..at + end.len()));
        let at = at.or_else(|| self.first_special(tail))?;
        let end = tail_start + at.start;
        Some(Place { payload: start..end, end_of_turn: Some(end..tail_start + at.end) })
    }

    /// The end by the text of the conversation up to the turn.
    fn end_by_prefix(&self, index: usize, start: usize) -> Option<Place> {
        let whole = self.render(&self.messages[..=index], false)?;
        if !self.text.starts_with(whole.as_str()) || whole.len() < start {
            return None;
        }
        let said = whole[start..].trim_end();
        let ending = self.special.iter().find(|token| said.ends_with(token.as_str()));
        let end = start + said.len();
        let end_of_turn = ending.map(|token| end - token.len()..end);
        let payload = start..end_of_turn.as_ref().map_or(end, |token| token.start);
        Some(Place { payload, end_of_turn })
    }

    fn first_special(&self, text: &str) -> Option<Range<usize>> {
        let found = self.special.iter().filter_map(|token| Some((text.find(token.as_str())?, token.len())));
        let (at, length) = found.min_by_key(|&(at, length)| (at, std::cmp::Reverse(length)))?;
        Some(at..at + length)
    }
}

/// The message with a marker for what it says: an assistant's without calls and reasoning.
fn plain_turn(message: &Message, marker: &str) -> Jinja {
    let mut plain = message.clone();
    if role(message) == "assistant" {
        plain.retain(|key, _| key == "role");
    }
    plain.retain(|_, value| !value.is_null());
    plain.insert("content".into(), marker.into());
    to_jinja(&Value::Object(plain))
}

/// The special token at the begin of a text, behind white space.
fn special_at(text: &str, special: &[String]) -> Option<Range<usize>> {
    let trimmed = text.trim_start();
    let start = text.len() - trimmed.len();
    let token = special.iter().find(|token| trimmed.starts_with(token.as_str()))?;
    Some(start..start + token.len())
}

/// Length of the empty think block that a text begins with, white space included.
fn empty_think(text: &str) -> Option<usize> {
    let inner = text.trim_start().strip_prefix("<think>")?;
    let rest = inner.trim_start().strip_prefix("</think>")?;
    Some(text.len() - rest.trim_start().len())
}

fn has_reasoning(message: &Message) -> bool {
    let filled = |key: &&str| {
        message.get(*key).and_then(Value::as_str).is_some_and(|reasoning| !reasoning.trim().is_empty())
    };
    ["reasoning_content", "thinking", "reasoning"].iter().any(filled) || text(message).contains("</think>")
}

/// Length in bytes of the longest common suffix, in whole characters.
fn shared_suffix(a: &str, b: &str) -> usize {
    let pairs = a.chars().rev().zip(b.chars().rev());
    pairs.take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}
