//! Random numbers for stage file names, jitter and splays.
//! Not for secrets.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::OnceLock;

/// A number below `bound`, which must not be 0.
pub fn below(bound: u64) -> u64 {
    // std seeds every RandomState anew from the kernel's random numbers; hashing nothing brings the seed out.
    RandomState::new().hash_one(()) % bound
}

/// A number that is the same for the same thing in all of this run, and another one in every other run.
pub fn constant(of: &impl Hash) -> u64 {
    static RUN: OnceLock<RandomState> = OnceLock::new();
    RUN.get_or_init(RandomState::new).hash_one(of)
}
