//! One HTTP request and its answer over a [`Link`], without waiting. The only file that uses ureq, whose `Agent::run`
//! blocks. So ureq runs over recorded bytes: the first run records the request, and the loop sends it. When the head
//! of an answer may be complete, ureq runs again: its "sent" bytes are compared and dropped, it reads the received
//! bytes, and its transport is kept for the body. Does not own names, addresses, deadlines, kept links or retries.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq::config::Config;
use ureq::http::uri::{InvalidUri, InvalidUriParts};
use ureq::http::{self, HeaderMap, Response, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq::{Agent, Body, BodyReader};

use super::cause::Cause;
use super::link::{Ends, Link, Received};
use super::wait::Interest;
use crate::percent;

/// The longest head, with interim answers before it, and the size of ureq's buffers: received bytes fit into ureq's
/// input at once.
pub const BUFFER: usize = 16 * 1024;

/// Reads from the link, and reads by ureq, in one turn. An answer that comes byte by byte must not hold up the loop.
const MOST_READS: usize = 64;

/// A TLS server's answer to a request without TLS: an alert of version 3.x.
const TLS_ALERT: &[u8] = &[21, 3];

/// ureq, configured without timeouts, redirects and a pool.
#[derive(Clone, Debug)]
pub struct Http {
    agent: Agent,
    slot: Slot,
}

impl Default for Http {
    fn default() -> Http {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("remco/", env!("CARGO_PKG_VERSION")))
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            // One less than fits: otherwise ureq cannot tell a head that is too long from one that is incomplete.
            .max_response_header_size(BUFFER - 1)
            // `client` keeps connections.
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            // ureq's only default limit (1 s). With zero it does not wait for `100 Continue`.
            .timeout_await_100(Some(Duration::ZERO))
            .build();
        let slot = Slot::default();
        Http { agent: Agent::with_parts(config, slot.clone(), NoLookup), slot }
    }
}

/// A request as bytes; every attempt sends them.
pub struct Recorded {
    head: http::Request<()>,
    bytes: Arc<Vec<u8>>,
    /// Where in `bytes` the body begins, if the request has one.
    body: Option<usize>,
    /// Whether the request needs TLS.
    pub tls: bool,
    /// A name or an address; an IPv6 address has no brackets.
    pub host: String,
    /// The port of the URL, else 80 or 443.
    pub port: u16,
}

impl fmt::Debug for Recorded {
    /// Without headers and body: they hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Http {
    /// Records a request.
    ///
    /// # Errors
    /// The request is not valid.
    pub fn record(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Recorded, Cause> {
        let mut head = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            head = head.header(*name, *value);
        }
        if let Some(user) = percent::user_of(url).filter(|user| user.contains('%'))
            && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        {
            // ureq does not decode it.
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let pair = [&percent::decoded(name)[..], b":", &percent::decoded(password)].concat();
            head = head.header("authorization", format!("Basic {}", BASE64_STANDARD.encode(pair)));
        }
        let head = head.body(()).map_err(|error| cause(&error.into()))?;
        let not_a_url = || Cause::Other("not a valid URL".to_owned());
        let (tls, standard) = match head.uri().scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(not_a_url()),
        };
        let host = head.uri().host().filter(|host| !host.is_empty()).ok_or_else(not_a_url)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let port = head.uri().port_u16().unwrap_or(standard);
        let recorder = Arc::new(Mutex::new(Vec::with_capacity(512 + body.map_or(0, <[u8]>::len))));
        let bytes = match self.run(&head, body, End::Recorder(Arc::clone(&recorder))) {
            Err(ureq::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => mem::take(&mut *lock(&recorder)),
            Err(error) => return Err(cause(&error)),
            Ok(_) => return Err(Cause::Other("not a valid request: it cannot be sent".to_owned())),
        };
        let at = body.map(|body| bytes.len().saturating_sub(body.len()));
        if at.is_some_and(|at| Some(&bytes[at..]) != body) {
            return Err(Cause::Other("not a valid request: its body must be sent as it is".to_owned()));
        }
        Ok(Recorded { head, bytes: Arc::new(bytes), body: at, tls, host, port })
    }

    /// Runs ureq once over one end of a connection.
    fn run(&self, head: &http::Request<()>, body: Option<&[u8]>, end: End) -> Result<Response<Body>, ureq::Error> {
        *lock(&self.slot.next) = Some(end);
        let outcome = match body {
            Some(body) => self.agent.run(head.clone().map(|()| body)),
            None => self.agent.run(head.clone()),
        };
        // A run that failed before it connected must not keep the link.
        lock(&self.slot.next).take();
        outcome
    }
}

/// A request in progress. Call [`Exchange::advance`] until the head has come, then [`Exchange::read`] until the body
/// has ended, and poll in between.
pub struct Exchange {
    http: Http,
    request: Rc<Recorded>,
    /// Shared with ureq's transport, which exists during a run and while the body is read. ureq requires types that are
    /// `Send` and `Sync`, so this is a mutex, although the program has one thread and the lock is always free.
    wire: Arc<Mutex<Wire>>,
    ends: Arc<Ends>,
    answer: Option<Answer>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Of HTTP, such as 200.
    pub status: u16,
    headers: HeaderMap,
}

impl Head {
    /// The value of a header; `None`: it is missing, or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A head, and the reader of the body.
struct Answer {
    head: Head,
    body: BodyReader<'static>,
}

/// The result of a turn before the head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Poll before the next turn.
    Waiting,
    /// More can be done at once, after other work.
    More,
    /// The head has come.
    Head,
}

impl Exchange {
    /// Begins on a link that is open and idle.
    pub fn new(http: &Http, request: Rc<Recorded>, link: Link) -> Exchange {
        let (ends, bytes) = (link.ends(), Arc::clone(&request.bytes));
        let wire = Wire {
            link,
            request: bytes,
            sent: 0,
            received: Vec::new(),
            replayed: 0,
            committed: false,
            searched: 0,
            reads: 0,
            bytes: 0,
            reusable: false,
        };
        Exchange { http: http.clone(), request, wire: Arc::new(Mutex::new(wire)), ends, answer: None }
    }

    /// Appends what to poll for: the answer, and room to send the rest of the request.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        let wire = lock(&self.wire);
        let (read, write) = wire.link.wants();
        let rest = wire.sent < wire.request.len() && !wire.link.is_over();
        self.ends.interests(read, write || rest, out);
    }

    /// Whether the kernel has taken the whole request.
    pub fn is_sent(&self) -> bool {
        let wire = lock(&self.wire);
        wire.sent == wire.request.len() && wire.link.is_flushed()
    }

    /// Whether nothing of the answer has come.
    pub fn is_unanswered(&self) -> bool {
        self.answer.is_none() && lock(&self.wire).received.is_empty()
    }

    /// The head of the answer, when it has come.
    pub fn head(&self) -> Option<&Head> {
        self.answer.as_ref().map(|answer| &answer.head)
    }

    /// Sends the request, and receives until the head has come. The head may come before the whole request is sent.
    ///
    /// # Errors
    /// There will be no answer. [`Cause::Closed`] on a reused link without a byte of the answer mostly means that the
    /// server closed the link while it was idle.
    pub fn advance(&mut self) -> Result<Advance, Cause> {
        let mut wire = lock(&self.wire);
        (wire.reads, wire.bytes) = (MOST_READS, BUFFER);
        wire.pump()?;
        match wire.receive_head()? {
            Arrived::Nothing => return Ok(Advance::Waiting),
            Arrived::Some => return Ok(Advance::More),
            Arrived::Head => {}
        }
        wire.replayed = 0;
        // In this case the TLS session may have more data, which no descriptor reports.
        let at_hand = wire.reads == 0;
        drop(wire);
        let body = self.request.body.map(|at| &self.request.bytes[at..]);
        match self.http.run(&self.request.head, body, End::Wire { wire: Arc::clone(&self.wire), at: 0 }) {
            Ok(response) => {
                lock(&self.wire).commit();
                let (head, body) = response.into_parts();
                let head = Head { status: head.status.as_u16(), headers: head.headers };
                self.answer = Some(Answer { head, body: body.into_reader() });
                Ok(Advance::Head)
            }
            // The head is not complete: these bytes ended an interim answer or the first line.
            Err(ureq::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => {
                Ok(if at_hand { Advance::More } else { Advance::Waiting })
            }
            Err(error) => Err(cause(&error)),
        }
    }

    /// Appends received parts of the body: about `budget` bytes, or less if they come in small pieces.
    ///
    /// # Errors
    /// The rest of the body is lost. The parts before it were appended.
    pub fn read(&mut self, into: &mut Vec<u8>, budget: usize) -> Result<Received, Cause> {
        let Some(answer) = &mut self.answer else { return Ok(Received::Waiting) };
        {
            // Bytes on the wire count: a chunked body of single bytes has six of them for each.
            let mut wire = lock(&self.wire);
            (wire.reads, wire.bytes) = (MOST_READS, budget.max(BUFFER));
        }
        let begin = into.len();
        // Behind `end` the buffer is allocated but not filled.
        let mut end = begin;
        let mut outcome = Ok(Received::More);
        for _ in 0..MOST_READS {
            if end - begin >= budget {
                break;
            }
            if into.len() - end < BUFFER / 2 {
                into.resize(end + BUFFER, 0);
            }
            match answer.body.read(&mut into[end..]) {
                Ok(0) => {
                    outcome = Ok(Received::Ended);
                    break;
                }
                Ok(n) => end += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    // Also if the transport was read often enough.
                    let wire = lock(&self.wire);
                    let used_up = wire.reads == 0 || wire.bytes == 0;
                    outcome = Ok(if used_up { Received::More } else { Received::Waiting });
                    break;
                }
                Err(e) => {
                    outcome = Err(cause(&e.into()));
                    break;
                }
            }
        }
        into.truncate(end);
        outcome
    }

    /// Returns the head, and the link for the next exchange if the answer has [`Received::Ended`] and HTTP allows another
    /// exchange. The server may have closed it all the same.
    pub fn finish(self) -> (Option<Head>, Option<Link>) {
        let head = self.answer.map(|answer| {
            // ureq has dropped its transport after it offered the connection.
            drop(answer.body);
            answer.head
        });
        let wire = Arc::try_unwrap(self.wire).ok();
        let wire = wire.map(|wire| wire.into_inner().unwrap_or_else(PoisonError::into_inner));
        (head, wire.filter(|wire| wire.reusable).map(|wire| wire.link))
    }
}

/// A link, the request that it sends, and the beginning of the answer.
struct Wire {
    link: Link,
    request: Arc<Vec<u8>>,
    /// Bytes of the request that the link has taken.
    sent: usize,
    /// The beginning of the answer, kept until [`Wire::commit`]: every run of ureq reads it from the start.
    received: Vec<u8>,
    /// Bytes of `received` that this run of ureq has read.
    replayed: usize,
    /// ureq has the head: bytes that it reads from now on may be dropped.
    committed: bool,
    /// Bytes of `received` that were searched for the end of a head.
    searched: usize,
    /// Reads that are left in this turn, and bytes.
    reads: usize,
    bytes: usize,
    /// ureq has decided that HTTP allows another request on the connection.
    reusable: bool,
}

enum Arrived {
    /// No bytes that ureq could use.
    Nothing,
    /// More bytes may be there.
    Some,
    /// A head that may be complete, or bytes that cannot become a head.
    Head,
}

impl Wire {
    /// Sends as much as the link takes at once.
    fn pump(&mut self) -> Result<(), Cause> {
        self.link.turn()?;
        let request = Arc::clone(&self.request);
        self.sent += self.link.write(&request[self.sent..]);
        Ok(())
    }

    /// Receives the beginning of the answer. ureq is not run for a head that is still incomplete.
    fn receive_head(&mut self) -> Result<Arrived, Cause> {
        let have = self.received.len();
        let mut end = have;
        self.received.resize(BUFFER, 0);
        let outcome = loop {
            if end == BUFFER {
                break Ok(Arrived::Head);
            }
            if self.reads == 0 {
                break Ok(Arrived::Some);
            }
            self.reads -= 1;
            match self.link.read(&mut self.received[end..]) {
                Ok(Some(0)) => break Ok(Arrived::Head),
                Ok(Some(n)) => end += n,
                Ok(None) => break Ok(Arrived::Nothing),
                Err(cause) => break Err(cause),
            }
        };
        self.received.truncate(end);
        if self.received.starts_with(TLS_ALERT) {
            return Err(Cause::Other("the server speaks TLS: is it a https:// URL?".to_owned()));
        }
        if let Some(word) = foreign(&self.received) {
            return Err(Cause::Other(format!("the server speaks no HTTP: its answer begins with `{word}`")));
        }
        match self.find_end() {
            // Also if the connection failed afterwards: the bytes before may be the answer.
            true => Ok(Arrived::Head),
            false => outcome,
        }
    }

    /// Whether the end of a head, or of its first line, has come since the last search. An answer that is no HTTP is
    /// detected early.
    fn find_end(&mut self) -> bool {
        let ends = |at: usize| self.received[..at].ends_with(b"\n\r") || self.received[..at].ends_with(b"\n");
        let first = !self.received[..self.searched].contains(&b'\n');
        let mut lines = (self.searched..self.received.len()).filter(|at| self.received[*at] == b'\n');
        let found = lines.any(|at| first || ends(at));
        self.searched = self.received.len();
        found
    }

    /// ureq has the head and keeps what it has read. From now on bytes are read once.
    fn commit(&mut self) {
        self.received.drain(..self.replayed);
        self.received.shrink_to_fit();
        (self.replayed, self.committed) = (0, true);
    }

    /// Returns received bytes, then reads more, and continues to send the request. Before [`Wire::commit`] it does not
    /// read: the next run would miss those bytes.
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let kept = &self.received[self.replayed..];
        if !kept.is_empty() {
            let n = kept.len().min(into.len());
            into[..n].copy_from_slice(&kept[..n]);
            self.replayed += n;
            return Ok(n);
        }
        if !self.committed && !self.link.is_over() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.reads == 0 || self.bytes == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.reads -= 1;
        self.pump().map_err(Cause::into_io)?;
        match self.link.read(into) {
            Ok(Some(n)) => {
                self.bytes = self.bytes.saturating_sub(n);
                Ok(n)
            }
            Ok(None) => Err(ErrorKind::WouldBlock.into()),
            Err(cause) => Err(cause.into_io()),
        }
    }
}

/// The first word of an answer that is not HTTP. The rest may be an echo of the request, with secrets.
fn foreign(answer: &[u8]) -> Option<String> {
    /// The beginning of every answer.
    const HTTP: &[u8] = b"HTTP/";
    /// The most bytes of the word that are shown.
    const SHOWN: usize = 20;
    let is_http = answer.iter().zip(HTTP).all(|(byte, want)| byte == want);
    let word = answer.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    (!is_http).then(|| word[..word.len().min(SHOWN)].escape_ascii().to_string())
}

/// The connection that the next run of ureq gets. The run takes the connection before it ends. A mutex for the reason
/// that [`Exchange`] has.
#[derive(Clone, Debug, Default)]
struct Slot {
    next: Arc<Mutex<Option<End>>>,
}

impl Connector<()> for Slot {
    type Out = Replay;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Replay>, ureq::Error> {
        let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
        let (buffers, tls) = (LazyBuffers::new(input, output), details.needs_tls());
        Ok(lock(&self.next).take().map(|end| Replay { end, buffers, tls }))
    }
}

/// The other side of a transport.
enum End {
    /// Records the sent bytes, and receives nothing.
    Recorder(Arc<Mutex<Vec<u8>>>),
    /// A link that already sends the request. `at` is the number of bytes that ureq has repeated.
    Wire { wire: Arc<Mutex<Wire>>, at: usize },
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, End::Recorder(_)) { "Recorder" } else { "Wire" })
    }
}

/// The transport of one run, and of the body that follows.
struct Replay {
    end: End,
    buffers: LazyBuffers,
    tls: bool,
}

impl fmt::Debug for Replay {
    /// Omits the buffers: they contain passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replay").field(&self.end).finish()
    }
}

impl Transport for Replay {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let output = &self.buffers.output()[..amount];
        match &mut self.end {
            End::Recorder(recorder) => lock(recorder).extend_from_slice(output),
            End::Wire { wire, at } => {
                if lock(wire).request.get(*at..*at + amount) != Some(output) {
                    let words = "not a valid request: its bytes differ from run to run".to_owned();
                    return Err(Cause::Other(words).into_io().into());
                }
                *at += amount;
            }
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let End::Wire { wire, .. } = &self.end else {
            return Err(io::Error::from(ErrorKind::WouldBlock).into());
        };
        let n = lock(wire).receive(self.buffers.input_append_buf())?;
        self.buffers.input_appended(n);
        Ok(n > 0)
    }

    /// ureq calls this when an answer is complete and the connection could be reused: neither side announced its end, and
    /// no bytes are left over. The answer is no, so that ureq drops the transport and the link stays ours.
    fn is_open(&mut self) -> bool {
        if let End::Wire { wire, .. } = &self.end {
            let mut wire = lock(wire);
            wire.reusable =
                wire.sent == wire.request.len() && wire.link.is_flushed() && wire.replayed == wire.received.len();
        }
        false
    }

    fn is_tls(&self) -> bool {
        self.tls
    }
}

/// A resolver that returns an address which ureq never connects to.
#[derive(Debug)]
struct NoLookup;

impl Resolver for NoLookup {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(addresses)
    }
}

fn cause(error: &ureq::Error) -> Cause {
    match error {
        ureq::Error::Io(e) => Cause::of_io(e),
        // The connection ended within the line that begins a chunk.
        ureq::Error::BodyStalled => Cause::Closed,
        ureq::Error::Protocol(e) => Cause::Other(format!("not an HTTP answer: {e}")),
        ureq::Error::LargeResponseHeader(..) => Cause::Other("head of the answer is too long".to_owned()),
        ureq::Error::BadUri(_) => Cause::Other("not a valid URL".to_owned()),
        ureq::Error::Http(e) if e.is::<InvalidUri>() || e.is::<InvalidUriParts>() => {
            Cause::Other("not a valid URL".to_owned())
        }
        ureq::Error::Http(e) => Cause::Other(format!("not a valid request: {e}")),
        other => Cause::Other(other.to_string()),
    }
}

/// Never blocks: the program has one thread, which never holds two locks at once.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
