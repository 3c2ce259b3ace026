//! Long runs of one class of characters: what a file of DNA, digits, spaces or base64 looks like to code that
//! expects words.
//!
//! Reading order: [`RUNS`], [`Run::texts`], [`growth`].

use std::hint::black_box;

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
    /// Runs of about so many bytes, and of twice, four times and eight times as many: for [`growth`].
    pub fn texts(&self, bytes: usize) -> [String; 4] {
        [0, 1, 2, 3].map(|doublings| self.text(bytes << doublings))
    }

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

/// How many times as long `work` takes for twice the input, in this thread's processor time. `inputs` are each
/// twice as long as the one before; of each the least of several measurements counts, and more are taken while the
/// result is above `most`, since whatever disturbs a measurement makes it longer.
///
/// The result is the least of the three ratios. A table that leaves a cache which other programs use too, or a text
/// that becomes too long for the branch predictor to remember, makes one or two doublings take up to 2.7 times as
/// long. Above 2.3 at every doubling, a sixth of the time for the shortest input is already quadratic: of 32 KB at
/// 100 MB/s, what would take another 15 s for 16 MB.
pub fn growth<T, R>(inputs: &[T; 4], most: f64, mut work: impl FnMut(&T) -> R) -> f64 {
    let mut least = [f64::INFINITY; 4];
    let mut growth = f64::INFINITY;
    for round in 0..10 {
        for (least, input) in least.iter_mut().zip(inputs) {
            let begun = processor_seconds();
            black_box(work(black_box(input)));
            *least = least.min(processor_seconds() - begun);
        }
        growth = least.windows(2).map(|pair| pair[1] / pair[0]).fold(f64::INFINITY, f64::min);
        if round > 0 && growth <= most {
            break;
        }
    }
    growth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_linear_is_told_from_what_is() {
        let inputs = |bytes: usize| [0, 1, 2, 3].map(|doublings| "x".repeat(bytes << doublings));
        let linear = |text: &String| text.bytes().fold(0u64, |sum, byte| black_box(sum + u64::from(byte)));
        assert!(growth(&inputs(20_000), 2.3, linear) <= 2.3);
        let quadratic = |text: &String| (0..text.len()).map(|at| linear(&text[at..].to_owned())).sum::<u64>();
        assert!(growth(&inputs(500), 2.3, quadratic) > 3.0);
    }

    #[test]
    fn runs_are_as_long_as_asked_for_and_of_their_class_alone() {
        for run in RUNS {
            let text = run.text(1000);
            assert!((980..=1000).contains(&text.len()), "{}: {} bytes", run.name, text.len());
            assert_eq!(text, run.text(1000));
            let known: String = run.of.concat();
            assert!(text.chars().all(|c| known.contains(c)), "{}", run.name);
        }
    }
}
