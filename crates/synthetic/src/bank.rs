//! Banks of phrases: text files with sections of one phrase a line, and the filling of phrases.
//!
//! `= name` starts a section, `#` a comment. In a phrase, `[a|b]` is a choice (an empty one is allowed) and
//! `{name}` a slot.

use std::collections::BTreeMap;

use crate::random::Random;

/// The phrases of one file, by section.
pub(crate) struct Bank {
    sections: BTreeMap<&'static str, Vec<&'static str>>,
}

/// Values of slots.
pub(crate) type Slots = Vec<(&'static str, String)>;

impl Bank {
    /// Reads a bank that is part of the program.
    pub(crate) fn parse(text: &'static str) -> Bank {
        let mut sections: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut section = "";
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix("= ") {
                Some(name) => section = name,
                None => sections.entry(section).or_default().push(line),
            }
        }
        Bank { sections }
    }

    /// The phrases of a section.
    pub(crate) fn lines(&self, section: &str) -> &[&'static str] {
        self.sections.get(section).expect("invariant: a test looks up every section")
    }

    /// A filled phrase of a section, with a capital first letter.
    pub(crate) fn phrase(
        &self,
        section: &str,
        slots: &[(&'static str, String)],
        random: &mut Random,
    ) -> String {
        let phrase = *random.pick(self.lines(section));
        capitalized(&fill(phrase, slots, random))
    }

    #[cfg(test)]
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&str, &[&'static str])> {
        self.sections.iter().map(|(name, lines)| (*name, lines.as_slice()))
    }
}

/// A phrase with its choices made and its slots filled. Unknown slots stay.
pub(crate) fn fill(phrase: &str, slots: &[(&'static str, String)], random: &mut Random) -> String {
    let mut out = String::new();
    let mut rest = phrase;
    while let Some((before, after)) = rest.split_once('[') {
        let (choices, behind) = after.split_once(']').expect("invariant: a test closes every choice");
        let choices: Vec<_> = choices.split('|').collect();
        out += before;
        out += *random.pick(choices.as_slice());
        rest = behind;
    }
    out += rest;
    // What an empty choice leaves behind.
    let mut out = out.replace("  ", " ").replace(" ?", "?").replace(" ,", ",");
    for (name, value) in slots {
        out = out.replace(&format!("{{{name}}}"), value);
    }
    out.trim().to_owned()
}

/// Text with a capital first letter.
pub(crate) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_and_slots_are_filled() {
        let bank = Bank::parse("# a comment\n= one\n{place} is [wet|dry] [today|].\n\n= two\nx\ny\n");
        assert_eq!(bank.lines("two"), ["x", "y"]);
        let mut random = Random::new(1, &[]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            seen.insert(bank.phrase("one", &[("place", "malmö [x|y]".to_owned())], &mut random));
        }
        let expected = [
            "Malmö [x|y] is dry .",
            "Malmö [x|y] is dry today.",
            "Malmö [x|y] is wet .",
            "Malmö [x|y] is wet today.",
        ];
        assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }
}
