//! What shards hold, and that damage is seen.

use store::fs::RealFs;
use tokens::{Error, ErrorKind, Split, TokenDataset};

use crate::{open, write};

#[test]
fn batches_serve_everything_once_in_order_with_padding_of_no_weight() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let [a, b, c, d, e, x, y, z] = [10, 11, 12, 13, 14, 20, 21, 22];
    write(&tokens, &[vec![a, b, c, d, e], vec![x, y, z]], 1_000_000);
    let dataset = open(&tokens, Split::Train).unwrap();
    let batches: Vec<_> = dataset.batches(2, 5).map(|batch| batch.unwrap()).collect();
    // 12 tokens in rows of 5: 5, 5, 2; the second batch has a row of padding alone.
    assert_eq!(batches.len(), 2);
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
fn damage_to_any_file_is_an_error_that_names_it_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("tokens");
    write(&folder, &[vec![10, 11, 12], vec![13, 14]], 1_000_000);
    for name in store::manifest::list_files(&RealFs, &folder).unwrap() {
        if name == "manifest.json" {
            continue;
        }
        let good = std::fs::read(folder.join(&name)).unwrap();
        let split = if name.starts_with("train") { Split::Train } else { Split::Validation };
        let other = if split == Split::Train { Split::Validation } else { Split::Train };
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let cut = good[..good.len() - 1].to_vec();
        for (bytes, wanted) in [(Some(flipped), "BLAKE3"), (Some(cut), "bytes, but"), (None, "is missing")] {
            match bytes {
                Some(bytes) => std::fs::write(folder.join(&name), bytes).unwrap(),
                None => std::fs::remove_file(folder.join(&name)).unwrap(),
            }
            let error = open(&folder, split).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let message = error.to_string();
            assert!(message.contains(&name) && message.contains(wanted), "{message}");
            open(&folder, other).unwrap();
        }
        std::fs::write(folder.join(&name), &good).unwrap();
        open(&folder, split).unwrap();
    }
    std::fs::remove_file(folder.join("manifest.json")).unwrap();
    let error = open(&folder, Split::Train).unwrap_err();
    assert!(error.to_string().contains("no finished token shards"), "{error}");
}

#[test]
fn another_tokenizer_s_shards_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("tokens");
    write(&folder, &[vec![10, 11, 12]], 1_000_000);
    let error = TokenDataset::open(&RealFs, &folder, Split::Train, "0123456789abcdef").unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }));
    assert!(
        error.to_string().contains("another tokenizer") && error.to_string().contains("0123456789ab"),
        "{error}"
    );
}
