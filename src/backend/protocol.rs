//! What a store's protocol is to its driver: events of its calls and the time go in, calls to begin and reports come out.
//! A protocol is pure: it opens nothing, reads no clock and no file, and knows neither nodes nor when they are tried again.
//! `driver` carries it out.

use std::time::{Duration, Instant};

use super::Report;
use crate::config;

/// A resource's part of a store, for as long as it is served. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub u64);

/// A call of a protocol, in numbers of its own. A number is free again when its call has ended, failed or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub usize);

/// One store, spoken to on behalf of all resources that share it.
pub trait Protocol: Subscribers {
    /// Serves one more resource from the next turn on.
    fn add(&mut self, id: Id, options: &config::Backend, out: &mut Vec<Output>);

    /// Serves a resource no more.
    fn remove(&mut self, id: Id, out: &mut Vec<Output>);

    /// Takes what happened.
    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>);

    /// Says goodbye on its connections, where the store wants that. Nothing more is told to the protocol.
    fn farewell(&mut self, _out: &mut Vec<Output>) {}

    /// The headers of answers that it wants to know.
    fn headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// When the next [`Input::Turn`] is wanted; `None`: not before something else happens.
    fn due(&self) -> Option<Instant>;
}

/// What a driver needs to know of its subscribers.
pub trait Subscribers {
    /// The subscribers that need something from a node.
    fn waiting(&self) -> Vec<Id>;

    /// The time of a one-shot run is over: nothing is asked for any more.
    fn give_up(&mut self);

    /// Another node is used from now on, which is shown so.
    fn use_node(&mut self, name: &str);
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed, and no failure is being waited out: the moment to begin calls.
    Turn,
    /// The head of an answer came.
    Head(CallId, Head<'a>),
    /// A piece of its body came, or bytes on a connection.
    Body(CallId, &'a [u8]),
    /// The answer is complete, and the call with it. A connection was closed by the server.
    End(CallId),
    /// The call brought no answer, or not all of it; the connection could not be made, or broke. It is over.
    Failed(CallId, Failure),
    /// What [`Output::ReadCredentials`] asked for. `Ok(None)`: the configuration names no user. The error is verb, subject,
    /// cause.
    Credentials(Result<Option<Credentials>, String>),
    /// The connection of [`Output::Connect`] stands, or the TLS of [`Output::Secure`].
    Connected(CallId),
    /// Everything that was at hand was given: time to report what came together.
    Quiet,
}

/// The head of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Of HTTP, such as 200.
    pub status: u16,
    /// Those of [`Protocol::headers`] that are there.
    pub headers: &'a [(&'static str, String)],
}

impl Head<'_> {
    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(is, _)| *is == name).map(|(_, value)| value.as_str())
    }
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For what the protocol does next.
    pub kind: FailureKind,
    /// The cause, in words.
    pub words: String,
}

/// What kind of end it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The connection was closed.
    Closed,
    /// A limit of time passed: to connect, for the head, or for a whole answer.
    TimedOut,
    /// The answer had more bytes than it may have.
    TooLarge,
    /// The program of a store is not there or cannot be executed: a user has to mend that.
    Unusable,
    /// Anything else: no connection, no HTTP.
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

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Makes a request to the node that is used.
    Begin(CallId, Request),
    /// Connects to the node that is used. The bytes on the connection are the protocol's, until it is cancelled, closed or
    /// breaks. A call as any other, with a number of the same kind.
    Connect(CallId, Security),
    /// Sends bytes on a connection, in order, once it stands.
    Send(CallId, Vec<u8>),
    /// Sets up TLS on a connection that stands without it; [`Input::Connected`] comes again. Nothing may have been received
    /// behind what called for it.
    Secure(CallId),
    /// Ends a call or closes a connection, if it is under way. Nothing more comes of it.
    Cancel(CallId),
    /// Lets go of a connection whose other end is a program: nothing more is sent, what was sent before is left to it, and what it
    /// still writes is read and dropped. It has time to end by itself. Nothing more comes of the call.
    Release(CallId),
    /// Reads name and password, also from their files; see [`Input::Credentials`].
    ReadCredentials,
    /// What a subscriber is told.
    Report(Id, Report),
    /// What a subscriber wants works. Those who were told of a failure are told of its end.
    Healthy(Id),
    /// The node did not do what it was asked for: verb, node, cause. All calls are ended, and the next node is used after a
    /// pause, which lasts until `not_before` at least.
    NodeFailed {
        /// Verb, node, cause.
        words: String,
        /// The pause lasts until then at least.
        not_before: Option<Instant>,
    },
    /// The only node of a store did not do what it was asked for, but its calls go on: verb, node, cause. It is asked again
    /// after a pause.
    Troubled {
        /// As for [`Output::NodeFailed`].
        words: String,
    },
    /// No node will do it: a one-shot run ends with the next failure.
    FailFast,
    /// Everything works: former failures are no longer told.
    Worked,
    /// The store lasted: failures are tried again soon.
    ResetBackoff,
    /// The resource is served by other means from now on.
    Replace(Box<config::Backend>),
}

/// Whether a connection is made with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Without.
    Plain,
    /// With TLS from the first byte on, by the files of the store's options.
    Tls,
}

/// A request over HTTP.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Of HTTP, in capitals.
    pub method: &'static str,
    /// Path and query, behind the URL of the node.
    pub target: String,
    /// By their names as they are sent. Values may hold secrets.
    pub headers: Vec<(String, config::Secret)>,
    /// With its length; `None`: a request without a body.
    pub body: Option<String>,
    /// How long the answer goes on.
    pub kind: RequestKind,
    /// Whether it may be sent once more, where a connection that was kept turns out to be closed.
    pub is_repeatable: bool,
    /// Without the user whom the URL of the node may name.
    pub anonymous: bool,
    /// How long the head may take once the request is sent; `None`: as long as any.
    pub head_within: Option<Duration>,
}

/// How long an answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// An answer that has an end, soon.
    Whole,
    /// With the status 200 it goes on for as long as both sides like.
    Stream,
}

impl Request {
    /// Gets a whole answer.
    pub fn get(target: String) -> Request {
        let (headers, kind) = (Vec::new(), RequestKind::Whole);
        Request {
            method: "GET",
            target,
            headers,
            body: None,
            kind,
            is_repeatable: true,
            anonymous: false,
            head_within: None,
        }
    }

    /// Is never sent a second time: the server may count it.
    pub fn once(self) -> Request {
        Request { is_repeatable: false, ..self }
    }

    /// Posts, and gets a whole answer.
    pub fn post(target: &str, body: String) -> Request {
        Request { method: "POST", body: Some(body), ..Request::get(target.to_owned()) }
    }

    /// Adds a header.
    pub fn with_header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), config::Secret::new(value.to_owned())));
        self
    }

    /// Leaves out the user whom the URL of the node may name.
    pub fn anonymous(self) -> Request {
        Request { anonymous: true, ..self }
    }

    /// Expects an answer that goes on.
    pub fn streamed(self) -> Request {
        Request { kind: RequestKind::Stream, ..self }
    }
}
