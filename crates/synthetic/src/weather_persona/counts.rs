//! How many conversations of each part, persona and kind there are.

use super::conversation::{Kind, Persona};

/// A part of the data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// For training.
    Train,
    /// For validation.
    Validation,
}

/// Conversations that have the same part, persona and kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) split: Split,
    pub(crate) persona: Persona,
    pub(crate) kind: Kind,
    pub(crate) conversations: usize,
}

/// Shares of the personas: 44.3 %, 15.4 %, 9.4 % and 31.0 %, rounded to one decimal.
const PERSONAS: [(Persona, usize); 4] = [
    (Persona::Twain, 7_084),
    (Persona::Franklin, 2_460),
    (Persona::Satire, 1_500),
    (Persona::Neutral, 4_956),
];

/// Validation gets one conversation in this many, rounded up for each persona.
const VALIDATION_PART: usize = 10;

/// All cells, for this many conversations.
pub(crate) fn cells(conversations: usize) -> Vec<Cell> {
    let personas = apportioned(conversations, &PERSONAS.map(|(_, share)| share));
    let mut cells = Vec::new();
    for (split, (persona, all)) in [Split::Train, Split::Validation].into_iter().flat_map(|split| {
        PERSONAS.map(|(persona, _)| persona).into_iter().zip(&personas).map(move |x| (split, x))
    }) {
        let validation = all.div_ceil(VALIDATION_PART);
        let of_split = if split == Split::Validation { validation } else { all - validation };
        let kinds = apportioned(of_split, &Kind::SHARES.map(|(_, share)| share));
        let cell = |((kind, _), conversations)| Cell { split, persona, kind, conversations };
        cells.extend(Kind::SHARES.into_iter().zip(kinds).map(cell));
    }
    cells
}

/// Divides `total` in proportion to `shares`, by largest remainders; of equal ones the first.
fn apportioned(total: usize, shares: &[usize]) -> Vec<usize> {
    let all: usize = shares.iter().sum();
    let mut counts: Vec<_> = shares.iter().map(|share| total * share / all).collect();
    let mut order: Vec<_> = (0..shares.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(total * shares[index] % all));
    let missing = total - counts.iter().sum::<usize>();
    order.iter().take(missing).for_each(|&index| counts[index] += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_for_any_number() {
        for total in [100, 101, 999, 16_000, 123_456] {
            let cells = cells(total);
            let sum = |is_in: &dyn Fn(&Cell) -> bool| -> usize {
                cells.iter().filter(|cell| is_in(cell)).map(|cell| cell.conversations).sum()
            };
            assert_eq!(sum(&|_| true), total);
            for (persona, share) in PERSONAS {
                let expected = total as f64 * share as f64 / 16_000.0;
                assert!((sum(&|cell| cell.persona == persona) as f64 - expected).abs() < 1.0);
                let validation = sum(&|cell| cell.persona == persona && cell.split == Split::Validation);
                assert!((validation as f64 - expected / 10.0).abs() < 1.2);
            }
            for (kind, share) in Kind::SHARES {
                let expected = total as f64 * share as f64 / 100.0;
                assert!((sum(&|cell| cell.kind == kind) as f64 - expected).abs() < 6.0, "{total} {kind:?}");
            }
        }
        assert_eq!(Kind::SHARES.iter().map(|(_, share)| share).sum::<usize>(), 100);
    }

    #[test]
    fn sixteen_thousand_are_divided_as_stated() {
        let cells = cells(16_000);
        let count = |split, persona| -> usize {
            let is_in = |cell: &&Cell| cell.split == split && cell.persona == persona;
            cells.iter().filter(is_in).map(|cell| cell.conversations).sum()
        };
        assert_eq!(Persona::ALL.map(|persona| count(Split::Train, persona)), [6_375, 2_214, 1_350, 4_460]);
        assert_eq!(Persona::ALL.map(|persona| count(Split::Validation, persona)), [709, 246, 150, 496]);
    }
}
