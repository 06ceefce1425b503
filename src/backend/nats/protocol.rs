//! NATS as a protocol: logs in on one connection, and reads and watches a bucket with one consumer for each resource.
//! The messages of a consumer are numbered without gaps; after a gap or a silence the consumer is created again. `wire`
//! has the bytes of operations, `jetstream` those of requests.

mod consumer;
mod greeting;

use std::time::{Duration, Instant};

use self::consumer::{Answers, Consumer, Next, State};
use super::NAME;
use super::jetstream::{self, Refusal, Wanted};
use super::login::{Identity, Info, Kind, Sign};
use super::wire::{self, Message, Operation, Reader};
use crate::backend::failover::{LONGEST_BACKOFF, SLOW_RETRY};
use crate::backend::protocol::{CallId, Id, Input, Output, Protocol, Subscribers};
use crate::backend::readings::Readings;
use crate::backend::redact::Redactor;
use crate::backend::{Mode, Report};
use crate::config;
use crate::cut;
use crate::log::{Level, Line};
use crate::random::Random;
use crate::sorted::SortedMap;

/// The one connection.
const CALL: CallId = CallId(0);

/// A connection or consumer that lasted this long did not fail.
const LASTING: Duration = LONGEST_BACKOFF;

/// An idle connection is kept if a read is due within this time.
const KEPT: Duration = Duration::from_secs(30);

/// The subscription for replies. The subscriptions of consumers follow, because a consumer does not deliver to a
/// wildcard.
const REPLIES: u64 = 0;

/// The number of heartbeats within the longest silence of a consumer.
const HEARTBEATS: u32 = 3;

/// Bytes of the greeting of another kind of server that an error shows.
const SHOWN: usize = 40;

/// The options of a bucket.
pub struct Settings {
    /// The URLs of the nodes.
    pub nodes: Vec<String>,
    /// The URLs without credentials, for the log.
    pub shown: Vec<String>,
    /// The bucket.
    pub bucket: String,
    /// The kind of the credentials.
    pub kind: Kind,
    /// Whether TLS is required although the URL does not say so, because the configuration has files for it.
    pub secure: bool,
    /// The longest silence of a consumer.
    pub watch_deadline: Duration,
    /// The time limit for an answer.
    pub timeout: Duration,
    /// The size limit of one message, in bytes.
    pub max_response: usize,
    /// The limits of one read.
    pub limits: config::ReadLimits,
    /// Signs for a user with a key.
    pub sign: Sign,
}

/// A bucket, and the resources that share it.
pub struct Nats {
    settings: Settings,
    readings: Readings,
    /// The index of the current node.
    node: usize,
    stage: Stage,
    reader: Reader,
    /// The INFO of the server.
    info: Info,
    /// The unique part of the names of inboxes and consumers.
    unique: String,
    /// The number of the last subscription.
    last: u64,
    consumers: SortedMap<u64, Consumer>,
    /// The sequence number in the stream that the reported keys of each resource have reached.
    sequences: SortedMap<Id, u64>,
    /// The identity of the login.
    identity: Identity,
    /// The texts that errors must not show.
    secrets: Redactor,
    random: Random,
    /// The time of the last input.
    now: Instant,
}

/// The stage of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No connection.
    Idle,
    /// The files with credentials are being read. The connection follows, so that errors can hide them.
    Reading,
    /// The connection is being made.
    Connecting,
    /// The server has to send INFO by this moment.
    Greeting(Instant),
    /// TLS is being set up.
    Securing,
    /// The server has to confirm the login by this moment.
    LoggingIn(Instant),
    /// The connection is usable, since this moment.
    Ready(Instant),
}

impl Nats {
    /// `seed` makes the names unique, and spreads reads over time.
    pub fn new(settings: Settings, mode: Mode, seed: u64, now: Instant) -> Nats {
        let mut secrets = Redactor::default();
        settings.nodes.iter().for_each(|node| secrets.hide_credentials_of(node));
        Nats {
            readings: Readings::new(NAME, mode, seed),
            node: 0,
            stage: Stage::Idle,
            reader: Reader::new(settings.max_response),
            info: Info::default(),
            unique: format!("{seed:016x}"),
            last: 0,
            consumers: SortedMap::new(),
            sequences: SortedMap::new(),
            identity: Identity::Anonymous,
            secrets,
            random: Random::new(seed ^ 1),
            now,
            settings,
        }
    }

    fn shown(&self) -> &str {
        self.settings.shown.get(self.node).map_or("", |node| node)
    }

    fn url(&self) -> &str {
        self.settings.nodes.get(self.node).map_or("", |node| node)
    }

    /// Whether TLS is required even if the server does not require it.
    fn needs_tls(&self) -> bool {
        self.settings.secure || self.url().starts_with("tls://")
    }

    fn later(&self) -> Instant {
        self.now + self.settings.timeout
    }

    /// The pause before a retry if an operator has to correct the cause.
    fn slow_retry(&mut self) -> Duration {
        self.random.between(SLOW_RETRY, SLOW_RETRY * 3)
    }

    /// The step of the connection, for errors.
    fn verb(&self) -> &'static str {
        match self.stage {
            Stage::Idle | Stage::Connecting | Stage::Greeting(_) | Stage::Securing => "connect to",
            Stage::Reading | Stage::LoggingIn(_) => "log in to",
            Stage::Ready(_) if self.consumers.values().any(|consumer| consumer.state != State::Live) => "read from",
            Stage::Ready(_) => "watch",
        }
    }

    fn fail(&mut self, words: &str, out: &mut Vec<Output>) {
        self.fail_until(words, None, out);
    }

    /// Reports that the node failed, and drops the connection with its consumers.
    fn fail_until(&mut self, words: &str, not_before: Option<Instant>, out: &mut Vec<Output>) {
        let words = format!("failed to {} {}: {words}", self.verb(), self.shown());
        if let Stage::Ready(since) = self.stage
            && self.now.saturating_duration_since(since) >= LASTING
        {
            out.push(Output::ResetBackoff);
        }
        self.flush(out);
        self.disconnect();
        self.readings.failed(true);
        out.push(Output::NodeFailed { words, not_before });
    }

    /// Reports a failure that an operator has to correct.
    fn lock_out(&mut self, words: &str, out: &mut Vec<Output>) {
        out.push(Output::FailFast);
        let not_before = self.now + self.slow_retry();
        self.fail_until(words, Some(not_before), out);
    }

    fn disconnect(&mut self) {
        self.stage = Stage::Idle;
        self.consumers.clear();
        self.reader = Reader::new(self.settings.max_response);
    }

    fn turn(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let timeout = self.settings.timeout;
        match self.stage {
            Stage::Idle if self.readings.is_due(now) => {
                // The credentials are read for every login, so that a new password counts at once.
                self.stage = Stage::Reading;
                out.push(Output::ReadCredentials);
            }
            Stage::Greeting(until) if until <= now => {
                self.fail(
                    &format!("the server said nothing within {timeout:?}: it may be no NATS, or want TLS first"),
                    out,
                );
            }
            Stage::LoggingIn(until) if until <= now => self.fail(&format!("no answer within {timeout:?}"), out),
            Stage::Ready(_) => self.use_connection(out),
            Stage::Idle | Stage::Connecting | Stage::Greeting(_) => {}
            Stage::Securing | Stage::Reading | Stage::LoggingIn(_) => {}
        }
    }

    /// Ends silent consumers, and creates missing ones.
    fn use_connection(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let silent = self.consumers.iter().filter(|(_, consumer)| consumer.late(&self.settings) <= now);
        let silent: Vec<(u64, State)> = silent.map(|(number, consumer)| (*number, consumer.state)).collect();
        for (number, state) in silent {
            if state != State::Live {
                let words = format!("bucket `{}`: no answer within {:?}", self.settings.bucket, self.settings.timeout);
                return self.fail(&words, out);
            }
            // No further pause is needed after the silence.
            self.renew(number, "consumer is silent, reading the bucket again", out);
        }
        if self.consumers.values().any(|consumer| consumer.state != State::Live) {
            return;
        }
        if let Some(id) = self.readings.begin(now, out) {
            let old: Vec<u64> =
                self.consumers.iter().filter(|(_, old)| old.id == id).map(|(number, _)| *number).collect();
            old.into_iter().for_each(|number| self.end(number, out));
            return self.consume(id, out);
        }
        let is_needed = !self.consumers.is_empty() || self.readings.due().is_some_and(|due| due <= now + KEPT);
        if !is_needed {
            self.disconnect();
            out.push(Output::Cancel(CALL));
        }
    }

    /// Creates a consumer for a resource.
    fn consume(&mut self, id: Id, out: &mut Vec<Output>) {
        self.last += 1;
        let (number, bucket) = (self.last, &self.settings.bucket);
        let inbox = format!("_INBOX.{}.{number}", self.unique);
        let (subject, body) = jetstream::create(&Wanted {
            bucket,
            name: &format!("{}-{number}", self.unique),
            deliver: &inbox,
            heartbeat: self.settings.watch_deadline / HEARTBEATS,
            version: &self.info.version,
        });
        let mut lines = wire::subscribe(&inbox, number);
        lines.extend(wire::publish(&subject, Some(&format!("_INBOX.{}.r.{number}", self.unique)), &body));
        out.push(Output::Send(CALL, lines));
        self.consumers.insert(number, Consumer::new(id, self.settings.limits, self.now));
    }

    /// Ends a consumer: the server removes a consumer without a listener.
    fn end(&mut self, number: u64, out: &mut Vec<Output>) {
        out.extend(self.consumers.get_mut(&number).and_then(Consumer::flush));
        self.unsubscribe(number, out);
    }

    /// Drops a consumer with the changes that it has not reported.
    fn unsubscribe(&mut self, number: u64, out: &mut Vec<Output>) {
        if self.consumers.remove(&number).is_some() {
            out.push(Output::Send(CALL, wire::unsubscribe(number)));
        }
    }

    /// Ends a consumer whose messages are no longer reliable.
    fn lost(&mut self, number: u64, why: &'static str, out: &mut Vec<Output>) {
        let Some(Consumer { since, .. }) = self.consumers.get(&number) else { return };
        if self.now.saturating_duration_since(*since) < LASTING {
            // Otherwise reads would follow each other without the pause of a failure.
            return self.fail(why, out);
        }
        self.renew(number, why, out);
    }

    /// Ends a consumer, and has its resource read again by a new one.
    fn renew(&mut self, number: u64, why: &'static str, out: &mut Vec<Output>) {
        let Some(Consumer { id, .. }) = self.consumers.get(&number) else { return };
        let id = *id;
        self.readings.debug(why, out);
        self.end(number, out);
        self.readings.again(id);
    }

    fn flush(&mut self, out: &mut Vec<Output>) {
        for consumer in self.consumers.values_mut() {
            if consumer.state == State::Live {
                self.sequences.insert(consumer.id, consumer.sequence);
            }
            out.extend(consumer.flush());
        }
    }

    /// Takes received bytes.
    fn bytes(&mut self, piece: &[u8], out: &mut Vec<Output>) {
        let mut reader = std::mem::replace(&mut self.reader, Reader::new(0));
        reader.push(piece);
        let mut answers = Answers::default();
        loop {
            match reader.operation() {
                Ok(Some(operation)) => self.operation(operation, &mut answers, out),
                Ok(None) => break,
                // The first bytes of a connection show the kind of the server.
                Err(_) if matches!(self.stage, Stage::Greeting(_)) => {
                    let unread = reader.unread();
                    let beginning = unread[..unread.len().min(SHOWN)].escape_ascii().to_string();
                    let beginning = self.secrets.redact(&beginning);
                    return self.fail(&format!("the server is no NATS: it greets with `{beginning}`"), out);
                }
                Err(error) => return self.fail(&error.to_string(), out),
            }
            // The connection failed, so the rest is dropped.
            if self.stage == Stage::Idle {
                return;
            }
            if self.stage == Stage::Securing && !reader.is_empty() {
                return self.fail("bytes before TLS is set up", out);
            }
        }
        self.reader = reader;
        let answers = answers.bytes();
        if !answers.is_empty() {
            out.push(Output::Send(CALL, answers));
        }
    }

    fn operation(&mut self, operation: Operation<'_>, answers: &mut Answers, out: &mut Vec<Output>) {
        match (operation, self.stage) {
            (Operation::Info(json), Stage::Greeting(_)) => self.greeted(json, out),
            (Operation::Ping, _) => answers.pong = true,
            (Operation::Error(words), _) => self.error(words, out),
            (Operation::Pong, Stage::LoggingIn(_)) => {
                self.stage = Stage::Ready(self.now);
                let line = Line::new(Level::Debug, "connected").with("node", self.shown().to_owned());
                self.readings.log(line.with("version", cut::key(self.info.version.as_bytes())), out);
            }
            (Operation::Message(message), Stage::Ready(_)) => self.message(&message, answers, out),
            (_, Stage::Greeting(_)) => self.fail(&wire::Unreadable::Operation.to_string(), out),
            // Later INFOs describe the cluster, but the nodes come from the configuration.
            (Operation::Info(_) | Operation::Pong | Operation::Ok | Operation::Message(_), _) => {}
        }
    }

    /// Takes an error of the server, which closes the connection after most errors.
    fn error(&mut self, words: &str, out: &mut Vec<Output>) {
        let lower = words.to_ascii_lowercase();
        let words = self.secrets.redact(crate::cut::cut(words, 300));
        if lower.starts_with("permissions violation") {
            let asked = self.consumers.iter().find(|(_, consumer)| consumer.state != State::Live);
            let Some((number, consumer)) = asked else { return self.lock_out(&words, out) };
            let (number, id) = (*number, consumer.id);
            return self.refuse(number, id, &words, out);
        }
        // An expired token may have been renewed in its file.
        let is_over = lower.contains("expired") && matches!(self.stage, Stage::Ready(_));
        if (lower.contains("authorization") || lower.contains("authentication"))
            && !lower.contains("timeout")
            && !is_over
        {
            let user = self.identity.name().map_or(String::new(), |user| format!("user `{user}`: "));
            return self.lock_out(&format!("{user}{words}"), out);
        }
        self.fail(&words, out);
    }

    /// Reports a failure that concerns one resource.
    fn refuse(&mut self, number: u64, id: Id, words: &str, out: &mut Vec<Output>) {
        let words = format!("failed to read from {}: {words}", self.shown());
        let pause = self.slow_retry();
        self.end(number, out);
        self.readings.refused(id, words, pause, self.now, out);
        // The node itself has not failed.
        out.extend([Output::Worked, Output::ResetBackoff]);
    }

    fn message(&mut self, message: &Message<'_>, answers: &mut Answers, out: &mut Vec<Output>) {
        let number = message.subscription;
        if number == REPLIES {
            let asked = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
            return asked.into_iter().for_each(|number| self.created(number, message, out));
        }
        let Some(consumer) = self.consumers.get_mut(&number) else { return };
        let is_own = message.subject.starts_with("_INBOX.");
        consumer.last_received = self.now;
        let status = message.headers.status();
        let next = match (is_own, status) {
            (true, Some(100)) => consumer.heartbeat(message, answers),
            (true, _) => Next::Lost("consumer was ended by the server, reading the bucket again"),
            (false, _) => match self.readings.get(consumer.id) {
                Some(subscriber) => {
                    let start = self.settings.bucket.len() + "$KV..".len();
                    let key = message.subject.get(start..).unwrap_or_default();
                    consumer.delivery(message, key, &subscriber.wanted, &subscriber.watched)
                }
                None => Next::Nothing,
            },
        };
        self.follow(number, next, out);
    }

    fn follow(&mut self, number: u64, next: Next, out: &mut Vec<Output>) {
        match next {
            Next::Nothing => {}
            Next::Loaded => self.loaded(number, out),
            Next::Lost(why) => self.lost(number, why, out),
            // A read makes all values known, so reads do not follow each other.
            Next::Again(why) => self.renew(number, why, out),
            Next::TooMany(words) => {
                let Some(Consumer { id, .. }) = self.consumers.get(&number) else { return };
                let (id, words) = (*id, format!("bucket `{}`: {words}", self.settings.bucket));
                self.refuse(number, id, &words, out);
            }
        }
    }

    /// Takes the answer to the request for a consumer.
    fn created(&mut self, number: u64, message: &Message<'_>, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(consumer) = self.consumers.get_mut(&number) else { return };
        let (State::Asked { is_over }, id) = (consumer.state, consumer.id) else { return };
        let bucket = &self.settings.bucket;
        let count = match jetstream::created(message.headers, message.payload) {
            Ok(count) => count,
            Err(Refusal::NoBucket) => {
                let words =
                    format!("there is no bucket `{bucket}`: create it (nats kv add {bucket}), or mend `bucket`");
                return self.refuse(number, id, &words, out);
            }
            Err(Refusal::Denied(words)) => {
                let words = format!("bucket `{bucket}`: {}", self.secrets.redact(crate::cut::cut(&words, 300)));
                return self.refuse(number, id, &words, out);
            }
            Err(Refusal::Unavailable(words)) => {
                let words = format!("bucket `{bucket}`: {}", self.secrets.redact(crate::cut::cut(&words, 300)));
                return self.fail(&words, out);
            }
        };
        consumer.last_received = now;
        consumer.state = State::Loading { count };
        if is_over || consumer.delivered >= count {
            self.loaded(number, out);
        }
    }

    /// Reports all keys of a resource.
    fn loaded(&mut self, number: u64, out: &mut Vec<Output>) {
        let Some(consumer) = self.consumers.get_mut(&number) else { return };
        let (id, layer) = (consumer.id, consumer.mirror.take());
        consumer.state = State::Live;
        self.sequences.insert(id, consumer.sequence);
        self.readings.succeeded(id, layer, self.now, out);
        if !self.readings.get(id).is_some_and(|subscriber| subscriber.watches) {
            self.end(number, out);
            out.push(Output::ResetBackoff);
        }
        if self.consumers.values().all(|consumer| consumer.state == State::Live) && !self.readings.is_due(self.now) {
            out.push(Output::Worked);
        }
    }
}

impl Subscribers for Nats {
    fn waiting(&self) -> Vec<Id> {
        self.readings.waiting()
    }

    fn give_up(&mut self) {
        self.disconnect();
        self.readings.give_up();
    }

    fn use_node(&mut self, name: &str) {
        self.disconnect();
        self.node = self.settings.shown.iter().position(|shown| shown == name).unwrap_or(0);
    }
}

impl Protocol for Nats {
    fn add(&mut self, id: Id, options: &config::Backend, out: &mut Vec<Output>) {
        let line = Line::new(Level::Info, "set backend nodes").with("backend", NAME);
        out.push(Output::Report(id, Report::Log(line.with("nodes", self.settings.shown.join(",")))));
        self.readings.add(id, &rooted(options));
    }

    fn remove(&mut self, id: Id, out: &mut Vec<Output>) {
        let own: Vec<u64> =
            self.consumers.iter().filter(|(_, consumer)| consumer.id == id).map(|(number, _)| *number).collect();
        own.into_iter().for_each(|number| self.unsubscribe(number, out));
        self.sequences.remove(&id);
        self.readings.remove(id);
    }

    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        self.now = now;
        match input {
            Input::Turn => self.turn(out),
            Input::Connected(_) => match self.stage {
                Stage::Connecting => self.stage = Stage::Greeting(self.later()),
                Stage::Securing => self.log_in(true, out),
                _ => {}
            },
            Input::Body(_, piece) if self.stage != Stage::Idle => self.bytes(piece, out),
            Input::End(_) if self.stage != Stage::Idle => self.fail("connection closed by the server", out),
            Input::Failed(_, failure) if self.stage != Stage::Idle => self.fail(&failure.words, out),
            Input::Credentials(credentials) => self.credentials(credentials, out),
            Input::Quiet => self.flush(out),
            Input::Body(..) | Input::End(_) | Input::Failed(..) | Input::Head(..) => {}
        }
    }

    fn due(&self) -> Option<Instant> {
        let (now, read) = (self.now, self.readings.due());
        match self.stage {
            Stage::Idle => {
                if self.readings.is_due(now) {
                    Some(now)
                } else {
                    read
                }
            }
            Stage::Greeting(until) | Stage::LoggingIn(until) => Some(until),
            Stage::Connecting | Stage::Securing | Stage::Reading => None,
            Stage::Ready(_) => {
                let late = self.consumers.values().map(|consumer| consumer.late(&self.settings)).min();
                let is_reading = self.consumers.values().any(|consumer| consumer.state != State::Live);
                // Due reads, and the end of an idle connection.
                let at_once = !is_reading && (self.readings.is_due(now) || self.consumers.is_empty());
                let at_once =
                    at_once && !(self.consumers.is_empty() && read.is_some_and(|at| at > now && at <= now + KEPT));
                if at_once { Some(now) } else { late.into_iter().chain(read.filter(|_| !is_reading)).min() }
            }
        }
    }

    fn revision(&self, id: Id) -> Option<u64> {
        self.sequences.get(&id).copied().filter(|sequence| *sequence > 0)
    }
}

/// The keys of a resource with a slash in front, which `keys = ["app"]` lacks, for comparisons.
fn rooted(options: &config::Backend) -> config::Backend {
    let root = |text: &String| if text.starts_with('/') { text.clone() } else { format!("/{text}") };
    let mut options = options.clone();
    if options.prefix.is_empty() {
        options.keys = options.keys.iter().map(root).collect();
        options.watch_keys = options.watch_keys.iter().map(root).collect();
    } else {
        options.prefix = root(&options.prefix);
    }
    options
}

#[cfg(test)]
mod tests;
