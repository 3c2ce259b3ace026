//! Tokenizers of other programs: ids and texts are those of `transformers`, which made the golden files with
//! tools/golden_tokenizers.py.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use store::fs::RealFs;
use tokenizer::{GgufTokenizer, StreamDecoder, Tokenizer};

/// What `transformers` gives.
#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    /// Without special tokens.
    ids: Vec<Vec<u32>>,
    /// With what the post-processor adds.
    processed: Vec<Vec<u32>>,
    decoded: Vec<String>,
    /// Ids drawn at random, decoded with and without special tokens.
    drawn: Vec<Vec<u32>>,
    drawn_decoded: Vec<String>,
    drawn_skipped: Vec<String>,
    special: Special,
    special_ids: Vec<u32>,
    size: usize,
}

#[derive(Deserialize, PartialEq, Debug)]
struct Special {
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    unk: Option<u32>,
}

/// gguf.json.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    architecture: Option<String>,
    model: String,
    pre: Option<String>,
    tokens: Vec<String>,
    scores: Vec<f32>,
    token_types: Vec<i32>,
    merges: Vec<String>,
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    padding: Option<u32>,
    add_bos: Option<bool>,
    add_space_prefix: Option<bool>,
}

fn golden() -> PathBuf {
    Path::new("tests/golden/foreign").to_owned()
}

fn open(name: &str) -> Tokenizer {
    Tokenizer::open(&RealFs, &golden().join(name)).unwrap()
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn gguf(folder: &Path) -> Option<GgufTokenizer> {
    let path = folder.join("gguf.json");
    path.exists().then(|| {
        let Metadata { architecture, model, pre, tokens, scores, token_types, merges, .. } = read(&path);
        let Metadata { bos, eos, unknown, padding, add_bos, add_space_prefix, .. } = read(&path);
        GgufTokenizer {
            architecture,
            model,
            pre,
            tokens,
            scores,
            token_types,
            merges,
            bos,
            eos,
            unknown,
            padding,
            add_bos,
            add_space_prefix,
            eot: eos,
            chat_template: Some("{{ messages }}".into()),
            ..GgufTokenizer::default()
        }
    })
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// Compares the tokenizers of all folders, and the GGUF metadata beside them.
fn check_all(root: &Path) -> usize {
    let folders = folders(root);
    for folder in &folders {
        let expected: Expected = read(&folder.join("expected.json"));
        let name = folder.file_name().unwrap().to_str().unwrap();
        let opened = Tokenizer::open(&RealFs, folder).unwrap();
        check(&opened, &expected, name);
        check_saved(&opened, folder);
        if let Some(metadata) = gguf(folder) {
            let built = Tokenizer::from_gguf(&metadata).unwrap();
            check(&built, &expected, &format!("{name}, GGUF"));
            let facts = built.gguf_facts().unwrap();
            assert_eq!(
                (facts.eot_id, facts.chat_template.as_deref()),
                (metadata.eos, Some("{{ messages }}"))
            );
            let saved = tempfile::tempdir().unwrap();
            built.save(&RealFs, saved.path(), None).unwrap();
            check(
                &Tokenizer::open(&RealFs, saved.path()).unwrap(),
                &expected,
                &format!("{name}, GGUF, saved"),
            );
        }
    }
    folders.len()
}

fn check(tokenizer: &Tokenizer, expected: &Expected, name: &str) {
    for ((text, ids), decoded) in expected.texts.iter().zip(&expected.ids).zip(&expected.decoded) {
        assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{name}: {text:?}");
        assert_eq!(tokenizer.decode(ids, false), *decoded, "{name}: {text:?}");
    }
    assert_eq!(tokenizer.batches().encode(&expected.texts).unwrap(), expected.ids, "{name}");
    for (ids, processed) in expected.ids.iter().zip(&expected.processed) {
        assert_eq!([tokenizer.prefix_ids(), ids, tokenizer.suffix_ids()].concat(), *processed, "{name}");
    }
    for ((ids, decoded), skipped) in
        expected.drawn.iter().zip(&expected.drawn_decoded).zip(&expected.drawn_skipped)
    {
        assert_eq!(tokenizer.decode(ids, false), *decoded, "{name}: {ids:?}");
        assert_eq!(tokenizer.decode(ids, true), *skipped, "{name}: {ids:?}");
    }
    let special = Special {
        bos: tokenizer.bos_id(),
        eos: tokenizer.eos_id(),
        pad: tokenizer.pad_id(),
        unk: tokenizer.unk_id(),
    };
    assert_eq!(special, expected.special, "{name}");
    for &id in &expected.special_ids {
        assert!(tokenizer.is_special(id), "{name}: {id}");
        let text = tokenizer.decode(&[id], false);
        assert!(expected.special_ids.contains(&tokenizer.special_id(&text).unwrap()), "{name}: {text}");
    }
    assert_eq!(tokenizer.vocab_size(), expected.size, "{name}");
}

/// Saving writes the files that were read.
fn check_saved(tokenizer: &Tokenizer, folder: &Path) {
    let saved = tempfile::tempdir().unwrap();
    tokenizer.save(&RealFs, saved.path(), Some(7)).unwrap();
    let mut written: Vec<_> = folders(saved.path());
    written.retain(|path| {
        std::fs::read(path).unwrap() != std::fs::read(folder.join(path.file_name().unwrap())).unwrap()
    });
    assert_eq!(written, Vec::<PathBuf>::new());
    let count = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];
    let count = count.iter().filter(|name| folder.join(name).exists()).count();
    assert_eq!(folders(saved.path()).len(), count);
}

#[test]
fn ids_and_texts_are_those_of_transformers() {
    assert_eq!(check_all(&golden()), 17);
}

#[test]
fn the_golden_files_are_what_transformers_gives_today() {
    let Ok(python) = std::env::var("TEXT2LLM_PYTHON") else {
        testkit::skip("TEXT2LLM_PYTHON names no Python that has transformers");
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(python);
    let output = command.arg("../../tools/golden_tokenizers.py").arg(root.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(check_all(root.path()), 16);
}

#[test]
fn a_stream_gives_the_text_of_the_whole() {
    for folder in folders(&golden()) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let (expected, tokenizer): (Expected, _) = (read(&folder.join("expected.json")), open(name));
        for ids in &expected.ids {
            let stream = |mut decoder: StreamDecoder<'_>| {
                let mut text: String = ids.iter().filter_map(|&id| decoder.push(id)).collect();
                text.extend(decoder.finish());
                text
            };
            let whole = tokenizer.decode(ids, true);
            // Spaces before punctuation are removed from whole texts only.
            let is_equal = |text: &str| name == "t5" || text == whole;
            let text = stream(StreamDecoder::new(&tokenizer, true));
            assert!(is_equal(&text), "{name}: {text:?} for {whole:?}");
            let text = stream(StreamDecoder::continuing(&tokenizer, true));
            assert!(is_equal(text.strip_prefix(' ').unwrap_or(&text)) || is_equal(&text), "{name}: {text:?}");
        }
    }
}

#[test]
fn a_continued_text_keeps_its_space() {
    let tokenizer = open("llama2");
    let ids = tokenizer.encode("The fox").unwrap();
    let [mut new, mut continuing] =
        [StreamDecoder::new(&tokenizer, true), StreamDecoder::continuing(&tokenizer, true)];
    let text = |decoder: &mut StreamDecoder<'_>| -> String {
        ids.iter().filter_map(|&id| decoder.push(id)).collect()
    };
    assert_eq!((text(&mut new).as_str(), text(&mut continuing).as_str()), ("The fox", " The fox"));
    let bytes = tokenizer.encode("🙂").unwrap();
    assert_eq!(bytes.len(), 5, "the space and four byte tokens");
    let pushed: Vec<_> = bytes.iter().map(|&id| continuing.push(id)).collect();
    assert_eq!(pushed, [Some(" ".into()), None, None, None, Some("🙂".into())]);
    continuing.push(bytes[1]);
    continuing.push(bytes[2]);
    assert_eq!(continuing.push(ids[0]).as_deref(), Some("\u{fffd}\u{fffd} "), "one for each byte");
}

#[test]
fn byte_level_tokenizers_give_every_text_back() {
    for name in ["llama3", "tekken", "deepseek_v3", "gpt2_old", "smollm", "anchors", "holes"] {
        let expected: Expected = read(&golden().join(name).join("expected.json"));
        let tokenizer = open(name);
        for text in expected.texts.iter().chain(&crate::texts()) {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap(), false), *text, "{name}");
        }
    }
}

#[test]
fn tokens_are_found_by_their_spelling() {
    let tokenizer = open("qwen2");
    let think = tokenizer.token_id("<think>").unwrap();
    assert_eq!(tokenizer.special_id("<think>"), None, "it is not special");
    assert_eq!(tokenizer.encode("<think>").unwrap(), [think], "and is found in text");
    let end = tokenizer.special_id("<|im_end|>").unwrap();
    assert_eq!(tokenizer.eos_id(), Some(end));
    assert_eq!(tokenizer.token_bytes(end), b"<|im_end|>");
    assert!(!tokenizer.encode("<|im_end|>").unwrap().contains(&end));
    assert_eq!(tokenizer.token_id("no such token"), None);

    let holes = open("holes");
    let hole = (0..).find(|&id| holes.token_bytes(id).is_empty()).unwrap();
    assert!((hole as usize) < holes.vocab_size());
    assert_eq!((holes.decode(&[hole], false).as_str(), holes.is_special(hole)), ("", false));
}

/// A real vocabulary. llama.cpp drops NUL, and everything after it.
#[test]
#[ignore = "needs TEXT2LLM_GGUF_TOKENIZER: a folder made by tools/gguf_tokenizer.py"]
fn gguf_ids_are_those_of_llama_cpp() {
    let folder = PathBuf::from(std::env::var("TEXT2LLM_GGUF_TOKENIZER").unwrap());
    let tokenizer = Tokenizer::from_gguf(&gguf(&folder).unwrap()).unwrap();
    let known: Vec<(String, Vec<u32>)> = read(&folder.join("llama.json"));
    for (text, ids) in known.iter().filter(|(text, _)| !text.contains('\0')) {
        assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{text:?}");
        assert_eq!(tokenizer.decode(ids, false), *text);
    }
}
