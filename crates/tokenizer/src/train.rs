//! Trains tokenizers. The same texts in the same order give the same bytes.

use std::collections::BTreeMap;

use runs::report::{Phase, Reporter};

use crate::file::{self, Model};
use crate::split::Splitter;
use crate::vocabulary::Base;
use crate::words::{Bounds, LeftOut, WordCounter, Words};
use crate::{Error, Kind, Normalizer, Result, Tokenizer, TokenizerOptions, byte_level, merges, pieces};

/// Limits of BPE training: all words, and long pieces of up to a quarter of the text's bytes.
const BPE_BOUNDS: Bounds = Bounds { bytes: usize::MAX, long_bytes: (4 << 20, 4) };
/// The library's unigram trainer needs about 300 bytes of memory and 50 µs per byte of distinct pieces.
const UNIGRAM_BOUNDS: Bounds = Bounds { bytes: 2 << 20, long_bytes: (128 << 10, 128) };

/// Trains a tokenizer with this normalizer on `texts`.
///
/// # Errors
/// Invalid options, no text, or a vocabulary larger than the text supports (with the size that was reached).
pub fn train<S: AsRef<str>>(
    texts: impl IntoIterator<Item = S>,
    options: &TokenizerOptions,
    normalizer: &Normalizer,
    reporter: &mut dyn Reporter,
) -> Result<Tokenizer> {
    options.validate()?;
    let model = match options.kind {
        Kind::Byte => byte_model(options),
        Kind::Char => char_model(texts, options, normalizer, reporter)?,
        Kind::Bpe | Kind::Unigram => {
            let mut counter = WordCounter::new(Splitter::new(options.pre_tokenizer));
            for text in texts {
                counter.add(&normalizer.normalize(text.as_ref()));
            }
            let bounds = if options.kind == Kind::Unigram { UNIGRAM_BOUNDS } else { BPE_BOUNDS };
            let Words { counts: words, left_out } = counter.finish(bounds);
            if words.is_empty() {
                return Err(Error::NoText);
            }
            reporter.note(Phase::Tokenizer, &format!("{} distinct words and punctuation marks", words.len()));
            tell_left_out(&words, left_out, reporter);
            let base = Base::new(options, options.vocab_size);
            if options.kind == Kind::Bpe {
                bpe_model(&words, &base, options, reporter)?
            } else {
                Model::Unigram { pieces: pieces::learn(&words, &base, options)? }
            }
        }
    };
    Tokenizer::from_definition(file::Definition::new(options, normalizer, &model))
}

/// Warns about pieces that were left out.
fn tell_left_out(words: &[(Box<str>, u64)], left_out: LeftOut, reporter: &mut dyn Reporter) {
    if left_out.words == 0 {
        return;
    }
    let learned: u64 = words.iter().map(|(_, count)| count).sum();
    let share = left_out.occurrences as f64 / (learned + left_out.occurrences) as f64 * 100.0;
    let message = format!(
        "the text has too many distinct words, or too many pieces of 256 bytes and more without a break, to \
         train a vocabulary on all of them: the {} rarest were left out ({share:.1} % of all occurrences)",
        left_out.words
    );
    reporter.warning(Phase::Tokenizer, &message);
}

fn bpe_model(
    words: &[(Box<str>, u64)],
    base: &Base,
    options: &TokenizerOptions,
    reporter: &mut dyn Reporter,
) -> Result<Model> {
    let forbidden: Vec<Vec<u8>> =
        options.special_spellings().into_iter().filter_map(byte_level::unspell).collect();
    let (size, min_frequency) = (options.vocab_size, options.min_frequency);
    let learned = merges::learn(words, base, size, min_frequency, &forbidden, &mut |reached| {
        reporter.progress(Phase::Tokenizer, reached as u64, size as u64, "tokens");
    });
    let reached = base.len + learned.tokens.len();
    if reached < size {
        return Err(Error::VocabularyTooLarge { asked: size, reached, min_frequency });
    }
    reporter.progress(Phase::Tokenizer, reached as u64, size as u64, "tokens");
    let mut spellings = base.spellings(options);
    spellings.extend(learned.tokens.iter().map(|bytes| byte_level::spell(bytes)));
    Ok(Model::Bpe { spellings, merges: learned.merges })
}

fn byte_model(options: &TokenizerOptions) -> Model {
    let base = Base::new(options, usize::MAX);
    Model::Bpe { spellings: base.spellings(options), merges: Vec::new() }
}

/// The vocabulary is every character of the text, by code point; the rarest are left out if there are too
/// many.
fn char_model<S: AsRef<str>>(
    texts: impl IntoIterator<Item = S>,
    options: &TokenizerOptions,
    normalizer: &Normalizer,
    reporter: &mut dyn Reporter,
) -> Result<Model> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for text in texts {
        for character in normalizer.normalize(text.as_ref()).chars() {
            *counts.entry(character).or_default() += 1;
        }
    }
    if counts.is_empty() {
        return Err(Error::NoText);
    }
    let special = options.special_spellings();
    let room = options.vocab_size.saturating_sub(special.len());
    if counts.len() > room {
        let mut by_count: Vec<(u64, char)> = counts.iter().map(|(&c, &count)| (count, c)).collect();
        by_count.sort_by_key(|&(count, c)| (std::cmp::Reverse(count), c));
        let lost: u64 = by_count[room..].iter().map(|(count, _)| count).sum();
        let message = format!(
            "the text has {} distinct characters, and tokenizer.vocab_size has space for {room}: the {} \
             rarest ({lost} occurrences) are encoded as {}; raise tokenizer.vocab_size to keep them",
            counts.len(),
            counts.len() - room,
            options.special_tokens.unk
        );
        reporter.warning(Phase::Tokenizer, &message);
        for (_, character) in &by_count[room..] {
            counts.remove(character);
        }
    }
    let mut spellings: Vec<String> = special.into_iter().map(str::to_owned).collect();
    spellings.extend(counts.keys().map(char::to_string));
    Ok(Model::Char { spellings })
}
