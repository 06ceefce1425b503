//! The resources that share a store, and when each of them is read next: at once, by its interval, or never again. For the
//! protocols that read all keys of a resource at a time. Knows no request and no bytes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::keys::Keys;
use super::polled::retrieving_keys;
use super::protocol::{Id, Output};
use super::{Mode, Report, interval, watches};
use crate::config;
use crate::log::{Level, Line};
use crate::random::Random;
use crate::store::Layer;

/// What one resource wants of the store.
pub struct Subscriber {
    /// Put before every key.
    pub prefix: String,
    /// The keys as configured, without the prefix.
    pub keys: Vec<String>,
    /// What is wanted, and what it is called in the store.
    pub wanted: Keys,
    /// The keys whose changes call for an update.
    pub watched: Keys,
    /// Whether changes are reported as they come.
    pub watches: bool,
    /// Whether the configuration wants that.
    pub may_watch: bool,
    /// The time between two reads; `None`: no reads by time.
    pub interval: Option<Duration>,
    /// How often it is read while it is not watched although it may be.
    instead: Option<Duration>,
    next: Next,
}

/// When a resource is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// As soon as a request can be sent to the store.
    Due,
    /// The read is under way.
    Reading,
    /// Then.
    At(Instant),
    /// It has what it wants.
    Never,
}

/// All resources of a store.
pub struct Readings {
    /// The store's name in logs.
    name: String,
    mode: Mode,
    subscribers: BTreeMap<Id, Subscriber>,
    random: Random,
}

impl Readings {
    /// `name` is the store's in logs. The seed spreads reads over time.
    pub fn new(name: &str, mode: Mode, seed: u64) -> Readings {
        Readings { name: name.to_owned(), mode, subscribers: BTreeMap::new(), random: Random::new(seed) }
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

    /// A resource, if it is still there.
    pub fn get(&self, id: Id) -> Option<&Subscriber> {
        self.subscribers.get(&id)
    }

    /// All resources, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Subscriber)> {
        self.subscribers.iter().map(|(id, subscriber)| (*id, subscriber))
    }

    /// Those that need something that a node has to give: a read that is due or under way, or changes.
    pub fn waiting(&self) -> Vec<Id> {
        let waits = |subscriber: &Subscriber| match subscriber.next {
            Next::Due | Next::Reading => true,
            Next::At(_) | Next::Never => subscriber.watches,
        };
        self.iter().filter(|(_, subscriber)| waits(subscriber)).map(|(id, _)| id).collect()
    }

    /// When the next read is due, but for those that are due as soon as the store can be asked.
    pub fn due(&self) -> Option<Instant> {
        self.subscribers.values().filter_map(|subscriber| subscriber.at()).min()
    }

    /// Whether any resource is to be read now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.subscribers.values().any(|subscriber| subscriber.is_due(now))
    }

    /// Begins the read of a resource that is to be read now, if there is one.
    pub fn begin(&mut self, now: Instant, out: &mut Vec<Output>) -> Option<Id> {
        let (id, subscriber) = self.subscribers.iter_mut().find(|(_, subscriber)| subscriber.is_due(now))?;
        subscriber.next = Next::Reading;
        out.push(Output::Report(*id, Report::Log(retrieving_keys(&self.name, &subscriber.prefix))));
        Some(*id)
    }

    /// The read of a resource that is under way.
    pub fn reading(&self) -> impl Iterator<Item = Id> {
        self.iter().filter(|(_, subscriber)| subscriber.next == Next::Reading).map(|(id, _)| id)
    }

    /// All keys of a resource came. Reports them, and plans the next read.
    pub fn succeeded(&mut self, id: Id, layer: Layer, now: Instant, out: &mut Vec<Output>) {
        if self.plan(id, now) {
            out.extend([Output::Healthy(id), Output::Report(id, Report::Snapshot(layer))]);
        }
    }

    /// Plans the next read of a resource, if it is still there.
    fn plan(&mut self, id: Id, now: Instant) -> bool {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return false };
        let random = &mut self.random;
        let interval = subscriber.interval.or(subscriber.instead);
        let after = interval.map(|time| random.between(time.mul_f64(0.9), time.mul_f64(1.1)));
        subscriber.next = after.and_then(|after| now.checked_add(after)).map_or(Next::Never, Next::At);
        true
    }

    /// A resource cannot have what it wants, whatever node is asked: it is told, and read again after a pause. A one-shot run
    /// does not read it again.
    pub fn refused(&mut self, id: Id, words: String, pause: Duration, now: Instant, out: &mut Vec<Output>) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        subscriber.next = match self.mode {
            Mode::OneShot => Next::Never,
            Mode::Watch => now.checked_add(pause).map_or(Next::Never, Next::At),
        };
        out.push(Output::Report(id, Report::Failed(words)));
    }

    /// The keys of a resource came and are as they were: only plans the next read.
    pub fn unchanged(&mut self, id: Id, now: Instant, out: &mut Vec<Output>) {
        if self.plan(id, now) {
            out.push(Output::Healthy(id));
        }
    }

    /// Reads a resource again as soon as the store can be asked.
    pub fn again(&mut self, id: Id) {
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            subscriber.next = Next::Due;
        }
    }

    /// Changes are reported again of a resource that may be watched.
    pub fn watch(&mut self, id: Id) {
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            (subscriber.watches, subscriber.instead) = (subscriber.may_watch, None);
        }
    }

    /// The store tells of no changes: a resource that may be watched is read by its interval, and where it has none, so often.
    /// Gives its interval.
    pub fn unwatch(&mut self, id: Id, so_often: Duration) -> Duration {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return so_often };
        (subscriber.watches, subscriber.instead) = (false, subscriber.may_watch.then_some(so_often));
        subscriber.interval.unwrap_or(so_often)
    }

    /// Whether a resource that may be watched is to be read now.
    pub fn is_watcher_due(&self, now: Instant) -> bool {
        self.subscribers.values().any(|subscriber| subscriber.may_watch && subscriber.is_due(now))
    }

    /// The node failed: what was under way is due again. With `watches`, so is what was watched, as changes may be missed.
    pub fn failed(&mut self, watches: bool) {
        for subscriber in self.subscribers.values_mut() {
            if subscriber.next == Next::Reading || (watches && subscriber.watches) {
                subscriber.next = Next::Due;
            }
        }
    }

    /// The time of a one-shot run is over: nothing is read any more.
    pub fn give_up(&mut self) {
        self.subscribers
            .values_mut()
            .for_each(|one| (one.next, one.watches, one.may_watch) = (Next::Never, false, false));
    }

    /// A line for the log of the first resource, of the store's.
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
    /// The moment of its next read, if it is a moment.
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
    fn a_refusal_is_told_and_waited_out() {
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
