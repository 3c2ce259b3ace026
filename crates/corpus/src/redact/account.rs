//! Payment cards, IBANs, and national numbers that have letters in them.

use super::finding::{Finding, begins, ends};
use super::numbers::{Group, Numbers};
use super::options::{Class, RedactOptions};
use super::{checks, national};

/// How many groups are a card's number: an issuer's range, its length, Luhn's sum, and the usual groups.
pub fn card(numbers: &Numbers<'_>) -> Option<usize> {
    const FORMS: [&[usize]; 5] = [&[4, 4, 4, 4], &[4, 4, 4, 4, 3], &[4, 6, 5], &[4, 6, 4], &[]];
    FORMS.iter().find_map(|form| {
        let groups = form.len().max(1);
        let fits = numbers.lengths_are(form) && numbers.is_separated(groups, &[" ", "-", "\u{a0}", "."]);
        if !fits || numbers.groups.len() < groups {
            return None;
        }
        let digits = numbers.first(groups);
        let is_varied = digits.iter().any(|&digit| digit != digits[0]);
        let is_card = is_issued(digits) && checks::luhn(digits) && is_varied && numbers.is_alone(groups);
        is_card.then_some(groups)
    })
}

/// Whether an issuer has numbers that begin like this and are as long.
fn is_issued(digits: &[u8]) -> bool {
    if digits.len() < 13 {
        return false;
    }
    let prefix =
        |length: usize| digits[..length].iter().fold(0u32, |value, &digit| value * 10 + u32::from(digit));
    match (digits.len(), prefix(4)) {
        (13 | 16 | 19, 4000..=4999) => true,                   // Visa
        (16, 5100..=5599 | 2221..=2720) => true,               // Mastercard
        (15, 3400..=3499 | 3700..=3799) => true,               // American Express
        (14, 3000..=3059 | 3600..=3699 | 3800..=3899) => true, // Diners Club
        (16 | 19, 6011 | 6440..=6599) => true,                 // Discover
        (16, 3528..=3589) => true,                             // JCB
        (16..=19, 6200..=6299) => true,                        // UnionPay
        _ => false,
    }
}

/// Countries and the lengths of their IBANs (ISO 13616 register).
const IBAN_LENGTHS: [(&[u8; 2], usize); 56] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GR", 27),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MT", 31),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SE", 24),
    (b"SK", 24),
];
const LONGEST_IBAN: usize = 34;

/// Finds numbers that have letters too, around each group of digits.
pub fn find_alphanumeric(text: &str, groups: &[Group], options: &RedactOptions, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    for group in groups {
        let letters =
            bytes[..group.start].iter().rev().take(7).take_while(|byte| byte.is_ascii_alphabetic()).count();
        let spaced = bytes[..group.start].ends_with(b" ");
        let is_inside = found.last().is_some_and(|last| last.end > group.start);
        if is_inside
            || letters == 0
                && !spaced
                && !bytes.get(group.end).is_some_and(|&b| b.is_ascii_alphabetic() || b == b'-')
        {
            continue;
        }
        if letters == 2
            && group.end - group.start >= 2
            && let Some(end) = iban_end(text, group.start - 2)
        {
            found.push(Finding { class: Class::Iban, kind: "iban", start: group.start - 2, end });
        } else if let Some((kind, start, end)) = national::find_alphanumeric(text, *group, &options.countries)
        {
            found.push(Finding { class: Class::NationalId, kind, start, end });
        }
    }
}

/// Where an IBAN that begins here ends: its country's length, single spaces left out, and its checksum.
fn iban_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let country = [bytes[start].to_ascii_uppercase(), bytes[start + 1].to_ascii_uppercase()];
    let length = IBAN_LENGTHS.iter().find(|(code, _)| **code == country)?.1;
    if !begins(text, start) {
        return None;
    }
    let mut iban = [0; LONGEST_IBAN];
    let (mut count, mut at) = (0, start);
    while count < length {
        match *bytes.get(at)? {
            byte if byte.is_ascii_alphanumeric() => {
                iban[count] = byte;
                count += 1;
            }
            b' ' | b'-' if bytes[at - 1].is_ascii_alphanumeric() => {}
            _ => return None,
        }
        at += 1;
    }
    (ends(text, at) && checks::mod_97(&iban[..length])).then_some(at)
}
