//! The receiver `inmem`: values by intervals, in the way of go-metrics, and the text that SIGUSR1 prints.
//! Reads no clock and prints nothing.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use super::At;
use crate::calendar::Civil;

/// The intervals.
#[derive(Debug)]
pub struct Inmem {
    /// Seconds; at least 1.
    interval: i64,
    most: usize,
    /// The intervals with values, the oldest first.
    intervals: VecDeque<Interval>,
}

#[derive(Debug, Default)]
struct Interval {
    /// Seconds since 1970.
    begins: i64,
    gauges: BTreeMap<String, f64>,
    counters: BTreeMap<String, Aggregate>,
    samples: BTreeMap<String, Aggregate>,
}

#[derive(Clone, Copy, Debug)]
struct Aggregate {
    count: u32,
    sum: f64,
    squares: f64,
    least: f64,
    most: f64,
    /// Seconds and nanoseconds since 1970.
    last: (i64, u32),
}

/// The seconds from the year 1 to 1970: the intervals of go-metrics start at the year 1.
const YEAR_ONE: i64 = 62_135_596_800;

impl Inmem {
    /// `interval` and `retain` are whole seconds, at least 1.
    pub fn new(interval: Duration, retain: Duration) -> Inmem {
        let interval = interval.as_secs().max(1);
        let most = usize::try_from(retain.as_secs() / interval).unwrap_or(usize::MAX).max(1);
        Inmem { interval: i64::try_from(interval).unwrap_or(i64::MAX), most, intervals: VecDeque::new() }
    }

    /// Whether another receiver has equal settings.
    pub(super) fn is_like(&self, other: &Inmem) -> bool {
        (self.interval, self.most) == (other.interval, other.most)
    }

    /// The interval of a moment.
    fn at(&mut self, unix: i64) -> &mut Interval {
        let begins = unix - unix.saturating_add(YEAR_ONE).rem_euclid(self.interval);
        if self.intervals.back().is_none_or(|last| last.begins != begins) {
            self.intervals.push_back(Interval { begins, ..Interval::default() });
            if self.intervals.len() > self.most {
                self.intervals.pop_front();
            }
        }
        self.intervals.back_mut().expect("one was added if there was none")
    }

    pub(super) fn set(&mut self, name: String, value: f64, at: At) {
        self.at(at.unix).gauges.insert(name, value);
    }

    pub(super) fn count(&mut self, name: String, value: f64, at: At) {
        add(&mut self.at(at.unix).counters, name, value, at);
    }

    pub(super) fn sample(&mut self, name: String, value: f64, at: At) {
        add(&mut self.at(at.unix).samples, name, value, at);
    }

    /// The complete intervals, one line for each value, sorted by name. `zone` returns the offset of a moment in
    /// seconds east of UTC, and the zone's name.
    pub fn dump(&mut self, now: i64, zone: impl Fn(i64) -> (i32, String)) -> String {
        // The present interval is not complete, and is left out as in go-metrics.
        self.at(now);
        let mut text = String::new();
        for interval in self.intervals.iter().take(self.intervals.len() - 1) {
            let begins = time(interval.begins, 0, &zone);
            let mut put = |kind: char, name: &str, value: &str| {
                // Writing to a string does not fail.
                let _ = writeln!(text, "[{begins}][{kind}] '{name}': {value}");
            };
            for (name, value) in &interval.gauges {
                put('G', name, &format!("{value:.3}"));
            }
            for (kind, values) in [('C', &interval.counters), ('S', &interval.samples)] {
                for (name, aggregate) in values {
                    put(kind, name, &aggregate.shown(&zone));
                }
            }
        }
        text
    }
}

fn add(to: &mut BTreeMap<String, Aggregate>, name: String, value: f64, at: At) {
    let first = Aggregate { count: 0, sum: 0.0, squares: 0.0, least: value, most: value, last: (0, 0) };
    let aggregate = to.entry(name).or_insert(first);
    aggregate.count = aggregate.count.saturating_add(1);
    aggregate.sum += value;
    aggregate.squares += value * value;
    aggregate.least = aggregate.least.min(value);
    aggregate.most = aggregate.most.max(value);
    aggregate.last = (at.unix, at.nanos);
}

impl Aggregate {
    fn shown(&self, zone: &impl Fn(i64) -> (i32, String)) -> String {
        let (count, sum) = (f64::from(self.count), self.sum);
        let last = time(self.last.0, self.last.1, zone);
        let pairs = count * (count - 1.0);
        let variance = if pairs == 0.0 { 0.0 } else { (count * self.squares - sum * sum) / pairs };
        // Rounding may give a number slightly below zero.
        let deviation = variance.max(0.0).sqrt();
        if deviation == 0.0 {
            return format!("Count: {} Sum: {sum:.3} LastUpdated: {last}", self.count);
        }
        format!(
            "Count: {} Min: {:.3} Mean: {:.3} Max: {:.3} Stddev: {deviation:.3} Sum: {sum:.3} LastUpdated: {last}",
            self.count,
            self.least,
            sum / count,
            self.most,
        )
    }
}

/// A time in Go's format: `2006-01-02 15:04:05.5 +0100 CET`.
fn time(unix: i64, nanos: u32, zone: &impl Fn(i64) -> (i32, String)) -> String {
    let (offset, name) = zone(unix);
    let Civil { year, month, day, hour, minute, second, .. } = Civil::of(unix.saturating_add(i64::from(offset)));
    let fraction = format!(".{nanos:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
    format!(
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction} {sign}{:02}{:02} {name}",
        minutes / 60,
        minutes % 60
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn at(unix: i64, nanos: u32) -> At {
        At { instant: Instant::now(), unix, nanos }
    }

    #[test]
    fn intervals_are_cut_and_the_oldest_go() {
        let mut inmem = Inmem::new(Duration::from_secs(10), Duration::from_secs(30));
        for unix in [5, 9, 12, 25, 38] {
            inmem.count("a".to_owned(), 1.0, at(unix, 500_000_000));
        }
        let zone = |_| (3600, "CET".to_owned());
        let text = inmem.dump(41, zone);
        // Three intervals are kept: the present one is not printed, and those of 0 and 10 were dropped.
        let want = "[1970-01-01 01:00:20 +0100 CET][C] 'a': Count: 1 Sum: 1.000 LastUpdated: 1970-01-01 01:00:25.5 +0100 CET\n\
                    [1970-01-01 01:00:30 +0100 CET][C] 'a': Count: 1 Sum: 1.000 LastUpdated: 1970-01-01 01:00:38.5 +0100 CET\n";
        assert_eq!(text, want);
        assert_eq!(Inmem::new(Duration::from_secs(9), Duration::from_secs(5)).dump(0, zone), "");
    }
}
