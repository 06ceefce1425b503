//! Random numbers from a seed: equal seeds give equal numbers. They spread retries over time and make cases for tests.
//! Not for secrets. The seed comes from `host::random`.

use std::time::Duration;

/// A generator (splitmix64). Every seed is valid.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed. Generators of equal seeds give equal sequences.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("it is below a usize")
    }

    /// A time from `low` to `high`.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        low + (high - low).mul_f64(self.next() as f64 / u64::MAX as f64)
    }

    /// A random item.
    #[cfg(test)]
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_seed_and_cover_their_range() {
        for seed in [0, 1, u64::MAX] {
            let numbers = |seed| {
                let mut random = Random::new(seed);
                (0..1000).map(|_| random.below(30)).collect::<Vec<_>>()
            };
            assert_eq!(numbers(seed), numbers(seed));
            assert_ne!(numbers(seed), numbers(seed ^ 1));
            assert!((0..30).all(|number| numbers(seed).contains(&number)), "{seed}");
        }
    }

    #[test]
    fn times_stay_between_their_ends() {
        let mut random = Random::new(0);
        let (low, high) = (Duration::from_millis(50), Duration::from_millis(100));
        assert!((0..1000).all(|_| (low..=high).contains(&random.between(low, high))));
        assert_eq!(random.between(high, high), high);
    }
}
