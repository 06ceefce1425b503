//! The resources that share a store, and the time of each one's next read: at once, by its interval, or never. For
//! protocols that read all keys of a resource at a time. Knows neither requests nor bytes.

use std::time::{Duration, Instant};

use super::keys::Keys;
use super::polled::retrieving_keys;
use super::protocol::{Id, Output};
use super::{Mode, Report, interval, watches};
use crate::config;
use crate::log::{Level, Line};
use crate::random::Random;
use crate::sorted::SortedMap;
use crate::store::Layer;

/// The options and the state of one resource.
pub struct Subscriber {
    /// The prefix of every key.
    pub prefix: String,
    /// The keys as configured, without the prefix.
    pub keys: Vec<String>,
    /// The wanted keys and their names in the store.
    pub wanted: Keys,
    /// The keys whose changes trigger an update.
    pub watched: Keys,
    /// Whether changes are being watched.
    pub watches: bool,
    /// Whether the configuration enables watching.
    pub may_watch: bool,
    /// The time between two reads; `None`: no reads by time.
    pub interval: Option<Duration>,
    /// The read interval while watching is enabled but impossible.
    instead: Option<Duration>,
    next: Next,
}

/// When a resource is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// As soon as a request can be sent to the store.
    Due,
    /// The read is in progress.
    Reading,
    /// At this moment.
    At(Instant),
    /// No read is planned.
    Never,
}

/// All resources of a store.
pub struct Readings {
    /// The store's name in logs.
    name: String,
    mode: Mode,
    subscribers: SortedMap<Id, Subscriber>,
    random: Random,
}

impl Readings {
    /// `name` is the store's name in logs.
    pub fn new(name: &str, mode: Mode, seed: u64) -> Readings {
        Readings { name: name.to_owned(), mode, subscribers: SortedMap::new(), random: Random::new(seed) }
    }

    /// Adds a resource, which is due at once.
    pub fn add(&mut self, id: Id, options: &config::Backend) {
        let subscriber = Subscriber {
            prefix: options.prefix.clone(),
            keys: options.keys.clone(),
            wanted: Keys::new(&options.prefix, &options.keys),
            watched: Keys::new(&options.prefix, &options.watch_keys),
            watches: watches(options, self.mode),
            may_watch: watches(options, self.mode),
            instead: None,
            interval: interval(options, self.mode),
            next: Next::Due,
        };
        self.subscribers.insert(id, subscriber);
    }

    /// Removes a resource.
    pub fn remove(&mut self, id: Id) {
        self.subscribers.remove(&id);
    }

    /// A resource, if it still exists.
    pub fn get(&self, id: Id) -> Option<&Subscriber> {
        self.subscribers.get(&id)
    }

    /// All resources, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Subscriber)> {
        self.subscribers.iter().map(|(id, subscriber)| (*id, subscriber))
    }

    /// The resources that need a node: their read is due or in progress, or they are watched.
    pub fn waiting(&self) -> Vec<Id> {
        let waits = |subscriber: &Subscriber| match subscriber.next {
            Next::Due | Next::Reading => true,
            Next::At(_) | Next::Never => subscriber.watches,
        };
        self.iter().filter(|(_, subscriber)| waits(subscriber)).map(|(id, _)| id).collect()
    }

    /// When the next read by time is due. Reads that only wait for the store are not counted.
    pub fn due(&self) -> Option<Instant> {
        self.subscribers.values().filter_map(|subscriber| subscriber.at()).min()
    }

    /// Whether a read of any resource is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.subscribers.values().any(|subscriber| subscriber.is_due(now))
    }

    /// Begins the read of a resource whose read is due, if there is one.
    pub fn begin(&mut self, now: Instant, out: &mut Vec<Output>) -> Option<Id> {
        let (id, subscriber) = self.subscribers.iter_mut().find(|(_, subscriber)| subscriber.is_due(now))?;
        subscriber.next = Next::Reading;
        out.push(Output::Report(*id, Report::Log(retrieving_keys(&self.name, &subscriber.prefix))));
        Some(*id)
    }

    /// The resource whose read is in progress.
    pub fn reading(&self) -> impl Iterator<Item = Id> {
        self.iter().filter(|(_, subscriber)| subscriber.next == Next::Reading).map(|(id, _)| id)
    }

    /// Reports all keys of a resource, and plans the next read.
    pub fn succeeded(&mut self, id: Id, layer: Layer, now: Instant, out: &mut Vec<Output>) {
        if self.plan(id, now) {
            out.extend([Output::Healthy(id), Output::Report(id, Report::Snapshot(layer))]);
        }
    }

    /// Plans the next read of a resource, if it still exists.
    fn plan(&mut self, id: Id, now: Instant) -> bool {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return false };
        let random = &mut self.random;
        let interval = subscriber.interval.or(subscriber.instead);
        let after = interval.map(|time| random.between(time.mul_f64(0.9), time.mul_f64(1.1)));
        subscriber.next = after.and_then(|after| now.checked_add(after)).map_or(Next::Never, Next::At);
        true
    }

    /// Reports a failure that concerns one resource and would be equal on every node. The resource is read again after
    /// a pause, except in a one-shot run.
    pub fn refused(&mut self, id: Id, words: String, pause: Duration, now: Instant, out: &mut Vec<Output>) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        subscriber.next = match self.mode {
            Mode::OneShot => Next::Never,
            Mode::Watch => now.checked_add(pause).map_or(Next::Never, Next::At),
        };
        out.push(Output::Report(id, Report::Failed(words)));
    }

    /// Plans the next read of a resource whose keys have not changed.
    pub fn unchanged(&mut self, id: Id, now: Instant, out: &mut Vec<Output>) {
        if self.plan(id, now) {
            out.push(Output::Healthy(id));
        }
    }

    /// Reads a resource again as soon as the store is available.
    pub fn again(&mut self, id: Id) {
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            subscriber.next = Next::Due;
        }
    }

    /// Reads a resource again at this moment.
    pub fn again_at(&mut self, id: Id, at: Instant) {
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            subscriber.next = Next::At(at);
        }
    }

    /// Notes that a resource with watching enabled is watched again.
    pub fn watch(&mut self, id: Id) {
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            (subscriber.watches, subscriber.instead) = (subscriber.may_watch, None);
        }
    }

    /// Notes that the store reports no changes: a resource with watching enabled is read by its interval, or by `pause`
    /// if it has none. Returns that interval.
    pub fn unwatch(&mut self, id: Id, so_often: Duration) -> Duration {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return so_often };
        (subscriber.watches, subscriber.instead) = (false, subscriber.may_watch.then_some(so_often));
        subscriber.interval.unwrap_or(so_often)
    }

    /// Whether the read of a resource with watching enabled is due.
    pub fn is_watcher_due(&self, now: Instant) -> bool {
        self.subscribers.values().any(|subscriber| subscriber.may_watch && subscriber.is_due(now))
    }

    /// Notes that the node failed: reads in progress are due again. With `watches`, the watched resources are read
    /// again too, because changes may be missed.
    pub fn failed(&mut self, watches: bool) {
        for subscriber in self.subscribers.values_mut() {
            if subscriber.next == Next::Reading || (watches && subscriber.watches) {
                subscriber.next = Next::Due;
            }
        }
    }

    /// The time limit of a one-shot run has passed: no further read is planned.
    pub fn give_up(&mut self) {
        self.subscribers
            .values_mut()
            .for_each(|one| (one.next, one.watches, one.may_watch) = (Next::Never, false, false));
    }

    /// A line about the store, for the log of the first resource.
    pub fn log(&self, line: Line, out: &mut Vec<Output>) {
        let line = line.with("backend", &*self.name);
        out.extend(self.subscribers.keys().next().map(|id| Output::Report(*id, Report::Log(line))));
    }

    /// A line at level DEBUG for the log of the first resource.
    pub fn debug(&self, message: &'static str, out: &mut Vec<Output>) {
        self.log(Line::new(Level::Debug, message), out);
    }
}

impl Subscriber {
    /// The time of the next read, if it is planned by time.
    fn at(&self) -> Option<Instant> {
        match self.next {
            Next::At(at) => Some(at),
            Next::Due | Next::Reading | Next::Never => None,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.next == Next::Due || self.at().is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kind;

    const SECOND: Duration = Duration::from_secs(1);

    fn options(interval: Option<u64>, watch: bool) -> config::Backend {
        config::Backend {
            keys: vec!["/a".to_owned()],
            watch_keys: vec!["/a".to_owned()],
            prefix: String::new(),
            watch,
            onetime: false,
            interval: interval.map(Duration::from_secs),
            secret: false,
            kind: Kind::Mock,
        }
    }

    struct Bench {
        readings: Readings,
        now: Instant,
    }

    impl Bench {
        fn new(mode: Mode) -> Bench {
            Bench { readings: Readings::new("store", mode, 1), now: Instant::now() }
        }

        fn begin(&mut self) -> Option<u64> {
            self.readings.begin(self.now, &mut Vec::new()).map(|id| id.0)
        }

        fn succeed(&mut self, id: u64) {
            self.readings.succeeded(Id(id), Layer::new(), self.now, &mut Vec::new());
        }

        fn waiting(&self) -> Vec<u64> {
            self.readings.waiting().iter().map(|id| id.0).collect()
        }
    }

    #[test]
    fn each_is_read_by_its_own_interval() {
        let mut bench = Bench::new(Mode::Watch);
        bench.readings.add(Id(1), &options(Some(60), false));
        bench.readings.add(Id(2), &options(None, false));
        assert_eq!((bench.begin(), bench.begin(), bench.begin()), (Some(1), Some(2), None));
        assert_eq!(bench.waiting(), [1, 2]);
        bench.succeed(1);
        bench.succeed(2);
        assert_eq!((bench.waiting(), bench.begin()), (vec![], None));
        let due = bench.readings.due().unwrap();
        assert!((54.0..=66.0).contains(&(due - bench.now).as_secs_f64()));
        bench.now = due;
        assert!(bench.readings.is_due(due));
        assert_eq!((bench.begin(), bench.begin()), (Some(1), None));
    }

    #[test]
    fn what_was_under_way_or_watched_is_read_again_after_a_failure() {
        let mut bench = Bench::new(Mode::Watch);
        (1..=3).for_each(|id| bench.readings.add(Id(id), &options(None, id == 1)));
        (1..=3).for_each(|_| _ = bench.begin());
        bench.succeed(1);
        bench.succeed(2);
        bench.readings.failed(false);
        assert_eq!((bench.begin(), bench.begin(), bench.waiting()), (Some(3), None, vec![1, 3]));
        bench.readings.failed(true);
        assert_eq!((bench.begin(), bench.begin(), bench.begin()), (Some(1), Some(3), None));
    }

    #[test]
    fn what_cannot_be_watched_is_read_by_time_until_it_can() {
        let mut bench = Bench::new(Mode::Watch);
        bench.readings.add(Id(1), &options(None, true));
        bench.readings.add(Id(2), &options(Some(7), true));
        let minute = 60 * SECOND;
        assert_eq!((1..=2).map(|id| bench.readings.unwatch(Id(id), minute)).collect::<Vec<_>>(), [minute, 7 * SECOND]);
        assert!(bench.readings.is_watcher_due(bench.now));
        (1..=2).for_each(|_| _ = bench.begin());
        (1..=2).for_each(|id| bench.succeed(id));
        assert_eq!((bench.waiting(), bench.readings.is_watcher_due(bench.now)), (vec![], false));
        let due = bench.readings.due().unwrap();
        assert!((6.3..=7.7).contains(&(due - bench.now).as_secs_f64()));
        bench.now += 66 * SECOND;
        bench.readings.watch(Id(1));
        assert_eq!((bench.begin(), bench.begin(), bench.waiting()), (Some(1), Some(2), vec![1, 2]));
        bench.succeed(1);
        bench.succeed(2);
        assert_eq!(bench.waiting(), [1], "a watched one needs a node");
        assert!(bench.readings.due().unwrap() < bench.now + 8 * SECOND);
    }

    #[test]
    fn a_refusal_is_reported_and_waited_out() {
        let mut bench = Bench::new(Mode::Watch);
        bench.readings.add(Id(1), &options(None, false));
        bench.begin();
        let mut out = Vec::new();
        bench.readings.refused(Id(1), "no".to_owned(), 10 * SECOND, bench.now, &mut out);
        assert!(matches!(&out[..], [Output::Report(Id(1), Report::Failed(words))] if words == "no"));
        assert_eq!((bench.begin(), bench.readings.due()), (None, Some(bench.now + 10 * SECOND)));
        let mut once = Bench::new(Mode::OneShot);
        once.readings.add(Id(1), &options(None, false));
        once.begin();
        once.readings.refused(Id(1), "no".to_owned(), 10 * SECOND, once.now, &mut Vec::new());
        assert_eq!((once.begin(), once.readings.due()), (None, None));
    }
}
