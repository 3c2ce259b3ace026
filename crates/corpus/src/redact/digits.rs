//! What begins with a digit, offered to each class.

use super::finding::{Finding, ends};
use super::numbers::{Group, Numbers, extension};
use super::options::{Class, RedactOptions};
use super::{account, address, national, phone};

/// More groups than any number has.
const MOST_GROUPS: usize = 24;

/// Finds all numbers that some class knows.
pub fn find(text: &str, options: &RedactOptions, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let (mut groups, mut digits) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(start) = next_digit(bytes, at) {
        groups.clear();
        at = collect(bytes, start, &mut groups);
        // Years, pages, amounts: no class knows fewer than seven digits, nor letters with fewer than six.
        let count: usize = groups.iter().map(|group: &Group| group.end - group.start).sum();
        if count >= 2 {
            account::find_alphanumeric(text, &groups, options, found);
        }
        if count < 7 && !(groups.len() == 4 && count >= 4) {
            continue;
        }
        digits.clear();
        digits.extend(groups.iter().flat_map(|group| &bytes[group.start..group.end]).map(|byte| byte - b'0'));
        let (mut first, mut before) = (0, 0);
        while first < groups.len() {
            let numbers = Numbers { text, groups: &groups[first..], digits: &digits[before..] };
            let taken = recognize(&numbers, options, found).max(1);
            before += groups[first..first + taken].iter().map(|group| group.end - group.start).sum::<usize>();
            first += taken;
        }
    }
}

/// How many of the groups are a value; 0: the first begins none.
fn recognize(numbers: &Numbers<'_>, options: &RedactOptions, found: &mut Vec<Finding>) -> usize {
    let start = numbers.groups[0].start;
    let mut take = |class, kind, start, groups: usize| {
        found.push(Finding { class, kind, start, end: numbers.groups[groups - 1].end });
        groups
    };
    if let Some(groups) = account::card(numbers) {
        return take(Class::CreditCard, "credit_card", start, groups);
    }
    if let Some((kind, groups)) = national::find(numbers, &options.countries) {
        return take(Class::NationalId, kind, start, groups);
    }
    if is_ipv4(numbers, options.public_ips_only) {
        return take(Class::Ip, "ipv4", start, 4);
    }
    if let Some((start, groups)) = phone::find(numbers) {
        let groups = take(Class::Phone, "phone", start, groups);
        if let Some(phone) = found.last_mut() {
            phone.end += extension(numbers.text, phone.end);
        }
        return groups;
    }
    0
}

fn is_ipv4(numbers: &Numbers<'_>, public_only: bool) -> bool {
    let groups = numbers.groups;
    if groups.len() < 4 || groups[..4].iter().any(|group| group.end - group.start > 3) {
        return false;
    }
    let mut octets = [0; 4];
    for (octet, group) in octets.iter_mut().zip(groups) {
        *octet = numbers.text.as_bytes()[group.start..group.end]
            .iter()
            .fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
    }
    let before = numbers.text[..groups[0].start].chars().next_back();
    let touches = before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
    let goes_on = numbers.groups.len() > 4 && matches!(numbers.separator(3), "." | "-");
    (0..3).all(|at| numbers.separator(at) == ".")
        && !touches
        && !goes_on
        && ends(numbers.text, groups[3].end)
        && address::is_ipv4(numbers.text, groups[0].start, octets, public_only)
}

/// The next digit's place, looked for 32 bytes at a time.
fn next_digit(bytes: &[u8], mut at: usize) -> Option<usize> {
    let is_digit = |byte: &u8| byte.wrapping_sub(b'0') < 10;
    while let Some(chunk) = bytes.get(at..at + 32) {
        if chunk.iter().fold(false, |any, byte| any | is_digit(byte)) {
            break;
        }
        at += 32;
    }
    bytes.get(at..)?.iter().position(is_digit).map(|found| at + found)
}

/// Collects groups from a digit on; where they end. Between groups stand one to three of `-./ ()`, or a space
/// that does not break.
fn collect(bytes: &[u8], start: usize, groups: &mut Vec<Group>) -> usize {
    let mut at = start;
    loop {
        let end = at + bytes[at..].iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len() - at);
        groups.push(Group { start: at, end });
        let mut next = end;
        let mut marks = 0;
        while marks < 3 && next < bytes.len() {
            match bytes[next] {
                b' ' | b'-' | b'.' | b'/' | b'(' | b')' => next += 1,
                // U+00A0, U+2009 to U+2011, U+202F.
                0xc2 if bytes.get(next + 1) == Some(&0xa0) => next += 2,
                0xe2 if bytes.get(next + 1) == Some(&0x80)
                    && matches!(bytes.get(next + 2), Some(0x89..=0x91 | 0xaf)) =>
                {
                    next += 3
                }
                _ => break,
            }
            marks += 1;
        }
        if marks == 0 || groups.len() == MOST_GROUPS || !bytes.get(next).is_some_and(u8::is_ascii_digit) {
            return end;
        }
        at = next;
    }
}
