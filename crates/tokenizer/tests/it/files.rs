//! The tokenizer folder: it opens as it was saved, and damage is told.

use store::fs::{Fs, RealFs};
use tokenizer::{CONFIG_FILE, ErrorKind, Kind, SPECIAL_TOKENS_FILE, TOKENIZER_FILE, Tokenizer};

use crate::{options, texts, trained};

#[test]
fn a_saved_tokenizer_opens_as_the_same() {
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char, Kind::Byte] {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(kind, 300);
        options.special_tokens.eos = "</s>".into();
        let tokenizer = trained(&options);
        tokenizer.save(&RealFs, folder.path(), Some(512)).unwrap();
        let opened = Tokenizer::open(&RealFs, folder.path()).unwrap();
        assert_eq!(opened.hash(), tokenizer.hash());
        assert_eq!(
            opened.hash(),
            blake3::hash(&RealFs.read(&folder.path().join(TOKENIZER_FILE)).unwrap()).to_hex().as_str()
        );
        assert_eq!(opened.eos_id(), tokenizer.eos_id());
        assert_eq!(opened.pre_tokenizer(), tokenizer.pre_tokenizer());
        for text in texts() {
            assert_eq!(opened.encode(&text).unwrap(), tokenizer.encode(&text).unwrap());
        }

        let config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.path().join(CONFIG_FILE)).unwrap()).unwrap();
        assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
        assert_eq!(config["eos_token"], "</s>");
        assert_eq!(config["model_max_length"], 512);
        assert_eq!(config["added_tokens_decoder"]["2"]["content"], "</s>");

        // Other programs put BOS before a text through the post-processor.
        let library = tokenizers::Tokenizer::from_file(folder.path().join(TOKENIZER_FILE)).unwrap();
        let ids = library.encode("The dog", true).unwrap().get_ids().to_vec();
        assert_eq!(ids[..1], *tokenizer.prefix_ids());
        assert_eq!(ids[1..], tokenizer.encode("The dog").unwrap());
        assert_eq!(library.get_vocab_size(true), tokenizer.vocab_size());
        assert_eq!(library.decode(&ids, true).unwrap(), "The dog");
    }
}

/// What could change an id takes a folder off the fast path; the ids are then the library's.
#[test]
fn a_folder_of_another_form_is_run_by_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = trained(&options(Kind::Bpe, 300));
    tokenizer.save(&RealFs, folder.path(), None).unwrap();
    let path = folder.path().join(TOKENIZER_FILE);
    let good = std::fs::read_to_string(&path).unwrap();
    let is_own = || Tokenizer::open(&RealFs, folder.path()).unwrap().config_file().is_none();
    assert!(is_own());
    for (from, to) in [
        ("\"ignore_merges\": false", "\"ignore_merges\": true"),
        ("\"byte_fallback\": false", "\"byte_fallback\": true"),
        ("\"add_prefix_space\": false", "\"add_prefix_space\": true"),
        (
            "\"truncation\": null",
            "\"truncation\": {\"direction\": \"Right\", \"max_length\": 2, \
          \"strategy\": \"LongestFirst\", \"stride\": 0}",
        ),
        ("\"lstrip\": false", "\"lstrip\": true"),
        ("\"type\": \"TemplateProcessing\"", "\"kind\": 0, \"type\": \"TemplateProcessing\""),
        ("\"vocab\": {", "\"more\": 0, \"vocab\": {"),
    ] {
        let changed = good.replace(from, to);
        assert_ne!(changed, good, "{from}");
        std::fs::write(&path, changed).unwrap();
        assert!(!is_own(), "{from}");
        let library = tokenizers::Tokenizer::from_file(&path).unwrap();
        let ids = Tokenizer::open(&RealFs, folder.path()).unwrap().encode("The été dog 12").unwrap();
        if !from.contains("truncation") {
            assert_eq!(ids, library.encode("The été dog 12", false).unwrap().get_ids(), "{from}");
        } else {
            assert_eq!(ids, tokenizer.encode("The été dog 12").unwrap(), "texts are not cut off");
        }
    }
}

#[test]
fn damage_is_told_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    trained(&options(Kind::Bpe, 300)).save(&RealFs, folder.path(), None).unwrap();
    let check = |file: &str, change: &dyn Fn(String) -> String, wanted: &str| {
        let path = folder.path().join(file);
        let good = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(good.clone())).unwrap();
        let error = Tokenizer::open(&RealFs, folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let message = error.to_string();
        assert!(message.contains(file) && message.contains(wanted), "{message}");
        std::fs::write(&path, good).unwrap();
    };
    check(TOKENIZER_FILE, &|text| text[..1000].to_owned(), "is damaged");
    check(TOKENIZER_FILE, &|text| text.replace("\"BPE\"", "\"WordPiece\""), "model: invalid type");
    check(TOKENIZER_FILE, &|text| text.replace("\"!\": 8", "\"!\": 99999999"), "out of range");
    check(TOKENIZER_FILE, &|text| text.replace("\"!\": 8", "\"!\": 9"), "another token");
    check(TOKENIZER_FILE, &|text| text.replace("\"<EOS>\": 2", "\"<EOT>\": 2"), "`<EOS>` has id 2");
    check(CONFIG_FILE, &|text| text.replace("\"<PAD>\"", "\"<GAP>\""), "`<GAP>` has id 0");
    check(
        CONFIG_FILE,
        &|text| text.replace("pad_token\": \"<PAD>", "pad_token\": \"<GAP>"),
        "pad_token is `<GAP>`",
    );
    check(SPECIAL_TOKENS_FILE, &|_| "7".to_owned(), "not a JSON object");

    std::fs::remove_file(folder.path().join(TOKENIZER_FILE)).unwrap();
    assert_eq!(Tokenizer::open(&RealFs, folder.path()).unwrap_err().kind(), ErrorKind::NotFound);
}
