//! The interface between a store's protocol and its driver: results of calls and the time go in, calls to begin and
//! reports come out. A protocol is pure: it does no I/O, reads no clock, and does not choose nodes or the time of a
//! retry. `driver` performs its outputs.

use std::time::{Duration, Instant};

use super::Report;
use crate::config;

/// One subscription of a resource to a store. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub u64);

/// The number of a call, chosen by the protocol. It is free again when the call has ended, failed or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub usize);

/// The protocol of one store, for all resources that share it.
pub trait Protocol: Subscribers {
    /// Adds a resource. Its first request is made in the next turn.
    fn add(&mut self, id: Id, options: &config::Backend, out: &mut Vec<Output>);

    /// Removes a resource.
    fn remove(&mut self, id: Id, out: &mut Vec<Output>);

    /// Handles an input.
    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>);

    /// Sends the store's closing messages, if it has any. No further input follows.
    fn shut_down(&mut self, _out: &mut Vec<Output>) {}

    /// The names of the response headers that the protocol needs.
    fn headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// When the next [`Input::Turn`] is due; `None`: not before another input.
    fn due(&self) -> Option<Instant>;

    /// The revision of a resource's keys, as the store counts its changes; `None`: nothing was read yet, or the store
    /// does not count.
    fn revision(&self, _id: Id) -> Option<u64> {
        None
    }
}

/// The subscribers, as the driver needs them.
pub trait Subscribers {
    /// The subscribers that need a node now.
    fn waiting(&self) -> Vec<Id>;

    /// The time limit of a one-shot run has passed: no further request is made.
    fn give_up(&mut self);

    /// The driver has switched to another node. `name` is its text in messages.
    fn use_node(&mut self, name: &str);
}

/// An input of the protocol.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed, and no pause after a failure is in progress: the moment to begin calls.
    Turn,
    /// The head of an answer arrived.
    Head(CallId, Head<'a>),
    /// A piece of a body, or bytes of a connection, arrived.
    Body(CallId, &'a [u8]),
    /// The answer is complete, or the server closed the connection. The call has ended.
    End(CallId),
    /// The answer is missing or incomplete, the connection could not be made, or it broke. The call has ended.
    Failed(CallId, Failure),
    /// The result of [`Output::ReadCredentials`]. `Ok(None)`: the configuration names no user. The error is verb,
    /// subject, cause.
    Credentials(Result<Option<Credentials>, String>),
    /// The connection of [`Output::Connect`], or the TLS of [`Output::Secure`], is established.
    Connected(CallId),
    /// All bytes that have arrived were passed on: the moment to report changes together.
    Quiet,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The status of HTTP, such as 200.
    pub status: u16,
    /// The headers of [`Protocol::headers`] that the answer has.
    pub headers: &'a [(&'static str, String)],
}

impl Head<'_> {
    /// The value of a header, if the answer has it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(is, _)| *is == name).map(|(_, value)| value.as_str())
    }
}

/// Why a call has no complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind, which decides the next step of the protocol.
    pub kind: FailureKind,
    /// The cause, in words.
    pub words: String,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The connection was closed.
    Closed,
    /// The node closed the kept connection before any byte of the answer to a request with [`Stale::Fail`].
    Stale,
    /// A time limit passed: for the connection, the head, or the whole answer.
    TimedOut,
    /// The answer exceeds its size limit.
    TooLarge,
    /// The program of a store is missing or not executable. The user has to correct that.
    Unusable,
    /// Any other failure, such as a refused connection.
    Other,
}

/// The name and password of a user as they are now.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Empty where the store has a password without a user.
    pub user: config::Secret,
    /// May be empty.
    pub password: config::Secret,
}

/// An action for the driver.
#[derive(Debug)]
pub enum Output {
    /// Sends a request to the current node.
    Begin(CallId, Request),
    /// Connects to the current node. The protocol makes and reads the bytes on the connection until it is cancelled,
    /// closed or broken. The connection has a number, as a call has.
    Connect(CallId, Security),
    /// Sends bytes on a connection, in order, when it is established.
    Send(CallId, Vec<u8>),
    /// Sets up TLS on an established plain connection; [`Input::Connected`] follows again. No bytes may have been
    /// received after the message that requested TLS.
    Secure(CallId),
    /// Cancels a call or closes a connection, if it is in progress. No further input has its number.
    Cancel(CallId),
    /// Releases a connection whose other end is a program: the bytes before are still sent, and its further output is
    /// read and dropped. It has time to end by itself. No further input has this number.
    Release(CallId),
    /// Reads name and password, from their files if the configuration names files; see [`Input::Credentials`].
    ReadCredentials,
    /// A report to a subscriber.
    Report(Id, Report),
    /// The requests of a subscriber succeed. If a failure was reported to it, its end is reported too.
    Healthy(Id),
    /// The node failed. All calls are cancelled, and the next node is used after a pause.
    NodeFailed {
        /// Verb, node, cause.
        words: String,
        /// The earliest end of the pause.
        not_before: Option<Instant>,
    },
    /// A request to the only node failed, but its other calls continue. The request is retried after a pause.
    RequestFailed {
        /// As for [`Output::NodeFailed`].
        words: String,
    },
    /// No node will succeed: a one-shot run ends with the next failure.
    FailFast,
    /// All requests succeed: earlier failures are no longer part of error texts.
    Worked,
    /// The connection lasted: the next failure is retried soon.
    ResetBackoff,
    /// Another backend with these options replaces this one.
    Replace(Box<config::Backend>),
}

/// Whether a connection is made with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Without.
    Plain,
    /// With TLS from the first byte on. The files come from the store's options.
    Tls,
}

/// A request over HTTP.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The HTTP method, in capitals.
    pub method: &'static str,
    /// Path and query, appended to the URL of the node.
    pub target: String,
    /// Names and values. Values may be secret.
    pub headers: Vec<(String, config::Secret)>,
    /// The body; `None`: none. Its length is sent with it.
    pub body: Option<String>,
    /// Whether the answer is finite.
    pub kind: RequestKind,
    /// The behaviour if the node closed the kept connection before any byte of the answer.
    pub stale: Stale,
    /// Whether the user in the URL of the node is omitted.
    pub anonymous: bool,
    /// The time limit for the head, counted from the end of sending; `None`: the usual one.
    pub head_within: Option<Duration>,
}

/// What happens to a request if the node closed the kept connection before any byte of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// The request is sent on a new connection.
    Repeat,
    /// The request is sent on a new connection unless the node may have received it.
    RepeatUnsent,
    /// The request fails with [`FailureKind::Stale`].
    Fail,
}

/// Whether an answer is finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A finite answer, with a time limit.
    Whole,
    /// With status 200, an answer without a time limit.
    Stream,
}

impl Request {
    /// A GET request with a finite answer.
    pub fn get(target: String) -> Request {
        let (headers, kind) = (Vec::new(), RequestKind::Whole);
        Request {
            method: "GET",
            target,
            headers,
            body: None,
            kind,
            stale: Stale::Repeat,
            anonymous: false,
            head_within: None,
        }
    }

    /// Forbids that the request is repeated, because the server may count it.
    pub fn once(self) -> Request {
        Request { stale: Stale::RepeatUnsent, ..self }
    }

    /// Lets the request fail with [`FailureKind::Stale`] if the kept connection was closed: the node may have restarted.
    pub fn failing_if_stale(self) -> Request {
        Request { stale: Stale::Fail, ..self }
    }

    /// A POST request with a finite answer.
    pub fn post(target: &str, body: String) -> Request {
        Request { method: "POST", body: Some(body), ..Request::get(target.to_owned()) }
    }

    /// Adds a header.
    pub fn with_header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), config::Secret::new(value.to_owned())));
        self
    }

    /// Omits the user in the URL of the node.
    pub fn anonymous(self) -> Request {
        Request { anonymous: true, ..self }
    }

    /// Expects an answer without a time limit.
    pub fn streamed(self) -> Request {
        Request { kind: RequestKind::Stream, ..self }
    }
}
