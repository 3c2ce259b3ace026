//! A page's operators with their operands, one at a time, as far as text needs them. Memory stays within a
//! few times a page's bytes, whatever stands in it: `lopdf` makes an object of a hundred bytes of each
//! number, and a list of them all.
//!
//! What is no token is passed over by the byte.

/// Operands beyond these belong to no operator.
const MOST_OPERANDS: usize = 64;
/// What follows the end of an inline image is text, and hardly ever stands in its data.
const LOOKED_AT_AFTER_IMAGE: usize = 8;

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Number(f32),
    Name(Vec<u8>),
    /// A string, or an array of strings and numbers.
    Shown(Vec<Part>),
    Other,
}

/// A part of what is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    Number(f32),
    /// A string: where it lies in [`Operators::text`].
    Text(u32, u32),
}

/// Walks through a page.
pub struct Operators<'a> {
    bytes: &'a [u8],
    at: usize,
    pub operands: Vec<Operand>,
    strings: Vec<u8>,
}

impl<'a> Operators<'a> {
    pub fn of(page: &'a [u8]) -> Operators<'a> {
        Operators { bytes: page, at: 0, operands: Vec::new(), strings: Vec::new() }
    }

    /// The next operator; its operands lie in `operands`.
    pub fn advance(&mut self) -> Option<&'a [u8]> {
        self.operands.clear();
        self.strings.clear();
        loop {
            match self.token()? {
                Token::Operator(b"BI") => {
                    self.pass_image();
                    self.operands.clear();
                    return Some(b"BI");
                }
                Token::Operator(operator) => return Some(operator),
                Token::Opens => {
                    let array = self.array();
                    self.push(array);
                }
                Token::OpensDictionary => {
                    self.pass_dictionary();
                    self.push(Operand::Other);
                }
                Token::Number(number) => self.push(Operand::Number(number)),
                Token::Name(name) => self.push(Operand::Name(name)),
                Token::Text(start, end) => self.push(Operand::Shown(vec![Part::Text(start, end)])),
                Token::Other => self.push(Operand::Other),
                Token::Closes | Token::ClosesDictionary => {}
            }
        }
    }

    /// A string of the operator at hand.
    pub fn text(&self, start: u32, end: u32) -> &[u8] {
        self.strings.get(start as usize..end as usize).unwrap_or_default()
    }

    fn push(&mut self, operand: Operand) {
        if self.operands.len() < MOST_OPERANDS {
            self.operands.push(operand);
        }
    }

    /// The rest of an array, those within it among its parts.
    fn array(&mut self) -> Operand {
        let (mut parts, mut depth) = (Vec::new(), 1u32);
        while depth > 0 {
            let before = self.at;
            match self.token() {
                Some(Token::Number(number)) => parts.push(Part::Number(number)),
                Some(Token::Text(start, end)) => parts.push(Part::Text(start, end)),
                Some(Token::Opens) => depth += 1,
                Some(Token::Closes) => depth -= 1,
                // An array that is not closed ends where an operator stands.
                Some(Token::Operator(_)) => {
                    self.at = before;
                    break;
                }
                Some(_) => {}
                None => break,
            }
        }
        Operand::Shown(parts)
    }

    fn pass_dictionary(&mut self) {
        let (mut depth, strings) = (1u32, self.strings.len());
        while depth > 0 {
            match self.token() {
                Some(Token::OpensDictionary) => depth += 1,
                Some(Token::ClosesDictionary) => depth -= 1,
                Some(_) => {}
                None => return,
            }
            self.strings.truncate(strings);
        }
    }

    /// Passes over an inline image: its keys, `ID`, its data and `EI` between white space.
    fn pass_image(&mut self) {
        loop {
            match self.token() {
                Some(Token::Operator(b"ID")) => break,
                Some(_) => self.strings.clear(),
                None => return,
            }
        }
        let (bytes, from) = (self.bytes, self.at);
        let is_end = |at: usize| {
            let rest = &bytes[at + 2..];
            let is_apart = at > from && is_space(bytes[at - 1]);
            let is_text = |byte: &u8| byte.is_ascii_graphic() || is_space(*byte);
            is_apart
                && rest.first().is_none_or(|&byte| is_space(byte))
                && rest.iter().take(LOOKED_AT_AFTER_IMAGE).all(is_text)
        };
        let mut ends = memchr::memmem::find_iter(&bytes[from..], b"EI").map(|at| from + at);
        self.at = ends.find(|&at| is_end(at)).map_or(bytes.len(), |at| at + 2);
    }

    fn token(&mut self) -> Option<Token<'a>> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            return Some(match byte {
                byte if is_space(byte) => continue,
                b'%' => {
                    let rest = &self.bytes[self.at..];
                    self.at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    continue;
                }
                b'[' => Token::Opens,
                b']' => Token::Closes,
                b'<' if self.bytes.get(self.at) == Some(&b'<') => {
                    self.at += 1;
                    Token::OpensDictionary
                }
                b'>' if self.bytes.get(self.at) == Some(&b'>') => {
                    self.at += 1;
                    Token::ClosesDictionary
                }
                b'<' => self.hexadecimal(),
                b'(' => self.literal(),
                b'/' => Token::Name(self.name()),
                b'0'..=b'9' | b'+' | b'-' | b'.' => {
                    let word =
                        self.word(self.at - 1, |byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.'));
                    Token::Number(number(word))
                }
                byte if is_of_operator(byte) => match self.word(self.at - 1, is_of_operator) {
                    b"true" | b"false" | b"null" => Token::Other,
                    operator => Token::Operator(operator),
                },
                _ => continue,
            });
        }
    }

    /// The bytes of a kind from a place on.
    fn word(&mut self, start: usize, is_of: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.bytes[start..].iter().take_while(|&&byte| is_of(byte)).count();
        self.at = start + length;
        &self.bytes[start..self.at]
    }

    fn name(&mut self) -> Vec<u8> {
        let word = self.word(self.at, |byte| !is_space(byte) && !b"()<>[]{}/%".contains(&byte));
        let mut name = Vec::new();
        let mut rest = word;
        while let Some((&byte, after)) = rest.split_first() {
            let escaped = after
                .get(..2)
                .filter(|_| byte == b'#')
                .and_then(|digits| Some(hexadecimal_digit(digits[0])? << 4 | hexadecimal_digit(digits[1])?));
            name.push(escaped.unwrap_or(byte));
            rest = if escaped.is_some() { &after[2..] } else { after };
        }
        name
    }

    fn hexadecimal(&mut self) -> Token<'a> {
        let start = self.strings.len();
        let mut high = None;
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match (hexadecimal_digit(byte), high) {
                (Some(digit), None) => high = Some(digit),
                (Some(digit), Some(before)) => {
                    self.strings.push(before << 4 | digit);
                    high = None;
                }
                _ if byte == b'>' => break,
                _ => {}
            }
        }
        self.strings.extend(high.map(|high| high << 4));
        self.string_from(start)
    }

    fn literal(&mut self) -> Token<'a> {
        let (start, mut depth) = (self.strings.len(), 1u32);
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.escape(),
                b'(' => {
                    depth += 1;
                    self.strings.push(byte);
                }
                b')' => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                    self.strings.push(byte);
                }
                byte => self.strings.push(byte),
            }
        }
        self.string_from(start)
    }

    fn escape(&mut self) {
        let Some(&byte) = self.bytes.get(self.at) else { return };
        self.at += 1;
        match byte {
            b'n' => self.strings.push(b'\n'),
            b'r' => self.strings.push(b'\r'),
            b't' => self.strings.push(b'\t'),
            b'b' => self.strings.push(8),
            b'f' => self.strings.push(12),
            b'\r' if self.bytes.get(self.at) == Some(&b'\n') => self.at += 1,
            b'\r' | b'\n' => {}
            b'0'..=b'7' => {
                let digits = self.word(self.at - 1, |byte| matches!(byte, b'0'..=b'7'));
                let used = &digits[..digits.len().min(3)];
                self.at -= digits.len() - used.len();
                let value = used.iter().fold(0u32, |value, digit| value << 3 | u32::from(digit - b'0'));
                self.strings.push(value as u8);
            }
            byte => self.strings.push(byte),
        }
    }

    fn string_from(&self, start: usize) -> Token<'a> {
        Token::Text(start as u32, self.strings.len() as u32)
    }
}

enum Token<'a> {
    Number(f32),
    Name(Vec<u8>),
    Text(u32, u32),
    Opens,
    Closes,
    OpensDictionary,
    ClosesDictionary,
    Operator(&'a [u8]),
    Other,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0 | 12)
}

/// Digits may follow in an operator; a token that begins with one is a number.
fn is_of_operator(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'\'' | b'"')
}

fn hexadecimal_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Some programs write a sign within the fraction: it is passed over, as other readers do.
fn number(word: &[u8]) -> f32 {
    let parsed = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
    parsed(word).unwrap_or_else(|| {
        let is_sign = |byte: u8| matches!(byte, b'-' | b'+');
        let (first, rest) = word.split_at(1);
        let digits: Vec<u8> = rest.iter().copied().filter(|&byte| !is_sign(byte)).collect();
        parsed(&[first, &digits].concat()).unwrap_or(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operators and their operands, strings as text.
    fn read(page: &str) -> Vec<String> {
        let mut operators = Operators::of(page.as_bytes());
        let mut out = Vec::new();
        while let Some(operator) = operators.advance() {
            let mut line = String::from_utf8_lossy(operator).into_owned();
            for operand in &operators.operands {
                line += &match operand {
                    Operand::Number(number) => format!(" {number}"),
                    Operand::Name(name) => format!(" /{}", String::from_utf8_lossy(name)),
                    Operand::Other => " _".to_owned(),
                    Operand::Shown(parts) => parts
                        .iter()
                        .map(|part| match *part {
                            Part::Number(number) => format!(" {number}"),
                            Part::Text(start, end) => {
                                format!(" ({})", String::from_utf8_lossy(operators.text(start, end)))
                            }
                        })
                        .collect(),
                };
            }
            out.push(line);
        }
        out
    }

    #[test]
    fn operators_come_with_their_operands() {
        let page = "q 1 0 0 -.5 +72 0.00-4 cm /F#311 12 Tf%a comment (\n[(a\\(b)-250<4 1 \
                    4>[2]]TJ\n(x(y)\\101\\n\\\n)'";
        assert_eq!(
            read(page),
            ["q", "cm 1 0 0 -0.5 72 0.004", "Tf /F11 12", "TJ (a(b) -250 (A@) 2", "' (x(y)A\n)"]
        );
        let marked = "/Span<</ActualText(x)/A<</B[1 2]>>>>BDC true (a)Tj EMC";
        assert_eq!(read(marked), ["BDC /Span _", "Tj _ (a)", "EMC"]);
    }

    #[test]
    fn images_are_passed_over() {
        let page = "q BI /W 2/H 2/F[/AHx] ID (\u{1} EI\u{2} EIx EI\n(a)Tj d0";
        assert_eq!(read(page), ["q", "BI", "Tj (a)", "d0"]);
        assert_eq!(read("BI /W 2 ID xxxx"), ["BI"]);
    }

    #[test]
    fn damage_costs_no_more_than_itself() {
        assert_eq!(read("(a)Tj }} ) > \u{7f} (b)Tj [(c)Tj (d"), ["Tj (a)", "Tj (b)", "Tj (c)"]);
        for long in ["0 ", "(a)", "[", "<<", "/a ", "<", "("] {
            let page = long.repeat(1 << 20);
            let mut operators = Operators::of(page.as_bytes());
            assert_eq!(operators.advance(), None);
            assert!(operators.operands.len() <= MOST_OPERANDS);
        }
    }
}
