//! The tokens stage: what it makes, and when it is made again.

use corpus::{CorpusOptions, ErrorKind};
use runs::report::NoReport;
use store::fs::RealFs;
use tokenizer::{Normalizer, Tokenizer};
use tokens::{Split, TokenDataset};

use crate::{Project, byte_tokenizer, options, snapshot, undivided};

fn tokenized(project: &Project, options: &CorpusOptions, tokenizer: &Tokenizer) -> corpus::TokenSummary {
    project.prepare(options).unwrap();
    let (documents, tokens) = (project.documents_folder(), project.tokens_folder());
    corpus::tokenize(&RealFs, &documents, tokenizer, &tokens, &mut NoReport).unwrap()
}

fn open(project: &Project, split: Split, tokenizer: &Tokenizer) -> tokens::Result<TokenDataset> {
    TokenDataset::open(&RealFs, &project.tokens_folder(), split, tokenizer.hash())
}

#[test]
fn documents_lie_end_to_end_between_bos_and_eos() {
    let project = Project::new(&[("a.txt", b"ab"), ("b.txt", "é".as_bytes())]);
    let tokenizer = byte_tokenizer();
    let summary = tokenized(&project, &undivided(&["*.txt"]), &tokenizer);
    assert_eq!((summary.train.documents, summary.train.tokens, summary.train.shards), (2, 8, 1));
    assert_eq!(summary.validation, tokens::TokenCounts::default());
    assert_eq!((summary.usage.total.bytes, summary.usage.total.tokens, summary.bytes_per_id), (4, 4, 2));
    let ids = std::fs::read(project.tokens_folder().join("train-00000.bin")).unwrap();
    let ids: Vec<u32> = ids.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]).into()).collect();
    let (ab, e) = (tokenizer.encode("ab").unwrap(), tokenizer.encode("é").unwrap());
    assert_eq!(ids, [1, ab[0], ab[1], 2, 1, e[0], e[1], 2]);
    let ends = std::fs::read(project.tokens_folder().join("train-00000.idx")).unwrap();
    assert_eq!(ends, [4u64.to_le_bytes(), 8u64.to_le_bytes()].concat());

    let dataset = open(&project, Split::Train, &tokenizer).unwrap();
    assert_eq!((dataset.token_count(), dataset.document_count(), dataset.trained_token_count()), (8, 2, 6));
    assert_eq!(dataset.vocab_size(), tokenizer.vocab_size());
    let empty = open(&project, Split::Validation, &tokenizer).unwrap();
    assert_eq!((empty.token_count(), empty.batches(2, 4).count()), (0, 0));
}

/// Who reads shards need not hold the project's lock: what another process is making stays.
#[test]
fn opening_shards_changes_nothing_beside_them() {
    let project = Project::new(&[("a.txt", b"ab"), ("b.txt", b"cd")]);
    let tokenizer = byte_tokenizer();
    tokenized(&project, &options(&["*.txt"]), &tokenizer);
    project.write("data/.tokens.partial/train-00000.bin", b"half");
    let before = snapshot(&project.path("data"));
    open(&project, Split::Train, &tokenizer).unwrap();
    assert!(snapshot(&project.path("data")) == before);
    // Making them again begins anew.
    project.write("a.txt", b"xy");
    tokenized(&project, &options(&["*.txt"]), &tokenizer);
    assert!(!project.path("data/.tokens.partial").exists());
}

#[test]
fn the_stage_is_redone_when_documents_or_tokenizer_change() {
    let project = Project::new(&[("a.txt", b"ab"), ("b.txt", b"cd")]);
    let tokenizer = byte_tokenizer();
    assert!(!tokenized(&project, &options(&["*.txt"]), &tokenizer).reused);
    let bytes = snapshot(&project.tokens_folder());
    assert!(tokenized(&project, &options(&["*.txt"]), &tokenizer).reused);
    project.write("a.txt", b"xy");
    assert!(!tokenized(&project, &options(&["*.txt"]), &tokenizer).reused);
    assert_ne!(snapshot(&project.tokens_folder()), bytes);

    let mut other = tokenizer::TokenizerOptions { kind: tokenizer::Kind::Byte, ..Default::default() };
    other.special_tokens.eos = "<END>".into();
    let other = tokenizer::train([""; 0], &other, &Normalizer::text(), &mut NoReport).unwrap();
    assert!(!tokenized(&project, &options(&["*.txt"]), &other).reused);
}

#[test]
fn damaged_documents_are_not_tokenized() {
    let project = Project::new(&[("a.txt", b"ab"), ("b.txt", b"cd")]);
    project.prepare(&options(&["*.txt"])).unwrap();
    let path = project.documents_folder().join("train.jsonl.zst");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let run = || {
        let (documents, tokens) = (project.documents_folder(), project.tokens_folder());
        corpus::tokenize(&RealFs, &documents, &byte_tokenizer(), &tokens, &mut NoReport)
    };
    let error = run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error.to_string().contains("train.jsonl.zst") && error.to_string().contains("damaged"),
        "{error}"
    );
    std::fs::remove_dir_all(project.documents_folder()).unwrap();
    assert_eq!(run().unwrap_err().kind(), ErrorKind::Corrupt);
}
