//! What is done to each document alone, and so on all threads: its text found, its language told, filters, signature.

use std::borrow::Cow;

use crate::dedup::{Band, Signer};
use crate::filter::{self, Dropped, Scratch, UrlFilter, names};
use crate::read::{Content, RawDocument};
use crate::{CorpusOptions, Document, clean, extract, language};

/// A document's verdict.
pub struct Judged {
    pub outcome: Result<Document, Dropped>,
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

    pub fn judge(&mut self, raw: RawDocument) -> Judged {
        let mut judged = Judged {
            outcome: Err(Dropped { filter: names::TOO_SHORT, reason: "minimum_characters" }),
            bands: None,
            source: raw.source,
            start: String::new(),
            repaired: 0,
            normalized: false,
        };
        let (mut url, mut title, mut date, mut told) = (raw.url, None, None, raw.language);
        let text = match raw.content {
            Content::Text(text) => text,
            Content::Html(bytes, charset) => {
                let (page, repaired) = extract::decode(&bytes, charset.as_deref());
                let found = extract::extract(&page, self.options.extraction);
                judged.repaired = repaired;
                url = url.or(found.metadata.url);
                (title, date) = (found.metadata.title, found.metadata.date);
                told = told.or_else(|| language::detect(&found.text));
                let (text, changed) = clean::normalize(found.text, self.options.normalize);
                judged.normalized = changed;
                text
            }
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
    fn drop(mut self, text: &str, filter: &'static str, reason: &'static str) -> Judged {
        self.start = text[..text.floor_char_boundary(SHOWN_BYTES)].to_owned();
        self.outcome = Err(Dropped { filter, reason });
        self
    }
}
