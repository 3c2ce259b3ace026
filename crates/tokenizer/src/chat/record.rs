//! A record of chat data, normalised.

use serde_json::Value;

use super::conversation::{Conversation, Message, message};

/// Text, or messages.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Normalised messages.
    Messages(Vec<Message>),
}

impl Content {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Content::Text(text) => text.is_empty(),
            Content::Messages(messages) => messages.is_empty(),
        }
    }
}

/// A record, normalised.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A conversation.
    Conversation(Conversation),
    /// Text without turns.
    Text(String),
    /// A prompt, which is not trained, and a completion, which is.
    Completion {
        /// The prompt.
        prompt: Content,
        /// Its continuation.
        completion: Content,
        /// Declared tools.
        tools: Vec<Value>,
    },
    /// A prompt with a better and a worse answer.
    Preference {
        /// The prompt.
        prompt: Content,
        /// The better answer.
        chosen: Content,
        /// The worse answer.
        rejected: Content,
        /// Declared tools.
        tools: Vec<Value>,
    },
}

/// A prompt and an answer as one list of messages, and the index of the answer's first.
pub(crate) fn joined(prompt: &Content, answer: &Content) -> (Vec<Message>, usize) {
    let as_messages = |content: &Content, role: &str| match content {
        Content::Text(text) => vec![message(role, text.clone())],
        Content::Messages(messages) => messages.clone(),
    };
    let mut messages = as_messages(prompt, "user");
    let from = messages.len();
    messages.extend(as_messages(answer, "assistant"));
    (messages, from)
}
