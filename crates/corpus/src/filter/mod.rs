//! Quality filters as published, each with its parameters: which documents stay, and why others do not.
//!
//! Decisions match datatrove's: the same words, the same order, the same quirks (its
//! `max_non_alpha_words_ratio` is a minimum). Reading order: `options`, this file, then the filters.

mod c4;
mod ngrams;
pub mod options;
mod quality;
mod repetition;
mod scratch;
mod urls;

use std::borrow::Cow;

use crate::words;
pub use options::FilterOptions;
pub use scratch::Scratch;
pub use urls::UrlFilter;

/// Names of the filters, as the report has them.
pub mod names {
    /// Fewer characters than `data.minimum_characters`.
    pub const TOO_SHORT: &str = "too_short";
    /// Addresses.
    pub const URL: &str = "url";
    /// Languages.
    pub const LANGUAGE: &str = "language";
    /// Gopher's repetition filter.
    pub const GOPHER_REPETITION: &str = "gopher_repetition";
    /// Gopher's quality filter.
    pub const GOPHER_QUALITY: &str = "gopher_quality";
    /// C4's filter.
    pub const C4: &str = "c4";
    /// FineWeb's filter.
    pub const FINEWEB: &str = "fineweb";
    /// The quality classifier.
    pub const CLASSIFIER: &str = "classifier";
    /// Perplexity under one's own model.
    pub const PERPLEXITY: &str = "perplexity";
    /// Repeated spans.
    pub const DUPLICATE_SPANS: &str = "duplicate_spans";
    /// Repeated lines.
    pub const DUPLICATE_LINES: &str = "duplicate_lines";
    /// Text of an evaluation set.
    pub const CONTAMINATION: &str = "contamination";
    /// The same text as an earlier document's.
    pub const EXACT_DUPLICATE: &str = "exact_duplicate";
    /// Nearly the same text as an earlier document's.
    pub const NEAR_DUPLICATE: &str = "near_duplicate";
}

/// Which filter dropped a text, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The filter, one of [`names`].
    pub filter: &'static str,
    /// The reason.
    pub reason: &'static str,
}

/// The text that the quality filters leave, or which of them dropped it.
pub fn filter<'t>(
    text: &'t str,
    options: &FilterOptions,
    scratch: &mut Scratch,
) -> Result<Cow<'t, str>, Dropped> {
    let decision = |filter, reason: Option<&'static str>| match reason {
        Some(reason) => Err(Dropped { filter, reason }),
        None => Ok(()),
    };
    scratch.begin(text);
    if let Some(options) = &options.gopher_repetition {
        decision(names::GOPHER_REPETITION, repetition::filter(text, options, scratch))?;
    }
    if let Some(options) = &options.gopher_quality {
        decision(names::GOPHER_QUALITY, quality::gopher(text, options, scratch))?;
    }
    let (mut text, mut words) = (Cow::Borrowed(text), None);
    if let Some(options) = &options.c4 {
        let cleaned =
            c4::clean(&text, options, scratch).map_err(|reason| Dropped { filter: names::C4, reason })?;
        if cleaned.text != *text {
            words = cleaned.words;
            scratch.begin(&cleaned.text);
            text = Cow::Owned(cleaned.text);
        }
    }
    if let Some(options) = &options.fineweb {
        decision(names::FINEWEB, quality::fineweb(&text, words, options, scratch))?;
    }
    Ok(text)
}

/// The same for a text with more words than may be held at once: in parts of `most_words`. A dropped part
/// drops the text; limits on the number of words apply to the whole text.
pub fn filter_in_parts<'t>(
    text: &'t str,
    most_words: usize,
    options: &FilterOptions,
    scratch: &mut Scratch,
) -> Result<Cow<'t, str>, Dropped> {
    let mut options = options.clone();
    if let Some(quality) = &mut options.gopher_quality {
        let most = std::mem::take(&mut quality.maximum_words);
        if most != 0 && quality::has_more_words(text, most) {
            return Err(Dropped { filter: names::GOPHER_QUALITY, reason: quality::TOO_MANY_WORDS });
        }
    }
    let (mut cleaned, mut at): (Option<String>, usize) = (None, 0);
    for part in words::parts(text, most_words) {
        match (&mut cleaned, filter(part, &options, scratch)?) {
            // As long as all of it stays, nothing is copied.
            (None, Cow::Borrowed(_)) => {}
            (None, Cow::Owned(kept)) => cleaned = Some(text[..at].to_owned() + &kept),
            (Some(cleaned), kept) => {
                // What is left of lines ends without a line feed.
                if !cleaned.is_empty() && !cleaned.ends_with('\n') {
                    cleaned.push('\n');
                }
                cleaned.push_str(&kept);
            }
        }
        at += part.len();
    }
    Ok(cleaned.map_or(text.into(), Cow::Owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_parts_is_judged_and_cleaned_as_a_whole() {
        let sentence = |number: usize| {
            let word = |at: usize| ["river", "stone", "the", "of", "light"][(number * 7 + at * at) % 5];
            let words: Vec<&str> = (0..9).map(word).collect();
            format!("Line {number} {}.", words.join(" "))
        };
        let lines = |end: usize| (0..end).map(sentence).collect::<Vec<_>>().join("\n");
        let text = lines(1000);
        let mut scratch = Scratch::default();
        let mut both = |text: &str, options: &FilterOptions| {
            let whole = filter(text, options, &mut scratch).map(Cow::into_owned);
            let parts = filter_in_parts(text, 1000, options, &mut scratch).map(Cow::into_owned);
            assert!(parts == whole, "{:?}", parts.map(|_| ()));
            whole
        };
        let c4 = FilterOptions { c4: Some(Default::default()), ..Default::default() };
        assert!(both(&text, &c4).as_deref() == Ok(text.as_str()));
        let with_short = text.replace("Line 400 ", "no\nLine 400 ").replace("Line 800 ", "[1]Line 800 ");
        assert!(both(&with_short, &c4).as_deref() == Ok(text.as_str()));
        assert!(both(&text.replace("Line 900 ", "{ Line 900 "), &c4).is_err());
        let quality = |maximum_words| FilterOptions {
            gopher_quality: Some(options::GopherQuality { maximum_words, ..Default::default() }),
            ..Default::default()
        };
        // Eleven words a line; the full stops do not count.
        assert!(both(&text, &quality(11_000)).as_deref() == Ok(text.as_str()));
        assert_eq!(both(&text, &quality(10_999)).map_err(|dropped| dropped.reason), Err("too_many_words"));
        // The last part is no short one.
        let short = lines(84);
        assert!(both(&short, &quality(0)).as_deref() == Ok(short.as_str()));
    }

    /// Each of these took minutes or more once, or looks as if it could.
    #[test]
    fn a_megabyte_of_anything_is_judged_at_once() {
        let mut patterns: Vec<String> = [
            "(",
            "[",
            "{",
            "'",
            "'s",
            "’s",
            ".",
            ". ",
            "..x",
            "…",
            "-",
            "a-",
            "1-",
            "—",
            "+",
            "$",
            "US$",
            "5%",
            "1km",
            "@",
            "a@",
            "x.@",
            "x.a@",
            "://",
            "x://@",
            "a.",
            "a.b:80@",
            ":1",
            "1.",
            "\n",
            "\n\n",
            "\r",
            " ",
            "\u{a0}",
            "“",
            "a",
            "a ",
            "é",
            "é ",
            "[1",
            "[1]",
            "don't",
            "cookie",
            "use cookies ",
            "\u{130}",
            "\0",
            "1",
        ]
        .iter()
        .map(|pattern| pattern.repeat((1 << 20) / pattern.len()))
        .collect();
        patterns.push(format!("{}a", "(".repeat(1 << 20)));
        patterns.push(format!("x.{}", "@".repeat(1 << 20)));
        patterns.push(format!("{}1", "a,".repeat(1 << 19)));
        let each = |choose: fn(&mut FilterOptions)| {
            let mut options = FilterOptions::default();
            choose(&mut options);
            options
        };
        let all = [
            each(|options| options.gopher_repetition = Some(Default::default())),
            each(|options| options.gopher_quality = Some(Default::default())),
            each(|options| options.c4 = Some(Default::default())),
            each(|options| options.fineweb = Some(Default::default())),
        ];
        let mut scratch = Scratch::default();
        for text in &patterns {
            let start = std::time::Instant::now();
            for options in &all {
                let _ = filter(text, options, &mut scratch);
            }
            let seconds = start.elapsed().as_secs_f64();
            assert!(seconds < 10.0, "{seconds:.2} s for {:?}…", text.chars().take(8).collect::<String>());
        }
    }
}
