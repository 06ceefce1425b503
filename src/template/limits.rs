//! What a template may cost: the limits that a user sets, and that of nesting. They are checked in `value/meter` and in the
//! parser.

use std::time::Duration;

/// So many tags and expressions may stand within each other, and so many files may include each other.
pub(crate) const NESTING: usize = 200;

/// What one render may cost. A template that goes beyond ends with an error, not with the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tags, expressions and loop rounds that are run, and every 16 bytes that they read or make.
    pub steps: u64,
    /// Processor time.
    pub time: Duration,
    /// Bytes of the result, and of each text or list on the way to it.
    pub output: usize,
    /// Bytes of all texts, lists and maps that are alive at a time, with the result as far as it is there.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { steps: 100_000_000, time: Duration::from_secs(10), output: 256 << 20, memory: 256 << 20 }
    }
}
