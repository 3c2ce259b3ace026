//! Counter-based random numbers: every stream is derived from a seed, a purpose and counters.
//!
//! Nothing about randomness has to be saved for an exact resume: the stream of epoch 3 of the loader, or of
//! step 500's dropout, is the same function of the seed whenever it is asked for. Not for cryptography.

/// One stream of pseudo-random numbers (SplitMix64: Steele, Lea & Flood 2014).
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finaliser: a bijection of u64 whose output bits all depend on all input bits.
#[inline(always)]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream that belongs to `seed`, `purpose` and `counters` (an epoch, a step, a layer).
    pub fn from_parts(seed: u64, purpose: &str, counters: &[u64]) -> Rng {
        let mut state = mix(seed ^ GOLDEN_GAMMA);
        for byte in purpose.bytes() {
            state = mix(state.wrapping_add(GOLDEN_GAMMA) ^ u64::from(byte));
        }
        for &counter in counters {
            state = mix(state.wrapping_add(GOLDEN_GAMMA) ^ counter);
        }
        Rng { state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        mix(self.state)
    }

    /// Fills `values` with [`Rng::normal`] times `scale`, on as many threads as there are cores: each draw is
    /// a function of its place, so the numbers are those of drawing them one by one.
    pub fn fill_normal(&mut self, values: &mut [f32], scale: f64) {
        const PIECE: usize = 1 << 16;
        const DRAWS: u64 = 2;
        let start = self.state;
        let at =
            |index: usize| start.wrapping_add((index as u64).wrapping_mul(DRAWS.wrapping_mul(GOLDEN_GAMMA)));
        self.state = at(values.len());
        let helpers = (crate::cpu::thread_count(0) - 1).min(values.len() / PIECE);
        let pieces = std::sync::Mutex::new(values.chunks_mut(PIECE).enumerate());
        let work = || {
            while let Some((piece, values)) = pieces.lock().ok().and_then(|mut pieces| pieces.next()) {
                let mut rng = Rng { state: at(piece * PIECE) };
                values.iter_mut().for_each(|value| *value = (rng.normal() * scale) as f32);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(work);
            }
            work();
        });
    }

    /// Uniform over `0..n` without bias (Lemire 2019, with rejection). `n` must be positive.
    pub fn below(&mut self, n: u64) -> u64 {
        debug_assert!(n > 0);
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            let low = product as u64;
            if low >= n || low >= n.wrapping_neg() % n {
                return (product >> 64) as u64;
            }
        }
    }

    /// Uniform over [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Standard normal (Box–Muller; the second value is dropped so that the stream stays one draw a call).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Fisher–Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fixed_and_distinct() {
        let a = Rng::from_parts(1, "loader", &[0]).next_u64();
        assert_eq!(a, Rng::from_parts(1, "loader", &[0]).next_u64());
        assert_ne!(a, Rng::from_parts(2, "loader", &[0]).next_u64());
        assert_ne!(a, Rng::from_parts(1, "loader", &[1]).next_u64());
        assert_ne!(a, Rng::from_parts(1, "init", &[0]).next_u64());
    }

    #[test]
    fn numbers_drawn_by_many_are_those_drawn_by_one() {
        let (mut one, mut many) = (Rng::from_parts(3, "fill", &[]), Rng::from_parts(3, "fill", &[]));
        for count in [0, 5, (1 << 17) + 77] {
            let mut filled = vec![0.0; count];
            many.fill_normal(&mut filled, 0.02);
            assert!(filled.iter().all(|&value| value == (one.normal() * 0.02) as f32));
            assert_eq!(one.next_u64(), many.next_u64());
        }
    }

    #[test]
    fn moments_of_normal_and_range_of_below() {
        let mut rng = Rng::from_parts(7, "test", &[]);
        let n = 100_000;
        let (mut sum, mut square) = (0.0, 0.0);
        for _ in 0..n {
            let x = rng.normal();
            sum += x;
            square += x * x;
            assert!(rng.below(3) < 3);
        }
        assert!((sum / n as f64).abs() < 0.02, "mean {}", sum / n as f64);
        assert!((square / n as f64 - 1.0).abs() < 0.02, "variance {}", square / n as f64);
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..1000).collect();
        Rng::from_parts(3, "shuffle", &[]).shuffle(&mut items);
        assert!(items.iter().enumerate().any(|(i, &x)| i as u32 != x));
        items.sort_unstable();
        assert!(items.iter().enumerate().all(|(i, &x)| i as u32 == x));
    }
}
