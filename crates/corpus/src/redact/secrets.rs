//! API keys and other secrets, by the marks that their makers put before them.

use aho_corasick::{AhoCorasick, MatchKind};
use memchr::memmem;

use super::finding::{Finding, begins};
use super::options::Class;

/// Characters of a key.
#[derive(Clone, Copy)]
enum Characters {
    UpperAndDigits,
    Hexadecimal,
    Alphanumeric,
    /// With - and _.
    UrlSafe,
    /// With / + and =.
    Base64,
}

/// A maker's keys: the mark, the name in reports, what follows and how long it is.
struct Form {
    mark: &'static str,
    kind: &'static str,
    characters: Characters,
    shortest: usize,
    longest: usize,
}

const fn form(
    mark: &'static str,
    kind: &'static str,
    characters: Characters,
    shortest: usize,
    longest: usize,
) -> Form {
    Form { mark, kind, characters, shortest, longest }
}

const ANY: usize = 4096;
use Characters::{Alphanumeric, Base64, Hexadecimal, UpperAndDigits, UrlSafe};

/// A longer mark of the same beginning comes first.
const FORMS: [Form; 44] = [
    form("AKIA", "aws_access_key", UpperAndDigits, 16, 16),
    form("ASIA", "aws_access_key", UpperAndDigits, 16, 16),
    form("ABIA", "aws_access_key", UpperAndDigits, 16, 16),
    form("ghp_", "github", Alphanumeric, 36, 255),
    form("gho_", "github", Alphanumeric, 36, 255),
    form("ghu_", "github", Alphanumeric, 36, 255),
    form("ghs_", "github", Alphanumeric, 36, 255),
    form("ghr_", "github", Alphanumeric, 36, 255),
    form("github_pat_", "github", UrlSafe, 60, 255),
    form("glpat-", "gitlab", UrlSafe, 20, 64),
    form("sk-ant-", "anthropic", UrlSafe, 40, 255),
    form("sk-proj-", "openai", UrlSafe, 40, 255),
    form("sk-svcacct-", "openai", UrlSafe, 40, 255),
    form("sk-admin-", "openai", UrlSafe, 40, 255),
    form("sk-or-v1-", "openrouter", Hexadecimal, 64, 64),
    form("sk-", "openai", Alphanumeric, 48, 48),
    form("xoxb-", "slack", UrlSafe, 20, 255),
    form("xoxp-", "slack", UrlSafe, 20, 255),
    form("xoxa-", "slack", UrlSafe, 20, 255),
    form("xoxr-", "slack", UrlSafe, 20, 255),
    form("xoxs-", "slack", UrlSafe, 20, 255),
    form("xapp-", "slack", UrlSafe, 20, 255),
    form("hooks.slack.com/services/", "slack", Base64, 30, 100),
    form("AIza", "google", UrlSafe, 35, 35),
    form("ya29.", "google", UrlSafe, 30, ANY),
    form("GOCSPX-", "google", UrlSafe, 28, 28),
    form("sk_live_", "stripe", Alphanumeric, 16, 255),
    form("sk_test_", "stripe", Alphanumeric, 16, 255),
    form("rk_live_", "stripe", Alphanumeric, 16, 255),
    form("rk_test_", "stripe", Alphanumeric, 16, 255),
    form("whsec_", "stripe", Base64, 32, 255),
    form("hf_", "hugging_face", Alphanumeric, 34, 40),
    form("npm_", "npm", Alphanumeric, 36, 36),
    form("pypi-AgEIcHlwaS5vcmc", "pypi", UrlSafe, 50, ANY),
    form("dop_v1_", "digitalocean", Hexadecimal, 64, 64),
    form("shpat_", "shopify", Hexadecimal, 32, 32),
    form("SG.", "sendgrid", UrlSafe, 22, 22),
    form("gsk_", "groq", Alphanumeric, 52, 52),
    form("r8_", "replicate", Alphanumeric, 37, 40),
    form("secret_access_key", "aws_secret_key", Base64, 40, 40),
    form("SecretAccessKey", "aws_secret_key", Base64, 40, 40),
    form("SECRET_ACCESS_KEY", "aws_secret_key", Base64, 40, 40),
    form("eyJ", "jwt", UrlSafe, 10, ANY),
    form("-----BEGIN ", "private_key", Base64, 0, 0),
];
/// Fewer different characters are a placeholder's.
const FEWEST_DIFFERENT: usize = 7;
/// Shorter parts of a web token are none.
const SHORTEST_PART: usize = 10;
/// A longer name between the dashes is no key's.
const LONGEST_NAME: usize = 40;
/// A longer block is no key.
const LONGEST_BLOCK_BYTES: usize = 16 << 10;

/// Finds all marks in one pass.
pub struct Secrets {
    marks: AhoCorasick,
}

impl Secrets {
    pub fn new() -> Secrets {
        let marks = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(FORMS.iter().map(|form| form.mark))
            .expect("invariant: the marks are few and short");
        Secrets { marks }
    }

    pub fn find(&self, text: &str, found: &mut Vec<Finding>) {
        let (mut taken, mut header) = (0, Header::default());
        for mark in self.marks.find_iter(text) {
            if mark.start() < taken {
                continue;
            }
            let form = &FORMS[mark.pattern()];
            let range = match form.kind {
                "private_key" => block(text, mark.start(), mark.end()),
                "jwt" => {
                    begins(text, mark.start()).then(|| web_token(text, mark.start(), &mut header)).flatten()
                }
                "aws_secret_key" => assigned(text, mark.end(), form),
                "sendgrid" => sendgrid(text, mark.start(), mark.end(), form),
                _ => begins(text, mark.start()).then(|| key(text, mark.start(), mark.end(), form)).flatten(),
            };
            if let Some((start, end)) = range {
                taken = end;
                found.push(Finding { class: Class::Secret, kind: form.kind, start, end });
            }
        }
    }
}

fn is_of(characters: Characters, byte: u8) -> bool {
    match characters {
        UpperAndDigits => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        Hexadecimal => byte.is_ascii_hexdigit(),
        Alphanumeric => byte.is_ascii_alphanumeric(),
        UrlSafe => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+' | b'='),
    }
}

/// How many bytes from a place on are of a kind; no more are looked at than `most`, since runs hold marks
/// that begin others.
fn run(text: &str, at: usize, characters: Characters, most: usize) -> usize {
    text.as_bytes()[at..].iter().take(most).take_while(|&&byte| is_of(characters, byte)).count()
}

fn key(text: &str, start: usize, at: usize, form: &Form) -> Option<(usize, usize)> {
    let length = run(text, at, form.characters, form.longest + 1);
    let good =
        (form.shortest..=form.longest).contains(&length) && is_random(&text.as_bytes()[at..at + length]);
    good.then_some((start, at + length))
}

fn is_random(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    bytes.iter().for_each(|&byte| seen[byte as usize] = true);
    seen.iter().filter(|&&seen| seen).count() >= FEWEST_DIFFERENT
}

/// A key after its name and `=`, `:` or quotes: the key alone.
fn assigned(text: &str, at: usize, form: &Form) -> Option<(usize, usize)> {
    let gap = text[at..].bytes().take(8).take_while(|byte| b" \t\"'=:>".contains(byte)).count();
    let start = at + gap;
    (gap > 0).then(|| key(text, start, start, form)).flatten()
}

fn sendgrid(text: &str, start: usize, at: usize, form: &Form) -> Option<(usize, usize)> {
    let (_, end) = begins(text, start).then(|| key(text, start, at, form)).flatten()?;
    let is_key = text[end..].starts_with('.') && run(text, end + 1, UrlSafe, 44) == 43;
    is_key.then_some((start, end + 44))
}

/// A run that may be the first part of a web token: where it ends, and the token, where it is one. Kept from
/// mark to mark: a run of marks is looked at once, not from each of them.
#[derive(Default)]
struct Header {
    end: usize,
    token_end: Option<usize>,
}

impl Header {
    fn at(text: &str, start: usize) -> Header {
        let part = |at: usize| at + run(text, at, UrlSafe, usize::MAX);
        let end = part(start);
        let payload = text[end..].starts_with(".eyJ").then_some(end + 1);
        let token_end = payload.and_then(|payload| {
            let payload_end = part(payload);
            let is_whole = payload_end - payload >= SHORTEST_PART && text[payload_end..].starts_with('.');
            let signature = is_whole.then_some(payload_end + 1)?;
            Some(part(signature)).filter(|end| end - signature >= SHORTEST_PART)
        });
        Header { end, token_end }
    }
}

/// Three parts, of which two are objects in base64.
fn web_token(text: &str, start: usize, header: &mut Header) -> Option<(usize, usize)> {
    if start >= header.end {
        *header = Header::at(text, start);
    }
    header.token_end.filter(|_| header.end - start >= SHORTEST_PART).map(|end| (start, end))
}

/// A private key from its first line to its last, or as far as its lines of base64 go.
fn block(text: &str, start: usize, at: usize) -> Option<(usize, usize)> {
    let line_end = at + dashes(text, at)?;
    let name = &text[at..line_end];
    if !name.contains("PRIVATE KEY") {
        return None;
    }
    let body = line_end + 5;
    let limit = text.floor_char_boundary((body + LONGEST_BLOCK_BYTES).min(text.len()));
    if let Some(end) = memmem::find(&text.as_bytes()[body..limit], b"-----END ") {
        let tail = body + end + 9;
        let close = dashes(text, tail)?;
        return Some((start, tail + close + 5));
    }
    let rest = &text[body..limit];
    let length = rest.len()
        - rest
            .trim_start_matches(|c: char| c.is_whitespace() || c.is_ascii() && is_of(Base64, c as u8))
            .len();
    (length > 40).then_some((start, body + length))
}

/// How far the dashes are that end a name.
fn dashes(text: &str, at: usize) -> Option<usize> {
    let rest = &text.as_bytes()[at..];
    memmem::find(&rest[..rest.len().min(LONGEST_NAME + 5)], b"-----")
}

#[cfg(test)]
mod tests {
    use super::super::{RedactOptions, Redactor};

    fn kinds(text: &str) -> Vec<&'static str> {
        let mut redactor = Redactor::new(&RedactOptions::default());
        redactor.find(text).iter().map(|finding| finding.kind).collect()
    }

    /// Keys are put together here, so that none stands in the source.
    #[test]
    fn makers_keys_are_known() {
        let random = "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cD1fG3iJ5lM7oP9rS1uV3wY5";
        let take = |count: usize| &random[..count];
        let hex = "0123456789abcdef".repeat(4);
        for (key, kind) in [
            (format!("AKIA{}", "J7QHX2MZ5RT3WKPD"), "aws_access_key"),
            (format!("ghp_{}", take(36)), "github"),
            (format!("sk-{}", take(48)), "openai"),
            (format!("sk-ant-api03-{}", take(50)), "anthropic"),
            (format!("xoxb-1234567890-{}", take(24)), "slack"),
            (format!("AIza{}", take(35)), "google"),
            (format!("sk_live_{}", take(24)), "stripe"),
            (format!("hf_{}", take(34)), "hugging_face"),
            (format!("dop_v1_{hex}"), "digitalocean"),
            (format!("eyJ{}.eyJ{}.{}", take(20), take(30), take(43)), "jwt"),
            (format!("aws_secret_access_key = {}", take(40)), "aws_secret_key"),
            (
                format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----", take(50)),
                "private_key",
            ),
        ] {
            assert_eq!(kinds(&format!("the key {key} is secret")), [kind], "{key}");
        }
    }

    #[test]
    fn what_only_begins_like_a_key_stays() {
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        for text in [
            "sk-learn and task-oriented",
            "the hf_hub module",
            "AKIA was here",
            "ghp_short",
            "-----BEGIN CERTIFICATE-----",
            "sk_live_XXXXXXXXXXXXXXXXXXXXXXXX",
            "eyJ is how tokens begin",
            "npm_config_registry",
            hash,
        ] {
            assert_eq!(kinds(text), [""; 0], "{text}");
        }
    }
    /// Each mark looked at all that follows it: minutes for a megabyte.
    #[test]
    fn marks_in_marks_cost_one_look() {
        let begun = std::time::Instant::now();
        for mark in ["sk-ant-", "xoxb-", "eyJ-", "-----BEGIN PRIVATE KEY-----\n"] {
            assert!(kinds(&mark.repeat((2 << 20) / mark.len())).is_empty(), "{mark}");
        }
        let tail = "a".repeat(1 << 20);
        assert!(kinds(&format!("{}.eyJ{tail}", "eyJ-".repeat(1 << 18))).is_empty());
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
        // The token begins at the first mark of its run, as before.
        assert_eq!(kinds("eyJ-eyJ-eyJ-eyJ.eyJabcdefghij.abcdefghijkl"), ["jwt"]);
    }
}
