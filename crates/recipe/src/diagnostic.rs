//! Diagnostics of recipes, with the text they refer to.
//!
//! A value may come from the file, a flag or the environment; a diagnostic names its origin.

use std::fmt;
use std::ops::Range;

use store::{plain, secret};

/// The origin of a key's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the recipe's text: byte ranges of the key and of its value.
    File {
        /// The key's bytes.
        key: Range<usize>,
        /// The value's bytes.
        value: Range<usize>,
    },
    /// A flag as typed (`--set train.epochs=3`).
    Flag(String),
    /// An environment variable, with its name and value.
    Environment(String),
}

/// The part of a key that the caret underlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    Key,
    Value,
}

/// A mistake, with its position and remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The mistake, naming the key.
    pub message: String,
    /// Its position, if known.
    pub place: Option<Place>,
    /// The remedy.
    pub help: Option<String>,
}

/// A position for the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the recipe.
    Line {
        /// The file name as given by the user.
        file: String,
        /// 1-based.
        line: usize,
        /// 1-based, in characters.
        column: usize,
        /// The whole line.
        text: String,
        /// Characters to underline.
        width: usize,
    },
    /// A flag or an environment variable.
    Outside(String),
}

impl Place {
    /// The line and column of `range` in `text`.
    pub fn of(file: &str, text: &str, range: &Range<usize>) -> Place {
        let start = floor_char_boundary(text, range.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let end = floor_char_boundary(text, range.end).clamp(start, line_end);
        Place::Line {
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            width: text[start..end].chars().count().max(1),
        }
    }
}

fn floor_char_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", field(&self.message))?;
        let mut margin = String::new();
        match &self.place {
            Some(Place::Line { file, line, column, text, width }) => {
                margin = " ".repeat(line.to_string().len());
                // A tab is drawn wider than the one column it counts for, so the caret would be misplaced.
                let shown = text.replace('\t', " ");
                let shown = field(&shown);
                write!(f, "\n{margin}--> {}:{line}:{column}", plain::line(file))?;
                write!(f, "\n{margin} |\n{line} | {shown}")?;
                write!(f, "\n{margin} | {}{}", " ".repeat(column - 1), "^".repeat(*width))?;
            }
            Some(Place::Outside(given)) => write!(f, "\n--> {}", field(given))?,
            None => {}
        }
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = help: {}", plain::line(help))?;
        }
        Ok(())
    }
}

/// Text of the recipe for a message: on one line, with the same number of characters, and without secrets.
fn field(text: &str) -> String {
    plain::line(&secret::masked(text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_cannot_forge_lines_nor_steer_the_terminal() {
        let diagnostic = Diagnostic {
            message: "unknown key `a\nb\u{1b}[2J`".to_owned(),
            place: Some(Place::of("r\n.toml", "x = 1 # \u{202e}\u{9b}", &(0..1))),
            help: Some("use `a\nb`".to_owned()),
        };
        let shown = diagnostic.to_string();
        assert_eq!(shown.lines().count(), 6, "{shown}");
        assert!(!shown.contains(|c: char| c != '\n' && plain::steers(c)), "{shown}");
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        let text = "a = 1\né = \"ü\" # x\n";
        let start = text.find("\"ü\"").expect("in text");
        let place = Place::of("r.toml", text, &(start..start + 4));
        let Place::Line { line, column, width, .. } = place else { panic!("a line") };
        assert_eq!((line, column, width), (2, 5, 3));
    }

    #[test]
    fn ranges_outside_the_text_do_not_panic() {
        let place = Place::of("r.toml", "é", &(1..99));
        assert!(matches!(place, Place::Line { line: 1, column: 1, width: 1, .. }));
    }
}
