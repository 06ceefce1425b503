//! Names of the network: an address as it is, then `/etc/hosts`, then DNS servers as `/etc/resolv.conf` says, both
//! files read anew at every lookup. A lookup holds the loop: for 3 s at most, and a signal ends it at once.
//! Instead of the C library's getaddrinfo, which blocks for tens of seconds and cannot be woken. No nsswitch, no
//! mDNS, no cache. What messages and files mean is `crate::dns`'s.

mod exchange;

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::net::netdevice;

use self::exchange::{Exchange, Plan};
use super::read;
use super::wait::Wake;
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

/// Larger files are somebody's mistake. Lists of blocked names in `/etc/hosts` have some megabytes.
const MOST_BYTES: usize = 64 << 20;

/// Looks names up. Keeps nothing but which servers were silent.
#[derive(Debug)]
pub struct Resolver {
    places: Places,
    wake: Option<Arc<dyn Wake>>,
    /// Servers that said nothing, and until when they rest.
    silent: Mutex<Vec<(SocketAddr, Instant)>>,
}

/// Where a resolver finds what it needs to know.
#[derive(Clone, Debug)]
pub struct Places {
    pub resolv_conf: PathBuf,
    pub hosts: PathBuf,
    /// The port of every server.
    pub port: u16,
}

impl Default for Places {
    fn default() -> Places {
        Places { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), port: 53 }
    }
}

/// Which of a name's addresses are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6, as far as they can be had: what is written into a file must not change with a lost packet.
    Both,
    /// Those that come first, to connect to: a server that never answers one of the questions costs no time.
    Either,
}

impl Resolver {
    /// `wake`: what a lookup serves while it waits.
    pub fn new(wake: Option<Arc<dyn Wake>>) -> Resolver {
        Resolver::with(Places::default(), wake)
    }

    pub fn with(places: Places, wake: Option<Arc<dyn Wake>>) -> Resolver {
        Resolver { places, wake, silent: Mutex::default() }
    }

    /// The addresses of a host, at least one, in the order to try them: IPv4 and IPv6 in turns, IPv4 first. A family
    /// that this host cannot use at all fails at once; one that is only said to work, which is IPv6 more often, costs
    /// a connection attempt, but only one before the other family has its turn.
    ///
    /// # Errors
    /// The name has no address, or no server would say.
    pub fn addresses(&self, name: &str, families: Families) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        // A file that cannot be read has nothing to say; the servers may.
        let file = read::whole_file(&self.places.hosts, MOST_BYTES).unwrap_or_default();
        for found in [hosts::addresses(&file, name), hosts::always(name)] {
            if !found.is_empty() {
                return Ok(in_turns(found));
            }
        }
        let records = self.ask(name, &[Kind::A, Kind::Aaaa], families)?;
        let addresses = records.into_iter().filter_map(|record| match record {
            Record::Address(address) => Some(address),
            Record::Service(_) => None,
        });
        Ok(in_turns(addresses.collect()))
    }

    /// The SRV records of a name such as `_etcd-client._tcp.example.com`, at least one, in the server's order.
    ///
    /// # Errors
    /// The name has none, or no server would say.
    pub fn services(&self, name: &str) -> Result<Vec<Service>, Error> {
        let records = self.ask(name, &[Kind::Srv], Families::Both)?;
        let services = records.into_iter().filter_map(|record| match record {
            Record::Service(service) => Some(service),
            Record::Address(_) => None,
        });
        Ok(services.collect())
    }

    /// The records of the first of the names which a written one may stand for that has any.
    fn ask(&self, written: &str, kinds: &[Kind], families: Families) -> Result<Vec<Record>, Error> {
        let failed = |fault| Error { name: written.to_owned(), fault };
        let conf = self.conf();
        let names = conf.names(written).map_err(|bad| failed(Fault::BadName(bad)))?;
        let servers: Vec<SocketAddr> = conf.servers.iter().map(|server| self.address(server)).collect();
        let started = Instant::now();
        let within = if servers.iter().all(|server| self.rests(server)) { LONGEST_IN_SILENCE } else { LONGEST };
        let (mut missing, mut troubled) = (None, None);
        for name in &names {
            let plan = Plan {
                servers: self.in_order(&servers),
                attempts: conf.attempts,
                timeout: conf.timeout,
                end: started + within,
                second_family: (families == Families::Either).then_some(SECOND_FAMILY),
            };
            let mut exchange = Exchange::new(name, kinds, &plan, self.wake.as_deref());
            let outcome = exchange.run();
            self.remember(exchange.silent(), exchange.heard());
            match outcome {
                Ok(records) => return Ok(records),
                Err(Fault::Troubled { name, mut troubles }) => {
                    // Answers, if of no use: another name may have a better one.
                    let answers = |trouble: &Trouble| matches!(trouble, Trouble::Refuses(_) | Trouble::Garbled(_));
                    let goes_on = troubles.iter().any(|(_, trouble)| answers(trouble));
                    // As the file has them, resting or not: the same failure has the same words.
                    troubles.sort_by_key(|(server, _)| servers.iter().position(|other| other == server));
                    troubled.get_or_insert(Fault::Troubled { name, troubles });
                    if !goes_on {
                        break;
                    }
                }
                Err(Fault::Aborted) => return Err(failed(Fault::Aborted)),
                Err(fault) => {
                    // That a name exists says more than that another does not.
                    if missing.is_none() || matches!(fault, Fault::NoRecord { .. }) {
                        missing = Some(fault);
                    }
                }
            }
        }
        // A name that could not be found out about might have been the one.
        let mut fault = troubled.or(missing).expect("there is at least one name, and it had no records");
        if let Fault::NoName { asked, .. } = &mut fault {
            *asked = names;
        }
        Err(failed(fault))
    }

    fn conf(&self) -> ResolvConf {
        // Where there is no such file this host is asked, as everywhere.
        let text = read::whole_file(&self.places.resolv_conf, MOST_BYTES).unwrap_or_default();
        let hostname = read::whole_file(Path::new("/proc/sys/kernel/hostname"), MOST_BYTES).unwrap_or_default();
        ResolvConf::new(&text, String::from_utf8_lossy(&hostname).trim_end())
    }

    fn address(&self, server: &Server) -> SocketAddr {
        match (server.address, &server.scope) {
            // An interface that does not exist is 0: sending says what is wrong with it.
            (IpAddr::V6(address), Some(scope)) => {
                let index = scope.parse().ok().or_else(|| interface(scope)).unwrap_or(0);
                SocketAddrV6::new(address, self.places.port, 0, index).into()
            }
            (address, _) => SocketAddr::new(address, self.places.port),
        }
    }

    /// The servers as the file has them, but those that rest behind the others.
    fn in_order(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let (resting, ready): (Vec<SocketAddr>, Vec<SocketAddr>) =
            servers.iter().partition(|server| self.rests(server));
        [ready, resting].concat()
    }

    fn rests(&self, server: &SocketAddr) -> bool {
        let now = Instant::now();
        self.silent().iter().any(|(silent, until)| silent == server && *until > now)
    }

    fn remember(&self, silent: Vec<SocketAddr>, heard: Vec<SocketAddr>) {
        let until = Instant::now() + REST;
        let mut list = self.silent();
        list.retain(|(server, _)| !silent.contains(server) && !heard.contains(server));
        list.extend(silent.into_iter().map(|server| (server, until)));
        // A file that changes names other servers: those of before are forgotten when they have rested.
        list.retain(|(_, until)| *until > Instant::now());
    }

    fn silent(&self) -> MutexGuard<'_, Vec<(SocketAddr, Instant)>> {
        self.silent.lock().expect("the one thread never panics with it")
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
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    BadName(BadName),
    /// The server says that none of these names exists.
    NoName {
        server: SocketAddr,
        asked: Vec<Name>,
    },
    /// The server says that the name exists, but has nothing of this kind.
    NoRecord {
        server: SocketAddr,
        name: Name,
        kind: Kind,
    },
    /// No server said anything of use.
    Troubled {
        name: Name,
        troubles: Vec<(SocketAddr, Trouble)>,
    },
    /// The loop wants to end.
    Aborted,
}

/// What is wrong with a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    Silent,
    /// The error code of its answer.
    Refuses(u8),
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
            Fault::Troubled { name, troubles } => {
                for (n, (server, trouble)) in troubles.iter().enumerate() {
                    let separator = if n > 0 { "; " } else { "" };
                    write!(f, "{separator}server {server} {trouble}")?;
                }
                write!(f, " (asked for {name})")
            }
            Fault::Aborted => f.write_str("given up because of a signal"),
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
