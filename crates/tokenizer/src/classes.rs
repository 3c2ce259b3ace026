//! Character classes of pre-tokenizers.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as ParsedClass, HirKind};

/// A character class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\r` and `\n`
    Newline,
    /// The rest of `\s`.
    Space,
    /// Everything else.
    Other,
}

const ASCII: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\r' | b'\n' => Class::Newline,
            b' ' | b'\t' | 0x0b | 0x0c => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

/// Classes of the characters below 2¹⁶; for others, the ranges of letters and of numbers.
struct Table {
    low: Vec<Class>,
    high: Vec<(u32, u32, Class)>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { low: vec![Class::Other; 1 << 16], high: Vec::new() };
    for (property, class) in [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)] {
        for (start, end) in unicode_ranges(property).into_iter().map(|(a, b)| (u32::from(a), u32::from(b))) {
            if end >= 1 << 16 {
                table.high.push((start, end, class));
            }
            for at in start..(end + 1).min(1 << 16) {
                table.low[at as usize] = class;
            }
        }
    }
    table.high.sort_unstable_by_key(|range| range.0);
    table
});

/// The characters of a regular-expression class (`\p{So}`), as sorted inclusive ranges; none for an invalid
/// class.
pub fn unicode_ranges(class: &str) -> Vec<(char, char)> {
    let parsed = regex_syntax::parse(class).ok();
    match parsed.as_ref().map(regex_syntax::hir::Hir::kind) {
        Some(HirKind::Class(ParsedClass::Unicode(class))) => {
            class.ranges().iter().map(|range| (range.start(), range.end())).collect()
        }
        _ => Vec::new(),
    }
}

/// The class of a text's first character, and its length in bytes; `byte` is the first of them.
pub fn first(byte: u8, text: &str) -> (Class, usize) {
    if let Some(&class) = ASCII.get(usize::from(byte)) {
        return (class, 1);
    }
    let c = text.chars().next().unwrap_or_default();
    (of(c), c.len_utf8())
}

fn of(c: char) -> Class {
    let code = u32::from(c);
    if let Some(&class) = TABLE.low.get(code as usize) {
        return class;
    }
    let at = TABLE.high.partition_point(|&(_, end, _)| end < code);
    TABLE.high.get(at).filter(|range| range.0 <= code).map_or(Class::Other, |range| range.2)
}
