//! Full disks, numbers that are not finite, damaged checkpoints.

use compute::cpu::Cpu;
use compute::rng::Rng;
use model::{StateKind, TrainingModel};
use runs::report::{Event, NoReport, Recorder};
use runs::run::RunStatus;
use train::{Ending, ErrorKind, Sampler, Start, StopFlag, Which};

use crate::support::{Bench, OnEvent};

const LATEST: Start = Start::Resume(Which::Latest);

/// Ruins a weight when asked for samples, so many times.
struct Poison(u64);

impl Sampler<Cpu> for Poison {
    fn sample(
        &mut self,
        model: &mut TrainingModel<Cpu>,
        prompts: &[String],
    ) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
        if self.0 == 0 {
            return Ok(prompts.to_vec());
        }
        self.0 -= 1;
        let name = model.weights().parameters()[0].name.clone();
        let mut values = model.download(&name, StateKind::Weight)?;
        // Every token's embedding, so that any batch meets it.
        values.iter_mut().for_each(|value| *value = f32::NAN);
        model.upload(&name, StateKind::Weight, &values)?;
        Ok(prompts.to_vec())
    }
}

fn poisoned(sample_every: u64) -> Bench {
    let mut bench = Bench::new();
    bench.options.sample_every = sample_every;
    bench.options.sample_prompts = vec!["x".into()];
    bench
}

#[test]
fn after_ten_steps_that_are_not_finite_the_run_stops_with_its_checkpoints_sound() {
    let mut bench = poisoned(5);
    bench.options.checkpoint_every = 100;
    bench.options.validate_every = 4;
    bench.options.rollbacks = 0;
    let mut recorder = Recorder::default();
    let error = bench
        .train_with(Start::Fresh, &StopFlag::new(), Some(&mut Poison(u64::MAX)), &mut recorder)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);
    assert!(error.to_string().contains("10 consecutive steps, up to step 15"), "{error}");
    assert_eq!(recorder.warnings().iter().filter(|text| text.contains("was skipped")).count(), 10);
    assert_eq!(bench.state().status, RunStatus::Failed);
    assert!(bench.state().message.contains("diverged"), "{}", bench.state().message);
    assert_eq!(bench.checkpoints().steps().unwrap(), [4], "the best validation");
    assert!(bench.latest_weights_are_finite());

    let clean = bench.train(LATEST, &StopFlag::new(), &mut NoReport).unwrap();
    assert_eq!((clean.ending, clean.step), (Ending::Completed, 20));
}

#[test]
fn steps_that_are_not_finite_send_the_run_back_and_it_goes_on() {
    let mut bench = poisoned(5);
    bench.options.checkpoint_every = 3;
    bench.options.steps = Some(40);
    let mut recorder = Recorder::default();
    let outcome =
        bench.train_with(Start::Fresh, &StopFlag::new(), Some(&mut Poison(1)), &mut recorder).unwrap();
    assert_eq!((outcome.ending, outcome.step), (Ending::Completed, 40));
    let warnings = recorder.warnings().join("\n");
    assert!(warnings.contains("Rolled back to step 3 (attempt 1 of 3)"), "{warnings}");
    assert_eq!(outcome.training_metrics["rollbacks"], 1);
    assert!(bench.latest_weights_are_finite());

    poisoned_for_good(5);
    poisoned_for_good(8);
}

/// A run that is ruined again after each rollback; it is ended after three.
fn poisoned_for_good(sample_every: u64) {
    let bench = poisoned(sample_every);
    let mut recorder = Recorder::default();
    let error = bench
        .train_with(Start::Fresh, &StopFlag::new(), Some(&mut Poison(u64::MAX)), &mut recorder)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);
    assert_eq!(recorder.warnings().iter().filter(|text| text.contains("Rolled back")).count(), 3);
    assert!(bench.latest_weights_are_finite());
    let message = error.to_string();
    assert!(message.contains("not finite") || message.contains("non-finite value"), "{message}");
}

/// Row 9 of the reliability matrix: NaN, infinities and numbers that overflow, in weights and moments,
/// anywhere.
#[test]
fn two_hundred_ruined_values_never_reach_a_checkpoint() {
    struct Ruin(Rng);
    impl Sampler<Cpu> for Ruin {
        fn sample(
            &mut self,
            model: &mut TrainingModel<Cpu>,
            _: &[String],
        ) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
            let rng = &mut self.0;
            let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX][rng.below(4) as usize];
            let kind = [StateKind::Weight, StateKind::Moment1, StateKind::Moment2][rng.below(3) as usize];
            let names: Vec<String> =
                model.weights().parameters().iter().map(|parameter| parameter.name.clone()).collect();
            let name = &names[rng.below(names.len() as u64) as usize];
            let mut values = model.download(name, kind)?;
            let at = rng.below(values.len() as u64) as usize;
            values[at] = bad;
            model.upload(name, kind, &values)?;
            Ok(Vec::new())
        }
    }
    for seed in 0..200 {
        let mut bench = poisoned(0);
        let mut rng = Rng::from_parts(seed, "ruin", &[]);
        bench.options.sample_every = 2 + rng.below(9);
        bench.options.checkpoint_every = 1 + rng.below(5);
        bench.options.keep_last = 99;
        // Ruined again and again: it ends with an error, or with what is not finite left out.
        let _ = bench.train_with(Start::Fresh, &StopFlag::new(), Some(&mut Ruin(rng)), &mut NoReport);
        let steps = bench.checkpoints().steps().unwrap();
        for step in steps {
            assert!(bench.weights_are_finite(Which::Step(step)), "seed {seed}, step {step}");
        }
    }
}

#[test]
fn a_checkpoint_of_what_is_not_finite_is_refused() {
    let bench = poisoned(8);
    let error = bench
        .train_with(Start::Fresh, &StopFlag::new(), Some(&mut Poison(u64::MAX)), &mut NoReport)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);
    assert!(error.to_string().contains("after step 8"), "{error}");
    assert!(bench.checkpoints().steps().unwrap().iter().all(|&step| step < 8));
    assert!(bench.latest_weights_are_finite());
}

#[test]
fn a_full_disk_pauses_and_goes_on_when_there_is_space() {
    let whole = Bench::new();
    whole.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();

    let mut bench = Bench::new();
    bench.patience.give_up_after = std::time::Duration::from_secs(60);
    let disk = bench.disk.clone();
    let (mut warnings, mut notices) = (Vec::new(), Vec::new());
    // The folder is made by the training.
    let run = || bench.run_dir();
    let mut reporter = OnEvent(|event: &Event| match event {
        Event::Step(record) if record.step == 7 => disk.set_capacity(Some(disk.used_bytes())),
        Event::Warning { message, .. } => {
            warnings.push(message.clone());
            if message.contains("paused") {
                notices.push(runs::pause::read(&disk, run().path()));
            }
            if message.contains("paused") && warnings.len() > 4 {
                disk.set_capacity(None);
            }
        }
        _ => {}
    });
    bench.train(Start::Fresh, &StopFlag::new(), &mut reporter).unwrap();
    let paused = warnings.iter().filter(|text| text.contains("Training is paused")).count();
    assert!(paused >= 2, "{warnings:?}");
    // A disk without a free byte takes the word that tells of it, and the word is taken back.
    for notice in &notices {
        let notice = notice.as_deref().expect("told while it pauses");
        assert!(notice.starts_with("disk full: ") && notice.contains("when space is available"), "{notice}");
    }
    assert_eq!(runs::pause::read(&bench.disk, bench.run_dir().path()), None);
    assert!(warnings[0].contains("metrics are kept in memory"), "{warnings:?}");
    assert_eq!(bench.fingerprint(), whole.fingerprint());
    assert_eq!(bench.metrics(), whole.metrics(), "no line was lost");
}

#[test]
fn a_disk_that_stays_full_ends_the_run_with_the_old_checkpoint_whole() {
    let mut bench = Bench::new();
    let disk = bench.disk.clone();
    let mut reporter = OnEvent(|event: &Event| {
        if matches!(event, Event::Step(record) if record.step == 7) {
            disk.set_capacity(Some(disk.used_bytes()));
        }
    });
    let error = bench.train(Start::Fresh, &StopFlag::new(), &mut reporter).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let text = error.to_string();
    assert!(text.contains("text2llm resume") && text.contains("of step 6"), "{text}");
    assert!(bench.checkpoints().verify(6).is_ok());

    bench.disk.set_capacity(None);
    bench.options.keep_last = 2;
    bench.train(LATEST, &StopFlag::new(), &mut NoReport).unwrap();
    let whole = Bench::new();
    whole.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    assert_eq!(bench.fingerprint(), whole.fingerprint());
    assert_eq!(bench.metrics(), whole.metrics());
}

#[test]
fn a_damaged_newest_checkpoint_costs_one_interval() {
    let whole = Bench::new();
    whole.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    let bench = Bench::new();
    bench.train(Start::Fresh, &StopFlag::at_look(58), &mut NoReport).unwrap();
    let steps = bench.checkpoints().steps().unwrap();
    let newest = *steps.last().unwrap();
    bench.disk.mutate(&bench.checkpoints().path(newest).join("moments.safetensors"), |bytes| bytes[300] ^= 8);
    let mut recorder = Recorder::default();
    bench.train(LATEST, &StopFlag::new(), &mut recorder).unwrap();
    let warnings = recorder.warnings().join("\n");
    assert!(
        warnings.contains("moments.safetensors") && warnings.contains("trying the previous one"),
        "{warnings}"
    );
    assert_eq!(bench.fingerprint(), whole.fingerprint());
    assert_eq!(bench.metrics(), whole.metrics());
}

#[test]
fn a_run_whose_folder_is_deleted_stops_and_does_not_come_back_as_a_shell() {
    let bench = Bench::new();
    let disk = bench.disk.clone();
    let folder = bench.run_dir().path().to_owned();
    let mut reporter = OnEvent(|event: &Event| {
        if matches!(event, Event::Step(record) if record.step == 7) {
            store::fs::Fs::remove_dir_all(&disk, &folder).unwrap();
        }
    });
    let error = bench.train(Start::Fresh, &StopFlag::new(), &mut reporter).unwrap_err();
    assert!(error.to_string().contains("deleted or moved"), "{error}");
    assert!(!store::fs::Fs::exists(&bench.disk, &folder));
}
