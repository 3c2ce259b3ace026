//! Long runs of one class of characters: what a file of DNA, digits, spaces or base64 looks like to code that
//! expects words.
//!
//! Reading order: [`RUNS`], [`Run::text`], [`growth`].

use std::hint::black_box;

/// How often the longer text of a measurement is twice as long as the shorter one.
pub const DOUBLINGS: u32 = 3;

/// A class of characters, and some of them.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// What a failing test calls it.
    pub name: &'static str,
    /// What the run is made of: one of them after another, drawn at random.
    pub of: &'static [&'static str],
}

const fn run(name: &'static str, of: &'static [&'static str]) -> Run {
    Run { name, of }
}

/// Every class, alone and mixed; a class of one member is a run of equal characters.
pub const RUNS: [Run; 28] = [
    run("ACGT", &["A", "C", "G", "T"]),
    run("one letter", &["a"]),
    run("letters of base64", &["a", "Q", "x", "Z", "k", "B", "0", "7", "+", "/"]),
    run("accented letters", &["é", "à", "ü", "Ã", "©"]),
    run("digits", &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
    run("one digit", &["7"]),
    run("digits and separators", &["1", "22", "333", "4444", "-", ".", " ", "/"]),
    run("digits of other scripts", &["٣", "½", "²", "Ⅷ", "৪"]),
    run("spaces", &[" "]),
    run("white space", &[" ", "\t", "\u{a0}", "\u{2003}", "\u{3000}"]),
    run("line feeds", &["\n"]),
    run("line ends", &["\n", "\r\n", " \n", "\r"]),
    run("one mark", &["!"]),
    run("punctuation", &[".", ",", ";", ":", "!", "?", "-", "(", ")", "\"", "'"]),
    run("full stops", &[".", "..", "…"]),
    run("brackets", &["(", "[", "{", "<", "]"]),
    run("contractions", &["'s", "'ll", "'", "’s"]),
    run("symbols", &["$", "+", "=", "~", "^", "#", "*", "_", "@", "&", "%"]),
    run("addresses", &["a@", "x.", "://", ":", "/", "b"]),
    run("mixed scripts", &["a", "б", "γ", "漢", "ひ", "한", "ع", "א", "ก", "1"]),
    run("combining marks", &["\u{301}", "\u{308}", "\u{323}", "\u{5b0}"]),
    run("one combining mark", &["\u{301}"]),
    run("letters with marks", &["e\u{301}", "o\u{323}\u{302}", "n"]),
    run("CJK", &["漢", "字", "仮", "名", "。"]),
    run("emoji", &["🙂", "🎉", "👩\u{200d}💻", "👍🏽", "🏴\u{e0067}"]),
    run("unseen characters", &["\u{200b}", "\u{ad}", "\u{1}", "\u{1b}[1m"]),
    run("short words", &["a ", "b ", "ab ", "1 "]),
    run("short lines", &["ab\n", "a b c\n", "\n"]),
];

impl Run {
    /// A run of about so many bytes, never more; the same every time.
    pub fn text(&self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes);
        let mut state = 1u64;
        loop {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let next = self.of[(state >> 33) as usize % self.of.len()];
            if text.len() + next.len() > bytes {
                return text;
            }
            text.push_str(next);
        }
    }
}

/// The seconds that this thread has computed: other programs on the machine do not add to them.
pub fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// How many times as long `work` takes when what it works on is twice as long, over [`DOUBLINGS`] of them: of
/// `small`, and of `large`, which is 2 to the power of that as long, the least of several measurements in
/// this thread's processor time. More are taken while the growth is above `most`, since all that disturbs a
/// measurement makes it longer.
///
/// A single doubling would also tell the one at which a table leaves a cache, which costs up to 2.7 times as
/// long, once.
pub fn growth<T: ?Sized, R>(small: &T, large: &T, most: f64, mut work: impl FnMut(&T) -> R) -> f64 {
    let mut time = |input: &T| {
        let begun = processor_seconds();
        black_box(work(black_box(input)));
        processor_seconds() - begun
    };
    let (mut least_small, mut least_large) = (f64::INFINITY, f64::INFINITY);
    let mut growth = f64::INFINITY;
    for round in 0..8 {
        // The short one is the more easily disturbed, and costs little.
        for _ in 0..3 {
            least_small = least_small.min(time(small));
        }
        least_large = least_large.min(time(large));
        growth = (least_large / least_small.max(1e-9)).powf(1.0 / f64::from(DOUBLINGS));
        if round > 0 && growth <= most {
            break;
        }
    }
    growth
}
