//! Computes the MinHash signature of a text: simplified, split into words, shingled, hashed, with the minimum
//! of each hash function.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use unicode_normalization::char::decompose_canonical;

use super::options::DuplicateOptions;
use super::parameters::{MERSENNE, draw};
use crate::words::{self, Token, classes};

/// One band of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Band {
    /// Its first row: bands are ordered by it, as datatrove orders them.
    pub first: u64,
    /// A hash of all its rows: bands that agree in it are equal.
    pub all: u64,
}

/// Computes signatures, with its working memory.
pub struct Signer {
    bands: usize,
    rows: usize,
    shingle_words: usize,
    a: Vec<u64>,
    b: Vec<u64>,
    least: Vec<u64>,
    words: Vec<Token>,
    simple: String,
    joined: String,
    /// Starts of words in `joined`, and the end of the last one's space.
    starts: Vec<usize>,
    shingles: Vec<u64>,
}

/// Shingles that are hashed by all functions in turn: what fits into the nearest cache.
const BLOCK: usize = 512;
/// Working memory of a longer text is given back.
const KEPT_BYTES: usize = 1 << 20;

impl Signer {
    /// With the recipe's numbers of bands and rows.
    pub fn new(options: &DuplicateOptions) -> Signer {
        let (a, b) = draw(options.seed, options.bands * options.rows);
        Signer {
            bands: options.bands,
            rows: options.rows,
            shingle_words: options.shingle_words,
            a,
            b,
            least: Vec::new(),
            words: Vec::new(),
            simple: String::new(),
            joined: String::new(),
            starts: Vec::new(),
            shingles: Vec::new(),
        }
    }

    /// The hash of each band; `None` for a text with fewer words than a shingle, which has no
    /// near-duplicates.
    pub fn sign(&mut self, text: &str) -> Option<Vec<Band>> {
        simplify(text, &mut self.simple);
        self.joined.clear();
        self.starts.clear();
        self.starts.push(0);
        self.least.clear();
        self.least.resize(self.a.len(), u64::MAX);
        let mut is_any = false;
        let (simple, mut words) = (std::mem::take(&mut self.simple), std::mem::take(&mut self.words));
        // The words with one space between, so that a shingle is a slice; only as many at a time as are
        // hashed at once.
        words::each(&simple, &mut words, |word| {
            self.joined.push_str(&simple[word.start as usize..word.end as usize]);
            self.joined.push(' ');
            self.starts.push(self.joined.len());
            if self.starts.len() > BLOCK + self.shingle_words {
                is_any |= self.hash_shingles();
            }
        });
        is_any |= self.hash_shingles();
        if simple.capacity() <= KEPT_BYTES {
            (self.simple, self.words) = (simple, words);
        } else {
            self.joined = String::new();
        }
        let band = |rows: &[u64]| {
            let bytes = rows.iter().flat_map(|row| row.to_le_bytes()).collect::<Vec<u8>>();
            Band { first: rows.first().copied().unwrap_or(0), all: XxHash64::oneshot(1, &bytes) }
        };
        is_any.then(|| self.least.chunks(self.rows).take(self.bands).map(band).collect())
    }

    /// Hashes all complete shingles of the available words, and keeps the words that start further ones.
    /// Returns false if there was none.
    fn hash_shingles(&mut self) -> bool {
        let words = self.starts.len() - 1;
        let count = (words + 1).saturating_sub(self.shingle_words);
        if count == 0 {
            return false;
        }
        let (joined, starts) = (self.joined.as_bytes(), &self.starts);
        // Behind each word stands a space.
        let shingle = |at: usize| &joined[starts[at]..starts[at + self.shingle_words] - 1];
        self.shingles.clear();
        self.shingles.extend((0..count).map(|at| XxHash64::oneshot(0, shingle(at))));
        for ((least, &a), &b) in self.least.iter_mut().zip(&self.a).zip(&self.b) {
            *least = self
                .shingles
                .iter()
                .fold(*least, |least, shingle| least.min(modulo(shingle.wrapping_mul(a).wrapping_add(b))));
        }
        let begin = self.starts[count];
        self.joined.drain(..begin);
        self.starts.drain(..count);
        self.starts.iter_mut().for_each(|start| *start -= begin);
        true
    }
}

/// x mod 2⁶¹ − 1.
fn modulo(x: u64) -> u64 {
    let folded = (x & MERSENNE) + (x >> 61);
    if folded >= MERSENNE { folded - MERSENNE } else { folded }
}

/// datatrove's `simplify_text`: lower case, numbers as 0, punctuation as spaces, white space folded,
/// diacritics dropped.
fn simplify(text: &str, out: &mut String) {
    out.clear();
    if text.is_ascii() {
        return simplify_ascii(text.as_bytes(), out);
    }
    let lower = text.to_lowercase();
    let mut simple = String::with_capacity(lower.len());
    let mut rest = lower.chars().peekable();
    let is_digit = |c: char| if c.is_ascii() { c.is_ascii_digit() } else { classes::DIGITS.contains(c) };
    while let Some(c) = rest.next() {
        if is_digit(c) {
            while rest.next_if(|&c| is_digit(c)).is_some() {}
            // One separator with digits behind it belongs to the number.
            let mut ahead = rest.clone();
            if ahead.next().is_some_and(|c| ".,،٫⎖⎗⎘".contains(c))
                && ahead.peek().is_some_and(|&c| is_digit(c))
            {
                rest = ahead;
                while rest.next_if(|&c| is_digit(c)).is_some() {}
            }
            simple.push('0');
        } else if classes::is_simplified_away(c) || is_space(c) {
            if !simple.ends_with(' ') && !simple.is_empty() {
                simple.push(' ');
            }
        } else {
            simple.push(c);
        }
    }
    // The order of marks does not matter to what drops them, so that characters are decomposed one by one.
    for c in simple.trim_matches(is_space).chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            decompose_canonical(c, |part| {
                if part.is_ascii() || !classes::NONSPACING_MARKS.contains(part) {
                    out.push(part);
                }
            });
        }
    }
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn simplify_ascii(text: &[u8], out: &mut String) {
    let mut at = 0;
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'0'..=b'9' => {
                at += digits(at);
                if matches!(text.get(at), Some(b'.' | b',')) {
                    let fraction = digits(at + 1);
                    at += if fraction > 0 { fraction + 1 } else { 0 };
                }
                out.push('0');
            }
            b'a'..=b'z' => out.push(char::from(byte)),
            b'A'..=b'Z' => out.push(char::from(byte.to_ascii_lowercase())),
            _ => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                }
            }
        }
    }
    if out.ends_with(' ') {
        out.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_simplified_as_datatrove_does() {
        // Each checked with datatrove.utils.text.simplify_text 0.10.1.
        let check = |text: &str, wanted: &str| {
            let mut out = String::new();
            simplify(text, &mut out);
            assert_eq!(out, wanted);
        };
        check("  Hello, World! 3.14 and 1,000,000\n", "hello world 0 and 0 0");
        check("Él  niño—“so” ١٢٫٥", "el nino so 0");
        check("a_b\tc", "a b c");
        check("", "");
    }

    #[test]
    fn a_signature_is_datatrove_s() {
        // MinhashDedupSignature 0.10.1 with 14 buckets of 8, xxhash, 64 bits.
        let mut signer = Signer::new(&DuplicateOptions::default());
        signer.sign("The quick brown fox jumps over the lazy dog, and 3.14 more.").unwrap();
        assert_eq!(signer.least[..3], [85330943174081874, 663359892825767826, 302227827184868053]);
        assert_eq!(signer.least[111], 3963570588256049);
        assert_eq!(signer.sign("too few words here"), None);
    }

    #[test]
    fn a_long_text_is_hashed_in_parts_to_the_same_signature() {
        // None is one that English splits, as it does `wed`.
        let words: Vec<String> = (0..3 * BLOCK + 7).map(|number| format!("q{}", letters(number))).collect();
        let mut signer = Signer::new(&DuplicateOptions::default());
        signer.sign(&words.join(" ")).unwrap();
        let shingles: Vec<u64> =
            words.windows(5).map(|words| XxHash64::oneshot(0, words.join(" ").as_bytes())).collect();
        for ((&a, &b), &least) in signer.a.iter().zip(&signer.b).zip(&signer.least) {
            let all = shingles.iter().map(|shingle| modulo(shingle.wrapping_mul(a).wrapping_add(b)));
            assert_eq!(Some(least), all.min());
        }
    }

    /// Numbers become 0 when a text is simplified; letters stay.
    fn letters(number: usize) -> String {
        number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
    }

    #[test]
    fn the_modulus_is_exact() {
        for x in [0, 1, MERSENNE - 1, MERSENNE, MERSENNE + 1, u64::MAX] {
            assert_eq!(modulo(x), x % MERSENNE);
        }
    }
}
