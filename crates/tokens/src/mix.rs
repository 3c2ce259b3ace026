//! Data mixes: the share of each source in the training data, by weights or a temperature, with a token
//! budget and a limit on epochs.
//!
//! A source is an entry of `data.paths`. A plan is a function of the sources' token counts and the options;
//! the documents of a partial epoch are selected by their hash and the seed. Prepared documents do not depend
//! on the mix, so several mixes can be made from the same ones.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The recipe's `[data.mix]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MixOptions {
    /// Relative number of tokens from each entry of `data.paths`. Empty: proportional to their sizes.
    pub weights: BTreeMap<String, f64>,
    /// Without weights, shares are proportional to sizes to the power of 1 / temperature: 1 keeps the
    /// proportions, higher values raise small sources.
    #[schemars(range(min = 0.1, max = 100.0))]
    pub temperature: f64,
    /// Total number of training tokens; 0: as many as there are.
    pub token_budget: u64,
    /// Maximum number of epochs over a document; tokens that a source cannot provide come from the others.
    #[schemars(range(min = 0.01, max = 1000.0))]
    pub maximum_epochs: f64,
}

impl Default for MixOptions {
    fn default() -> MixOptions {
        MixOptions { weights: BTreeMap::new(), temperature: 1.0, token_budget: 0, maximum_epochs: 4.0 }
    }
}

impl MixOptions {
    /// The first mistake and its correction: a weight without an entry, an entry without a weight, numbers
    /// out of range.
    pub fn problem(&self, paths: &[String]) -> Option<String> {
        if !(0.1..=100.0).contains(&self.temperature) || !(0.01..=1000.0).contains(&self.maximum_epochs) {
            return Some(format!(
                "temperature = {}, maximum_epochs = {}: temperature must be from 0.1 to 100, maximum_epochs \
                 from 0.01 to 1000",
                self.temperature, self.maximum_epochs
            ));
        }
        if let Some((name, weight)) =
            self.weights.iter().find(|(_, weight)| !(weight.is_finite() && **weight >= 0.0))
        {
            return Some(format!("the weight {weight} of `{name}` must be a number of at least 0"));
        }
        if let Some(name) = self.weights.keys().find(|name| !paths.contains(name)) {
            return Some(format!("`{name}` has a weight but is not an entry of data.paths"));
        }
        if let Some(name) =
            paths.iter().find(|path| !self.weights.is_empty() && !self.weights.contains_key(*path))
        {
            return Some(format!(
                "`{name}` has no weight: set one for each entry of data.paths, or for none; 0 excludes an \
                 entry"
            ));
        }
        if !self.weights.is_empty() && self.weights.values().all(|&weight| weight == 0.0) {
            return Some("all weights are 0: there would be no training data".to_owned());
        }
        None
    }
}

/// A source's part of a mix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MixedSource {
    /// Number of documents available.
    pub documents: u64,
    /// Number of tokens available.
    pub available_tokens: u64,
    /// Number of epochs over the source.
    pub epochs: f64,
    /// Requested share of all tokens.
    pub asked_share: f64,
    /// Tokens written.
    pub tokens: u64,
}

/// The number of epochs over each source, from the tokens that each has.
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
    // Sources that reach their limit are settled first; the others share the rest.
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

/// The position in [0, 1) of a document whose text has this hash: the document is part of its source's last,
/// partial epoch if the position is below the epoch's fraction.
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
