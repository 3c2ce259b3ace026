//! Choosing the next token from logits.

use compute::rng::Rng;
use serde::{Deserialize, Serialize};

/// How the next token is drawn. Filters apply in this order: repetition penalty, temperature, top-k, top-p,
/// min-p.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingOptions {
    /// 0 = the most likely token; 1 = the model's own distribution.
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 = all.
    pub top_k: usize,
    /// Keep the smallest set with at least this probability (Holtzman et al. 2020); 1 = all.
    pub top_p: f32,
    /// Keep tokens with at least this share of the most likely one's probability (Nguyen et al. 2024); 0 =
    /// all.
    pub min_p: f32,
    /// Divides positive logits, and multiplies negative ones, of tokens seen before (Keskar et al. 2019); 1 =
    /// off.
    pub repetition_penalty: f32,
    /// Random seed.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> SamplingOptions {
        SamplingOptions {
            temperature: 0.8,
            top_k: 0,
            top_p: 0.95,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// Draws tokens one after the other.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    rng: Rng,
}

impl Sampler {
    /// A sampler whose draws follow from `options.seed`.
    pub fn new(options: SamplingOptions) -> Sampler {
        Sampler { options, rng: Rng::from_parts(options.seed, "sampling", &[]) }
    }

    /// Draws the next token. `history` contains the prompt and the drawn tokens; `logits` are modified.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> u32 {
        let o = self.options;
        if o.repetition_penalty != 1.0 {
            // One look at the history a token: sorting it for each would take longer than the model does.
            let mut seen = vec![false; logits.len()];
            for &token in history {
                if let Some(seen) = seen.get_mut(token as usize) {
                    *seen = true;
                }
            }
            for (logit, _) in logits.iter_mut().zip(seen).filter(|(_, seen)| *seen) {
                *logit =
                    if *logit > 0.0 { *logit / o.repetition_penalty } else { *logit * o.repetition_penalty };
            }
        }
        if o.temperature <= 0.0 {
            return argmax(logits);
        }
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        // Equal logits keep the order of their ids, so that draws are the same everywhere.
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        if o.top_k > 0 {
            order.truncate(o.top_k);
        }
        let max = logits[order[0] as usize];
        let mut probabilities: Vec<f64> =
            order.iter().map(|&t| f64::from((logits[t as usize] - max) / o.temperature).exp()).collect();
        let total: f64 = probabilities.iter().sum();
        let mut keep = probabilities.len();
        if o.top_p < 1.0 {
            let mut sum = 0.0;
            keep = probabilities
                .iter()
                .position(|p| {
                    sum += p / total;
                    sum >= f64::from(o.top_p)
                })
                .map_or(keep, |at| at + 1);
        }
        if o.min_p > 0.0 {
            let least = probabilities[0] * f64::from(o.min_p);
            keep = probabilities[..keep].partition_point(|&p| p >= least).max(1);
        }
        probabilities.truncate(keep);
        let mut draw = self.rng.uniform() * probabilities.iter().sum::<f64>();
        for (p, &token) in probabilities.iter().zip(&order) {
            draw -= p;
            if draw < 0.0 {
                return token;
            }
        }
        order[keep - 1]
    }
}

/// The id of the largest logit, the first of equal ones.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = i;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(options: SamplingOptions, logits: &[f32], history: &[u32]) -> Vec<u32> {
        let mut sampler = Sampler::new(options);
        let mut drawn: Vec<u32> = (0..2000).map(|_| sampler.sample(&mut logits.to_vec(), history)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    }

    const OPEN: SamplingOptions = SamplingOptions {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        seed: 3,
    };
    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, 1.9];

    #[test]
    fn filters_keep_what_they_say() {
        assert_eq!(draws(OPEN, &LOGITS, &[]), [0, 1, 2, 3]);
        assert_eq!(draws(SamplingOptions { temperature: 0.0, ..OPEN }, &LOGITS, &[]), [1]);
        assert_eq!(draws(SamplingOptions { top_k: 2, ..OPEN }, &LOGITS, &[]), [1, 3]);
        // Probabilities are .40, .36, .15, .05 (tokens 1, 3, 2, 0).
        assert_eq!(draws(SamplingOptions { top_p: 0.7, ..OPEN }, &LOGITS, &[]), [1, 3]);
        assert_eq!(draws(SamplingOptions { top_p: 0.3, ..OPEN }, &LOGITS, &[]), [1]);
        assert_eq!(draws(SamplingOptions { min_p: 0.3, ..OPEN }, &LOGITS, &[]), [1, 2, 3]);
        let penalised = SamplingOptions { temperature: 0.0, repetition_penalty: 1.5, ..OPEN };
        assert_eq!(draws(penalised, &LOGITS, &[1]), [3]);
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let mut sampler = Sampler::new(OPEN);
        let mut counts = [0u32; 4];
        for _ in 0..20_000 {
            counts[sampler.sample(&mut LOGITS.to_vec(), &[]) as usize] += 1;
        }
        let total: f64 = LOGITS.iter().map(|&l| f64::from(l).exp()).sum();
        for (count, logit) in counts.iter().zip(LOGITS) {
            let expected = f64::from(logit).exp() / total;
            assert!((f64::from(*count) / 20_000.0 - expected).abs() < 0.015, "{counts:?}");
        }
    }
}
