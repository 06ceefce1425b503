//! Where keys come from: one file or folder a backend. A backend reads, watches and retries on its
//! own and reports what it learnt; what is done with it is `resource`'s business.

pub mod env;
pub mod etcd;
pub mod file;
pub mod flatten;
pub mod keys;
pub mod mock;
pub mod polled;
pub mod redact;
pub mod remote;
pub mod tally;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::config::Mode;

use crate::config::{self, Kind};
use crate::host::wait::Wake;
use crate::log::Line;
use crate::store::{Bytes, Layer};
use keys::Missing;

/// One backend of one resource, at work. The loop calls [`Backend::turn`] once at the start, whenever one of
/// its descriptors is readable and when it is due.
pub trait Backend {
    /// The name in logs: `etcd`, `file`.
    fn name(&self) -> &'static str;

    /// Appends the descriptors whose readability calls for a turn.
    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>);

    /// When a turn is due although nothing is readable; `None`: never.
    fn due(&self) -> Option<Instant>;

    /// Does what can be done now. Waits for nothing but the answer to a request of its own.
    fn turn(&mut self, now: Instant, out: &mut Vec<Report>);

    /// Ends what is open; the last call before it is dropped.
    fn close(&mut self, _out: &mut Vec<Report>) {}
}

/// What a turn brought.
#[derive(Debug)]
pub enum Report {
    /// All keys, read at one moment. Calls for an update.
    Snapshot(Layer),
    /// Single keys, newest last, for the layer of this backend. `trigger`: they call for an update; else they
    /// only keep the layer true (watchKeys name other keys).
    Changes { changes: Vec<Change>, trigger: bool },
    /// A read or a watch failed and will be tried again; said at every attempt, logged by who hears it when it begins,
    /// changes and ends. Verb, subject, cause.
    Failed(String),
    /// What failed works again.
    Recovered,
    /// For the log as it is.
    Log(Line),
}

/// One key that was written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Bytes, Bytes),
    Delete(Bytes),
}

/// Opens backends, and knows what those that are open share.
pub struct Pool {
    wake: Arc<dyn Wake>,
    random: fn(u64) -> u64,
    etcd: etcd::Connections,
}

impl Pool {
    /// `random` gives a number below its argument, which is not 0.
    pub fn new(wake: Arc<dyn Wake>, random: fn(u64) -> u64) -> Pool {
        Pool { wake, random, etcd: etcd::Connections::default() }
    }

    /// A backend as the configuration describes it; it begins at its first turn.
    ///
    /// # Panics
    /// If the backend is one that [`config::unsupported`] names.
    pub fn open(&mut self, options: &config::Backend, mode: Mode) -> Box<dyn Backend> {
        let seed = (self.random)(u64::MAX);
        match &options.kind {
            Kind::Etcd(etcd) => self.etcd.open(options, etcd, mode, Arc::clone(&self.wake), self.random),
            Kind::File(file) if file.is_remote() => remote::new(options, file, mode, Arc::clone(&self.wake), seed),
            Kind::File(file) => file::new(options, file, mode, seed),
            Kind::Env => env::new(options, mode, seed),
            Kind::Mock => mock::new(options, mode, seed),
            Kind::Consul(_)
            | Kind::Vault(_)
            | Kind::Redis(_)
            | Kind::Zookeeper(_)
            | Kind::Nats(_)
            | Kind::Plugin(_) => {
                unreachable!("config::unsupported refuses what is not built")
            }
        }
    }
}

/// Which of the keys of a backend have nothing below them, so far none.
pub fn missing(backend: &config::Backend) -> Missing {
    match &backend.kind {
        Kind::Env => env::missing(&backend.prefix, &backend.keys),
        // It never has keys.
        Kind::Mock => Missing::default(),
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
