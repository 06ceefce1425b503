//! A small HTTP server in the loop: a listening TCP or unix socket, and requests for a few short texts. Bounded in
//! everything: connections, their time, the size of a request. Its caller makes the answers to paths.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, send, shutdown, socket_with, sockopt,
};

use super::wait::Interest;
use crate::config::Listen;
use crate::error::cause;

/// Connections at a time.
const MOST_CONNECTIONS: usize = 16;

/// New connections of one turn.
const MOST_ACCEPTED: usize = 32;

/// The time limit of a connection, from its beginning to the end of the answer.
const LONGEST: Duration = Duration::from_secs(5);

/// The time limit for a client to close the connection after its answer.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A longer head of a request is refused.
const LONGEST_HEAD: usize = 8 * 1024;

/// The number of bytes that are read from a connection in one turn.
const PIECE: usize = 16 * 1024;

/// The pause before the next accept after the system had no descriptor or no memory for a connection.
const PAUSE: Duration = Duration::from_secs(1);

/// The answer to a path.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code and its reason.
    pub status: &'static str,
    /// Of the body.
    pub content_type: &'static str,
    /// The text, which several answers may share.
    pub body: Rc<str>,
}

/// A socket that listens, with its connections. Dropping it closes them and removes the file of a unix socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    file: Option<SocketFile>,
    clients: Vec<Client>,
    paused_until: Option<Instant>,
}

/// The file of a unix socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another program may have replaced it.
    identity: (u64, u64),
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    since: Instant,
    until: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The received part of the head of the request.
    Reading(Vec<u8>),
    Writing {
        head: Vec<u8>,
        body: Rc<str>,
        sent: usize,
    },
    /// The answer is sent. Further bytes of the client are read and dropped: closing with unread bytes would reset the
    /// connection, and the client would lose the answer.
    Draining,
}

/// Whether a connection stays open.
#[derive(PartialEq, Eq)]
enum Next {
    Stay,
    Close,
}

impl Listener {
    /// Listens at an address or a path.
    ///
    /// # Errors
    /// The address is in use, or the system refuses it. The text is the cause.
    pub fn open(place: &Listen) -> Result<Listener, String> {
        let (socket, file) = match place {
            Listen::Tcp(address) => (tcp(*address).map_err(|e| words(&e))?, None),
            Listen::All(port) => match tcp((Ipv6Addr::UNSPECIFIED, *port).into()) {
                // This machine has no IPv6.
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                    (tcp((Ipv4Addr::UNSPECIFIED, *port).into()).map_err(|e| words(&e))?, None)
                }
                opened => (opened.map_err(|e| words(&e))?, None),
            },
            Listen::Unix(path) => {
                let (socket, file) = unix(path)?;
                (socket, Some(file))
            }
        };
        Ok(Listener { socket, file, clients: Vec::new(), paused_until: None })
    }

    /// Appends the descriptors to poll. Called before every poll, because the descriptors change.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        if self.paused_until.is_none() {
            out.push(Interest::read(self.socket.as_fd()));
        }
        out.extend(self.clients.iter().map(|client| match client.state {
            State::Reading(_) | State::Draining => Interest::read(client.socket.as_fd()),
            State::Writing { .. } => Interest::write(client.socket.as_fd()),
        }));
    }

    /// When a turn is due although nothing is ready; `None`: never.
    pub fn due(&self) -> Option<Instant> {
        self.clients.iter().map(|client| client.until).chain(self.paused_until).min()
    }

    /// Accepts, reads and answers as far as possible without waiting. `answer`: returns the answer to a path without
    /// its query; `None`: there is no such path.
    pub fn turn(&mut self, now: Instant, answer: &mut dyn FnMut(&str) -> Option<Answer>) {
        self.clients.retain_mut(|client| client.turn(now, answer) == Next::Stay);
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        if self.paused_until.is_some() {
            return;
        }
        for _ in 0..MOST_ACCEPTED {
            match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => self.add(socket, now, answer),
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.paused_until = Some(now + PAUSE);
                    return;
                }
                // The client has closed the connection already, or its network has failed.
                Err(_) => {}
            }
        }
    }

    /// Adds a connection. If there are too many, the oldest one without a complete request is closed.
    fn add(&mut self, socket: OwnedFd, now: Instant, answer: &mut dyn FnMut(&str) -> Option<Answer>) {
        let state = State::Reading(Vec::new());
        let mut client = Client { socket, since: now, until: now + LONGEST, state };
        // The request has usually arrived already.
        if client.turn(now, answer) == Next::Close {
            return;
        }
        if self.clients.len() == MOST_CONNECTIONS {
            let order = |client: &Client| (matches!(client.state, State::Writing { .. }), client.since);
            let oldest = (0..self.clients.len()).min_by_key(|at| order(&self.clients[*at]));
            oldest.into_iter().for_each(|at| _ = self.clients.remove(at));
        }
        self.clients.push(client);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(SocketFile { path, identity }) = &self.file else { return };
        if identity_of(path).is_ok_and(|now| now == *identity) {
            // If this fails, the next start recognises the socket as stale.
            let _ = fs::remove_file(path);
        }
    }
}

impl Client {
    fn turn(&mut self, now: Instant, answer: &mut dyn FnMut(&str) -> Option<Answer>) -> Next {
        if now >= self.until {
            return Next::Close;
        }
        if let State::Reading(head) = &mut self.state {
            match read(&self.socket, head) {
                Ok(Read::Some) => {}
                Ok(Read::Nothing) => return Next::Stay,
                Ok(Read::End) | Err(_) => return Next::Close,
            }
            let Some((head, body)) = respond(head, answer) else { return Next::Stay };
            self.state = State::Writing { head: head.into_bytes(), body, sent: 0 };
        }
        if let State::Writing { head, body, sent } = &mut self.state {
            while *sent < head.len() + body.len() {
                let rest = match head.get(*sent..) {
                    Some(rest) if !rest.is_empty() => rest,
                    _ => &body.as_bytes()[*sent - head.len()..],
                };
                match send(&self.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                    Ok(n) => *sent += n,
                    Err(Errno::AGAIN) => return Next::Stay,
                    Err(Errno::INTR) => {}
                    Err(_) => return Next::Close,
                }
            }
            if shutdown(&self.socket, Shutdown::Write).is_err() {
                return Next::Close;
            }
            self.state = State::Draining;
            self.until = self.until.min(now + DRAIN_TIMEOUT);
        }
        match read(&self.socket, &mut Vec::new()) {
            Ok(Read::Some | Read::Nothing) => Next::Stay,
            Ok(Read::End) | Err(_) => Next::Close,
        }
    }
}

enum Read {
    Some,
    Nothing,
    End,
}

/// Reads one piece.
fn read(socket: &OwnedFd, into: &mut Vec<u8>) -> Result<Read, Errno> {
    let mut buffer = [0; PIECE];
    match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
        Ok((0, _)) => Ok(Read::End),
        Ok((n, _)) => {
            into.extend_from_slice(&buffer[..n]);
            Ok(Read::Some)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Nothing),
        Err(e) => Err(e),
    }
}

/// The head and the body of the response to a request; `None`: its head is not complete.
fn respond(request: &[u8], answer: &mut dyn FnMut(&str) -> Option<Answer>) -> Option<(String, Rc<str>)> {
    let end = head_end(request);
    if end.unwrap_or(request.len()) > LONGEST_HEAD {
        return Some(refusal("431 Request Header Fields Too Large", ""));
    }
    end?;
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Ok(line) = str::from_utf8(line) else { return Some(refusal("400 Bad Request", "")) };
    let words: Vec<&str> = line.trim_end_matches('\r').split(' ').collect();
    let [method, target, version] = words[..] else { return Some(refusal("400 Bad Request", "")) };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Some(refusal("400 Bad Request", ""));
    }
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Some(refusal("405 Method Not Allowed", "Allow: GET, HEAD\r\n")),
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let Some(Answer { status, content_type, body }) = answer(path) else { return Some(refusal("404 Not Found", "")) };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    Some((head, if with_body { body } else { "".into() }))
}

fn refusal(status: &'static str, fields: &str) -> (String, Rc<str>) {
    let body = format!("{status}\n");
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{fields}\
         Connection: close\r\n\r\n",
        body.len()
    );
    (head, body.into())
}

/// The length of the head, with the empty line at its end.
fn head_end(request: &[u8]) -> Option<usize> {
    let long = request.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4);
    let short = request.windows(2).position(|bytes| bytes == b"\n\n").map(|at| at + 2);
    long.into_iter().chain(short).min()
}

fn tcp(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // Connections of the previous process must not block the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    bind(&socket, &address)?;
    listen(&socket, 128)?;
    Ok(socket)
}

/// Listens at a path. A socket that refuses connections was left by a process that has ended, and is removed.
fn unix(path: &Path) -> Result<(OwnedFd, SocketFile), String> {
    let address = SocketAddrUnix::new(path).map_err(|_| "a path of a socket has at most 107 bytes".to_owned())?;
    let new = || {
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
            .map_err(|e| words(&e))
    };
    let socket = new()?;
    let bind_it = || {
        // Owner and group can read and write from the first moment on.
        let before = rustix::process::umask(Mode::from_raw_mode(0o117));
        let bound = bind(&socket, &address);
        rustix::process::umask(before);
        bound
    };
    let mut bound = bind_it();
    if bound == Err(Errno::ADDRINUSE) {
        let meta = fs::symlink_metadata(path).map_err(|e| cause(&e))?;
        if !meta.file_type().is_socket() {
            return Err("the file there is no socket, and is kept".to_owned());
        }
        match connect(&new()?, &address) {
            Err(Errno::CONNREFUSED) => {}
            Ok(()) | Err(Errno::AGAIN) => return Err("it is in use by another process".to_owned()),
            Err(e) => return Err(words(&e)),
        }
        fs::remove_file(path).map_err(|e| format!("the stale socket cannot be removed: {}", cause(&e)))?;
        bound = bind_it();
    }
    bound.map_err(|e| words(&e))?;
    let identity = identity_of(path).map_err(|e| cause(&e))?;
    listen(&socket, 128).map_err(|e| words(&e))?;
    Ok((socket, SocketFile { path: path.to_owned(), identity }))
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

fn words(errno: &Errno) -> String {
    cause(&io::Error::from(*errno))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::host::files::tests::Folder;
    use crate::host::wait;

    fn answer(path: &str) -> Option<Answer> {
        let body: Rc<str> = match path {
            "/metrics" => "up 1\n".into(),
            "/large" => "x".repeat(8 << 20).into(),
            _ => return None,
        };
        Some(Answer { status: "200 OK", content_type: "text/plain", body })
    }

    fn open() -> (Listener, SocketAddr) {
        let listener = Listener::open(&Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
        let address = rustix::net::getsockname(&listener.socket).unwrap();
        (listener, address.try_into().unwrap())
    }

    /// Takes turns until a condition holds.
    fn turn_until(listener: &mut Listener, mut is_done: impl FnMut(&mut Listener) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_done(listener) {
            assert!(Instant::now() < deadline, "it does not come");
            let mut interests = Vec::new();
            listener.interests(&mut interests);
            wait::ready(&interests, Some(Instant::now() + Duration::from_millis(10)));
            listener.turn(Instant::now(), &mut answer);
        }
    }

    /// The bytes of the response to a request.
    fn ask(listener: &mut Listener, mut client: impl Write + std::io::Read, request: &[u8]) -> String {
        // A refused request may be cut off while it is sent.
        let _ = client.write_all(request);
        let mut all = Vec::new();
        turn_until(listener, |_| {
            let mut piece = vec![0; 1 << 20];
            match client.read(&mut piece) {
                Ok(0) => true,
                Ok(n) => {
                    all.extend_from_slice(&piece[..n]);
                    false
                }
                Err(e) => e.kind() != io::ErrorKind::WouldBlock,
            }
        });
        String::from_utf8(all).unwrap()
    }

    fn client(address: SocketAddr) -> TcpStream {
        let client = TcpStream::connect(address).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    #[test]
    fn requests_are_answered_and_others_are_refused() {
        let (mut listener, address) = open();
        let mut check = |request: &str, want: &str| {
            let got = ask(&mut listener, client(address), request.as_bytes());
            assert!(got.starts_with(want), "{request:?} gives {got:?}");
            got
        };
        let got = check("GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n");
        assert!(got.ends_with("Connection: close\r\n\r\nup 1\n") && got.contains("Content-Length: 5\r\n"), "{got}");
        let got = check("HEAD /metrics HTTP/1.0\n\n", "HTTP/1.1 200 OK\r\n");
        assert!(got.ends_with("\r\n\r\n") && got.contains("Content-Length: 5\r\n"), "{got}");
        assert_eq!(check("GET /large HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n").matches("xx").count(), 4 << 20);
        check("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n");
        assert!(check("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 ").contains("Allow: GET, HEAD\r\n"));
        check("GET /metrics\r\n\r\n", "HTTP/1.1 400 ");
        check("GET metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ");
        check("\r\n\r\n", "HTTP/1.1 400 ");
        check(&format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(3 * LONGEST_HEAD)), "HTTP/1.1 431 ");
    }

    #[test]
    fn slow_clients_are_closed_and_many_take_no_room() {
        let (mut listener, address) = open();
        let mut slow: Vec<TcpStream> = (0..3 * MOST_CONNECTIONS).map(|_| client(address)).collect();
        slow.iter_mut().for_each(|client| client.write_all(b"GET /me").unwrap());
        let got = ask(&mut listener, client(address), b"GET /metrics HTTP/1.1\r\n\r\n");
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
        assert!(listener.clients.len() <= MOST_CONNECTIONS);
        let late = listener.due().unwrap() + LONGEST;
        listener.turn(late, &mut answer);
        assert_eq!((listener.clients.len(), listener.due()), (0, None));
    }

    #[test]
    fn an_address_in_use_is_named() {
        let (_listener, address) = open();
        assert_eq!(Listener::open(&Listen::Tcp(address)).unwrap_err(), "address already in use");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_others_are_kept() {
        let folder = Folder::new();
        let path = folder.path("metrics.sock");
        let place = Listen::Unix(path.clone());
        drop(UnixListener::bind(&path).unwrap());
        let mut listener = Listener::open(&place).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let client = UnixStream::connect(&path).unwrap();
        client.set_nonblocking(true).unwrap();
        assert!(ask(&mut listener, client, b"GET /metrics HTTP/1.1\r\n\r\n").ends_with("up 1\n"));
        assert_eq!(Listener::open(&place).unwrap_err(), "it is in use by another process");
        drop(listener);
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        assert_eq!(Listener::open(&place).unwrap_err(), "the file there is no socket, and is kept");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        // Another program has taken the path in the meantime.
        fs::remove_file(&path).unwrap();
        let listener = Listener::open(&place).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
    }
}
