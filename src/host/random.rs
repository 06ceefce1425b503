//! Random numbers for the names of stage files, for jitter and for splays.
//! Not for secrets.

use std::hash::{BuildHasher, RandomState};

/// A number below `bound`, which must not be 0.
pub fn below(bound: u64) -> u64 {
    // std takes a key from the kernel's random numbers once and increments it for every RandomState. The hash of an
    // empty input is a new number each time, and cannot be predicted from outside.
    RandomState::new().hash_one(()) % bound
}
