//! etcd: what the configuration means is made into a backend at work. Version 3, over its JSON gateway, is in this
//! folder, version 2 in a folder of its own. Where the configuration leaves it open, `unversioned` finds the version
//! out, and `located` the nodes. Resources that use the same etcd of version 3 in the same way share its connections and
//! one stream.

mod client;
mod discovery;
mod located;
pub mod mirror;
mod nodes;
mod rota;
mod session;
mod subscription;
mod unversioned;
pub mod v2;
pub mod wire;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use self::client::{Client, Handle};
use self::mirror::{Comparing, Mirror};
use self::rota::{Patience, Rota, Start};
use self::session::{Session, Settings};
use self::subscription::{Goal, Wanted};
use super::{Backend, Mode, interval, watches};
use crate::config::{self, EtcdVersion};
use crate::host::http::{self, Limits};
use crate::host::wait::Wake;

const NAME: &str = "etcd";

/// The etcds that are connected to, each for as long as somebody uses it.
#[derive(Clone, Default)]
pub struct Connections {
    open: Rc<RefCell<Vec<Connection>>>,
}

struct Connection {
    /// Less the version, which may have been found out.
    etcd: config::Etcd,
    mode: Mode,
    /// Sorted: those of an SRV record are in another order each time.
    nodes: Vec<String>,
    client: Weak<RefCell<Client>>,
}

impl Connections {
    /// A backend of one resource; it begins at its first turn. `random` gives a number below its argument, which is not
    /// 0.
    pub fn open(
        &self,
        options: &config::Backend,
        etcd: &config::Etcd,
        mode: Mode,
        wake: Arc<dyn Wake>,
        random: fn(u64) -> u64,
    ) -> Box<dyn Backend> {
        let version = Cell::new(etcd.version);
        let (options, etcd, connections) = (options.clone(), etcd.clone(), self.clone());
        let recipe = Rc::new(Recipe { options, etcd, mode, wake, random, version, connections });
        // Nodes that are given win over the record.
        if recipe.etcd.nodes.is_empty() {
            Box::new(located::Located::new(recipe))
        } else {
            recipe.backend(recipe.etcd.nodes.clone(), Start::Anywhere)
        }
    }
}

/// What it takes to make a backend over any nodes.
struct Recipe {
    options: config::Backend,
    etcd: config::Etcd,
    mode: Mode,
    wake: Arc<dyn Wake>,
    random: fn(u64) -> u64,
    /// Found out once if the configuration does not say it.
    version: Cell<Option<EtcdVersion>>,
    connections: Connections,
}

impl Recipe {
    /// The backend over these nodes, at least one.
    fn backend(self: &Rc<Recipe>, nodes: Vec<String>, start: Start) -> Box<dyn Backend> {
        match self.version.get() {
            Some(EtcdVersion::V3) => self.version_3(nodes, start),
            Some(EtcdVersion::V2) => v2::new(self, nodes, start),
            None => Box::new(unversioned::Unversioned::new(Rc::clone(self), nodes, start)),
        }
    }

    fn version_3(&self, nodes: Vec<String>, start: Start) -> Box<dyn Backend> {
        let options = &self.options;
        let goal = match self.mode {
            Mode::OneShot => Goal::Once,
            Mode::Watch if watches(options, self.mode) => Goal::Watched,
            Mode::Watch => Goal::Kept,
        };
        let interval = interval(options, self.mode);
        let comparing = if goal == Goal::Watched && interval.is_some() { Comparing::Yes } else { Comparing::No };
        let mirror = Mirror::new(&options.prefix, &options.keys, &options.watch_keys, comparing);
        let wanted = Wanted { prefix: options.prefix.clone(), goal, interval, mirror, limits: self.etcd.read };
        Box::new(Handle::new(self.client(nodes, start), wanted))
    }

    /// The client that is connected in the same way already, or a new one.
    fn client(&self, nodes: Vec<String>, start: Start) -> Rc<RefCell<Client>> {
        // Version 3 has no use for credentials in a URL.
        let nodes: Vec<String> = nodes.iter().map(|node| http::without_credentials(node)).collect();
        let mut sorted = nodes.clone();
        sorted.sort_unstable();
        let mut open = self.connections.open.borrow_mut();
        open.retain(|connection| connection.client.strong_count() > 0);
        let etcd = config::Etcd { version: None, ..self.etcd.clone() };
        let is_same = |c: &&Connection| c.etcd == etcd && c.mode == self.mode && c.nodes == sorted;
        if let Some(client) = open.iter().find(is_same).and_then(|connection| connection.client.upgrade()) {
            return client;
        }
        let settings = Settings {
            login: self.etcd.login.is_some(),
            watch_deadline: self.etcd.watch_deadline,
            patience: self.etcd.request_timeout,
        };
        let patience = match self.mode {
            Mode::OneShot => Patience::For(self.etcd.timeout),
            Mode::Watch => Patience::Endless,
        };
        let now = Instant::now();
        let rota = Rota::new(nodes.clone(), start, patience, &mut |bound| (self.random)(bound));
        let session = Session::new(settings, rota, now, Box::new(self.random));
        let http = http::Client::new(self.wake.clone(), limits(&self.etcd), self.etcd.tls.clone());
        let client = Rc::new(RefCell::new(Client::new(http, nodes, self.etcd.login.clone(), session, now)));
        let weak = Rc::downgrade(&client);
        open.push(Connection { etcd, mode: self.mode, nodes: sorted, client: weak });
        client
    }

    /// What version 3 reads.
    fn spans(&self) -> Vec<wire::Span> {
        Mirror::new(&self.options.prefix, &self.options.keys, &[], Comparing::No).spans()
    }
}

/// What a request to a node may take.
fn limits(etcd: &config::Etcd) -> Limits {
    let usual = Limits::default();
    Limits {
        dial: etcd.dial_timeout,
        answer: etcd.request_timeout,
        whole: usual.whole.max(etcd.request_timeout),
        size: etcd.max_response,
        ..usual
    }
}
