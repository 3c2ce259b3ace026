//! National numbers, a pack a country. Where a number has no form of its own and a weak checksum, a word
//! beside it must name it.

use super::checks;
use super::finding::{begins, ends, is_told};
use super::numbers::{Group, Numbers};
use super::options::Country;

type Pack = fn(&Numbers<'_>) -> Option<(&'static str, usize)>;

/// A number of digits alone: which, and how many groups it takes.
pub fn find(numbers: &Numbers<'_>, countries: &[Country]) -> Option<(&'static str, usize)> {
    countries.iter().find_map(|country| {
        let pack: Pack = match country {
            Country::Br => cpf,
            Country::Ca => sin,
            Country::Cn => resident,
            Country::De => steuer_id,
            Country::Fr => nir,
            Country::In => aadhaar,
            Country::Nl => bsn,
            Country::Pl => pesel,
            Country::Se => personnummer,
            Country::Us => ssn,
            Country::Es | Country::Gb | Country::It => return None,
        };
        pack(numbers)
    })
}

/// The first of `forms` that the groups have and that stands alone; an empty form is a single group of
/// `length` digits.
fn form(numbers: &Numbers<'_>, forms: &[&[usize]], separators: &[&str]) -> Option<usize> {
    forms.iter().find_map(|lengths| {
        let fits = numbers.lengths_are(lengths)
            && numbers.is_separated(lengths.len(), separators)
            && numbers.is_alone(lengths.len());
        fits.then_some(lengths.len())
    })
}

fn told(numbers: &Numbers<'_>, words: &[&str]) -> bool {
    is_told(numbers.text, numbers.groups[0].start, words)
}

fn value(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value, &digit| value * 10 + u64::from(digit))
}

fn ssn(numbers: &Numbers<'_>) -> Option<(&'static str, usize)> {
    let groups = form(numbers, &[&[3, 2, 4], &[9]], &["-", " "])?;
    let digits = numbers.first(groups);
    let (area, group, serial) = (value(&digits[..3]), value(&digits[3..5]), value(&digits[5..]));
    let is_itin = area >= 900 && matches!(group, 50..=65 | 70..=88 | 90..=92 | 94..=99);
    let is_ssn = area != 0 && area != 666 && area < 900 && group != 0 && serial != 0;
    let is_plain = groups == 1 || numbers.separator(0) == " ";
    let named = || told(numbers, &["ssn", "social security", "social security number", "itin", "taxpayer"]);
    ((is_ssn || is_itin) && (!is_plain || named())).then_some(("us_ssn", groups))
}

fn sin(numbers: &Numbers<'_>) -> Option<(&'static str, usize)> {
    let groups = form(numbers, &[&[3, 3, 3], &[9]], &["-", " "])?;
    let good = checks::luhn(numbers.first(groups));
    (good && told(numbers, &["sin", "social insurance", "social insurance number"]))
        .then_some(("ca_sin", groups))
}

fn steuer_id(numbers: &Numbers<'_>) -> Option<(&'static str, usize)> {
    let groups = form(numbers, &[&[11], &[2, 3, 3, 3]], &[" "])?;
    let digits = numbers.first(groups);
    let mut counts = [0; 10];
    digits[..10].iter().for_each(|&digit| counts[digit as usize] += 1);
    // Of the first ten digits, one comes twice or three times and the others once at most.
    let repeated = counts.iter().filter(|&&count| count > 1).count();
    let good =
        digits[0] != 0 && repeated == 1 && counts.iter().all(|&count| count < 4) && checks::mod_11_10(digits);
    good.then_some(("de_steuer_id", groups))
}

fn nir(numbers: &Numbers<'_>) -> Option<(&'static str, usize)> {
    let groups = form(numbers, &[&[15], &[1, 2, 2, 2, 3, 3, 2], &[13, 2]], &[" ", "\u{a0}", "-"])?;
    let digits = numbers.first(groups);
    let month = value(&digits[3..5]);
    let good = matches!(digits[0], 1..=4 | 7 | 8)
        && matches!(month, 1..=12 | 20..=42 | 50..=99)
        && 97 - value(&digits[..13]) % 97 == value(&digits[13..]);
    good.then_some(("fr_nir", groups))
}

fn bsn(numbers: &Numbers<'_>) -> Option<(&'static str, usize)> {
    let groups = form(numbers, &[&[9], &[4, 2, 3], &[3, 3, 3]], &[" ", "."])?;
    let digits = numbers.first(groups);
    let sum = checks::weighted(&digits[..8], &[9, 8, 7, 6, 5, 4, 3, 2]);
    let good = sum % 11 == u32::from(digits[8]) && value(digits) > 0;
    (good && told(numbers, &["bsn", "burgerservicenummer", "sofinummer"])).then_some(("nl_bsn", groups))
}

fn pesel(numbers: &Numbers<'_>) -> Option<(&'static str, usize)> {
    let groups = form(numbers, &[&[11]], &[])?;
    let digits = numbers.first(groups);
    let sum = checks::weighted(&digits[..10], &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]);
    let is_date = checks::is_day(value(&digits[2..4]) as u32 % 20, value(&digits[4..6]) as u32);
    let good = is_date && (10 - sum % 10) % 10 == u32::from(digits[10]) && value(digits) > 0;
    good.then_some(("pl_pesel", groups))
}

fn cpf(numbers: &Numbers<'_>) -> Option<(&'static str, usize)> {
    let is_written = numbers.lengths_are(&[3, 3, 3, 2])
        && (numbers.separator(0), numbers.separator(1), numbers.separator(2)) == (".", ".", "-")
        && numbers.is_alone(4);
    let groups =
        if is_written { 4 } else { form(numbers, &[&[11]], &[]).filter(|_| told(numbers, &["cpf"]))? };
    let digits = numbers.first(groups);
    let check = |count: u32| {
        let weights: Vec<u32> = (2..=count + 1).rev().collect();
        match checks::weighted(digits, &weights) * 10 % 11 {
            10 => 0,
            rest => rest,
        }
    };
    let is_varied = digits.iter().any(|&digit| digit != digits[0]);
    let good = is_varied && check(9) == u32::from(digits[9]) && check(10) == u32::from(digits[10]);
    good.then_some(("br_cpf", groups))
}

fn aadhaar(numbers: &Numbers<'_>) -> Option<(&'static str, usize)> {
    let groups = form(numbers, &[&[4, 4, 4], &[12]], &[" ", "-"])?;
    let digits = numbers.first(groups);
    // Twelve digits in fours may also be the first of a longer number.
    let goes_on = numbers.groups.len() > groups && numbers.separator(groups - 1).len() == 1;
    let before = numbers.text[..numbers.groups[0].start].strip_suffix([' ', '-']);
    let is_last = before.is_some_and(|before| before.ends_with(|c: char| c.is_ascii_digit()));
    let good = digits[0] > 1 && checks::verhoeff(digits) && !goes_on && !is_last;
    (good && (groups == 3 || told(numbers, &["aadhaar", "aadhar", "uid", "uidai"])))
        .then_some(("in_aadhaar", groups))
}

fn personnummer(numbers: &Numbers<'_>) -> Option<(&'static str, usize)> {
    let groups = form(numbers, &[&[6, 4], &[8, 4]], &["-"])?;
    let digits = numbers.first(groups);
    let short = &digits[digits.len() - 10..];
    let is_date = checks::is_day(value(&short[2..4]) as u32, value(&short[4..6]) as u32);
    (is_date && checks::luhn(short)).then_some(("se_personnummer", groups))
}

/// 18 characters, of which the last may be an X that no group holds.
fn resident(numbers: &Numbers<'_>) -> Option<(&'static str, usize)> {
    let groups = form(numbers, &[&[18]], &[])?;
    let digits = numbers.first(groups);
    let weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let check = (12 - checks::weighted(&digits[..17], &weights) % 11) % 11;
    let year = value(&digits[6..10]);
    let is_date = checks::is_day(value(&digits[10..12]) as u32, value(&digits[12..14]) as u32);
    ((1900..2100).contains(&year) && is_date && check == u32::from(digits[17]))
        .then_some(("cn_resident", groups))
}

/// Numbers with letters, around a group of digits: which, from where, to where.
pub fn find_alphanumeric(
    text: &str,
    group: Group,
    countries: &[Country],
) -> Option<(&'static str, usize, usize)> {
    countries.iter().find_map(|country| match country {
        Country::Es => spanish(text, group),
        Country::Gb => national_insurance(text, group),
        Country::It => codice_fiscale(text, group),
        _ => None,
    })
}

fn spanish(text: &str, group: Group) -> Option<(&'static str, usize, usize)> {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let bytes = text.as_bytes();
    let digits = &bytes[group.start..group.end];
    let dash = usize::from(bytes.get(group.end) == Some(&b'-'));
    let letter = bytes.get(group.end + dash)?.to_ascii_uppercase();
    let end = group.end + dash + 1;
    let number = digits.iter().take(8).fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    let (kind, start, number) = match digits.len() {
        8 => ("es_dni", group.start, number),
        7 => {
            let back = if text[..group.start].ends_with('-') { 2 } else { 1 };
            let start = group.start.checked_sub(back)?;
            let leading = match bytes[start].to_ascii_uppercase() {
                b'X' => 0,
                b'Y' => 1,
                b'Z' => 2,
                _ => return None,
            };
            ("es_nie", start, leading * 10_000_000 + number)
        }
        _ => return None,
    };
    let good = letter == LETTERS[(number % 23) as usize] && begins(text, start) && ends(text, end);
    good.then_some((kind, start, end))
}

/// Two letters, six digits, a letter from A to D; also in pairs.
fn national_insurance(text: &str, group: Group) -> Option<(&'static str, usize, usize)> {
    let bytes = text.as_bytes();
    let back = if text[..group.start].ends_with(' ') { 3 } else { 2 };
    let start = group.start.checked_sub(back)?;
    let (first, second) = (bytes[start], bytes[start + 1]);
    let is_prefix = first.is_ascii_uppercase()
        && second.is_ascii_uppercase()
        && !b"DFIQUV".contains(&first)
        && !b"DFIQUVO".contains(&second)
        && ![b"BG", b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"].contains(&&[first, second]);
    if !is_prefix || !begins(text, start) {
        return None;
    }
    let (mut at, mut digits) = (group.start, 0);
    while digits < 6 {
        match *bytes.get(at)? {
            byte if byte.is_ascii_digit() => digits += 1,
            b' ' if digits % 2 == 0 && digits > 0 && bytes[at - 1] != b' ' => {}
            _ => return None,
        }
        at += 1;
    }
    at += usize::from(bytes.get(at) == Some(&b' '));
    (matches!(bytes.get(at), Some(b'A'..=b'D')) && ends(text, at + 1)).then_some(("gb_nino", start, at + 1))
}

fn codice_fiscale(text: &str, group: Group) -> Option<(&'static str, usize, usize)> {
    let start = group.start.checked_sub(6)?;
    let code: [u8; 16] = text.as_bytes().get(start..start + 16)?.try_into().ok()?;
    let code = code.map(|byte| byte.to_ascii_uppercase());
    const LETTERS: [usize; 9] = [0, 1, 2, 3, 4, 5, 8, 11, 15];
    // Digits may be written as letters where two people would have the same code.
    let is_digit = |byte: u8| byte.is_ascii_digit() || b"LMNPQRSTUV".contains(&byte);
    let is_form = (0..16)
        .all(|at| if LETTERS.contains(&at) { code[at].is_ascii_uppercase() } else { is_digit(code[at]) });
    if !is_form
        || !b"ABCDEHLMPRST".contains(&code[8])
        || !text.is_char_boundary(start)
        || !begins(text, start)
        || !ends(text, start + 16)
    {
        return None;
    }
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let sum: u32 = code[..15]
        .iter()
        .enumerate()
        .map(|(at, &byte)| {
            let value = u32::from(if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' });
            if at % 2 == 0 { ODD[value as usize] } else { value }
        })
        .sum();
    (u32::from(code[15] - b'A') == sum % 26).then_some(("it_codice_fiscale", start, start + 16))
}

#[cfg(test)]
mod tests {
    use super::super::{RedactOptions, Redactor};

    fn kinds(text: &str) -> Vec<&'static str> {
        let mut redactor = Redactor::new(&RedactOptions::default());
        redactor.find(text).iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn each_pack_knows_its_numbers() {
        // Examples that states and standards publish, and computed ones.
        for (text, kind) in [
            ("SSN 536-90-4399", "us_ssn"),
            ("SIN: 046 454 286", "ca_sin"),
            ("IdNr 86 095 742 719", "de_steuer_id"),
            ("NIR 2 55 08 14 168 025 38", "fr_nir"),
            ("nir 255081416802538.", "fr_nir"),
            ("BSN 111222333", "nl_bsn"),
            ("PESEL 44051401359", "pl_pesel"),
            ("CPF 529.982.247-25", "br_cpf"),
            ("Aadhaar 2341 2341 2346", "in_aadhaar"),
            ("personnummer 811218-9876", "se_personnummer"),
            ("id 11010519491231002X or 110105194912310021? ", ""),
            ("DNI 12345678Z", "es_dni"),
            ("NIE X1234567L", "es_nie"),
            ("NINO AB 12 34 56 C", "gb_nino"),
            ("NI AB123456C", "gb_nino"),
            ("CF RSSMRA85T10A562S", "it_codice_fiscale"),
            ("IBAN DE89 3704 0044 0532 0130 00,", "iban"),
            ("card 4111-1111-1111-1111", "credit_card"),
            ("378282246310005", "credit_card"),
        ] {
            let wanted: &[&str] = if kind.is_empty() { &[] } else { &[kind] };
            assert_eq!(kinds(text), wanted, "{text}");
        }
    }

    #[test]
    fn numbers_that_only_look_like_them_stay() {
        for text in [
            "SSN 666-12-1234",
            "111222333",
            "12345678A",
            "DE00 3704 0044 0532 0130 00",
            "4111 1111 1111 1112",
            "ISBN 978-3-16-148410-0",
            "2024-01-15 10:30:00.123456789",
            "3.14159265358979",
            "86095742710",
            "order 112-7767831-2190643",
        ] {
            assert_eq!(kinds(text), [""; 0], "{text}");
        }
    }
}
