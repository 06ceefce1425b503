//! The limits of a template: those that a user sets, and the one of nesting. `value/meter` and the parser check them;
//! this file checks nothing.

use std::time::Duration;

/// The nesting limit of tags, of expressions, and of files that include each other.
pub(crate) const NESTING: usize = 200;

/// The limits of one render. A template that exceeds one ends with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of tags, expressions and loop rounds, and of every 16 bytes that they read or write.
    pub steps: u64,
    /// The processor time.
    pub time: Duration,
    /// The size of the result, and of each intermediate text or list, in bytes.
    pub output: usize,
    /// The size of all live texts, lists and maps, and of the result so far, in bytes.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { steps: 100_000_000, time: Duration::from_secs(10), output: 256 << 20, memory: 256 << 20 }
    }
}
