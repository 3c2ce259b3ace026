//! `generation_config.json`: defaults of `model.generate()`.

use std::path::Path;

use serde_json::{Map, Value, json};
use store::fs::Fs;

use crate::error::{Error, Result};
use crate::fields::Fields;

/// Token ids and sampling defaults; an absent value is left to the reader's own default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Token that opens a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// Padding token.
    pub pad_token_id: Option<u32>,
    /// Sample (true) or take the likeliest token.
    pub do_sample: Option<bool>,
    /// Temperature.
    pub temperature: Option<f64>,
    /// Top-k.
    pub top_k: Option<usize>,
    /// Keep the likeliest up to this probability.
    pub top_p: Option<f64>,
    /// Keep those above this fraction of the likeliest.
    pub min_p: Option<f64>,
    /// Divides the logits of what was said before.
    pub repetition_penalty: Option<f64>,
    /// Maximum number of new tokens.
    pub max_new_tokens: Option<usize>,
}

impl GenerationConfig {
    /// Parses a `generation_config.json`; `path` only names it in errors. Unknown keys are left aside.
    ///
    /// # Errors
    /// `Corrupt`, naming the key or the line.
    pub fn parse(json: &[u8], path: &Path) -> Result<GenerationConfig> {
        let map: Map<String, Value> =
            serde_json::from_slice(json).map_err(|error| Error::corrupt(path, error.to_string()))?;
        let fields = Fields::new(path, "", &map);
        let first_id = |key| fields.token_ids(key).map(|ids| ids.first().copied());
        Ok(GenerationConfig {
            bos_token_id: first_id("bos_token_id")?,
            eos_token_ids: fields.token_ids("eos_token_id")?,
            pad_token_id: first_id("pad_token_id")?,
            do_sample: fields.flag("do_sample")?,
            temperature: fields.number("temperature")?,
            // 0 is how transformers switches it off.
            top_k: fields.number("top_k")?.filter(|&k| k >= 1.0).map(|k| k as usize),
            top_p: fields.number("top_p")?,
            min_p: fields.number("min_p")?,
            repetition_penalty: fields.number("repetition_penalty")?,
            max_new_tokens: fields.size("max_new_tokens")?,
        })
    }

    /// The JSON object; absent values leave no key.
    pub fn to_json(&self) -> Value {
        let eos_token_id = match &self.eos_token_ids[..] {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        };
        let mut value = json!({
            "bos_token_id": self.bos_token_id,
            "do_sample": self.do_sample,
            "eos_token_id": eos_token_id,
            "max_new_tokens": self.max_new_tokens,
            "min_p": self.min_p,
            "pad_token_id": self.pad_token_id,
            "repetition_penalty": self.repetition_penalty,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
        });
        if let Value::Object(map) = &mut value {
            map.retain(|_, value| !value.is_null());
        }
        value
    }

    /// Writes `generation_config.json`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write(&self, fs: &dyn Fs, path: &Path) -> Result<()> {
        Ok(store::atomic::write_json(fs, path, &self.to_json())?)
    }
}
