//! The protocol of ZooKeeper: one session for all resources that share it, which continues on the next node after a
//! failure. Sets watches, then reads the nodes below the keys concurrently, and rereads single nodes when they change.
//! After a reconnect it reads all watched keys again. `subscription` holds the nodes of a resource. Does not choose the
//! ZooKeeper server.

mod answers;
mod events;
mod open;

use std::mem;
use std::time::{Duration, Instant};

use self::open::{Open, Pending};
use super::NAME;
use super::reads::{Interest, Listed, NodePart, Reads};
use super::subscription::{self, Subscription};
use super::wire::{self, Code, Frames, Request, SessionId, Unreadable};
use crate::backend::failover::{LONGEST_BACKOFF, SLOW_RETRY};
use crate::backend::protocol::{CallId, Credentials, Id, Input, Output, Protocol, Security, Subscribers};
use crate::backend::readings::Readings;
use crate::backend::redact::Redactor;
use crate::backend::{Mode, Report, tally};
use crate::config::{self, Secret};
use crate::cut;
use crate::log::{Level, Line};
use crate::random::Random;
use crate::sorted::SortedMap;
use crate::store::Bytes;

/// The one connection.
const CONNECTION: CallId = CallId(0);

/// The number of concurrent requests. A server stops reading at 1,000 requests of all its clients together.
const WINDOW: usize = 256;

/// How long changes are held back while other changed nodes are reread.
const HOLD: Duration = Duration::from_millis(50);

/// A connection that lasted this long did not fail.
const LASTING: Duration = LONGEST_BACKOFF;

/// The shortest time between two pings, whatever timeout the server chooses.
const SHORTEST_PING: Duration = Duration::from_millis(100);

/// The number of pings within the timeout of a session, so that one ping may be late.
const PINGS: u32 = 3;

/// The options of a session.
pub struct Settings {
    /// The nodes, as the log shows them.
    pub nodes: String,
    /// The prefix of every path on the server: empty, or with a leading and without a trailing slash.
    pub chroot: Vec<u8>,
    /// Whether the configuration names a user.
    pub login: bool,
    /// The requested timeout of the session. The server may choose another one.
    pub session_timeout: Duration,
    /// A connection is probed after this time of silence.
    pub watch_deadline: Duration,
    /// The time limit for the next bytes while a request is pending.
    pub request_timeout: Duration,
    /// The size limit of an answer, in bytes.
    pub max_response: usize,
    /// The limits of a read.
    pub read: config::ReadLimits,
}

/// One ZooKeeper cluster and the resources that share it.
pub struct Zookeeper {
    settings: Settings,
    readings: Readings,
    subscriptions: SortedMap<Id, Subscription>,
    reads: Reads,
    state: State,
    session: SessionId,
    /// The last transaction that the server reported; 0: none yet.
    transaction: u64,
    /// The current server, as the log shows it.
    node: String,
    /// The server has no persistent watches: one-time watches are set with every read.
    is_old: bool,
    /// The user and password that were sent to the server.
    user: Option<(Secret, Secret)>,
    /// The server refused a read. The files with name and password may have changed since.
    credentials_suspect: bool,
    /// When the first of the held changes arrived.
    held: Option<Instant>,
    /// A turn is due at this moment.
    wake: Option<Instant>,
    random: Random,
    /// The texts that errors must not show.
    secrets: Redactor,
}

enum State {
    Closed,
    /// Name and password are being read.
    LoggingIn,
    /// The request for a session is sent. `until`: the deadline for its answer, when the connection is established.
    Opening {
        frames: Frames,
        until: Option<Instant>,
    },
    Open(Open),
}

/// Why the connection must be closed.
enum Fault {
    /// Any cause; a retry may help.
    Words(String),
    /// An operator has to correct the cause.
    Lasting(String),
    /// The server refused the login.
    Login(Code),
    /// The server has no persistent watches.
    Old,
}

impl From<Unreadable> for Fault {
    fn from(error: Unreadable) -> Fault {
        match error {
            Unreadable::TooLong(..) => Fault::Lasting(error.to_string()),
            Unreadable::Nonsense(_) | Unreadable::Foreign(_) => Fault::Words(error.to_string()),
        }
    }
}

impl Zookeeper {
    /// A protocol without resources. The seed spreads reads and retries over time.
    pub fn new(settings: Settings, mode: Mode, seed: u64) -> Zookeeper {
        Zookeeper {
            settings,
            readings: Readings::new(NAME, mode, seed),
            subscriptions: SortedMap::new(),
            reads: Reads::default(),
            state: State::Closed,
            session: SessionId::default(),
            transaction: 0,
            node: String::new(),
            is_old: false,
            user: None,
            credentials_suspect: false,
            held: None,
            wake: None,
            random: Random::new(seed.rotate_left(32)),
            secrets: Redactor::default(),
        }
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.wake = None;
        match &self.state {
            State::Closed if self.is_needed(now) && self.settings.login => {
                self.state = State::LoggingIn;
                out.push(Output::ReadCredentials);
            }
            State::Closed if self.is_needed(now) => self.connect(out),
            State::Opening { until: Some(until), .. } if *until <= now => {
                let limit = self.settings.request_timeout;
                let words = format!("no session within {limit:?}: it may be no ZooKeeper, or want TLS (zookeepers://)");
                self.fail(&words, None, now, out);
            }
            State::Open(open) if open.is_late(self.settings.request_timeout, now) => {
                let words = format!("no answer within {:?}", self.settings.request_timeout);
                self.fail(&words, None, now, out);
            }
            State::Open(_) => self.turn_open(now, out),
            State::Closed | State::LoggingIn | State::Opening { .. } => {}
        }
    }

    fn turn_open(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.readings.is_due(now) {
            if self.credentials_suspect && self.settings.login {
                // A changed user may have the refused permissions.
                return out.push(Output::ReadCredentials);
            }
            self.sync(now);
            while let Some(id) = self.readings.begin(now, out) {
                self.begin(id, now, out);
            }
        }
        if let Err(fault) = self.pump(now, out) {
            return self.fault(fault, now, out);
        }
        let State::Open(open) = &mut self.state else { return };
        if !open.is_probed && open.sent + open.ping_every <= now {
            open.probe(&wire::ping(), now);
        }
        self.flush_requests(out);
        self.close_idle(out);
    }

    /// Whether a connection must be made.
    fn is_needed(&self, now: Instant) -> bool {
        self.readings.is_due(now) || !self.readings.waiting().is_empty()
    }

    /// Ends the session if no further request is planned.
    fn close_idle(&mut self, out: &mut Vec<Output>) {
        if self.readings.due().is_some() || !self.readings.waiting().is_empty() {
            return;
        }
        self.end_session(out);
    }

    /// Ends the session and its connection.
    fn end_session(&mut self, out: &mut Vec<Output>) {
        if let State::Open(open) = &mut self.state {
            // No answer is awaited. Without this request the server would keep the session until its timeout.
            out.push(Output::Send(CONNECTION, wire::request(open.next_number(), Request::Close)));
            self.session = SessionId::default();
        }
        if !matches!(self.state, State::Closed) {
            out.push(Output::Cancel(CONNECTION));
        }
        self.state = State::Closed;
        self.reads.clear();
    }

    fn connect(&mut self, out: &mut Vec<Output>) {
        let security = if self.node.starts_with(super::TLS_SCHEME) { Security::Tls } else { Security::Plain };
        out.push(Output::Connect(CONNECTION, security));
        out.push(Output::Send(CONNECTION, wire::connect(self.settings.session_timeout, &self.session)));
        self.state = State::Opening { frames: Frames::new(wire::LONGEST_SESSION), until: None };
    }

    fn credentials(&mut self, read: Result<Option<Credentials>, String>, now: Instant, out: &mut Vec<Output>) {
        let user = match read {
            Ok(credentials) => credentials.map(|Credentials { user, password }| (user, password)),
            Err(words) => return self.fail(&words, None, now, out),
        };
        let is_new = user != self.user;
        self.user = user;
        if let Some((_, password)) = &self.user {
            self.secrets.hide("password", password.reveal());
        }
        match &mut self.state {
            State::LoggingIn => self.connect(out),
            State::Open(open) => {
                self.credentials_suspect = false;
                if let Some((user, password)) = self.user.as_ref().filter(|_| is_new) {
                    open.probe(&wire::authenticate(user.reveal(), password.reveal()), now);
                }
                self.wake = Some(now);
                self.turn(now, out);
            }
            State::Closed | State::Opening { .. } => {}
        }
    }

    /// Begins to read all keys of a resource. The watches are set first, so that they report changes during the read.
    fn begin(&mut self, id: Id, now: Instant, out: &mut Vec<Output>) {
        self.reads.forget(id);
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.begin(self.settings.read);
        let watches = self.readings.get(id).is_some_and(|subscriber| subscriber.watches);
        let roots = if watches && self.is_old { subscription.watched() } else { subscription.roots() };
        let watched = if watches && !self.is_old { subscription.watched() } else { Vec::new() };
        if let State::Open(open) = &mut self.state {
            for path in watched {
                if open.watched.insert(path.clone()) {
                    let request = wire::request(
                        open.next_number(),
                        Request::AddWatch { path: &absolute(&self.settings.chroot, &path) },
                    );
                    open.ask(Pending::Watch, &request, now);
                }
            }
        }
        for root in roots {
            self.want_node(&root, Interest { id, trigger: false });
        }
        self.settle(id, now, out);
    }

    /// Whether the watches of a resource are set with every read of a node.
    fn sets_watches(&self, id: Id) -> bool {
        self.is_old && self.readings.get(id).is_some_and(|subscriber| subscriber.watches)
    }

    /// Plans the read of a node and its children.
    fn want_node(&mut self, path: &Bytes, interest: Interest) {
        self.want(path, NodePart::Data, interest);
        if self.sets_watches(interest.id) {
            // The watch on the children reports a first child.
            self.want(path, NodePart::Children, interest);
        }
    }

    /// Plans the read of a listed child.
    fn want_child(&mut self, path: &Bytes, interests: Vec<Interest>, now: Instant, out: &mut Vec<Output>) {
        match tally::check_depth(path) {
            Ok(()) => interests.into_iter().for_each(|interest| self.want_node(path, interest)),
            Err(words) => {
                let words = format!("failed to read from {}: {words}", self.node);
                for interest in interests {
                    let pause = self.slow_retry();
                    self.refuse(interest.id, words.clone(), pause, now, out);
                }
            }
        }
    }

    fn want(&mut self, path: &Bytes, what: NodePart, interest: Interest) {
        if self.reads.want(path.clone(), what, interest)
            && let Some(subscription) = self.subscriptions.get_mut(&interest.id)
        {
            subscription.pending += 1;
        }
    }

    /// Sends planned requests up to the limit.
    fn pump(&mut self, now: Instant, out: &mut Vec<Output>) -> Result<(), Fault> {
        if self.reads.len() > self.settings.read.max_keys.saturating_add(WINDOW) {
            return Err(Fault::Words("more nodes change than may be read: raise `max_keys` of the backend".to_owned()));
        }
        while let State::Open(open) = &mut self.state
            && open.asked.len() < WINDOW
        {
            if let Some((path, what, interests)) = self.reads.next() {
                let watch = self.is_old
                    && interests
                        .iter()
                        .any(|interest| self.readings.get(interest.id).is_some_and(|subscriber| subscriber.watches));
                let full = absolute(&self.settings.chroot, &path);
                let request = match what {
                    NodePart::Data => Request::Data { path: &full, watch },
                    NodePart::Children => Request::Children { path: &full, watch },
                };
                let request = wire::request(open.next_number(), request);
                open.ask(Pending::Node(path, what), &request, now);
                continue;
            }
            match self.reads.next_listed() {
                None => return Ok(()),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(Listed::Child { parent, name, interests })) => {
                    let child = subscription::child(&parent, &name);
                    self.want_child(&child, interests, now, out);
                }
                Some(Ok(Listed::End(interests))) => self.arrived(&interests, now, out),
            }
        }
        Ok(())
    }

    /// Makes the server catch up with the leader before the next answer.
    fn sync(&mut self, now: Instant) {
        let State::Open(open) = &mut self.state else { return };
        let path = absolute(&self.settings.chroot, b"/");
        let request = wire::request(open.next_number(), Request::Sync { path: &path });
        open.ask(Pending::Sync, &request, now);
    }

    /// Watches for the creation of a node.
    fn await_creation(&mut self, path: &Bytes, now: Instant) {
        let State::Open(open) = &mut self.state else { return };
        let full = absolute(&self.settings.chroot, path);
        let request = wire::request(open.next_number(), Request::Creation { path: &full });
        open.ask(Pending::Creation(path.clone()), &request, now);
    }

    fn flush_requests(&mut self, out: &mut Vec<Output>) {
        if let State::Open(open) = &mut self.state
            && !open.unsent.is_empty()
        {
            out.push(Output::Send(CONNECTION, mem::take(&mut open.unsent)));
        }
    }

    fn fault(&mut self, fault: Fault, now: Instant, out: &mut Vec<Output>) {
        match fault {
            Fault::Words(words) => self.fail(&words, None, now, out),
            Fault::Lasting(words) => {
                out.push(Output::FailFast);
                let not_before = now + self.slow_retry();
                self.fail(&words, Some(not_before), now, out);
            }
            Fault::Login(code) => {
                let user = self.user.as_ref().map_or("", |(user, _)| user.reveal());
                let words = format!("user `{}`: {code}", cut::key(user.as_bytes()));
                let not_before = code.is_lasting().then(|| {
                    out.push(Output::FailFast);
                    now + self.slow_retry()
                });
                self.fail_to("log in to", &words, not_before, now, out);
            }
            Fault::Old => {
                self.readings.debug("the server has no lasting watches, setting one on each node", out);
                self.is_old = true;
                out.push(Output::Cancel(CONNECTION));
                self.lose(out);
                self.wake = Some(now);
            }
        }
    }

    /// The pause before a retry if an operator has to correct the cause.
    fn slow_retry(&mut self) -> Duration {
        self.random.between(SLOW_RETRY, SLOW_RETRY * 3)
    }

    /// Reports that the node failed, and drops the connection.
    fn fail(&mut self, words: &str, not_before: Option<Instant>, now: Instant, out: &mut Vec<Output>) {
        let verb = match self.state {
            State::Closed | State::Opening { .. } => "connect to",
            State::LoggingIn => "log in to",
            State::Open(_) if self.readings.is_due(now) || self.readings.reading().next().is_some() => "read from",
            State::Open(_) => "watch",
        };
        self.fail_to(verb, words, not_before, now, out);
    }

    fn fail_to(&mut self, verb: &str, words: &str, not_before: Option<Instant>, now: Instant, out: &mut Vec<Output>) {
        if let State::Open(open) = &self.state
            && now.saturating_duration_since(open.since) >= LASTING
        {
            out.push(Output::ResetBackoff);
        }
        let words = format!("failed to {verb} {}: {}", self.node, self.secrets.redact(words));
        self.lose(out);
        out.push(Output::NodeFailed { words, not_before });
    }

    /// Drops the requests and watches of a lost connection. The changes that have arrived are reported.
    fn lose(&mut self, out: &mut Vec<Output>) {
        for (id, subscription) in &mut self.subscriptions {
            out.extend(subscription.take_changes().map(|report| Output::Report(*id, report)));
            subscription.reset();
        }
        self.reads.clear();
        self.readings.failed(true);
        (self.state, self.held) = (State::Closed, None);
    }

    /// Reports the changes whose nodes were reread.
    fn quiet(&mut self, now: Instant, out: &mut Vec<Output>) {
        let is_over = self.held.is_some_and(|since| since + HOLD <= now);
        let mut holds = false;
        for (id, subscription) in &mut self.subscriptions {
            if subscription.is_reading() || !subscription.has_changes() {
                continue;
            }
            if subscription.pending > 0 && !is_over {
                holds = true;
            } else {
                out.extend(subscription.take_changes().map(|report| Output::Report(*id, report)));
            }
        }
        self.held = if holds { self.held.or(Some(now)) } else { None };
    }
}

impl Subscribers for Zookeeper {
    fn waiting(&self) -> Vec<Id> {
        self.readings.waiting()
    }

    fn give_up(&mut self) {
        self.readings.give_up();
    }

    fn use_node(&mut self, name: &str) {
        self.is_old &= self.node == name;
        self.node = name.to_owned();
    }
}

impl Protocol for Zookeeper {
    fn add(&mut self, id: Id, options: &config::Backend, out: &mut Vec<Output>) {
        let line = Line::new(Level::Info, "set backend nodes").with("backend", NAME);
        out.push(Output::Report(id, Report::Log(line.with("nodes", self.settings.nodes.clone()))));
        self.readings.add(id, options);
        self.subscriptions.insert(id, Subscription::new(options));
    }

    fn remove(&mut self, id: Id, out: &mut Vec<Output>) {
        self.readings.remove(id);
        self.subscriptions.remove(&id);
        self.reads.forget(id);
        if self.subscriptions.is_empty() {
            self.end_session(out);
        }
    }

    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        match input {
            Input::Turn => self.turn(now, out),
            Input::Credentials(credentials) => self.credentials(credentials, now, out),
            Input::Connected(_) => {
                if let State::Opening { until, .. } = &mut self.state {
                    *until = Some(now + self.settings.request_timeout);
                }
            }
            Input::Body(_, piece) => self.body(piece, now, out),
            Input::Failed(_, failure) => self.fail(&failure.words, None, now, out),
            Input::End(_) => {
                let words = match self.state {
                    State::Opening { .. } => "closed by the server before it gave a session: it may have no quorum",
                    State::Closed | State::LoggingIn | State::Open(_) => "connection closed by the server",
                };
                self.fail(words, None, now, out);
            }
            Input::Quiet => self.quiet(now, out),
            // This protocol does not use HTTP.
            Input::Head(..) => {}
        }
    }

    fn due(&self) -> Option<Instant> {
        let step = match &self.state {
            State::Closed | State::LoggingIn => None,
            State::Opening { until, .. } => *until,
            State::Open(open) => {
                let answer = open.is_asked().then(|| open.last_received + self.settings.request_timeout);
                let ping = (!open.is_probed).then(|| open.sent + open.ping_every);
                answer.into_iter().chain(ping).min()
            }
        };
        let held = self.held.map(|since| since + HOLD);
        [self.wake, step, held, self.readings.due()].into_iter().flatten().min()
    }

    fn revision(&self, id: Id) -> Option<u64> {
        self.subscriptions.get(&id).filter(|subscription| subscription.has_been_read())?;
        Some(self.transaction).filter(|transaction| *transaction > 0)
    }
}

/// The path on the server.
fn absolute(chroot: &[u8], path: &[u8]) -> Vec<u8> {
    match path {
        b"/" if !chroot.is_empty() => chroot.to_vec(),
        _ => [chroot, path].concat(),
    }
}

/// A path of the server below the chroot.
fn relative(chroot: &[u8], full: &[u8]) -> Option<Bytes> {
    match full.strip_prefix(chroot)? {
        b"" => Some(Bytes::from(&b"/"[..])),
        path => path.starts_with(b"/").then(|| Bytes::from(path)),
    }
}

#[cfg(test)]
mod tests;
