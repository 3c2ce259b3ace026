//! Statistics of the data stage: returned, written next to the documents, and shown to the user.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::contamination::{EvaluationSet, Overlap};
use crate::dedup::Repeated;
use crate::filter::names;
use crate::quarantine::{LISTED, NotFollowed, Quarantined};
use crate::redact::Redacted;
use crate::repair::Repairs;
use crate::{Document, DroppedDocument};

/// Samples of a reason, and of a cluster's documents.
const SAMPLES: usize = 5;
/// Number of clusters in the report.
const CLUSTERS: usize = 20;
/// Bytes of a text that are shown.
const SHOWN_BYTES: usize = 200;

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// `report.json` of the documents folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CorpusSummary {
    /// Files read.
    pub files: u64,
    /// Files passed over in folders for their extension.
    pub ignored_files: u64,
    /// Files and lines that could not be used.
    pub quarantined: u64,
    /// The first hundred of them, with the reason.
    pub quarantine: Vec<Quarantined>,
    /// Records of web archives that hold no page or text, by what they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passed_over: BTreeMap<String, u64>,
    /// Links and folders of the corpus that were not followed: circles, missing targets, too deep nesting.
    #[serde(default, skip_serializing_if = "NotFollowed::is_empty")]
    pub not_followed: NotFollowed,
    /// Documents found in the files.
    pub documents_read: u64,
    /// Dropped: shorter than `minimum_characters`, or nothing but white space.
    pub too_short: u64,
    /// Dropped: the text of an earlier document.
    pub duplicates: u64,
    /// Dropped: nearly the text of another document.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub near_duplicates: u64,
    /// Dropped by filters and block lists, by filter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drops: BTreeMap<String, Drops>,
    /// The largest clusters of near-duplicates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<Cluster>,
    /// Invalid UTF-8 sequences replaced by U+FFFD.
    pub repaired_sequences: u64,
    /// Other repairs, if the recipe enables repair.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub unicode: UnicodeRepairs,
    /// Personal data and secrets that were replaced, by class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub redactions: BTreeMap<String, Redactions>,
    /// Repeated spans that were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated_spans: Option<Repeated>,
    /// Repeated lines or paragraphs that were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated_lines: Option<Repeated>,
    /// Documents by the classifier's score, in halves of a point from 0 to 5, dropped ones included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<u64>,
    /// Documents by their perplexity under the recipe's model, in halves of its logarithm to base 2, dropped
    /// ones included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perplexities: Vec<u64>,
    /// Evaluation sets that were looked for, by file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evaluation_sets: BTreeMap<String, EvaluationSet>,
    /// Which documents held which of their items: the first thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlaps: Vec<Overlap>,
    /// Documents changed by Unicode NFC or by unifying line ends.
    pub normalized_documents: u64,
    /// Cuts made because a document was longer than `maximum_document_bytes`.
    pub cuts: u64,
    /// Documents of the training split.
    pub train: SplitCounts,
    /// Documents of the validation split.
    pub validation: SplitCounts,
    /// Whether the stage was already done and its folder still good.
    #[serde(skip)]
    pub reused: bool,
}

/// Counts of character repairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnicodeRepairs {
    /// Documents in which something was.
    pub documents: u64,
    /// Misread sequences that were read again.
    pub mojibake: u64,
    /// Control characters removed.
    pub control_characters: u64,
    /// Zero-width characters removed.
    pub zero_width: u64,
    /// Misread sequences of the first few documents.
    pub samples: Vec<Sample>,
}

fn is_empty(repairs: &UnicodeRepairs) -> bool {
    *repairs == UnicodeRepairs::default()
}

/// Redactions of one class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Redactions {
    /// Number of values.
    pub values: u64,
    /// Number of documents.
    pub documents: u64,
    /// How many by kind: which maker's key, which country's number.
    pub kinds: BTreeMap<String, u64>,
    /// The first few of each kind; letters and digits of the value are masked.
    pub samples: Vec<Sample>,
}

/// Drops of one filter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drops {
    /// Number of documents.
    pub documents: u64,
    /// Number of documents by reason.
    pub reasons: BTreeMap<String, u64>,
    /// The first few of each reason.
    pub samples: Vec<Sample>,
}

/// A dropped document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Its source.
    pub source: String,
    /// The rule that dropped it.
    pub reason: String,
    /// The beginning of its text.
    pub start: String,
}

/// Documents that are nearly the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Number of documents in the cluster.
    pub documents: u64,
    /// The document that is kept.
    pub survivor: String,
    /// The beginning of its text.
    pub start: String,
    /// Some of the others.
    pub others: Vec<String>,
}

/// Finds the largest clusters while documents go by.
pub(crate) struct ClusterReport {
    /// By kept document: sizes, then details of the largest clusters.
    largest: BTreeMap<u32, Cluster>,
    dropped: u64,
}

impl ClusterReport {
    pub(crate) fn see(&mut self, index: u32, survivor: u32, document: &Document) {
        self.dropped += u64::from(index != survivor);
        let Some(cluster) = self.largest.get_mut(&survivor) else { return };
        if index == survivor {
            cluster.survivor.clone_from(&document.source);
            cluster.start = document.text[..document.text.floor_char_boundary(SHOWN_BYTES)].to_owned();
        } else if cluster.others.len() < SAMPLES {
            cluster.others.push(document.source.clone());
        }
    }
}

/// The documents of one split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitCounts {
    /// Number of documents.
    pub documents: u64,
    /// Bytes of UTF-8.
    pub bytes: u64,
    /// Number of characters.
    pub characters: u64,
    /// Bytes by language (ISO 639-1); `und` where it is not known.
    pub languages: BTreeMap<String, u64>,
    /// Bytes by entry of `data.paths`, where the recipe mixes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub domains: BTreeMap<String, u64>,
}

impl SplitCounts {
    pub(crate) fn add(&mut self, document: &Document) {
        self.documents += 1;
        self.bytes += document.text.len() as u64;
        self.characters += document.text.chars().count() as u64;
        *self.languages.entry(language_key(document)).or_default() += document.text.len() as u64;
        if let Some(domain) = &document.domain {
            *self.domains.entry(domain.clone()).or_default() += document.text.len() as u64;
        }
    }

    pub(crate) fn remove(&mut self, document: &Document) {
        self.documents -= 1;
        self.bytes -= document.text.len() as u64;
        self.characters -= document.text.chars().count() as u64;
        if let Some(bytes) = document.domain.as_ref().and_then(|domain| self.domains.get_mut(domain)) {
            *bytes -= document.text.len() as u64;
        }
        let key = language_key(document);
        if let Some(bytes) = self.languages.get_mut(&key) {
            *bytes -= document.text.len() as u64;
            if *bytes == 0 {
                self.languages.remove(&key);
            }
        }
    }
}

fn language_key(document: &Document) -> String {
    document.language.clone().unwrap_or_else(|| "und".to_owned())
}

impl CorpusSummary {
    /// Documents kept, of both splits.
    pub fn documents(&self) -> u64 {
        self.train.documents + self.validation.documents
    }

    /// Bytes kept, of both splits.
    pub fn bytes(&self) -> u64 {
        self.train.bytes + self.validation.bytes
    }

    /// Languages by bytes, most first, of both splits.
    pub fn languages(&self) -> Vec<(String, u64)> {
        let mut sums = self.train.languages.clone();
        for (language, bytes) in &self.validation.languages {
            *sums.entry(language.clone()).or_default() += bytes;
        }
        let mut sorted: Vec<_> = sums.into_iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        sorted
    }

    pub(crate) fn drop(&mut self, filter: &str, reason: &str, source: &str, text: &str) {
        // Too short ones have a count of their own, as ever.
        if filter == names::TOO_SHORT {
            return;
        }
        let drops = self.drops.entry(filter.to_owned()).or_default();
        drops.documents += 1;
        let count = drops.reasons.entry(reason.to_owned()).or_default();
        *count += 1;
        if *count <= SAMPLES as u64 {
            let start = text[..text.floor_char_boundary(SHOWN_BYTES)].to_owned();
            drops.samples.push(Sample { source: source.to_owned(), reason: reason.to_owned(), start });
        }
    }

    /// The samples of what was dropped, as documents.
    pub fn drop_samples(&self) -> Vec<DroppedDocument> {
        let of = |filter: &String, sample: &Sample| DroppedDocument {
            filter: filter.clone(),
            reason: sample.reason.clone(),
            source: sample.source.clone(),
            text: sample.start.clone(),
        };
        self.drops
            .iter()
            .flat_map(|(filter, drops)| drops.samples.iter().map(move |sample| of(filter, sample)))
            .collect()
    }

    pub(crate) fn see_perplexity(&mut self, perplexity: Option<f32>) {
        const HALVES: usize = 40;
        let Some(perplexity) = perplexity else { return };
        let half = (perplexity.log2() * 2.0) as usize;
        self.perplexities.resize(self.perplexities.len().max(half.min(HALVES) + 1), 0);
        self.perplexities[half.min(HALVES)] += 1;
    }

    pub(crate) fn see_score(&mut self, score: Option<f32>) {
        const HALVES: usize = 10;
        let Some(score) = score else { return };
        self.scores.resize(HALVES, 0);
        self.scores[((score * 2.0) as usize).min(HALVES - 1)] += 1;
    }

    pub(crate) fn see_repairs(&mut self, source: &str, repairs: &Repairs) {
        let sums = &mut self.unicode;
        sums.documents += u64::from(repairs.any());
        sums.mojibake += repairs.mojibake;
        sums.control_characters += repairs.control_characters;
        sums.zero_width += repairs.zero_width;
        if let Some(start) = repairs.sample.clone().filter(|_| sums.samples.len() < 4 * SAMPLES) {
            sums.samples.push(Sample { source: source.to_owned(), reason: "mojibake".to_owned(), start });
        }
    }

    pub(crate) fn see_redactions(&mut self, source: &str, redacted: Redacted) {
        for (at, (class, kind, start)) in redacted.samples.iter().enumerate() {
            let sums = self.redactions.entry(class.name().to_owned()).or_default();
            let before = sums.kinds.get(kind.as_ref()).copied().unwrap_or(0);
            let here = redacted.samples[..=at].iter().filter(|other| other.0 == *class && other.1 == *kind);
            if before + here.count() as u64 <= SAMPLES as u64 {
                let (reason, start) = (kind.to_string(), start.clone());
                sums.samples.push(Sample { source: source.to_owned(), reason, start });
            }
        }
        let mut classes = Vec::new();
        for (class, kind, count) in redacted.counts {
            let sums = self.redactions.entry(class.name().to_owned()).or_default();
            sums.values += count;
            sums.documents += u64::from(!classes.contains(&class));
            classes.push(class);
            *sums.kinds.entry(kind.into_owned()).or_default() += count;
        }
    }

    /// Starts the cluster statistics; `survivors` has the kept document of each document.
    pub(crate) fn begin_clusters(&self, survivors: &[u32]) -> ClusterReport {
        let mut sizes: HashMap<u32, u64> = HashMap::new();
        for (index, &survivor) in (0u32..).zip(survivors) {
            if index != survivor {
                *sizes.entry(survivor).or_insert(1) += 1;
            }
        }
        let mut largest: Vec<(u32, u64)> = sizes.into_iter().collect();
        largest.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        largest.truncate(CLUSTERS);
        let cluster = |documents| Cluster { documents, ..Cluster::default() };
        ClusterReport {
            largest: largest.into_iter().map(|(at, size)| (at, cluster(size))).collect(),
            dropped: 0,
        }
    }

    pub(crate) fn end_clusters(&mut self, report: ClusterReport) {
        self.near_duplicates = report.dropped;
        let mut largest: Vec<(u32, Cluster)> = report.largest.into_iter().collect();
        largest.sort_by(|a, b| b.1.documents.cmp(&a.1.documents).then(a.0.cmp(&b.0)));
        self.clusters = largest.into_iter().map(|(_, cluster)| cluster).collect();
    }

    pub(crate) fn quarantine(&mut self, source: &str, reason: &str) {
        self.quarantined += 1;
        if self.quarantine.len() < LISTED {
            self.quarantine.push(Quarantined { source: source.to_owned(), reason: reason.to_owned() });
        }
    }
}
