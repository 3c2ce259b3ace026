//! Encoding and decoding: identity, special tokens in text, long texts, streams.

use std::sync::LazyLock;

use proptest::prelude::*;
use tokenizer::{Kind, PreTokenizer, StreamDecoder, Tokenizer};

use crate::{options, texts, trained};

/// Every kind, and byte-pair encoding with every pre-tokenizer.
static ALL: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let mut all = vec![trained(&options(Kind::Unigram, 300)), trained(&options(Kind::Byte, 256))];
    for pre_tokenizer in PreTokenizer::ALL {
        let mut options = options(Kind::Bpe, 420);
        options.pre_tokenizer = pre_tokenizer;
        all.push(trained(&options));
    }
    // Without room for all 256 bytes.
    all.push(trained(&options(Kind::Bpe, 256)));
    all
});

/// Text of random characters, white space and pieces of special tokens.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ \t\r\n]{1,4}",
        "[a-zé]{1,8}",
        "[0-9½]{1,5}",
        Just("<BOS>".to_owned()),
        Just("<|im_end|>".to_owned()),
        Just("'s l'été ".to_owned()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn decoding_gives_the_normalized_text_and_text_never_gives_special_ids(text in text()) {
        for tokenizer in ALL.iter() {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert!(ids.iter().all(|&id| !tokenizer.is_special(id)), "{ids:?}");
            let normal = tokenizer.normalize(&text);
            prop_assert_eq!(&tokenizer.decode(&ids, true), &normal);
            prop_assert_eq!(&tokenizer.decode(&ids, false), &normal);
        }
    }

    #[test]
    fn a_stream_gives_the_same_text_as_the_whole(ids in prop::collection::vec(0u32..420, 0..60), skip: bool) {
        for tokenizer in ALL.iter() {
            let mut stream = StreamDecoder::new(tokenizer, skip);
            let mut streamed: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
            streamed.extend(stream.finish());
            prop_assert_eq!(streamed, tokenizer.decode(&ids, skip));
        }
    }
}

#[test]
fn characters_round_trip_within_the_vocabulary() {
    let tokenizer = trained(&options(Kind::Char, 256));
    let text = texts().concat();
    let ids = tokenizer.encode(&text).unwrap();
    assert_eq!(ids.len(), text.chars().count());
    assert_eq!(tokenizer.decode(&ids, true), text);
    assert_eq!(tokenizer.decode(&[1, ids[0], 3], false), "<BOS>T<UNK>");
}

#[test]
fn a_spelling_that_would_merge_into_a_special_token_stays_text() {
    let mut options = options(Kind::Bpe, 300);
    options.special_tokens.bos = "fox".into();
    options.chat_tokens = vec!["jumps".into()];
    let tokenizer = trained(&options);
    let ids = tokenizer.encode("fox jumps fox").unwrap();
    assert!(ids.iter().all(|&id| !tokenizer.is_special(id)), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids, true), "fox jumps fox");
    assert_eq!(tokenizer.decode(&[1], false), "fox");
}

#[test]
fn streams_hold_back_unfinished_characters() {
    let tokenizer = trained(&options(Kind::Byte, 256));
    let ids = tokenizer.encode("é€").unwrap();
    let mut stream = StreamDecoder::new(&tokenizer, true);
    let pushed: Vec<_> = ids.iter().map(|&id| stream.push(id)).collect();
    assert_eq!(pushed, [None, Some("é".into()), None, None, Some("€".into())]);
    assert_eq!(stream.finish(), None);
    stream.push(ids[0]);
    assert_eq!(stream.finish().as_deref(), Some("\u{fffd}"));
    stream.push(ids[0]);
    assert_eq!(
        stream.push(tokenizer.encode("a").unwrap()[0]).as_deref(),
        Some("\u{fffd}a"),
        "what cannot become whole"
    );
}

#[test]
fn ids_are_those_of_the_library() {
    // 700 KB in lines of all sorts.
    let text: String = (0..9000).map(|i| format!("{}\n{}", &texts()[i % 60], "\n".repeat(i % 3))).collect();
    for tokenizer in ALL.iter() {
        let library: tokenizers::Tokenizer = serde_json::from_slice(tokenizer.tokenizer_file()).unwrap();
        let whole = library.encode_fast(text.as_str(), false).unwrap();
        assert_eq!(tokenizer.encode(&text).unwrap(), whole.get_ids());
    }
}

#[test]
fn pathological_white_space_is_encoded() {
    let text = format!("a{}b", " ".repeat(1_500_000));
    let tokenizer = &ALL[2];
    let ids = tokenizer.encode(&text).unwrap();
    assert_eq!(tokenizer.decode(&ids, true), text);
}

#[test]
fn batches_are_encoded_like_single_texts() {
    let texts: Vec<String> = texts().into_iter().cycle().take(300).collect();
    for tokenizer in ALL.iter() {
        let batch = tokenizer.batches().encode(&texts).unwrap();
        assert_eq!(batch, texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect::<Vec<_>>());
    }
}
