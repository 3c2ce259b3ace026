//! Whether answers sound like their label: one classifier per label, and the surest of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use corpus::classifier::train::{Example, TrainingOptions};
use corpus::classifier::{Classifier, HIGHEST_SCORE};
use corpus::examples::Records;
use serde_json::Value;
use store::fs::RealFs;
use tokenizer::chat::{Answer, Record, role};

use super::questions::named;
use super::score::{Share, VoiceReport};
use crate::{Error, Result};

/// Most labels: each has a classifier.
const MOST_LABELS: usize = 64;

/// A classifier for each label.
pub(super) struct VoiceClassifier {
    classifiers: BTreeMap<String, Classifier>,
}

/// Trains on the assistants' texts of the conversations in `files`, each labelled by the record's `key`.
///
/// # Errors
/// Files that cannot be read; fewer than two labels, or too many.
pub(super) fn train(key: &str, files: &[String], base_dir: &Path) -> Result<VoiceClassifier> {
    let mut texts: Vec<(String, String)> = Vec::new();
    Records::find(&RealFs, files, base_dir)?.each(&RealFs, &mut |_, record| {
        let Ok(value) = record else { return Ok(()) };
        if let (Ok(Record::Conversation(conversation)), false) = (Record::read(&value), value[key].is_null())
        {
            let label = named(&value[key]);
            let said = conversation.messages.iter().filter(|message| {
                role(message) == "assistant" && Answer::calls_of(message).is_ok_and(|calls| calls.is_empty())
            });
            let said = said.filter_map(|message| message.get("content").and_then(Value::as_str));
            texts.extend(said.map(|text| (label.clone(), text.to_owned())));
        }
        Ok(())
    })?;
    let labels: BTreeSet<&String> = texts.iter().map(|(label, _)| label).collect();
    if !(2..=MOST_LABELS).contains(&labels.len()) {
        return Err(Error::Data {
            message: format!(
                "the answers in {} have {} different values of `{key}`: from 2 to {MOST_LABELS} are needed",
                files.join(", "),
                labels.len()
            ),
        });
    }
    let mut classifiers = BTreeMap::new();
    for label in labels {
        let example = |(own, text): &(String, String)| {
            let score = if own == label { HIGHEST_SCORE } else { 0.0 };
            Example { text: text.clone(), score }
        };
        let examples: Vec<Example> = texts.iter().map(example).collect();
        let options = TrainingOptions { epochs: 2, ..TrainingOptions::default() };
        let (classifier, _) = corpus::classifier::train::train(&examples, &options)?;
        classifiers.insert(label.clone(), classifier);
    }
    Ok(VoiceClassifier { classifiers })
}

impl VoiceClassifier {
    /// The label that a text sounds like.
    fn label(&self, text: &str, features: &mut Vec<u32>) -> &str {
        let scored = self.classifiers.iter().map(|(label, one)| (label, one.score(text, features)));
        let best = scored.max_by(|left, right| left.1.total_cmp(&right.1));
        best.map_or("", |(label, _)| label)
    }

    /// Judges answers, each as its label, the data's text, and the model's.
    pub(super) fn judge(&self, answers: &[(String, String, String)]) -> VoiceReport {
        let mut report =
            VoiceReport { generated: Share::default(), data: Share::default(), labels: BTreeMap::new() };
        let mut features = Vec::new();
        // A label that the training data do not have cannot be recognized.
        let known = answers.iter().filter(|(label, ..)| self.classifiers.contains_key(label));
        for (label, data, generated) in known {
            let is_right = self.label(generated, &mut features) == label;
            report.generated.add(is_right);
            report.labels.entry(label.clone()).or_default().add(is_right);
            report.data.add(self.label(data, &mut features) == label);
        }
        report
    }
}
