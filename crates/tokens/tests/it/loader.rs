//! The loader: each token once an epoch, in an order that cuts do not change.

use compute::Batch;
use compute::rng::Rng;
use proptest::prelude::*;
use tokens::{ErrorKind, Loader, LoaderCursor, LoaderOptions, Split, TokenDataset, windows_per_epoch};

use crate::{open, write};

/// A data set of documents with the given numbers of ids.
fn dataset(lengths: &[usize]) -> TokenDataset {
    let mut next = 0;
    let document = |&length: &usize| {
        (0..length)
            .map(|_| {
                next = (next + 1) % 26;
                next + 10
            })
            .collect()
    };
    let documents: Vec<Vec<u32>> = lengths.iter().map(document).collect();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("tokens");
    write(&folder, &documents, 1_000_000);
    // The files stay open when the folder goes.
    open(&folder, Split::Train).unwrap()
}

fn options(batch_size: usize, sequence_length: usize) -> LoaderOptions {
    LoaderOptions { batch_size, sequence_length, seed: 5, shuffle: true }
}

fn hash(hasher: &mut blake3::Hasher, batch: &Batch) {
    for values in [&batch.tokens, &batch.targets, &batch.document_starts] {
        values.iter().for_each(|value| {
            hasher.update(&value.to_le_bytes());
        });
    }
    batch.weights.iter().for_each(|weight| {
        hasher.update(&weight.to_le_bytes());
    });
}

/// The stream as in-order rows of one token: input, target and weight of each position.
fn stream(dataset: &TokenDataset) -> Vec<(u32, u32, bool)> {
    let rows = dataset.batches(1, dataset.token_count() as usize).map(|batch| batch.unwrap());
    rows.flat_map(|batch| {
        let weights = batch.weights.iter().map(|&weight| weight > 0.0);
        batch
            .tokens
            .iter()
            .copied()
            .zip(batch.targets.iter().copied())
            .zip(weights)
            .map(|((a, b), c)| (a, b, c))
            .collect::<Vec<_>>()
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn an_epoch_serves_each_token_once(
        lengths in prop::collection::vec(0usize..40, 1..12),
        sequence_length in 1usize..48,
        seed: u64,
    ) {
        let dataset = dataset(&lengths);
        prop_assume!(dataset.token_count() >= sequence_length as u64);
        let mut loader = Loader::new(&dataset, LoaderOptions { seed, ..options(1, sequence_length) }).unwrap();
        let windows = windows_per_epoch(dataset.token_count(), sequence_length);
        let mut wanted = stream(&dataset);
        wanted.sort_unstable();
        let mut batch = Batch::default();
        for epoch in 0..3 {
            let mut served = Vec::new();
            for window in 0..windows {
                prop_assert_eq!(loader.cursor(), LoaderCursor { epoch, window });
                loader.next_batch(&mut batch).unwrap();
                check_row(&batch);
                for at in 0..sequence_length {
                    let padding = batch.tokens[at] == 0 && batch.weights[at] == 0.0;
                    if !padding {
                        served.push((batch.tokens[at], batch.targets[at], batch.weights[at] > 0.0));
                    }
                }
            }
            served.sort_unstable();
            prop_assert_eq!(&served, &wanted, "epoch {}", epoch);
        }
    }
}

/// Within a row: documents begin where BOS stands, targets are the next tokens, and borders have no weight.
fn check_row(batch: &Batch) {
    let length = batch.sequence_length;
    for at in 0..length {
        let (token, start) = (batch.tokens[at], batch.document_starts[at] as usize);
        assert!(start <= at);
        if token == 0 {
            assert_eq!((start, batch.weights[at]), (at, 0.0));
            continue;
        }
        assert!(
            start == 0 || batch.tokens[start] == 1,
            "a document that begins within the row begins with BOS"
        );
        assert_eq!(token == 1 && at > 0, start == at && at > 0);
        assert_eq!(batch.weights[at], if token == 2 { 0.0 } else { 1.0 });
        if at + 1 < length && batch.tokens[at + 1] != 0 {
            assert_eq!(batch.targets[at], batch.tokens[at + 1]);
        }
    }
}

#[test]
fn a_thousand_cuts_do_not_change_the_stream() {
    let lengths: Vec<usize> = (0..60).map(|i| (i * 37) % 91).collect();
    let dataset = dataset(&lengths);
    let shape = options(3, 16);
    let windows = windows_per_epoch(dataset.token_count(), 16);
    let batches = 4 * windows as usize;
    let run = |cut: &mut dyn FnMut(usize) -> bool| {
        let mut hasher = blake3::Hasher::new();
        let mut loader = Loader::new(&dataset, shape).unwrap();
        let mut batch = Batch::new(3, 16);
        for number in 0..batches {
            if cut(number) {
                // As a checkpoint keeps it.
                let kept = serde_json::to_string(&loader.cursor()).unwrap();
                loader = Loader::new(&dataset, shape).unwrap();
                loader.seek(&serde_json::from_str(&kept).unwrap()).unwrap();
            }
            loader.next_batch(&mut batch).unwrap();
            hash(&mut hasher, &batch);
        }
        hasher.finalize()
    };
    let whole = run(&mut |_| false);
    let mut rng = Rng::from_parts(1, "cuts", &[]);
    let mut cuts = 0;
    while cuts < 1000 {
        let cut = run(&mut |_| {
            let cut = rng.below(10) == 0;
            cuts += usize::from(cut);
            cut
        });
        assert_eq!(cut, whole);
    }
}

#[test]
fn a_seek_may_fall_within_what_was_a_batch() {
    let dataset = dataset(&[50, 60, 70]);
    let rows = |shape: LoaderOptions, from: LoaderCursor, rows: usize| {
        let mut loader = Loader::new(&dataset, shape).unwrap();
        loader.seek(&from).unwrap();
        let mut batch = Batch::default();
        let mut tokens = Vec::new();
        while tokens.len() < rows * shape.sequence_length {
            loader.next_batch(&mut batch).unwrap();
            tokens.extend_from_slice(&batch.tokens);
        }
        tokens.truncate(rows * shape.sequence_length);
        tokens
    };
    let whole = rows(options(4, 8), LoaderCursor::default(), 40);
    for window in 0..20 {
        let from = LoaderCursor { epoch: 0, window };
        assert_eq!(rows(options(4, 8), from, 20), whole[window as usize * 8..][..160]);
        assert_eq!(
            rows(options(1, 8), from, 20),
            whole[window as usize * 8..][..160],
            "nor does the batch size matter"
        );
    }
}

#[test]
fn epochs_and_seeds_differ_and_order_can_be_kept() {
    let dataset = dataset(&[200, 300]);
    let epoch = |shape: LoaderOptions, epoch: u64| {
        let mut loader = Loader::new(&dataset, shape).unwrap();
        loader.seek(&LoaderCursor { epoch, window: 0 }).unwrap();
        let windows = windows_per_epoch(dataset.token_count(), shape.sequence_length);
        let mut batch = Batch::default();
        (0..windows)
            .flat_map(|_| {
                loader.next_batch(&mut batch).unwrap();
                batch.tokens.clone()
            })
            .collect::<Vec<_>>()
    };
    let shape = options(1, 16);
    assert_ne!(epoch(shape, 0), epoch(shape, 1));
    assert_eq!(epoch(shape, 1), epoch(shape, 1));
    assert_ne!(epoch(shape, 0), epoch(LoaderOptions { seed: 6, ..shape }, 0));
    let kept = LoaderOptions { shuffle: false, ..shape };
    let in_order: Vec<u32> = dataset.batches(1, 16).flat_map(|batch| batch.unwrap().tokens).collect();
    assert_eq!(epoch(kept, 0), in_order);
    assert_eq!(epoch(kept, 0), epoch(kept, 3));
}

#[test]
fn too_little_data_and_foreign_cursors_are_refused() {
    let dataset = dataset(&[102]);
    for (shape, wanted) in
        [(options(1, 1000), "fewer than one sequence of 1000"), (options(8, 50), "one batch needs 8")]
    {
        let error = Loader::new(&dataset, shape).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains(wanted), "{error}");
    }
    assert_eq!(windows_per_epoch(dataset.token_count(), 1000), 0);
    let mut loader = Loader::new(&dataset, options(1, 20)).unwrap();
    assert_eq!((loader.tokens_per_epoch(), windows_per_epoch(dataset.token_count(), 20)), (104, 6));
    let error = loader.seek(&LoaderCursor { epoch: 0, window: 6 }).unwrap_err();
    assert!(error.to_string().contains("window 6 of an epoch of 6"), "{error}");
    assert_eq!(loader.epochs_at(&LoaderCursor { epoch: 2, window: 3 }), 2.5);
}

#[test]
fn a_sample_is_spread_evenly_over_all_of_the_data() {
    let dataset = dataset(&[32, 52, 23]);
    let rows = |sequences: u64| -> Vec<Vec<u32>> {
        let batches = dataset.spread_batches(2, 4, sequences).map(|batch| batch.unwrap());
        batches.flat_map(|batch| batch.tokens.chunks(4).map(<[u32]>::to_vec).collect::<Vec<_>>()).collect()
    };
    let all = rows(u64::MAX);
    assert_eq!((dataset.token_count().div_ceil(4), all.len()), (29, 30), "the last row is padded");
    assert_eq!(rows(29), all);
    assert_eq!(rows(3)[..3], [all[0].clone(), all[9].clone(), all[19].clone()]);
    assert_eq!(rows(3).len(), 4, "two batches of two");
}
