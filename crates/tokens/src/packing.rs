//! Packs whole examples into rows, with little padding: best-fit decreasing (Ding et al. 2024, "Fewer
//! Truncations Improve Language Modeling", arXiv:2404.10830).

use std::collections::BTreeMap;

/// Sequences of `capacity` tokens that examples of these lengths are packed into.
pub fn packed_sequences(lengths: &[u32], capacity: usize) -> u64 {
    pack(lengths, capacity).len() as u64
}

/// Examples by row: each row's fit into `capacity` tokens, in ascending order. Longer ones are cut to fit by
/// whoever fills the row. The same lengths give the same rows.
pub(crate) fn pack(lengths: &[u32], capacity: usize) -> Vec<Vec<u32>> {
    let length = |example: u32| (lengths[example as usize] as usize).min(capacity);
    let mut longest_first: Vec<u32> = (0..lengths.len() as u32).collect();
    longest_first.sort_by_key(|&example| (std::cmp::Reverse(length(example)), example));
    let mut rows: Vec<Vec<u32>> = Vec::new();
    // Rows by the tokens that are left in them, the oldest last.
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for example in longest_first {
        let needed = length(example);
        let found = open.range_mut(needed..).next().and_then(|(&left, rows)| Some((left, rows.pop()?)));
        let (left, row) = found.unwrap_or_else(|| {
            rows.push(Vec::new());
            (capacity, rows.len() - 1)
        });
        if open.get(&left).is_some_and(Vec::is_empty) {
            open.remove(&left);
        }
        rows[row].push(example);
        if left > needed {
            open.entry(left - needed).or_default().push(row);
        }
    }
    for row in &mut rows {
        row.sort_unstable();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_are_filled_by_the_longest_that_fits() {
        assert_eq!(pack(&[3, 8, 5, 2, 6], 8), [vec![1], vec![3, 4], vec![0, 2]]);
        assert_eq!(pack(&[9, 1], 8), [vec![0], vec![1]]);
        assert!(pack(&[], 8).is_empty());
    }

    proptest! {
        #[test]
        fn every_example_is_in_one_row_and_rows_hold_them(
            lengths in proptest::collection::vec(1u32..40, 0..200),
            capacity in 8usize..40,
        ) {
            let rows = pack(&lengths, capacity);
            let mut seen: Vec<u32> = rows.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len() as u32).collect::<Vec<_>>());
            let tokens = |row: &Vec<u32>| -> usize {
                row.iter().map(|&example| (lengths[example as usize] as usize).min(capacity)).sum()
            };
            prop_assert!(rows.iter().all(|row| tokens(row) <= capacity));
            // No two rows would fit into one.
            let mut filled: Vec<usize> = rows.iter().map(tokens).collect();
            filled.sort_unstable();
            prop_assert!(filled.len() < 2 || filled[0] + filled[1] > capacity);
        }
    }
}
