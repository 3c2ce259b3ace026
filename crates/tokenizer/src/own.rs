//! Recognizes the tokenizers that this program trains. Their form is checked in full: what differs in
//! anything that could change an id is run by the library instead.

use serde_json::Value;

use crate::file::{added_tokens, begin_with, bpe_json, byte_level_decoder, fuse_decoder};
use crate::folder::{Named, ROLES, added_token};
use crate::{Normalizer, PreTokenizer, SpecialTokens, byte_level, split};

/// The parts of a tokenizer of ours.
pub struct Own {
    pub special: SpecialTokens,
    pub normalizer: Normalizer,
    /// `None`: one token per character.
    pub pre_tokenizer: Option<PreTokenizer>,
    /// Spelling of each id.
    pub spellings: Vec<String>,
    /// Number of special tokens, which have the lowest ids.
    pub special_count: usize,
}

impl Own {
    /// The parts of a folder; `None` if it is of another form.
    pub fn of_folder(json: &Value, named: &Named) -> Option<Own> {
        let [bos, eos, pad, unk] = &named.roles;
        let [bos, eos, pad, unk] =
            [bos, eos, pad, unk].map(|name| name.as_ref().map(|name| name.content.clone()));
        let own = Own::of(json, SpecialTokens { bos: bos?, eos: eos?, pad: pad?, unk: unk? })?;
        let special = &own.spellings[..own.special_count];
        let declared = &json["added_tokens"];
        let is_repeated = named.extra.iter().all(|name| special.contains(&name.content))
            && named
                .added
                .iter()
                .all(|(id, token)| added_token(&declared[*id as usize]).as_ref() == Some(token));
        is_repeated.then_some(own)
    }

    /// The parts of a tokenizer.json; `None` if it is of another form.
    pub fn of(json: &Value, special: SpecialTokens) -> Option<Own> {
        let added = json["added_tokens"].as_array()?;
        let contents: Vec<&str> =
            added.iter().map(|token| token["content"].as_str()).collect::<Option<_>>()?;
        let roles = [&special.pad, &special.bos, &special.eos, &special.unk];
        debug_assert_eq!(roles.len(), ROLES.len());
        let is_in_order = contents.len() >= roles.len() && contents.iter().zip(roles).all(|(a, b)| a == b);
        let normalizer = Normalizer::from_json(&json["normalizer"])?;
        let is_plain = is_in_order
            && json["version"] == "1.0"
            && json["truncation"].is_null()
            && json["padding"].is_null()
            && json["added_tokens"] == added_tokens(&contents)
            && json["post_processor"] == begin_with(&special.bos);
        if !is_plain {
            return None;
        }
        let by_character = json["decoder"] == fuse_decoder();
        let pre_tokenizer = match by_character {
            true => json["pre_tokenizer"].is_null().then_some(None)?,
            false => Some(split::from_json(&json["pre_tokenizer"])?),
        };
        if !by_character && json["decoder"] != byte_level_decoder() {
            return None;
        }
        let spellings = spellings(&json["model"], by_character.then_some(special.unk.as_str()))?;
        let (first, rest) = spellings.split_at_checked(contents.len())?;
        let is_spelled = |spelling: &String| match by_character {
            true => spelling.chars().count() == 1,
            false => byte_level::unspell(spelling).is_some(),
        };
        if first != contents || !rest.iter().all(is_spelled) {
            return None;
        }
        let special_count = contents.len();
        Some(Own { special, normalizer, pre_tokenizer, spellings, special_count })
    }
}

/// Spellings by id of a model of our form; `unk`: of one without merges.
fn spellings(model: &Value, unk: Option<&str>) -> Option<Vec<String>> {
    // All keys but the vocabulary and the merges must be ours.
    let model = model.as_object()?;
    let rest = |wanted: &Value| {
        let wanted = wanted.as_object().into_iter().flatten();
        let mut wanted = wanted.filter(|(key, _)| !["vocab", "merges"].contains(&key.as_str())).peekable();
        let known = wanted.clone().count() + usize::from(model.contains_key("merges")) + 1;
        wanted.peek().is_some()
            && known == model.len()
            && wanted.all(|(key, value)| model.get(key) == Some(value))
    };
    match model.get("vocab")? {
        Value::Object(vocab) if rest(&bpe_json(&[], &[], unk)) => {
            let merges = model.get("merges")?.as_array()?;
            if unk.is_some() && !merges.is_empty() {
                return None;
            }
            let mut spellings = vec![None; vocab.len()];
            for (spelling, id) in vocab {
                *spellings.get_mut(usize::try_from(id.as_u64()?).ok()?)? = Some(spelling.clone());
            }
            spellings.into_iter().collect()
        }
        Value::Array(pieces) if unk.is_none() && rest(&crate::file::unigram_json(&[])) => {
            pieces.iter().map(|piece| piece[0].as_str().map(str::to_owned)).collect()
        }
        _ => None,
    }
}
