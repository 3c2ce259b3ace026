//! Where readers put what they find.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cut::cut_place;
use super::unpack::Budget;
use crate::quarantine::Quarantined;
use crate::{CorpusOptions, Result, clean, language};

/// A longer address is data.
pub const LONGEST_ADDRESS_BYTES: usize = 8 << 10;

/// A document before filtering.
pub struct RawDocument {
    pub content: Content,
    pub source: String,
    pub language: Option<String>,
    pub url: Option<String>,
}

/// The content of a document before filtering.
pub enum Content {
    /// Text, repaired and normalized.
    Text(String),
    /// A page as it was sent, and the encoding that the server named. Its text is found later, on all
    /// threads.
    Html(Vec<u8>, Option<String>),
    /// A PDF, likewise.
    #[cfg(feature = "pdf")]
    Pdf(Vec<u8>),
}

/// An item of a source, in order.
pub enum Found {
    Document(RawDocument),
    /// A member, line or record that cannot be used.
    PassedOver(Quarantined),
}

/// Counts of reading a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCounts {
    pub repaired_sequences: u64,
    pub normalized_documents: u64,
    pub cuts: u64,
    /// Members of archives that were passed over for their extension.
    pub ignored_files: u64,
    /// Web-archive records without a page, by type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passed_over: BTreeMap<String, u64>,
}

impl ReadCounts {
    pub(super) fn see_other(&mut self, what: &str) {
        *self.passed_over.entry(what.to_owned()).or_default() += 1;
    }
}

/// Receives items of a source, and counts what reading did to it.
pub struct Sink<'a> {
    pub options: &'a CorpusOptions,
    /// The field or column of the text in this source's rows.
    pub text_field: &'a str,
    /// The article that rows are joined to, where each is a line of one.
    pub article: Option<Article>,
    /// Number of documents so far.
    pub documents: u64,
    pub counts: ReadCounts,
    /// Remaining limits of the file; set when it is opened.
    pub budget: Option<Arc<Budget>>,
    pub take: &'a mut dyn FnMut(Found) -> Result<()>,
}

impl Sink<'_> {
    pub(super) fn take(&mut self, text: String, source: String, language: Option<String>) -> Result<()> {
        self.raw(RawDocument { content: Content::Text(text), source, language, url: None })
    }

    pub(super) fn raw(&mut self, raw: RawDocument) -> Result<()> {
        if !self.has_room() {
            return Ok(());
        }
        self.documents += 1;
        (self.take)(Found::Document(raw))
    }

    /// Whether the file may give one more. What comes too much is not taken, and `read` says so.
    pub(super) fn has_room(&self) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.take_item())
    }

    pub(super) fn pass_over(&mut self, source: &str, reason: impl Into<String>) -> Result<()> {
        if !self.has_room() {
            return Ok(());
        }
        (self.take)(Found::PassedOver(Quarantined { source: source.to_owned(), reason: reason.into() }))
    }

    /// Adds a row: a document, or a line of an article that ends at the next title.
    pub(super) fn row(&mut self, row: Row, place: &str) -> Result<()> {
        let Some(article) = &mut self.article else { return self.whole_row(row, place) };
        let is_full = article.text.len() + row.text.len() > self.options.maximum_document_bytes;
        if !article.text.is_empty() && (is_full || is_title(&row.text)) {
            self.end_article()?;
        }
        let Some(article) = &mut self.article else { return Ok(()) };
        if article.text.is_empty() {
            place.clone_into(&mut article.place);
        }
        article.text.push_str(&row.text);
        if !row.text.ends_with('\n') {
            article.text.push('\n');
        }
        Ok(())
    }

    /// Adds the rest of an article at a source's end.
    pub fn end_article(&mut self) -> Result<()> {
        let Some(article) = self.article.as_mut().map(std::mem::take) else { return Ok(()) };
        if article.text.is_empty() {
            return Ok(());
        }
        self.whole_row(Row::new(article.text, None, None), &article.place)
    }

    /// Adds a row's text, in parts if it is too long.
    fn whole_row(&mut self, row: Row, place: &str) -> Result<()> {
        let Row { text, language, url } = row;
        let text = self.normalize(text);
        let limit = self.options.maximum_document_bytes;
        let document = |text: String, source: String| {
            let content = Content::Text(text);
            RawDocument { content, source, language: language.clone(), url: url.clone() }
        };
        if text.len() <= limit {
            return self.raw(document(text, place.to_owned()));
        }
        let (mut rest, mut part) = (text.as_str(), 0);
        while !rest.is_empty() {
            let mut cut = rest.len();
            if cut > limit {
                cut = cut_place(&rest.as_bytes()[..limit], b"").0;
                self.counts.cuts += 1;
            }
            part += 1;
            let place = if part == 1 { place.to_owned() } else { format!("{place}#{part}") };
            self.raw(document(rest[..cut].to_owned(), place))?;
            rest = &rest[cut..];
        }
        Ok(())
    }

    /// Repairs and normalizes.
    pub(super) fn clean(&mut self, bytes: Vec<u8>) -> String {
        let (text, repaired) = clean::repair(bytes);
        self.counts.repaired_sequences += repaired;
        self.normalize(text)
    }

    pub(super) fn normalize(&mut self, text: String) -> String {
        let (text, changed) = clean::normalize(text, self.options.normalize);
        self.counts.normalized_documents += u64::from(changed);
        text
    }
}

/// An article whose lines are rows.
#[derive(Default)]
pub struct Article {
    text: String,
    place: String,
}

/// WikiText's titles: ` = Title = `, where sections have more signs.
fn is_title(line: &str) -> bool {
    let inner = line.trim().strip_prefix("= ").and_then(|rest| rest.strip_suffix(" ="));
    inner.is_some_and(|inner| !inner.starts_with('=') && !inner.ends_with('='))
}

/// The result of a line or row.
pub(super) struct Row {
    text: String,
    language: Option<String>,
    url: Option<String>,
}

impl Row {
    /// Longer language names are not codes.
    const LONGEST_LANGUAGE: usize = 16;

    pub(super) fn new(text: String, language: Option<&str>, url: Option<&str>) -> Row {
        let language =
            language.filter(|code| !code.trim().is_empty() && code.len() <= Self::LONGEST_LANGUAGE);
        let url = url.filter(|url| !url.is_empty() && url.len() <= LONGEST_ADDRESS_BYTES);
        Row { text, language: language.map(language::code), url: url.map(ToOwned::to_owned) }
    }
}
