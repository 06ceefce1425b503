//! Random numbers for stage file names, jitter and splays.
//! Not for secrets.

use std::hash::{BuildHasher, RandomState};

/// A number below `bound`, which must not be 0.
pub fn below(bound: u64) -> u64 {
    // std takes a key from the kernel's random numbers once and counts it on for every RandomState; hashing nothing
    // under it gives another number each time, which nobody outside can foretell.
    RandomState::new().hash_one(()) % bound
}
