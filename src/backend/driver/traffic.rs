//! One call of a driver, whether it is an HTTP request or a connection with the protocol's own bytes: what to poll for,
//! when it is due, and its turn. Does not know which protocol it belongs to.

use std::io::{self, ErrorKind};
use std::time::Instant;

use crate::backend::protocol::{Failure, FailureKind, RequestKind};
use crate::host::client::{self, Call, Cause};
use crate::host::connection::{self, Connection};
use crate::host::wait::Interest;

/// The number of bytes that one call may return in a turn.
const BUDGET: usize = 128 * 1024;

/// A call in progress.
pub struct Ongoing {
    /// The position among all calls, which is unique: a [`CallId`] is used again after the end of its call.
    pub serial: u64,
    /// The call itself.
    pub traffic: Traffic,
}

/// An HTTP call, or a connection whose bytes belong to the protocol.
pub enum Traffic {
    /// An HTTP call.
    Http(Call, RequestKind),
    /// A connection.
    Bytes(Connection),
}

/// The result of a call's turn.
pub enum Progress {
    /// Nothing more until a descriptor is ready.
    Waiting,
    /// The budget is used up.
    More,
    /// The head of an answer arrived.
    Head,
    /// The connection is established.
    Connected,
    /// The answer is complete, or the connection was closed.
    Ended,
}

impl Traffic {
    /// Appends the descriptors to poll.
    pub fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        match self {
            Traffic::Http(call, _) => call.interests(out),
            Traffic::Bytes(connection) => connection.interests(out),
        }
    }

    /// When the next turn is due although no descriptor is ready.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Traffic::Http(call, _) => call.due(),
            Traffic::Bytes(connection) => connection.due(),
        }
    }

    /// Whether the answer has no time limit.
    pub fn is_stream(&self) -> bool {
        match self {
            Traffic::Http(_, kind) => *kind == RequestKind::Stream,
            Traffic::Bytes(_) => true,
        }
    }

    /// Whether there is no connection yet.
    pub fn is_dialing(&self) -> bool {
        match self {
            Traffic::Http(call, _) => call.is_dialing(),
            Traffic::Bytes(connection) => connection.is_dialing(),
        }
    }

    /// The missing part of the answer, for an error.
    pub fn missing(&self) -> &'static str {
        match self {
            Traffic::Http(call, _) => call.missing(),
            Traffic::Bytes(connection) => connection.missing(),
        }
    }

    /// Continues until the budget is used up.
    pub fn turn(&mut self, now: Instant, into: &mut Vec<u8>) -> Result<Progress, Cause> {
        match self {
            Traffic::Http(call, _) => match call.turn(now, BUDGET, into) {
                Ok(client::Progress::Waiting) => Ok(Progress::Waiting),
                Ok(client::Progress::More) => Ok(Progress::More),
                Ok(client::Progress::Head) => Ok(Progress::Head),
                Ok(client::Progress::Ended) => Ok(Progress::Ended),
                Err(error) => Err(error.cause),
            },
            Traffic::Bytes(connection) => match connection.turn(now, BUDGET, into)? {
                connection::Progress::Waiting => Ok(Progress::Waiting),
                connection::Progress::More => Ok(Progress::More),
                connection::Progress::Connected => Ok(Progress::Connected),
                connection::Progress::Ended => Ok(Progress::Ended),
            },
        }
    }
}

/// The failure of a call, for the protocol.
pub fn failure(cause: &Cause) -> Failure {
    let kind = match cause {
        Cause::Closed => FailureKind::Closed,
        Cause::Stale => FailureKind::Stale,
        Cause::Late { .. } => FailureKind::TimedOut,
        Cause::TooLong { .. } => FailureKind::TooLarge,
        Cause::Other(_) => FailureKind::Other,
    };
    Failure { kind, words: cause.to_string() }
}

/// The failure of a program that could not be started, for the protocol.
pub fn not_started(error: &io::Error) -> Failure {
    let kind = match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::Unsupported => FailureKind::Unusable,
        _ => FailureKind::Other,
    };
    Failure { kind, words: Cause::of_io(error).to_string() }
}
