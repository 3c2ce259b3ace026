//! The plateau of a warm-up-stable-decay schedule: its last checkpoint, and early stopping that begins the
//! decay.

use runs::report::{Event, NoReport, Recorder};
use train::{Ending, ScheduleKind, Start, StopFlag, Which};

use crate::support::Bench;

/// A plateau up to step 54 of 60, which validation does not improve on: the learning rate is too small to
/// move a weight.
fn stagnating() -> Bench {
    let mut bench = Bench::new();
    bench.options.schedule = ScheduleKind::Wsd;
    bench.options.steps = Some(60);
    bench.options.decay_fraction = 0.1;
    bench.options.learning_rate = 1e-12;
    bench.options.early_stopping = 2;
    bench.options.checkpoint_every = 5;
    bench
}

#[test]
fn the_last_checkpoint_of_a_plateau_is_saved_and_kept() {
    let mut bench = stagnating();
    bench.options.early_stopping = 0;
    (bench.options.keep_last, bench.options.checkpoint_every) = (1, 1);
    let outcome = bench.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    assert_eq!((outcome.ending, outcome.step), (Ending::Completed, 60));
    let kept = bench.checkpoints().steps().unwrap();
    assert!(kept.contains(&54) && kept.contains(&60), "{kept:?}");
}

#[test]
fn early_stopping_begins_the_decay_and_a_stop_anywhere_changes_nothing() {
    let whole = stagnating();
    let mut recorder = Recorder::default();
    let outcome = whole.train(Start::Fresh, &StopFlag::new(), &mut recorder).unwrap();
    // The first validation, of step 6, is the best; the next two are no better: at an epoch's end, and of
    // step 12.
    assert_eq!((outcome.ending, outcome.step, outcome.total_steps), (Ending::Completed, 18, 18));
    let rates: Vec<f64> = recorder
        .events
        .iter()
        .filter_map(|event| if let Event::Step(step) = event { Some(step.learning_rate) } else { None })
        .collect();
    assert_eq!(rates[11], 1e-12);
    assert!(rates[11..].windows(2).all(|pair| pair[1] < pair[0]), "{rates:?}");
    assert!((rates[17] / 1e-13 - 1.0).abs() < 1e-9, "to the minimum: {rates:?}");
    let kept = whole.checkpoints().steps().unwrap();
    assert!(kept.contains(&12), "the end of the plateau: {kept:?}");

    for look in [10, 50, 54, 58, 62, 66, 70] {
        let bench = stagnating();
        let stopped = bench.train(Start::Fresh, &StopFlag::at_look(look), &mut NoReport).unwrap();
        assert_eq!(stopped.ending, Ending::Stopped, "at look {look}");
        bench.train(Start::Resume(Which::Latest), &StopFlag::new(), &mut NoReport).unwrap();
        assert_eq!(bench.fingerprint(), whole.fingerprint(), "stopped at look {look}, step {}", stopped.step);
        assert_eq!(bench.metrics(), whole.metrics(), "stopped at look {look}");
    }
}

#[test]
fn a_longer_run_forgets_the_early_decay() {
    let mut bench = stagnating();
    bench.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    bench.options.steps = Some(70);
    bench.options.early_stopping = 0;
    let outcome = bench.train(Start::Resume(Which::Step(12)), &StopFlag::new(), &mut NoReport).unwrap();
    assert_eq!((outcome.ending, outcome.step), (Ending::Completed, 70));
}

#[test]
fn without_a_plateau_early_stopping_ends_the_run() {
    let mut bench = stagnating();
    bench.options.schedule = ScheduleKind::Cosine;
    let outcome = bench.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    assert_eq!((outcome.ending, outcome.step, outcome.total_steps), (Ending::Completed, 12, 60));
}
