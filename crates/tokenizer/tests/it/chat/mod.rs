//! Chats: data formats, templates, spans.

mod data;
mod golden;
mod hostile;
mod properties;
mod spans;
mod templates;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use store::fs::RealFs;
use tokenizer::Tokenizer;
use tokenizer::chat::{ChatTemplate, Conversation, RenderOptions, Renderer};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chat")
}

/// A tokenizer with the special tokens of all families, made by `tools/golden_chat.py`.
fn tokenizer() -> Tokenizer {
    Tokenizer::open(&RealFs, &data().join("tokenizer")).unwrap()
}

fn builtin(name: &str) -> Renderer {
    Renderer::new(&tokenizer(), ChatTemplate::builtin(name).unwrap()).unwrap()
}

fn with_source(source: &str) -> Renderer {
    Renderer::new(&tokenizer(), ChatTemplate::from_source(source, "a test").unwrap()).unwrap()
}

/// A conversation as transformers is given it, without checks of the data.
fn conversation(case: &Value) -> Conversation {
    let messages = case["messages"].as_array().unwrap().iter().map(|m| m.as_object().unwrap().clone());
    Conversation {
        messages: messages.collect(),
        tools: case["tools"].as_array().cloned().unwrap_or_default(),
        variables: case["variables"].as_object().cloned().unwrap_or_else(Map::new),
    }
}

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(data().join("conversations.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn case(name: &str) -> Conversation {
    conversation(cases().iter().find(|case| case["name"] == name).unwrap())
}

/// Renders without looking for turns: data that a template drops is not an error then.
fn bare(add_generation_prompt: bool) -> RenderOptions {
    RenderOptions { add_generation_prompt, roles: Vec::new(), ..RenderOptions::default() }
}
