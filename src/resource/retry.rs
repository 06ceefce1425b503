//! The time of the retry of a failed update without new keys, and the log line about it. Does not decide what has
//! failed or what is retried.

use std::time::{Duration, Instant};

use super::Outcome;
use crate::log::{Level, Line};

/// The retry of a failed update: after 1 s, doubled each time up to a minute.
#[derive(Debug, Default)]
pub(super) struct Retry {
    /// When the next retry is due.
    pub at: Option<Instant>,
    /// The number of failures in a row.
    pub failures: u32,
}

impl Retry {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    /// Counts a failure, and plans the retry. Returns the time from `now` to the retry: 1 s after the first failure,
    /// then twice the last time, at most 60 s.
    pub fn backoff(&mut self, now: Instant) -> Duration {
        let delay = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures += 1;
        self.at = Some(now + delay);
        delay
    }

    /// Drops the planned retry. The next failure counts as the first one.
    pub fn reset(&mut self) {
        self.at = None;
        self.failures = 0;
    }
}

/// The line after a round that failed. Go remco logs the first text in both cases.
pub(super) fn trying_again(outcome: Outcome, delay: Duration) -> Line {
    let what = match outcome {
        Outcome::Good | Outcome::RolledBack | Outcome::Incomplete | Outcome::Refused => {
            "not all templates could be rendered"
        }
        Outcome::ReloadFailed => "not all reload commands have succeeded",
    };
    let delay = match delay.as_secs() {
        1 => "1 second".to_owned(),
        seconds => format!("{seconds} seconds"),
    };
    Line::new(Level::Error, format!("{what}, trying again after {delay}"))
}
