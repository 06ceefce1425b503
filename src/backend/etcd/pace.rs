//! The pauses between reads of all keys that events made necessary because they left a value open. The first read comes
//! at once; the pauses grow while more such events arrive. Knows neither requests nor events.

use std::time::{Duration, Instant};

/// The limits of the pause between two reads.
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
