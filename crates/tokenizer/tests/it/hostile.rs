//! Foreign files: errors name the file and key that are damaged or not supported, and nothing crashes.

use std::path::Path;

use serde_json::{Value, json};
use store::fs::RealFs;
use tokenizer::{ErrorKind, GgufTokenizer, Tokenizer};

const GOLDEN: &str = "tests/golden/foreign";

/// Opens a golden folder after a change of one of its files.
fn changed(name: &str, file: &str, change: impl FnOnce(&mut Value)) -> tokenizer::Result<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(Path::new(GOLDEN).join(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join(file);
    let mut json: Value =
        std::fs::read(&path).map_or(json!({}), |bytes| serde_json::from_slice(&bytes).unwrap());
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
    Tokenizer::open(&RealFs, folder.path())
}

fn check(name: &str, file: &str, change: impl FnOnce(&mut Value), kind: ErrorKind, wanted: &str) {
    let error = changed(name, file, change).unwrap_err();
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    assert!(message.contains(file) && message.contains(wanted), "{message}");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 11] = [
        ("qwen2", |json| json["model"]["dropout"] = json!(0.1), "model.dropout"),
        ("qwen2", |json| json["model"]["end_of_word_suffix"] = json!("</w>"), "model.end_of_word_suffix"),
        ("qwen2", |json| json["model"]["type"] = json!("Transducer"), "model.type is `Transducer`"),
        (
            "qwen2",
            |json| json["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            "WordPiece",
        ),
        ("qwen2", |json| json["normalizer"] = json!({"type": "Rot13"}), "normalizer cannot be read"),
        ("qwen2", |json| json["version"] = json!("2.0"), "version"),
        (
            "qwen2",
            |json| json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("[[:alpha:]]+"),
            "POSIX",
        ),
        ("qwen2", |json| json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("(a"), "`(a`"),
        (
            "llama3",
            |json| {
                json["post_processor"]["processors"][1]["special_tokens"]["<|begin_of_text|>"]["ids"] =
                    json!([9999])
            },
            "post_processor adds an id",
        ),
        ("t5", |json| json["model"]["vocab"][5][0] = json!("a".repeat(5000)), "5000 bytes"),
        ("qwen2", |json| json["model"]["vocab"] = json!(7), "model.vocab"),
    ];
    for (name, change, wanted) in cases {
        check(name, "tokenizer.json", change, ErrorKind::Unsupported, wanted);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.model"), "x").unwrap();
    let error = Tokenizer::open(&RealFs, folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("tokenizer.model"), "{error}");
}

#[test]
fn damage_is_told_by_file_and_key() {
    let config = "tokenizer_config.json";
    let missing = |json: &mut Value| json["eos_token"] = json!("<|nowhere|>");
    check("qwen2", config, missing, ErrorKind::Corrupt, "eos_token is `<|nowhere|>`");
    check("qwen2", config, |json| json["pad_token"] = json!(7), ErrorKind::Corrupt, "pad_token");
    check(
        "qwen2",
        config,
        |json| json["extra_special_tokens"] = json!(7),
        ErrorKind::Corrupt,
        "extra_special_tokens",
    );
    let tokenizer = "tokenizer.json";
    let missing = |json: &mut Value| json["model"]["merges"][0] = json!(["zz", "yy"]);
    check("qwen2", tokenizer, missing, ErrorKind::Corrupt, "model: ");
    check(
        "qwen2",
        tokenizer,
        |json| json["added_tokens"][0]["id"] = json!(9),
        ErrorKind::Corrupt,
        "has id 9",
    );
    check("qwen2", tokenizer, |json| json["added_tokens"] = json!([{}]), ErrorKind::Corrupt, "added_tokens");
}

#[test]
fn files_beyond_the_limits_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("tokenizer.json")).unwrap();
    file.set_len(300 << 20).unwrap();
    let error = Tokenizer::open(&RealFs, folder.path()).unwrap_err();
    assert!(error.to_string().contains("314572800 bytes"), "{error}");
}

#[test]
fn a_text_that_the_tokenizer_fails_on_is_an_error() {
    let catastrophic = |json: &mut Value| {
        json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("(?:a(?=a|b)|a(?=a))*c");
    };
    let tokenizer = changed("llama3", "tokenizer.json", catastrophic).unwrap();
    assert!(tokenizer.encode("abc aab").is_ok());
    let long = "a".repeat(100);
    let error = tokenizer.encode(&long).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(
        error.to_string().contains("100 bytes") && error.to_string().contains("regular expression"),
        "{error}"
    );
    assert!(tokenizer.batches().encode(&["b", &long, "b"]).is_err());
    // The library drops the errors of normalizers.
    let normalizer = json!({"type": "Replace", "pattern": {"Regex": "(?:a(?=a|b)|a(?=a))*c"}, "content": ""});
    let tokenizer = changed("llama3", "tokenizer.json", |json| json["normalizer"] = normalizer).unwrap();
    assert!(tokenizer.encode(&long).is_err());
    assert!(tokenizer.encode("aab").is_ok());

    let unknown = |json: &mut Value| {
        json["model"]["unk_id"] = Value::Null;
        json["model"]["byte_fallback"] = json!(false);
    };
    let tokenizer = changed("unigram_first", "tokenizer.json", unknown).unwrap();
    assert!(tokenizer.encode("日本").unwrap_err().to_string().contains("unk_id"));
}

/// White space is where common patterns backtrack; our own splitting does not.
#[test]
fn long_runs_are_encoded_in_linear_time() {
    for name in ["qwen2", "llama3", "smollm", "gpt2_old", "tekken", "llama2", "gemma", "t5"] {
        let tokenizer = Tokenizer::open(&RealFs, &Path::new(GOLDEN).join(name)).unwrap();
        for run in [" ", "a", "\n", "é", "1"] {
            let text = format!("x{}y", run.repeat(20_000));
            let begun = std::time::Instant::now();
            let ids = tokenizer.encode(&text).unwrap();
            assert!(begun.elapsed().as_secs() < 10, "{name}: {run:?}");
            if name != "t5" {
                assert_eq!(tokenizer.decode(&ids, false), text, "{name}: {run:?}");
            }
        }
    }
}

#[test]
fn damaged_json_never_crashes() {
    for name in ["qwen2", "llama2", "t5", "roberta"] {
        let bytes = std::fs::read(Path::new(GOLDEN).join(name).join("tokenizer.json")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // Places of the head and the tail, where everything but the vocabulary is.
        let places = (0..bytes.len()).filter(|&at| at < 1500 || at + 300 > bytes.len()).step_by(31);
        for at in places {
            for new in [b'0', b'"', b'[', b'}', b'9'] {
                let mut bytes = bytes.clone();
                bytes[at] = new;
                std::fs::write(folder.path().join("tokenizer.json"), &bytes).unwrap();
                if let Ok(tokenizer) = Tokenizer::open(&RealFs, folder.path()) {
                    let _ = tokenizer.encode("The été <s> 12");
                }
            }
        }
    }
}

#[test]
fn gguf_metadata_that_does_not_fit_is_refused_by_key() {
    let tokens = || ["<s>", "a", "b", "ab"].map(String::from).to_vec();
    let good = || GgufTokenizer {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens: tokens(),
        token_types: vec![3, 1, 1, 1],
        merges: vec!["a b".into()],
        bos: Some(0),
        add_bos: Some(true),
        ..GgufTokenizer::default()
    };
    let tokenizer = Tokenizer::from_gguf(&good()).unwrap();
    assert_eq!((tokenizer.prefix_ids(), tokenizer.encode("abb").unwrap()), (&[0][..], vec![3, 2]));
    assert_eq!(tokenizer.pre_tokenizer(), Some(tokenizer::PreTokenizer::Gpt2));
    type Change = fn(&mut GgufTokenizer);
    let cases: [(Change, &str); 11] = [
        (|gguf| gguf.model = "bert".into(), "tokenizer.ggml.model is `bert`"),
        (|gguf| gguf.pre = Some("falcon".into()), "tokenizer.ggml.pre is `falcon`"),
        (|gguf| gguf.pre = None, "tokenizer.ggml.pre is missing"),
        (|gguf| gguf.tokens[2] = "a".into(), "twice"),
        (|gguf| gguf.token_types = vec![1], "tokenizer.ggml.token_type has 1 entries"),
        (|gguf| gguf.bos = Some(9), "tokenizer.ggml.bos_token_id is 9"),
        (|gguf| gguf.eot = Some(9), "tokenizer.ggml.eot_token_id is 9"),
        (|gguf| gguf.bos = None, "tokenizer.ggml.bos_token_id is missing"),
        (|gguf| gguf.merges = vec!["ab".into()], "tokenizer.ggml.merges has no two tokens at 0"),
        (|gguf| gguf.merges = vec!["a c".into()], "tokenizer.ggml.merges has no two tokens at 0"),
        (
            |gguf| {
                gguf.model = "llama".into();
                gguf.merges.clear();
            },
            "tokenizer.ggml.scores is missing",
        ),
    ];
    for (change, wanted) in cases {
        let mut metadata = good();
        change(&mut metadata);
        let error = Tokenizer::from_gguf(&metadata).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
