//! Training a classifier: logistic regression with AdaGrad, one pass after another over shuffled examples.

use compute::rng::Rng;
use serde::Serialize;

use super::{Classifier, HIGHEST_SCORE, fill, logistic};
use crate::{Error, Result};

/// A text and the score it should get, from 0 to 5.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The text.
    pub text: String,
    /// Its score, from 0 to 5.
    pub score: f64,
}

/// Training options.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingOptions {
    /// Weights are 2 to the power of this.
    pub bits: u32,
    /// Number of epochs.
    pub epochs: usize,
    /// Learning rate of AdaGrad.
    pub learning_rate: f64,
    /// Random seed of the order and of the held-out examples.
    pub seed: u64,
}

impl Default for TrainingOptions {
    fn default() -> TrainingOptions {
        TrainingOptions { bits: 18, epochs: 5, learning_rate: 0.2, seed: 0 }
    }
}

/// One in this many examples is held out for evaluation.
const HELD_OUT: usize = 10;
/// Minimum number of examples.
const FEWEST: usize = 20;

/// How well scores of held-out examples are met.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Fit {
    /// Training examples.
    pub examples: usize,
    /// Held-out examples.
    pub held_out: usize,
    /// Share of the held-out on the right side of the middle.
    pub accuracy: f64,
    /// Share of pairs of held-out examples, one from either side, whose order is right: the area under the
    /// ROC curve.
    pub area_under_curve: f64,
    /// Mean absolute error of scores.
    pub mean_absolute_error: f64,
}

/// Trains on `examples`, and says how well it does on those held out.
///
/// # Errors
/// Too few examples; scores outside 0 to 5; all on one side.
pub fn train(examples: &[Example], options: &TrainingOptions) -> Result<(Classifier, Fit)> {
    if let Some(bad) = examples.iter().find(|example| !(0.0..=HIGHEST_SCORE).contains(&example.score)) {
        return Err(Error::Score { score: bad.score, highest: HIGHEST_SCORE });
    }
    let is_good = |example: &Example| example.score >= HIGHEST_SCORE / 2.0;
    let good = examples.iter().filter(|example| is_good(example)).count();
    if examples.len() < FEWEST || good == 0 || good == examples.len() {
        return Err(Error::TooFewExamples { examples: examples.len(), good, fewest: FEWEST });
    }
    let mut order: Vec<u32> = (0..examples.len() as u32).collect();
    let mut rng = Rng::from_parts(options.seed, "classifier", &[]);
    rng.shuffle(&mut order);
    let (held_out, mut order) = {
        let (held, rest) = order.split_at(examples.len() / HELD_OUT);
        (held.to_vec(), rest.to_vec())
    };

    let mut model = Classifier { bits: options.bits, bias: 0.0, weights: vec![0.0; 1 << options.bits] };
    let mut squares = vec![0.0f32; 1 << options.bits];
    let (mut bias_squares, mut features) = (0.0, Vec::new());
    for _ in 0..options.epochs {
        rng.shuffle(&mut order);
        for &at in &order {
            let example = &examples[at as usize];
            fill(&example.text, options.bits, &mut features);
            let error = logistic(model.sum(&features)) - example.score / HIGHEST_SCORE;
            bias_squares += error * error;
            model.bias -= (options.learning_rate * error / (bias_squares.sqrt() + 1e-8)) as f32;
            let gradient = error / (features.len().max(1) as f64).sqrt();
            for &feature in &features {
                let square = &mut squares[feature as usize];
                *square += (gradient * gradient) as f32;
                let step = options.learning_rate * gradient / (f64::from(*square).sqrt() + 1e-8);
                model.weights[feature as usize] -= step as f32;
            }
        }
    }
    let scores: Vec<(f64, &Example)> = (held_out.iter())
        .map(|&at| (model.score(&examples[at as usize].text, &mut features), &examples[at as usize]))
        .collect();
    let mut fit = Fit { examples: order.len(), held_out: scores.len(), ..Fit::default() };
    let count = scores.len().max(1) as f64;
    let right =
        scores.iter().filter(|(score, example)| (*score >= HIGHEST_SCORE / 2.0) == is_good(example)).count();
    fit.accuracy = right as f64 / count;
    fit.mean_absolute_error =
        scores.iter().map(|(score, example)| (score - example.score).abs()).sum::<f64>() / count;
    fit.area_under_curve = area(scores.iter().map(|(score, example)| (*score, is_good(example))).collect());
    Ok((model, fit))
}

/// By ranks (Mann and Whitney): ties count half.
fn area(mut scores: Vec<(f64, bool)>) -> f64 {
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut pairs, mut good) = (0.0, 0.0, 0.0);
    for same in scores.chunk_by(|a, b| a.0 == b.0) {
        let good_here = same.iter().filter(|(_, is_good)| *is_good).count() as f64;
        let bad_here = same.len() as f64 - good_here;
        pairs += good_here * (below + bad_here / 2.0);
        below += bad_here;
        good += good_here;
    }
    if good * below == 0.0 { 0.5 } else { pairs / (good * below) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_two_kinds_of_text_apart_and_is_the_same_each_time() {
        let words = ["river", "stone", "bread", "window", "garden", "letter", "winter", "silver"];
        let text = |seed: usize, good: bool| {
            let word = |i: usize| words[(seed * 7919 + i * 104_729) % words.len()];
            let extra = if good { "therefore the theorem" } else { "click here now" };
            format!("{} {} {extra} {} {}", word(1), word(2), word(3), word(4))
        };
        let examples: Vec<Example> = (0..400)
            .map(|i| Example { text: text(i, i % 2 == 0), score: if i % 2 == 0 { 5.0 } else { 0.0 } })
            .collect();
        let options = TrainingOptions { bits: 12, ..TrainingOptions::default() };
        let (model, fit) = train(&examples, &options).expect("trained");
        assert_eq!((fit.examples, fit.held_out, fit.accuracy, fit.area_under_curve), (360, 40, 1.0, 1.0));
        assert_eq!(train(&examples, &options).expect("trained").0, model);
        let mut features = Vec::new();
        assert!(model.score("the theorem holds, therefore", &mut features) > 3.0);
        assert!(model.score("click here now to win", &mut features) < 2.0);
        assert!(train(&examples[..10], &options).is_err() && train(&[], &options).is_err());
    }

    #[test]
    fn the_area_counts_pairs() {
        assert_eq!(area(vec![(0.1, false), (0.4, true), (0.35, false), (0.8, true)]), 1.0);
        assert_eq!(area(vec![(0.5, false), (0.5, true)]), 0.5);
        assert_eq!(area(vec![(0.9, false), (0.1, true)]), 0.0);
    }
}
