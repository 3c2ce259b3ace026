//! What a change of an option does to a run that has begun, and what names a run's options.

use serde_json::{Map, Value};

use crate::options::TrainOptions;
use crate::ranges;

/// The effect of changing a key within a run.
///
/// The schema states it for each key as `x-change`; a key without it is [`Change::Fixed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key determines batches, arithmetic or the length of the run: it cannot be changed within a run.
    Fixed,
    /// The key may be changed within a run; weights differ from then on.
    Tunable,
    /// The key affects reports, kept files or memory use: weights do not depend on it.
    Reporting,
}

impl Change {
    /// The effect of changing a key of `[train]`.
    pub fn of(key: &str) -> Change {
        match ranges::schema()["properties"][key]["x-change"].as_str() {
            Some("tunable") => Change::Tunable,
            Some("reporting") => Change::Reporting,
            _ => Change::Fixed,
        }
    }
}

impl TrainOptions {
    /// The options that determine the weights, by key: all except those that only report.
    pub fn deciding(&self) -> Map<String, Value> {
        self.of_changes(|change| change != Change::Reporting)
    }

    /// These options, with those keys taken from `other` whose [`Change`] satisfies `wanted`.
    pub fn with(&self, other: &TrainOptions, wanted: impl Fn(Change) -> bool) -> TrainOptions {
        let mut merged = self.of_changes(|_| true);
        merged.extend(other.of_changes(wanted));
        serde_json::from_value(Value::Object(merged)).expect("invariant: both were options")
    }

    /// The options whose [`Change`] satisfies `wanted`, by key.
    fn of_changes(&self, wanted: impl Fn(Change) -> bool) -> Map<String, Value> {
        let Ok(Value::Object(mut values)) = serde_json::to_value(self) else { return Map::new() };
        values.retain(|key, _| wanted(Change::of(key)));
        values
    }

    /// The options that must match for a checkpoint to be continued: the fixed ones, except the length of the
    /// run, which `--more-…` changes, and the micro-batch, which each machine chooses.
    pub(crate) fn of_stream(&self) -> Map<String, Value> {
        let mut fixed = self.of_changes(|change| change == Change::Fixed);
        for key in ["epochs", "steps", "phase", "micro_batch_size"] {
            fixed.remove(key);
        }
        fixed
    }

    /// The fingerprint of these options in a checkpoint's manifest: BLAKE3 over the options that determine
    /// the weights, without the micro-batch, which each machine chooses.
    pub fn hash(&self) -> String {
        let mut deciding = self.deciding();
        deciding.remove("micro_batch_size");
        store::manifest::hash_json(&Value::Object(deciding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_known_and_a_key_is_fixed_unless_it_says_otherwise() {
        let options = TrainOptions::default();
        let of = |change| options.of_changes(|of| of == change).keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            of(Change::Fixed),
            [
                "epochs",
                "steps",
                "batch_size",
                "micro_batch_size",
                "sequence_length",
                "precision",
                "optimizer",
                "ema_decay",
                "seed"
            ]
        );
        assert_eq!(of(Change::Reporting).len(), 7);
        for (key, property) in ranges::schema()["properties"].as_object().unwrap() {
            let said = &property["x-change"];
            assert!(said.is_null() || said == "tunable" || said == "reporting", "{key}: {said}");
        }
    }

    #[test]
    fn what_only_reports_does_not_make_another_run() {
        let options = TrainOptions::default();
        let mut other = options.clone();
        other.sample_prompts = vec!["Once".to_owned()];
        (other.keep_last, other.recompute, other.sample_conversations) = (7, true, 0);
        assert_eq!((options.hash(), options.deciding()), (other.hash(), other.deciding()));
        other.beta2 = 0.99;
        assert!(options.hash() != other.hash() && options.of_stream() == other.of_stream());
        other.seed = 1;
        assert!(options.of_stream() != other.of_stream());
    }
}
