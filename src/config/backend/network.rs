//! The limits of the requests to a store on the network: their rows and values.
//! Measures nothing.

use std::time::Duration;

use super::read_limits::{self, READ_LIMITS, ReadLimits};
use crate::config::reader::Reader;
use crate::config::report::Report;
use crate::config::schema::{Default, Key, Schema, Type, Unit, key};

/// The limits of requests to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The timeout of each step of a request: sending it, the head of the response, each piece of the rest.
    pub request_timeout: Duration,
    /// The timeout of a connection, over all addresses of a name.
    pub dial_timeout: Duration,
    /// The time that a one-shot run retries.
    pub timeout: Duration,
    /// The largest response, and the largest line of a watch, in bytes.
    pub max_response: usize,
    /// The limits of one read.
    pub read: ReadLimits,
}

pub(super) static NETWORK: &[Key] = &[
    key(
        "request_timeout",
        Type::Decimal(Unit::Seconds),
        Default::Number(3),
        "the timeout of each step of a request: sending it, with the TLS handshake; waiting for the head of the \
         response; waiting for each piece of the rest",
    ),
    key(
        "dial_timeout",
        Type::Decimal(Unit::Seconds),
        Default::Number(5),
        "the timeout of a connection, over all addresses of the node's name",
    ),
    TIMEOUT,
    key(
        "max_response",
        Type::Integer(Unit::Bytes),
        Default::Number(256 << 20),
        "the largest response, and the largest line of a watch; at least 1",
    ),
];

/// The time that a one-shot run retries.
pub(super) const TIMEOUT: Key = key(
    "timeout",
    Type::Decimal(Unit::Seconds),
    Default::Number(30),
    "with `-onetime`: how long the keys of a resource may take, with all retries, before the resource fails. Without \
     `-onetime` a failed read is retried without end",
);

/// The time that a watch may be silent. `text`: the reaction, which differs between stores.
pub(super) const fn watch_deadline(text: &'static str) -> Key {
    key("watch_deadline", Type::Decimal(Unit::Seconds), Default::Number(30), text)
}

/// Reads the limits.
pub(super) fn parse(reader: &Reader) -> Network {
    Network {
        request_timeout: reader.time_limit("request_timeout"),
        dial_timeout: reader.time_limit("dial_timeout"),
        timeout: reader.time_limit("timeout"),
        max_response: reader.positive("max_response"),
        read: read_limits::parse(reader),
    }
}

impl std::default::Default for Network {
    fn default() -> Network {
        static ALONE: Schema = Schema { path: "", title: "the limits of requests", groups: &[NETWORK, READ_LIMITS] };
        parse(&Reader::of_nothing(&Report::of_defaults(), &ALONE))
    }
}
