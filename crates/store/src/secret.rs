//! Hides secrets in messages: passwords and signatures in addresses, and values of environment variables with
//! keys. They must not reach errors, logs or records.
//!
//! Messages should not contain secrets in the first place; this is the safety net. Non-goal: finding secrets
//! in data.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

/// Replaces a hidden value.
const HIDDEN: &str = "[hidden]";
/// Environment variables whose values are keys.
const VARIABLES: [&str; 5] =
    ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN"];
/// Shorter values would match ordinary words.
const SHORTEST: usize = 8;
/// Parts of names of keys whose values are secret.
const WORDS: [&str; 8] =
    ["webhook", "secret", "password", "passwd", "credential", "api_key", "apikey", "access_key"];

static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Hides a value in all later calls of [`hidden`], such as an address from a variable.
pub fn keep(value: &str) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if value.len() >= SHORTEST && !known.iter().any(|other| other == value) {
        known.push(value.to_owned());
    }
}

/// A message without secrets: passwords and signed queries of addresses, values of key variables, and values
/// passed to [`keep`].
pub fn hidden(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    let variables = VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for value in variables.chain(known) {
        if value.trim().len() >= SHORTEST && text.contains(value.trim()) {
            text = text.replace(value.trim(), HIDDEN).into();
        }
    }
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for address in addresses(&text) {
        parts.extend(address.password);
        parts.extend(address.query.filter(|&(from, to)| is_signed(&text[from..to])));
    }
    for (from, to) in joined(parts).into_iter().rev() {
        text.to_mut().replace_range(from..to, HIDDEN);
    }
    text
}

/// Sorted ranges with overlaps merged: an address may be within another one's query.
fn joined(mut ranges: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    ranges.sort_unstable();
    let mut joined: Vec<(usize, usize)> = Vec::new();
    for (from, to) in ranges {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// Whether an address contains a password or a signature.
pub fn is_in_address(text: &str) -> bool {
    addresses(text).any(|address| {
        address.password.is_some() || address.query.is_some_and(|(from, to)| is_signed(&text[from..to]))
    })
}

/// A line of a recipe or a flag for an error message: `*` for each character of a value whose key is secret,
/// and of everything after the host of a web address, so that columns stay. `env:NAME` is not secret.
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut ranges = in_addresses(text);
    for (at, _) in text.match_indices('=') {
        let name = text[..at].trim_end().trim_end_matches(['"', '\'']);
        let name = name.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let value = text[at + 1..].trim_start().trim_start_matches(['"', '\'', '[', ' ']);
        if is_secret_name(name) && !value.starts_with("env:") {
            ranges.push((at + 1, text.len()));
        }
    }
    starred(text, &ranges)
}

/// The same for addresses only, in a text of several lines.
pub fn masked_addresses(text: &str) -> Cow<'_, str> {
    starred(text, &in_addresses(text))
}

/// Parts of addresses in a text that may be secret.
fn in_addresses(text: &str) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for address in addresses(text) {
        ranges.extend(address.password);
        if address.is_web {
            ranges.push((address.host_end, address.end));
        }
    }
    ranges
}

fn starred<'a>(text: &'a str, ranges: &[(usize, usize)]) -> Cow<'a, str> {
    if ranges.is_empty() {
        return text.into();
    }
    let is_hidden = |at: usize| ranges.iter().any(|&(from, to)| (from..to).contains(&at));
    text.char_indices().map(|(at, c)| if is_hidden(at) && c != ' ' { '*' } else { c }).collect()
}

/// Whether a key or a variable with this name is secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    name.ends_with("token") || WORDS.iter().any(|word| name.contains(word))
}

/// Byte ranges of an address in a text.
struct Address {
    is_web: bool,
    password: Option<(usize, usize)>,
    host_end: usize,
    query: Option<(usize, usize)>,
    end: usize,
}

/// `scheme://…`, or `scheme:/…` as paths are normalized.
fn addresses(text: &str) -> impl Iterator<Item = Address> {
    text.match_indices(":/").filter_map(|(colon, _)| {
        let is_letter = |byte: &u8| byte.is_ascii_alphanumeric();
        let length = text.as_bytes()[..colon].iter().rev().take_while(|byte| is_letter(byte)).count();
        let scheme = Some(&text[colon - length..colon]).filter(|scheme| scheme.len() > 1)?;
        let start = colon + 1 + text[colon + 1..].bytes().take_while(|&byte| byte == b'/').count();
        let ends =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '\\');
        let end = text[start..].find(ends).map_or(text.len(), |at| start + at);
        let authority_end = text[start..end].find(['/', '?', '#']).map_or(end, |at| start + at);
        let at_sign = text[start..authority_end].rfind('@').map(|at| start + at);
        Some(Address {
            is_web: scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"),
            // In `hf://owner/name@revision` the `@` follows a slash.
            password: at_sign.map(|at| (start, at)),
            host_end: authority_end,
            query: text[start..end].find('?').map(|at| (start + at + 1, end)),
            end,
        })
    })
}

/// Whether a query contains a bearer token or signature.
fn is_signed(query: &str) -> bool {
    query.split(['&', ';']).filter_map(|pair| pair.split_once('=')).any(|(name, _)| {
        let name = name.to_ascii_lowercase();
        let last = name.rsplit(['-', '_']).next().unwrap_or_default();
        is_secret_name(&name)
            || name.starts_with("x-amz-")
            || matches!(last, "sig" | "signature" | "key" | "auth")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_stays() {
        for (text, wanted) in [
            ("get https://u:canary@h/x: refused", "get https://[hidden]@h/x: refused"),
            ("`/p/https:/u:canary@h/x`", "`/p/https:/[hidden]@h/x`"),
            ("https://h/x?X-Amz-Signature=canary&a=b (403)", "https://h/x?[hidden] (403)"),
            ("https://h/x?sig=canary", "https://h/x?[hidden]"),
            ("https://h/x?access_token=canary\"", "https://h/x?[hidden]\""),
            (
                "https://h/?page=2 hf://a/b@main/x?split=train s3://b/k@v",
                "https://h/?page=2 hf://a/b@main/x?split=train s3://b/k@v",
            ),
            ("a@b.c:/d is no address", "a@b.c:/d is no address"),
            ("http://h/?sig=x&u=https://averylongcanary@e/ z", "http://h/?[hidden] z"),
            ("http://h/?page=2&u=https://canary@e/ z", "http://h/?page=2&u=https://[hidden]@e/ z"),
            ("http://u:canary@h/?key=https://c:canary@e/?sig=c", "http://[hidden]@h/?[hidden]"),
            ("…https://u:canary@h/", "…https://[hidden]@h/"),
            ("two: ftp://canary@a/ ftp://canary@b/", "two: ftp://[hidden]@a/ ftp://[hidden]@b/"),
        ] {
            assert_eq!(hidden(text), wanted);
        }
        keep("https://hooks.example/canary");
        keep("short");
        assert_eq!(hidden("post to https://hooks.example/canary: short"), "post to [hidden]: short");
        assert!(is_in_address("https://a:b@c/") && !is_in_address("hf://a/b@main?split=train"));
    }

    #[test]
    fn lines_are_masked_in_place() {
        for (text, wanted) in [
            ("webhook = \"https://h/canary\"", "webhook = ******************"),
            ("notify = { webhook = \"canary\", bad = 1 }", "notify = { webhook = ********* *** * * *"),
            ("--set notify.webhook=canary", "--set notify.webhook=******"),
            ("TEXT2LLM_NOTIFY_WEBHOOK=canary", "TEXT2LLM_NOTIFY_WEBHOOK=******"),
            ("webhook = \"env:HOOK\"", "webhook = \"env:HOOK\""),
            ("hf_token = 'canary'", "hf_token = ********"),
            ("sample_max_new_tokens = 3", "sample_max_new_tokens = 3"),
            ("paths = [\"https://u:p@h/canary?é\", \"x\"]", "paths = [\"https://***@h*********\", \"x\"]"),
        ] {
            assert_eq!(masked(text), wanted);
            assert_eq!(masked(text).chars().count(), text.chars().count());
        }
    }
}
