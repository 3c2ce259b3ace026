//! Long runs of one class of characters: what a file of DNA, digits, spaces or base64 looks like to code that
//! expects words.
//!
//! Reading order: [`RUNS`], [`Run::text`], [`growth`].

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
pub const RUNS: [Run; 29] = [
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
    run("different addresses", &["a", "b", "c", "d", "e", "f", "g", "@mail.com "]),
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

/// How many times as long `work` takes for twice the input, in this thread's processor time. `input` makes
/// those of a length; they are compared at `bytes` and twice as many. Of each the least of several
/// measurements counts, and more are taken while the result is above `most`, since whatever disturbs a
/// measurement makes it longer.
///
/// A table that leaves a cache which other programs use too, or a text that becomes too long for the branch
/// predictor to remember, makes one or two doublings take up to 2.7 times as long. So two more doublings are
/// looked at where the first takes too long, and the least counts: what is quadratic from `bytes` on is so in
/// each of them. Shorter inputs say nothing of longer ones.
pub fn growth<T, R>(
    bytes: usize,
    most: f64,
    input: impl Fn(usize) -> T,
    mut work: impl FnMut(&T) -> R,
) -> f64 {
    const ROUNDS: usize = 4;
    const DOUBLINGS: usize = 3;
    let (mut inputs, mut least) = (vec![input(bytes)], vec![f64::INFINITY]);
    let mut growth = f64::INFINITY;
    for round in 0..ROUNDS * DOUBLINGS {
        if round % ROUNDS == 0 {
            inputs.push(input(bytes << inputs.len()));
            least.push(f64::INFINITY);
        }
        for (least, input) in least.iter_mut().zip(&inputs) {
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
        let input = |bytes: usize| "x".repeat(bytes);
        let linear = |text: &String| text.bytes().fold(0u64, |sum, byte| black_box(sum + u64::from(byte)));
        assert!(growth(160_000, 2.3, input, linear) <= 2.3);
        let quadratic = |text: &String| (0..text.len()).map(|at| linear(&text[at..].to_owned())).sum::<u64>();
        assert!(growth(1000, 2.3, input, quadratic) > 2.3);
        // What is so for long inputs only.
        let late = |text: &String| if text.len() < 1500 { linear(text) } else { quadratic(text) };
        assert!(growth(1000, 2.3, input, late) > 2.3);
        let later =
            |text: &String| linear(text) + text.get(500..).map_or(0, |rest| quadratic(&rest.to_owned()));
        assert!(growth(1000, 2.3, input, later) > 2.3);
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
