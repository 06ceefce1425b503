//! Waiting for a condition with a deadline. Never waits for a duration.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Generous: it is only ever used up by a failure.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How often a condition is looked at that nothing announces.
const LOOK: Duration = Duration::from_millis(5);

/// Returns when the condition holds; panics with its name when it does not within `limit`.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "still waiting after {limit:?}: {what}");
        thread::park_timeout(LOOK);
    }
}
