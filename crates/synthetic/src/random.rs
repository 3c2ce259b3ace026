//! Pseudo-random choices from a seed: SplitMix64 (Steele, Lea & Flood 2014), as in `compute::rng`, which is
//! above this crate.

/// One stream of pseudo-random numbers.
pub(crate) struct Random {
    state: u64,
}

/// SplitMix64's finalizer: a bijection whose output bits all depend on all input bits.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// A stream that depends on the seed and all counters, so that no stream depends on how many numbers
    /// another one has used.
    pub(crate) fn new(seed: u64, counters: &[u64]) -> Random {
        let step = |state: u64, counter: &u64| mix(state.wrapping_add(GAMMA)) ^ mix(counter ^ GAMMA);
        Random { state: counters.iter().fold(mix(seed), step) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// An index below `count`, which is not 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        // The high half of a 128-bit product; the bias is below 2^-40 for the counts used here.
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// Whether something of this probability, in percent, happens.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// An integer from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as usize) as i32
    }

    /// One of `items`, which is not empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// An index with probability proportional to its weight.
    pub(crate) fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        weights.len() - 1
    }

    /// Fisher and Yates' shuffle.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fixed_and_even() {
        let mut random = Random::new(0, &[]);
        // SplitMix64 from state mix(0) = 0: the published first outputs.
        assert_eq!(random.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next(), 0x6e78_9e6a_a1b9_65f4);
        assert_ne!(Random::new(1, &[2, 3]).next(), Random::new(1, &[3, 2]).next());
        let mut seen = [0; 7];
        (0..70_000).for_each(|_| seen[random.below(7)] += 1);
        assert!(seen.iter().all(|count| (9_500..10_500).contains(count)), "{seen:?}");
        let mut weights = [0; 3];
        (0..10_000).for_each(|_| weights[random.weighted(&[1, 0, 3])] += 1);
        assert!(weights[1] == 0 && (2_200..2_800).contains(&weights[0]), "{weights:?}");
        let mut items: Vec<_> = (0..50).collect();
        random.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
