//! Runs of characters between white space, found in one pass that notes which classes their bytes are of.

/// ASCII letters.
pub const LETTER: u8 = 1;
/// ASCII digits.
pub const DIGIT: u8 = 2;
/// Other ASCII characters that are not white space.
pub const SYMBOL: u8 = 4;
/// Bytes of characters beyond ASCII.
pub const WIDE: u8 = 8;
/// The full stop, which is a symbol too.
pub const DOT: u8 = 16;
const SPACE: u8 = 32;
/// First bytes that white space beyond ASCII has; others have them too.
const MAYBE_SPACE: u8 = 64;

static CLASSES: [u8; 256] = {
    let mut classes = [WIDE; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t'..=b'\r' | 0x1c..=0x1f => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'.' => SYMBOL | DOT,
            _ => SYMBOL,
        };
        byte += 1;
    }
    classes[0xc2] |= MAYBE_SPACE;
    classes[0xe1] |= MAYBE_SPACE;
    classes[0xe2] |= MAYBE_SPACE;
    classes[0xe3] |= MAYBE_SPACE;
    classes
};

/// The classes of some bytes, all together.
pub fn classes_of(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |classes, &byte| classes | CLASSES[usize::from(byte)])
}

/// A run of characters that are not white space.
#[derive(Clone, Copy)]
pub struct Chunk {
    pub start: usize,
    pub end: usize,
    /// Classes of all its bytes but the last.
    pub inner: u8,
    /// Classes of all its bytes.
    pub classes: u8,
}

/// The runs of a text, white space being what Python's `str.isspace` says.
pub fn chunks(text: &str) -> impl Iterator<Item = Chunk> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(&byte) = bytes.get(at) {
            match CLASSES[usize::from(byte)] {
                SPACE => at += 1,
                class if class & MAYBE_SPACE != 0 => match wide_space(&bytes[at..]) {
                    0 => break,
                    length => at += length,
                },
                _ => break,
            }
        }
        let start = at;
        let (mut inner, mut classes) = (0, 0);
        while let Some(&byte) = bytes.get(at) {
            let class = CLASSES[usize::from(byte)];
            if class & (SPACE | MAYBE_SPACE) != 0 && (class == SPACE || wide_space(&bytes[at..]) > 0) {
                break;
            }
            inner = classes;
            classes |= class;
            at += 1;
        }
        (start < at).then_some(Chunk { start, end: at, inner, classes: classes & !MAYBE_SPACE })
    })
}

/// The length of white space beyond ASCII where bytes begin with it, else 0.
fn wide_space(bytes: &[u8]) -> usize {
    match bytes {
        [0xc2, 0x85 | 0xa0, ..] => 2,
        [0xe1, 0x9a, 0x80, ..]
        | [0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf, ..]
        | [0xe2, 0x81, 0x9f, ..]
        | [0xe3, 0x80, 0x80, ..] => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_python_s() {
        for c in '\0'..=char::MAX {
            let is_space = c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
            let text = format!("a{c}b");
            let found: Vec<&str> = chunks(&text).map(|chunk| &text[chunk.start..chunk.end]).collect();
            assert_eq!(found, if is_space { vec!["a", "b"] } else { vec![text.as_str()] }, "{c:?}");
        }
    }

    #[test]
    fn chunks_know_their_classes() {
        let all: Vec<_> = chunks(" to,\u{a0}v1.0 né ").map(|chunk| (chunk.inner, chunk.classes)).collect();
        let last = LETTER | WIDE;
        assert_eq!(
            all,
            [
                (LETTER, LETTER | SYMBOL),
                (LETTER | DIGIT | SYMBOL | DOT, LETTER | DIGIT | SYMBOL | DOT),
                (last, last)
            ]
        );
    }
}
