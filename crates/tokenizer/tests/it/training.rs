//! Training: sizes as asked, the same bytes every time, and clear refusals.

use std::collections::BTreeMap;

use runs::report::{NoReport, Recorder};
use tokenizer::{ErrorKind, Kind, Normalizer, PreTokenizer, TokenizerOptions, Usage};

use crate::{options, texts, trained};

#[test]
fn vocabularies_have_the_size_asked_for_and_fixed_special_ids() {
    for kind in [Kind::Bpe, Kind::Unigram] {
        for size in [256, 291, 310] {
            let tokenizer = trained(&options(kind, size));
            assert_eq!(tokenizer.vocab_size(), size, "{kind:?}");
            let ids = [tokenizer.pad_id(), tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.unk_id()];
            assert_eq!(ids, [0, 1, 2, 3].map(Some));
            assert_eq!((tokenizer.prefix_ids(), tokenizer.suffix_ids()), (&[1][..], &[][..]));
            assert_eq!(tokenizer.special_id("<|im_end|>"), Some(5));
            assert_eq!(tokenizer.special_id("the"), None);
        }
    }
    assert_eq!(trained(&options(Kind::Byte, 256)).vocab_size(), 4 + 4 + 256);
    let characters: std::collections::BTreeSet<char> = texts().concat().chars().collect();
    assert_eq!(trained(&options(Kind::Char, 256)).vocab_size(), 8 + characters.len());
}

#[test]
fn the_same_text_gives_the_same_bytes_whatever_the_number_of_threads() {
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char, Kind::Byte] {
        let hashes = [1, 2, 5, 1, 2].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| trained(&options(kind, 300)).hash().to_owned())
        });
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{kind:?}: {hashes:?}");
    }
}

/// Where no token can be built in two ways, the merges are those of the library's trainer.
#[test]
fn merges_are_those_of_the_library() {
    use tokenizers::Trainer as _;
    use tokenizers::models::bpe::{BPE, BpeTrainer};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    let mut options = options(Kind::Bpe, 400);
    options.pre_tokenizer = PreTokenizer::Gpt2;
    let ours = trained(&options);

    let special =
        ["<PAD>", "<BOS>", "<EOS>", "<UNK>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"];
    let mut trainer = BpeTrainer::builder()
        .vocab_size(400)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(special.iter().map(|s| tokenizers::AddedToken::from(*s, true)).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let pre_tokenizer = ByteLevel::new(false, true, true);
    trainer
        .feed(texts().iter(), |text| {
            use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};
            let mut pieces = PreTokenizedString::from(text);
            pre_tokenizer.pre_tokenize(&mut pieces)?;
            let pieces = pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
            Ok(pieces.into_iter().map(|piece| piece.0.to_owned()).collect())
        })
        .unwrap();
    let mut model = BPE::default();
    trainer.train(&mut model).unwrap();

    let theirs: BTreeMap<String, u32> = tokenizers::Model::get_vocab(&model).into_iter().collect();
    let ours: serde_json::Value = serde_json::from_slice(ours.tokenizer_file()).unwrap();
    let ours: BTreeMap<String, u32> = serde_json::from_value(ours["model"]["vocab"].clone()).unwrap();
    assert_eq!(ours, theirs);
}

#[test]
fn more_than_the_text_supports_is_refused_with_the_number_reached() {
    for kind in [Kind::Bpe, Kind::Unigram] {
        let error = tokenizer::train(texts(), &options(kind, 60_000), &Normalizer::text(), &mut NoReport)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let message = error.to_string();
        let reached: usize =
            message.split("a vocabulary of ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(message.contains("vocab_size is 60000") && message.contains("vocab_size ="), "{message}");
        if kind == Kind::Bpe {
            assert_eq!(trained(&options(kind, reached)).vocab_size(), reached, "the number named works");
        }
    }
}

#[test]
fn no_text_and_bad_options_are_refused() {
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char] {
        let error =
            tokenizer::train([""; 0], &options(kind, 300), &Normalizer::text(), &mut NoReport).unwrap_err();
        assert!(error.to_string().contains("there is no text"), "{error}");
    }
    let error =
        tokenizer::train(texts(), &options(Kind::Bpe, 3), &Normalizer::text(), &mut NoReport).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn too_many_characters_fall_back_to_unknown_with_a_warning() {
    let many: String = ('\u{4e00}'..'\u{4f00}').collect();
    let mut events = Recorder::default();
    let tokenizer = tokenizer::train(
        [format!("{many}aaa"), "ab".into()],
        &options(Kind::Char, 256),
        &Normalizer::text(),
        &mut events,
    )
    .unwrap();
    assert_eq!(tokenizer.vocab_size(), 256);
    assert!(events.warnings()[0].contains("258 distinct characters"), "{:?}", events.warnings());
    assert_eq!(tokenizer.decode(&tokenizer.encode("a").unwrap(), true), "a");
    assert_eq!(tokenizer.encode("z").unwrap(), [tokenizer.unk_id().unwrap()]);
}

#[test]
fn usage_counts_languages_and_unused_ids() {
    let tokenizer = trained(&options(Kind::Byte, 256));
    let mut usage = Usage::new(&tokenizer);
    for (text, language) in [("abc", Some("en")), ("é", Some("fr")), ("xy", None)] {
        usage.add(&tokenizer.encode(text).unwrap(), text, language);
    }
    let report = usage.report();
    assert_eq!((report.total.bytes, report.total.tokens, report.total.documents), (7, 7, 3));
    assert_eq!(report.languages.keys().collect::<Vec<_>>(), ["en", "fr", "und"]);
    assert_eq!(report.languages["fr"].bytes_per_token, 1.0);
    assert_eq!(report.unused_ids.len(), 256 - 7, "the special tokens are not counted as unused");
}

#[test]
fn the_default_options_are_as_documented() {
    let options = TokenizerOptions::default();
    assert_eq!((options.vocab_size, options.min_frequency, options.pre_tokenizer.name()), (4096, 2, "qwen2"));
}
