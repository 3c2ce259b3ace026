//! Personal data and secrets, replaced by placeholders: the same value gets the same placeholder within a
//! document.
//!
//! A value is found by its form, and wherever its form has a checksum, by that; forms that other numbers
//! share (seven digits, a bare tax number) need a word beside them that names them. Names and addresses of
//! people are not looked for: they have no form. Samples show the shape of a value only, so that a report can
//! be passed on.
//!
//! Reading order: `options`, this file, `digits` (what begins with one), then the classes.

mod account;
mod address;
mod checks;
mod digits;
mod finding;
mod national;
mod numbers;
pub mod options;
mod phone;
mod secrets;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use crate::dedup::hash;
pub use finding::Finding;
pub use options::{Class, Country, RedactOptions};
use serde::{Deserialize, Serialize};

/// Findings of one document that are shown.
const SHOWN: usize = 8;
/// Bytes of the redacted text beside a shown finding.
const CONTEXT_BYTES: usize = 40;

/// What was done to one document.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redacted {
    /// How many values of each class and kind there are.
    pub counts: Vec<(Class, Cow<'static, str>, u64)>,
    /// Of the first few, in the text's order: class and kind, and the shape between what stands beside it.
    pub samples: Vec<(Class, Cow<'static, str>, String)>,
}

impl Redacted {
    fn count(&mut self, finding: &Finding) {
        let Finding { class, kind, .. } = *finding;
        match self.counts.iter_mut().find(|known| known.0 == class && known.1 == kind) {
            Some((_, _, count)) => *count += 1,
            None => self.counts.push((class, kind.into(), 1)),
        }
    }
}

/// Finds and replaces.
pub struct Redactor {
    options: RedactOptions,
    secrets: secrets::Secrets,
    findings: Vec<Finding>,
}

impl Redactor {
    /// By a recipe's options.
    pub fn new(options: &RedactOptions) -> Redactor {
        Redactor { options: options.clone(), secrets: secrets::Secrets::new(), findings: Vec::new() }
    }

    /// All values in `text`, in its order, none overlapping another.
    pub fn find(&mut self, text: &str) -> &[Finding] {
        self.findings.clear();
        let wanted = |class| self.options.classes.contains(&class);
        let found = &mut self.findings;
        if wanted(Class::Secret) {
            self.secrets.find(text, found);
        }
        if wanted(Class::Email) || wanted(Class::Secret) {
            address::find_email(text, found);
        }
        if wanted(Class::Ip) {
            address::find_ipv6(text, self.options.public_ips_only, found);
        }
        digits::find(text, &self.options, found);
        found.retain(|finding| self.options.classes.contains(&finding.class));
        // Of two that overlap, the one whose class says more stays. Those that stay are moved to the front.
        found.sort_by_key(|finding| (finding.class, finding.start));
        let (mut kept, mut next) = (0, 0);
        while next < found.len() {
            let class = found[next].class;
            let (before, mut at) = (kept, 0);
            while let Some(&finding) = found.get(next).filter(|finding| finding.class == class) {
                while at < before && found[at].end <= finding.start {
                    at += 1;
                }
                let is_taken = at < before && found[at].start < finding.end
                    || found[before..kept].last().is_some_and(|last| last.end > finding.start);
                if !is_taken {
                    found[kept] = finding;
                    kept += 1;
                }
                next += 1;
            }
            found[..kept].sort_unstable_by_key(|finding| finding.start);
        }
        found.truncate(kept);
        found
    }

    /// The text with placeholders such as `[EMAIL_1]`, and what was replaced.
    pub fn redact<'t>(&mut self, text: &'t str) -> (Cow<'t, str>, Redacted) {
        self.find(text);
        if self.findings.is_empty() {
            return (text.into(), Redacted::default());
        }
        let mut out = String::with_capacity(text.len());
        // Hashes stand for values: a text may be of nothing else.
        let mut numbers: HashMap<u64, u32> = HashMap::with_capacity(self.findings.len());
        let mut plain = String::new();
        let mut used = [0; Class::ALL.len()];
        let mut done = Redacted::default();
        let mut places = Vec::new();
        let mut rest = 0;
        for finding in &self.findings {
            out.push_str(&text[rest..finding.start]);
            rest = finding.end;
            let value = &text[finding.start..finding.end];
            plain.clear();
            plain.push_str(finding.class.placeholder());
            plain.extend(value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase));
            let number = *numbers.entry(hash(&plain)).or_insert_with(|| {
                used[finding.class as usize] += 1;
                used[finding.class as usize]
            });
            let start = out.len();
            // Into a text that lies in memory.
            let _ = write!(out, "[{}_{number}]", finding.class.placeholder());
            if places.len() < SHOWN {
                places.push((finding, start, out.len(), shape(value)));
            }
            done.count(finding);
        }
        out.push_str(&text[rest..]);
        let sample = |(finding, start, end, shape): (&Finding, _, _, String)| {
            (finding.class, finding.kind.into(), sample(&out, start, end, &shape))
        };
        done.samples = places.into_iter().map(sample).collect();
        (out.into(), done)
    }

    /// A web address: without the account before its server, and with placeholders for what stands in its
    /// path and query.
    pub fn redact_address(&mut self, address: &str) -> String {
        let address = without_account(address);
        // In a query, the sign of e-mail addresses is written so.
        let readable = address.replace("%40", "@");
        match self.redact(&readable) {
            (Cow::Owned(redacted), _) => redacted,
            (Cow::Borrowed(_), _) => address.into_owned(),
        }
    }
}

/// An address without who logs in by it.
fn without_account(address: &str) -> Cow<'_, str> {
    let Some(start) = address.find("://").map(|at| at + 3) else { return address.into() };
    let server = &address[start..];
    let server = &server[..server.find(['/', '?', '#']).unwrap_or(server.len())];
    match server.rfind('@') {
        Some(at) => format!("{}{}", &address[..start], &address[start + at + 1..]).into(),
        None => address.into(),
    }
}

/// A value's shape: letters as x and X, digits as 9.
fn shape(value: &str) -> String {
    const LONGEST: usize = 60;
    let masked = value.chars().take(LONGEST).map(|c| match c {
        c if c.is_numeric() => '9',
        c if c.is_uppercase() => 'X',
        c if c.is_alphabetic() => 'x',
        c => c,
    });
    let shown: String = masked.collect();
    if value.chars().nth(LONGEST).is_some() { shown + "…" } else { shown }
}

/// A shape between what stands beside it in the redacted text, digits masked there too: a value that was
/// missed may be beside one that was not.
fn sample(redacted: &str, start: usize, end: usize, shape: &str) -> String {
    let from = redacted.floor_char_boundary(start.saturating_sub(CONTEXT_BYTES));
    let to = redacted.ceil_char_boundary((end + CONTEXT_BYTES).min(redacted.len()));
    let masked = |text: &str| {
        text.chars().map(|c| if c.is_numeric() { '9' } else { c }).collect::<String>().replace('\n', " ")
    };
    format!("{}⟦{shape}⟧{}", masked(&redacted[from..start]), masked(&redacted[end..to]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(text: &str) -> String {
        Redactor::new(&RedactOptions::default()).redact(text).0.into_owned()
    }

    #[test]
    fn the_same_value_gets_the_same_placeholder() {
        assert_eq!(
            redact(
                "Ask ann@mail.org or bob@mail.org; Ann@Mail.org answers. +1 (212) 555-0143, +1 212-555-0143."
            ),
            "Ask [EMAIL_1] or [EMAIL_2]; [EMAIL_1] answers. [PHONE_1], [PHONE_1]."
        );
        assert_eq!(redact("Nothing here but 42 and 3.14."), "Nothing here but 42 and 3.14.");
    }

    #[test]
    fn samples_show_shapes_only() {
        let mut redactor = Redactor::new(&RedactOptions::default());
        let (_, done) = redactor.redact("Write to Ann.Lee7@mail.org, room 12345, now");
        let sample = "Write to ⟦Xxx.Xxx9@xxxx.xxx⟧, room 99999, now".to_owned();
        assert_eq!(done.samples, [(Class::Email, "email".into(), sample)]);
        assert_eq!(done.counts, [(Class::Email, "email".into(), 1)]);
    }

    #[test]
    fn web_addresses_lose_accounts_and_values() {
        let mut redactor = Redactor::new(&RedactOptions::default());
        for (address, wanted) in [
            ("https://x.org/a?b=c%20d", "https://x.org/a?b=c%20d"),
            ("https://ann:geheim@x.org/a@b", "https://x.org/a@b"),
            ("https://ann@x.org", "https://x.org"),
            ("https://x.org/?email=ann%40mail.org&x=%20", "https://x.org/?email=[EMAIL_1]&x=%20"),
            ("x.org/a@b", "x.org/a@b"),
        ] {
            assert_eq!(redactor.redact_address(address), wanted);
        }
    }

    #[test]
    fn any_text_is_taken() {
        for text in [
            "",
            "@",
            "+",
            "::",
            "٣٤٥@é.é",
            "1".repeat(500).as_str(),
            "(((((1 (2 (3",
            "é1é+2é",
            "00",
            "-----BEGIN PRIVATE KEY",
        ] {
            redact(text);
        }
    }
}
