//! Conversations of a weather assistant with personas: training data for tool calls and a voice.
//!
//! One JSON object a line: `messages` and `tools` in OpenAI's chat form, with `arguments` as objects, and
//! `persona` and `kind` for evaluation. The arguments of calls are a function of the conversation
//! ([`rules`]), so that a small model can learn them exactly; answers state the numbers of the tools'
//! results. A tenth of the places occurs in the validation part only, in about half of its questions.
//!
//! Everything is invented: phrases are written for this project, quotations are in the public domain, and
//! the weather is drawn at random. Reading order: `conversation`, `rules`, `kinds`, `dialogue`, `voice`.

mod climate;
pub mod conversation;
mod counts;
mod dialogue;
mod kinds;
pub mod places;
pub mod rules;
mod voice;
mod weather;

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

pub use conversation::{Conversation, Kind, Persona};
pub use counts::Split;

use crate::random::Random;
use crate::{Error, Result};

/// Name of the file with conversations for training.
pub const TRAIN_FILE: &str = "final_train.jsonl.zst";
/// Name of the file with conversations for validation.
pub const VALIDATION_FILE: &str = "final_validation.jsonl.zst";
/// Name of the file that describes the other two.
pub const METADATA_FILE: &str = "merge_metadata.json";

/// In the metadata: which program made the files.
pub const GENERATOR: &str = "text2llm data make weather-persona";
/// In the metadata: changes whenever the same options give other bytes.
pub const GENERATOR_VERSION: u32 = 1;

/// Fewer cannot be divided into parts, personas and kinds.
pub const LEAST_CONVERSATIONS: usize = 100;
/// More would take more than a gigabyte of memory.
pub const MOST_CONVERSATIONS: usize = 200_000;

/// How often a conversation that has been written before is written anew.
const ATTEMPTS: u64 = 100;

/// What to generate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Other seeds give other conversations.
    pub seed: u64,
    /// Number of conversations, of both parts together.
    pub conversations: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { seed: 42, conversations: 16_000 }
    }
}

/// The data set.
#[derive(Debug)]
pub struct Generated {
    /// Conversations for training, in random order.
    pub train: Vec<Conversation>,
    /// Conversations for validation, in random order.
    pub validation: Vec<Conversation>,
    /// Options, counts by part, persona and kind, and the hash of each part's JSON lines.
    pub metadata: Value,
}

/// Generates the data set: 10 % validation, and the shares of [`Persona`] and [`Kind::SHARES`] in each part.
/// No two conversations are equal.
///
/// # Errors
/// [`Error::Conversations`], and [`Error::Exhausted`] if too many are asked for.
pub fn generate(options: &Options) -> Result<Generated> {
    if !(LEAST_CONVERSATIONS..=MOST_CONVERSATIONS).contains(&options.conversations) {
        return Err(Error::Conversations {
            given: options.conversations,
            least: LEAST_CONVERSATIONS,
            most: MOST_CONVERSATIONS,
        });
    }
    let mut seen = HashSet::new();
    let cells = counts::cells(options.conversations);
    let mut part = |split: Split| -> Result<Vec<Conversation>> {
        let mut conversations = Vec::new();
        for cell in cells.iter().filter(|cell| cell.split == split) {
            for index in 0..cell.conversations {
                conversations.push(distinct(options.seed, cell, index, &mut seen)?);
            }
        }
        Random::new(options.seed, &[split as u64]).shuffle(&mut conversations);
        Ok(conversations)
    };
    let (train, validation) = (part(Split::Train)?, part(Split::Validation)?);
    let metadata = metadata(options, &train, &validation);
    Ok(Generated { train, validation, metadata })
}

/// A conversation whose messages no other one has.
fn distinct(
    seed: u64,
    cell: &counts::Cell,
    index: usize,
    seen: &mut HashSet<blake3::Hash>,
) -> Result<Conversation> {
    let place = [cell.split as u64, cell.persona as u64, cell.kind as u64, index as u64];
    for attempt in 0..ATTEMPTS {
        let random = Random::new(seed, &[place.as_slice(), &[attempt]].concat());
        let is_validation = cell.split == Split::Validation;
        let conversation = kinds::converse(cell.kind, cell.persona, is_validation, random);
        let messages = serde_json::to_vec(&conversation.messages).expect("invariant: only strings as keys");
        if seen.insert(blake3::hash(&messages)) {
            return Ok(conversation);
        }
    }
    Err(Error::Exhausted { persona: cell.persona.name(), kind: cell.kind.name() })
}

/// The conversations as JSON lines.
pub fn json_lines(conversations: &[Conversation]) -> Vec<u8> {
    let mut out = Vec::new();
    for conversation in conversations {
        serde_json::to_writer(&mut out, conversation).expect("invariant: only strings as keys");
        out.push(b'\n');
    }
    out
}

fn metadata(options: &Options, train: &[Conversation], validation: &[Conversation]) -> Value {
    let all = || train.iter().chain(validation);
    let file = |conversations: &[Conversation]| {
        let lines = json_lines(conversations);
        json!({
            "conversations": conversations.len(),
            "uncompressed_bytes": lines.len(),
            "uncompressed_blake3": blake3::hash(&lines).to_hex().as_str(),
            "personas": persona_counts(conversations.iter()),
            "kinds": kind_counts(conversations.iter()),
        })
    };
    let by_persona = Persona::ALL.iter().map(|persona| {
        let of_persona = all().filter(|conversation| conversation.persona == *persona);
        (persona.name().to_owned(), kind_counts(of_persona))
    });
    let by_persona = Value::Object(by_persona.collect());
    let held_out: Vec<_> =
        places::PLACES.iter().filter(|place| place.is_held_out).map(|place| place.name).collect();
    json!({
        "generator": GENERATOR,
        "generator_version": GENERATOR_VERSION,
        "license": "CC0-1.0",
        "seed": options.seed,
        "conversations": options.conversations,
        "files": { TRAIN_FILE: file(train), VALIDATION_FILE: file(validation) },
        "personas": persona_counts(all()),
        "persona_percent": persona_percent(all(), options.conversations),
        "kinds": kind_counts(all()),
        "kinds_by_persona": by_persona,
        "validation_only_places": held_out,
    })
}

fn persona_counts<'a>(conversations: impl Iterator<Item = &'a Conversation>) -> Value {
    let mut counts = BTreeMap::new();
    conversations.for_each(|conversation| *counts.entry(conversation.persona).or_insert(0_usize) += 1);
    Value::Object(counts.into_iter().map(|(persona, count)| (persona.name().into(), json!(count))).collect())
}

/// Percent with one decimal.
fn persona_percent<'a>(conversations: impl Iterator<Item = &'a Conversation>, all: usize) -> Value {
    let mut counts = persona_counts(conversations);
    if let Value::Object(counts) = &mut counts {
        for count in counts.values_mut() {
            let per_mille = (count.as_u64().unwrap_or(0) * 2000 / all as u64).div_ceil(2);
            *count = json!(per_mille as f64 / 10.0);
        }
    }
    counts
}

fn kind_counts<'a>(conversations: impl Iterator<Item = &'a Conversation>) -> Value {
    let mut counts = BTreeMap::new();
    conversations.for_each(|conversation| *counts.entry(conversation.kind).or_insert(0_usize) += 1);
    Value::Object(counts.into_iter().map(|(kind, count)| (kind.name().into(), json!(count))).collect())
}
