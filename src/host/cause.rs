//! The common error of links, TLS and HTTP.
//! Does not name the server, and does not decide what follows.

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::error::cause;

/// Why a connection failed. Displays as a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server ended the connection.
    Closed,
    /// The server ended a kept connection before any byte of the next answer.
    Stale,
    /// A step took longer than its limit.
    Late {
        /// The missing event, such as "no answer".
        missed: &'static str,
        /// The limit that passed.
        limit: Duration,
    },
    /// A line or a body exceeds its limit.
    TooLong {
        /// The limit.
        bytes: usize,
    },
    /// Anything else.
    Other(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Closed | Cause::Stale => f.write_str("connection closed by the server"),
            Cause::Late { missed, limit } => write!(f, "{missed} within {limit:?}"),
            Cause::TooLong { bytes } => write!(f, "answer is longer than {bytes} bytes"),
            Cause::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Cause {}

impl Cause {
    /// Converts to an error of std that passes through rustls and ureq unchanged. Its kind is never one that ureq takes
    /// for the end of a body (UnexpectedEof, ConnectionReset, ConnectionAborted): a body cut short would look whole.
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Converts an error of the system or of [`Cause::into_io`].
    pub fn of_io(error: &io::Error) -> Cause {
        use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Cause>()) {
            Some(cause) => cause.clone(),
            None => match error.kind() {
                BrokenPipe | ConnectionReset | ConnectionAborted | UnexpectedEof => Cause::Closed,
                _ => Cause::Other(cause(error)),
            },
        }
    }
}
