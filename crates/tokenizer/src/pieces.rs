//! Trains a unigram vocabulary with the library's trainer (Kudo 2018), with reproducible results.
//!
//! Three things vary in the library: the order of words (sorted here), the grouping of floating-point sums by
//! the number of threads (it runs on one), and which letters outside the model get which of the lowest scores
//! (assigned here in the order of the letters).

use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use crate::byte_level;
use crate::vocabulary::Base;
use crate::{Error, Result, TokenizerOptions};

/// The score of special tokens: so low that no text is ever encoded as one.
const SPECIAL_SCORE: f64 = -100_000.0;
/// Distance between the scores of letters outside the model.
const PENALTY_STEP: f64 = 0.0001;

/// Pieces with their log-probabilities, by id; the special tokens come first.
pub fn learn(
    words: &[(Box<str>, u64)],
    base: &Base,
    options: &TokenizerOptions,
) -> Result<Vec<(String, f64)>> {
    let special = options.special_spellings();
    // The trainer counts in 32 bits.
    let total: u64 = words.iter().map(|(_, count)| count).sum();
    let scale = total / (1 << 31) + 1;
    let sentences: Vec<(String, u32)> = words
        .iter()
        .map(|(word, count)| (byte_level::spell(word.as_bytes()), (count / scale).max(1) as u32))
        .collect();
    let is_base =
        |c: &char| byte_level::byte(*c).is_some_and(|byte| base.byte_ids[usize::from(byte)].is_some());
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size((options.vocab_size - special.len() + 1) as u32)
        .unk_token(Some(options.special_tokens.unk.clone()))
        .initial_alphabet(ByteLevel::alphabet().into_iter().filter(is_base).collect())
        .build()
        .map_err(Error::library("set up the unigram trainer"))?;
    let one_thread = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(Error::library("start a thread for the unigram trainer"))?;
    let mut model = Unigram::default();
    one_thread
        .install(|| trainer.do_train(sentences, &mut model))
        .map_err(Error::library("train a unigram vocabulary"))?;

    // The first piece is the trainer's own unknown token.
    let mut learned: Vec<(String, f64)> = model.iter().skip(1).cloned().collect();
    settle_penalties(&mut learned);
    learned.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    // A piece equal to a special token would give that token's id to text.
    learned.retain(|(piece, _)| !special.contains(&piece.as_str()));
    let reached = special.len() + learned.len();
    if reached < options.vocab_size {
        return Err(Error::VocabularyTooLarge {
            asked: options.vocab_size,
            reached,
            min_frequency: options.min_frequency,
        });
    }
    Ok(special.into_iter().map(|token| (token.to_owned(), SPECIAL_SCORE)).chain(learned).collect())
}

/// Assigns the lowest scores, which are on a grid from the minimum upwards, to single letters in the order of
/// the letters.
fn settle_penalties(pieces: &mut [(String, f64)]) {
    let lowest = pieces.iter().map(|piece| piece.1).fold(f64::INFINITY, f64::min);
    let on_grid = |score: f64| {
        let steps = (score - lowest) / PENALTY_STEP;
        steps < 257.0 && (steps - steps.round()).abs() < 1e-6
    };
    let mut places: Vec<usize> =
        (0..pieces.len()).filter(|&i| pieces[i].0.chars().count() == 1 && on_grid(pieces[i].1)).collect();
    let mut scores: Vec<f64> = places.iter().map(|&i| pieces[i].1).collect();
    scores.sort_by(f64::total_cmp);
    places.sort_by(|&a, &b| pieces[a].0.cmp(&pieces[b].0));
    for (place, score) in places.into_iter().zip(scores) {
        pieces[place].1 = score;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_do_not_depend_on_the_order_they_came_in() {
        let grid = [-9.0, -9.0 + PENALTY_STEP, -9.0 + 2.0 * PENALTY_STEP];
        let mut one = vec![
            ("b".to_owned(), grid[0]),
            ("a".to_owned(), grid[2]),
            ("c".to_owned(), grid[1]),
            ("ab".to_owned(), -3.0),
        ];
        settle_penalties(&mut one);
        let wanted = [("b", grid[1]), ("a", grid[0]), ("c", grid[2]), ("ab", -3.0)];
        assert_eq!(one, wanted.map(|(piece, score)| (piece.to_owned(), score)));
    }
}
