//! Telephone numbers: international ones by their plus, others by the forms of North America, France, Britain
//! and Germany, and any by a word that announces one.

use super::finding::is_told;
use super::numbers::Numbers;

const ANNOUNCED: [&str; 24] = [
    "phone",
    "phones",
    "telephone",
    "tel",
    "call",
    "fax",
    "mobile",
    "cell",
    "cellphone",
    "téléphone",
    "tél",
    "telefon",
    "telefono",
    "teléfono",
    "móvil",
    "telefax",
    "handy",
    "whatsapp",
    "sms",
    "dial",
    "hotline",
    "ph",
    "mob",
    "toll-free",
];

/// Where a number begins, and how many groups it takes.
pub fn find(numbers: &Numbers<'_>) -> Option<(usize, usize)> {
    if let Some(found) = international(numbers) {
        return Some(found);
    }
    let first = &numbers.groups[0];
    // Only an area code has brackets of its own: those around a whole number are the sentence's.
    let bracketed = numbers.text[..first.start].ends_with('(') && numbers.text[first.end..].starts_with(')');
    let opened = first.start - usize::from(bracketed);
    let groups = north_american(numbers).or_else(|| european(numbers)).or_else(|| announced(numbers))?;
    Some((opened, groups))
}

fn length(numbers: &Numbers<'_>, group: usize) -> usize {
    numbers.groups[group].end - numbers.groups[group].start
}

/// A plus and 8 to 15 digits.
fn international(numbers: &Numbers<'_>) -> Option<(usize, usize)> {
    let before = &numbers.text[..numbers.groups[0].start];
    let plus = before.strip_suffix('+')?;
    let start = plus.strip_suffix('(').unwrap_or(plus).len();
    let is_sum =
        plus.chars().next_back().is_some_and(|c| c.is_alphanumeric() || matches!(c, ')' | '+' | '=' | '_'));
    if is_sum || numbers.digits[0] == 0 || length(numbers, 0) > 15 {
        return None;
    }
    let (mut digits, mut groups) = (length(numbers, 0), 1);
    while groups < numbers.groups.len().min(7) && digits + length(numbers, groups) <= 15 {
        let separator = numbers.separator(groups - 1);
        // " (" and ") " are a number's; " - " is a range's.
        let is_part = matches!(
            separator,
            " " | "-" | "." | "/" | "(" | ")" | " (" | ") " | ")-" | "\u{a0}" | "\u{2011}" | "\u{202f}"
        );
        if !is_part || digits >= 11 && length(numbers, groups) == 4 && separator == " " {
            break;
        }
        digits += length(numbers, groups);
        groups += 1;
    }
    let end = numbers.groups[groups - 1].end;
    let fewest = if groups == 1 { 9 } else { 8 };
    (digits >= fewest && super::numbers::ends_or_extends(numbers.text, end)).then_some((start, groups))
}

/// (NXX) NXX-XXXX, with an optional 1 before.
fn north_american(numbers: &Numbers<'_>) -> Option<usize> {
    let skip = usize::from(length(numbers, 0) == 1 && numbers.digits[0] == 1);
    let groups = skip + 3;
    let lengths: &[usize] = if skip == 1 { &[1, 3, 3, 4] } else { &[3, 3, 4] };
    if !numbers.lengths_are(lengths) || !numbers.is_alone(groups) {
        return None;
    }
    let digits = &numbers.digits[skip..];
    let is_area = digits[0] > 1 && digits[3] > 1 && digits[1..3] != [1, 1];
    let is_form = match (numbers.separator(skip), numbers.separator(skip + 1)) {
        (")" | ") " | ")-", "-" | " " | ".") => true,
        (a, b) if a == b => {
            matches!(a, "-" | "." | "\u{2011}") || a == " " && (skip == 1 || is_announced(numbers))
        }
        (" ", "-") => true,
        ("/", "-") => true,
        _ => false,
    };
    (is_area && is_form).then_some(groups)
}

/// French pairs, British and German numbers, which begin with a 0.
fn european(numbers: &Numbers<'_>) -> Option<usize> {
    if numbers.digits[0] != 0 || numbers.digits.get(1) == Some(&0) {
        return None;
    }
    if numbers.lengths_are(&[2, 2, 2, 2, 2])
        && numbers.is_separated(5, &[" ", ".", "-", "\u{a0}", "\u{202f}"])
        && numbers.is_alone(5)
    {
        return Some(5);
    }
    const BRITISH: [(&[usize], u8); 9] = [
        (&[3, 4, 4], 2),
        (&[4, 6], 7),
        (&[4, 6], 1),
        (&[5, 5], 1),
        (&[5, 6], 1),
        (&[5, 6], 7),
        (&[5, 3, 3], 7),
        (&[4, 3, 4], 1),
        (&[4, 3, 4], 8),
    ];
    for (lengths, second) in BRITISH {
        let is_form =
            numbers.lengths_are(lengths) && numbers.digits[1] == second && numbers.is_alone(lengths.len());
        if is_form && (1..lengths.len()).all(|at| matches!(numbers.separator(at - 1), " " | ") " | "-")) {
            return Some(lengths.len());
        }
    }
    let is_area = (3..=5).contains(&length(numbers, 0)) && numbers.groups.len() > 1;
    if !is_area || !matches!(numbers.separator(0), "/" | " / " | "/ " | ") " | "-") || !numbers.is_alone(2) {
        return None;
    }
    let mut groups = 2;
    let mut digits = length(numbers, 0) + length(numbers, 1);
    while groups < numbers.groups.len()
        && numbers.separator(groups - 1) == " "
        && digits + length(numbers, groups) <= 12
        && digits < 10
    {
        digits += length(numbers, groups);
        groups += 1;
    }
    (9..=12).contains(&digits).then_some(groups)
}

fn is_announced(numbers: &Numbers<'_>) -> bool {
    // A word announces one number: what stands after another number is announced by nothing.
    let start = numbers.groups[0].start;
    let before = numbers.text[..start].trim_end_matches(['+', '(', ' ']);
    let from = before.len() - before.bytes().rev().take_while(|byte| !byte.is_ascii_digit()).count();
    is_told(&numbers.text[from..], start - from, &ANNOUNCED)
}

/// Seven to 15 digits after a word such as "phone".
fn announced(numbers: &Numbers<'_>) -> Option<usize> {
    let (mut digits, mut groups) = (0, 0);
    while groups < numbers.groups.len() && digits + length(numbers, groups) <= 15 {
        if groups > 0
            && !matches!(
                numbers.separator(groups - 1),
                " " | "-" | "." | "/" | ") " | ")" | "\u{2011}" | "\u{a0}" | "\u{202f}"
            )
        {
            break;
        }
        digits += length(numbers, groups);
        groups += 1;
    }
    let is_date = numbers.lengths_are(&[4, 2, 2]) || numbers.lengths_are(&[2, 2, 4]);
    let is_number = digits >= 7 && groups > 0 && !is_date && numbers.is_alone(groups);
    (is_number && is_announced(numbers)).then_some(groups)
}

#[cfg(test)]
mod tests {
    use super::super::{Class, RedactOptions, Redactor};

    fn phones(text: &str) -> Vec<&str> {
        let mut redactor =
            Redactor::new(&RedactOptions { classes: vec![Class::Phone], ..RedactOptions::default() });
        redactor.find(text).iter().map(|finding| &text[finding.start..finding.end]).collect()
    }

    #[test]
    fn forms_are_known() {
        for number in [
            "+1 (212) 555-0143",
            "+49 30 901820",
            "(+44) 20 7946 0958",
            "+33 1 23 45 67 89",
            "+4512345678",
            "(212) 555-0143",
            "212-555-0143",
            "1-800-555-0199",
            "01 23 45 67 89",
            "020 7946 0958",
            "07700 900123",
            "030/901820",
        ] {
            assert_eq!(phones(&format!("Reach us under {number}, daily")), [number]);
        }
        assert_eq!(phones("phone: 555-0143"), ["555-0143"]);
        assert_eq!(phones("call us toll-free (1-888-463-6332) or write"), ["1-888-463-6332"]);
    }

    #[test]
    fn other_numbers_stay() {
        for text in [
            "2024-01-15",
            "555-0143",
            "1,234,567,890",
            "x+123456789",
            "1 000 000 000",
            "v2.10.3",
            "ISBN 0-306-40615-2",
            "10.1000/182-3456-7890",
            "id=212-555-0143",
            "pages 112-118",
            "1234567890",
            "call me 2024-01-15",
        ] {
            assert_eq!(phones(text), [""; 0], "{text}");
        }
    }
}
