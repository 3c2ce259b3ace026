//! Names of pre-tokenizers in GGUF (`tokenizer.ggml.pre`), and the pre-tokenizer of the tokenizer.json that
//! each stands for. Names, and which of them ignore merges and add BOS, are llama.cpp's.

use serde_json::{Value, json};

use crate::{PreTokenizer, split};

/// Mistral's Tekken.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// OpenAI's o200k.
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// DeepSeek-V3 splits digits and Chinese before the rest.
const DEEPSEEK_V3: [&str; 3] = [
    r"\p{N}{1,3}",
    "[一-龥\u{3040}-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];

/// How text is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pre {
    /// A pre-tokenizer that this program trains with, under a name of another model.
    Own {
        splitter: PreTokenizer,
        ignores_merges: bool,
        composes: bool,
    },
    Tekken,
    Gpt4o,
    Qwen35,
    DeepseekV3,
}

impl Pre {
    /// All names of [`Pre::of`].
    pub const NAMES: [&str; 45] = [
        "gpt-2",
        "phi-2",
        "olmo",
        "jais",
        "mpt",
        "trillion",
        "granite-docling",
        "exaone4",
        "mellum",
        "modern-bert",
        "a.x-4.0",
        "gigachat",
        "smollm",
        "starcoder",
        "refact",
        "command-r",
        "codeshell",
        "exaone",
        "minerva-7b",
        "mellum2",
        "qwen2",
        "deepseek-r1-qwen",
        "kormo",
        "f2llmv2",
        "megrez",
        "stablelm2",
        "hunyuan",
        "solar-open",
        "grok-2",
        "qwen35",
        "llama-bpe",
        "llama3",
        "llama-v3",
        "falcon3",
        "falcon-h1",
        "pixtral",
        "midm-2.0",
        "lfm2",
        "dbrx",
        "smaug-bpe",
        "tekken",
        "gpt-4o",
        "llama4",
        "kanana2",
        "deepseek-v3",
    ];

    /// The pre-tokenizer of a name.
    pub fn of(name: &str) -> Option<Pre> {
        let own = |splitter| Some(Pre::Own { splitter, ignores_merges: false, composes: false });
        match name {
            "gpt-2" | "phi-2" | "olmo" | "jais" | "mpt" | "trillion" | "granite-docling" | "exaone4"
            | "mellum" | "modern-bert" | "a.x-4.0" | "gigachat" => own(PreTokenizer::Gpt2),
            "smollm" | "starcoder" | "refact" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
                own(PreTokenizer::Smollm)
            }
            "command-r" => {
                Some(Pre::Own { splitter: PreTokenizer::Smollm, ignores_merges: false, composes: true })
            }
            "qwen2" => {
                Some(Pre::Own { splitter: PreTokenizer::Qwen2, ignores_merges: false, composes: true })
            }
            "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez" | "stablelm2" | "hunyuan" | "solar-open"
            | "grok-2" => own(PreTokenizer::Qwen2),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
            | "lfm2" => {
                Some(Pre::Own { splitter: PreTokenizer::LlamaBpe, ignores_merges: true, composes: false })
            }
            "dbrx" | "smaug-bpe" => own(PreTokenizer::LlamaBpe),
            "tekken" => Some(Pre::Tekken),
            "gpt-4o" | "llama4" | "kanana2" => Some(Pre::Gpt4o),
            "qwen35" => Some(Pre::Qwen35),
            "deepseek-v3" => Some(Pre::DeepseekV3),
            _ => None,
        }
    }

    /// A name for a `pre_tokenizer` of tokenizer.json; if possible, one whose models compose characters if
    /// `composes`, and do not otherwise.
    pub fn name_of(json: &Value, ignores_merges: bool, composes: bool) -> Option<&'static str> {
        let wanted = canonical(json);
        let known = Pre::NAMES.into_iter().filter_map(|name| Some((name, Pre::of(name)?)));
        let mut fit = known
            .filter(|(_, pre)| pre.ignores_merges() == ignores_merges && canonical(&pre.to_json()) == wanted);
        let first = fit.next()?;
        let best = std::iter::once(first).chain(fit).find(|(_, pre)| pre.composes() == composes);
        Some(best.unwrap_or(first).0)
    }

    /// Whether a piece that is a token is taken as it is.
    pub fn ignores_merges(self) -> bool {
        matches!(self, Pre::Own { ignores_merges: true, .. } | Pre::Tekken)
    }

    /// Whether BOS is added where the file does not say.
    pub fn adds_bos(self) -> bool {
        self.ignores_merges()
    }

    /// Whether the models of this name compose characters (NFC). llama.cpp leaves that to its user.
    pub fn composes(self) -> bool {
        matches!(self, Pre::Own { composes: true, .. } | Pre::Qwen35)
    }

    /// The `pre_tokenizer` of tokenizer.json.
    pub fn to_json(self) -> Value {
        match self {
            Pre::Own { splitter, .. } => split::to_json(splitter),
            Pre::Tekken => splits(&[TEKKEN]),
            Pre::Gpt4o => splits(&[GPT_4O]),
            Pre::Qwen35 => splits(&[QWEN_35]),
            Pre::DeepseekV3 => splits(&DEEPSEEK_V3),
        }
    }
}

/// A pre-tokenizer without what does not change ids, and with defaults written out.
fn canonical(json: &Value) -> Value {
    let mut json = json.clone();
    if let Some([only]) = json["pretokenizers"].as_array().map(Vec::as_slice) {
        return canonical(only);
    }
    if let Some(parts) = json["pretokenizers"].as_array_mut() {
        parts.iter_mut().for_each(|part| *part = canonical(part));
    }
    let defaults = match json["type"].as_str() {
        Some("ByteLevel") => vec![("use_regex", json!(true)), ("add_prefix_space", json!(true))],
        Some("Split") => vec![("invert", json!(false))],
        _ => Vec::new(),
    };
    if let Some(object) = json.as_object_mut() {
        object.remove("trim_offsets");
        for (key, value) in defaults {
            object.entry(key).or_insert(value);
        }
    }
    json
}

fn splits(patterns: &[&str]) -> Value {
    let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let parts: Vec<Value> = patterns.iter().map(split).chain([bytes]).collect();
    json!({"type": "Sequence", "pretokenizers": parts})
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::steps::Splitting;

    #[test]
    fn every_name_has_a_pre_tokenizer_that_can_be_read() {
        for name in Pre::NAMES {
            let pre = Pre::of(name).unwrap();
            Splitting::read(&pre.to_json(), Path::new("tokenizer.json")).unwrap();
        }
        assert_eq!(Pre::of("falcon"), None);
        for own in PreTokenizer::ALL {
            assert_eq!(split::from_json(&Pre::of(own.name()).unwrap().to_json()), Some(own));
        }
    }

    #[test]
    fn a_pre_tokenizer_gets_a_name_that_stands_for_it() {
        for name in Pre::NAMES {
            let pre = Pre::of(name).unwrap();
            let found = Pre::name_of(&pre.to_json(), pre.ignores_merges(), pre.composes()).unwrap();
            assert_eq!(Pre::of(found), Some(pre));
        }
        let qwen2 = |ignores_merges, composes| {
            let mut json = split::to_json(PreTokenizer::Qwen2);
            json["pretokenizers"][1]["trim_offsets"] = false.into();
            Pre::name_of(&json, ignores_merges, composes)
        };
        assert_eq!(qwen2(false, true), Some("qwen2"));
        assert_eq!(qwen2(false, false), Some("deepseek-r1-qwen"));
        assert_eq!(qwen2(true, true), None);
        let gpt2 = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
        assert_eq!(Pre::name_of(&gpt2, false, true), Some("gpt-2"));
        assert_eq!(Pre::name_of(&json!({"type": "ByteLevel"}), false, false), None, "adds a space");
        assert_eq!(Pre::name_of(&Value::Null, false, false), None);
    }
}
