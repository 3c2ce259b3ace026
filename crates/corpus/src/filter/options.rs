//! The recipe's `[data.filters]`: published document filters with their published parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Document filters, applied in this order: languages, URLs, Gopher repetition, Gopher quality, C4,
/// FineWeb. All are off by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilterOptions {
    /// Keep only documents in these languages (ISO 639-1). Empty: all.
    pub languages: Vec<String>,
    /// Minimum probability of a detected language; a language given by the source is not checked.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub minimum_language_probability: f64,
    /// URL block lists: files with one entry per line. A domain also blocks its subdomains, a URL with a path
    /// blocks everything below it.
    pub url_block_lists: Vec<String>,
    /// Drop documents whose URL contains one of these words.
    pub url_block_words: Vec<String>,
    /// Gopher's limits on repeated lines, paragraphs and n-grams (Rae et al. 2021, arXiv:2112.11446, table
    /// A1).
    pub gopher_repetition: Option<GopherRepetition>,
    /// Gopher's limits on lengths, symbols and stop words (same paper).
    pub gopher_quality: Option<GopherQuality>,
    /// C4's rules, which also drop lines (Raffel et al. 2020).
    pub c4: Option<C4>,
    /// FineWeb's additional filters (Penedo et al. 2024, arXiv:2406.17557).
    pub fineweb: Option<FineWeb>,
}

impl FilterOptions {
    /// Whether a filter is enabled that counts words.
    pub fn count_words(&self) -> bool {
        self.gopher_repetition.is_some()
            || self.gopher_quality.is_some()
            || self.c4.is_some()
            || self.fineweb.is_some()
    }
}

/// Parameters of Gopher's repetition filter; a limit of 0 is no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GopherRepetition {
    /// Maximum fraction of duplicate lines.
    pub duplicate_line_fraction: f64,
    /// Maximum fraction of duplicate paragraphs.
    pub duplicate_paragraph_fraction: f64,
    /// Maximum fraction of characters in duplicate lines.
    pub duplicate_line_character_fraction: f64,
    /// Maximum fraction of characters in duplicate paragraphs.
    pub duplicate_paragraph_character_fraction: f64,
    /// Maximum fractions of characters in the most frequent 2-, 3- and 4-gram.
    pub top_ngram_character_fractions: [f64; 3],
    /// Maximum fractions of characters in duplicate 5- to 10-grams.
    pub duplicate_ngram_character_fractions: [f64; 6],
}

impl Default for GopherRepetition {
    fn default() -> GopherRepetition {
        GopherRepetition {
            duplicate_line_fraction: 0.3,
            duplicate_paragraph_fraction: 0.3,
            duplicate_line_character_fraction: 0.2,
            duplicate_paragraph_character_fraction: 0.2,
            top_ngram_character_fractions: [0.2, 0.18, 0.16],
            duplicate_ngram_character_fractions: [0.15, 0.14, 0.13, 0.12, 0.11, 0.10],
        }
    }
}

/// Parameters of Gopher's quality filter; a limit of 0 is no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GopherQuality {
    /// Minimum number of words, without punctuation.
    pub minimum_words: u64,
    /// Maximum number of words.
    pub maximum_words: u64,
    /// Minimum mean word length, in characters.
    pub minimum_mean_word_length: f64,
    /// Maximum mean word length, in characters.
    pub maximum_mean_word_length: f64,
    /// Maximum hash signs per word, and maximum ellipses per word.
    pub maximum_symbols_per_word: f64,
    /// Maximum fraction of lines that start with a bullet.
    pub maximum_bullet_line_fraction: f64,
    /// Maximum fraction of lines that end with an ellipsis.
    pub maximum_ellipsis_line_fraction: f64,
    /// Minimum fraction of words that contain a letter.
    pub minimum_alphabetic_word_fraction: f64,
    /// Minimum number of distinct stop words.
    pub minimum_stop_words: u64,
    /// Stop words to count.
    pub stop_words: Vec<String>,
}

impl Default for GopherQuality {
    fn default() -> GopherQuality {
        let stop_words = ["the", "be", "to", "of", "and", "that", "have", "with"];
        GopherQuality {
            minimum_words: 50,
            maximum_words: 100_000,
            minimum_mean_word_length: 3.0,
            maximum_mean_word_length: 10.0,
            maximum_symbols_per_word: 0.1,
            maximum_bullet_line_fraction: 0.9,
            maximum_ellipsis_line_fraction: 0.3,
            minimum_alphabetic_word_fraction: 0.8,
            minimum_stop_words: 2,
            stop_words: stop_words.map(str::to_owned).to_vec(),
        }
    }
}

/// Parameters of C4's filter. The defaults are FineWeb's: lines need not end in punctuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct C4 {
    /// Drop lines that do not end in punctuation.
    pub require_terminal_punctuation: bool,
    /// Minimum number of sentences in the remaining lines; 0: no limit.
    pub minimum_sentences: u64,
    /// Drop lines with fewer words.
    pub minimum_words_per_line: u64,
    /// Drop lines that contain a longer word, in characters; 0: no limit.
    pub maximum_word_length: u64,
    /// Remove citations such as [1] and [edit].
    pub remove_citations: bool,
    /// Drop documents that contain "lorem ipsum".
    pub drop_lorem_ipsum: bool,
    /// Drop lines that contain "javascript".
    pub drop_javascript_lines: bool,
    /// Drop documents that contain a curly bracket, which includes most code.
    pub drop_curly_brackets: bool,
    /// Drop lines about cookies, privacy and terms of use.
    pub drop_policy_lines: bool,
}

impl Default for C4 {
    fn default() -> C4 {
        C4 {
            require_terminal_punctuation: false,
            minimum_sentences: 5,
            minimum_words_per_line: 3,
            maximum_word_length: 1000,
            remove_citations: true,
            drop_lorem_ipsum: true,
            drop_javascript_lines: true,
            drop_curly_brackets: true,
            drop_policy_lines: true,
        }
    }
}

/// Parameters of FineWeb's filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FineWeb {
    /// Minimum fraction of lines that end in punctuation.
    pub minimum_terminal_punctuation_fraction: f64,
    /// Maximum fraction of short lines.
    pub maximum_short_line_fraction: f64,
    /// Lines of up to this many characters are short.
    pub short_line_length: u64,
    /// Maximum fraction of characters in duplicate lines: 0.01 in FineWeb's code, 0.1 in its paper.
    pub maximum_duplicate_line_character_fraction: f64,
    /// Maximum line breaks per word.
    pub maximum_line_breaks_per_word: f64,
}

impl Default for FineWeb {
    fn default() -> FineWeb {
        FineWeb {
            minimum_terminal_punctuation_fraction: 0.12,
            maximum_short_line_fraction: 0.67,
            short_line_length: 30,
            maximum_duplicate_line_character_fraction: 0.01,
            maximum_line_breaks_per_word: 0.3,
        }
    }
}

impl Default for FilterOptions {
    fn default() -> FilterOptions {
        FilterOptions {
            languages: Vec::new(),
            minimum_language_probability: 0.65,
            url_block_lists: Vec::new(),
            url_block_words: Vec::new(),
            gopher_repetition: None,
            gopher_quality: None,
            c4: None,
            fineweb: None,
        }
    }
}

impl FilterOptions {
    /// The four filters of FineWeb, with its parameters.
    pub fn of_fineweb() -> FilterOptions {
        FilterOptions {
            gopher_repetition: Some(GopherRepetition::default()),
            gopher_quality: Some(GopherQuality::default()),
            c4: Some(C4::default()),
            fineweb: Some(FineWeb::default()),
            ..FilterOptions::default()
        }
    }
}
