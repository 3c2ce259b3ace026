//! One run of characters between white space to tokens: spaCy's prefixes, suffixes, infixes, exceptions and addresses.

use std::ops::Range;

use super::classes::ICONS;
use super::{Token, exception};

const QUOTES: &str = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧";
const MARKS: &str = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪";
const CURRENCIES: &str = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿";
const UNITS: &[&str] = &[
    "km", "km²", "km³", "m", "m²", "m³", "dm", "dm²", "dm³", "cm", "cm²", "cm³", "mm", "mm²", "mm³", "ha",
    "µm", "nm", "yd", "in", "ft", "kg", "g", "mg", "µg", "t", "lb", "oz", "m/s", "km/h", "kmh", "mph", "hPa",
    "Pa", "mbar", "mb", "MB", "kb", "KB", "gb", "GB", "tb", "TB", "T", "G", "M", "K", "%", "км", "км²",
    "км³", "м", "м²", "м³", "кг", "г", "мг",
];

/// Appends the tokens of `text[chunk]`.
pub fn split(text: &str, chunk: Range<usize>, out: &mut Vec<Token>) {
    let bytes = &text.as_bytes()[chunk.clone()];
    if let Some(parts) = exception(&text[chunk.clone()]) {
        return push_parts(chunk.start, parts, out);
    }
    // Most words are letters alone.
    if bytes.iter().all(u8::is_ascii_alphanumeric) && !bytes[0].is_ascii_digit() {
        let ends_in_unit = bytes.len() > 1 && bytes.iter().any(u8::is_ascii_digit);
        if !ends_in_unit {
            return out.push(token(chunk));
        }
    }
    let first = out.len();
    let mut suffixes: [Token; 8] = std::array::from_fn(|_| 0..0);
    let mut more_suffixes = Vec::new();
    let mut suffix_count = 0;
    let mut push_suffix = |range: Range<usize>| {
        match suffixes.get_mut(suffix_count) {
            Some(place) => *place = token(range),
            None => more_suffixes.push(token(range)),
        }
        suffix_count += 1;
    };
    let Range { mut start, mut end } = chunk;
    while start < end {
        let rest = &text[start..end];
        if exception(rest).is_some() {
            break;
        }
        let before = prefix(rest);
        if before > 0 && before < rest.len() && exception(&rest[before..]).is_some() {
            out.push(token(start..start + before));
            start += before;
            break;
        }
        let after = suffix(&rest[before..]);
        if after > 0 && after < rest.len() && exception(&rest[..rest.len() - after]).is_some() {
            push_suffix(end - after..end);
            end -= after;
            break;
        }
        if before == 0 && after == 0 {
            break;
        }
        if before > 0 {
            out.push(token(start..start + before));
            start += before;
        }
        if after > 0 {
            push_suffix(end - after..end);
            end -= after;
        }
    }
    if start < end {
        let rest = &text[start..end];
        match exception(rest) {
            Some(parts) => push_parts(start, parts, out),
            None if is_address(rest) => out.push(token(start..end)),
            None => split_infixes(text, start..end, out),
        }
    }
    debug_assert!(out.len() >= first);
    out.extend(more_suffixes.into_iter().rev());
    out.extend(suffixes[..suffix_count.min(8)].iter().rev().cloned());
}

fn token(range: Range<usize>) -> Token {
    range.start as u32..range.end as u32
}

fn push_parts(mut start: usize, parts: &[u8], out: &mut Vec<Token>) {
    for &length in parts {
        out.push(token(start..start + usize::from(length)));
        start += usize::from(length);
    }
}

fn prefix(text: &str) -> usize {
    let Some(first) = text.chars().next() else { return 0 };
    if first.is_ascii_alphanumeric() {
        let is_currency = ["US$", "C$", "A$"].into_iter().find(|sign| text.starts_with(sign));
        return is_currency.map_or(0, str::len);
    }
    match first {
        '§' | '%' | '=' | '—' | '–' => first.len_utf8(),
        '+' => usize::from(!text[1..].starts_with(|c: char| c.is_ascii_digit())),
        '.' => {
            let dots = text.bytes().take_while(|&byte| byte == b'.').count();
            if dots > 1 { dots } else { 0 }
        }
        _ if is_mark(first) || CURRENCIES.contains(first) || is_icon(first) => first.len_utf8(),
        _ => 0,
    }
}

/// Marks and quotes that are split off on either side.
fn is_mark(c: char) -> bool {
    if c.is_ascii() {
        matches!(
            c,
            ',' | ':'
                | ';'
                | '!'
                | '?'
                | '('
                | ')'
                | '['
                | ']'
                | '{'
                | '}'
                | '<'
                | '>'
                | '_'
                | '#'
                | '*'
                | '&'
                | '\''
                | '"'
                | '`'
        )
    } else {
        !c.is_alphanumeric() && (MARKS.contains(c) || QUOTES.contains(c))
    }
}

fn is_icon(c: char) -> bool {
    !c.is_ascii() && ICONS.contains(c)
}

fn is_quote(c: char) -> bool {
    !c.is_alphanumeric() && QUOTES.contains(c)
}

/// The longest of the suffixes, in bytes.
fn suffix(text: &str) -> usize {
    let Some(last) = text.chars().next_back() else { return 0 };
    let rest = &text[..text.len() - last.len_utf8()];
    let before = rest.chars().next_back();
    let after_digit = |suffix: &str| {
        text.strip_suffix(suffix).is_some_and(|rest| rest.as_bytes().last().is_some_and(u8::is_ascii_digit))
    };
    match last {
        '.' => {
            let dots = text.bytes().rev().take_while(|&byte| byte == b'.').count();
            if dots > 1 {
                return dots;
            }
            let Some(before) = before else { return 0 };
            let second = rest[..rest.len() - before.len_utf8()].chars().next_back();
            let ends = before.is_ascii_digit()
                || is_lower(before)
                || matches!(before, '%' | '²' | '-' | '+' | '|')
                || is_mark(before)
                || (is_upper(before) && second.is_some_and(is_upper))
                || (matches!(before, 'F' | 'C' | 'K') && second == Some('°'));
            usize::from(ends)
        }
        's' | 'S' if text.ends_with("'s") || text.ends_with("'S") => 2,
        's' | 'S' if text.ends_with("’s") || text.ends_with("’S") => "’s".len(),
        '…' if before == Some('…') => 6,
        '—' | '–' => last.len_utf8(),
        '+' => usize::from(after_digit("+")),
        '$' => {
            let signs = ["US$", "C$", "A$", "$"];
            signs.into_iter().find(|sign| after_digit(sign)).map_or(0, str::len)
        }
        _ if is_mark(last) || is_icon(last) => last.len_utf8(),
        _ if !last.is_ascii() && CURRENCIES.contains(last) => {
            if before.is_some_and(|c| c.is_ascii_digit()) {
                last.len_utf8()
            } else {
                0
            }
        }
        _ if last.is_ascii_digit() || text.bytes().all(|byte| !byte.is_ascii_digit()) => 0,
        _ => UNITS.iter().filter(|unit| after_digit(unit)).map(|unit| unit.len()).max().unwrap_or(0),
    }
}

fn is_upper(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_uppercase() } else { c.is_alphabetic() && !c.is_lowercase() }
}

fn is_lower(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_lowercase() } else { c.is_alphabetic() && !c.is_uppercase() }
}

fn split_infixes(text: &str, range: Range<usize>, out: &mut Vec<Token>) {
    let whole = &text[range.clone()];
    let (mut from, mut at) = (0, 0);
    let mut before: Option<char> = None;
    while let Some(c) = whole[at..].chars().next() {
        let length = infix(before, &whole[at..], c);
        if length == 0 {
            before = Some(c);
            at += c.len_utf8();
            continue;
        }
        if at > 0 {
            if at > from {
                out.push(token(range.start + from..range.start + at));
            }
            out.push(token(range.start + at..range.start + at + length));
            from = at + length;
        }
        before = whole[..at + length].chars().next_back();
        at += length;
    }
    if from < whole.len() {
        out.push(token(range.start + from..range.end));
    }
}

/// The length of the infix at the start of `text`, whose first character is `c`; 0: none.
fn infix(before: Option<char>, text: &str, c: char) -> usize {
    if c.is_ascii_alphanumeric() {
        return 0;
    }
    let after = |length: usize| text[length..].chars().next();
    let letter_after = |length: usize| after(length).is_some_and(char::is_alphabetic);
    let is_word_before = before.is_some_and(|c| c.is_alphabetic() || c.is_ascii_digit());
    match c {
        '.' => {
            let dots = text.bytes().take_while(|&byte| byte == b'.').count();
            if dots > 1 {
                return dots;
            }
            let opens = before.is_some_and(|c| is_lower(c) || is_quote(c));
            usize::from(opens && after(1).is_some_and(|c| is_upper(c) || is_quote(c)))
        }
        '…' => c.len_utf8(),
        '+' | '*' | '^' | '-'
            if before.is_some_and(|c| c.is_ascii_digit())
                && after(1).is_some_and(|c| c.is_ascii_digit() || c == '-') =>
        {
            1
        }
        ',' => usize::from(before.is_some_and(char::is_alphabetic) && letter_after(1)),
        '-' | '–' | '—' | '~' if is_word_before => {
            let run = match c {
                '-' => 3,
                '—' => 2,
                _ => 1,
            };
            let size = c.len_utf8();
            (1..=run)
                .find(|&count| {
                    text.chars().take(count).filter(|&d| d == c).count() == count
                        && letter_after(count * size)
                })
                .map_or(0, |count| count * size)
        }
        ':' | '<' | '>' | '=' | '/' => usize::from(is_word_before && letter_after(1)),
        _ if is_icon(c) => c.len_utf8(),
        _ => 0,
    }
}

/// Whether a text is an address: spaCy's URL pattern, in words: [scheme://][user@]host.domain[:port][/path].
fn is_address(text: &str) -> bool {
    if !text.contains('.') {
        return false;
    }
    let is_scheme = |scheme: &str| {
        scheme.chars().count() >= 2
            && scheme.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '+' | '-' | '.'))
    };
    let without_scheme = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)).map(|(_, rest)| rest);
    [without_scheme, Some(text)].into_iter().flatten().any(|rest| {
        // What stands before any `@` may be anything.
        std::iter::once(rest)
            .chain(rest.match_indices('@').filter(|(at, _)| *at > 0).map(|(at, _)| &rest[at + 1..]))
            .any(is_host)
    })
}

fn is_host(text: &str) -> bool {
    let end = text.find(['/', '?', '#']).unwrap_or(text.len());
    let host = &text[..end];
    let host = match host.rsplit_once(':') {
        Some((host, port)) if (2..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()) => {
            host
        }
        Some(_) => return false,
        None => host,
    };
    if is_ip(host) {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let Some((rest, top)) = host.rsplit_once('.') else { return false };
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c >= '\u{a1}';
    let is_label = |label: &str| {
        !label.is_empty()
            && label.chars().count() <= 64
            && label.starts_with(is_letter)
            && label.ends_with(is_letter)
            && label.chars().all(|c| is_letter(c) || matches!(c, '-' | '_'))
    };
    (2..=63).contains(&top.chars().count()) && top.chars().all(is_lower) && rest.split('.').all(is_label)
}

/// A public IPv4 address.
fn is_ip(host: &str) -> bool {
    let parts: Vec<u8> = host.split('.').map_while(|part| part.parse().ok()).collect();
    let [a, b, _, d] = parts[..] else { return false };
    let is_private = matches!(a, 10 | 127)
        || (a, b) == (169, 254)
        || (a, b) == (192, 168)
        || (a == 172 && (16..32).contains(&b));
    host.split('.').count() == 4 && (1..=223).contains(&a) && (1..=254).contains(&d) && !is_private
}
