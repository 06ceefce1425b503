//! Resolves host names: an address literal, then `/etc/hosts`, then the DNS servers of `/etc/resolv.conf`. Both files
//! are read for every lookup. A [`Lookup`] never waits: poll [`Lookup::interests`] until [`Lookup::due`], then call
//! [`Lookup::turn`] until it returns an answer, in 3 s at most. No nsswitch, no mDNS, no cache. `crate::dns` parses
//! messages and files.

mod exchange;

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use std::time::{Duration, Instant};

use rustix::net::netdevice;

use self::exchange::{Exchange, Plan};
use super::read;
use super::wait::Interest;
use crate::dns::resolv_conf::{ResolvConf, Server};
use crate::dns::wire::{Kind, Record, Service};
use crate::dns::{BadName, Name, hosts};

/// The time limit of a lookup, including all servers, repetitions and searched domains.
const LONGEST: Duration = Duration::from_secs(3);

/// The time limit if no server answered the last lookup either, because several lookups of one turn add up.
const LONGEST_IN_SILENCE: Duration = Duration::from_secs(1);

/// How long a silent server is queried after all others.
const REST: Duration = Duration::from_secs(120);

/// How long the second address family is awaited if one is enough.
const SECOND_FAMILY: Duration = Duration::from_millis(100);

/// A larger file is an error. Lists of blocked names in `/etc/hosts` have some megabytes.
const MOST_BYTES: usize = 64 << 20;

/// Looks names up. Keeps only which servers were silent; clones share that.
#[derive(Clone, Debug, Default)]
pub struct Resolver(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    places: Places,
    /// The silent servers, and until when they are queried last. In a `RefCell`, because clones share the resolver.
    silent: RefCell<Vec<(SocketAddr, Instant)>>,
}

/// The files and the port that a resolver uses.
#[derive(Clone, Debug)]
pub struct Places {
    /// The path of a file in the format of resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// The path of a file in the format of hosts(5).
    pub hosts: PathBuf,
    /// The port of every server.
    pub port: u16,
}

impl Default for Places {
    fn default() -> Places {
        Places { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), port: 53 }
    }
}

/// What to look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// The addresses of a host to connect to. The first answer is enough, so that a server that never answers for one
    /// address family costs no time.
    Host(String),
    /// All addresses of a host, IPv4 and IPv6, because the content of a file must not change with a lost packet. The
    /// lookup fails if the answer for one family is missing.
    Addresses(String),
    /// The SRV records of a name such as `_etcd-client._tcp.example.com`.
    Services(String),
}

impl Query {
    fn name(&self) -> &str {
        match self {
            Query::Host(name) | Query::Addresses(name) | Query::Services(name) => name,
        }
    }
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// At least one address, in the order to try them: IPv4 and IPv6 in turns, IPv4 first. A family that this host
    /// cannot use fails at once. A family that only seems to work, which is more often IPv6, costs one connection
    /// attempt before the other family has its turn.
    Addresses(Vec<IpAddr>),
    /// At least one service, in the server's order.
    Services(Vec<Service>),
}

impl Resolver {
    /// A resolver with other files and another port.
    pub fn with(places: Places) -> Resolver {
        Resolver(Rc::new(Shared { places, silent: RefCell::default() }))
    }

    /// Creates a lookup. Its first turn, which is due at once, reads the files and queries the first server.
    pub fn begin(&self, query: Query, now: Instant) -> Lookup {
        Lookup { resolver: self.clone(), query, state: State::Begun(now) }
    }

    fn conf(&self) -> ResolvConf {
        // Without the file, this host is the server, as in the C library.
        let text = read::whole_file(&self.0.places.resolv_conf, MOST_BYTES).unwrap_or_default();
        let hostname = read::whole_file(Path::new("/proc/sys/kernel/hostname"), MOST_BYTES).unwrap_or_default();
        ResolvConf::new(&text, String::from_utf8_lossy(&hostname).trim_end())
    }

    fn address(&self, server: &Server) -> SocketAddr {
        match (server.address, &server.scope) {
            // The number of a missing interface is 0, and sending returns the error.
            (IpAddr::V6(address), Some(scope)) => {
                let index = scope.parse().ok().or_else(|| interface(scope)).unwrap_or(0);
                SocketAddrV6::new(address, self.0.places.port, 0, index).into()
            }
            (address, _) => SocketAddr::new(address, self.0.places.port),
        }
    }

    /// The servers in the file's order, the silent ones last.
    fn in_order(&self, servers: &[SocketAddr], now: Instant) -> Vec<SocketAddr> {
        let (resting, ready): (Vec<SocketAddr>, Vec<SocketAddr>) =
            servers.iter().partition(|server| self.rests(server, now));
        [ready, resting].concat()
    }

    fn rests(&self, server: &SocketAddr, now: Instant) -> bool {
        self.0.silent.borrow().iter().any(|(silent, until)| silent == server && *until > now)
    }

    fn remember(&self, silent: Vec<SocketAddr>, answered: Vec<SocketAddr>, now: Instant) {
        let until = now + REST;
        let mut list = self.0.silent.borrow_mut();
        list.retain(|(server, _)| !silent.contains(server) && !answered.contains(server));
        list.extend(silent.into_iter().map(|server| (server, until)));
        // The file may have changed: silent servers are forgotten after their time.
        list.retain(|(_, until)| *until > now);
    }
}

/// A lookup in progress. Dropping it ends it.
#[derive(Debug)]
pub struct Lookup {
    resolver: Resolver,
    query: Query,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The time of creation. Nothing was read or sent.
    Begun(Instant),
    Asking(Box<Search>),
    Over(Instant),
}

/// The full names of a short name, queried one after the other.
#[derive(Debug)]
struct Search {
    names: Vec<Name>,
    /// The index of the present name.
    at: usize,
    kinds: &'static [Kind],
    conf: ResolvConf,
    servers: Vec<SocketAddr>,
    second_family: Option<Duration>,
    end: Instant,
    exchange: Exchange,
    /// Why no name so far has the records: the servers have denied them, or could not answer.
    missing: Option<Fault>,
    troubled: Option<Fault>,
}

impl Lookup {
    /// Appends the descriptors to poll.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        if let State::Asking(search) = &self.state {
            search.exchange.interests(out);
        }
    }

    /// When a turn is due although nothing is ready.
    pub fn due(&self) -> Instant {
        match &self.state {
            State::Begun(at) | State::Over(at) => *at,
            State::Asking(search) => search.exchange.due(),
        }
    }

    /// Continues as far as possible without waiting. `None`: poll before the next turn. No turn may follow an answer.
    pub fn turn(&mut self, now: Instant) -> Option<Result<Found, Error>> {
        if let State::Begun(_) = self.state {
            match self.start(now) {
                Ok(Started::Found(found)) => return self.over(Ok(found), now),
                Ok(Started::Asking(search)) => self.state = State::Asking(search),
                Err(fault) => return self.over(Err(fault), now),
            }
        }
        let State::Asking(search) = &mut self.state else { return None };
        let records = search.turn(&self.resolver, now)?;
        let query = &self.query;
        let found = records.map(|records| match query {
            Query::Services(_) => Found::Services(records.into_iter().filter_map(Record::service).collect()),
            Query::Host(_) | Query::Addresses(_) => {
                Found::Addresses(in_turns(records.into_iter().filter_map(Record::address).collect()))
            }
        });
        self.over(found, now)
    }

    fn over(&mut self, outcome: Result<Found, Fault>, now: Instant) -> Option<Result<Found, Error>> {
        self.state = State::Over(now);
        Some(outcome.map_err(|fault| Error { name: self.query.name().to_owned(), fault }))
    }

    /// The answer that needs no server, or the search.
    fn start(&self, now: Instant) -> Result<Started, Fault> {
        let written = self.query.name();
        let kinds: &'static [Kind] = match &self.query {
            Query::Services(_) => &[Kind::Srv],
            Query::Host(name) | Query::Addresses(name) => {
                if let Ok(address) = name.parse() {
                    return Ok(Started::Found(Found::Addresses(vec![address])));
                }
                // An unreadable file counts as empty, and the servers are queried.
                let file = read::whole_file(&self.resolver.0.places.hosts, MOST_BYTES).unwrap_or_default();
                for found in [hosts::addresses(&file, name), hosts::always(name)] {
                    if !found.is_empty() {
                        return Ok(Started::Found(Found::Addresses(in_turns(found))));
                    }
                }
                &[Kind::A, Kind::Aaaa]
            }
        };
        let resolver = &self.resolver;
        let conf = resolver.conf();
        let names = conf.names(written).map_err(Fault::BadName)?;
        let servers: Vec<SocketAddr> = conf.servers.iter().map(|server| resolver.address(server)).collect();
        let is_silent = servers.iter().all(|server| resolver.rests(server, now));
        let end = now + if is_silent { LONGEST_IN_SILENCE } else { LONGEST };
        let second_family = matches!(self.query, Query::Host(_)).then_some(SECOND_FAMILY);
        let plan = Plan {
            servers: resolver.in_order(&servers, now),
            attempts: conf.attempts,
            timeout: conf.timeout,
            end,
            second_family,
        };
        let exchange = Exchange::new(names.first().expect("a name stands for itself at least"), kinds, plan, now);
        let (missing, troubled) = (None, None);
        let search = Search { names, at: 0, kinds, conf, servers, second_family, end, exchange, missing, troubled };
        Ok(Started::Asking(Box::new(search)))
    }
}

enum Started {
    Found(Found),
    Asking(Box<Search>),
}

impl Search {
    /// The records of the first name that has any.
    fn turn(&mut self, resolver: &Resolver, now: Instant) -> Option<Result<Vec<Record>, Fault>> {
        loop {
            let outcome = self.exchange.advance(now)?;
            resolver.remember(self.exchange.silent(), self.exchange.answered(), now);
            let goes_on = match outcome {
                Ok(records) => return Some(Ok(records)),
                Err(Fault::Troubled { name, missing, mut troubles }) => {
                    // The answers have no records, so the next name is tried. But a name with records of the other type
                    // is the right one.
                    let answers = |trouble: &Trouble| matches!(trouble, Trouble::Refuses(_) | Trouble::Garbled(_));
                    let goes_on = missing.is_none() && troubles.iter().any(|(_, trouble)| answers(trouble));
                    // The servers in the file's order, so that equal failures have equal texts.
                    troubles.sort_by_key(|(server, _)| self.servers.iter().position(|other| other == server));
                    self.troubled.get_or_insert(Fault::Troubled { name, missing, troubles });
                    goes_on
                }
                Err(fault) => {
                    // An existing name without records is a better error than a missing name.
                    if self.missing.is_none() || matches!(fault, Fault::NoRecord { .. }) {
                        self.missing = Some(fault);
                    }
                    true
                }
            };
            self.at += 1;
            let Some(name) = self.names.get(self.at).filter(|_| goes_on) else {
                return Some(Err(self.fault()));
            };
            let plan = Plan {
                servers: resolver.in_order(&self.servers, now),
                attempts: self.conf.attempts,
                timeout: self.conf.timeout,
                end: self.end,
                second_family: self.second_family,
            };
            self.exchange = Exchange::new(name, self.kinds, plan, now);
        }
    }

    fn fault(&mut self) -> Fault {
        // A name without an answer might have been the right one.
        let fault = self.troubled.take().or(self.missing.take());
        let mut fault = fault.expect("there is at least one name, and it had no records");
        if let Fault::NoName { asked, .. } = &mut fault {
            asked.clone_from(&self.names);
        }
        fault
    }
}

/// The number of a network interface.
fn interface(name: &str) -> Option<u32> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    netdevice::name_to_index(&socket, name).ok()
}

/// IPv4 and IPv6 in turns, IPv4 first, each family in its own order.
fn in_turns(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (four, six): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    let (mut four, mut six) = (four.into_iter(), six.into_iter());
    let mut turns = Vec::with_capacity(four.len() + six.len());
    while four.len() + six.len() > 0 {
        turns.extend(four.next().into_iter().chain(six.next()));
    }
    turns
}

/// A failed lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The name as the caller wrote it.
    pub name: String,
    /// The cause.
    pub fault: Fault,
}

/// Why a lookup failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The name is not valid.
    BadName(BadName),
    /// None of these names exists, according to the server.
    NoName {
        /// The last server with this answer.
        server: SocketAddr,
        /// The names in the order of the queries: the name alone, or with each searched domain.
        asked: Vec<Name>,
    },
    /// The name exists, but has no records of this type, according to the server.
    NoRecord {
        /// The server with this answer.
        server: SocketAddr,
        /// In full.
        name: Name,
        /// The type of the missing records.
        kind: Kind,
    },
    /// No server gave a usable answer.
    Troubled {
        /// In full.
        name: Name,
        /// The missing type, if the name has records of the other type.
        missing: Option<Kind>,
        /// The failure of each server, in the order of the queries.
        troubles: Vec<(SocketAddr, Trouble)>,
    },
}

/// The failure of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server did not answer within its time.
    Silent,
    /// The answer has an error code.
    Refuses(u8),
    /// The answer cannot be parsed. The text is the cause.
    Garbled(&'static str),
    /// The server is unreachable.
    Unreachable(String),
    /// The answer is too long for UDP, and the query over TCP failed.
    NotOverTcp(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to look up `{}`: {}", self.name.escape_debug(), self.fault)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::BadName(bad) => bad.fmt(f),
            Fault::NoName { server, asked } => {
                write!(f, "there is no such name (asked {server} for ")?;
                let mut asked = asked.iter();
                asked.next().map_or(Ok(()), |name| name.fmt(f))?;
                asked.try_for_each(|name| write!(f, ", {name}"))?;
                f.write_str(")")
            }
            Fault::NoRecord { server, name, kind } => {
                let record = if *kind == Kind::Srv { "SRV record" } else { "address" };
                write!(f, "it has no {record} (asked {server} for {name})")
            }
            Fault::Troubled { name, missing, troubles } => {
                for (n, (server, trouble)) in troubles.iter().enumerate() {
                    let separator = if n > 0 { "; " } else { "" };
                    write!(f, "{separator}server {server} {trouble}")?;
                }
                let what = match missing {
                    Some(Kind::A) => "the IPv4 addresses of ",
                    Some(Kind::Aaaa) => "the IPv6 addresses of ",
                    Some(Kind::Srv) | None => "",
                };
                write!(f, " (asked for {what}{name})")
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Silent => f.write_str("did not answer in time"),
            Trouble::Refuses(1) => f.write_str("does not understand the question (FORMERR)"),
            Trouble::Refuses(2) => f.write_str("failed to find out (SERVFAIL)"),
            Trouble::Refuses(5) => f.write_str("refuses to answer (REFUSED)"),
            Trouble::Refuses(code) => write!(f, "answered with error code {code}"),
            Trouble::Garbled(why) => write!(f, "sent an answer that cannot be read: {why}"),
            Trouble::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            Trouble::NotOverTcp(why) => write!(f, "has a long answer and cannot be asked over TCP: {why}"),
        }
    }
}
