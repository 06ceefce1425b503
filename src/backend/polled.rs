//! Reads by schedule: when a local backend reads next, and the backend that only reads. Reads no clock and draws no
//! random numbers: moments and a seed are arguments.

use std::time::{Duration, Instant};

use super::Report;
use crate::log::{Level, Line};
use crate::random::Random;
use crate::store::Layer;

/// A source that is read as a whole.
pub trait Source {
    /// The name in logs.
    fn name(&self) -> &'static str;

    /// All wanted keys at present. The error is verb, subject, cause.
    fn read(&mut self) -> Result<Layer, String>;
}

/// A backend that reads its source by a schedule and watches nothing.
pub struct Polled<S> {
    source: S,
    /// For the log.
    prefix: String,
    schedule: Schedule,
}

impl<S: Source> Polled<S> {
    /// `prefix` is the configured one, for the log.
    pub fn new(source: S, prefix: &str, schedule: Schedule) -> Polled<S> {
        Polled { source, prefix: prefix.to_owned(), schedule }
    }
}

impl<S: Source> Polled<S> {
    /// The name in logs.
    pub fn name(&self) -> &'static str {
        self.source.name()
    }

    /// When the next read is due; `None`: never, or at the first turn.
    pub fn due(&self) -> Option<Instant> {
        self.schedule.due()
    }

    /// Reads, if a read is due.
    pub fn turn(&mut self, now: Instant, out: &mut Vec<Report>) {
        if self.schedule.call(now).is_none() {
            return;
        }
        out.push(Report::Log(retrieving_keys(self.source.name(), &self.prefix)));
        match self.source.read() {
            Ok(layer) => {
                if self.schedule.succeeded(now) == Outcome::Recovered {
                    out.push(Report::Recovered);
                }
                out.push(Report::Snapshot(layer));
            }
            Err(error) => {
                self.schedule.failed(now);
                out.push(Report::Failed(error));
            }
        }
    }
}

/// The log line before every read.
pub fn retrieving_keys(backend: &str, prefix: &str) -> Line {
    Line::new(Level::Debug, "retrieving keys").with("backend", backend).with("key_prefix", prefix)
}

/// The schedule: a read at once, then one each interval, varied by a tenth; after a failure a retry with a growing
/// delay.
#[derive(Debug)]
pub struct Schedule {
    next: Next,
    interval: Option<Duration>,
    random: Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing was read yet.
    Start,
    Interval(Instant),
    /// This number of reads in a row has failed.
    Retry(Instant, u32),
    Never,
}

/// Why a read is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Nothing was read yet.
    Start,
    /// The interval is over.
    Interval,
    /// The read before this one failed.
    Retry,
}

/// The effect of a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The read before this one succeeded too, or there was none.
    Fine,
    /// It ends a failure.
    Recovered,
}

impl Schedule {
    /// The delay after the first failure; each further failure doubles it.
    const SOONEST: Duration = Duration::from_millis(100);
    const LATEST: Duration = Duration::from_secs(10);

    /// Without an interval, a successful read is the last one. The seed keeps many machines from reading at the same
    /// time.
    pub fn new(interval: Option<Duration>, seed: u64) -> Schedule {
        Schedule { next: Next::Start, interval, random: Random::new(seed) }
    }

    /// When the next read is due, unless it is due at once (in the first turn).
    pub fn due(&self) -> Option<Instant> {
        match self.next {
            Next::Interval(at) | Next::Retry(at, _) => Some(at),
            Next::Start | Next::Never => None,
        }
    }

    /// Whether to read now, and why.
    pub fn call(&self, now: Instant) -> Option<Call> {
        match self.next {
            Next::Start => Some(Call::Start),
            Next::Interval(at) if at <= now => Some(Call::Interval),
            Next::Retry(at, _) if at <= now => Some(Call::Retry),
            Next::Interval(_) | Next::Retry(..) | Next::Never => None,
        }
    }

    /// A read succeeded. An early read without a failure before does not move the interval, so that frequent reads
    /// cannot delay it for ever.
    pub fn succeeded(&mut self, now: Instant) -> Outcome {
        let outcome = match self.next {
            Next::Interval(at) if at > now => return Outcome::Fine,
            Next::Retry(..) => Outcome::Recovered,
            Next::Start | Next::Interval(_) | Next::Never => Outcome::Fine,
        };
        self.next = match self.interval {
            Some(interval) => Next::Interval(now + self.random.between(interval.mul_f64(0.9), interval.mul_f64(1.1))),
            None => Next::Never,
        };
        outcome
    }

    /// A read failed.
    pub fn failed(&mut self, now: Instant) {
        let failures = match self.next {
            Next::Retry(_, failures) => failures,
            Next::Start | Next::Interval(_) | Next::Never => 0,
        };
        let delay = Schedule::LATEST.min(Schedule::SOONEST * 2u32.pow(failures.min(7)));
        self.next = Next::Retry(now + self.random.between(delay / 2, delay), failures + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns the given results, and counts the reads.
    struct Script {
        answers: Vec<Result<Layer, String>>,
        reads: usize,
    }

    impl Source for Script {
        fn name(&self) -> &'static str {
            "script"
        }

        fn read(&mut self) -> Result<Layer, String> {
            self.reads += 1;
            self.answers.remove(0)
        }
    }

    fn polled(answers: &str, interval: Option<Duration>) -> Polled<Script> {
        let answer = |letter| match letter {
            'k' => Ok(Layer::new()),
            other => Err(format!("failed: {other}")),
        };
        Polled::new(Script { answers: answers.chars().map(answer).collect(), reads: 0 }, "", Schedule::new(interval, 1))
    }

    /// The reports of one turn, a letter each: k(eys), f(ailed), r(ecovered).
    fn turn(backend: &mut Polled<Script>, now: Instant) -> String {
        let mut reports = Vec::new();
        backend.turn(now, &mut reports);
        let letter = |report: Report| match report {
            Report::Snapshot(_) => Some('k'),
            Report::Failed(_) => Some('f'),
            Report::Recovered => Some('r'),
            Report::Log(_) => None,
            Report::Changes { .. } => Some('c'),
        };
        reports.into_iter().filter_map(letter).collect()
    }

    #[test]
    fn reads_once_without_an_interval() {
        let (mut backend, start) = (polled("k", None), Instant::now());
        assert_eq!(turn(&mut backend, start), "k");
        assert_eq!(backend.due(), None);
        assert_eq!(turn(&mut backend, start + 1000 * SECOND), "");
        assert_eq!(backend.source.reads, 1);
    }

    #[test]
    fn reads_every_interval_give_or_take_a_tenth() {
        let (mut backend, mut now) = (polled(&"k".repeat(200), Some(60 * SECOND)), Instant::now());
        assert_eq!(turn(&mut backend, now), "k");
        let mut delays = Vec::new();
        for _ in 1..200 {
            let due = backend.due().unwrap();
            delays.push((due - now).as_secs_f64());
            assert_eq!(turn(&mut backend, due - Duration::from_nanos(1)), "", "before its time");
            now = due;
            assert_eq!(turn(&mut backend, now), "k");
        }
        assert!(delays.iter().all(|delay| (54.0..=66.0).contains(delay)), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay < 56.0) && delays.iter().any(|delay| *delay > 64.0), "{delays:?}");
    }

    #[test]
    fn failures_are_tried_again_ever_later_and_then_recovered_from() {
        let (mut backend, mut now) = (polled("xxxxxxxxxxkxk", Some(60 * SECOND)), Instant::now());
        for longest in [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000] {
            assert_eq!(turn(&mut backend, now), "f");
            let delay = backend.due().unwrap() - now;
            let longest = Duration::from_millis(longest);
            assert!((longest / 2..=longest).contains(&delay), "{delay:?} of {longest:?}");
            now += delay;
        }
        assert_eq!(turn(&mut backend, now), "rk");
        now = backend.due().unwrap();
        assert_eq!(turn(&mut backend, now), "f");
        assert!(backend.due().unwrap() - now <= Schedule::SOONEST, "the count starts over");
        now = backend.due().unwrap();
        assert_eq!(turn(&mut backend, now), "rk");
    }

    #[test]
    fn a_day_of_failures_overflows_nothing() {
        let (mut schedule, mut now) = (Schedule::new(None, 7), Instant::now());
        for _ in 0..20_000 {
            schedule.failed(now);
            now = schedule.due().unwrap();
        }
        assert_eq!(schedule.call(now), Some(Call::Retry));
        assert_eq!(schedule.succeeded(now), Outcome::Recovered);
        assert_eq!(schedule.due(), None);
    }

    #[test]
    fn a_success_before_its_time_does_not_put_the_interval_off() {
        let (mut schedule, now) = (Schedule::new(Some(60 * SECOND), 1), Instant::now());
        assert_eq!(schedule.call(now), Some(Call::Start));
        schedule.succeeded(now);
        let due = schedule.due();
        assert_eq!(schedule.succeeded(now + 50 * SECOND), Outcome::Fine);
        assert_eq!(schedule.due(), due);
        assert_eq!(schedule.call(due.unwrap()), Some(Call::Interval));
    }

    #[test]
    fn seeds_spread_the_moments() {
        let now = Instant::now();
        let due = |seed| {
            let mut schedule = Schedule::new(Some(60 * SECOND), seed);
            schedule.succeeded(now);
            schedule.due()
        };
        assert_eq!(due(1), due(1));
        assert!(due(1) != due(2) && due(2) != due(3));
    }
}
