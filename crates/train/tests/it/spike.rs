//! Loss spikes: back to the last good state, past the batches, at most three times; and the same bits whether
//! stopped or not.

use compute::cpu::Cpu;
use compute::rng::Rng;
use model::{StateKind, TrainingModel};
use runs::report::{NoReport, Recorder};
use train::{Ending, ErrorKind, Sampler, Start, StopFlag, Which};

use crate::support::{Bench, phase};

/// Throws the model off its course: some weights many times as large, when asked for a sample, so many times.
struct Throw {
    rng: Rng,
    times: u64,
}

impl Sampler<Cpu> for Throw {
    fn sample(
        &mut self,
        model: &mut TrainingModel<Cpu>,
        prompts: &[String],
    ) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
        if self.times > 0 {
            self.times -= 1;
            let name = "model.embed_tokens.weight".to_owned();
            let mut values = model.download(&name, StateKind::Weight)?;
            values.iter_mut().for_each(|value| *value = (3.0 * self.rng.normal()) as f32);
            model.upload(&name, StateKind::Weight, &values)?;
        }
        Ok(prompts.to_vec())
    }
}

fn bench(sample_every: u64) -> Bench {
    let mut bench = Bench::new();
    bench.options.steps = Some(400);
    bench.options.learning_rate = 3e-3;
    bench.options.minimum_learning_rate_ratio = 0.0;
    bench.config.dropout = 0.0;
    bench.options.checkpoint_every = 10;
    bench.options.validate_every = 100;
    bench.options.sample_every = sample_every;
    bench.options.sample_prompts = vec!["a".into()];
    bench
}

/// Two phases, each with a text of its own.
fn with_two_texts(sample_every: u64) -> Bench {
    let mut bench = bench(sample_every);
    bench.options.phase = vec![phase("first", 0.5, None), phase("second", 0.5, None)];
    bench.mixes = vec![Some(0), Some(1)];
    bench
}

/// Row 10 of the reliability matrix.
#[test]
fn twenty_spikes_end_within_one_percent_of_the_clean_run() {
    let clean = bench(0);
    let clean = clean.train(Start::Fresh, &StopFlag::new(), &mut NoReport).unwrap();
    let clean_loss = clean.validation_loss.unwrap();
    for seed in 0..20 {
        let bench = bench(71 + 3 * seed);
        let mut throw = Throw { rng: Rng::from_parts(seed, "spike", &[]), times: 1 };
        let mut recorder = Recorder::default();
        let outcome =
            bench.train_with(Start::Fresh, &StopFlag::new(), Some(&mut throw), &mut recorder).unwrap();
        assert_eq!((outcome.ending, outcome.step), (Ending::Completed, 400));
        // Two where the throw fell on a step that is saved: the first place to go back to is thrown too.
        let rollbacks = outcome.training_metrics["rollbacks"].as_u64();
        assert!(matches!(rollbacks, Some(1..=2)), "seed {seed}: {:?}", recorder.warnings());
        let loss = outcome.validation_loss.unwrap();
        // Other batches may also end better.
        assert!(loss / clean_loss - 1.0 < 0.01, "seed {seed}: {loss} where clean is {clean_loss}");
    }
}

/// Losses of another text may be far above those before: that is no spike.
#[test]
fn a_phase_with_other_data_is_no_spike() {
    let bench = with_two_texts(0);
    let mut recorder = Recorder::default();
    let outcome = bench.train(Start::Fresh, &StopFlag::new(), &mut recorder).unwrap();
    assert_eq!(outcome.training_metrics["rollbacks"], 0, "{:?}", recorder.warnings());
    let losses = bench.losses();
    let (before, after) = (losses[190..200].iter().sum::<f64>(), losses[200..210].iter().sum::<f64>());
    assert!(after > 1.5 * before, "the second text is new to the model: {before} {after}");
}

/// A model that was thrown off its course in the second phase may have to go back to the first; the batches
/// it met are left out.
#[test]
fn a_rollback_across_a_border_meets_other_batches() {
    let mut bench = with_two_texts(215);
    bench.options.checkpoint_every = 150;
    let mut throw = Throw { rng: Rng::from_parts(0, "spike", &[]), times: 2 };
    let mut recorder = Recorder::default();
    let outcome = bench.train_with(Start::Fresh, &StopFlag::new(), Some(&mut throw), &mut recorder).unwrap();
    assert_eq!((outcome.ending, outcome.step), (Ending::Completed, 400));
    let warnings = recorder.warnings().join("\n");
    for told in ["Rolled back to step 200 (attempt 1 of 3)", "Rolled back to step 150 (attempt 2 of 3)"] {
        assert!(warnings.contains(told), "{told}: {warnings}");
    }
}

#[test]
fn after_three_rollbacks_in_a_row_the_run_stops_and_says_why() {
    let bench = bench(75);
    let mut throw = Throw { rng: Rng::from_parts(0, "spike", &[]), times: u64::MAX };
    let mut recorder = Recorder::default();
    let error =
        bench.train_with(Start::Fresh, &StopFlag::new(), Some(&mut throw), &mut recorder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);
    assert!(error.to_string().contains("3 consecutive rollbacks did not"), "{error}");
    assert_eq!(recorder.warnings().iter().filter(|text| text.contains("Rolled back to step")).count(), 3);
    assert_eq!(bench.state().failure.as_deref(), Some("diverged"));
}

/// What ruined the run may have been saved in the only checkpoint there is.
#[test]
fn the_second_try_with_one_checkpoint_goes_back_to_the_beginning() {
    let mut bench = bench(75);
    bench.options.checkpoint_every = 60;
    bench.options.validate_every = 1000;
    // Less than an epoch: its end would be another.
    (bench.options.batch_size, bench.options.micro_batch_size, bench.options.sequence_length) = (1, 1, 3);
    bench.options.steps = Some(100);
    let mut throw = Throw { rng: Rng::from_parts(0, "spike", &[]), times: 2 };
    let mut recorder = Recorder::default();
    let outcome = bench.train_with(Start::Fresh, &StopFlag::new(), Some(&mut throw), &mut recorder).unwrap();
    assert_eq!((outcome.ending, outcome.step), (Ending::Completed, 100));
    let warnings = recorder.warnings().join("\n");
    for told in ["Rolled back to step 60 (attempt 1 of 3)", "Rolled back to step 0 (attempt 2 of 3)"] {
        assert!(warnings.contains(told), "{told}: {warnings}");
    }
}

/// Throws at the first sample of the run, as a bad batch would: at the same step in every session, until the
/// run is past it.
struct ThrowAt<'a>(&'a std::cell::Cell<u64>);

impl Sampler<Cpu> for ThrowAt<'_> {
    fn sample(
        &mut self,
        model: &mut TrainingModel<Cpu>,
        prompts: &[String],
    ) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
        let times = self.0.get();
        self.0.set(times.saturating_sub(1));
        Throw { rng: Rng::from_parts(5, "spike", &[]), times: times.min(1) }.sample(model, prompts)
    }
}

/// The window and the place to go back to are part of the checkpoint.
#[test]
fn a_run_stopped_around_a_spike_ends_in_the_same_bits() {
    let mut whole = bench(75);
    whole.options.steps = Some(120);
    let once = std::cell::Cell::new(1);
    whole.train_with(Start::Fresh, &StopFlag::new(), Some(&mut ThrowAt(&once)), &mut NoReport).unwrap();
    let (fingerprint, metrics) = (whole.fingerprint(), whole.metrics());
    let mut stopped_between = 0;
    for look in (240..400).step_by(8) {
        let mut bench = bench(75);
        bench.options.steps = Some(120);
        let once = std::cell::Cell::new(1);
        let first = bench
            .train_with(Start::Fresh, &StopFlag::at_look(look), Some(&mut ThrowAt(&once)), &mut NoReport)
            .unwrap();
        if first.ending == Ending::Completed {
            break;
        }
        stopped_between += u64::from((76..80).contains(&first.step));
        bench
            .train_with(
                Start::Resume(Which::Latest),
                &StopFlag::new(),
                Some(&mut ThrowAt(&once)),
                &mut NoReport,
            )
            .unwrap();
        assert_eq!(bench.fingerprint(), fingerprint, "stopped at look {look}, step {}", first.step);
        assert_eq!(bench.metrics(), metrics, "stopped at look {look}");
    }
    assert!(stopped_between > 0, "no stop fell between the spike and the rollback");
}
