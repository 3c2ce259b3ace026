//! Long runs of one class of characters: linear time, pieces of bounded length, the library's ids up to that
//! length.

use std::sync::LazyLock;

use runs::report::NoReport;
use testkit::runs::{RUNS, Run, growth};
use tokenizer::{Kind, LONGEST_PIECE_BYTES, Normalizer, PreTokenizer, Tokenizer, TokenizerOptions};

use crate::{options, texts};

/// Doubling a text may take so many times as long.
const MOST_GROWTH: f64 = 2.3;

/// Byte-pair encoding by every pre-tokenizer, and the other kinds, each with tokens that runs are made of.
static ALL: LazyLock<Vec<(&str, Tokenizer)>> = LazyLock::new(|| {
    let mut texts = texts();
    texts.extend(RUNS.map(|run| run.text(2000)));
    let train = |options: TokenizerOptions| {
        tokenizer::train(&texts, &options, &Normalizer::text(), &mut NoReport).unwrap()
    };
    let mut all =
        vec![("unigram", train(options(Kind::Unigram, 300))), ("char", train(options(Kind::Char, 400)))];
    for pre_tokenizer in PreTokenizer::ALL {
        let options = TokenizerOptions { pre_tokenizer, ..options(Kind::Bpe, 700) };
        all.push((pre_tokenizer.name(), train(options)));
    }
    all
});

/// The growth of work that is shared among threads, all of it done on the one that is timed.
fn growth_alone<R>(bytes: usize, run: Run, work: impl FnMut(&String) -> R + Send) -> f64 {
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one_thread.install(|| growth(bytes, MOST_GROWTH, |bytes| run.text(bytes), work))
}

#[test]
fn encoding_takes_linear_time_whatever_the_text_is_made_of() {
    let mut failed = Vec::new();
    for (name, tokenizer) in ALL.iter() {
        for run in RUNS {
            let ratio = growth_alone(64 << 10, run, |text| {
                // What batches remember would make the second time another measurement.
                tokenizer.batches().encode(&[text]).unwrap().len() + tokenizer.encode(text).unwrap().len()
            });
            if ratio > MOST_GROWTH {
                failed.push(format!("{name}: {} grows by {ratio:.2}", run.name));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn training_takes_linear_time_whatever_the_text_is_made_of() {
    let mut failed = Vec::new();
    for pre_tokenizer in PreTokenizer::ALL {
        let mut options = options(Kind::Bpe, 256);
        options.pre_tokenizer = pre_tokenizer;
        // A vocabulary of little more than the bytes: cutting and counting is timed, not learning.
        options.chat_tokens.clear();
        for run in RUNS {
            let ratio = growth_alone(128 << 10, run, |text| {
                // A run that supports no merge is refused once it is counted.
                tokenizer::train([text], &options, &Normalizer::text(), &mut NoReport).is_ok()
            });
            if ratio > MOST_GROWTH {
                failed.push(format!("{}: {} grows by {ratio:.2}", pre_tokenizer.name(), run.name));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Pieces of the greatest length, and of one byte less, get the library's ids.
#[test]
fn ids_are_those_of_the_library_up_to_the_longest_piece() {
    for (name, tokenizer) in ALL.iter() {
        let library: tokenizers::Tokenizer = serde_json::from_slice(tokenizer.tokenizer_file()).unwrap();
        for run in RUNS {
            for bytes in [LONGEST_PIECE_BYTES - 1, LONGEST_PIECE_BYTES] {
                let text = run.text(bytes);
                let theirs = library.encode_fast(text.as_str(), false).unwrap();
                assert_eq!(
                    tokenizer.encode(&text).unwrap(),
                    theirs.get_ids(),
                    "{name}: {bytes} bytes of {}",
                    run.name
                );
                assert_eq!(
                    tokenizer.batches().encode(&[&text]).unwrap()[0],
                    theirs.get_ids(),
                    "{name}: {}",
                    run.name
                );
            }
        }
    }
}

#[test]
fn a_longer_piece_is_cut_between_characters_and_its_parts_are_encoded_alone() {
    for (name, tokenizer) in ALL.iter().filter(|(name, _)| *name != "char") {
        for run in RUNS {
            let text = run.text(3 * LONGEST_PIECE_BYTES + 7);
            assert_eq!(
                tokenizer.decode(&tokenizer.encode(&text).unwrap(), true),
                tokenizer.normalize(&text),
                "{name}: {}",
                run.name
            );
        }
        // Two bytes a character and three: the cut is before the one that would cross the limit.
        for (character, bytes) in
            [("a", LONGEST_PIECE_BYTES), ("é", LONGEST_PIECE_BYTES), ("漢", LONGEST_PIECE_BYTES - 1)]
        {
            assert_eq!(bytes % character.len(), 0);
            let part = character.repeat(bytes / character.len());
            let ids = tokenizer.encode(&part).unwrap();
            assert_eq!(tokenizer.encode(&part.repeat(3)).unwrap(), ids.repeat(3), "{name}: {character}");
        }
    }
}

/// Training counts what encoding cuts: one long piece trains the same vocabulary as its parts do as separate
/// texts.
#[test]
fn a_longer_piece_is_learned_from_in_parts() {
    let run = RUNS[0];
    let text = run.text(8 * LONGEST_PIECE_BYTES);
    let parts: Vec<&str> =
        (0..8).map(|part| &text[part * LONGEST_PIECE_BYTES..][..LONGEST_PIECE_BYTES]).collect();
    for kind in [Kind::Bpe, Kind::Unigram] {
        let options = options(kind, 300);
        let whole = tokenizer::train([&text], &options, &Normalizer::text(), &mut NoReport).unwrap();
        let in_parts = tokenizer::train(parts.iter(), &options, &Normalizer::text(), &mut NoReport).unwrap();
        assert_eq!(whole.hash(), in_parts.hash(), "{kind:?}");
    }
}
