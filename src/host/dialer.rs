//! Makes connections: looks up the name of a server, tries its addresses one after the other, and sets up TLS, in
//! turns that never wait. Owns the time limits of these steps and the last addresses of each name. Does not interpret
//! the bytes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{mem, vec};

use super::cause::Cause;
use super::dns::{self, Fault, Found, Lookup, Query, Resolver};
use super::link::{Link, Stage};
use super::tls::Tls;
use super::wait::Interest;
use crate::config;

/// The least time for one of several addresses, if the limit allows it (as in Go's `net.Dialer`).
const LEAST_SHARE: Duration = Duration::from_secs(2);

/// The number of addresses of one name that are tried.
const MOST_ADDRESSES: usize = 16;

/// The destination of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP port of a host.
    Tcp {
        /// A name or an address, the latter without brackets.
        host: String,
        /// The number of the port.
        port: u16,
        /// Whether TLS is set up before anything else is sent.
        tls: bool,
    },
    /// A unix socket, without TLS.
    Unix(PathBuf),
    /// The pipes of a child.
    Pipes,
}

impl Endpoint {
    /// Parses a node: `SCHEME://[USER@]HOST:PORT[/PATH]`, or `unix:PATH`. `None`: it is neither.
    pub fn of(node: &str, tls: bool) -> Option<Endpoint> {
        if let Some(path) = node.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return (!path.is_empty()).then(|| Endpoint::Unix(path.into()));
        }
        let (_, rest) = node.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let (host, port) = authority.rsplit('@').next()?.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (!host.is_empty()).then_some(())?;
        Some(Endpoint::Tcp { host: host.to_owned(), port: port.parse().ok()?, tls })
    }

    /// Whether TLS is set up at once.
    pub fn has_tls(&self) -> bool {
        matches!(self, Endpoint::Tcp { tls: true, .. })
    }
}

/// The time limits for the steps of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The limit for connecting, over all addresses of a name.
    pub dial: Duration,
    /// The limit for setting up TLS.
    pub secure: Duration,
}

/// Makes connections, and remembers the addresses of names.
pub struct Dialer {
    tls: Tls,
    resolver: Resolver,
    limits: Limits,
    /// The last addresses of each name. They are used while the DNS fails, until a server says that the name is gone,
    /// so that a failing DNS does not cut off a working server. Connections share the dialer and change the addresses;
    /// a borrow ends with its statement.
    addresses: RefCell<HashMap<String, Vec<IpAddr>>>,
    /// Whether TLS has failed by other causes than time. Connections share the dialer and set this.
    tls_failed: Cell<bool>,
}

impl Dialer {
    /// `tls` has the files for TLS. They are read when a connection needs them.
    pub fn new(resolver: Resolver, limits: Limits, tls: config::Tls) -> Dialer {
        Dialer { tls: Tls::new(tls), resolver, limits, addresses: RefCell::default(), tls_failed: Cell::new(false) }
    }

    /// Whether TLS with a server has ever failed by other causes than time, so that the server was reached.
    pub fn has_failed_at_tls(&self) -> bool {
        self.tls_failed.get()
    }

    /// Begins to connect. Pipes and unix sockets need no lookup.
    ///
    /// # Errors
    /// The server is unreachable.
    pub fn dial(&self, endpoint: &Endpoint, now: Instant) -> Result<Dial, Cause> {
        let (host, port, tls) = match endpoint {
            Endpoint::Unix(path) => return Ok(Dial::of(Link::unix(path)?)),
            Endpoint::Pipes => return Err(Cause::Other("pipes are no address".to_owned())),
            Endpoint::Tcp { host, port, tls } => (host, *port, *tls),
        };
        let mut dial = Dial { host: host.clone(), port, tls, step: Step::Over };
        match host.parse() {
            Ok(address) => self.dial_all(&mut dial, vec![address], now)?,
            Err(_) => dial.step = Step::Resolving(self.resolver.begin(Query::Host(host.clone()), now)),
        }
        Ok(dial)
    }

    /// Sets up TLS on an established plain connection.
    ///
    /// # Errors
    /// The files are unusable, the name is not valid for TLS, or bytes still wait to be sent without TLS.
    pub fn secure(&self, mut link: Link, endpoint: &Endpoint, now: Instant) -> Result<Dial, Cause> {
        let Endpoint::Tcp { host, port, .. } = endpoint else {
            return Err(Cause::Other("only a connection to a port has TLS".to_owned()));
        };
        link.secure_with(self.tls.secure(host)?)?;
        let connecting = Connecting { link, rest: Vec::new().into_iter(), until: now + self.limits.secure, end: now };
        Ok(Dial { host: host.clone(), port: *port, tls: true, step: Step::Connecting(connecting) })
    }

    /// The addresses that a lookup has found, or the last known ones if no server answered.
    fn addresses(&self, host: &str, found: Result<Found, dns::Error>) -> Result<Vec<IpAddr>, Cause> {
        let mut known = self.addresses.borrow_mut();
        match found {
            Ok(Found::Addresses(found)) => {
                known.insert(host.to_owned(), found.clone());
                Ok(found)
            }
            Ok(Found::Services(_)) => Ok(Vec::new()),
            Err(error) => match known.get(host) {
                Some(known) if matches!(error.fault, Fault::Troubled { .. }) => Ok(known.clone()),
                _ => Err(Cause::Other(error.to_string())),
            },
        }
    }

    fn dial_all(&self, dial: &mut Dial, addresses: Vec<IpAddr>, now: Instant) -> Result<(), Cause> {
        let addresses: Vec<SocketAddr> =
            addresses.into_iter().take(MOST_ADDRESSES).map(|one| SocketAddr::new(one, dial.port)).collect();
        let end = now + self.limits.dial;
        let none = Cause::Other("host name has no address".to_owned());
        self.dial_next(dial, addresses.into_iter(), end, none, now)
    }

    /// Begins to connect to the next usable address.
    fn dial_next(
        &self,
        dial: &mut Dial,
        mut rest: vec::IntoIter<SocketAddr>,
        end: Instant,
        mut failure: Cause,
        now: Instant,
    ) -> Result<(), Cause> {
        let left = end.saturating_duration_since(now);
        while let Some(address) = rest.next() {
            // Each address gets its share of the remaining time, so that a dead one does not use up the time of the
            // next.
            let share = left / u32::try_from(rest.len() + 1).unwrap_or(u32::MAX);
            let until = now + share.max(LEAST_SHARE).min(left);
            let session = match dial.tls {
                // Unusable TLS files do not mean that the network is down.
                true => Some(self.tls.secure(&dial.host).inspect_err(|_| self.tls_failed.set(true))?),
                false => None,
            };
            match Link::tcp(address, session) {
                Ok(link) => {
                    dial.step = Step::Connecting(Connecting { link, rest, until, end });
                    return Ok(());
                }
                Err(cause) => failure = cause,
            }
        }
        Err(failure)
    }
}

/// A connection that is being made.
#[derive(Debug, Default)]
pub struct Dial {
    host: String,
    port: u16,
    tls: bool,
    step: Step,
}

#[derive(Debug, Default)]
enum Step {
    Resolving(Lookup),
    /// Connecting, then setting TLS up.
    Connecting(Connecting),
    Done(Link),
    #[default]
    Over,
}

#[derive(Debug)]
struct Connecting {
    link: Link,
    /// The remaining addresses.
    rest: vec::IntoIter<SocketAddr>,
    /// The deadline for this address, or for TLS.
    until: Instant,
    /// The deadline for the last address.
    end: Instant,
}

impl Dial {
    /// A connection that is already established.
    pub fn of(link: Link) -> Dial {
        Dial { step: Step::Done(link), ..Dial::default() }
    }

    /// Appends the descriptors to poll. Called before every poll, because the descriptors change.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        match &self.step {
            Step::Resolving(lookup) => lookup.interests(out),
            Step::Connecting(connecting) => connecting.link.interests(out),
            Step::Done(_) | Step::Over => {}
        }
    }

    /// When a turn is due although nothing is ready; `None`: at once.
    pub fn due(&self) -> Option<Instant> {
        match &self.step {
            Step::Resolving(lookup) => Some(lookup.due()),
            Step::Connecting(connecting) => Some(connecting.until),
            Step::Done(_) | Step::Over => None,
        }
    }

    /// The missing step, for the error of a caller that gives up.
    pub fn missing(&self) -> &'static str {
        match &self.step {
            Step::Resolving(_) => "address of the host not found",
            Step::Connecting(connecting) if connecting.link.stage() == Stage::Securing => "TLS not set up",
            Step::Connecting(_) | Step::Done(_) | Step::Over => "no connection",
        }
    }

    /// Continues as far as possible without waiting. Returns the link when it is open. No turn may follow then.
    ///
    /// # Errors
    /// The connection cannot be made within its time limit. No turn may follow.
    pub fn turn(&mut self, dialer: &Dialer, now: Instant) -> Result<Option<Link>, Cause> {
        if let Step::Resolving(lookup) = &mut self.step {
            let Some(found) = lookup.turn(now) else { return Ok(None) };
            let found = dialer.addresses(&self.host, found)?;
            dialer.dial_all(self, found, now)?;
        }
        while let Step::Connecting(connecting) = &mut self.step {
            let was = connecting.link.stage();
            let outcome = connecting.link.turn();
            let failure = match (outcome, connecting.link.stage()) {
                (Ok(()), Stage::Open) => break,
                (Ok(()), Stage::Securing) => {
                    if was == Stage::Connecting {
                        connecting.until = now + dialer.limits.secure;
                    }
                    // The work comes before the deadline: an answer that has arrived counts even if the loop is late.
                    return match now < connecting.until {
                        true => Ok(None),
                        false => Err(Cause::Late { missed: "TLS not set up", limit: dialer.limits.secure }),
                    };
                }
                (Ok(()), Stage::Connecting) if now < connecting.until => return Ok(None),
                (Ok(()), Stage::Connecting) => Cause::Late { missed: "no connection", limit: dialer.limits.dial },
                // If TLS fails, it would fail on every address of the node.
                (Err(cause), Stage::Securing | Stage::Open) => {
                    dialer.tls_failed.set(true);
                    return Err(cause);
                }
                (Err(cause), Stage::Connecting) => cause,
            };
            let (rest, end) = (mem::take(&mut connecting.rest), connecting.end);
            dialer.dial_next(self, rest, end, failure, now)?;
        }
        match mem::take(&mut self.step) {
            Step::Connecting(Connecting { link, .. }) | Step::Done(link) => Ok(Some(link)),
            step @ (Step::Resolving(_) | Step::Over) => {
                self.step = step;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_endpoints() {
        let tcp = |host: &str, port| Some(Endpoint::Tcp { host: host.to_owned(), port, tls: false });
        let check = |node: &str, want: Option<Endpoint>| assert_eq!(Endpoint::of(node, false), want, "{node}");
        check("redis://h:6379", tcp("h", 6379));
        check("nats://me:p@ss@h:4222/x", tcp("h", 4222));
        check("zookeeper://[::1]:2181/a/b", tcp("::1", 2181));
        check("unix:/run/s.sock", Some(Endpoint::Unix("/run/s.sock".into())));
        check("unix:///run/s.sock", Some(Endpoint::Unix("/run/s.sock".into())));
        for node in ["", "h:1", "x://h", "x://:1", "x://h:", "x://h:65536", "unix:", "x://"] {
            check(node, None);
        }
        assert!(Endpoint::of("rediss://h:1", true).is_some_and(|endpoint| endpoint.has_tls()));
    }
}
