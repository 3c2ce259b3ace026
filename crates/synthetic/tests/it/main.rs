//! Tests of the generated data sets.

mod data;
mod files;
mod rules;

use std::sync::LazyLock;

use serde_json::Value;
use synthetic::weather_persona::{self, Conversation, Generated, Options, json_lines};

/// The data set that the repository contains.
static DEFAULT: LazyLock<Generated> =
    LazyLock::new(|| weather_persona::generate(&Options::default()).expect("the default options"));

/// All lines of a part, as they are written.
fn lines(conversations: &[Conversation]) -> Vec<Value> {
    let bytes = json_lines(conversations);
    let text = std::str::from_utf8(&bytes).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

static TRAIN: LazyLock<Vec<Value>> = LazyLock::new(|| lines(&DEFAULT.train));
static VALIDATION: LazyLock<Vec<Value>> = LazyLock::new(|| lines(&DEFAULT.validation));

fn all() -> impl Iterator<Item = &'static Value> {
    TRAIN.iter().chain(VALIDATION.iter())
}

fn messages(conversation: &Value) -> &[Value] {
    conversation["messages"].as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// The calls of a message, with their arguments.
fn calls(message: &Value) -> &[Value] {
    message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default()
}
