//! Sends datagrams by UDP to a host, whose name the project's own resolver looks up. Sends as much as the socket
//! takes at once and drops the rest: datagrams may be lost anyway. Does not interpret the content.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::dns::{Found, Lookup, Query, Resolver};
use super::wait::Interest;
use crate::error::cause;

/// After this time the next datagrams cause a new lookup of the name.
const FRESH: Duration = Duration::from_secs(60);

/// The pause after a failed lookup.
const PAUSE: Duration = Duration::from_secs(5);

/// The most bytes that wait for a lookup. More datagrams are dropped.
const MOST_WAITING: usize = 64 * 1024;

/// A receiver of datagrams.
#[derive(Debug)]
pub struct Datagrams {
    host: String,
    port: u16,
    /// Connected, so that the kernel reports a refusal.
    socket: Option<UdpSocket>,
    lookup: Option<Lookup>,
    /// When a name may be looked up again.
    stale: Option<Instant>,
    waiting: Vec<Vec<u8>>,
}

impl Datagrams {
    /// The first datagram causes the first lookup.
    pub fn new(host: &str, port: u16) -> Datagrams {
        let host = host.to_owned();
        Datagrams { host, port, socket: None, lookup: None, stale: None, waiting: Vec::new() }
    }

    /// Appends the descriptors to poll.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        self.lookup.iter().for_each(|lookup| lookup.interests(out));
    }

    /// When a turn is due although nothing is ready; `None`: never.
    pub fn due(&self) -> Option<Instant> {
        self.lookup.as_ref().map(Lookup::due)
    }

    /// Sends datagrams, or keeps them until the host is found.
    ///
    /// # Errors
    /// These datagrams, or earlier ones, were not taken. The text is the cause.
    pub fn send<'a>(
        &mut self,
        datagrams: impl Iterator<Item = &'a [u8]>,
        resolver: &Resolver,
        now: Instant,
    ) -> Result<(), String> {
        if self.stale.is_none_or(|at| at <= now) && self.lookup.is_none() {
            match self.host.parse::<IpAddr>() {
                Ok(address) if self.socket.is_none() => self.connect(address)?,
                Ok(_) => {}
                Err(_) => {
                    self.lookup = Some(resolver.begin(Query::Host(self.host.clone()), now));
                    self.stale = Some(now + FRESH);
                }
            }
        }
        let mut outcome = Ok(());
        for datagram in datagrams {
            match &self.socket {
                Some(socket) => outcome = outcome.and(sent(socket, datagram)),
                None if self.lookup.is_some() && self.has_room_for(datagram) => self.waiting.push(datagram.to_vec()),
                None => {}
            }
        }
        outcome
    }

    /// Continues the lookup.
    ///
    /// # Errors
    /// The host was not found, or does not take the waiting datagrams.
    pub fn turn(&mut self, now: Instant) -> Result<(), String> {
        let Some(lookup) = &mut self.lookup else { return Ok(()) };
        let Some(found) = lookup.turn(now) else { return Ok(()) };
        self.lookup = None;
        let waiting = std::mem::take(&mut self.waiting);
        let address = match found {
            Ok(Found::Addresses(addresses)) => addresses.first().copied(),
            Ok(Found::Services(_)) => None,
            Err(error) => {
                self.stale = Some(now + PAUSE);
                return Err(error.to_string());
            }
        };
        let Some(address) = address else { return Ok(()) };
        self.connect(address)?;
        let Some(socket) = &self.socket else { return Ok(()) };
        let mut outcome = Ok(());
        for datagram in waiting {
            outcome = outcome.and(sent(socket, &datagram));
        }
        outcome
    }

    fn has_room_for(&self, datagram: &[u8]) -> bool {
        self.waiting.iter().map(Vec::len).sum::<usize>() + datagram.len() <= MOST_WAITING
    }

    fn connect(&mut self, address: IpAddr) -> Result<(), String> {
        let open = || {
            let own: SocketAddr = match address {
                IpAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
                IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(own)?;
            socket.set_nonblocking(true)?;
            socket.connect((address, self.port))?;
            Ok(socket)
        };
        self.socket = Some(open().map_err(|e: io::Error| cause(&e))?);
        Ok(())
    }
}

/// Sends one datagram. A full socket drops it.
fn sent(socket: &UdpSocket, datagram: &[u8]) -> Result<(), String> {
    match socket.send(datagram) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        // The kernel reports the refusal of an earlier datagram once. This one was not sent.
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            let again = socket.send(datagram);
            drop(again);
            Err(cause(&e))
        }
        Err(e) => Err(cause(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::wait;

    #[test]
    fn an_address_is_sent_to_at_once_and_a_name_after_its_lookup() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let port = receiver.local_addr().unwrap().port();
        let resolver = Resolver::default();
        let mut buffer = [0; 100];
        for host in ["127.0.0.1", "localhost"] {
            let mut datagrams = Datagrams::new(host, port);
            datagrams.send([&b"a"[..], b"b"].into_iter(), &resolver, Instant::now()).unwrap();
            while let Some(due) = datagrams.due() {
                let mut interests = Vec::new();
                datagrams.interests(&mut interests);
                wait::ready(&interests, Some(due));
                datagrams.turn(Instant::now()).unwrap();
            }
            for want in [b"a", b"b"] {
                let length = receiver.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], want, "{host}");
            }
        }
    }
}
