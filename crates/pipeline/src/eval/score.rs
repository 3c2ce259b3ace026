//! Shares of right and valid turns.

use std::collections::BTreeMap;

use serde::Serialize;

use super::options::Sample;

/// A count out of a total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many.
    pub count: u64,
    /// Of how many.
    pub of: u64,
}

impl Share {
    /// From 0 to 1; NaN of nothing.
    pub fn value(self) -> f64 {
        self.count as f64 / self.of as f64
    }

    /// Standard error of the share, as of a binomial distribution.
    pub fn standard_error(self) -> f64 {
        (self.value() * (1.0 - self.value()) / self.of as f64).sqrt()
    }

    pub(super) fn add(&mut self, counts: bool) {
        self.of += 1;
        self.count += u64::from(counts);
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = |value: f64| Some(value).filter(|_| self.of > 0);
        serde_json::json!({
            "count": self.count, "of": self.of,
            "share": known(self.value()), "standard_error": known(self.standard_error()),
        })
        .serialize(serializer)
    }
}

/// Scores of some turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Scores {
    /// Turns with calls in the data: the calls made are equal.
    pub right_calls: Share,
    /// The same turns: what was called is valid JSON that fits a declared tool's schema.
    pub valid_calls: Share,
    /// Turns without calls in the data: none was made.
    pub right_without_call: Share,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The model.
    pub source: String,
    /// All turns.
    pub all: Scores,
    /// The turns of each group.
    pub groups: BTreeMap<String, Scores>,
    /// Answers that reached the longest length.
    pub truncated: u64,
    /// The voice of answers, if a classifier judged it.
    pub voice: Option<VoiceReport>,
}

impl Report {
    pub(super) fn new(source: String) -> Report {
        Report { source, all: Scores::default(), groups: BTreeMap::new(), truncated: 0, voice: None }
    }

    pub(super) fn add(&mut self, sample: &Sample, calls_expected: bool) {
        let group = sample.group.clone().map(|group| self.groups.entry(group).or_default());
        for scores in [Some(&mut self.all), group].into_iter().flatten() {
            if calls_expected {
                scores.right_calls.add(sample.right);
                scores.valid_calls.add(sample.calls && sample.problems.is_empty());
            } else {
                scores.right_without_call.add(sample.right);
            }
        }
        self.truncated += u64::from(sample.truncated);
    }
}

/// How often the classifier finds the label of an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VoiceReport {
    /// In the model's answers.
    pub generated: Share,
    /// In the data's own answers of the same turns: what could be reached.
    pub data: Share,
    /// The model's, by label.
    pub labels: BTreeMap<String, Share>,
}
