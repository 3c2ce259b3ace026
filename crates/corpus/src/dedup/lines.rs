//! Repeated lines or paragraphs, in any document: navigation, disclaimers, quoted text.
//!
//! The first of equal ones is kept, in the order of the documents, so the result is a function of the
//! documents. A line takes about 20 bytes of memory; [`LineOptions::minimum_characters`] limits their number.

use std::borrow::Cow;
use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::repeated::{Removals, Repeated, hash};

/// The unit of comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Lines.
    #[default]
    Line,
    /// Paragraphs, separated by empty lines.
    Paragraph,
}

/// The recipe's `[data.duplicate_lines]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LineOptions {
    /// Unit to compare.
    pub unit: Unit,
    /// Minimum length in characters; shorter ones are kept, since in code and lists they often repeat.
    pub minimum_characters: usize,
    /// Number of copies to keep.
    #[schemars(range(min = 1, max = 255))]
    pub kept: u8,
    /// Drop documents of which less than this fraction of the text remains.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub minimum_fraction_left: f64,
}

impl Default for LineOptions {
    fn default() -> LineOptions {
        LineOptions { unit: Unit::Line, minimum_characters: 40, kept: 1, minimum_fraction_left: 0.2 }
    }
}

/// Takes documents in order and removes repeated parts.
pub struct LineFilter {
    options: LineOptions,
    seen: HashMap<u64, u8>,
    removals: Removals,
}

impl LineFilter {
    /// Starts with no known lines.
    pub fn new(options: &LineOptions) -> LineFilter {
        LineFilter { options: options.clone(), seen: HashMap::new(), removals: Removals::default() }
    }

    /// The text without repeated lines; `None` if too little remains.
    pub fn clean<'t>(&mut self, text: &'t str) -> Option<Cow<'t, str>> {
        let separator = match self.options.unit {
            Unit::Line => "\n",
            Unit::Paragraph => "\n\n",
        };
        let (mut removed, mut counted, mut at) = (0, Vec::new(), 0usize);
        // The remaining text, from the first removed part on.
        let (mut kept, mut has_kept): (Option<String>, bool) = (None, false);
        for part in text.split(separator) {
            if self.is_repeated(part.trim(), &mut counted) {
                removed += part.len();
                kept.get_or_insert_with(|| text[..at.saturating_sub(separator.len())].to_owned());
            } else {
                if let Some(kept) = &mut kept {
                    kept.push_str(if has_kept { separator } else { "" });
                    kept.push_str(part);
                }
                has_kept = true;
            }
            at += part.len() + separator.len();
        }
        let Some(kept) = kept else { return Some(text.into()) };
        self.removals.see_document(removed);
        let left = (text.len() - removed) as f64 / text.len() as f64;
        if left >= self.options.minimum_fraction_left && !kept.trim().is_empty() {
            return Some(kept.into());
        }
        // Parts of a dropped document do not count: the next document that has one is its first occurrence.
        for hash in counted {
            if let Some(seen) = self.seen.get_mut(&hash) {
                *seen -= 1;
            }
        }
        None
    }

    /// Whether a part has occurred often enough to be removed; otherwise it is counted and its hash noted.
    fn is_repeated(&mut self, part: &str, counted: &mut Vec<u64>) -> bool {
        let shortest = self.options.minimum_characters;
        if part.is_empty() || part.len() < shortest || part.chars().take(shortest).count() < shortest {
            return false;
        }
        let hash = hash(part);
        let seen = self.seen.entry(hash).or_default();
        if *seen < self.options.kept {
            *seen += 1;
            counted.push(hash);
            return false;
        }
        self.removals.see(hash, part);
        true
    }

    /// Totals of removed parts.
    pub fn report(self) -> Repeated {
        self.removals.report()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_lines_stays() {
        let options = LineOptions { minimum_characters: 5, ..LineOptions::default() };
        let mut filter = LineFilter::new(&options);
        assert_eq!(filter.clean("a long line\nmore\nmore").as_deref(), Some("a long line\nmore\nmore"));
        assert_eq!(filter.clean("  a long line \nanother line\nmore").as_deref(), Some("another line\nmore"));
        assert_eq!(filter.clean("a long line\nanother line"), None, "nothing is left");
        let report = filter.report();
        assert_eq!((report.removed, report.documents), (3, 2));
        assert_eq!(report.examples, [(2, "a long line".to_owned()), (1, "another line".to_owned())]);
    }

    /// What stays is joined as it was, wherever the first part goes from.
    #[test]
    fn empty_lines_stay_where_they_are() {
        let options =
            LineOptions { minimum_characters: 5, minimum_fraction_left: 0.0, ..LineOptions::default() };
        let mut filter = LineFilter::new(&options);
        filter.clean("a long line");
        for (text, wanted) in [
            ("a long line\n\nb", "\nb"),
            ("\na long line\n\nb\n", "\n\nb\n"),
            ("b\na long line\nc\na long line", "b\nc"),
            ("a long line\na long line\nb", "b"),
            ("\n\nb\n", "\n\nb\n"),
        ] {
            assert_eq!(filter.clean(text).as_deref(), Some(wanted), "{text:?}");
        }
    }

    #[test]
    fn a_dropped_document_takes_no_line_from_others() {
        let options = LineOptions { minimum_characters: 5, ..LineOptions::default() };
        let mut filter = LineFilter::new(&options);
        let boilerplate = "the same long line of every page, as long as all others together";
        filter.clean(boilerplate);
        assert_eq!(filter.clean(&format!("{boilerplate}\nonly here")), None);
        assert_eq!(filter.clean("only here\nand more").as_deref(), Some("only here\nand more"));
        assert_eq!(
            filter.clean("only here\nand more, and other things").as_deref(),
            Some("and more, and other things")
        );
    }

    #[test]
    fn paragraphs_are_compared_whole() {
        let options = LineOptions { minimum_characters: 5, unit: Unit::Paragraph, ..LineOptions::default() };
        let mut filter = LineFilter::new(&options);
        filter.clean("one line\nand two\n\nsecond");
        assert_eq!(filter.clean("one line\n\nsecond x").as_deref(), Some("one line\n\nsecond x"));
        assert_eq!(filter.clean("new one here\n\none line\nand two").as_deref(), Some("new one here"));
    }
}
