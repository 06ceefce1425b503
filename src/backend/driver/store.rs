//! The options of a network store that do not depend on its protocol: where its nodes come from, and the limits of its
//! calls. Looks nothing up.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Instant;

use crate::backend::failover::{Deadline, Failover, Start};
use crate::backend::services;
use crate::config;
use crate::dns::wire::Service;
use crate::host::client::Limits;

/// The options that all stores have.
pub struct Store {
    /// The name in logs.
    pub name: Cow<'static, str>,
    /// Where the nodes come from.
    pub nodes: Nodes,
    /// The limits of a call.
    pub limits: Limits,
    /// The TLS options for nodes with https.
    pub tls: config::Tls,
    /// Name and password, or their files; `None`: the URLs of the nodes may name a user.
    pub login: Option<config::Login>,
    /// The deadline of a one-shot run, counted from the creation of the driver or of the one before it.
    pub deadline: Deadline,
    /// Returns a random number below its argument, which is not 0.
    pub random: fn(u64) -> u64,
}

/// Where the nodes of a store come from.
pub enum Nodes {
    /// At least one URL, and the choice of the first one.
    List(Vec<String>, Start),
    /// An SRV record.
    Record {
        /// The name of the record, such as `_etcd-client._tcp.example.com`.
        name: String,
        /// Converts services to URLs, in the order of their use.
        urls: Box<dyn Fn(Vec<Service>) -> Vec<String>>,
        /// The URLs of a recent lookup, if there was one.
        known: Option<Vec<String>>,
    },
    /// A local program. Each connection starts it and consists of its pipes. The program ends with the connection.
    Program(PathBuf),
}

impl Nodes {
    /// The URLs if there are any, otherwise the record.
    pub fn list_or(nodes: &[String], start: Start, record: impl FnOnce() -> Nodes) -> Nodes {
        match nodes.is_empty() {
            true => record(),
            false => Nodes::List(nodes.to_vec(), start),
        }
    }

    /// The nodes of an SRV record, as URLs with this scheme. `known`: the URLs of a recent lookup.
    pub fn by_record(name: &str, scheme: &str, known: Option<Vec<String>>, random: fn(u64) -> u64) -> Nodes {
        let scheme = scheme.to_owned();
        let urls = Box::new(move |services| services::in_order(services, &scheme, &mut |bound| random(bound)));
        Nodes::Record { name: name.to_owned(), urls, known }
    }
}

/// The limits of a request to a node.
pub fn limits(network: &config::Network) -> Limits {
    let usual = Limits::default();
    Limits {
        dial: network.dial_timeout,
        answer: network.request_timeout,
        whole: usual.whole.max(network.request_timeout),
        size: network.max_response,
    }
}

/// The failover of these nodes, with the rest of a one-shot run's time limit.
pub fn failover(store: &Store, shown: Vec<String>, start: Start, begun: Instant) -> Failover {
    let mut failover = Failover::new(shown, start, store.deadline, Box::new(store.random));
    failover.begin(begun, store.limits.answer);
    failover
}

/// The record as the only node during its lookup.
pub fn record(store: &Store, begun: Instant) -> Failover {
    let name = match &store.nodes {
        Nodes::Record { name, .. } => name.clone(),
        Nodes::List(..) | Nodes::Program(_) => String::new(),
    };
    failover(store, vec![name], Start::First, begun)
}

/// Whether two lists have the same nodes, in any order.
pub fn is_same(one: &[String], other: &[String]) -> bool {
    let sorted = |nodes: &[String]| {
        let mut nodes = nodes.to_vec();
        nodes.sort_unstable();
        nodes
    };
    sorted(one) == sorted(other)
}
