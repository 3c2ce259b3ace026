//! The moving average of the weights on steps that are skipped.

use compute::cpu::Cpu;
use model::{StateKind, TrainingModel};
use runs::report::Recorder;
use train::{Ending, Sampler, Start, StopFlag};

use crate::support::Bench;

/// Of every parameter.
type Values = Vec<Vec<f32>>;

/// Ruins the weights after one step and mends them after the next; notes both states after each. While
/// samples are asked for, the average is in the weights' place, and the weights in that of the average.
#[derive(Default)]
struct Watch {
    ruin_after: usize,
    averages: Vec<Values>,
    weights: Vec<Values>,
}

impl Watch {
    fn read(model: &mut TrainingModel<Cpu>, kind: StateKind) -> Values {
        let names: Vec<String> =
            model.weights().parameters().iter().map(|parameter| parameter.name.clone()).collect();
        names.iter().map(|name| model.download(name, kind).unwrap()).collect()
    }

    fn write_weights(model: &mut TrainingModel<Cpu>, values: &Values) {
        let names: Vec<String> =
            model.weights().parameters().iter().map(|parameter| parameter.name.clone()).collect();
        for (name, values) in names.iter().zip(values) {
            model.upload(name, StateKind::Average, values).unwrap();
        }
    }
}

impl Sampler<Cpu> for Watch {
    fn sample(
        &mut self,
        model: &mut TrainingModel<Cpu>,
        prompts: &[String],
    ) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
        self.averages.push(Watch::read(model, StateKind::Weight));
        self.weights.push(Watch::read(model, StateKind::Average));
        let step = self.weights.len();
        if step == self.ruin_after {
            let mut ruined = self.weights[step - 1].clone();
            ruined[0].fill(f32::NAN);
            Watch::write_weights(model, &ruined);
        } else if step == self.ruin_after + 1 {
            Watch::write_weights(model, &self.weights[step - 2]);
        }
        Ok(prompts.to_vec())
    }
}

#[test]
fn a_skipped_step_does_not_move_the_average() {
    const DECAY: f64 = 0.9;
    let mut bench = Bench::new();
    bench.options.ema_decay = DECAY;
    bench.options.steps = Some(8);
    (bench.options.sample_every, bench.options.sample_prompts) = (1, vec!["x".into()]);
    (bench.options.checkpoint_every, bench.options.validate_every) = (100, 0);
    bench.options.rollbacks = 0;
    let mut watch = Watch { ruin_after: 4, ..Watch::default() };
    let mut recorder = Recorder::default();
    let outcome = bench.train_with(Start::Fresh, &StopFlag::new(), Some(&mut watch), &mut recorder).unwrap();
    assert_eq!((outcome.ending, outcome.step), (Ending::Completed, 8));
    assert_eq!(recorder.warnings().iter().filter(|text| text.contains("was skipped")).count(), 1);
    let (averages, weights) = (&watch.averages, &watch.weights);
    assert_eq!(averages.len(), 8);

    // Index i is after step i + 1; step 5 is skipped.
    assert!(averages[4] == averages[3], "step 5 moved the average");
    assert!(weights[4][0].iter().all(|weight| weight.is_nan()), "step 5 was to be skipped");
    let mut updates = 3.0;
    for step in [4, 6, 7, 8] {
        updates += 1.0;
        // The first updates count for more, and a skipped step is none of them.
        let decay = DECAY.min((1.0 + updates) / (10.0 + updates));
        let after = step - 1;
        for ((average, before), weight) in
            averages[after].iter().zip(&averages[after - 1]).zip(&weights[after])
        {
            for ((&average, &before), &weight) in average.iter().zip(before).zip(weight) {
                let expected = decay * f64::from(before) + (1.0 - decay) * f64::from(weight);
                assert!(
                    (f64::from(average) - expected).abs() <= 1e-6 * (before.abs() + weight.abs()) as f64,
                    "step {step}: {average}, not {expected}"
                );
            }
        }
        assert!(averages[after] != averages[after - 1], "step {step} did not move the average");
    }
}
