//! Processes each document on its own, on all threads: extraction, language, filters, signature.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::classifier::HIGHEST_SCORE;
use crate::dedup::{Band, Signer};
use crate::filter::{self, Dropped, Scratch, names};
use crate::read::{Content, LONGEST_ADDRESS_BYTES, RawDocument};
use crate::redact::{Redacted, Redactor};
use crate::repair::{Repairs, repair};
use crate::rules::Rules;
use crate::{CorpusOptions, Document, clean, extract, language, words};

/// The filter decision for a document. Ranks write it to disk; values at their defaults are omitted.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct FilteredDocument {
    pub outcome: Result<Document, Cause>,
    /// Why it could not be read at all, where that only shows here.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unreadable: Option<String>,
    /// Its MinHash bands, if near-duplicates are dropped.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bands: Option<Vec<Band>>,
    /// For a dropped document: its source and the start of its text.
    pub source: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub repaired: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub normalized: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub repairs: Repairs,
    #[serde(default, skip_serializing_if = "is_default")]
    pub redacted: Redacted,
    /// Score of the quality classifier.
    #[serde(default, skip_serializing_if = "is_default")]
    pub score: Option<f32>,
    /// Perplexity under the recipe's model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub perplexity: Option<f32>,
    /// Evaluation items in a dropped document, and the shared words.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlaps: Vec<(u32, String)>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The filter and the reason that dropped a document: [`Dropped`], as read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub filter: Cow<'static, str>,
    pub reason: Cow<'static, str>,
}

impl From<Dropped> for Cause {
    fn from(Dropped { filter, reason }: Dropped) -> Cause {
        Cause { filter: filter.into(), reason: reason.into() }
    }
}

/// Characters of a dropped document that the report shows.
const SHOWN_BYTES: usize = 200;
/// Pages with an element that is never closed flatten some thousands of elements; more is made to hurt.
const MOST_FLATTENED_ELEMENTS: u32 = 50_000;
/// Filters note some hundred bytes for each word of a document, marks included. One of more than so many …
const FREE_WORDS: usize = 1 << 19;
/// … and one in so many bytes …
const BYTES_PER_WORD: usize = 4;
/// … or more than so many goes through them in parts of [`FREE_WORDS`].
const MOST_WORDS: usize = 4 << 20;
/// Working memory of a longer text is not kept for the next one.
const KEPT_FOR_BYTES: usize = 1 << 20;
/// As many more are redacted with them, so that no value is cut where it is not known any more.
const REDACTED_BYTES: usize = 4096;

/// A thread's working memory.
pub struct DocumentFilter<'a> {
    rules: &'a Rules<'a>,
    options: &'a CorpusOptions,
    scratch: Scratch,
    signer: Option<Signer>,
    redactor: Option<Redactor>,
    features: Vec<u32>,
}

impl<'a> DocumentFilter<'a> {
    pub fn new(rules: &'a Rules<'a>) -> DocumentFilter<'a> {
        let options = rules.options;
        let signer = options.near_duplicates.as_ref().map(Signer::new);
        let redactor = options.redact.as_ref().map(Redactor::new);
        DocumentFilter { rules, options, scratch: Scratch::default(), signer, redactor, features: Vec::new() }
    }

    /// Decides on a document. A document that causes a panic is quarantined; the others go on.
    pub fn filter(&mut self, raw: RawDocument) -> FilteredDocument {
        let source = raw.source.clone();
        let decision = store::panics::catch(|| self.decision(raw));
        decision.unwrap_or_else(|| {
            self.scratch = Scratch::default();
            self.signer = self.options.near_duplicates.as_ref().map(Signer::new);
            self.redactor = self.options.redact.as_ref().map(Redactor::new);
            let reason = "caused an internal error: please report it with the file".to_owned();
            FilteredDocument { unreadable: Some(reason), ..FilteredDocument::undecided(source) }
        })
    }

    fn decision(&mut self, raw: RawDocument) -> FilteredDocument {
        let mut filtered = FilteredDocument::undecided(raw.source);
        let (mut url, mut title, mut date, mut told) = (raw.url, None, None, raw.language);
        let text = match raw.content {
            Content::Text(text) => text,
            Content::Html(bytes, charset) => {
                let (page, repaired) = extract::decode(&bytes, charset.as_deref());
                filtered.repaired = repaired;
                let found = extract::extract(&page, self.options.extraction);
                if found.flattened_elements > MOST_FLATTENED_ELEMENTS {
                    let flattened = found.flattened_elements;
                    filtered.unreadable = Some(format!("has {flattened} elements nested too deeply"));
                    return filtered;
                }
                if found.is_cut {
                    filtered.unreadable = Some("has too many elements for a page: split it".to_owned());
                    return filtered;
                }
                url = url.or(found.metadata.url).filter(|url| url.len() <= LONGEST_ADDRESS_BYTES);
                (title, date) = (found.metadata.title, found.metadata.date);
                let (text, changed) = clean::normalize(found.text, self.options.normalize);
                filtered.normalized = changed;
                text
            }
            #[cfg(feature = "pdf")]
            Content::Pdf(bytes) => match crate::pdf::text(&bytes) {
                Ok(text) => {
                    let (text, changed) = clean::normalize(text, self.options.normalize);
                    filtered.normalized = changed;
                    text
                }
                Err(reason) => {
                    filtered.unreadable = Some(reason);
                    return filtered;
                }
            },
        };
        let text = self.repaired(text, &mut filtered);
        if let Some(reason) = url.as_deref().and_then(|url| self.rules.urls.filter(url)) {
            return self.dropped(filtered, &text, names::URL, reason);
        }
        if text.trim().chars().count() < self.options.minimum_characters.max(1) {
            return self.dropped(filtered, &text, names::TOO_SHORT, "minimum_characters");
        }
        if let Err(reason) = self.language(&text, &mut told) {
            return self.dropped(filtered, &text, names::LANGUAGE, reason);
        }
        let most_words = MOST_WORDS.min(FREE_WORDS + text.len() / BYTES_PER_WORD);
        let filters = &self.options.filters;
        let cleaned = if filters.count_words() && words::are_more_than(&text, most_words) {
            filter::filter_in_parts(&text, FREE_WORDS, filters, &mut self.scratch)
        } else {
            filter::filter(&text, filters, &mut self.scratch)
        };
        if text.len() > KEPT_FOR_BYTES {
            self.scratch = Scratch::default();
        }
        let text = match cleaned {
            Ok(Cow::Owned(cleaned)) => cleaned,
            Ok(Cow::Borrowed(_)) => text,
            Err(dropped) => return self.dropped(filtered, &text, dropped.filter, dropped.reason),
        };
        if let Some(reason) = self.score(&text, &mut filtered) {
            return self.dropped(filtered, &text, names::CLASSIFIER, reason);
        }
        match self.perplexity(&text, &mut filtered) {
            Ok(None) => {}
            Ok(Some(reason)) => return self.dropped(filtered, &text, names::PERPLEXITY, reason),
            Err(error) => {
                filtered.unreadable = Some(format!("could not be filtered: {error}"));
                return filtered;
            }
        }
        if let Some(items) = &self.rules.evaluations {
            filtered.overlaps =
                items.find(&text).into_iter().map(|(item, words)| (item, words.to_owned())).collect();
            if !filtered.overlaps.is_empty() {
                return self.dropped(filtered, &text, names::CONTAMINATION, "ngram_overlap");
            }
        }
        filtered.bands = self.signer.as_mut().and_then(|signer| signer.sign(&text));
        let language = told.or_else(|| language::detect(&text));
        let text = match &mut self.redactor {
            Some(redactor) => {
                title = title.map(|title| redactor.redact(&title).0.into_owned());
                url = url.map(|url| redactor.redact_address(&url));
                let (redacted, done) = redactor.redact(&text);
                filtered.redacted = done;
                match redacted {
                    Cow::Owned(redacted) => redacted,
                    Cow::Borrowed(_) => text,
                }
            }
            None => text,
        };
        let source = filtered.source.clone();
        filtered.outcome =
            Ok(Document { url, title, date, score: filtered.score, ..Document::new(text, source, language) });
        filtered
    }

    /// Notes the classifier's score; why a document goes for it.
    fn score(&mut self, text: &str, filtered: &mut FilteredDocument) -> Option<&'static str> {
        let (model, options) = self.rules.classifier.as_ref().zip(self.options.classifier.as_ref())?;
        let score = model.score(text, &mut self.features);
        filtered.score = Some(score as f32);
        if score < options.minimum_score() {
            return Some("minimum_score");
        }
        let place = || {
            let mut first = [0; 8];
            first.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[8..16]);
            (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
        };
        (options.as_weight && place() >= score / HIGHEST_SCORE).then_some("as_weight")
    }

    /// Notes the perplexity under the recipe's model; why a document goes for it.
    fn perplexity(&self, text: &str, filtered: &mut FilteredDocument) -> crate::Result<Option<&'static str>> {
        let Some(model) = &self.rules.perplexity else { return Ok(None) };
        let Some(perplexity) = model.of(text)? else { return Ok(None) };
        // Not finite is no number in JSON, where ranks write it down.
        filtered.perplexity =
            Some(if perplexity.is_nan() { f32::MAX } else { perplexity.min(f64::from(f32::MAX)) as f32 });
        Ok(model.filter(perplexity))
    }

    /// The repaired text, if the recipe enables repair.
    fn repaired(&self, text: String, filtered: &mut FilteredDocument) -> String {
        let Some(options) = &self.options.repair else { return text };
        match repair(&text, options, self.redactor.is_none()) {
            (Cow::Owned(repaired), repairs) => {
                filtered.repairs = repairs;
                let (text, changed) = clean::normalize(repaired, self.options.normalize);
                filtered.normalized |= changed;
                text
            }
            (Cow::Borrowed(_), _) => text,
        }
    }

    /// Kept parts of a dropped document are redacted too.
    fn dropped(
        &mut self,
        mut filtered: FilteredDocument,
        text: &str,
        filter: &'static str,
        reason: &'static str,
    ) -> FilteredDocument {
        let kept = if self.options.keep_dropped { text.len() } else { SHOWN_BYTES + REDACTED_BYTES };
        let text = &text[..text.floor_char_boundary(kept)];
        let redacted = self.redactor.as_mut().map(|redactor| redactor.redact(text).0);
        let text = redacted.as_deref().unwrap_or(text);
        let shown = if self.options.keep_dropped { text.len() } else { SHOWN_BYTES };
        filtered.start = text[..text.floor_char_boundary(shown)].to_owned();
        if let Some(redactor) = &mut self.redactor {
            filtered
                .overlaps
                .iter_mut()
                .for_each(|(_, words)| *words = redactor.redact(words).0.into_owned());
        }
        filtered.outcome = Err(Dropped { filter, reason }.into());
        filtered
    }

    /// Whether a text's language is wanted; a language given by the source is not checked.
    fn language(&self, text: &str, told: &mut Option<String>) -> Result<(), &'static str> {
        let options = &self.options.filters;
        if options.languages.is_empty() {
            return Ok(());
        }
        let wanted = |code: &str| options.languages.iter().any(|language| language == code);
        if let Some(told) = told {
            return if wanted(told) { Ok(()) } else { Err("not_wanted") };
        }
        match language::likeliest(text) {
            Some((code, _)) if !wanted(code) => Err("not_wanted"),
            Some((code, probability)) if probability >= options.minimum_language_probability => {
                *told = Some(code.to_owned());
                Ok(())
            }
            _ => Err("not_sure"),
        }
    }
}

impl FilteredDocument {
    fn undecided(source: String) -> FilteredDocument {
        FilteredDocument {
            outcome: Err(Dropped { filter: names::TOO_SHORT, reason: "minimum_characters" }.into()),
            unreadable: None,
            bands: None,
            source,
            start: String::new(),
            repaired: 0,
            normalized: false,
            repairs: Repairs::default(),
            redacted: Redacted::default(),
            score: None,
            perplexity: None,
            overlaps: Vec::new(),
        }
    }
}
