//! A run that was stopped or killed anywhere and resumed ends in the same bits as one that was not.

use model::Optimizer;
use runs::report::{NoReport, Recorder};
use runs::run::RunStatus;
use store::fs::faulty::Fault;
use train::{Ending, Start, StopFlag, Which};

use crate::support::{Bench, phase};

const LATEST: Start = Start::Resume(Which::Latest);

fn uninterrupted() -> Bench {
    let bench = Bench::new();
    let outcome = bench.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    assert_eq!((outcome.ending, outcome.step), (Ending::Completed, bench.options.steps.unwrap()));
    bench
}

#[test]
fn a_stop_at_every_place_where_the_loop_looks() {
    let whole = uninterrupted();
    let (fingerprint, metrics) = (whole.fingerprint(), whole.metrics());
    assert!(metrics.len() > 24);
    let mut stopped_at = std::collections::BTreeSet::new();
    for look in 0.. {
        let bench = Bench::new();
        let outcome = bench.train(Start::Fresh, &StopFlag::at_look(look), &mut NoReport).unwrap();
        if outcome.ending == Ending::Completed {
            assert!(look > 80, "the loop looks between micro-batches and in validations too: {look}");
            break;
        }
        stopped_at.insert(outcome.step);
        assert_eq!(bench.state().status, RunStatus::Stopped);
        let outcome = bench.train(LATEST, &StopFlag::new(), &mut NoReport).unwrap();
        assert_eq!(outcome.ending, Ending::Completed);
        assert_eq!(bench.fingerprint(), fingerprint, "stopped at look {look}");
        assert_eq!(bench.metrics(), metrics, "stopped at look {look}");
        assert_eq!(bench.state().status, RunStatus::Completed);
    }
    assert_eq!(stopped_at.len() as u64, whole.options.steps.unwrap() + 1, "{stopped_at:?}");
}

/// Muon, an average of the weights, and phases: all that a checkpoint may have to hold.
fn with_all_state() -> Bench {
    let mut bench = Bench::new();
    bench.options.optimizer = Optimizer::Muon;
    bench.options.ema_decay = 0.9;
    bench.options.phase = vec![phase("short", 0.4, Some(4)), phase("long", 0.6, Some(8))];
    bench
}

/// The same, where the first phase, the third and the fourth learn from data of their own.
fn with_mixes() -> Bench {
    let mut bench = with_all_state();
    bench.options.phase =
        ["own", "all", "other", "more", "again"].map(|name| phase(name, 0.2, Some(8))).to_vec();
    bench.mixes = vec![Some(0), None, Some(1), Some(0), None];
    // Epochs end within phases and at their borders.
    bench.options.steps = Some(60);
    bench.options.validate_every = 0;
    bench
}

#[test]
fn data_of_phases_come_in_turn_and_go_on_where_they_were_left() {
    let bench = with_mixes();
    let outcome = bench.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    assert_eq!((outcome.ending, outcome.step), (Ending::Completed, 60));
    // Each phase's epochs are counted from where its data were left: no token is lost from the sums of those
    // that ended.
    assert!(outcome.history.len() > 4, "{:?}", outcome.history);
    let in_epochs: u64 = outcome.history.iter().map(|epoch| epoch.tokens).sum();
    let largest = bench.data.training.token_count().max(bench.data.mix(0).token_count());
    assert!(in_epochs + 3 * largest > outcome.tokens_seen && in_epochs <= outcome.tokens_seen, "{in_epochs}");

    let mut plain = with_mixes();
    plain.mixes = Vec::new();
    plain.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    assert_ne!(plain.metrics(), bench.metrics(), "the phases have learned from something else");
}

#[test]
fn many_stops_in_one_run() {
    for make in [Bench::new, with_all_state, with_mixes] {
        let whole = make();
        whole.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
        let bench = make();
        let mut start = Start::Fresh;
        let mut sessions = 0;
        while bench.train(start, &StopFlag::at_look(7), &mut NoReport).unwrap().ending == Ending::Stopped {
            start = LATEST;
            sessions += 1;
        }
        assert!(sessions > 10, "{sessions}");
        assert_eq!(bench.fingerprint(), whole.fingerprint());
        assert_eq!(bench.metrics(), whole.metrics());
    }
}

#[test]
fn a_power_cut_at_any_write() {
    let whole = uninterrupted();
    let (fingerprint, metrics) = (whole.fingerprint(), whole.metrics());
    let (first, calls) = (Bench::new().disk.calls(), whole.disk.calls());
    let mut failed = 0;
    for call in (first..calls).step_by(19) {
        let mut bench = Bench::new();
        bench.disk.fail_at(call, Fault::Crash);
        // Not every write stops a run: metrics and states wait. The next checkpoint does.
        failed += usize::from(bench.train(Start::Fresh, &StopFlag::new(), &mut NoReport).is_err());
        for seed in [0, 1, call] {
            let left = bench.disk.after_crash(seed);
            let crashed = std::mem::replace(&mut bench.disk, left);
            bench.train(LATEST, &StopFlag::new(), &mut NoReport).unwrap();
            assert_eq!(bench.fingerprint(), fingerprint, "call {call}, seed {seed}");
            assert_eq!(bench.metrics(), metrics, "call {call}, seed {seed}");
            bench.disk = crashed;
        }
    }
    assert!(failed > 25, "{failed}");
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let one = uninterrupted();
    let mut two = Bench::new();
    two.threads = 2;
    two.train(Start::Fresh, &StopFlag::at_look(30), &mut NoReport).unwrap();
    two.threads = 3;
    two.train(LATEST, &StopFlag::new(), &mut NoReport).unwrap();
    assert_eq!(one.fingerprint(), two.fingerprint());
    assert_eq!(one.metrics(), two.metrics());
}

#[test]
fn another_seed_is_another_run() {
    let one = uninterrupted();
    let mut other = Bench::new();
    other.options.seed += 1;
    other.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    assert_ne!(one.metrics(), other.metrics());
}

#[test]
fn more_steps_extend_a_finished_run() {
    let mut bench = uninterrupted();
    let mut recorder = Recorder::default();
    let again = bench.train(LATEST, &StopFlag::new(), &mut recorder).unwrap();
    assert_eq!((again.ending, again.step, again.steps_this_session), (Ending::Completed, 20, 0));
    assert!(format!("{:?}", recorder.events).contains("--more-epochs"), "{:?}", recorder.events);

    bench.options.steps = Some(30);
    let mut recorder = Recorder::default();
    let more = bench.train(LATEST, &StopFlag::new(), &mut recorder).unwrap();
    assert_eq!((more.ending, more.step, more.steps_this_session), (Ending::Completed, 30, 10));
    assert!(format!("{:?}", recorder.events).contains("30 steps instead of 20"), "{:?}", recorder.events);
    let steps: Vec<String> = bench.metrics().into_iter().filter(|line| line.starts_with("step ")).collect();
    assert_eq!(steps.len(), 30);
    assert!(steps[29].starts_with("step 30 of 30"), "{}", steps[29]);
}

#[test]
fn going_back_to_an_earlier_checkpoint_repeats_its_future() {
    let mut bench = Bench::new();
    bench.options.keep_last = 9;
    bench.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    let (fingerprint, metrics) = (bench.fingerprint(), bench.metrics());
    let steps = bench.checkpoints().steps().unwrap();
    assert!(steps.contains(&8), "{steps:?}");
    bench.train(Start::Resume(Which::Step(8)), &StopFlag::new(), &mut NoReport).unwrap();
    assert_eq!((bench.fingerprint(), bench.metrics()), (fingerprint, metrics));
}

#[test]
fn what_comes_after_the_checkpoint_that_was_chosen_is_given_up_at_once() {
    let bench = uninterrupted();
    let chosen = bench.checkpoints().steps().unwrap()[0];
    // Ended before its first step and its first save.
    let outcome =
        bench.train(Start::Resume(Which::Step(chosen)), &StopFlag::at_look(0), &mut NoReport).unwrap();
    assert_eq!((outcome.ending, outcome.step), (Ending::Stopped, chosen));
    assert_eq!(bench.checkpoints().steps().unwrap(), [chosen], "the next resume goes on from here");
    let beyond = format!("step {} of", chosen + 1);
    assert!(!bench.metrics().iter().any(|metric| metric.starts_with(&beyond)));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let mut bench = uninterrupted();
    bench.options.batch_size = 8;
    let error = bench.train(LATEST, &StopFlag::new(), &mut NoReport).unwrap_err();
    assert_eq!(error.kind(), train::ErrorKind::Incompatible);
    assert!(error.to_string().contains("train.batch_size was 6 and is now 8"), "{error}");
}

#[test]
fn a_changed_option_is_told() {
    let mut bench = Bench::new();
    bench.train(Start::Fresh, &StopFlag::at_look(30), &mut NoReport).unwrap();
    bench.options.learning_rate = 2e-2;
    bench.recorded = Some(Vec::new());
    let error = bench.train(Start::Resume(Which::Latest), &StopFlag::new(), &mut NoReport).unwrap_err();
    assert!(error.to_string().contains("train.learning_rate"), "{error}");
    bench.recorded = None;
    let mut recorder = Recorder::default();
    bench.train(LATEST, &StopFlag::new(), &mut recorder).unwrap();
    assert!(format!("{:?}", recorder.events).contains("train.learning_rate has changed"));
}
