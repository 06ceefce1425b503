//! One connection to a server or a child, driven by the loop: a TCP or unix socket, optionally with TLS, or a pair of
//! pipes. Connecting, the handshake, sending and receiving are turns that never wait; after each, [`Link::interests`]
//! says what to poll for. Owns the descriptors, the TLS session, the bytes to send, and the reason of the end. Does
//! not own names, deadlines and retries, and does not interpret the bytes.

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

/// The limit of one read from a descriptor, in bytes.
const PIECE: usize = 16 * 1024;

/// The number of reads and writes in one turn. A peer that sends byte by byte, or reads everything at once, must not
/// hold up the loop.
const MOST_CALLS: usize = 64;

/// The limit of the bytes that wait after [`Link::send`], so that a peer that does not read cannot use up the memory.
const LARGEST_QUEUE: usize = 16 << 20;

/// The stage of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// connect(2) is in progress.
    Connecting,
    /// The TLS handshake is in progress.
    Securing,
    /// The connection carries bytes.
    Open,
}

/// The result of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// All bytes that have arrived were returned. Poll before the next call.
    Waiting,
    /// The budget is used up. More bytes may be available, which no descriptor reports: call again after other work.
    More,
    /// The peer will send no more.
    Ended,
}

/// Whether the socket accepts more bytes.
enum Room {
    Left,
    Full,
}

/// A connection.
pub struct Link {
    ends: Arc<Ends>,
    tls: Option<Box<Session>>,
    stage: Stage,
    /// The bytes of [`Link::send`], and how many of them are sent.
    queue: Vec<u8>,
    sent: usize,
    /// The error that broke the connection. It is returned after all bytes that were received before it, because a
    /// server that hangs up has mostly sent the reason. It is kept, because the kernel reports it once and then shows
    /// an orderly end.
    broken: Option<Cause>,
    /// The peer will send no more.
    ended: bool,
}

impl fmt::Debug for Link {
    /// Omits the bytes to send, which contain passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("ends", &self.ends).field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Link {
    /// Begins to connect a socket that notices a dead peer within 25 s: by keepalive when idle, by the user timeout
    /// when sending. With `tls`, the handshake follows automatically.
    ///
    /// # Errors
    /// The socket cannot be created, or the address is unreachable.
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

    /// Connects to a unix socket. This succeeds or fails at once: a full queue of the server is an error.
    ///
    /// # Errors
    /// The server is missing, or the socket cannot be created.
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

    /// Wraps a connected socket.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub fn over(socket: OwnedFd, tls: Option<Session>) -> Result<Link, Cause> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(of_errno)?;
        let stage = if tls.is_some() { Stage::Securing } else { Stage::Open };
        Ok(Link::new(Ends::Socket(socket), tls, stage))
    }

    /// Wraps the pipes of a child: `input` is read, `output` is written.
    ///
    /// # Errors
    /// The pipes cannot be made non-blocking.
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

    /// Sets up TLS on an open plain connection. The handshake follows automatically.
    ///
    /// # Errors
    /// Bytes still wait to be sent without TLS.
    pub fn secure_with(&mut self, session: Session) -> Result<(), Cause> {
        if self.stage != Stage::Open || self.tls.is_some() || self.unsent() > 0 {
            return Err(Cause::Other("TLS cannot be set up: the connection is in use".to_owned()));
        }
        (self.tls, self.stage) = (Some(Box::new(session)), Stage::Securing);
        Ok(())
    }

    /// The pipe with the further output of a child, if the link is a pair of pipes. The pipe that the child reads is
    /// closed.
    pub fn into_input(self) -> Option<OwnedFd> {
        match Arc::into_inner(self.ends)? {
            Ends::Pipes { input, .. } => Some(input),
            Ends::Socket(_) => None,
        }
    }

    /// The descriptors, which can be polled apart from the link. They do not change during its life.
    pub fn ends(&self) -> Arc<Ends> {
        Arc::clone(&self.ends)
    }

    /// The stage of the connection.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Appends the descriptors to poll. An established connection is always polled for reading, because a server may
    /// send bytes or close it at any time.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        let (read, write) = self.wants();
        self.ends.interests(read, write, out);
    }

    /// Whether the link polls for reading, and for writing: to connect, or to send the waiting bytes.
    pub fn wants(&self) -> (bool, bool) {
        match self.stage {
            Stage::Connecting => (false, true),
            Stage::Securing | Stage::Open => (!self.ended, self.broken.is_none() && !self.is_flushed()),
        }
    }

    /// Continues to connect, to shake hands and to send the waiting bytes, as far as possible without waiting.
    ///
    /// # Errors
    /// The connection cannot be made. If an established connection breaks, [`Link::receive`] returns the error after
    /// the received bytes.
    pub fn turn(&mut self) -> Result<(), Cause> {
        if self.stage == Stage::Connecting {
            // A server may accept a connection and reset it before this call.
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

    /// The error of a connection that failed before it carried bytes.
    fn unsecured(&self, cause: Cause) -> Cause {
        match cause {
            Cause::Closed if self.tls.is_some() => {
                Cause::Other("connection closed by the server before TLS was set up: does it speak TLS?".into())
            }
            cause => cause,
        }
    }

    /// Continues the TLS handshake.
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

    /// Queues bytes, and sends as many as the kernel accepts at once.
    ///
    /// # Errors
    /// More than 16 MB wait already: the peer does not read.
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

    /// The number of bytes of [`Link::send`] that are not sent.
    pub fn unsent(&self) -> usize {
        self.queue.len() - self.sent
    }

    /// Whether the kernel has accepted all written bytes.
    pub fn is_flushed(&self) -> bool {
        self.unsent() == 0 && self.tls.as_ref().is_none_or(|session| !session.wants_write())
    }

    /// Sends as many bytes as the kernel accepts at once, and returns their number. Sends nothing before the connection
    /// is open, nor after it broke; see [`Link::receive`]. The caller keeps the rest, and polls for writing.
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
            // rustls buffers 64 KB, which have to be sent before it accepts more.
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
        // If the socket still has room, the next poll reports it at once.
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

    /// Appends the received bytes, about `budget` at most.
    ///
    /// # Errors
    /// The connection broke. The bytes before that were returned.
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

    /// Reads the received bytes into a non-empty buffer. `None`: no bytes are available. `Some(0)`: the peer will send
    /// no more.
    ///
    /// # Errors
    /// The connection broke. The bytes before that were returned.
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
                    // No decrypted bytes are left, so the socket is read. After its end the session reports the end.
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
                    // The session may have records of its own to send.
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
        // The rest is in the kernel, so the next poll reports it.
        Ok(None)
    }

    /// The result of a read after the last byte.
    fn end(&self) -> Result<Option<usize>, Cause> {
        self.broken.clone().map_or(Ok(Some(0)), Err)
    }

    /// Whether the connection is known to have broken or ended.
    pub fn is_over(&self) -> bool {
        self.ended || self.broken.is_some()
    }

    /// Whether the peer keeps the connection open and has sent no unexpected bytes. A TLS server may have sent records
    /// for the session itself (session tickets), so the session has to read them.
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
    /// One socket for both directions.
    Socket(OwnedFd),
    /// One pipe for each direction.
    Pipes {
        /// The pipe to read.
        input: OwnedFd,
        /// The pipe to write.
        output: OwnedFd,
    },
}

impl Ends {
    /// Appends the descriptors to poll.
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
        // No error may also mean that the connection is still in progress. Only the peer's address shows that it is
        // established.
        match net::getpeername(socket) {
            Ok(peer) => Ok(peer.is_some()),
            Err(Errno::NOTCONN) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether neither bytes nor the end have arrived.
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
