//! Where keys come from: one file or folder a backend. A backend reads, watches and retries on its own and reports what it
//! learnt to those who subscribe; what is done with that is `resource`'s business.

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
pub mod percent;
#[cfg(feature = "plugin")]
mod plugin;
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

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub use self::protocol::Id;
pub use crate::config::Mode;

use self::keys::Missing;
use crate::config::{self, Etcd, EtcdVersion, Kind, Nats, Zookeeper};
use crate::host::inotify::Inotify;
use crate::host::process::{Exit, Pid, Termination};
use crate::host::wait::Interest;
use crate::log::Line;
use crate::store::{Bytes, Layer};

/// A backend at work, for one subscriber or for several that share it. The loop calls [`Backend::turn`] once at the start,
/// whenever one of its interests is served and when it is due.
pub trait Backend {
    /// The name in logs: `etcd`, `file`; of a plugin that of its program.
    fn name(&self) -> &str;

    /// Serves one more subscriber. `told`: it was told of a failure by the backend that served it before.
    fn add(&mut self, id: Id, options: &config::Backend, told: bool, now: Instant);

    /// Serves a subscriber no more. The last one leaves before the backend is closed.
    fn remove(&mut self, id: Id, now: Instant);

    /// Appends what is to be polled. Ask before every poll: the descriptors change.
    fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>);

    /// When a turn is due although nothing is ready; `None`: never.
    fn due(&self) -> Option<Instant>;

    /// Whether nothing new will ever come.
    fn is_over(&self) -> bool {
        let mut interests = Vec::new();
        self.interests(&mut interests);
        interests.is_empty() && self.due().is_none()
    }

    /// Does what can be done now. Waits for nothing, and ends after a bounded amount of input.
    fn turn(&mut self, now: Instant, out: &mut Vec<(Id, Report)>);

    /// Another backend that is to serve a subscriber from now on; asked after every turn.
    fn replacement(&mut self) -> Option<Replacement> {
        None
    }

    /// Whether a process is a child of its own: its end is told by the loop's one reaper.
    fn has_child(&self, _pid: Pid) -> bool {
        false
    }

    /// Its child has ended.
    fn exited(&mut self, _exit: &Exit, _now: Instant) {}

    /// Ends what is open; the last call before it is dropped. Children are left to the loop, which ends them as any other.
    fn close(&mut self, _now: Instant) -> Vec<Termination> {
        Vec::new()
    }
}

/// A subscriber that another backend serves from now on.
pub struct Replacement {
    /// The subscriber.
    pub id: Id,
    /// The options for that backend.
    pub options: config::Backend,
    /// The state that is handed over.
    pub handover: Handover,
}

/// The state that a backend hands over to the next one of a subscriber.
#[derive(Clone, Debug, Default)]
pub struct Handover {
    /// The nodes of an SRV record, so that it is not looked up again.
    pub nodes: Option<Vec<String>>,
    /// A failure was reported to the subscriber, and not its end.
    pub told: bool,
    /// Since when the time of a one-shot run counts.
    pub begun: Option<Instant>,
}

/// A result of a turn.
#[derive(Debug)]
pub enum Report {
    /// All keys, read at one moment. Calls for an update.
    Snapshot(Layer),
    /// Changes of single keys, for the layer of this backend.
    Changes {
        /// Newest last.
        changes: Vec<Change>,
        /// Whether they call for an update. Otherwise they only change the store, because watchKeys do not cover them.
        trigger: bool,
    },
    /// A read or a watch failed and will be retried. Reported at every attempt; the resource logs the begin, changes and the
    /// end. Verb, subject, cause.
    Failed(String),
    /// The failure has ended.
    Recovered,
    /// For the log as it is.
    Log(Line),
}

/// One key that was written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key and its new value.
    Put(Bytes, Bytes),
    /// The key that is gone.
    Delete(Bytes),
}

/// A backend in the pool, or the pool itself. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(u64);

/// The pool's inotify instance, which tells backends of what they have to do.
const INOTIFY: Source = Source(0);

/// What subscribers have in common that share a backend.
#[derive(Clone, PartialEq)]
pub struct Sharing {
    kind: Kind,
    mode: Mode,
}

impl Sharing {
    /// `None`: the backend serves one subscriber alone.
    fn of(kind: &Kind, mode: Mode) -> Option<Sharing> {
        let mut kind = match kind {
            Kind::Etcd(etcd) if etcd.version != Some(EtcdVersion::V3) => return None,
            Kind::File(_) | Kind::Env | Kind::Mock | Kind::Plugin(_) => return None,
            kind => kind.clone(),
        };
        // Those that begin at any node do not mind the order.
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
    /// How many subscribers and backends there were.
    count: u64,
    sources: BTreeMap<Source, Shared>,
    subscribers: BTreeMap<Id, (Source, Mode)>,
    /// When each backend is due. There may be thousands of backends, and this is asked before every turn.
    due: BTreeSet<(Instant, Source)>,
    /// Watches the files of all backends; a watch has the number of its backend.
    inotify: Inotify,
}

struct Shared {
    backend: Box<dyn Backend>,
    sharing: Option<Sharing>,
    /// How many are served by it.
    subscribers: usize,
    /// As it is in [`Pool::due`].
    due: Option<Instant>,
}

impl Pool {
    /// `random` gives a number below its argument, which is not 0.
    pub fn new(random: fn(u64) -> u64) -> Pool {
        Pool {
            random,
            count: 0,
            sources: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            due: BTreeSet::new(),
            inotify: Inotify::default(),
        }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Subscribes to a backend as the configuration describes it; it begins at its first turn.
    ///
    /// # Panics
    /// If the backend is one that [`config::unsupported`] names.
    pub fn open(&mut self, options: &config::Backend, mode: Mode, now: Instant) -> Id {
        let id = Id(self.next());
        self.subscribe(id, options, mode, Handover::default(), now);
        id
    }

    fn subscribe(&mut self, id: Id, options: &config::Backend, mode: Mode, handover: Handover, now: Instant) {
        let told = handover.told;
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
            shared.backend.add(id, options, told, now);
        }
        self.note_due(source);
    }

    /// To be called after everything that may change when a backend is due.
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
            _ => unreachable!("config::unsupported refuses what is not built"),
        }
    }

    /// What the backend of a subscriber is called in logs.
    pub fn name(&self, id: Id) -> &str {
        self.backend_of(id).map_or("", |backend| backend.name())
    }

    /// Whether nothing new will ever come for a subscriber.
    pub fn is_over(&self, id: Id) -> bool {
        self.backend_of(id).is_none_or(|backend| backend.is_over())
    }

    fn backend_of(&self, id: Id) -> Option<&dyn Backend> {
        let (source, _) = self.subscribers.get(&id)?;
        Some(&*self.sources.get(source)?.backend)
    }

    /// What is to be polled, each with the backend that wants a turn then.
    pub fn interests(&self) -> Vec<(Source, Interest<'_>)> {
        let mut all: Vec<_> = self.inotify.interest().map(|interest| (INOTIFY, interest)).into_iter().collect();
        let mut interests = Vec::new();
        for (source, shared) in &self.sources {
            shared.backend.interests(&mut interests);
            all.extend(interests.drain(..).map(|interest| (*source, interest)));
        }
        all
    }

    /// The backend whose turn is due first, and when.
    pub fn due(&self) -> Option<(Instant, Source)> {
        self.due.first().copied()
    }

    /// Gives a backend its turn. One that is not there any more has nothing to say.
    pub fn turn(&mut self, source: Source, now: Instant, out: &mut Vec<(Id, Report)>) {
        if source == INOTIFY {
            // Those that it concerns are due now: many backends may read one file.
            return self.inotify.drain(now).into_iter().for_each(|id| self.note_due(Source(id)));
        }
        let Some(shared) = self.sources.get_mut(&source) else { return };
        shared.backend.turn(now, out);
        let replacement = shared.backend.replacement();
        self.note_due(source);
        if let Some(Replacement { id, options, handover }) = replacement
            && let Some((_, mode)) = self.subscribers.get(&id).copied()
        {
            // A backend that is replaced serves no other subscriber, and has no child.
            self.close(id, now);
            self.subscribe(id, &options, mode, handover, now);
        }
    }

    /// Ends a subscription, and the backend with its last one. Gives what is left of the backend's children.
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

    /// Tells the backend whose child has ended. Tells whether there is one.
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

/// Which of the keys of a backend have nothing below them, so far none.
pub fn missing(backend: &config::Backend) -> Missing {
    match &backend.kind {
        Kind::Env => env::missing(&backend.prefix, &backend.keys),
        // It never has keys.
        Kind::Mock => Missing::default(),
        #[cfg(feature = "redis")]
        Kind::Redis(_) => redis::missing(&backend.prefix, &backend.keys),
        // A key that does not exist is an error there, and one that does has a key.
        Kind::Zookeeper(_) => Missing::default(),
        _ => Missing::new(&backend.prefix, &backend.keys),
    }
}

/// Whether a backend watches its keys. A one-shot run watches nothing; what failed is read again all the same.
pub fn watches(backend: &config::Backend, mode: Mode) -> bool {
    mode == Mode::Watch && backend.watch && !backend.onetime
}

/// How often a backend reads everything again although nothing failed; `None`: never.
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
            kind: Kind::File(config::File {
                filepath: folder.path(name).to_str().unwrap().to_owned(),
                httpheaders: Default::default(),
                read: ReadLimits::default(),
            }),
        }
    }

    /// Whatever happens to the backends, the pool knows which is due first, and a changed file makes all of its readers due.
    #[test]
    fn the_pool_knows_who_is_due() {
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

        // At the end everything is read, and each has the newest.
        let mut newest: BTreeMap<Id, Layer> = BTreeMap::new();
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
