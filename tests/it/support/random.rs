//! Random numbers that are the same in every run.

/// Marsaglia's xorshift64.
pub struct Random(u64);

impl Random {
    /// The seed is not zero.
    pub fn new(seed: u64) -> Random {
        assert_ne!(seed, 0, "xorshift stays at zero");
        Random(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
