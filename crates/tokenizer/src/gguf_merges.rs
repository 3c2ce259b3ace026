//! Merges of a SentencePiece vocabulary, from the scores of its pieces.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::Result;
use crate::gguf_types::{BYTE, CONTROL, UNKNOWN, gguf};

/// Limit on the sum of squared piece lengths: the bytes that are compared. Real vocabularies need 30 million.
const MOST_WORK: usize = 1 << 32;

/// Every way of making a piece from two others, in the order of `ranks`, highest first; then by the lengths
/// of the parts, longest first, then by their ids. As `SentencePieceExtractor` of transformers.
///
/// Special tokens are not made by merging: text never becomes one.
pub fn merges_of_scores(pieces: &[String], ranks: &[f32], types: &[i32]) -> Result<Vec<[String; 2]>> {
    let work =
        pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len().saturating_mul(piece.len())));
    if work > MOST_WORK {
        return Err(gguf("tokens", "has tokens of so many bytes that their merges cannot be found".into()));
    }
    let is_text = |id: usize| !matches!(types.get(id), Some(&(UNKNOWN | CONTROL | BYTE)));
    let ids: HashMap<&str, u32> = pieces.iter().zip(0u32..).map(|(piece, id)| (piece.as_str(), id)).collect();
    let known = |part: &str| ids.get(part).copied().filter(|&id| is_text(id as usize));
    let mut merges = Vec::new();
    for (piece, &rank) in
        pieces.iter().enumerate().filter(|(id, _)| is_text(*id)).map(|(id, p)| (p, &ranks[id]))
    {
        let start = merges.len();
        for (length, (at, _)) in piece.char_indices().enumerate().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(left_id), Some(right_id)) = (known(left), known(right)) {
                let lengths = (length, piece.chars().count() - length);
                merges.push(Merge { rank, lengths, ids: (left_id, right_id) });
            }
        }
        merges[start..].sort_by_key(|merge| merge.ids);
    }
    merges.sort_by(|a, b| b.order(a));
    let spelled = |id: u32| pieces[id as usize].clone();
    Ok(merges.into_iter().map(|merge| [spelled(merge.ids.0), spelled(merge.ids.1)]).collect())
}

struct Merge {
    rank: f32,
    /// In characters.
    lengths: (usize, usize),
    ids: (u32, u32),
}

impl Merge {
    fn order(&self, other: &Merge) -> Ordering {
        let ranks = self.rank.partial_cmp(&other.rank).unwrap_or(Ordering::Equal);
        ranks.then(self.lengths.cmp(&other.lengths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_are_in_the_order_of_scores_and_lengths() {
        let pieces = ["<s>", "a", "b", "ab", "aba", "ba", "<", "s>"].map(String::from);
        let ranks = [0.0, -9.0, -9.0, -1.0, -2.0, -3.0, -9.0, -9.0];
        let merges = merges_of_scores(&pieces, &ranks, &[3, 1, 1, 1, 1, 1, 1, 1]).unwrap();
        let wanted = [["a", "b"], ["ab", "a"], ["a", "ba"], ["b", "a"]];
        assert_eq!(merges, wanted.map(|pair| pair.map(String::from)));
    }

    #[test]
    fn a_hostile_vocabulary_is_refused() {
        let error = merges_of_scores(&["a".repeat(1 << 17)], &[0.0], &[]).unwrap_err();
        assert!(error.to_string().contains("tokens"), "{error}");
    }
}
