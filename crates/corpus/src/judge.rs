//! What is done to each document alone, and so on all threads: its text found, its language told, filters, signature.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::dedup::{Band, Signer};
use crate::filter::{self, Dropped, Scratch, UrlFilter, names};
use crate::read::{Content, RawDocument};
use crate::{CorpusOptions, Document, clean, extract, language};

/// A document's verdict.
pub struct Judged {
    pub outcome: Result<Document, Dropped>,
    /// Why it could not be read at all, where that only shows here.
    pub unreadable: Option<String>,
    /// What its bands are, where near-duplicates are looked for.
    pub bands: Option<Vec<Band>>,
    /// Of a dropped one: where it came from, and the start of its text.
    pub source: String,
    pub start: String,
    pub repaired: u64,
    pub normalized: bool,
}

/// Characters of a dropped document that the report shows.
const SHOWN_BYTES: usize = 200;
/// Pages with an element that is never closed flatten some thousands of elements; more is made to hurt.
const MOST_FLATTENED_ELEMENTS: u32 = 50_000;

/// A thread's working memory.
pub struct Judge<'a> {
    options: &'a CorpusOptions,
    urls: &'a UrlFilter,
    scratch: Scratch,
    signer: Option<Signer>,
}

impl<'a> Judge<'a> {
    pub fn new(options: &'a CorpusOptions, urls: &'a UrlFilter) -> Judge<'a> {
        let signer = options.near_duplicates.as_ref().map(Signer::new);
        Judge { options, urls, scratch: Scratch::default(), signer }
    }

    /// The verdict. A document that makes this program fail is quarantined; the others go on.
    pub fn judge(&mut self, raw: RawDocument) -> Judged {
        let source = raw.source.clone();
        let verdict = catch_unwind(AssertUnwindSafe(|| self.verdict(raw)));
        verdict.unwrap_or_else(|_| {
            self.scratch = Scratch::default();
            self.signer = self.options.near_duplicates.as_ref().map(Signer::new);
            let reason = "made this program fail: please report it, with the file".to_owned();
            Judged { unreadable: Some(reason), ..Judged::undecided(source) }
        })
    }

    fn verdict(&mut self, raw: RawDocument) -> Judged {
        let mut judged = Judged::undecided(raw.source);
        let (mut url, mut title, mut date, mut told) = (raw.url, None, None, raw.language);
        let text = match raw.content {
            Content::Text(text) => text,
            Content::Html(bytes, charset) => {
                let (page, repaired) = extract::decode(&bytes, charset.as_deref());
                judged.repaired = repaired;
                let found = extract::extract(&page, self.options.extraction);
                if found.flattened_elements > MOST_FLATTENED_ELEMENTS {
                    let flattened = found.flattened_elements;
                    judged.unreadable =
                        Some(format!("has {flattened} elements nested deeper than any browser shows"));
                    return judged;
                }
                url = url.or(found.metadata.url);
                (title, date) = (found.metadata.title, found.metadata.date);
                told = told.or_else(|| language::detect(&found.text));
                let (text, changed) = clean::normalize(found.text, self.options.normalize);
                judged.normalized = changed;
                text
            }
            #[cfg(feature = "pdf")]
            Content::Pdf(bytes) => match crate::pdf::text(&bytes) {
                Ok(text) => {
                    let (text, changed) = clean::normalize(text, self.options.normalize);
                    judged.normalized = changed;
                    text
                }
                Err(reason) => {
                    judged.unreadable = Some(reason);
                    return judged;
                }
            },
        };
        if let Some(reason) = url.as_deref().and_then(|url| self.urls.judge(url)) {
            return judged.drop(&text, names::URL, reason);
        }
        if text.trim().chars().count() < self.options.minimum_characters.max(1) {
            return judged.drop(&text, names::TOO_SHORT, "minimum_characters");
        }
        if let Err(reason) = self.language(&text, &mut told) {
            return judged.drop(&text, names::LANGUAGE, reason);
        }
        let text = match filter::judge(&text, &self.options.filters, &mut self.scratch) {
            Ok(Cow::Owned(cleaned)) => cleaned,
            Ok(Cow::Borrowed(_)) => text,
            Err(dropped) => return judged.drop(&text, dropped.filter, dropped.reason),
        };
        judged.bands = self.signer.as_mut().and_then(|signer| signer.sign(&text));
        let language = told.or_else(|| language::detect(&text));
        let source = judged.source.clone();
        judged.outcome = Ok(Document { url, title, date, ..Document::new(text, source, language) });
        judged
    }

    /// Whether a text's language is wanted; where it is told by its source, that is believed.
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

impl Judged {
    fn undecided(source: String) -> Judged {
        Judged {
            outcome: Err(Dropped { filter: names::TOO_SHORT, reason: "minimum_characters" }),
            unreadable: None,
            bands: None,
            source,
            start: String::new(),
            repaired: 0,
            normalized: false,
        }
    }

    fn drop(mut self, text: &str, filter: &'static str, reason: &'static str) -> Judged {
        self.start = text[..text.floor_char_boundary(SHOWN_BYTES)].to_owned();
        self.outcome = Err(Dropped { filter, reason });
        self
    }
}
