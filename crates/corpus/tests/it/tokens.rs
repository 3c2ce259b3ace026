//! Shards: what they hold, and that damage is seen.

use corpus::{CorpusOptions, Error, ErrorKind, Split, TokenDataset};
use store::fs::RealFs;
use store::report::NoReport;
use tokenizer::Tokenizer;

use crate::{Project, byte_tokenizer, options, snapshot, undivided};

fn tokenized(project: &Project, options: &CorpusOptions, tokenizer: &Tokenizer) -> corpus::TokenSummary {
    project.prepare(options).unwrap();
    let (documents, tokens) = (project.documents_folder(), project.tokens_folder());
    corpus::tokenize(&RealFs, &documents, tokenizer, &tokens, &mut NoReport).unwrap()
}

fn open(project: &Project, split: Split, tokenizer: &Tokenizer) -> corpus::Result<TokenDataset> {
    TokenDataset::open(&RealFs, &project.tokens_folder(), split, tokenizer.hash())
}

#[test]
fn documents_lie_end_to_end_between_bos_and_eos() {
    let project = Project::new(&[("a.txt", b"ab"), ("b.txt", "é".as_bytes())]);
    let tokenizer = byte_tokenizer();
    let summary = tokenized(&project, &undivided(&["*.txt"]), &tokenizer);
    assert_eq!((summary.train.documents, summary.train.tokens, summary.train.shards), (2, 8, 1));
    assert_eq!(summary.validation, corpus::TokenCounts::default());
    assert_eq!((summary.usage.total.bytes, summary.usage.total.tokens, summary.bytes_per_id), (4, 4, 2));
    let ids = std::fs::read(project.tokens_folder().join("train-00000.bin")).unwrap();
    let ids: Vec<u32> = ids.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]).into()).collect();
    let (ab, e) = (tokenizer.encode("ab"), tokenizer.encode("é"));
    assert_eq!(ids, [1, ab[0], ab[1], 2, 1, e[0], e[1], 2]);
    let ends = std::fs::read(project.tokens_folder().join("train-00000.idx")).unwrap();
    assert_eq!(ends, [4u64.to_le_bytes(), 8u64.to_le_bytes()].concat());

    let dataset = open(&project, Split::Train, &tokenizer).unwrap();
    assert_eq!((dataset.token_count(), dataset.document_count(), dataset.trained_token_count()), (8, 2, 6));
    assert_eq!(dataset.vocab_size(), tokenizer.vocab_size());
    let empty = open(&project, Split::Validation, &tokenizer).unwrap();
    assert_eq!((empty.token_count(), empty.batches(2, 4).count()), (0, 0));
}

#[test]
fn batches_serve_everything_once_in_order_with_padding_of_no_weight() {
    let project = Project::new(&[("a.txt", b"abcde"), ("b.txt", b"xyz")]);
    let tokenizer = byte_tokenizer();
    tokenized(&project, &undivided(&["*.txt"]), &tokenizer);
    let dataset = open(&project, Split::Train, &tokenizer).unwrap();
    let batches: Vec<_> = dataset.batches(2, 5).map(|batch| batch.unwrap()).collect();
    // 12 tokens in rows of 5: 5, 5, 2; the second batch has a row of padding alone.
    assert_eq!(batches.len(), 2);
    let [a, b, c, d, e, x, y, z] = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| tokenizer.encode("abcdexyz")[i]);
    assert_eq!(batches[0].tokens, [1, a, b, c, d, e, 2, 1, x, y]);
    assert_eq!(batches[0].targets, [a, b, c, d, e, 2, 1, x, y, z]);
    assert_eq!(batches[0].weights, [1., 1., 1., 1., 1., 1., 0., 1., 1., 1.]);
    assert_eq!(batches[0].document_starts, [0, 0, 0, 0, 0, 0, 0, 2, 2, 2]);
    assert_eq!(batches[1].tokens, [z, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(batches[1].targets[..2], [2, 1]);
    assert_eq!(batches[1].weights, [1., 0., 0., 0., 0., 0., 0., 0., 0., 0.]);
    assert_eq!(batches[1].document_starts, [0, 0, 2, 3, 4, 0, 1, 2, 3, 4]);
    let trained: f64 = batches.iter().map(compute::Batch::weight_sum).sum();
    assert_eq!(trained, dataset.trained_token_count() as f64);
    assert_eq!(dataset.batches(2, 5).map(|batch| batch.unwrap()).collect::<Vec<_>>(), batches);
}

#[test]
fn damage_to_any_file_is_an_error_that_names_it_and_the_remedy() {
    let project = Project::new(&[("a.txt", b"some text"), ("b.txt", b"more text"), ("c.txt", b"still more")]);
    let tokenizer = byte_tokenizer();
    tokenized(&project, &options(&["*.txt"]), &tokenizer);
    let folder = project.tokens_folder();
    for (name, good) in snapshot(&folder) {
        if name == "report.json" || name == "manifest.json" {
            continue;
        }
        let split = if name.starts_with("train") { Split::Train } else { Split::Validation };
        let other = if split == Split::Train { Split::Validation } else { Split::Train };
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let cut = good[..good.len() - 1].to_vec();
        for (bytes, wanted) in [(Some(flipped), "BLAKE3"), (Some(cut), "bytes where"), (None, "is missing")] {
            match bytes {
                Some(bytes) => std::fs::write(folder.join(&name), bytes).unwrap(),
                None => std::fs::remove_file(folder.join(&name)).unwrap(),
            }
            let error = open(&project, split, &tokenizer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let message = error.to_string();
            assert!(
                message.contains(&name) && message.contains(wanted) && message.contains("data prepare"),
                "{message}"
            );
            open(&project, other, &tokenizer).unwrap();
        }
        std::fs::write(folder.join(&name), &good).unwrap();
        open(&project, split, &tokenizer).unwrap();
    }
    std::fs::remove_file(folder.join("manifest.json")).unwrap();
    let error = open(&project, Split::Train, &tokenizer).unwrap_err();
    assert!(error.to_string().contains("no finished token shards"), "{error}");
    // Nothing tells any more that these files are ours: once they are out of the way, it is made anew.
    std::fs::remove_dir_all(&folder).unwrap();
    tokenized(&project, &options(&["*.txt"]), &tokenizer);
    open(&project, Split::Train, &tokenizer).unwrap();
}

#[test]
fn another_tokenizer_s_shards_are_refused() {
    let project = Project::new(&[("a.txt", b"ab"), ("b.txt", b"cd")]);
    tokenized(&project, &options(&["*.txt"]), &byte_tokenizer());
    let error =
        TokenDataset::open(&RealFs, &project.tokens_folder(), Split::Train, "0123456789abcdef").unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }));
    assert!(
        error.to_string().contains("another tokenizer") && error.to_string().contains("0123456789ab"),
        "{error}"
    );
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
    let other = tokenizer::train([""; 0], &other, &mut NoReport).unwrap();
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
    assert!(error.to_string().contains("train.jsonl.zst") && error.to_string().contains("again"), "{error}");
    std::fs::remove_dir_all(project.documents_folder()).unwrap();
    assert_eq!(run().unwrap_err().kind(), ErrorKind::Corrupt);
}
