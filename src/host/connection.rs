//! A connection whose bytes are a protocol's own: made by `dialer`, then used to send and receive in turns that never
//! wait. Owns the time limit for a peer that does not read. The protocol interprets the bytes, and has the time
//! limit of an answer.

use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::cause::Cause;
use super::dialer::{Dial, Dialer, Endpoint};
use super::link::{Link, Received};
use super::wait::Interest;

/// The result of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Poll before the next turn.
    Waiting,
    /// The connection is established. The next turn is due at once.
    Connected,
    /// The turn's budget is used up. The next turn is due at once, after other work.
    More,
    /// The server closed the connection. No turn may follow.
    Ended,
}

/// A connection. Dropping it closes it.
pub struct Connection {
    dialer: Rc<Dialer>,
    endpoint: Endpoint,
    state: State,
    /// Bytes to send when the connection is established.
    early: Vec<u8>,
    /// The time limit for the peer to read a part of the sent bytes.
    send_timeout: Duration,
    /// The deadline for the peer to read a part of the waiting bytes, and their number.
    stuck: Option<(Instant, usize)>,
    /// The next turn is due at once, because more bytes may be available.
    again: Option<Instant>,
}

enum State {
    Dialing(Dial),
    Open(Link),
    Over,
}

impl Connection {
    /// Whether there is no connection yet.
    pub fn is_dialing(&self) -> bool {
        matches!(self.state, State::Dialing(_))
    }

    /// Creates a connection. It starts in its first turn, which is due at once. `send_timeout`: how long the peer may
    /// read nothing of the sent bytes.
    ///
    /// # Errors
    /// The server is unreachable.
    pub fn begin(
        dialer: Rc<Dialer>,
        endpoint: Endpoint,
        send_timeout: Duration,
        now: Instant,
    ) -> Result<Connection, Cause> {
        let state = State::Dialing(dialer.dial(&endpoint, now)?);
        Ok(Connection { dialer, endpoint, state, early: Vec::new(), send_timeout, stuck: None, again: Some(now) })
    }

    /// Wraps an established link. The first turn is due at once.
    pub fn over(
        dialer: Rc<Dialer>,
        endpoint: Endpoint,
        link: Link,
        send_timeout: Duration,
        now: Instant,
    ) -> Connection {
        let state = State::Dialing(Dial::of(link));
        Connection { dialer, endpoint, state, early: Vec::new(), send_timeout, stuck: None, again: Some(now) }
    }

    /// Sends bytes, in order, when the connection is established.
    ///
    /// # Errors
    /// The peer does not read. No turn may follow.
    pub fn send(&mut self, bytes: &[u8], now: Instant) -> Result<(), Cause> {
        match &mut self.state {
            State::Dialing(_) => self.early.extend_from_slice(bytes),
            State::Open(link) => {
                link.send(bytes)?;
                self.look_at_queue(now)?;
            }
            State::Over => {}
        }
        Ok(())
    }

    /// Sets up TLS on an established plain connection.
    ///
    /// # Errors
    /// TLS cannot be set up here. No turn may follow.
    pub fn secure(&mut self, now: Instant) -> Result<(), Cause> {
        match mem::replace(&mut self.state, State::Over) {
            State::Open(link) => {
                self.state = State::Dialing(self.dialer.secure(link, &self.endpoint, now)?);
                self.again = Some(now);
            }
            state @ (State::Dialing(_) | State::Over) => self.state = state,
        }
        Ok(())
    }

    /// The pipe with the further output of a child, if the connection is an established pair of pipes. The pipe that
    /// the child reads is closed.
    pub fn into_input(self) -> Option<OwnedFd> {
        match self.state {
            State::Open(link) => link.into_input(),
            State::Dialing(_) | State::Over => None,
        }
    }

    /// Appends the descriptors to poll. Called before every poll, because the descriptors change.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        match &self.state {
            State::Dialing(dial) => dial.interests(out),
            State::Open(link) => link.interests(out),
            State::Over => {}
        }
    }

    /// How many bytes wait to be sent.
    pub fn unsent(&self) -> usize {
        match &self.state {
            State::Dialing(_) => self.early.len(),
            State::Open(link) => link.unsent(),
            State::Over => 0,
        }
    }

    /// When a turn is due although nothing is ready; `None`: never.
    pub fn due(&self) -> Option<Instant> {
        let step = match &self.state {
            State::Dialing(dial) => dial.due(),
            State::Open(_) | State::Over => None,
        };
        [self.again, step, self.stuck.map(|(until, _)| until)].into_iter().flatten().min()
    }

    /// The missing step, for the error of a caller that gives up.
    pub fn missing(&self) -> &'static str {
        match &self.state {
            State::Dialing(dial) => dial.missing(),
            State::Open(_) | State::Over => "no answer",
        }
    }

    /// Continues as far as possible without waiting. Appends the received bytes to `into`, about `budget` at most.
    ///
    /// # Errors
    /// The connection cannot be made, or it broke. The bytes that were received before are appended. No turn may
    /// follow.
    pub fn turn(&mut self, now: Instant, budget: usize, into: &mut Vec<u8>) -> Result<Progress, Cause> {
        self.again = None;
        let progress = self.advance(now, budget, into);
        match progress {
            Ok(Progress::Connected | Progress::More) => self.again = Some(now),
            Ok(Progress::Waiting) => {}
            Ok(Progress::Ended) | Err(_) => self.state = State::Over,
        }
        progress
    }

    fn advance(&mut self, now: Instant, budget: usize, into: &mut Vec<u8>) -> Result<Progress, Cause> {
        match &mut self.state {
            State::Dialing(dial) => {
                let Some(mut link) = dial.turn(&self.dialer, now)? else { return Ok(Progress::Waiting) };
                let early = mem::take(&mut self.early);
                if !early.is_empty() {
                    link.send(&early)?;
                }
                self.state = State::Open(link);
                self.look_at_queue(now)?;
                Ok(Progress::Connected)
            }
            State::Open(link) => {
                link.turn()?;
                let received = link.receive(into, budget.max(1))?;
                self.look_at_queue(now)?;
                Ok(match received {
                    Received::Waiting => Progress::Waiting,
                    Received::More => Progress::More,
                    Received::Ended => Progress::Ended,
                })
            }
            State::Over => Err(Cause::Other("the connection is over".to_owned())),
        }
    }

    /// Checks that the peer reads the sent bytes.
    fn look_at_queue(&mut self, now: Instant) -> Result<(), Cause> {
        let State::Open(link) = &self.state else { return Ok(()) };
        let waiting = link.unsent();
        self.stuck = match self.stuck {
            _ if waiting == 0 => None,
            // Bytes may have been added meanwhile, so only a shrinking queue shows that the peer reads.
            Some((until, before)) if waiting >= before => Some((until, waiting)),
            Some(_) | None => Some((now + self.send_timeout, waiting)),
        };
        match self.stuck {
            Some((until, _)) if until <= now => {
                Err(Cause::Late { missed: "what was sent not taken", limit: self.send_timeout })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config;
    use crate::host::dialer::Limits;
    use crate::host::dns::Resolver;
    use crate::host::wait;

    const SEND_TIMEOUT: Duration = Duration::from_secs(3);

    /// A connection to a listener of the test's own, and the server's end of it.
    struct Bench {
        connection: Connection,
        received: Vec<u8>,
        listener: TcpListener,
    }

    impl Bench {
        fn new() -> Bench {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let limits = Limits { dial: SEND_TIMEOUT, secure: SEND_TIMEOUT };
            let dialer = Rc::new(Dialer::new(Resolver::default(), limits, config::Tls::default()));
            let port = listener.local_addr().unwrap().port();
            let endpoint = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port, tls: false };
            let connection = Connection::begin(dialer, endpoint, SEND_TIMEOUT, Instant::now()).unwrap();
            Bench { connection, received: Vec::new(), listener }
        }

        /// Takes turns until the result is not `Wait`.
        fn turn(&mut self) -> Result<Progress, Cause> {
            let deadline = Instant::now() + Duration::from_secs(20);
            loop {
                match self.connection.turn(Instant::now(), 1 << 16, &mut self.received) {
                    Ok(Progress::Waiting) => assert!(Instant::now() < deadline, "nothing comes"),
                    progress => return progress,
                }
                let mut interests = Vec::new();
                self.connection.interests(&mut interests);
                wait::ready(&interests, Some(deadline));
            }
        }

        fn connected(&mut self) -> TcpStream {
            assert_eq!(self.turn(), Ok(Progress::Connected));
            self.listener.accept().unwrap().0
        }
    }

    #[test]
    fn bytes_go_both_ways_until_the_server_closes() {
        let mut bench = Bench::new();
        bench.connection.send(b"early ", Instant::now()).unwrap();
        let mut server = bench.connected();
        bench.connection.send(b"late", Instant::now()).unwrap();
        let mut got = [0; 10];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"early late");
        server.write_all(b"answer").unwrap();
        drop(server);
        assert_eq!((bench.turn(), &bench.received[..]), (Ok(Progress::Ended), &b"answer"[..]));
        assert!(bench.turn().is_err() && bench.connection.due().is_none());
    }

    #[test]
    fn a_peer_that_takes_nothing_is_given_up() {
        let mut bench = Bench::new();
        let _server = bench.connected();
        let now = Instant::now();
        // More than the kernel buffers for a peer that does not read.
        bench.connection.send(&vec![0; 12 << 20], now).unwrap();
        let due = bench.connection.due().unwrap();
        // When the queue no longer shrinks, the buffers of the kernel are full.
        let late = due + SEND_TIMEOUT * 100;
        let mut outcome = bench.connection.turn(late, 1, &mut Vec::new());
        for n in 1..100 {
            match outcome {
                Err(_) => break,
                Ok(_) => outcome = bench.connection.turn(late + SEND_TIMEOUT * n * 2, 1, &mut Vec::new()),
            }
        }
        assert_eq!(outcome, Err(Cause::Late { missed: "what was sent not taken", limit: SEND_TIMEOUT }));
    }

    #[test]
    fn tls_begins_where_nothing_waits() {
        let mut bench = Bench::new();
        let _server = bench.connected();
        bench.connection.send(&vec![0; 12 << 20], Instant::now()).unwrap();
        let refused = bench.connection.secure(Instant::now());
        assert!(refused.is_err(), "what waits would go out in the clear or be lost");
    }
}
