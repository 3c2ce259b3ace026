//! How much of each source a model learns from: weights or a temperature, a budget of tokens, and a bound on
//! epochs.
//!
//! A source is an entry of `data.paths`. A plan is a function of the sources' tokens and the options alone;
//! which documents make up a part of an epoch is told by their hash and the seed. Documents know nothing of
//! it, so several mixes can be made of the same ones.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The recipe's `[data.mix]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MixOptions {
    /// How much of the tokens each entry of `data.paths` gives, relative to the others. Empty: by their
    /// sizes.
    pub weights: BTreeMap<String, f64>,
    /// Without weights, shares are sizes to the power of 1 / temperature: 1 keeps them, more raises small
    /// sources.
    #[schemars(range(min = 0.1, max = 100.0))]
    pub temperature: f64,
    /// Tokens to make; 0: as many as there are.
    pub token_budget: u64,
    /// How often a document may come at most; what a source cannot give is shared among the others.
    #[schemars(range(min = 0.01, max = 1000.0))]
    pub maximum_epochs: f64,
}

impl Default for MixOptions {
    fn default() -> MixOptions {
        MixOptions { weights: BTreeMap::new(), temperature: 1.0, token_budget: 0, maximum_epochs: 4.0 }
    }
}

impl MixOptions {
    /// The first mistake, with what would be right: a weight of no path, a path without a weight, numbers out
    /// of range.
    pub fn problem(&self, paths: &[String]) -> Option<String> {
        if !(0.1..=100.0).contains(&self.temperature) || !(0.01..=1000.0).contains(&self.maximum_epochs) {
            return Some(format!(
                "a temperature of {} and at most {} epochs: 0.1 to 100 and 0.01 to 1000 are possible",
                self.temperature, self.maximum_epochs
            ));
        }
        if let Some((name, weight)) =
            self.weights.iter().find(|(_, weight)| !(weight.is_finite() && **weight >= 0.0))
        {
            return Some(format!("the weight {weight} of `{name}` is no number from 0 up"));
        }
        if let Some(name) = self.weights.keys().find(|name| !paths.contains(name)) {
            return Some(format!(
                "`{name}` has a weight and is no entry of data.paths: weights are given to its entries"
            ));
        }
        if let Some(name) =
            paths.iter().find(|path| !self.weights.is_empty() && !self.weights.contains_key(*path))
        {
            return Some(format!(
                "`{name}` has no weight: give one to each entry of data.paths, or to none; 0 leaves it out"
            ));
        }
        if !self.weights.is_empty() && self.weights.values().all(|&weight| weight == 0.0) {
            return Some("all weights are 0: nothing would be learned from".to_owned());
        }
        None
    }
}

/// A source's part of a mix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MixedSource {
    /// Documents to choose from.
    pub documents: u64,
    /// Their tokens.
    pub available_tokens: u64,
    /// How often they come.
    pub epochs: f64,
    /// The share of all tokens that was asked for.
    pub asked_share: f64,
    /// Tokens written.
    pub tokens: u64,
}

/// How often each source comes, by the tokens that each has.
pub fn plan(tokens: &BTreeMap<String, u64>, options: &MixOptions) -> BTreeMap<String, MixedSource> {
    let weight = |name: &String, tokens: u64| match options.weights.is_empty() {
        true => (tokens as f64).powf(1.0 / options.temperature),
        false => options.weights.get(name).copied().unwrap_or(0.0),
    };
    let sum: f64 = tokens.iter().map(|(name, &tokens)| weight(name, tokens)).sum();
    let mut plan: BTreeMap<String, MixedSource> = (tokens.iter())
        .map(|(name, &available_tokens)| {
            let asked_share = if sum > 0.0 { weight(name, available_tokens) / sum } else { 0.0 };
            (name.clone(), MixedSource { available_tokens, asked_share, ..MixedSource::default() })
        })
        .collect();
    let mut left = match options.token_budget {
        0 => tokens.values().sum::<u64>() as f64,
        budget => budget as f64,
    };
    // Sources that reach their bound are settled first; the rest share what is left.
    let mut open: Vec<&mut MixedSource> =
        plan.values_mut().filter(|source| source.asked_share > 0.0 && source.available_tokens > 0).collect();
    while !open.is_empty() {
        let shares: f64 = open.iter().map(|source| source.asked_share).sum();
        let epochs =
            |source: &MixedSource| left * source.asked_share / shares / source.available_tokens as f64;
        let (full, rest): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|source| epochs(source) >= options.maximum_epochs);
        if full.is_empty() {
            rest.into_iter().for_each(|source| source.epochs = epochs(source));
            break;
        }
        for source in full {
            source.epochs = options.maximum_epochs;
            left -= options.maximum_epochs * source.available_tokens as f64;
        }
        left = left.max(0.0);
        open = rest;
    }
    plan
}

/// The place in [0, 1) of a document whose text has this hash: it is part of the last, broken epoch of its
/// source where that is below the epoch's fraction.
pub fn place(seed: u64, hash: &str) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"mix").update(&seed.to_le_bytes()).update(hash.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(sizes: &[(&str, u64)], options: &MixOptions) -> Vec<f64> {
        let tokens = sizes.iter().map(|&(name, tokens)| (name.to_owned(), tokens)).collect();
        plan(&tokens, options).into_values().map(|source| (source.epochs * 1000.0).round() / 1000.0).collect()
    }

    #[test]
    fn weights_budgets_and_bounds() {
        let sizes = [("a", 100), ("b", 300), ("c", 600)];
        assert_eq!(epochs(&sizes, &MixOptions::default()), [1.0, 1.0, 1.0]);
        let weights =
            |a, b, c| BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b), ("c".to_owned(), c)]);
        let even = MixOptions { weights: weights(1.0, 1.0, 1.0), ..MixOptions::default() };
        assert_eq!(epochs(&sizes, &even), [3.333, 1.111, 0.556]);
        assert_eq!(epochs(&sizes, &MixOptions { token_budget: 300, ..even.clone() }), [1.0, 0.333, 0.167]);
        // What `a` cannot give is shared by the others.
        assert_eq!(epochs(&sizes, &MixOptions { maximum_epochs: 2.0, ..even.clone() }), [2.0, 1.333, 0.667]);
        assert_eq!(epochs(&sizes, &MixOptions { maximum_epochs: 1.0, token_budget: 9000, ..even }), [1.0; 3]);
        let without = MixOptions { weights: weights(0.0, 1.0, 0.0), ..MixOptions::default() };
        assert_eq!(epochs(&sizes, &without), [0.0, 3.333, 0.0]);
        let flat = MixOptions { temperature: 2.0, ..MixOptions::default() };
        let epochs = epochs(&sizes, &flat);
        assert!(epochs[0] > epochs[1] && epochs[1] > epochs[2], "{epochs:?}");
    }

    #[test]
    fn weights_belong_to_paths() {
        let paths = ["a".to_owned(), "b".to_owned()];
        let check = |weights: &[(&str, f64)]| {
            let weights = weights.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect();
            MixOptions { weights, ..MixOptions::default() }.problem(&paths)
        };
        assert_eq!(check(&[("a", 1.0), ("b", 0.0)]), None);
        for (weights, told) in [
            (&[("a", 1.0)][..], "`b` has no weight"),
            (&[("a", 1.0), ("b", 1.0), ("c", 1.0)], "`c` has a weight"),
            (&[("a", 0.0), ("b", 0.0)], "all weights are 0"),
            (&[("a", -1.0), ("b", 1.0)], "the weight -1 of `a`"),
        ] {
            assert!(check(weights).is_some_and(|message| message.contains(told)));
        }
    }
}
