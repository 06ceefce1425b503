//! Random numbers for stage file names, jitter and splays.
//! Not for secrets.

use std::hash::{BuildHasher, RandomState};

/// A number below `bound`, which must not be 0.
pub fn below(bound: u64) -> u64 {
    // std seeds every RandomState anew from the kernel's random numbers; hashing nothing brings the seed out.
    RandomState::new().hash_one(()) % bound
}
