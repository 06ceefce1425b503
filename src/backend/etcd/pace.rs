//! How often all keys are read because of events that do not tell what a key is now: the first time at once, and then
//! more seldom while there are more such events. Knows neither requests nor events.

use std::time::{Duration, Instant};

/// Between two reads.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The pause after the last read, and its end.
#[derive(Default)]
pub struct Pace(Option<(Duration, Instant)>);

impl Pace {
    /// When the next read may begin. `jitter` is a part of the duration it is given, which is added to the pause.
    pub fn next(&mut self, now: Instant, jitter: impl FnOnce(Duration) -> Duration) -> Instant {
        let (pause, at) = match self.0 {
            Some((pause, end)) if now < end + pause => ((pause * 2).min(LONGEST_PAUSE), end.max(now)),
            _ => (SHORTEST_PAUSE, now),
        };
        self.0 = Some((pause, at + pause + jitter(pause / 4)));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_there_is_more() {
        let begin = Instant::now();
        let (mut pace, mut now, mut pauses) = (Pace::default(), begin, Vec::new());
        for _ in 0..8 {
            let at = pace.next(now, |_| Duration::ZERO);
            pauses.push((at - now).as_secs());
            now = at;
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 30, 30]);
        now += Duration::from_secs(61);
        assert_eq!(pace.next(now, |_| Duration::ZERO), now);
    }
}
