//! One run of characters between white space to tokens: spaCy's prefixes, suffixes, infixes, exceptions and
//! addresses.

use super::chunks::{Chunk, DIGIT, DOT, LETTER, classes_of};
use super::classes::ICONS;
use super::exceptions::Exceptions;
use super::token::Token;

const UNITS: &[&str] = &[
    "km", "km²", "km³", "m", "m²", "m³", "dm", "dm²", "dm³", "cm", "cm²", "cm³", "mm", "mm²", "mm³", "ha",
    "µm", "nm", "yd", "in", "ft", "kg", "g", "mg", "µg", "t", "lb", "oz", "m/s", "km/h", "kmh", "mph", "hPa",
    "Pa", "mbar", "mb", "MB", "kb", "KB", "gb", "GB", "tb", "TB", "T", "G", "M", "K", "%", "км", "км²",
    "км³", "м", "м²", "м³", "кг", "г", "мг",
];
/// Of the longest unit.
const UNIT_BYTES: usize = 6;

/// Appends the tokens of a chunk of `text`.
pub fn split(text: &str, chunk: &Chunk, exceptions: &Exceptions, out: &mut Vec<Token>) {
    let &Chunk { start, end, inner, classes } = chunk;
    let bytes = &text.as_bytes()[start..end];
    let whole = &text[start..end];
    if let Some(parts) = exceptions.find(whole) {
        return push_parts(text, start, parts, out);
    }
    // Most words are letters alone, or with one mark behind them.
    let is_plain = |classes: u8, last: u8| {
        classes & !(LETTER | DIGIT) == 0 && (classes & DIGIT == 0 || last.is_ascii_digit())
    };
    let [rest @ .., last] = bytes else { return };
    if is_plain(classes, *last) {
        return out.push(Token { start: start as u32, end: end as u32, classes });
    }
    if let [.., before] = *rest
        && is_plain(inner, before)
        && (is_ascii_mark(*last)
            || (*last == b'.' && (before.is_ascii_lowercase() || before.is_ascii_digit())))
    {
        match exceptions.find(&text[start..end - 1]) {
            Some(parts) => push_parts(text, start, parts, out),
            None => out.push(Token { start: start as u32, end: end as u32 - 1, classes: inner }),
        }
        return out.push(token(text, end - 1, end));
    }
    split_affixes(text, chunk, exceptions, out);
}

/// Takes affixes off as spaCy does: one at either end at a time, unless what is left is an exception.
fn split_affixes(text: &str, chunk: &Chunk, exceptions: &Exceptions, out: &mut Vec<Token>) {
    let &Chunk { mut start, mut end, classes, .. } = chunk;
    let mut suffixes = [Token::default(); 8];
    let mut more_suffixes = Vec::new();
    let mut suffix_count = 0;
    let mut push_suffix = |suffix: Token| {
        match suffixes.get_mut(suffix_count) {
            Some(place) => *place = suffix,
            None => more_suffixes.push(suffix),
        }
        suffix_count += 1;
    };
    while start < end {
        let rest = &text[start..end];
        if exceptions.find(rest).is_some() {
            break;
        }
        let before = prefix(rest);
        if before > 0 && before < rest.len() && exceptions.find(&rest[before..]).is_some() {
            out.push(token(text, start, start + before));
            start += before;
            break;
        }
        let after = suffix(&rest[before..]);
        if after > 0 && after < rest.len() && exceptions.find(&rest[..rest.len() - after]).is_some() {
            push_suffix(token(text, end - after, end));
            end -= after;
            break;
        }
        if before == 0 && after == 0 {
            break;
        }
        if before > 0 {
            out.push(token(text, start, start + before));
            start += before;
        }
        if after > 0 {
            push_suffix(token(text, end - after, end));
            end -= after;
        }
    }
    if start < end {
        let rest = &text[start..end];
        match exceptions.find(rest) {
            Some(parts) => push_parts(text, start, parts, out),
            None if classes & DOT != 0 && is_address(rest) => out.push(token(text, start, end)),
            None => split_infixes(text, start, end, out),
        }
    }
    out.extend(more_suffixes.into_iter().rev());
    out.extend(suffixes[..suffix_count.min(8)].iter().rev());
}

fn token(text: &str, start: usize, end: usize) -> Token {
    Token { start: start as u32, end: end as u32, classes: classes_of(&text.as_bytes()[start..end]) }
}

fn push_parts(text: &str, mut start: usize, parts: &[u8], out: &mut Vec<Token>) {
    for &length in parts {
        out.push(token(text, start, start + usize::from(length)));
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
        _ if is_mark(first) || is_currency(first) || is_icon(first) => first.len_utf8(),
        _ => 0,
    }
}

/// Marks and quotes that are split off on either side.
fn is_mark(c: char) -> bool {
    match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => is_ascii_mark(byte),
        _ => {
            is_wide_quote(c)
                || matches!(c, '¡' | '·' | '¿' | '،' | '؛' | '؟' | '٪' | '۔' | '।' | '…' | '、' | '。')
                || matches!(c, '！' | '，' | '：' | '；' | '？' | '～')
        }
    }
}

fn is_ascii_mark(byte: u8) -> bool {
    matches!(byte, b',' | b':' | b';' | b'!' | b'?' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>')
        || matches!(byte, b'_' | b'#' | b'*' | b'&' | b'\'' | b'"' | b'`')
}

fn is_wide_quote(c: char) -> bool {
    matches!(c, '«' | '´' | '»' | '‘' | '’' | '‚' | '“' | '”' | '„' | '⟦' | '⟧' | '〈' | '〉' | '《' | '》')
        || matches!(c, '「' | '」' | '『' | '』' | '【' | '】' | '〔' | '〕' | '（' | '）')
}

fn is_quote(c: char) -> bool {
    matches!(c, '\'' | '"' | '`' | ',') || is_wide_quote(c)
}

fn is_currency(c: char) -> bool {
    matches!(c, '$' | '£' | '¥' | '฿' | '₠'..='₿' | '﷼')
}

fn is_icon(c: char) -> bool {
    !c.is_ascii() && ICONS.contains(c)
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
        _ if !last.is_ascii() && is_currency(last) => {
            if before.is_some_and(|c| c.is_ascii_digit()) {
                last.len_utf8()
            } else {
                0
            }
        }
        _ => unit(text),
    }
}

/// The length of the unit that stands behind a text's last digit.
fn unit(text: &str) -> usize {
    let bytes = text.as_bytes();
    let start = bytes.len().saturating_sub(UNIT_BYTES + 1);
    let Some(digit) = bytes[start..].iter().rposition(u8::is_ascii_digit) else { return 0 };
    let behind = &text[start + digit + 1..];
    if UNITS.contains(&behind) { behind.len() } else { 0 }
}

fn is_upper(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_uppercase() } else { c.is_alphabetic() && !c.is_lowercase() }
}

fn is_lower(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_lowercase() } else { c.is_alphabetic() && !c.is_uppercase() }
}

fn split_infixes(text: &str, start: usize, end: usize, out: &mut Vec<Token>) {
    let (whole, bytes) = (&text[start..end], &text.as_bytes()[start..end]);
    let (mut from, mut at) = (0, 0);
    // Letters and digits are no infixes.
    while let Some(skipped) = bytes[at..].iter().position(|byte| !byte.is_ascii_alphanumeric()) {
        at += skipped;
        let Some(c) = whole[at..].chars().next() else { break };
        let length = infix(whole[..at].chars().next_back(), &whole[at..], c);
        if length == 0 {
            at += c.len_utf8();
            continue;
        }
        if at > 0 {
            if at > from {
                out.push(token(text, start + from, start + at));
            }
            out.push(token(text, start + at, start + at + length));
            from = at + length;
        }
        at += length;
    }
    if from < whole.len() {
        out.push(token(text, start + from, end));
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
    let is_scheme = |scheme: &str| {
        scheme.chars().count() >= 2
            && scheme.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '+' | '-' | '.'))
    };
    let without_scheme = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)).map(|(_, rest)| rest);
    [without_scheme, Some(text)].into_iter().flatten().any(|rest| {
        // What stands before any `@` may be anything.
        let behind = memchr::memchr_iter(b'@', rest.as_bytes()).filter(|&at| at > 0).map(|at| at + 1);
        std::iter::once(0).chain(behind).any(|at| is_host(&rest[at..]))
    })
}

fn is_host(text: &str) -> bool {
    // No host has an `@`, so that none is looked at twice.
    let end = text.bytes().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'@')).unwrap_or(text.len());
    let host = &text[..end];
    if text.as_bytes().get(end) == Some(&b'@') || !host.contains('.') {
        return false;
    }
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
    let mut parts = host.split('.').map(str::parse::<u8>);
    let (Some(Ok(a)), Some(Ok(b)), Some(Ok(_)), Some(Ok(d)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_private = matches!(a, 10 | 127)
        || (a, b) == (169, 254)
        || (a, b) == (192, 168)
        || (a == 172 && (16..32).contains(&b));
    (1..=223).contains(&a) && (1..=254).contains(&d) && !is_private
}
