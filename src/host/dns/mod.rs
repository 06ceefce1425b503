//! Names of the network: an address as it is, then `/etc/hosts`, then DNS servers as `/etc/resolv.conf` says, both
//! files read anew at every lookup. A [`Lookup`] never waits: poll [`Lookup::interests`] until [`Lookup::due`], then take a
//! [`Lookup::turn`] until it gives an answer, in 3 s at most. No nsswitch, no mDNS, no cache. The meaning of messages and
//! files is `crate::dns`'s.

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

/// A lookup ends after this time, all servers, repetitions and searched domains included.
const LONGEST: Duration = Duration::from_secs(3);

/// And after this, if no server said a word the last time either: lookups of one turn add up.
const LONGEST_IN_SILENCE: Duration = Duration::from_secs(1);

/// A server that said nothing is asked after the others for this time.
const REST: Duration = Duration::from_secs(120);

/// How long the second family of addresses is waited for where one is enough.
const SECOND_FAMILY: Duration = Duration::from_millis(100);

/// A larger file is taken for a mistake. Lists of blocked names in `/etc/hosts` have some megabytes.
const MOST_BYTES: usize = 64 << 20;

/// Looks names up. Keeps nothing but which servers were silent; clones share that.
#[derive(Clone, Debug, Default)]
pub struct Resolver(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    places: Places,
    /// Servers that said nothing, and until when they rest.
    silent: RefCell<Vec<(SocketAddr, Instant)>>,
}

/// Where a resolver finds what it needs to know.
#[derive(Clone, Debug)]
pub struct Places {
    /// In the format of resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// In the format of hosts(5).
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
    /// The addresses of a host to connect to: those that come first, so that a server that never answers for one of the
    /// families costs no time.
    Host(String),
    /// The addresses of a host, IPv4 and IPv6: what is written into a file must not change with a lost packet. A family
    /// of which no server says whether the name has it is a failed lookup.
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

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// At least one, in the order to try them: IPv4 and IPv6 in turns, IPv4 first. A family that this host cannot use at
    /// all fails at once; one that is only said to work, which is IPv6 more often, costs a connection attempt, but only
    /// one before the other family has its turn.
    Addresses(Vec<IpAddr>),
    /// At least one, in the server's order.
    Services(Vec<Service>),
}

impl Resolver {
    /// Over files and a port of the caller's choice.
    pub fn with(places: Places) -> Resolver {
        Resolver(Rc::new(Shared { places, silent: RefCell::default() }))
    }

    /// Begins a lookup. Its first turn reads the files and asks the first server; it is due at once.
    pub fn begin(&self, query: Query, now: Instant) -> Lookup {
        Lookup { resolver: self.clone(), query, state: State::Begun(now) }
    }

    fn conf(&self) -> ResolvConf {
        // Where there is no such file this host is asked, as everywhere.
        let text = read::whole_file(&self.0.places.resolv_conf, MOST_BYTES).unwrap_or_default();
        let hostname = read::whole_file(Path::new("/proc/sys/kernel/hostname"), MOST_BYTES).unwrap_or_default();
        ResolvConf::new(&text, String::from_utf8_lossy(&hostname).trim_end())
    }

    fn address(&self, server: &Server) -> SocketAddr {
        match (server.address, &server.scope) {
            // An interface that does not exist is 0: sending says what is wrong with it.
            (IpAddr::V6(address), Some(scope)) => {
                let index = scope.parse().ok().or_else(|| interface(scope)).unwrap_or(0);
                SocketAddrV6::new(address, self.0.places.port, 0, index).into()
            }
            (address, _) => SocketAddr::new(address, self.0.places.port),
        }
    }

    /// The servers as the file has them, but those that rest behind the others.
    fn in_order(&self, servers: &[SocketAddr], now: Instant) -> Vec<SocketAddr> {
        let (resting, ready): (Vec<SocketAddr>, Vec<SocketAddr>) =
            servers.iter().partition(|server| self.rests(server, now));
        [ready, resting].concat()
    }

    fn rests(&self, server: &SocketAddr, now: Instant) -> bool {
        self.0.silent.borrow().iter().any(|(silent, until)| silent == server && *until > now)
    }

    fn remember(&self, silent: Vec<SocketAddr>, heard: Vec<SocketAddr>, now: Instant) {
        let until = now + REST;
        let mut list = self.0.silent.borrow_mut();
        list.retain(|(server, _)| !silent.contains(server) && !heard.contains(server));
        list.extend(silent.into_iter().map(|server| (server, until)));
        // A file that changes names other servers: those of before are forgotten when they have rested.
        list.retain(|(_, until)| *until > now);
    }
}

/// A lookup under way. Dropping it ends it.
#[derive(Debug)]
pub struct Lookup {
    resolver: Resolver,
    query: Query,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Since then; nothing was read or asked.
    Begun(Instant),
    Asking(Box<Search>),
    Over(Instant),
}

/// The names that a written one may stand for, asked for one after the other.
#[derive(Debug)]
struct Search {
    names: Vec<Name>,
    /// Which of them is asked for.
    at: usize,
    kinds: &'static [Kind],
    conf: ResolvConf,
    servers: Vec<SocketAddr>,
    second_family: Option<Duration>,
    end: Instant,
    exchange: Exchange,
    /// Why no name so far has the records: that the servers say so, and that they cannot say.
    missing: Option<Fault>,
    troubled: Option<Fault>,
}

impl Lookup {
    /// Appends what to poll for.
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

    /// Goes on as far as it can without waiting. `None`: poll. After an answer no turn may follow.
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

    /// What needs no server, or the search that asks them.
    fn start(&self, now: Instant) -> Result<Started, Fault> {
        let written = self.query.name();
        let kinds: &'static [Kind] = match &self.query {
            Query::Services(_) => &[Kind::Srv],
            Query::Host(name) | Query::Addresses(name) => {
                if let Ok(address) = name.parse() {
                    return Ok(Started::Found(Found::Addresses(vec![address])));
                }
                // A file that cannot be read has nothing to say; the servers may.
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
    /// The records of the first of the names that has any.
    fn turn(&mut self, resolver: &Resolver, now: Instant) -> Option<Result<Vec<Record>, Fault>> {
        loop {
            let outcome = self.exchange.advance(now)?;
            resolver.remember(self.exchange.silent(), self.exchange.heard(), now);
            let goes_on = match outcome {
                Ok(records) => return Some(Ok(records)),
                Err(Fault::Troubled { name, missing, mut troubles }) => {
                    // Answers, if of no use: another name may have a better one. But a name that has records of the other
                    // kind is the one.
                    let answers = |trouble: &Trouble| matches!(trouble, Trouble::Refuses(_) | Trouble::Garbled(_));
                    let goes_on = missing.is_none() && troubles.iter().any(|(_, trouble)| answers(trouble));
                    // As the file has them, resting or not: the same failure has the same words.
                    troubles.sort_by_key(|(server, _)| self.servers.iter().position(|other| other == server));
                    self.troubled.get_or_insert(Fault::Troubled { name, missing, troubles });
                    goes_on
                }
                Err(fault) => {
                    // That a name exists says more than that another does not.
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
        // A name that could not be found out about might have been the one.
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

/// A lookup that found nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// As it was asked for.
    pub name: String,
    /// Why nothing was found.
    pub fault: Fault,
}

/// Why a lookup found nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The name cannot be asked for.
    BadName(BadName),
    /// The server says that none of these names exists.
    NoName {
        /// The one that said so last.
        server: SocketAddr,
        /// In the order they were asked for: the name alone, or with each searched domain.
        asked: Vec<Name>,
    },
    /// The server says that the name exists, but has nothing of this kind.
    NoRecord {
        /// The one that said so.
        server: SocketAddr,
        /// In full.
        name: Name,
        /// What it has none of.
        kind: Kind,
    },
    /// No server said anything of use.
    Troubled {
        /// In full.
        name: Name,
        /// What they did not say, where the name has records of the other kind.
        missing: Option<Kind>,
        /// What each server did, in the order they were asked.
        troubles: Vec<(SocketAddr, Trouble)>,
    },
}

/// What is wrong with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It did not answer in time.
    Silent,
    /// The error code of its answer.
    Refuses(u8),
    /// Its answer cannot be read; why.
    Garbled(&'static str),
    /// It cannot be reached.
    Unreachable(String),
    /// Its answer is too long for UDP, and it cannot be asked over TCP.
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
