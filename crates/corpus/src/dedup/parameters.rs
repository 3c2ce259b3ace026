//! The hash functions of MinHash: datatrove's, from numpy's `RandomState`.

/// 2⁶¹ − 1.
pub const MERSENNE: u64 = (1 << 61) - 1;

/// `count` times a and b of h(x) = (a·x + b mod 2⁶⁴) mod 2⁶¹ − 1. The product wraps before the modulus, as
/// datatrove's does.
pub fn draw(seed: u32, count: usize) -> (Vec<u64>, Vec<u64>) {
    let mut random = MersenneTwister::new(seed);
    let a = (0..count).map(|_| 1 + random.below(MERSENNE - 1)).collect();
    (a, (0..count).map(|_| random.below(MERSENNE)).collect())
}

/// MT19937, as numpy's `RandomState(seed)` begins it.
struct MersenneTwister {
    state: [u32; 624],
    at: usize,
}

impl MersenneTwister {
    fn new(seed: u32) -> MersenneTwister {
        let mut state = [seed; 624];
        for index in 1..624 {
            let last = state[index - 1];
            state[index] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(index as u32);
        }
        MersenneTwister { state, at: 624 }
    }

    fn next(&mut self) -> u32 {
        if self.at == 624 {
            for index in 0..624 {
                let y = (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % 624] & 0x7fff_ffff);
                let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[index] = self.state[(index + 397) % 624] ^ (y >> 1) ^ twist;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform below `limit`, by numpy's masked rejection.
    fn below(&mut self, limit: u64) -> u64 {
        let mask = u64::MAX >> (limit - 1).leading_zeros();
        loop {
            let high = u64::from(self.next());
            let value = (high << 32 | u64::from(self.next())) & mask;
            if value < limit {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_are_numpy_s() {
        // g = numpy.random.RandomState(1); g.randint(1, 2**61-1, dtype=uint64, size=3), g.randint(0, …)
        let wanted = (
            vec![775169054918279404, 1758426461858698313, 2109959069025162],
            vec![965365488286768773, 401325382989534144, 1703346441743126657],
        );
        assert_eq!(draw(1, 3), wanted);
    }
}
