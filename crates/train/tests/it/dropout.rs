//! Every step and every micro-batch draws masks of its own.

use runs::report::NoReport;
use train::{ScheduleKind, Start, StopFlag};

use crate::support::{Bench, phase};

/// Losses of a model that hardly learns, on windows that are all the same.
fn losses(dropout: f64, batch_size: usize) -> Vec<f64> {
    let mut bench = Bench::new();
    bench.config.dropout = dropout as _;
    bench.mixes = vec![Some(2)];
    bench.options.phase = vec![phase("only", 1.0, None)];
    bench.options.schedule = ScheduleKind::Constant;
    (bench.options.learning_rate, bench.options.warmup_steps) = (1e-12, Some(0));
    (bench.options.batch_size, bench.options.micro_batch_size) = (batch_size, 1);
    bench.options.validate_every = 0;
    bench.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    bench.losses()
}

fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn steps_and_micro_batches_draw_masks_of_their_own() {
    let still = losses(0.0, 1);
    assert!(still.iter().all(|&loss| is_same(loss, still[0])), "the windows differ: {still:?}");

    let (one, two) = (losses(0.3, 1), losses(0.3, 2));
    for i in 0..one.len() {
        assert!((0..i).all(|j| !is_same(one[i], one[j])), "two steps have the same masks: {one:?}");
    }
    // Had its second micro-batch the masks of the first, a step would have the loss of the first alone.
    let repeated = one.iter().zip(&two).filter(|(one, two)| is_same(**one, **two)).count();
    assert_eq!(repeated, 0, "{one:?} {two:?}");
}
