//! HTTP requests over poll(2): the only door of ureq. A request waits for its answer, but serves the loop's [`Wake`]
//! meanwhile; a [`Stream`] never waits: it gives the lines that have arrived.
//! Knows nothing of etcd. No proxies, no redirects, no retries and no threads; TLS is in `host::tls`.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use ureq::config::Config;
use ureq::http::uri::{InvalidUri, InvalidUriParts};
use ureq::http::{HeaderMap, Request, Response, Uri};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq::{Agent, Body, BodyReader, Timeout};

use super::dns::{self, Families, Fault};
pub use super::link::Cause;
use super::tls::{self, Tls};
use super::wait::Wake;
use crate::config;
use crate::error::cause;

/// The longest line of a stream and the longest body of an answer, unless told otherwise.
pub const MAX_RESPONSE: usize = 256 << 20;

/// What a connection has of its own, beside what ureq has: in and out.
const BUFFER: usize = 16 * 1024;

/// How long a connection is kept for the next request. A silent watch is asked about every half minute.
const KEPT_CONNECTION: Duration = Duration::from_secs(90);

/// A line buffer larger than this is given back after its line.
const KEPT_LINE: usize = 64 * 1024;

/// How long one request waits for a connection unless told otherwise. It holds the loop meanwhile.
const CONNECT: Duration = Duration::from_secs(1);

/// Errors tell how long a connection was waited for in steps of this, so that they are the same every time.
const STEP: Duration = Duration::from_millis(50);

/// How long each step of a request may take. A request holds the loop, so they are short.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection to an address to come about, over all requests that wait for it.
    pub dial: Duration,
    /// What one request waits for a connection, over all addresses of a name. What is not there yet goes on behind its
    /// back, and the next request waits for the same.
    pub connect: Duration,
    /// To send the request, with the handshake of TLS; then for the head of its answer; then for every piece of the body.
    pub answer: Duration,
    /// For all of a request but a stream, with the body of its answer.
    pub whole: Duration,
    /// Bytes of a body, or of one line of a stream.
    pub size: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            dial: Duration::from_secs(5),
            connect: CONNECT,
            answer: Duration::from_secs(3),
            whole: Duration::from_secs(10),
            size: MAX_RESPONSE,
        }
    }
}

impl Limits {
    /// For one request to be connected.
    fn connect(&self) -> Duration {
        self.dial.min(self.connect)
    }
}

/// Makes requests to any number of servers.
#[derive(Debug)]
pub struct Client {
    requests: Agent,
    streams: Agent,
    connections: Arc<Connections>,
    wake: Arc<dyn Wake>,
    limits: Limits,
}

impl Client {
    /// `tls`: the files for https. They are read when a connection needs them.
    pub fn new(wake: Arc<dyn Wake>, limits: Limits, tls: config::Tls) -> Client {
        let tls = Arc::new(Tls::new(tls));
        let connections = Arc::<Connections>::default();
        let names = Names::new(dns::Resolver::new(Some(wake.clone())));
        let agent = |whole| {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .proxy(None)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(concat!("remco/", env!("CARGO_PKG_VERSION")))
                .input_buffer_size(BUFFER)
                .output_buffer_size(BUFFER)
                // One less than fits: ureq could not tell a head that is too long from one that is cut.
                .max_response_header_size(BUFFER - 1)
                .max_idle_connections(3)
                .max_idle_connections_per_host(1)
                .max_idle_age(KEPT_CONNECTION)
                .timeout_connect(Some(limits.connect()))
                .timeout_send_request(Some(limits.answer))
                .timeout_send_body(Some(limits.answer))
                .timeout_recv_response(Some(limits.answer))
                .timeout_per_read(Some(limits.answer))
                .timeout_global(whole)
                .build();
            let (wake, connections, tls) = (wake.clone(), connections.clone(), tls.clone());
            Agent::with_parts(config, Sockets { wake, connections, limits, tls }, names.clone())
        };
        // A limit on the whole would end a stream after that time.
        Client { requests: agent(Some(limits.whole)), streams: agent(None), connections, wake, limits }
    }

    /// Gets and waits for the head of the answer. The body is read by who asked.
    pub fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, Error> {
        Ok(Answer::new(self.send(&self.requests, url, headers, None)?, self.limits))
    }

    /// The same with a body to send.
    pub fn post(&self, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, Error> {
        Ok(Answer::new(self.send(&self.requests, url, headers, Some(body))?, self.limits))
    }

    /// Gets, or posts where there is a body to send, and waits for the head of an answer that goes on for as long as
    /// both sides like. An answer with a status other than 200 is an ordinary one.
    pub fn stream(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Result<Stream, Answer>, Error> {
        let response = self.send(&self.streams, url, headers, body)?;
        if response.status() != 200 {
            return Ok(Err(Answer::new(response, self.limits)));
        }
        let (head, content) = response.into_parts();
        let Some(socket) = self.connections.sent.lock().expect("the one thread never panics with it").upgrade() else {
            // The body is empty, and ureq has dropped its connection already.
            return Err(self.error(method(body), url, Cause::Closed));
        };
        Ok(Ok(Stream {
            headers: head.headers,
            socket,
            connections: self.connections.clone(),
            body: BufReader::new(content.into_reader()),
            line: Vec::new(),
            handed_out: false,
            ended: None,
            limits: self.limits,
        }))
    }

    /// Whether the loop wants to end, so that a request failed for no fault of the server's.
    pub fn aborted(&self) -> bool {
        self.wake.woken()
    }

    fn send(
        &self,
        agent: &Agent,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Response<Body>, Error> {
        self.connections.sweep();
        let mut request = Request::builder().method(method(body)).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answered = match body {
            Some(body) => request.body(body).map(|request| agent.run(request)),
            None => request.body(()).map(|request| agent.run(request)),
        };
        let answered = answered.unwrap_or_else(|e| Err(e.into()));
        answered.map_err(|e| self.error(method(body), url, Cause::of(e, &self.limits)))
    }

    fn error(&self, method: &'static str, url: &str, cause: Cause) -> Error {
        Error { method, url: without_credentials(url), cause }
    }
}

fn method(body: Option<&[u8]>) -> &'static str {
    if body.is_some() { "POST" } else { "GET" }
}

/// The value of a header; `None` where there is none, or no text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A URL as logs and errors show it: without `user:password@`.
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let mut end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A password with a slash in it makes its beginning look like a port. Better to hide too much.
    let host = rest[..end].rsplit('@').next().unwrap_or_default();
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    if !port.is_empty() && !port.ends_with(']') && port.parse::<u16>().is_err() {
        end = rest.len();
    }
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// The head of an answer, and its body as a reader. The errors of reading it hold a [`Cause`].
pub struct Answer {
    pub status: u16,
    headers: HeaderMap,
    body: BodyReader<'static>,
    left: usize,
    /// The end of its time. ureq knows none for an answer that might have been a stream.
    until: Instant,
    limits: Limits,
}

impl Answer {
    fn new(response: Response<Body>, limits: Limits) -> Answer {
        let (head, body) = response.into_parts();
        let body = body.into_reader();
        let until = Instant::now() + limits.whole;
        Answer { status: head.status.as_u16(), headers: head.headers, body, left: limits.size, until, limits }
    }

    /// The value of a header, if it has one.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// The body's beginning as text, for errors. What cannot be read is left out: the status is the error.
    pub fn beginning(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        // Nothing is lost: an error of reading leaves what came before it in `text`.
        let _ = self.take(4096).read_to_end(&mut text);
        text
    }
}

impl Read for Answer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(io::Error::other(Cause::of(ureq::Error::Timeout(Timeout::Global), &self.limits)));
        }
        let n = self.body.read(buf).map_err(|e| io::Error::other(Cause::of(e.into(), &self.limits)))?;
        let too_long = || io::Error::other(Cause::TooLong { bytes: self.limits.size });
        self.left = self.left.checked_sub(n).ok_or_else(too_long)?;
        Ok(n)
    }
}

/// An answer that comes line by line, in its own time. Poll it for reading, then take lines until [`Line::NothingYet`]:
/// what has been received already makes no descriptor readable.
pub struct Stream {
    headers: HeaderMap,
    socket: Arc<TcpStream>,
    connections: Arc<Connections>,
    body: BufReader<BodyReader<'static>>,
    /// The line so far: it keeps what came of it while the rest is not there.
    line: Vec<u8>,
    /// The line was given to the caller and goes with the next call.
    handed_out: bool,
    ended: Option<Cause>,
    limits: Limits,
}

/// What a stream has to give.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole line without its newline. The last one before the end may have had none.
    Whole(&'a [u8]),
    /// Everything that came was given.
    NothingYet,
    /// Nothing will come any more.
    Ended(Cause),
}

impl Stream {
    /// The value of a header, if it has one.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    pub fn next_line(&mut self) -> Line<'_> {
        if std::mem::take(&mut self.handed_out) {
            self.line.clear();
            self.line.shrink_to(KEPT_LINE);
        }
        loop {
            if let Some(cause) = &self.ended {
                return Line::Ended(cause.clone());
            }
            self.connections.streaming.store(true, Ordering::Relaxed);
            let piece = self.body.fill_buf();
            self.connections.streaming.store(false, Ordering::Relaxed);
            let piece = match piece {
                Ok(piece) => piece,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Line::NothingYet,
                Err(e) => {
                    self.ended = Some(Cause::of(e.into(), &self.limits));
                    continue;
                }
            };
            let end = piece.iter().position(|b| *b == b'\n');
            let length = end.unwrap_or(piece.len());
            if self.line.len() + length > self.limits.size {
                self.line = Vec::new();
                self.ended = Some(Cause::TooLong { bytes: self.limits.size });
                continue;
            }
            if piece.is_empty() {
                self.ended = Some(Cause::Ended);
            }
            self.line.extend_from_slice(&piece[..length]);
            self.body.consume(length + usize::from(end.is_some()));
            if end.is_some() || (self.ended.is_some() && !self.line.is_empty()) {
                self.handed_out = true;
                return Line::Whole(&self.line);
            }
        }
    }
}

impl Stream {
    /// What is polled for it, to be kept apart from it. It is of no use once the stream is dropped.
    pub fn socket(&self) -> Socket {
        Socket(Arc::clone(&self.socket))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The descriptor of a stream.
pub struct Socket(Arc<TcpStream>);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A request that brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub method: &'static str,
    /// Without credentials.
    pub url: String,
    pub cause: Cause,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {} {}: {}", self.method, self.url, self.cause)
    }
}

impl std::error::Error for Error {}

impl Cause {
    /// Of an error of reading an [`Answer`].
    pub fn of_reading(error: &io::Error) -> Option<&Cause> {
        error.get_ref()?.downcast_ref()
    }

    fn of(error: ureq::Error, limits: &Limits) -> Cause {
        let late = |missed, limit| Cause::Late { missed, limit };
        match error {
            ureq::Error::Io(e) => match e.get_ref().and_then(|e| e.downcast_ref::<Cause>()) {
                Some(cause) => cause.clone(),
                None if e.kind() == ErrorKind::UnexpectedEof => Cause::Closed,
                None => Cause::Other(cause(&e)),
            },
            ureq::Error::Timeout(step) => match step {
                Timeout::Connect => late("no connection", limits.connect()),
                Timeout::SendRequest | Timeout::SendBody => late("request not taken", limits.answer),
                Timeout::PerRead => late("rest of the answer not received", limits.answer),
                Timeout::Global => late("whole answer not received", limits.whole),
                _ => late("no answer", limits.answer),
            },
            ureq::Error::HostNotFound => Cause::Other("host name has no address".into()),
            // Most often the alert of a server that speaks TLS; its bytes are not given.
            ureq::Error::Protocol(e) if e.to_string().ends_with("invalid HTTP version") => {
                Cause::Other("not an HTTP answer: is it a https:// URL?".into())
            }
            ureq::Error::Protocol(e) => Cause::Other(format!("not an HTTP answer: {e}")),
            ureq::Error::LargeResponseHeader(..) => Cause::Other("head of the answer is too long".into()),
            ureq::Error::BadUri(_) => Cause::Other("not a valid URL".into()),
            ureq::Error::Http(e) if e.is::<InvalidUri>() || e.is::<InvalidUriParts>() => {
                Cause::Other("not a valid URL".into())
            }
            ureq::Error::Http(e) => Cause::Other(format!("not a valid request: {e}")),
            other => Cause::Other(other.to_string()),
        }
    }
}

/// What is known of the connections of a client.
#[derive(Debug, Default)]
struct Connections {
    /// A stream is being read: reading gives `WouldBlock` at once. ureq hands it on and goes on where it was at the
    /// next call. It is no matter of the connection: when the answer has ended, the connection is kept as any other.
    streaming: AtomicBool,
    /// The one that sent last: where a stream finds its own. Weak, so that it closes when ureq drops it.
    sent: Mutex<Weak<TcpStream>>,
    /// Those that were begun and have not come about.
    dialing: Mutex<HashMap<SocketAddr, Dialing>>,
}

impl Connections {
    /// Drops what was begun too long ago. Also where nobody asks for a new connection.
    fn sweep(&self) {
        let now = Instant::now();
        self.dialing.lock().expect("the one thread never panics with it").retain(|_, dialing| dialing.until > now);
    }
}

/// Opens non-blocking sockets.
#[derive(Debug)]
struct Sockets {
    wake: Arc<dyn Wake>,
    connections: Arc<Connections>,
    limits: Limits,
    tls: Arc<Tls>,
}

/// A connection that comes about behind the loop's back.
#[derive(Debug)]
struct Dialing {
    socket: OwnedFd,
    until: Instant,
}

impl Connector<()> for Sockets {
    type Out = Polled;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Polled>, ureq::Error> {
        let secure = match details.needs_tls() {
            true => {
                let session = self.tls.secure(details.uri.host().unwrap_or_default());
                Some(Box::new(session.map_err(failed)?))
            }
            false => None,
        };
        let end = deadline(details.timeout);
        let mut failure = ureq::Error::HostNotFound;
        for (tried, address) in details.addrs.iter().enumerate() {
            // Each address gets its share of what is left: a dead one does not use up the time of the next.
            let now = Instant::now();
            let share = |end: Instant| now + end.saturating_duration_since(now) / (details.addrs.len() - tried) as u32;
            match self.open(*address, end.map(share)) {
                Ok(socket) => {
                    let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
                    let buffers = LazyBuffers::new(input, output);
                    let (socket, connections) = (Arc::new(socket), self.connections.clone());
                    let (wake, limits) = (self.wake.clone(), self.limits);
                    return Ok(Some(Polled { socket, connections, wake, limits, secure, buffers }));
                }
                Err(e) => failure = e,
            }
            if self.wake.woken() {
                break;
            }
        }
        Err(failure)
    }
}

impl Sockets {
    /// Connects a socket, or goes on with what an earlier request has begun. What takes longer is left for the next one.
    fn open(&self, address: SocketAddr, until: Option<Instant>) -> Result<TcpStream, ureq::Error> {
        self.connections.sweep();
        let mut all = self.connections.dialing.lock().expect("the one thread never panics with it");
        let now = Instant::now();
        let dialing = match all.remove(&address) {
            Some(begun) => begun,
            None => Dialing { socket: dial(address).map_err(system)?, until: now + self.limits.dial },
        };
        let end = until.map_or(dialing.until, |until| until.min(dialing.until));
        match wait(dialing.socket.as_fd(), PollFlags::OUT, &*self.wake, Some(end), Timeout::Connect) {
            Ok(()) => {
                sockopt::socket_error(&dialing.socket).map_err(system)?.map_err(system)?;
                Ok(TcpStream::from(dialing.socket))
            }
            Err(ureq::Error::Timeout(_)) => {
                all.insert(address, dialing);
                let limit = until.map_or(self.limits.dial, |until| until.saturating_duration_since(now));
                Err(failed(Cause::Late { missed: "no connection", limit: in_steps(limit) }))
            }
            Err(e) => Err(e),
        }
    }
}

/// Begins to connect a socket that notices a dead peer within 25 s: by keepalive when idle, by the user timeout when
/// sending.
fn dial(address: SocketAddr) -> Result<OwnedFd, Errno> {
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

/// Rounded up.
fn in_steps(duration: Duration) -> Duration {
    STEP * u32::try_from(duration.as_millis().div_ceil(STEP.as_millis())).unwrap_or(u32::MAX)
}

fn system(error: Errno) -> ureq::Error {
    ureq::Error::Io(error.into())
}

/// A connection with ureq's buffers.
struct Polled {
    socket: Arc<TcpStream>,
    connections: Arc<Connections>,
    wake: Arc<dyn Wake>,
    limits: Limits,
    /// For https.
    secure: Option<Box<tls::Session>>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Polled {
    /// Without the buffers: they hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polled").field("socket", &self.socket).field("secure", &self.secure).finish_non_exhaustive()
    }
}

impl Transport for Polled {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        *self.connections.sent.lock().expect("the one thread never panics with it") = Arc::downgrade(&self.socket);
        let on = Waiting::new(&self.socket, &self.connections, &*self.wake, timeout.for_write());
        let mut rest = &self.buffers.output()[..amount];
        if let Some(session) = &mut self.secure {
            return send_tls(session, rest, &on).map_err(|error| match error {
                ureq::Error::Timeout(_) if session.is_handshaking() => {
                    failed(Cause::Late { missed: "TLS not set up", limit: self.limits.answer })
                }
                error => error,
            });
        }
        while !rest.is_empty() {
            match on.socket().write(rest) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => on.writable()?,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let on = Waiting::new(&self.socket, &self.connections, &*self.wake, timeout.for_read());
        // Here too and not only while waiting: a large answer may come faster than it is read.
        on.check()?;
        let into = self.buffers.input_append_buf();
        let read = match &mut self.secure {
            Some(session) => receive_tls(session, into, &on)?,
            None => loop {
                match on.socket().read(into) {
                    Ok(n) => break n,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => on.readable()?,
                    Err(e) => return Err(broken(e)),
                }
            },
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        matches!(self.socket.peek(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock)
            && self.secure.as_mut().is_none_or(|session| session.is_idle())
    }

    fn is_tls(&self) -> bool {
        self.secure.is_some()
    }
}

/// A socket, and how long it may be waited for.
struct Waiting<'a> {
    socket: &'a TcpStream,
    /// It is not waited for at all.
    streaming: bool,
    wake: &'a dyn Wake,
    until: Option<Instant>,
    step: Timeout,
}

impl<'a> Waiting<'a> {
    fn new(socket: &'a TcpStream, of: &Connections, wake: &'a dyn Wake, timeout: NextTimeout) -> Waiting<'a> {
        let streaming = of.streaming.load(Ordering::Relaxed);
        Waiting { socket, streaming, wake, until: deadline(timeout), step: timeout.reason }
    }

    /// Never blocks.
    fn socket(&self) -> &'a TcpStream {
        self.socket
    }

    /// What [`wait`] would say, for who has much to do and never waits.
    fn check(&self) -> Result<(), ureq::Error> {
        if self.streaming {
            return Ok(());
        }
        if self.wake.woken() {
            return Err(aborted());
        }
        match self.until.is_some_and(|end| end <= Instant::now()) {
            true => Err(ureq::Error::Timeout(self.step)),
            false => Ok(()),
        }
    }

    fn readable(&self) -> Result<(), ureq::Error> {
        self.ready(PollFlags::IN)
    }

    fn writable(&self) -> Result<(), ureq::Error> {
        self.ready(PollFlags::OUT)
    }

    /// Waits; a stream does not, its reader comes again.
    fn ready(&self, ready: PollFlags) -> Result<(), ureq::Error> {
        match self.streaming {
            true => Err(io::Error::from(ErrorKind::WouldBlock).into()),
            false => wait(self.socket.as_fd(), ready, self.wake, self.until, self.step),
        }
    }
}

/// Sends all of it, and shakes hands first where that has not been done.
fn send_tls(session: &mut tls::Session, plain: &[u8], on: &Waiting) -> Result<(), ureq::Error> {
    let mut rest = plain;
    loop {
        // It takes only so much before it is sent.
        let taken = session.write(rest)?;
        rest = &rest[taken..];
        while session.wants_write() || session.is_handshaking() {
            on.check()?;
            match session.wants_write() {
                true => write_tls(session, on)?,
                false => read_tls(session, on)?,
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Some of what was sent to us; 0: the server will send no more. What has been received already comes first.
fn receive_tls(session: &mut tls::Session, into: &mut [u8], on: &Waiting) -> Result<usize, ureq::Error> {
    loop {
        match session.read(into) {
            Ok(n) => return Ok(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(broken(e)),
        }
        on.check()?;
        while session.wants_write() {
            match write_tls(session, on) {
                // What it has to say by itself can wait for the next call; a stream does not.
                Err(ureq::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => break,
                written => written?,
            }
        }
        read_tls(session, on)?;
    }
}

fn read_tls(session: &mut tls::Session, on: &Waiting) -> Result<(), ureq::Error> {
    match session.fill(&mut on.socket(), &mut on.socket()) {
        Ok(0) if session.is_handshaking() => {
            let words = "connection closed by the server before TLS was set up: does it speak TLS?";
            Err(failed(Cause::Other(words.to_owned())))
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
        Err(e) if e.kind() == ErrorKind::WouldBlock => on.readable(),
        Err(e) => Err(broken(e)),
    }
}

fn write_tls(session: &mut tls::Session, on: &Waiting) -> Result<(), ureq::Error> {
    match session.flush(&mut on.socket()) {
        Ok(0) => Err(io::Error::from(ErrorKind::WriteZero).into()),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
        Err(e) if e.kind() == ErrorKind::WouldBlock => on.writable(),
        Err(e) => {
            // A server that hangs up has mostly said why.
            loop {
                match session.fill(&mut on.socket(), &mut on.socket()) {
                    Ok(n) if n > 0 => {}
                    Err(said) if said.kind() == ErrorKind::Other => return Err(said.into()),
                    _ => return Err(e.into()),
                }
            }
        }
    }
}

fn deadline(timeout: NextTimeout) -> Option<Instant> {
    (!timeout.after.is_not_happening()).then(|| Instant::now() + *timeout.after)
}

/// Waits until a socket is ready, serving the loop meanwhile.
fn wait(
    socket: BorrowedFd,
    ready: PollFlags,
    wake: &dyn Wake,
    until: Option<Instant>,
    step: Timeout,
) -> Result<(), ureq::Error> {
    loop {
        if wake.woken() {
            return Err(aborted());
        }
        let left = until.map(|end| end.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(ureq::Error::Timeout(step));
        }
        let left = left.map(|left| Timespec::try_from(left).expect("limits are seconds"));
        let mut fds = [PollFd::from_borrowed_fd(socket, ready), PollFd::from_borrowed_fd(wake.fd(), PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(_) if !fds[0].revents().is_empty() => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(system(e)),
        }
    }
}

fn aborted() -> ureq::Error {
    failed(Cause::Aborted)
}

/// Of kind Other: `Interrupted` is tried again inside std, and ureq takes the kinds of a cut for the end of a body.
fn failed(cause: Cause) -> ureq::Error {
    ureq::Error::Io(io::Error::other(cause))
}

/// A connection that is cut is no end of a body that ends with its connection.
fn broken(error: io::Error) -> ureq::Error {
    use ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        ConnectionReset | ConnectionAborted | UnexpectedEof => failed(Cause::Closed),
        _ => error.into(),
    }
}

/// The addresses of servers. ureq's own resolver starts a thread where a limit is set.
#[derive(Clone, Debug)]
struct Names(Arc<Known>);

#[derive(Debug)]
struct Known {
    resolver: dns::Resolver,
    /// What each name had last. ureq asks before every request, also where it has a connection: as long as nobody
    /// says that the name is gone, a DNS that fails does not cut off a server that works.
    last: Mutex<HashMap<String, Vec<IpAddr>>>,
}

impl Names {
    fn new(resolver: dns::Resolver) -> Names {
        Names(Arc::new(Known { resolver, last: Mutex::default() }))
    }

    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Cause> {
        let mut last = self.0.last.lock().expect("the one thread never panics with it");
        match self.0.resolver.addresses(host, Families::Either) {
            Ok(found) => {
                last.insert(host.to_owned(), found.clone());
                Ok(found)
            }
            Err(error) => match (error.fault, last.get(host)) {
                (Fault::Aborted, _) => Err(Cause::Aborted),
                (Fault::Troubled { .. }, Some(known)) => Ok(known.clone()),
                (fault, _) => Err(Cause::Other(dns::Error { name: error.name, fault }.to_string())),
            },
        }
    }
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, config: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let bad = || ureq::Error::BadUri(uri.to_string());
        let (scheme, authority) = (uri.scheme().ok_or_else(bad)?, uri.authority().ok_or_else(bad)?);
        let name = DefaultResolver::host_and_port(scheme, authority).ok_or_else(bad)?;
        let (host, port) = name.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let found = self.addresses(host).map_err(failed)?;
        let addresses = found.into_iter().map(|address| SocketAddr::new(address, port));
        let mut wanted = self.empty();
        // More would make it panic.
        for address in config.ip_family().keep_wanted(addresses).take(16) {
            wanted.push(address);
        }
        if wanted.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(wanted) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// A loop that has nothing to do until the other end of its pipe is written to; then it wants to end.
    #[derive(Debug)]
    struct Bell(UnixStream);

    impl Bell {
        fn new() -> (Arc<Bell>, UnixStream) {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            (Arc::new(Bell(ours)), theirs)
        }
    }

    impl Wake for Bell {
        fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        fn woken(&self) -> bool {
            // Nothing is taken from the pipe, so that it stays true.
            rustix::net::recv(&self.0, &mut [0], rustix::net::RecvFlags::PEEK).is_ok()
        }
    }

    fn client(limits: Limits) -> (Client, UnixStream) {
        let (bell, ringer) = Bell::new();
        (Client::new(bell, limits, config::Tls::default()), ringer)
    }

    /// Starts a server for one connection. Gives its URL.
    fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (connection, _) = listener.accept().unwrap();
            connection.set_nodelay(true).unwrap();
            serve(connection);
        });
        url
    }

    /// Takes one request, of which the body ends with `!`.
    fn take_request(connection: &TcpStream) -> String {
        let mut request = Vec::new();
        let mut byte = [0];
        while (&*connection).read(&mut byte).unwrap() == 1 {
            request.push(byte[0]);
            if byte[0] == b'!' {
                break;
            }
        }
        String::from_utf8(request).unwrap()
    }

    fn answer(text: impl Into<String>) -> String {
        let text = text.into();
        server(move |mut connection| {
            take_request(&connection);
            connection.write_all(text.as_bytes()).unwrap();
        })
    }

    fn read(mut answer: Answer) -> Result<String, String> {
        let mut text = String::new();
        answer.read_to_string(&mut text).map(|_| text).map_err(|e| e.to_string())
    }

    /// The next line or end, waited for.
    fn next(stream: &mut Stream) -> Result<String, Cause> {
        loop {
            match stream.next_line() {
                Line::Whole(line) => return Ok(String::from_utf8(line.to_vec()).unwrap()),
                Line::Ended(cause) => return Err(cause),
                Line::NothingYet => await_readable(stream),
            }
        }
    }

    fn await_readable(stream: &Stream) {
        let ten_seconds = Timespec { tv_sec: 10, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&ten_seconds)).unwrap();
        assert_eq!(ready, 1, "nothing came");
    }

    fn open(client: &Client, url: &str) -> Stream {
        client.stream(url, &[], Some(b"!")).unwrap().ok().expect("status 200")
    }

    #[test]
    fn posts_and_reads_the_answer() {
        let (sent, request) = mpsc::channel();
        let url = server(move |mut connection| {
            sent.send(take_request(&connection)).unwrap();
            let torn = format!("{HEAD}3\r\none\r\n1;x=y\r\n \r\n3\r\ntwo\r\n0\r\nTrailer: t\r\n\r\n");
            torn.bytes().for_each(|byte| connection.write_all(&[byte]).unwrap());
        });
        let (client, _ringer) = client(Limits::default());
        let answer = client.post(&url, &[("X-Y", "z")], b"ping!").unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(read(answer).unwrap(), "one two");
        let request = request.recv().unwrap();
        assert!(request.starts_with("POST /x HTTP/1.1\r\n"), "{request}");
        assert!(request.to_ascii_lowercase().contains("x-y: z\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\nping!"), "{request}");
    }

    #[test]
    fn answers_of_any_status_are_answers() {
        let (client, _ringer) = client(Limits::default());
        for status in [204, 307, 400, 404, 503] {
            let text = format!("HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(client.post(&answer(&text), &[], b"!").unwrap().status, status);
            assert_eq!(client.stream(&answer(text), &[], Some(b"!")).unwrap().err().expect("an answer").status, status);
        }
    }

    #[test]
    fn a_connection_serves_one_request_after_the_other() {
        let url = server(|mut connection| {
            for body in ["1", "2", "3"] {
                take_request(&connection);
                connection.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{body}").as_bytes()).unwrap();
            }
        });
        let (client, _ringer) = client(Limits::default());
        for body in ["1", "2", "3"] {
            assert_eq!(read(client.post(&url, &[], b"!").unwrap()).unwrap(), body);
        }
    }

    #[test]
    fn a_connection_serves_one_long_poll_after_the_other() {
        let (go, gone) = mpsc::channel::<()>();
        let url = server(move |mut connection| {
            for n in ["1", "2", "3"] {
                let mut request = BufReader::new(&connection).lines().map(Result::unwrap);
                assert_eq!(request.next().unwrap(), "GET /x HTTP/1.1");
                assert!(request.any(|line| line.is_empty()), "the head ends");
                connection.write_all(HEAD.replace("\r\n\r\n", &format!("\r\nX-N: {n}\r\n\r\n")).as_bytes()).unwrap();
                gone.recv().unwrap();
                connection.write_all(format!("2\r\n{n}\n\r\n0\r\n\r\n").as_bytes()).unwrap();
            }
        });
        let (client, _ringer) = client(Limits::default());
        for n in ["1", "2", "3"] {
            let mut stream = client.stream(&url, &[], None).unwrap().ok().expect("status 200");
            assert_eq!((stream.header("x-n"), stream.header("X-M")), (Some(n), None));
            assert_eq!(stream.next_line(), Line::NothingYet);
            go.send(()).unwrap();
            assert_eq!(next(&mut stream).unwrap(), n);
            assert_eq!(next(&mut stream), Err(Cause::Ended));
        }
    }

    #[test]
    fn gets_what_is_at_a_url() {
        let url = server(|mut connection| {
            let mut request = BufReader::new(&connection).lines().map(Result::unwrap);
            assert_eq!(request.next().unwrap(), "GET /x HTTP/1.1");
            let head: Vec<String> = request.take_while(|line| !line.is_empty()).collect();
            assert!(!head.iter().any(|line| line.to_ascii_lowercase().starts_with("content-length")), "{head:?}");
            connection.write_all(b"HTTP/1.1 200 OK\r\nX-Y: z\r\nContent-Length: 2\r\n\r\nok").unwrap();
        });
        let (client, _ringer) = client(Limits::default());
        let answer = client.get(&url, &[]).unwrap();
        assert_eq!(answer.header("x-y"), Some("z"));
        assert_eq!(read(answer).unwrap(), "ok");
        let error = client.get("http://[", &[]).err().expect("no URL");
        assert_eq!(error.to_string(), "failed to GET http://[: not a valid URL");
    }

    #[test]
    fn errors_name_the_url_and_the_cause() {
        let limits = Limits { answer: Duration::from_millis(50), ..Limits::default() };
        let (client, _ringer) = client(limits);
        let check = |url: &str, cause: &str| {
            let (Err(error), Err(streamed)) = (client.post(url, &[], b"!"), client.stream(url, &[], Some(b"!"))) else {
                panic!("{url} answered");
            };
            assert_eq!(error.to_string(), format!("failed to POST {}: {cause}", without_credentials(url)));
            assert_eq!(streamed, error);
        };
        let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        check(&format!("http://{unused}/x"), "connection refused");
        check(&format!("http://me:secret@{unused}/x"), "connection refused");
        check("http://[", "not a valid URL");
        // Two connections: the second one is the stream's.
        let twice = |text: &'static str| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/x", listener.local_addr().unwrap());
            thread::spawn(move || {
                let mut kept = Vec::new();
                for _ in 0..2 {
                    let (mut connection, _) = listener.accept().unwrap();
                    take_request(&connection);
                    connection.write_all(text.as_bytes()).unwrap();
                    if text.is_empty() {
                        kept.push(connection);
                    }
                }
                // A hung server: it closes when the client has gone.
                kept.iter().for_each(|connection| drop(take_request(connection)));
            });
            url
        };
        check(&twice(""), "no answer within 50ms");
        check(&twice("HTTP/1.1 200"), "connection closed by the server");
        check(&twice("nonsense\r\n\r\n"), "not an HTTP answer: is it a https:// URL?");
    }

    #[test]
    fn an_answer_that_is_cut_is_an_error() {
        let (client, _ringer) = client(Limits { size: 10, ..Limits::default() });
        let check = |text: String, want: Result<&str, &str>| {
            let got = read(client.post(&answer(text), &[], b"!").unwrap());
            assert_eq!(got.as_deref().map_err(|e| &**e), want);
        };
        check(format!("{HEAD}5\r\nwhole\r\n0\r\n\r\n"), Ok("whole"));
        check(format!("{HEAD}5\r\nwhole\r\n"), Err("connection closed by the server"));
        check(format!("{HEAD}5\r\nwh"), Err("connection closed by the server"));
        check(format!("{HEAD}x\r\nwhole\r\n"), Err("not an HTTP answer: chunk length cannot be read as a number"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".into(), Err("connection closed by the server"));
        check(format!("{HEAD}a\r\n0123456789\r\n0\r\n\r\n"), Ok("0123456789"));
        check(format!("{HEAD}b\r\n01234567890\r\n0\r\n\r\n"), Err("answer is longer than 10 bytes"));
    }

    #[test]
    fn a_body_that_stops_is_late() {
        let (done, finished) = mpsc::channel::<()>();
        let url = server(move |mut connection| {
            take_request(&connection);
            connection.write_all(format!("{HEAD}5\r\nwh").as_bytes()).unwrap();
            // Ends when the test does.
            finished.recv().unwrap_err();
        });
        let (client, _ringer) = client(Limits { answer: Duration::from_millis(50), ..Limits::default() });
        let error = read(client.post(&url, &[], b"!").unwrap()).unwrap_err();
        assert_eq!(error, "rest of the answer not received within 50ms");
        drop(done);
    }

    #[test]
    fn a_stream_gives_whole_lines_however_they_come() {
        let lines: Vec<String> = (0..50).map(|n| "x".repeat(n * n % 47)).collect();
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        for piece in [1, 2, 3, 7, 1000] {
            let body = body.clone();
            let url = server(move |mut connection| {
                take_request(&connection);
                let chunks = body
                    .as_bytes()
                    .chunks(13)
                    .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8(chunk.to_vec()).unwrap()));
                let whole = format!("{HEAD}{}0\r\n\r\n", chunks.collect::<String>());
                whole.as_bytes().chunks(piece).for_each(|piece| connection.write_all(piece).unwrap());
            });
            let (client, _ringer) = client(Limits::default());
            let mut stream = open(&client, &url);
            for line in &lines {
                assert_eq!(next(&mut stream).as_ref(), Ok(line));
            }
            assert_eq!(next(&mut stream), Err(Cause::Ended));
            assert_eq!(next(&mut stream), Err(Cause::Ended));
        }
    }

    #[test]
    fn a_stream_never_waits_and_keeps_half_a_line() {
        let (go, gone) = mpsc::channel::<()>();
        let url = server(move |mut connection| {
            take_request(&connection);
            for part in [HEAD, "2\r\nha\r\n", "2\r\nlf\r\n", "4\r\n\nend\r\n", "0\r\n\r\n"] {
                connection.write_all(part.as_bytes()).unwrap();
                gone.recv().unwrap();
            }
        });
        let (client, _ringer) = client(Limits::default());
        let mut stream = open(&client, &url);
        assert_eq!(stream.next_line(), Line::NothingYet);
        for _ in 0..2 {
            go.send(()).unwrap();
            await_readable(&stream);
            assert_eq!(stream.next_line(), Line::NothingYet);
        }
        go.send(()).unwrap();
        assert_eq!(next(&mut stream).unwrap(), "half");
        assert_eq!(stream.next_line(), Line::NothingYet);
        go.send(()).unwrap();
        assert_eq!(next(&mut stream).unwrap(), "end", "the last line, which has no newline");
        assert_eq!(next(&mut stream), Err(Cause::Ended));
    }

    #[test]
    fn half_a_line_before_a_cut_is_no_line() {
        let (client, _ringer) = client(Limits::default());
        let mut stream = open(&client, &answer(format!("{HEAD}8\r\nwhole\nha\r\n5\r\nlf")));
        assert_eq!(next(&mut stream).unwrap(), "whole");
        assert_eq!(next(&mut stream), Err(Cause::Closed));
    }

    #[test]
    fn a_line_over_the_limit_ends_the_stream() {
        let (client, _ringer) = client(Limits { size: 4, ..Limits::default() });
        let mut stream = open(&client, &answer(format!("{HEAD}b\r\n1234\n12345\n\r\n0\r\n\r\n")));
        assert_eq!(next(&mut stream).unwrap(), "1234");
        assert_eq!(next(&mut stream), Err(Cause::TooLong { bytes: 4 }));
        assert_eq!(next(&mut stream), Err(Cause::TooLong { bytes: 4 }));
    }

    #[test]
    fn a_stream_may_be_empty() {
        let (client, _ringer) = client(Limits::default());
        for text in ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", &format!("{HEAD}0\r\n\r\n")] {
            // Whether ureq has dropped the connection by then depends on what came together with the head.
            match client.stream(&answer(text), &[], Some(b"!")) {
                Ok(stream) => assert_eq!(next(&mut stream.ok().expect("status 200")), Err(Cause::Ended)),
                Err(error) => assert_eq!(error.cause, Cause::Closed),
            }
        }
        let mut stream = open(&client, &answer("HTTP/1.0 200 OK\r\n\r\nline"));
        assert_eq!(next(&mut stream).unwrap(), "line");
        assert_eq!(next(&mut stream), Err(Cause::Ended));
    }

    #[test]
    fn a_body_that_ends_with_its_connection_ends_with_no_reset() {
        let (client, _ringer) = client(Limits::default());
        let (go, gone) = mpsc::channel::<()>();
        let url = server(move |mut connection| {
            take_request(&connection);
            connection.write_all(b"HTTP/1.0 200 OK\r\n\r\nha").unwrap();
            gone.recv().unwrap();
            sockopt::set_socket_linger(&connection, Some(Duration::ZERO)).unwrap();
        });
        let mut answer = client.post(&url, &[], b"!").unwrap();
        answer.read_exact(&mut [0; 2]).unwrap();
        go.send(()).unwrap();
        assert_eq!(read(answer).unwrap_err(), "connection closed by the server");
    }

    #[test]
    fn a_refusal_of_a_stream_that_drips_has_an_end() {
        let url = server(|mut connection| {
            take_request(&connection);
            let head = HEAD.replace("200 OK", "503 X");
            let mut sent = connection.write_all(head.as_bytes());
            // Ends when the client goes.
            while sent.is_ok() {
                sent = connection.write_all(b"1\r\nx\r\n");
                thread::park_timeout(Duration::from_millis(5));
            }
        });
        let (client, _ringer) = client(Limits { whole: Duration::from_millis(100), ..Limits::default() });
        let answer = client.stream(&url, &[], Some(b"!")).unwrap().err().expect("no stream");
        assert_eq!(read(answer).unwrap_err(), "whole answer not received within 100ms");
    }

    #[test]
    fn a_head_has_an_end_and_a_header_is_no_url() {
        let (client, _ringer) = client(Limits::default());
        let cause =
            |url: &str, headers: &[(&str, &str)]| client.post(url, headers, b"!").err().unwrap().cause.to_string();
        for length in [BUFFER, 2 * BUFFER] {
            let url = answer(format!("HTTP/1.1 200 OK\r\nX-Y: {}\r\n\r\n", "x".repeat(length)));
            assert_eq!(cause(&url, &[]), "head of the answer is too long");
        }
        assert_eq!(cause("http://h/", &[("X-Y", "a\nb")]), "not a valid request: failed to parse header value");
    }

    #[test]
    fn a_large_line_does_not_keep_its_buffer() {
        let long = "x".repeat(4 * KEPT_LINE);
        let body = format!("{HEAD}{:x}\r\n{long}\ny\n\r\n0\r\n\r\n", long.len() + 3);
        let (client, _ringer) = client(Limits::default());
        let mut stream = open(&client, &answer(body));
        assert_eq!(next(&mut stream).unwrap(), long);
        assert!(stream.line.capacity() >= long.len());
        assert_eq!(next(&mut stream).unwrap(), "y");
        assert!(stream.line.capacity() <= KEPT_LINE);
    }

    #[test]
    fn a_signal_ends_a_request_at_once_and_for_good() {
        let (done, finished) = mpsc::channel::<()>();
        let (client, ringer) = client(Limits { answer: Duration::from_secs(60), ..Limits::default() });
        let url = server(move |connection| {
            take_request(&connection);
            (&ringer).write_all(&[1]).unwrap();
            finished.recv().unwrap_err();
        });
        let started = Instant::now();
        let error = client.post(&url, &[], b"!").err().expect("the server does not answer");
        assert_eq!(error.cause, Cause::Aborted);
        assert!(client.aborted());
        assert_eq!(client.post(&url, &[], b"!").err().map(|e| e.cause), Some(Cause::Aborted));
        assert!(started.elapsed() < Duration::from_secs(30));
        drop(done);
    }

    #[test]
    fn a_slow_connection_is_waited_for_by_the_next_request() {
        // The first connection fills the queue: the next one comes about when it is taken and Linux has tried again.
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        net::listen(&socket, 0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let first = TcpStream::connect(address).unwrap();
        let url = format!("http://{address}/x");
        let (client, _ringer) = client(Limits { dial: Duration::from_secs(60), ..Limits::default() });
        let late = Cause::Late { missed: "no connection", limit: CONNECT };
        assert_eq!(client.post(&url, &[], b"!").err().map(|e| e.cause), Some(late.clone()));
        let server = thread::spawn(move || {
            drop(listener.accept().unwrap());
            let (mut connection, peer) = listener.accept().unwrap();
            take_request(&connection);
            connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            peer
        });
        let begun = net::getsockname(&client.connections.dialing.lock().unwrap()[&address].socket).unwrap();
        while let Err(error) = client.post(&url, &[], b"!") {
            assert_eq!(error.cause, late);
        }
        assert_eq!(SocketAddr::try_from(begun).unwrap(), server.join().unwrap());
        assert!(client.connections.dialing.lock().unwrap().is_empty());
        drop(first);
    }

    #[test]
    fn a_dns_that_fails_does_not_cut_off_a_known_server() {
        let folder = crate::host::files::tests::Folder::new();
        let (hosts, resolv_conf) = (folder.path("hosts"), folder.path("resolv.conf"));
        std::fs::write(&hosts, "10.0.0.1 etcd\n").unwrap();
        // Nothing may be sent there.
        std::fs::write(&resolv_conf, "nameserver 255.255.255.255\nsearch .\n").unwrap();
        let names = Names::new(dns::Resolver::with(dns::Places { resolv_conf, hosts: hosts.clone(), port: 53 }, None));
        let check = |host: &str, want: Result<&str, &str>| {
            let found = names.addresses(host).map(|found| found[0].to_string()).map_err(|cause| cause.to_string());
            assert_eq!(found.as_deref().map_err(|e| &**e), want);
        };
        check("etcd", Ok("10.0.0.1"));
        std::fs::write(&hosts, "10.0.0.2 etcd\n").unwrap();
        check("etcd", Ok("10.0.0.2"));
        std::fs::write(&hosts, "").unwrap();
        check("etcd", Ok("10.0.0.2"));
        check("10.0.0.3", Ok("10.0.0.3"));
        let why = "server 255.255.255.255:53 cannot be reached: permission denied (asked for other.)";
        check("other", Err(&format!("failed to look up `other`: {why}")));
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn a_build_without_tls_says_so() {
        let (client, _ringer) = client(Limits::default());
        let error = client.get("https://127.0.0.1/x", &[]).err().expect("there is no TLS");
        assert_eq!(error.to_string(), format!("failed to GET https://127.0.0.1/x: {}", config::NO_TLS));
    }

    #[test]
    fn credentials_are_not_shown() {
        let check = |url: &str, want: &str| assert_eq!(without_credentials(url), want);
        check("http://host:1/x", "http://host:1/x");
        check("http://me:secret@host:1/x", "http://host:1/x");
        check("http://me@host", "http://host");
        check("http://a:b@c@host/d@e", "http://host/d@e");
        check("http://me:se/cr?e#t@host:1/x", "http://host:1/x");
        check("http://[::1]:1/x@y", "http://[::1]:1/x@y");
        check("http://[::1]/x@y", "http://[::1]/x@y");
        check("http://host/@", "http://host/@");
        check("http://host?a=b@c", "http://host?a=b@c");
        check("no url", "no url");
    }
}
