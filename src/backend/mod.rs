//! The sources of keys, one file or folder for each backend. A backend reads, watches and retries by itself, and
//! reports keys and failures to its subscribers. Does not render: `resource` decides what follows a report.

#[cfg(feature = "consul")]
pub mod consul;
pub mod driver;
pub mod env;
pub mod etcd;
pub mod failover;
pub mod file;
pub mod flatten;
pub mod json;
pub mod keys;
pub mod lines;
pub mod local;
pub mod mock;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "plugin")]
pub mod plugin;
pub mod polled;
pub mod protocol;
pub mod readings;
pub mod redact;
#[cfg(feature = "redis")]
pub mod redis;
pub mod refusal;
pub mod services;
pub mod tally;
pub mod unreadable;
#[cfg(feature = "vault")]
pub mod vault;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub use self::protocol::Id;
pub use crate::config::Mode;

use self::keys::Missing;
use crate::config::{self, Etcd, EtcdVersion, Kind, Nats, Zookeeper};
use crate::host::inotify::Inotify;
use crate::host::process::{Exit, Pid, Termination};
use crate::host::wait::Interest;
use crate::log::Line;
use crate::sorted::SortedMap;
use crate::store::{Bytes, Layer};

/// A running backend, for one subscriber or for several that share it. The loop calls [`Backend::turn`] once at the
/// start, whenever one of its interests is ready, and when it is due.
pub trait Backend {
    /// The name in logs: `etcd`, `file`, or for a plugin the name of its program.
    fn name(&self) -> &str;

    /// Adds a subscriber. `failure_reported`: the backend before this one reported a failure to it.
    fn add(&mut self, id: Id, options: &config::Backend, failure_reported: bool, now: Instant);

    /// Removes a subscriber. The last one is removed before the backend is closed.
    fn remove(&mut self, id: Id, now: Instant);

    /// Appends the descriptors to poll. Called before every poll, because the descriptors change.
    fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>);

    /// When a turn is due although nothing is ready; `None`: never.
    fn due(&self) -> Option<Instant>;

    /// Whether no further report is possible.
    fn is_over(&self) -> bool {
        let mut interests = Vec::new();
        self.interests(&mut interests);
        interests.is_empty() && self.due().is_none()
    }

    /// Whether its store was ever reached. A store is not reached if its name is not found, no connection can be made,
    /// or no byte arrives in time.
    fn has_answered(&self) -> bool {
        true
    }

    /// The revision of a subscriber's keys, as the store counts its changes; `None`: nothing was read yet, or the store
    /// does not count. An etcd that was restored from a backup continues from a lower number.
    fn revision(&self, _id: Id) -> Option<u64> {
        None
    }

    /// Continues the work without waiting, and returns after a bounded amount of input.
    fn turn(&mut self, now: Instant, out: &mut Vec<(Id, Report)>);

    /// A backend that replaces this one for a subscriber. Called after every turn.
    fn replacement(&mut self) -> Option<Replacement> {
        None
    }

    /// Whether a process is a child of this backend. The loop reaps it and reports its end.
    fn has_child(&self, _pid: Pid) -> bool {
        false
    }

    /// A child of this backend has ended.
    fn exited(&mut self, _exit: &Exit, _now: Instant) {}

    /// Closes all connections. The last call before the backend is dropped. The children are left to the loop, which
    /// ends them like all others.
    fn close(&mut self, _now: Instant) -> Vec<Termination> {
        Vec::new()
    }
}

/// A subscriber that moves to another backend.
pub struct Replacement {
    /// The subscriber.
    pub id: Id,
    /// The options for that backend.
    pub options: config::Backend,
    /// The state for that backend.
    pub handover: Handover,
}

/// The state that a backend hands over to the next one of a subscriber.
#[derive(Clone, Debug, Default)]
pub struct Handover {
    /// The nodes of an SRV record, so that it is not looked up again.
    pub nodes: Option<Vec<String>>,
    /// A failure was reported to the subscriber, and not its end.
    pub failure_reported: bool,
    /// The start of a one-shot run's time limit.
    pub begun: Option<Instant>,
}

/// A result of a turn.
#[derive(Debug)]
pub enum Report {
    /// All keys, read at one moment. Triggers an update.
    Snapshot(Layer),
    /// Changes of single keys, for the layer of this backend.
    Changes {
        /// The changes, the newest last.
        changes: Vec<Change>,
        /// Whether they trigger an update. Otherwise they only change the store, because `watchKeys` does not cover
        /// them.
        trigger: bool,
    },
    /// A read or a watch failed and will be retried: verb, subject, cause. Reported after every attempt; the resource
    /// logs the beginning, changes and the end.
    Failed(String),
    /// The failure has ended.
    Recovered,
    /// A line for the log.
    Log(Line),
}

/// One key that was written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key and its new value.
    Put(Bytes, Bytes),
    /// The removed key.
    Delete(Bytes),
}

/// A backend in the pool, or the pool itself. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(u64);

/// The pool's inotify instance, whose events make backends due.
const INOTIFY: Source = Source(0);

/// The equal options of subscribers that share a backend.
#[derive(Clone, PartialEq)]
pub struct Sharing {
    kind: Kind,
    mode: Mode,
}

impl Sharing {
    /// `None`: the backend has only one subscriber.
    fn of(kind: &Kind, mode: Mode) -> Option<Sharing> {
        let mut kind = match kind {
            Kind::Etcd(etcd) if etcd.version != Some(EtcdVersion::V3) => return None,
            Kind::File(_) | Kind::Env | Kind::Mock | Kind::Plugin(_) => return None,
            kind => kind.clone(),
        };
        // The order does not matter for stores that start with a random node.
        match &mut kind {
            Kind::Etcd(Etcd { nodes, .. })
            | Kind::Zookeeper(Zookeeper { nodes, .. })
            | Kind::Nats(Nats { nodes, .. }) => {
                nodes.sort_unstable();
            }
            _ => {}
        }
        Some(Sharing { kind, mode })
    }
}

/// All running backends, and which backend serves each subscriber.
pub struct Pool {
    random: fn(u64) -> u64,
    /// The number of subscribers and backends so far.
    count: u64,
    sources: SortedMap<Source, Shared>,
    subscribers: SortedMap<Id, (Source, Mode)>,
    /// The due times of all backends, sorted, because there may be thousands of backends and the first one is needed
    /// before every turn.
    due: BTreeSet<(Instant, Source)>,
    /// Watches the files of all backends. A watch has the number of its backend.
    inotify: Inotify,
}

struct Shared {
    backend: Box<dyn Backend>,
    sharing: Option<Sharing>,
    /// The number of its subscribers.
    subscribers: usize,
    /// Its entry in [`Pool::due`].
    due: Option<Instant>,
}

impl Pool {
    /// `random` returns a number below its argument, which is not 0.
    pub fn new(random: fn(u64) -> u64) -> Pool {
        Pool {
            random,
            count: 0,
            sources: SortedMap::new(),
            subscribers: SortedMap::new(),
            due: BTreeSet::new(),
            inotify: Inotify::default(),
        }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Subscribes to a backend with these options. It starts in its first turn.
    ///
    /// # Panics
    /// If the store is not in this build: [`config::load`] refuses that.
    pub fn open(&mut self, options: &config::Backend, mode: Mode, now: Instant) -> Id {
        let id = Id(self.next());
        self.subscribe(id, options, mode, Handover::default(), now);
        id
    }

    fn subscribe(&mut self, id: Id, options: &config::Backend, mode: Mode, handover: Handover, now: Instant) {
        let failure_reported = handover.failure_reported;
        let sharing = Sharing::of(&options.kind, mode);
        let open = self.sources.iter().find(|(_, shared)| sharing.is_some() && shared.sharing == sharing);
        let source = match open {
            Some((source, _)) => *source,
            None => {
                let source = Source(self.next());
                let backend = self.make(id, source, options, mode, handover, now);
                self.sources.insert(source, Shared { backend, sharing, subscribers: 0, due: None });
                source
            }
        };
        self.subscribers.insert(id, (source, mode));
        if let Some(shared) = self.sources.get_mut(&source) {
            shared.subscribers += 1;
            shared.backend.add(id, options, failure_reported, now);
        }
        self.note_due(source);
    }

    /// Updates the due time of a backend. Called after every change that may affect it.
    fn note_due(&mut self, source: Source) {
        let Some(shared) = self.sources.get_mut(&source) else { return };
        let due = shared.backend.due();
        let before = std::mem::replace(&mut shared.due, due);
        if before != due {
            before.into_iter().for_each(|at| _ = self.due.remove(&(at, source)));
            self.due.extend(due.map(|at| (at, source)));
        }
    }

    fn make(
        &self,
        id: Id,
        source: Source,
        options: &config::Backend,
        mode: Mode,
        handover: Handover,
        now: Instant,
    ) -> Box<dyn Backend> {
        let seed = (self.random)(u64::MAX);
        match &options.kind {
            Kind::Etcd(etcd) => Box::new(etcd::driver(id, options, etcd, mode, handover, self.random, now)),
            Kind::File(file) if file.is_remote() => Box::new(file::remote(id, options, file, mode, self.random, now)),
            Kind::File(file) => local::single(id, file::new(options, file, mode, seed, &self.inotify, source.0), now),
            Kind::Env => local::single(id, env::new(options, mode, seed), now),
            Kind::Mock => local::single(id, mock::new(options, mode, seed), now),
            #[cfg(feature = "plugin")]
            Kind::Plugin(plugin) => Box::new(plugin::driver(id, options, plugin, mode, self.random, now)),
            #[cfg(feature = "redis")]
            Kind::Redis(redis) => Box::new(redis::driver(redis, mode, self.random, now)),
            #[cfg(feature = "nats")]
            Kind::Nats(nats) => Box::new(nats::driver(nats, mode, self.random, now)),
            #[cfg(feature = "consul")]
            Kind::Consul(consul) => Box::new(consul::driver(consul, mode, self.random, now)),
            #[cfg(feature = "vault")]
            Kind::Vault(vault) => Box::new(vault::driver(vault, mode, self.random, now)),
            #[cfg(feature = "zookeeper")]
            Kind::Zookeeper(zookeeper) => Box::new(zookeeper::driver(zookeeper, mode, self.random, now)),
            #[allow(unreachable_patterns, reason = "a build may have all stores")]
            _ => unreachable!("config::load refuses what is not built"),
        }
    }

    /// The name of a subscriber's backend in logs.
    pub fn name(&self, id: Id) -> &str {
        self.backend_of(id).map_or("", |backend| backend.name())
    }

    /// Whether no further report to a subscriber is possible.
    pub fn is_over(&self, id: Id) -> bool {
        self.backend_of(id).is_none_or(|backend| backend.is_over())
    }

    /// Whether the store of a subscriber was ever reached, or needs no connection.
    pub fn has_answered(&self, id: Id) -> bool {
        self.backend_of(id).is_none_or(|backend| backend.has_answered())
    }

    /// The revision of a subscriber's keys; see [`Backend::revision`].
    pub fn revision(&self, id: Id) -> Option<u64> {
        self.backend_of(id)?.revision(id)
    }

    fn backend_of(&self, id: Id) -> Option<&dyn Backend> {
        let (source, _) = self.subscribers.get(&id)?;
        Some(&*self.sources.get(source)?.backend)
    }

    /// The descriptors to poll, each with the backend that gets a turn when it is ready.
    pub fn interests(&self) -> Vec<(Source, Interest<'_>)> {
        let mut all: Vec<_> = self.inotify.interest().map(|interest| (INOTIFY, interest)).into_iter().collect();
        let mut interests = Vec::new();
        for (source, shared) in &self.sources {
            shared.backend.interests(&mut interests);
            all.extend(interests.drain(..).map(|interest| (*source, interest)));
        }
        all
    }

    /// The backend with the earliest due time, and that time.
    pub fn due(&self) -> Option<(Instant, Source)> {
        self.due.first().copied()
    }

    /// Gives a backend its turn. Nothing happens if the backend no longer exists.
    pub fn turn(&mut self, source: Source, now: Instant, out: &mut Vec<(Id, Report)>) {
        if source == INOTIFY {
            // The backends of the changed file are due now. Several backends may read one file.
            return self.inotify.drain(now).into_iter().for_each(|id| self.note_due(Source(id)));
        }
        let Some(shared) = self.sources.get_mut(&source) else { return };
        shared.backend.turn(now, out);
        let replacement = shared.backend.replacement();
        self.note_due(source);
        if let Some(Replacement { id, options, handover }) = replacement
            && let Some((_, mode)) = self.subscribers.get(&id).copied()
        {
            // A replaced backend has no other subscriber and no child.
            self.close(id, now);
            self.subscribe(id, &options, mode, handover, now);
        }
    }

    /// Ends a subscription, and the backend with its last subscription. Returns the backend's remaining children.
    pub fn close(&mut self, id: Id, now: Instant) -> Vec<Termination> {
        let Some((source, _)) = self.subscribers.remove(&id) else { return Vec::new() };
        let Some(shared) = self.sources.get_mut(&source) else { return Vec::new() };
        shared.backend.remove(id, now);
        shared.subscribers -= 1;
        if shared.subscribers > 0 {
            self.note_due(source);
            return Vec::new();
        }
        let Some(mut shared) = self.sources.remove(&source) else { return Vec::new() };
        shared.due.into_iter().for_each(|at| _ = self.due.remove(&(at, source)));
        shared.backend.close(now)
    }

    /// Reports the end of a child to its backend. Returns whether the child has one.
    pub fn exited(&mut self, exit: &Exit, now: Instant) -> bool {
        let mut sources = self.sources.iter_mut();
        let Some((source, shared)) = sources.find(|(_, shared)| shared.backend.has_child(exit.pid)) else {
            return false;
        };
        let source = *source;
        shared.backend.exited(exit, now);
        self.note_due(source);
        true
    }
}

/// The check for configured keys without a key below them, before the first read.
pub fn missing(backend: &config::Backend) -> Missing {
    match &backend.kind {
        Kind::Env => env::missing(&backend.prefix, &backend.keys),
        // `mock` never has keys.
        Kind::Mock => Missing::default(),
        #[cfg(feature = "redis")]
        Kind::Redis(_) => redis::missing(&backend.prefix, &backend.keys),
        // In etcd 2 a missing key is an error, and an existing one has a key.
        Kind::Zookeeper(_) => Missing::default(),
        _ => Missing::new(&backend.prefix, &backend.keys),
    }
}

/// Whether the store has no key below one of the configured keys, if that can be known. `is_there` returns whether it
/// has a key with a prefix.
pub fn has_none(options: &config::Backend, key: &str, is_there: impl Fn(&[u8]) -> bool) -> bool {
    let one = config::Backend { keys: vec![key.to_owned()], ..options.clone() };
    !missing(&one).look(is_there).is_empty()
}

/// Whether a backend watches its keys. A one-shot run watches nothing, but retries failed reads.
pub fn watches(backend: &config::Backend, mode: Mode) -> bool {
    mode == Mode::Watch && backend.watch && !backend.onetime
}

/// The interval at which a backend reads all keys again without a failure; `None`: never.
pub fn interval(backend: &config::Backend, mode: Mode) -> Option<Duration> {
    backend.interval.filter(|_| mode == Mode::Watch && !backend.onetime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ReadLimits;
    use crate::host::files::tests::Folder;
    use crate::random::Random;

    fn file(folder: &Folder, name: &str, interval: Option<Duration>) -> config::Backend {
        config::Backend {
            keys: vec!["/".to_owned()],
            watch_keys: vec!["/".to_owned()],
            prefix: String::new(),
            watch: true,
            onetime: false,
            interval,
            secret: false,
            kind: Kind::File(config::File {
                filepath: folder.path(name).to_str().unwrap().to_owned(),
                httpheaders: Default::default(),
                read: ReadLimits::default(),
            }),
        }
    }

    /// After any events the pool finds the backend that is due first, and a changed file makes all its readers due.
    #[test]
    fn the_pool_finds_the_backend_that_is_due() {
        let (folder, mut random) = (Folder::new(), Random::new(3));
        let (mut pool, mut now) = (Pool::new(|_| 0), Instant::now());
        let (mut open, mut reports): (Vec<Id>, Vec<(Id, Report)>) = (Vec::new(), Vec::new());
        let mut read = 0;
        const NAMES: [&str; 3] = ["a", "b", "c"];
        for step in 0..2000 {
            match random.below(8) {
                0 | 1 => {
                    let interval = (random.below(2) == 0).then_some(Duration::from_secs(60));
                    let name = NAMES[random.below(3)];
                    open.push(pool.open(&file(&folder, name, interval), Mode::Watch, now));
                }
                2 if !open.is_empty() => {
                    assert!(pool.close(open.swap_remove(random.below(open.len())), now).is_empty());
                }
                3 => {
                    std::fs::write(folder.path(NAMES[random.below(3)]), format!("a: {step}")).unwrap();
                }
                4 => pool.turn(INOTIFY, now, &mut reports),
                5 => now += random.between(Duration::ZERO, Duration::from_secs(20)),
                _ => {
                    if let Some((_, source)) = pool.due().filter(|(at, _)| *at <= now) {
                        pool.turn(source, now, &mut reports);
                    }
                }
            }
            read += reports.drain(..).filter(|(_, report)| matches!(report, Report::Snapshot(_))).count();
            let all = pool.sources.iter().filter_map(|(source, shared)| Some((shared.backend.due()?, *source)));
            assert_eq!(all.collect::<BTreeSet<_>>(), pool.due);
            assert_eq!(pool.sources.len(), open.len());
            assert!(open.iter().all(|id| !pool.is_over(*id)), "a watched file may change");
        }
        assert!(read > 100, "{read}");

        // At the end all backends have read the newest keys.
        let mut newest: SortedMap<Id, Layer> = SortedMap::new();
        for name in NAMES {
            std::fs::write(folder.path(name), "a: last").unwrap();
        }
        open.push(pool.open(&file(&folder, "a", None), Mode::Watch, now));
        now += Duration::from_secs(3600);
        pool.turn(INOTIFY, now, &mut reports);
        while let Some((_, source)) = pool.due().filter(|(at, _)| *at <= now) {
            pool.turn(source, now, &mut reports);
        }
        for (id, report) in reports {
            if let Report::Snapshot(layer) = report {
                newest.insert(id, layer);
            }
        }
        assert!(open.iter().all(|id| newest[id].values().all(|value| **value == *b"last")));
        open.into_iter().for_each(|id| _ = pool.close(id, now));
        assert!(pool.due.is_empty() && pool.interests().is_empty(), "nothing is left");
    }
}
