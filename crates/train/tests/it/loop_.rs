//! What one uninterrupted run does.

use compute::cpu::Cpu;
use model::TrainingModel;
use runs::report::{Event, NoReport, Recorder};
use train::{Sampler, Start, StopFlag};

use crate::support::Bench;

struct Echo;

impl Sampler<Cpu> for Echo {
    fn sample(
        &mut self,
        _model: &mut TrainingModel<Cpu>,
        prompts: &[String],
    ) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(prompts.iter().map(|prompt| format!("{prompt}!")).collect())
    }
}

#[test]
fn the_loss_falls_and_the_epochs_are_recorded() {
    let mut bench = Bench::new();
    bench.options.steps = None;
    bench.options.epochs = Some(8);
    bench.options.validate_every = 0;
    bench.options.checkpoint_every = 0;
    let mut recorder = Recorder::default();
    let outcome = bench.train(Start::Fresh, &StopFlag::new(), &mut recorder).unwrap();
    assert_eq!(outcome.history.len(), 8);
    assert_eq!(outcome.history[7].step, outcome.total_steps);
    let (first, last) = (&outcome.history[0], &outcome.history[7]);
    assert!(first.train_loss > 2.0 && last.train_loss < 0.6 * first.train_loss, "{:?}", outcome.history);
    assert!(last.validation_loss.unwrap() < 0.7 * first.validation_loss.unwrap(), "{:?}", outcome.history);
    assert_eq!(outcome.history.iter().map(|epoch| epoch.tokens).sum::<u64>(), outcome.tokens_seen);
    let epochs = recorder.events.iter().filter(|event| matches!(event, Event::EpochFinished { .. })).count();
    assert_eq!(epochs, 8);
    assert!(outcome.best_checkpoint.is_some() && outcome.last_checkpoint.is_some());

    let metrics = &outcome.training_metrics;
    assert_eq!(metrics["status"], "completed");
    assert_eq!(metrics["history"].as_array().unwrap().len(), 8);
    assert!(metrics["history"][0]["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(metrics["hyperparameters"]["micro_batch_size"], 2);
    assert_eq!(metrics["environment"]["device"], "cpu");
    let on_disk: serde_json::Value =
        store::atomic::read_json(&bench.disk, &bench.run_dir().path().join("training_metrics.json")).unwrap();
    assert_eq!(&on_disk, metrics);
}

/// Rounding differs with the cut, weighting must not: a cut that weighed micro-batches equally would be far
/// off, since their numbers of trained tokens differ.
#[test]
fn how_a_step_is_cut_into_micro_batches_hardly_matters() {
    let losses = |micro: usize| -> Vec<f64> {
        let mut bench = Bench::new();
        // Dropout is drawn by micro-batch.
        bench.config.dropout = 0.0;
        bench.options.micro_batch_size = micro;
        bench.options.steps = Some(6);
        let mut recorder = Recorder::default();
        bench.train(Start::Fresh, &StopFlag::new(), &mut recorder).unwrap();
        recorder
            .events
            .iter()
            .filter_map(|event| if let Event::Step(record) = event { Some(record.loss) } else { None })
            .collect()
    };
    let (whole, thirds, single) = (losses(6), losses(2), losses(1));
    for (a, b) in whole.iter().zip(&thirds).chain(whole.iter().zip(&single)) {
        assert!((a - b).abs() < 2e-5 * a, "{whole:?} {thirds:?} {single:?}");
    }
}

#[test]
fn duties_come_when_they_are_due() {
    let mut bench = Bench::new();
    bench.options.sample_every = 7;
    bench.options.sample_prompts = vec!["a".into(), "b".into()];
    let mut recorder = Recorder::default();
    bench.train_with(Start::Fresh, &StopFlag::new(), Some(&mut Echo), &mut recorder).unwrap();
    let mut samples = Vec::new();
    let mut validations = Vec::new();
    let mut saves = Vec::new();
    for event in &recorder.events {
        match event {
            Event::Sample { step, prompt, text } => {
                assert_eq!(*text, format!("{prompt}!"));
                samples.push(*step);
            }
            Event::Validation(record) => validations.push(record.step),
            Event::CheckpointSaved { step, .. } => saves.push(*step),
            _ => {}
        }
    }
    assert_eq!(samples, [7, 7, 14, 14, 20, 20]);
    for due in [6, 12, 18, 20] {
        assert!(validations.contains(&due), "{validations:?}");
    }
    for due in [4, 8, 12, 16, 20] {
        assert!(saves.contains(&due), "{saves:?}");
    }
    let kept = bench.checkpoints().steps().unwrap();
    assert!(kept.len() <= 3 && kept.contains(&20), "{kept:?}");
    let log = String::from_utf8(store::fs::Fs::read(&bench.disk, &bench.run_dir().log()).unwrap()).unwrap();
    assert!(log.contains("validation loss") && log.contains("completed at step 20 of 20"), "{log}");
}

#[test]
fn bad_options_and_too_little_data_are_named() {
    let mut bench = Bench::new();
    bench.options.learning_rate = -1.0;
    let error = bench.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap_err();
    assert!(error.to_string().starts_with("train.learning_rate"), "{error}");

    let mut bench = Bench::new();
    (bench.options.batch_size, bench.options.micro_batch_size) = (400, 2);
    let error = bench.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap_err();
    assert_eq!(error.kind(), train::ErrorKind::Data);
    assert!(error.to_string().contains("one batch of 400"), "{error}");
}
