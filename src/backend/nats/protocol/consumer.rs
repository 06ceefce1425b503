//! The consumer of one resource: counts its messages, collects the keys of a read and then the changes, and decides
//! what follows for the connection. Creates and ends no consumer: see `protocol`.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Settings;
use crate::backend::keys::Keys;
use crate::backend::nats::mirror::{self, Applied, Mirror};
use crate::backend::nats::wire::{self, Message, Position};
use crate::backend::protocol::{Id, Output};
use crate::backend::tally::Tally;
use crate::backend::{Change, Report};
use crate::config::ReadLimits;
use crate::store::Bytes;

/// The consumer of one resource.
pub struct Consumer {
    pub id: Id,
    pub state: State,
    pub mirror: Mirror,
    tally: Tally,
    /// The number of the last message.
    pub delivered: u64,
    /// Its number in the stream; 0: there was none.
    pub sequence: u64,
    /// The time of the last message.
    pub last_received: Instant,
    pub since: Instant,
    changes: Vec<Change>,
    trigger: bool,
}

/// The progress of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The request for the consumer is sent. Messages may arrive before its answer.
    Asked { is_over: bool },
    /// The consumer delivers the existing keys, this many messages in total.
    Loading { count: u64 },
    /// The consumer delivers changes.
    Live,
}

/// What follows for a consumer after a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Nothing,
    /// All keys have arrived.
    Loaded,
    /// The consumer cannot continue. The text is for the log.
    Lost(&'static str),
    /// The bucket has to be read again without a failure. The text is for the log.
    Again(&'static str),
    /// The read exceeds its limits.
    TooMany(String),
}

impl Consumer {
    /// A consumer whose request is sent at `now`.
    pub fn new(id: Id, limits: ReadLimits, now: Instant) -> Consumer {
        Consumer {
            id,
            state: State::Asked { is_over: false },
            mirror: Mirror::default(),
            tally: Tally::new(limits),
            delivered: 0,
            sequence: 0,
            last_received: now,
            since: now,
            changes: Vec::new(),
            trigger: false,
        }
    }

    /// The deadline of the awaited answer.
    pub fn late(&self, settings: &Settings) -> Instant {
        self.last_received + if self.state == State::Live { settings.watch_deadline } else { settings.timeout }
    }

    /// Reports the changes since the last report.
    pub fn flush(&mut self) -> Option<Output> {
        let (changes, trigger) = (std::mem::take(&mut self.changes), std::mem::take(&mut self.trigger));
        (trigger || !changes.is_empty()).then_some(Output::Report(self.id, Report::Changes { changes, trigger }))
    }

    /// Takes a heartbeat. The server awaits an answer if messages are held back.
    pub fn heartbeat(&mut self, message: &Message<'_>, answers: &mut Answers) -> Next {
        let stalled = message.headers.get("Nats-Consumer-Stalled");
        if let Some(subject) = message.reply.or(stalled) {
            answers.flow(message.subscription, subject);
            return Next::Nothing;
        }
        match message.headers.number("Nats-Last-Consumer") {
            Some(last) if last != self.delivered => Next::Lost("consumer has a gap, reading the bucket again"),
            // No message is left to deliver: the counted ones have expired meanwhile.
            Some(_) if matches!(self.state, State::Loading { .. }) => Next::Loaded,
            Some(_) | None => Next::Nothing,
        }
    }

    /// Takes a message of the bucket.
    pub fn delivery(&mut self, message: &Message<'_>, key: &str, wanted: &Keys, watched: &Keys) -> Next {
        let Some(position) = message.reply.and_then(Position::of) else {
            return Next::Lost("message without a position, reading the bucket again");
        };
        if position.consumer != self.delivered.saturating_add(1) {
            return Next::Lost("consumer has a gap, reading the bucket again");
        }
        (self.delivered, self.sequence) = (position.consumer, position.stream);
        let headers = message.headers;
        let is_removed = headers.get("KV-Operation").is_some_and(|operation| matches!(operation, "DEL" | "PURGE"))
            || headers.get("Nats-Marker-Reason").is_some();
        let path = mirror::path(key);
        let is_wanted = wanted.covers(&path);
        let name = if is_wanted { mirror::store_key(wanted, key, &path) } else { None };
        if self.state == State::Live {
            if let Some(name) = name {
                let value = (!is_removed).then(|| Bytes::from(message.payload));
                match self.mirror.apply(name, key, position.stream, value) {
                    Applied::Change(change) => self.changes.push(change),
                    Applied::ReadAgain => return Next::Again("a key shares its name, reading the bucket again"),
                }
            }
            self.trigger |= watched.covers(&path);
            return Next::Nothing;
        }
        if let Some(name) = name {
            if !is_removed && let Err(words) = self.tally.add(key.as_bytes(), message.payload) {
                return Next::TooMany(words);
            }
            let value = (!is_removed).then(|| Bytes::from(message.payload));
            self.mirror.load(name, key, position.stream, value);
        }
        match &mut self.state {
            State::Asked { is_over } => *is_over |= position.pending == 0,
            State::Loading { count } if position.pending == 0 || self.delivered >= *count => return Next::Loaded,
            State::Loading { .. } | State::Live => {}
        }
        Next::Nothing
    }
}

/// The answers to a whole piece, which are sent once: repeated pings in one piece get one answer.
#[derive(Default)]
pub struct Answers {
    pub pong: bool,
    /// The last flow control subject of each consumer.
    flow: BTreeMap<u64, String>,
}

impl Answers {
    /// Notes the subject of a consumer's flow control message, in place of the consumer's earlier one. Ignores a text
    /// that cannot be a subject.
    pub fn flow(&mut self, consumer: u64, subject: &str) {
        if wire::is_subject(subject) {
            self.flow.insert(consumer, subject.to_owned());
        }
    }

    /// The answers in NATS's client protocol: one `PONG`, if there was a ping, and one empty `PUB` for each consumer.
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = if self.pong { b"PONG\r\n".to_vec() } else { Vec::new() };
        self.flow.values().for_each(|subject| bytes.extend(wire::publish(subject, None, "")));
        bytes
    }
}
