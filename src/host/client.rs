//! HTTP requests as states of the loop. A [`Call`] looks up the host, connects, sends, and receives head and body in
//! turns that never wait; a connection is kept for the next call to its node. Owns the limits and what follows a stale
//! connection; `dialer` makes the connections. No redirects, no proxies; dropping a call aborts it. The caller
//! polls [`Call::interests`] until [`Call::due`], then takes a [`Call::turn`]; both change with every turn.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{fmt, mem};

pub use super::cause::Cause;
use super::dialer::{Dial, Dialer, Endpoint, Limits as Steps};
use super::dns::Resolver;
use super::exchange::{Advance, Exchange, Head, Http, Recorded};
use super::link::{Link, Received};
use super::wait::Interest;
use crate::config;

/// The default limit for a line of a stream and for the body of an answer, in bytes.
pub const MAX_RESPONSE: usize = 256 << 20;

/// How long an idle connection is kept for the next call. A silent watch is probed every half minute.
const KEPT_CONNECTION: Duration = Duration::from_secs(90);

/// The number of idle connections that are kept, one for each node.
const MOST_IDLE: usize = 3;

/// The time limit of each step of a call. Progress within a step does not extend its limit, except for a body.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The limit for connecting, over all addresses of a name.
    pub dial: Duration,
    /// The limit for each of these steps: TLS, sending the request, the head of the answer, and each piece of the body.
    pub answer: Duration,
    /// The limit for a whole [`Kind::Whole`] call, including the lookup and the body.
    pub whole: Duration,
    /// The size limit of a [`Kind::Whole`] body, in bytes.
    pub size: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            dial: Duration::from_secs(5),
            answer: Duration::from_secs(3),
            whole: Duration::from_secs(10),
            size: MAX_RESPONSE,
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The HTTP method, in capitals.
    pub method: &'static str,
    /// The URL: `http://` or `https://`, optionally with user and password.
    pub url: &'a str,
    /// Names and values. `Host` and the length of the body are added.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, sent with its length. A POST or PUT without a body needs `Some(&[])`.
    pub body: Option<&'a [u8]>,
    /// The behaviour if the kept connection was closed.
    pub stale: Stale,
    /// The kind of the answer.
    pub kind: Kind,
    /// The time limit for the head, counted from the end of sending; `None`: [`Limits::answer`]. For long polls:
    /// [`Limits::whole`] counts from the head on.
    pub head_within: Option<Duration>,
    /// The unix socket to connect to instead of the host and port of the URL. Without TLS.
    pub socket: Option<&'a Path>,
}

/// What a call does if the server closed its kept connection before any byte of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It asks on a new connection.
    Repeat,
    /// It asks on a new connection if that was found before sending. Otherwise it fails with [`Cause::Closed`].
    RepeatUnsent,
    /// It fails with [`Cause::Stale`].
    Fail,
}

/// The kind of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A finite answer, within [`Limits::whole`] and [`Limits::size`] bytes.
    Whole,
    /// A body without a time limit. With a status other than 200 it is a finite answer, which has to end within
    /// [`Limits::whole`] from its head on.
    Stream,
}

/// The result of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Poll before the next turn.
    Waiting,
    /// The head has arrived: [`Call::status`] and [`Call::header`] are known. The next turn is due at once.
    Head,
    /// The turn's budget is used up. More bytes may be available, which no descriptor reports: the next turn is due at
    /// once, after other work.
    More,
    /// The answer is complete. The connection is kept if both sides allow it. No turn may follow.
    Ended,
}

/// Makes calls to any number of servers. Clones share connections, looked-up names and TLS files.
#[derive(Clone)]
pub struct Client(Rc<Shared>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

struct Shared {
    http: Http,
    dialer: Rc<Dialer>,
    limits: Limits,
    /// Changed by calls, which share the client: the program has one thread, and no borrow outlives a statement.
    idle: RefCell<Vec<Idle>>,
    /// The nodes that have answered once, so they use the protocol of their URL. Changed by calls, like `idle`.
    answered: RefCell<HashSet<Endpoint>>,
}

/// An idle connection.
struct Idle {
    node: Endpoint,
    link: Link,
    since: Instant,
}

impl Client {
    /// `tls` has the files for https. They are read when a connection needs them.
    pub fn new(limits: Limits, tls: config::Tls) -> Client {
        Client::with(Resolver::default(), limits, tls)
    }

    /// A client with the caller's resolver.
    pub fn with(resolver: Resolver, limits: Limits, tls: config::Tls) -> Client {
        Client(Rc::new(Shared {
            http: Http::default(),
            dialer: Rc::new(Dialer::new(resolver, Steps { dial: limits.dial, secure: limits.answer }, tls)),
            limits,
            idle: RefCell::default(),
            answered: RefCell::default(),
        }))
    }

    /// The dialer of its connections.
    pub fn dialer(&self) -> Rc<Dialer> {
        Rc::clone(&self.0.dialer)
    }

    /// Creates a call. It starts in its first turn, which is due at once.
    ///
    /// # Errors
    /// The request is not valid.
    pub fn begin(&self, request: &Request<'_>, now: Instant) -> Result<Call, Error> {
        let url = without_credentials(request.url);
        let recorded = match self.0.http.record(request.method, request.url, request.headers, request.body) {
            Ok(recorded) => Rc::new(recorded),
            Err(cause) => return Err(Error { method: request.method, url, cause }),
        };
        let limits = self.0.limits;
        let node = match request.socket {
            Some(path) => Endpoint::Unix(path.to_owned()),
            None => Endpoint::Tcp { host: recorded.host.clone(), port: recorded.port, tls: recorded.tls },
        };
        Ok(Call {
            client: Rc::clone(&self.0),
            method: request.method,
            url,
            recorded,
            node,
            kind: request.kind,
            stale: request.stale,
            head_within: request.head_within.unwrap_or(limits.answer),
            state: State::Begun,
            end: (request.kind == Kind::Whole && request.head_within.is_none()).then(|| now + limits.whole),
            again: Some(now),
            received: 0,
        })
    }
}

impl Shared {
    /// Takes the kept connection to a node, if there is one.
    ///
    /// # Errors
    /// It cannot be used any more: the server has closed it, or has sent more than its answer.
    fn take(&self, node: &Endpoint, now: Instant) -> Result<Option<Link>, Cause> {
        let mut kept = self.idle.borrow_mut();
        kept.retain(|one| now.saturating_duration_since(one.since) < KEPT_CONNECTION);
        let Some(at) = kept.iter().position(|one| one.node == *node) else { return Ok(None) };
        let mut link = kept.remove(at).link;
        if link.is_idle() { Ok(Some(link)) } else { Err(Cause::Stale) }
    }

    fn keep(&self, node: Endpoint, link: Link, now: Instant) {
        let mut kept = self.idle.borrow_mut();
        kept.retain(|one| one.node != node && now.saturating_duration_since(one.since) < KEPT_CONNECTION);
        if kept.len() == MOST_IDLE {
            kept.remove(0);
        }
        kept.push(Idle { node, link, since: now });
    }
}

/// A request in progress. Dropping it aborts it and closes its connection.
pub struct Call {
    client: Rc<Shared>,
    method: &'static str,
    /// The URL without credentials.
    url: String,
    recorded: Rc<Recorded>,
    node: Endpoint,
    kind: Kind,
    stale: Stale,
    head_within: Duration,
    state: State,
    /// The deadline of the whole call.
    end: Option<Instant>,
    /// The next turn is due at once, because more bytes may be available.
    again: Option<Instant>,
    /// The number of bytes of the body so far.
    received: usize,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = &mut f.debug_struct("Call");
        call.field("method", &self.method).field("url", &self.url).field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum State {
    Begun,
    /// Looking up the name, connecting, then setting up TLS.
    Dialing(Dial),
    Asking {
        exchange: Exchange,
        /// The link was used by an earlier call.
        kept: bool,
        step: Step,
        until: Instant,
    },
    Reading {
        exchange: Exchange,
        /// The deadline for the next piece; `None`: a stream.
        until: Option<Instant>,
    },
    Over(Option<Head>),
}

/// The step before the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Sending,
    Awaiting,
}

impl Call {
    /// Whether there is no connection yet.
    pub fn is_dialing(&self) -> bool {
        matches!(self.state, State::Begun | State::Dialing(_))
    }

    /// Appends the descriptors to poll. Called before every poll, because the descriptors change.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        match &self.state {
            State::Begun | State::Over(_) => {}
            State::Dialing(dial) => dial.interests(out),
            State::Asking { exchange, .. } | State::Reading { exchange, .. } => exchange.interests(out),
        }
    }

    /// When a turn is due although nothing is ready; `None`: never (a stream).
    pub fn due(&self) -> Option<Instant> {
        let step = match &self.state {
            State::Begun | State::Over(_) => None,
            State::Dialing(dial) => dial.due(),
            State::Asking { until, .. } => Some(*until),
            State::Reading { until, .. } => *until,
        };
        [self.again, step, self.end].into_iter().flatten().min()
    }

    /// Continues as far as possible without waiting. Appends received bytes of the body to `into`: about `budget` bytes
    /// at most, and less if they come in small pieces. The appended bytes stay valid if the call fails later.
    ///
    /// # Errors
    /// The answer is missing or incomplete. No turn may follow.
    pub fn turn(&mut self, now: Instant, budget: usize, into: &mut Vec<u8>) -> Result<Progress, Error> {
        self.again = None;
        // The work comes before the deadline: an answer that has arrived counts even if the loop is late.
        let progress = self.advance(now, budget, into).and_then(|progress| match self.late(now) {
            Some(late) if matches!(progress, Progress::Waiting | Progress::More) => Err(late),
            _ => Ok(progress),
        });
        if matches!(progress, Ok(Progress::Head | Progress::More)) {
            self.again = Some(now);
        }
        progress.map_err(|cause| {
            self.state = State::Over(None);
            Error { method: self.method, url: self.url.clone(), cause }
        })
    }

    /// The status of the answer; `None`: the head has not arrived.
    pub fn status(&self) -> Option<u16> {
        self.head().map(|head| head.status)
    }

    /// The value of a header of the answer; `None`: it is missing, or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head()?.header(name)
    }

    fn head(&self) -> Option<&Head> {
        match &self.state {
            State::Reading { exchange, .. } => exchange.head(),
            State::Over(head) => head.as_ref(),
            State::Begun | State::Dialing(_) | State::Asking { .. } => None,
        }
    }

    /// The missing part of the answer, for the error of a caller that gives up.
    pub fn missing(&self) -> &'static str {
        match &self.state {
            State::Begun => "no connection",
            State::Dialing(dial) => dial.missing(),
            State::Asking { step: Step::Sending, .. } => "request not taken",
            State::Asking { step: Step::Awaiting, .. } => "no answer",
            State::Reading { .. } | State::Over(_) => "rest of the answer not received",
        }
    }

    fn advance(&mut self, now: Instant, budget: usize, into: &mut Vec<u8>) -> Result<Progress, Cause> {
        loop {
            match &mut self.state {
                State::Begun => match self.client.take(&self.node, now) {
                    Ok(Some(link)) => self.ask(link, true, now),
                    Err(stale) if self.stale == Stale::Fail => return Err(stale),
                    Ok(None) | Err(_) => self.dial(now)?,
                },
                State::Dialing(dial) => match dial.turn(&self.client.dialer, now)? {
                    Some(link) => self.ask(link, false, now),
                    None => return Ok(Progress::Waiting),
                },
                State::Asking { exchange, kept, step, until } => {
                    let advance = match exchange.advance() {
                        Ok(advance) => advance,
                        Err(Cause::Closed) if exchange.is_unanswered() => {
                            if !*kept {
                                return Err(self.closed());
                            }
                            match self.stale {
                                // The new link was used by no other call, so this happens once.
                                Stale::Repeat => self.dial(now)?,
                                Stale::RepeatUnsent => return Err(Cause::Closed),
                                Stale::Fail => return Err(Cause::Stale),
                            }
                            continue;
                        }
                        Err(cause) => return Err(cause),
                    };
                    if *step == Step::Sending && exchange.is_sent() {
                        (*step, *until) = (Step::Awaiting, now + self.head_within);
                    }
                    match advance {
                        Advance::Waiting => return Ok(Progress::Waiting),
                        Advance::More => return Ok(Progress::More),
                        Advance::Head => return Ok(self.read_on(now)),
                    }
                }
                State::Reading { exchange, until } => {
                    let before = into.len();
                    let received = exchange.read(into, budget.max(1));
                    let count = into.len() - before;
                    if let (Some(until), true) = (until, count > 0) {
                        *until = now + self.client.limits.answer;
                    }
                    self.received = self.received.saturating_add(count);
                    if self.end.is_some() && self.received > self.client.limits.size {
                        return Err(Cause::TooLong { bytes: self.client.limits.size });
                    }
                    match received? {
                        Received::Waiting => return Ok(Progress::Waiting),
                        Received::More => return Ok(Progress::More),
                        Received::Ended => return Ok(self.finish(now)),
                    }
                }
                State::Over(_) => return Err(Cause::Other("the call is over".to_owned())),
            }
        }
    }

    fn dial(&mut self, now: Instant) -> Result<(), Cause> {
        self.state = State::Dialing(self.client.dialer.dial(&self.node, now)?);
        Ok(())
    }

    fn ask(&mut self, link: Link, kept: bool, now: Instant) {
        let exchange = Exchange::new(&self.client.http, Rc::clone(&self.recorded), link);
        let until = now + self.client.limits.answer;
        self.state = State::Asking { exchange, kept, step: Step::Sending, until };
    }

    /// Takes the head.
    fn read_on(&mut self, now: Instant) -> Progress {
        let limits = self.client.limits;
        if let State::Asking { exchange, .. } = mem::replace(&mut self.state, State::Over(None)) {
            let is_stream = self.kind == Kind::Stream && exchange.head().is_some_and(|head| head.status == 200);
            if !is_stream && self.end.is_none() {
                self.end = Some(now + limits.whole);
            }
            self.state = State::Reading { exchange, until: (!is_stream).then(|| now + limits.answer) };
            self.client.answered.borrow_mut().insert(self.node.clone());
        }
        Progress::Head
    }

    /// Takes the end of the body.
    fn finish(&mut self, now: Instant) -> Progress {
        if let State::Reading { exchange, .. } = mem::replace(&mut self.state, State::Over(None)) {
            let (head, link) = exchange.finish();
            if let Some(link) = link {
                self.client.keep(self.node.clone(), link, now);
            }
            self.state = State::Over(head);
        }
        Progress::Ended
    }

    /// The error of a new connection that was closed before any byte of an answer.
    fn closed(&self) -> Cause {
        let may_want_tls = matches!(self.node, Endpoint::Tcp { tls: false, .. });
        match !may_want_tls || self.client.answered.borrow().contains(&self.node) {
            true => Cause::Closed,
            false => Cause::Other(format!("{} before it answered: does it want https?", Cause::Closed)),
        }
    }

    /// The limit that has passed.
    fn late(&self, now: Instant) -> Option<Cause> {
        let limits = self.client.limits;
        let late = |missed, limit| Some(Cause::Late { missed, limit });
        if self.end.is_some_and(|end| end <= now) {
            return late("whole answer not received", limits.whole);
        }
        match &self.state {
            State::Asking { step: Step::Sending, until, .. } if *until <= now => {
                late("request not taken", limits.answer)
            }
            State::Asking { step: Step::Awaiting, until, .. } if *until <= now => late("no answer", self.head_within),
            State::Reading { until: Some(until), .. } if *until <= now => {
                late("rest of the answer not received", limits.answer)
            }
            _ => None,
        }
    }
}

/// A URL without `user:password@`, for logs and errors.
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let mut end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A password with a slash makes its beginning look like a port. In doubt, too much is hidden.
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

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The method of the request.
    pub method: &'static str,
    /// The URL without credentials.
    pub url: String,
    /// The cause.
    pub cause: Cause,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {} {}: {}", self.method, self.url, self.cause)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

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
