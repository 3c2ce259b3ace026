//! Examples with masks: served whole, in rows with others.

use std::collections::BTreeMap;
use std::path::Path;

use compute::Batch;
use serde_json::json;
use store::fs::RealFs;
use store::manifest::Manifest;
use store::stage::StagedFolder;
use tokens::{Loader, LoaderOptions, ShardWriter, Split, TOKENS_STAGE, TokenDataset};

use crate::{VOCABULARY, open};

/// Example i has the ids 10·i + 10, 10·i + 11, …; those at odd places are predicted.
fn examples(lengths: &[u32]) -> Vec<(Vec<u32>, Vec<bool>)> {
    let of = |(i, &length): (usize, &u32)| {
        let ids = (0..length).map(|at| 10 * i as u32 + 10 + at).collect();
        (ids, (0..length).map(|at| at % 2 == 1).collect())
    };
    lengths.iter().enumerate().map(of).collect()
}

fn dataset(folder: &Path, lengths: &[u32], shard_tokens: u64) -> TokenDataset {
    let staged = StagedFolder::begin(&RealFs, folder, TOKENS_STAGE).unwrap();
    for split in Split::ALL {
        let writer = ShardWriter::new(&RealFs, staged.path(), split, VOCABULARY, shard_tokens);
        let mut writer = writer.of_examples();
        examples(lengths).iter().for_each(|(ids, mask)| writer.write_example(ids, mask).unwrap());
        writer.finish().unwrap();
    }
    staged.commit(Manifest::new(TOKENS_STAGE, json!({}), BTreeMap::new())).unwrap();
    open(folder, Split::Train).unwrap()
}

#[test]
fn examples_are_whole_and_apart_and_only_masked_ids_are_targets() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder.path().join("tokens"), &[3, 4, 2], 5);
    assert!(data.has_examples());
    assert_eq!((data.document_count(), data.token_count(), data.trained_token_count()), (3, 9, 4));
    assert_eq!((data.sequences(6), data.sequences(9)), (2, 1));
    let batches: Vec<Batch> = data.batches(2, 6).map(|batch| batch.unwrap()).collect();
    assert_eq!(batches.len(), 1);
    let batch = &batches[0];
    // The longest example with the shortest, then the one of three.
    assert_eq!(batch.tokens, [20, 21, 22, 23, 30, 31, 10, 11, 12, 0, 0, 0]);
    assert_eq!(batch.targets[..6], [21, 22, 23, 0, 31, 0]);
    assert_eq!(batch.weights, [1., 0., 1., 0., 1., 0., 1., 0., 0., 0., 0., 0.]);
    assert_eq!(batch.document_starts, [0, 0, 0, 0, 4, 4, 0, 0, 0, 3, 4, 5]);
    assert_eq!(batch.weight_sum(), data.trained_token_count() as f64);
    // The prompt of each ends where the first trained token is.
    let prompts: Vec<Vec<u32>> = (0..4).map(|example| data.prompt(example).unwrap()).collect();
    assert_eq!(prompts, [vec![10], vec![20], vec![30], vec![]]);
}

#[test]
fn an_epoch_serves_each_example_once_in_another_order() {
    let folder = tempfile::tempdir().unwrap();
    let lengths: Vec<u32> = (0..40).map(|i| 2 + i * 7 % 9).collect();
    let data = dataset(&folder.path().join("tokens"), &lengths, 1 << 20);
    let options = LoaderOptions { batch_size: 1, sequence_length: 12, seed: 3, shuffle: true };
    let mut loader = Loader::new(&data, options).unwrap();
    let rows = data.sequences(12);
    let mut epochs = Vec::new();
    for epoch in 0..2 {
        let (mut batch, mut served) = (Batch::default(), Vec::new());
        for _ in 0..rows {
            assert_eq!(loader.cursor().epoch, epoch);
            loader.next_batch(&mut batch).unwrap();
            // Padding is a document of one token, 0.
            served.push(batch.tokens.iter().copied().filter(|&id| id > 0).collect::<Vec<u32>>());
        }
        epochs.push(served);
    }
    assert_ne!(epochs[0], epochs[1]);
    for served in epochs {
        let mut ids = served.concat();
        ids.sort_unstable();
        let mut expected: Vec<u32> = examples(&lengths).into_iter().flat_map(|(ids, _)| ids).collect();
        expected.sort_unstable();
        assert_eq!(ids, expected);
    }
}

#[test]
fn a_damaged_mask_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("tokens");
    dataset(&folder, &[3, 4, 2], 1 << 20);
    let path = folder.join("train-00000.mask");
    std::fs::write(&path, [1; 9]).unwrap();
    let error = open(&folder, Split::Train).unwrap_err().to_string();
    assert!(error.contains("train-00000.mask") && error.contains("BLAKE3"), "{error}");
}
