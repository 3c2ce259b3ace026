//! Rust source as words and signs, without comments and literals: enough to find paths.

/// A word or a sign, and the line it begins on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// From 1.
    pub line: usize,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or a keyword.
    Word(String),
    /// `::`.
    PathSeparator,
    /// Any other sign; of a sign of several characters, each by itself.
    Sign(char),
}

impl Token {
    /// The identifier, if it is one.
    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Whether it is this sign.
    pub fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    /// Whether it is `::`.
    pub fn is_separator(&self) -> bool {
        self.kind == Kind::PathSeparator
    }
}

/// The tokens of a file.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { rest: text, line: 1, tokens: Vec::new() };
    while !reader.rest.is_empty() {
        reader.next();
    }
    reader.tokens
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
    tokens: Vec<Token>,
}

impl Reader<'_> {
    fn next(&mut self) {
        let rest = self.rest;
        let first = rest.chars().next().unwrap_or_default();
        if rest.starts_with("//") {
            self.skip(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.skip(block_comment(rest));
        } else if let Some(length) = string(rest) {
            self.skip(length);
        } else if first == '\'' {
            self.skip(character_or_lifetime(rest));
        } else if rest.starts_with("::") {
            self.push(Kind::PathSeparator, 2);
        } else if first.is_alphanumeric() || first == '_' {
            let word = rest.strip_prefix("r#").unwrap_or(rest);
            let length = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
            let before = rest.len() - word.len();
            if first.is_ascii_digit() {
                self.skip(length);
            } else {
                self.push(Kind::Word(word[..length].to_owned()), before + length);
            }
        } else if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else {
            self.push(Kind::Sign(first), first.len_utf8());
        }
    }

    fn push(&mut self, kind: Kind, length: usize) {
        self.tokens.push(Token { kind, line: self.line });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        let (passed, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        match () {
            () if rest.starts_with(b"/*") => (depth, at) = (depth + 1, at + 2),
            () if rest.starts_with(b"*/") => (depth, at) = (depth - 1, at + 2),
            () => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The bytes of the string literal that `text` begins with, in all of its forms.
fn string(text: &str) -> Option<usize> {
    let prefix =
        text.find(['"', '#']).filter(|&at| matches!(&text[..at], "" | "b" | "c" | "r" | "br" | "cr"))?;
    let is_raw = text[..prefix].ends_with('r');
    let hashes = text[prefix..].bytes().take_while(|&byte| byte == b'#').count();
    let open = prefix + hashes;
    if text.as_bytes().get(open) != Some(&b'"') || (hashes > 0 && !is_raw) {
        return None;
    }
    let body = &text[open + 1..];
    if is_raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(open + 1 + body.find(&end).map_or(body.len(), |at| at + end.len()));
    }
    let mut is_escaped = false;
    let end = body.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    Some(open + 1 + end.map_or(body.len(), |at| at + 1))
}

fn character_or_lifetime(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((escaped, character))) => {
            let body = escaped + character.len_utf8();
            body + text[body..].find('\'').map_or(0, |at| at + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_leave_nothing() {
        let text =
            "a /* b /* c */ d */ \"e\\\"f\" r#\"g\"h\"# 'i' '\\'' '\\u{2}' &'j k // l\nb\"m\" 0x1f ::r#n é";
        let words: Vec<_> = tokens(text).iter().filter_map(|t| t.word().map(str::to_owned)).collect();
        assert_eq!(words, ["a", "j", "k", "n", "é"]);
        assert_eq!(tokens("a\n\n\"x\ny\" b").last().map(|token| token.line), Some(4));
    }
}
