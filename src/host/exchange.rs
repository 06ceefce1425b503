//! One HTTP request and its answer over a [`Link`], without waiting: the only door of ureq. `Agent::run` is synchronous, so
//! it runs where it cannot wait, and again where it could not finish: the first run writes the request down; the loop
//! sends those bytes; when the head of an answer may be complete, ureq runs again, "sends" the same bytes, which are
//! compared and dropped, reads what was received, and keeps its transport for the body. Owns the bytes of the request and
//! the beginning of the answer. Does not own names, addresses, deadlines, kept links, nor repetitions.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::uri::{InvalidUri, InvalidUriParts};
use ureq::http::{self, HeaderMap, Response, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq::{Agent, Body, BodyReader};

use super::cause::Cause;
use super::link::{Ends, Link, Received};
use super::wait::Interest;

/// The longest head with the interim answers before it, and the size of each of ureq's buffers: whatever is received here
/// fits into ureq's input at once.
pub const BUFFER: usize = 16 * 1024;

/// Reads from the link, and reads of ureq, in one turn: an answer that comes byte by byte does not hold the loop.
const MOST_READS: usize = 64;

/// How a server of TLS begins to say that it was not spoken to in TLS: an alert of version 3.x.
const TLS_ALERT: &[u8] = &[21, 3];

/// ureq, told to do nothing by itself.
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
            // One less than fits: ureq could not tell a head that is too long from one that is cut.
            .max_response_header_size(BUFFER - 1)
            // Connections are kept by us.
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            // The only limit that ureq has unless told otherwise (1 s). Zero: it does not wait for `100 Continue`.
            .timeout_await_100(Some(Duration::ZERO))
            .build();
        let slot = Slot::default();
        Http { agent: Agent::with_parts(config, slot.clone(), Nowhere), slot }
    }
}

/// A request as it goes over the wire, the same every time it is sent.
pub struct Recorded {
    head: http::Request<()>,
    bytes: Arc<Vec<u8>>,
    /// Where in `bytes` the body begins, if there is one.
    body: Option<usize>,
    /// For https.
    pub tls: bool,
    /// A name or an address, the latter without brackets.
    pub host: String,
    /// Of the URL, else 80 or 443.
    pub port: u16,
}

impl fmt::Debug for Recorded {
    /// Without headers and body: they hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Http {
    /// Writes a request down.
    ///
    /// # Errors
    /// It is not a valid one.
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
        let paper = Arc::new(Mutex::new(Vec::with_capacity(512 + body.map_or(0, <[u8]>::len))));
        let bytes = match self.run(&head, body, End::Paper(Arc::clone(&paper))) {
            Err(ureq::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => mem::take(&mut *lock(&paper)),
            Err(error) => return Err(cause(&error)),
            Ok(_) => return Err(Cause::Other("not a valid request: it cannot be sent".to_owned())),
        };
        let at = body.map(|body| bytes.len().saturating_sub(body.len()));
        if at.is_some_and(|at| Some(&bytes[at..]) != body) {
            return Err(Cause::Other("not a valid request: its body must be sent as it is".to_owned()));
        }
        Ok(Recorded { head, bytes: Arc::new(bytes), body: at, tls, host, port })
    }

    /// Runs ureq once over this end of a connection.
    fn run(&self, head: &http::Request<()>, body: Option<&[u8]>, end: End) -> Result<Response<Body>, ureq::Error> {
        *lock(&self.slot.next) = Some(end);
        let outcome = match body {
            Some(body) => self.agent.run(head.clone().map(|()| body)),
            None => self.agent.run(head.clone()),
        };
        // A run that failed before it was connected must not keep the link open.
        lock(&self.slot.next).take();
        outcome
    }
}

/// A request that is being served. Take turns with [`Exchange::advance`] until the head has come, then with
/// [`Exchange::read`] until the body has ended; poll between them.
pub struct Exchange {
    http: Http,
    request: Rc<Recorded>,
    /// Shared with the transport that ureq holds during a run, and as long as it reads the body.
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
    /// The value of a header; `None` where there is none, or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A head, and what gives the body.
struct Answer {
    head: Head,
    body: BodyReader<'static>,
}

/// What came of a turn before the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Poll.
    Waiting,
    /// Come again after others.
    More,
    /// The head has come.
    Head,
}

impl Exchange {
    /// Over a link that is open and idle.
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

    /// Appends what to poll for: the answer, and room for what is left of the request.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        let wire = lock(&self.wire);
        let (read, write) = wire.link.wants();
        let rest = wire.sent < wire.request.len() && !wire.link.is_over();
        self.ends.interests(read, write || rest, out);
    }

    /// All of the request is with the kernel.
    pub fn is_sent(&self) -> bool {
        let wire = lock(&self.wire);
        wire.sent == wire.request.len() && wire.link.is_flushed()
    }

    /// Nothing of the answer has come.
    pub fn is_unanswered(&self) -> bool {
        self.answer.is_none() && lock(&self.wire).received.is_empty()
    }

    /// The head of the answer, once it has come.
    pub fn head(&self) -> Option<&Head> {
        self.answer.as_ref().map(|answer| &answer.head)
    }

    /// Sends, and receives until the head has come. An answer may come before all of the request has gone out.
    ///
    /// # Errors
    /// There will be no answer. [`Cause::Closed`] on a link that served before, with nothing of the answer received, most
    /// likely means that the server had closed it while it was idle.
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
        // Then the session of TLS may hold more, which makes no descriptor readable.
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
            // The head is not complete after all: what came was the end of an interim answer, or of its first line.
            Err(ureq::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => {
                Ok(if at_hand { Advance::More } else { Advance::Waiting })
            }
            Err(error) => Err(cause(&error)),
        }
    }

    /// Appends what has come of the body: about `budget` bytes at most, and less where they come in crumbs.
    ///
    /// # Errors
    /// The rest cannot be had. What came before has been given.
    pub fn read(&mut self, into: &mut Vec<u8>, budget: usize) -> Result<Received, Cause> {
        let Some(answer) = &mut self.answer else { return Ok(Received::Waiting) };
        {
            // The bytes of the wire count too: a body in chunks of one byte has six of them for each.
            let mut wire = lock(&self.wire);
            (wire.reads, wire.bytes) = (MOST_READS, budget.max(BUFFER));
        }
        let begin = into.len();
        // Beyond `end` there is room that was made and is not yet filled.
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
                    // Also where the transport was asked often enough.
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

    /// The head, and the link for the next exchange: after [`Received::Ended`], unless one side wants it closed.
    pub fn finish(self) -> (Option<Head>, Option<Link>) {
        let head = self.answer.map(|answer| {
            // ureq has dropped its transport where it has offered the connection.
            drop(answer.body);
            answer.head
        });
        let wire = Arc::try_unwrap(self.wire).ok();
        let wire = wire.map(|wire| wire.into_inner().unwrap_or_else(PoisonError::into_inner));
        (head, wire.filter(|wire| wire.reusable && !wire.link.is_over()).map(|wire| wire.link))
    }
}

/// A link, the request that it carries, and the beginning of the answer.
struct Wire {
    link: Link,
    request: Arc<Vec<u8>>,
    /// How much of the request the link has taken.
    sent: usize,
    /// The beginning of the answer, kept whole until [`Wire::commit`]: every run of ureq reads it from the start.
    received: Vec<u8>,
    /// How much of `received` this run of ureq has taken.
    replayed: usize,
    /// ureq has the head, so what it reads from now on may be forgotten.
    committed: bool,
    /// How much of `received` has been searched for the end of a head.
    searched: usize,
    /// How often the link may be read in this turn, and how many bytes.
    reads: usize,
    bytes: usize,
    /// ureq has found that by the rules of HTTP the connection may serve another request.
    reusable: bool,
}

enum Arrived {
    /// Nothing that ureq could make use of.
    Nothing,
    /// There may be more at hand.
    Some,
    /// A head that may be complete, or what never will be one.
    Head,
}

impl Wire {
    /// Sends what goes out at once.
    fn pump(&mut self) -> Result<(), Cause> {
        self.link.turn()?;
        let request = Arc::clone(&self.request);
        self.sent += self.link.write(&request[self.sent..]);
        Ok(())
    }

    /// Receives the beginning of the answer. ureq is not run for a head that comes in crumbs.
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
        match self.find_end() {
            // Also where the connection broke behind it: what came before may be the answer.
            true => Ok(Arrived::Head),
            false => outcome,
        }
    }

    /// Whether the end of a head has come since the last search, or of the first line: what is no HTTP is told early.
    fn find_end(&mut self) -> bool {
        let ends = |at: usize| self.received[..at].ends_with(b"\n\r") || self.received[..at].ends_with(b"\n");
        let first = !self.received[..self.searched].contains(&b'\n');
        let mut lines = (self.searched..self.received.len()).filter(|at| self.received[*at] == b'\n');
        let found = lines.any(|at| first || ends(at));
        self.searched = self.received.len();
        found
    }

    /// ureq has the head, and keeps for itself what it has taken. From now on bytes are read once.
    fn commit(&mut self) {
        self.received.drain(..self.replayed);
        self.received.shrink_to_fit();
        (self.replayed, self.committed) = (0, true);
    }

    /// Gives what was received already, then reads, and sends what is left of the request meanwhile. Before
    /// [`Wire::commit`] it does not read: what this run has read the next one would miss.
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

/// What the next run of ureq is connected with. There is one thread, and a run takes it before it ends.
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

/// Where a transport ends.
enum End {
    /// What is sent is written down, and nothing is received.
    Paper(Arc<Mutex<Vec<u8>>>),
    /// At a link that sends the request already. `at`: how much of it ureq has sent again.
    Wire { wire: Arc<Mutex<Wire>>, at: usize },
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, End::Paper(_)) { "Paper" } else { "Wire" })
    }
}

/// The transport of one run, and of the body that follows it.
struct Replay {
    end: End,
    buffers: LazyBuffers,
    tls: bool,
}

impl fmt::Debug for Replay {
    /// Without the buffers: they hold passwords.
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
            End::Paper(paper) => lock(paper).extend_from_slice(output),
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

    /// ureq asks this in one place: when an answer is complete and its connection is fit for another request: neither side
    /// wants to close, and ureq holds nothing that was left over. It is told no, so that it drops the transport and keeps
    /// nothing: the link stays with us.
    fn is_open(&mut self) -> bool {
        if let End::Wire { wire, .. } = &self.end {
            let mut wire = lock(wire);
            wire.reusable = wire.sent == wire.request.len()
                && wire.link.is_flushed()
                && !wire.link.is_over()
                && wire.replayed == wire.received.len();
        }
        false
    }

    fn is_tls(&self) -> bool {
        self.tls
    }
}

/// Names are looked up elsewhere: ureq gets an address that it never connects to.
#[derive(Debug)]
struct Nowhere;

impl Resolver for Nowhere {
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

/// There is one thread, and it never holds two of these at once.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
