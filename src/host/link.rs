//! One connection to a server or a child, driven by the loop: a TCP or unix socket with TLS inside where that is wanted,
//! or a pair of pipes. Connecting, the handshake, sending and receiving are turns that never wait; after each,
//! [`Link::interests`] says what to poll for. Owns the descriptors, the session, what waits to be sent, and how the
//! connection ended. Does not own names, deadlines, retries, nor what the bytes mean.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, mem};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::cause::Cause;
use super::signals;
use super::tls::Session;
use super::wait::Interest;

/// What one read takes from a descriptor at most.
const PIECE: usize = 16 * 1024;

/// Reads and writes of one turn. A peer that sends byte by byte, or takes everything at once, does not hold the loop.
const MOST_CALLS: usize = 64;

/// What may wait to be sent by [`Link::send`]: a peer that reads nothing does not use up the memory.
const LARGEST_QUEUE: usize = 16 << 20;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// connect(2) is under way.
    Connecting,
    /// The connection is there; TLS shakes hands.
    Securing,
    /// It carries bytes.
    Open,
}

/// What came of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Everything that has come was given: poll.
    Waiting,
    /// The budget is used up. There may be more at hand, which makes no descriptor readable: come again after others.
    More,
    /// The peer will send no more.
    Ended,
}

/// Whether the socket takes more.
enum Room {
    Left,
    Full,
}

/// A connection.
pub struct Link {
    ends: Arc<Ends>,
    tls: Option<Box<Session>>,
    stage: Stage,
    /// What [`Link::send`] was given, and how much of it has gone out.
    queue: Vec<u8>,
    sent: usize,
    /// The connection broke. Told only when all that was received before has been given: a server that hangs up has mostly
    /// said why. Kept, because the kernel tells it once and then shows an orderly end.
    broken: Option<Cause>,
    /// The peer will send no more.
    ended: bool,
}

impl fmt::Debug for Link {
    /// Without what is sent: that holds passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("ends", &self.ends).field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Link {
    /// Begins to connect a socket that notices a dead peer within 25 s: by keepalive when idle, by the user timeout when
    /// sending. With `tls`, the handshake follows by itself.
    ///
    /// # Errors
    /// There is no socket, or no way to the address.
    pub fn tcp(address: SocketAddr, tls: Option<Session>) -> Result<Link, Cause> {
        Link::dial_tcp(address).map(|socket| Link::new(Ends::Socket(socket), tls, Stage::Connecting)).map_err(of_errno)
    }

    fn dial_tcp(address: SocketAddr) -> Result<OwnedFd, Errno> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, Duration::from_secs(10))?;
        sockopt::set_tcp_keepintvl(&socket, Duration::from_secs(5))?;
        sockopt::set_tcp_keepcnt(&socket, 3)?;
        sockopt::set_tcp_user_timeout(&socket, 25_000)?;
        match net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(e) => Err(e),
        }
    }

    /// Connects to a unix socket. That happens at once or not at all: a server whose queue is full is an error.
    ///
    /// # Errors
    /// There is no server, or no socket.
    pub fn unix(path: &Path) -> Result<Link, Cause> {
        let dial = || {
            let address = SocketAddrUnix::new(path)?;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            net::connect(&socket, &address)?;
            Ok(socket)
        };
        dial().map(|socket| Link::new(Ends::Socket(socket), None, Stage::Open)).map_err(of_errno)
    }

    /// Over a connected socket that stands already.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub fn over(socket: OwnedFd, tls: Option<Session>) -> Result<Link, Cause> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(of_errno)?;
        let stage = if tls.is_some() { Stage::Securing } else { Stage::Open };
        Ok(Link::new(Ends::Socket(socket), tls, stage))
    }

    /// Over the pipes of a child: `input` is read, `output` is written.
    ///
    /// # Errors
    /// They cannot be made non-blocking.
    pub fn pipes(input: OwnedFd, output: OwnedFd) -> Result<Link, Cause> {
        for end in [&input, &output] {
            rustix::io::ioctl_fionbio(end, true).map_err(of_errno)?;
        }
        Ok(Link::new(Ends::Pipes { input, output }, None, Stage::Open))
    }

    fn new(ends: Ends, tls: Option<Session>, stage: Stage) -> Link {
        Link {
            ends: Arc::new(ends),
            tls: tls.map(Box::new),
            stage,
            queue: Vec::new(),
            sent: 0,
            broken: None,
            ended: false,
        }
    }

    /// Puts TLS on a connection that is open without it. The handshake follows by itself.
    ///
    /// # Errors
    /// Something waits to be sent without TLS.
    pub fn secure_with(&mut self, session: Session) -> Result<(), Cause> {
        if self.stage != Stage::Open || self.tls.is_some() || self.unsent() > 0 {
            return Err(Cause::Other("TLS cannot be set up: the connection is in use".to_owned()));
        }
        (self.tls, self.stage) = (Some(Box::new(session)), Stage::Securing);
        Ok(())
    }

    /// What a child still writes, where the link is a pair of pipes. The pipe that it reads is closed.
    pub fn into_input(self) -> Option<OwnedFd> {
        match Arc::into_inner(self.ends)? {
            Ends::Pipes { input, .. } => Some(input),
            Ends::Socket(_) => None,
        }
    }

    /// The descriptors, to be polled apart from the link. They stay the same for as long as it lives.
    pub fn ends(&self) -> Arc<Ends> {
        Arc::clone(&self.ends)
    }

    /// How far the connection is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Appends what to poll for. Reading is always wanted once there is a connection: a server may say something, or end
    /// it, at any time.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        let (read, write) = self.wants();
        self.ends.interests(read, write, out);
    }

    /// Whether it waits for reading, and for writing: to connect, or for what it was given to send.
    pub fn wants(&self) -> (bool, bool) {
        match self.stage {
            Stage::Connecting => (false, true),
            Stage::Securing | Stage::Open => (!self.ended, self.broken.is_none() && !self.is_flushed()),
        }
    }

    /// Goes on with connecting, with the handshake and with sending what waits, as far as that goes without waiting.
    ///
    /// # Errors
    /// The connection cannot be made. One that was made and breaks says so in [`Link::receive`], after what came before.
    pub fn turn(&mut self) -> Result<(), Cause> {
        if self.stage == Stage::Connecting {
            // A server may have reset a connection that it had taken before this is looked at.
            if !self.ends.is_connected().map_err(|error| self.unsecured(of_errno(error)))? {
                return Ok(());
            }
            self.stage = if self.tls.is_some() { Stage::Securing } else { Stage::Open };
        }
        if self.stage == Stage::Securing {
            self.secure()?;
        }
        if self.stage == Stage::Open {
            let queue = mem::take(&mut self.queue);
            self.sent += self.write(&queue[self.sent..]);
            if self.sent < queue.len() && self.broken.is_none() {
                self.queue = queue;
            } else {
                self.sent = 0;
            }
        }
        Ok(())
    }

    /// Why a connection was of no use before it carried bytes.
    fn unsecured(&self, cause: Cause) -> Cause {
        match cause {
            Cause::Closed if self.tls.is_some() => {
                Cause::Other("connection closed by the server before TLS was set up: does it speak TLS?".into())
            }
            cause => cause,
        }
    }

    /// Shakes hands.
    fn secure(&mut self) -> Result<(), Cause> {
        for _ in 0..MOST_CALLS {
            let Some(session) = &mut self.tls else { break };
            if !session.is_handshaking() {
                break;
            }
            if session.wants_write() {
                match self.flush().map_err(|e| self.unsecured(Cause::of_io(&e)))? {
                    Room::Left => continue,
                    Room::Full => return Ok(()),
                }
            }
            match self.fill() {
                Ok(0) => return Err(self.unsecured(Cause::Closed)),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(self.unsecured(Cause::of_io(&e))),
            }
        }
        if self.tls.as_ref().is_none_or(|session| !session.is_handshaking()) {
            self.stage = Stage::Open;
        }
        Ok(())
    }

    /// Queues bytes, and sends what goes out at once.
    ///
    /// # Errors
    /// More than 16 MB wait already: the peer does not take what it is sent.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let waiting = self.unsent();
        if waiting + bytes.len() > LARGEST_QUEUE {
            return Err(Cause::Other(format!("what is sent is not taken: {waiting} bytes wait")));
        }
        self.queue.drain(..mem::take(&mut self.sent));
        self.queue.extend_from_slice(bytes);
        match self.stage {
            Stage::Open => self.turn(),
            Stage::Connecting | Stage::Securing => Ok(()),
        }
    }

    /// How many bytes of [`Link::send`] have not gone out.
    pub fn unsent(&self) -> usize {
        self.queue.len() - self.sent
    }

    /// Whether everything that was written is with the kernel.
    pub fn is_flushed(&self) -> bool {
        self.unsent() == 0 && self.tls.as_ref().is_none_or(|session| !session.wants_write())
    }

    /// Sends as much as goes out at once, and tells how much of it was taken. Nothing before the connection is open, nor
    /// once it is broken; see [`Link::receive`]. What is not taken is the caller's to keep, and to poll for.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.stage != Stage::Open || self.broken.is_some() {
            return 0;
        }
        let mut taken = 0;
        let outcome = self.write_some(bytes, &mut taken);
        if let Err(error) = outcome {
            self.broken = Some(Cause::of_io(&error));
        }
        taken
    }

    fn write_some(&mut self, bytes: &[u8], taken: &mut usize) -> io::Result<()> {
        for _ in 0..MOST_CALLS {
            // rustls takes 64 KB, then wants to be rid of them.
            if self.tls.as_ref().is_some_and(|session| session.wants_write()) {
                match self.flush()? {
                    Room::Left => continue,
                    Room::Full => return Ok(()),
                }
            }
            let rest = &bytes[*taken..];
            if rest.is_empty() {
                return Ok(());
            }
            let written = match &mut self.tls {
                Some(session) => session.write(rest),
                None => self.ends.write(rest),
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => *taken += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        // There may be room left: the poll says so at once.
        Ok(())
    }

    /// Sends records of TLS until none is left or the socket is full.
    fn flush(&mut self) -> io::Result<Room> {
        let Some(session) = &mut self.tls else { return Ok(Room::Left) };
        while session.wants_write() {
            match session.flush(&mut &*self.ends) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Room::Full),
                Err(e) => return Err(e),
            }
        }
        Ok(Room::Left)
    }

    /// Receives records of TLS; 0: the connection ended.
    fn fill(&mut self) -> io::Result<usize> {
        let Some(session) = &mut self.tls else { return Ok(0) };
        loop {
            match session.fill(&mut &*self.ends, &mut &*self.ends) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                filled => return filled,
            }
        }
    }

    /// Appends what has come, about `budget` bytes of it at most.
    ///
    /// # Errors
    /// The connection broke. What came before has been given.
    pub fn receive(&mut self, into: &mut Vec<u8>, budget: usize) -> Result<Received, Cause> {
        let begin = into.len();
        for _ in 0..MOST_CALLS {
            let have = into.len();
            let left = budget - (have - begin).min(budget);
            if left == 0 {
                break;
            }
            into.resize(have + left.min(PIECE), 0);
            let read = self.read(&mut into[have..]);
            let n = read.as_ref().ok().copied().flatten().unwrap_or(0);
            into.truncate(have + n);
            match read? {
                None => return Ok(Received::Waiting),
                Some(0) => return Ok(Received::Ended),
                Some(_) => {}
            }
        }
        Ok(Received::More)
    }

    /// Reads what has come, into a buffer that is not empty. `None`: nothing is there. `Some(0)`: the peer will send no
    /// more.
    ///
    /// # Errors
    /// The connection broke. What came before has been given.
    pub fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Cause> {
        if self.stage != Stage::Open {
            return Ok(None);
        }
        if self.ended {
            return self.end();
        }
        for _ in 0..MOST_CALLS {
            let read = match &mut self.tls {
                None => self.ends.read(into),
                Some(session) => match session.read(into) {
                    // Nothing is decrypted: look at the socket. After the socket's end the session says so.
                    Err(e) if e.kind() == ErrorKind::WouldBlock => match self.fill() {
                        Ok(_) => continue,
                        Err(e) => Err(e),
                    },
                    read => read,
                },
            };
            match read {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    // A session may have something of its own to say.
                    if self.tls.as_ref().is_some_and(|session| session.wants_write()) {
                        self.write(&[]);
                    }
                    return Ok(None);
                }
                Err(e) => {
                    self.broken.get_or_insert(Cause::of_io(&e));
                    self.ended = true;
                    return self.end();
                }
                Ok(0) => {
                    self.ended = true;
                    return self.end();
                }
                Ok(n) => return Ok(Some(n)),
            }
        }
        // What is left is with the kernel, so that the poll says so.
        Ok(None)
    }

    /// What reading gives when nothing more will come.
    fn end(&self) -> Result<Option<usize>, Cause> {
        self.broken.clone().map_or(Ok(Some(0)), Err)
    }

    /// Whether the connection broke or the peer will send no more, as far as is known.
    pub fn is_over(&self) -> bool {
        self.ended || self.broken.is_some()
    }

    /// Looks whether the peer still has it open and has sent nothing that was not asked for. A TLS server may have sent
    /// what is TLS's own business (session tickets), so the session has to look at it.
    pub fn is_idle(&mut self) -> bool {
        if self.stage != Stage::Open || self.is_over() || !self.is_flushed() {
            return false;
        }
        match &mut self.tls {
            None => self.ends.is_silent(),
            Some(session) => session.is_idle() && matches!(self.read(&mut [0]), Ok(None)) && !self.is_over(),
        }
    }
}

/// The descriptors of a link.
#[derive(Debug)]
pub enum Ends {
    /// For both directions.
    Socket(OwnedFd),
    /// One for each direction.
    Pipes {
        /// Read from.
        input: OwnedFd,
        /// Written to.
        output: OwnedFd,
    },
}

impl Ends {
    /// Appends them as they are to be polled.
    pub fn interests<'a>(&'a self, read: bool, write: bool, out: &mut Vec<Interest<'a>>) {
        match self {
            Ends::Socket(socket) => out.push(Interest { fd: socket.as_fd(), read, write }),
            Ends::Pipes { input, output } => {
                if read {
                    out.push(Interest::read(input.as_fd()));
                }
                if write {
                    out.push(Interest::write(output.as_fd()));
                }
            }
        }
    }

    fn is_connected(&self) -> Result<bool, Errno> {
        let Ends::Socket(socket) = self else { return Ok(true) };
        sockopt::socket_error(socket)??;
        // No error may also mean: not yet. Only the peer's address says that it has come about.
        match net::getpeername(socket) {
            Ok(peer) => Ok(peer.is_some()),
            Err(Errno::NOTCONN) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether there is nothing to read, nor an end.
    fn is_silent(&self) -> bool {
        match self {
            Ends::Socket(socket) => matches!(net::recv(socket, &mut [0; 1], RecvFlags::PEEK), Err(Errno::WOULDBLOCK)),
            Ends::Pipes { .. } => true,
        }
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Ends::Socket(socket) => net::recv(socket, into, RecvFlags::empty()).map(|(n, _)| n),
            Ends::Pipes { input, .. } => rustix::io::read(input, into),
        };
        Ok(read?)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Ends::Socket(socket) => Ok(net::send(socket, bytes, SendFlags::NOSIGNAL)?),
            Ends::Pipes { output, .. } => {
                let written = rustix::io::write(output, bytes);
                if written == Err(Errno::PIPE) {
                    signals::broke_a_pipe();
                }
                Ok(written?)
            }
        }
    }
}

impl Read for &Ends {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ends::read(self, into)
    }
}

impl Write for &Ends {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ends::write(self, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn of_errno(error: Errno) -> Cause {
    Cause::of_io(&error.into())
}

#[cfg(test)]
mod tests;
