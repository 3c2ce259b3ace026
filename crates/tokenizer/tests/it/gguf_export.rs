//! Tokenizers as GGUF metadata: read back, they give the same ids; what llama.cpp does not do is refused.

use std::path::Path;

use store::fs::RealFs;
use tokenizer::{ErrorKind, GgufExport, GgufTokenizer, Kind, PreTokenizer, Tokenizer, TokenizerOptions};

use crate::{options, trained};

const TEXTS: [&str; 6] = [
    "The quick brown fox's 12,345 jumps; it'll rain",
    "  two  spaces   three\t\ttabs \n\n new lines and trailing   ",
    "Le cœur a ses raisons, l’été « déjà vu » … 3.14159",
    "Привет, мир! 中文字符 日本語 한국어 🙂👩‍👩‍👧‍👦",
    "fn main() { println!(\"{}\", x_1 != y && *p >= 0); }",
    " ",
];

fn exported(tokenizer: &Tokenizer) -> tokenizer::Result<GgufExport> {
    let stop_ids: Vec<u32> = tokenizer.eos_id().into_iter().collect();
    tokenizer.to_gguf(tokenizer.vocab_size() + 3, &stop_ids, None)
}

fn check(tokenizer: &Tokenizer, name: &str) -> GgufTokenizer {
    let gguf = exported(tokenizer).unwrap().metadata;
    let read = Tokenizer::from_gguf(&gguf).unwrap();
    assert_eq!(gguf.tokens.len(), tokenizer.vocab_size() + 3);
    assert_eq!(gguf.token_types[tokenizer.vocab_size()..], [5; 3], "{name}: placeholders");
    for text in TEXTS {
        let text = tokenizer.normalize(text);
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(read.encode(&text).unwrap(), ids, "{name}: {text}");
        assert_eq!(read.decode(&ids, false), tokenizer.decode(&ids, false), "{name}: {text}");
    }
    assert_eq!(read.prefix_ids(), tokenizer.prefix_ids(), "{name}");
    assert_eq!(read.suffix_ids(), tokenizer.suffix_ids(), "{name}");
    assert_eq!(read.bos_id(), tokenizer.bos_id(), "{name}");
    assert_eq!(read.eos_id(), tokenizer.eos_id(), "{name}");
    gguf
}

#[test]
fn tokenizers_of_other_programs_are_read_back_or_refused_by_key() {
    let golden = Path::new("tests/golden/foreign");
    for (name, pre) in [
        ("gpt2_old", "gpt-2"),
        ("llama2", "default"),
        ("llama3", "llama-bpe"),
        ("qwen2", "qwen2"),
        ("smollm", "smollm"),
        ("tekken", "tekken"),
        ("deepseek_v3", "deepseek-v3"),
    ] {
        let gguf = check(&Tokenizer::open(&RealFs, &golden.join(name)).unwrap(), name);
        assert_eq!(gguf.pre.as_deref(), Some(pre), "{name}");
        assert_eq!(gguf.scores.is_empty(), name != "llama2", "{name}");
    }
    for (name, key) in [
        ("anchors", "pre_tokenizer"),
        ("roberta", "pre_tokenizer"),
        ("t5", "model"),
        ("unigram_first", "model"),
        ("words", "model"),
    ] {
        let error = exported(&Tokenizer::open(&RealFs, &golden.join(name)).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
        assert!(error.to_string().contains(&format!("{key} ")), "{name}: {error}");
    }
}

#[test]
fn tokenizers_of_this_program_are_read_back() {
    for (pre_tokenizer, pre) in [
        (PreTokenizer::Gpt2, "gpt-2"),
        (PreTokenizer::Smollm, "command-r"),
        (PreTokenizer::Qwen2, "qwen2"),
        (PreTokenizer::LlamaBpe, "dbrx"),
    ] {
        let tokenizer = trained(&TokenizerOptions { pre_tokenizer, ..options(Kind::Bpe, 300) });
        let gguf = check(&tokenizer, pre);
        assert_eq!(gguf.pre.as_deref(), Some(pre));
        assert_eq!(gguf.token_types[..5], [3, 3, 3, 2, 3], "PAD, BOS, EOS, UNK, a chat token");
        assert_eq!((gguf.bos, gguf.eos, gguf.padding, gguf.unknown), (Some(1), Some(2), Some(0), Some(3)));
        assert_eq!((gguf.add_bos, gguf.add_eos), (Some(true), Some(false)));
    }
    for kind in [Kind::Unigram, Kind::Char] {
        let error = exported(&trained(&options(kind, 300))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

#[test]
fn tokens_that_end_a_text_and_the_template_are_kept() {
    let tokenizer = trained(&options(Kind::Bpe, 300));
    let template = Some("{{ messages }}".to_owned());
    let export = tokenizer.to_gguf(tokenizer.vocab_size(), &[5, 2, 6], template.clone()).unwrap();
    let GgufExport { metadata: gguf, notes, strips_like_phi3 } = export;
    assert!(!strips_like_phi3);
    assert_eq!((gguf.eos, gguf.eot), (Some(2), Some(5)));
    assert_eq!(gguf.chat_template, template);
    assert!(notes.iter().any(|note| note.contains("1 more token")), "{notes:?}");
    let gguf = tokenizer.to_gguf(tokenizer.vocab_size(), &[5], None).unwrap().metadata;
    assert_eq!((gguf.eos, gguf.eot), (Some(5), None));
}

/// llama.cpp goes by the model's name.
#[test]
fn a_vocabulary_like_that_of_phi_3_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new("tests/golden/foreign/llama2");
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(from.join("tokenizer.json")).unwrap()).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let size = vocab.values().filter_map(serde_json::Value::as_u64).max().unwrap() + 1;
    let put = |strips: [bool; 5]| {
        let names = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|user|>"];
        let tokens = names.iter().zip(strips).enumerate().map(|(index, (name, strips))| {
            let id = vocab.get(*name).and_then(serde_json::Value::as_u64);
            let id = id.unwrap_or(size + index as u64 - 3);
            serde_json::json!({"id": id, "content": name, "special": true, "rstrip": strips})
        });
        let tokens: serde_json::Value = tokens.collect();
        let mut json = json.clone();
        json["added_tokens"] = tokens;
        std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
        exported(&Tokenizer::open(&RealFs, folder.path()).unwrap()).unwrap()
    };
    let phi3 = put([false, false, true, false, true]);
    assert!(phi3.strips_like_phi3 && phi3.notes.is_empty(), "{:?}", phi3.notes);
    let other = put([false, false, false, false, true]);
    assert!(!other.strips_like_phi3 && other.notes.len() == 1, "{:?}", other.notes);
}
