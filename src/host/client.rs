//! HTTP requests as states of the loop. A [`Call`] looks up the host, connects, sends, and receives head and body in
//! turns that never wait; a connection is kept for the next call to the same node. Owns limits, addresses and the one
//! repetition on a stale connection. No redirects, no proxies; dropping a call aborts it. The caller polls
//! [`Call::interests`] until [`Call::due`], then takes a [`Call::turn`] until it says [`Progress::Waiting`] or ends.

use std::fmt;
use std::time::{Duration, Instant};

use super::http::{Cause, Limits};
use super::wait::Interest;
use crate::config;

/// Makes calls to any number of servers. Clones share connections, names and files.
#[derive(Clone, Debug)]
pub struct Client {
    limits: Limits,
}

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'static str,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    /// Sent with its length. A POST or PUT without a body needs `Some(&[])`.
    pub body: Option<&'a [u8]>,
    /// It may be sent once more, on a new connection, when a kept connection was closed before any of the answer came.
    pub repeatable: bool,
    pub kind: Kind,
    /// How long the head may take once the request was sent; `None`: [`Limits::answer`]. For long polls.
    pub head_within: Option<Duration>,
}

/// What is expected of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An end within [`Limits::whole`], and no more than [`Limits::size`] bytes.
    Whole,
    /// A body that goes on for as long as both sides like. With a status other than 200 it is an ordinary answer, which
    /// has to end within [`Limits::whole`] from its head on.
    Stream,
}

/// A request under way. Dropping it aborts it and closes its connection.
#[derive(Debug)]
pub struct Call {
    due: Instant,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing more can be done now: poll.
    Waiting,
    /// The head has come: [`Call::status`] and [`Call::header`] are known. [`Call::due`] says to come again at once.
    Head,
    /// The turn's budget is used up. There may be more at hand, which makes no descriptor readable: [`Call::due`] says to
    /// come again at once, after others had their turn.
    More,
    /// The answer is complete; the connection is kept where both sides want it. No turn may follow.
    Ended,
}

impl Client {
    /// `tls`: the files for https. They are read when a connection needs them.
    pub fn new(limits: Limits, _tls: config::Tls) -> Client {
        Client { limits }
    }

    /// Begins a call; nothing is sent before its first turn, which is due at once.
    ///
    /// # Errors
    /// The request is not valid.
    pub fn begin(&self, _request: &Request<'_>, now: Instant) -> Result<Call, Error> {
        Ok(Call { due: now + self.limits.whole })
    }
}

impl Call {
    /// Appends what is to be polled. Ask before every poll: the descriptors change.
    pub fn interests<'a>(&'a self, _out: &mut Vec<Interest<'a>>) {}

    /// When a turn is due although nothing is ready; `None`: never (a stream).
    pub fn due(&self) -> Option<Instant> {
        Some(self.due)
    }

    /// Goes on as far as it can without waiting. Appends to `into` what has come of the body: about `budget` bytes at most,
    /// and less where they come in crumbs. The bytes that were appended stay valid if the call fails later.
    ///
    /// # Errors
    /// No answer can be had, or the rest of it cannot. No turn may follow.
    pub fn turn(&mut self, _now: Instant, _budget: usize, _into: &mut Vec<u8>) -> Result<Progress, Error> {
        Ok(Progress::Waiting)
    }

    /// The status of the answer; `None`: its head has not come.
    pub fn status(&self) -> Option<u16> {
        None
    }

    /// The value of a header of the answer; `None` where there is none, or no text.
    pub fn header(&self, _name: &str) -> Option<&str> {
        None
    }
}

/// A call that brought no answer.
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
