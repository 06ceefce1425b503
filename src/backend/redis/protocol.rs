//! Redis as a protocol: one connection for commands, and where changes are watched, one for the channels that tell of them.
//! Decides when what is asked, and what follows an answer. What is read is `pass`'s business, what changes `round`'s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::NAME;
use super::mirror::Mirror;
use super::pass::{Ask, BATCH, Pass};
use super::refusal::{Refusal, Why};
use super::round::{Applied, Round, Touched};
use super::wanted::{Channel, Role, Wanted};
use super::wire::{self, Reader, Reply};
use crate::backend::failover::{LONGEST_BACKOFF, SLOW_RETRY};
use crate::backend::protocol::{
    CallId, Credentials, Failure, FailureKind, Id, Input, Output, Protocol, Security, Subscribers,
};
use crate::backend::readings::Readings;
use crate::backend::redact::Redactor;
use crate::backend::tally::Tally;
use crate::backend::{Mode, Report};
use crate::config::{self, ReadLimits};
use crate::cut;
use crate::log::{Level, Line};
use crate::random::Random;
use crate::store::Bytes;

/// The connection for commands.
const COMMANDS: CallId = CallId(0);
/// The connection that changes are told on.
const EVENTS: CallId = CallId(1);

/// A watch that lasted so long ends the count of failures.
const LASTING: Duration = LONGEST_BACKOFF;

/// How often a resource that cannot be watched is read, where it names no interval.
const INTERVAL: Duration = Duration::from_secs(60);

/// Bytes of a large reply that have to come within the time of a reply.
const PIECE: usize = 1024;

/// Keys as one page of a scan has about.
const PAGE: &[u8] = b"1000";

/// The channel that tells of a change of all keys at once.
const FLUSHES: &[u8] = b"__redis__:invalidate";

/// No key begins so: of the changes that CLIENT TRACKING tells of, only those of all keys at once are wanted.
const NO_KEY: &[u8] = b"\0remco: the beginning of no key\0";

/// A read that takes longer is told.
const LONG: Duration = Duration::from_secs(60);

/// What all resources of a Redis have in common.
pub struct Settings {
    /// The nodes as they are shown.
    pub nodes: String,
    /// The number of the database.
    pub database: i64,
    /// How long a reply, or the next piece of a large one, may take.
    pub request_timeout: Duration,
    /// How long a watch may be silent before the node is probed.
    pub watch_deadline: Duration,
    /// What one read may bring.
    pub limits: ReadLimits,
    /// The largest reply, in bytes.
    pub max_response: usize,
}

/// One Redis, and the resources that share it.
pub struct Redis {
    settings: Settings,
    readings: Readings,
    resources: BTreeMap<Id, Resource>,
    random: Random,
    /// What no error shows.
    secrets: Redactor,
    /// The user of the last login; `None`: there was none. Empty: the default user.
    user: Option<String>,
    /// The node that is used, as it is shown.
    node: String,
    commands: Connection,
    events: Connection,
    /// The connections whose credentials are being read.
    logins: VecDeque<CallId>,
    /// The moment of the last input.
    now: Instant,
    /// What the replies to come on the connection for commands answer.
    asked: VecDeque<Asked>,
    /// How many reads and rounds there were.
    count: u64,
    pass: Option<Pass>,
    /// When it is told that the read takes long.
    long: Option<Instant>,
    round: Option<Round>,
    watch: Watch,
    /// Why changes of all keys at once are not told, as the log has it.
    flushes_untold: Option<String>,
    /// What each channel is for, of the resources that are watched.
    routes: BTreeMap<Channel, Vec<(Id, Role)>>,
}

/// One resource.
struct Resource {
    wanted: Wanted,
    /// Whether each of its keys holds a string, as of the last read.
    singles: Vec<bool>,
    /// Its keys, where it is watched and was read.
    mirror: Option<Mirror>,
    /// What has changed since.
    touched: Touched,
    /// Counts what has changed.
    told: Tally,
    /// Why it is not watched, as its log has it.
    unwatched: Option<String>,
    /// How many keys its log says that the user may not read.
    denied: usize,
}

/// Whether changes are told.
#[derive(Debug, PartialEq, Eq)]
enum Watch {
    /// Nothing was asked about it.
    Off,
    /// The server is asked; which answer comes next.
    Asking(Step),
    /// It tells. So many channels are `unconfirmed`; all of them are confirmed `since` then.
    On { channels: BTreeSet<Channel>, unconfirmed: usize, since: Option<Instant> },
    /// It does not. It is asked again before a read after this moment.
    Declined { until: Instant },
}

/// The answers to what is asked before changes are told, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// To the login.
    Login,
    /// Which changes are told.
    Settings,
    /// The number of the connection.
    Number,
    /// Whether changes of all keys at once are told on it.
    Tracking,
    /// Whether their channel may be subscribed to; why they are not told so far.
    Flushes(Option<String>),
}

/// A connection, and what it waits for.
struct Connection {
    stage: Stage,
    reader: Reader,
    /// Commands that are sent at the end of the turn, or once name and password are known.
    unsent: Vec<u8>,
    /// When a reply or a [`PIECE`] of one came last, or something was asked of a connection that waited for nothing.
    heard: Instant,
    /// How many bytes of a reply came since.
    pending: usize,
    /// Whether a probe was not answered yet.
    probed: bool,
    /// Whether the server has said anything.
    is_answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Closed,
    /// Name and password are being read.
    Login,
    Dialing,
    Open,
}

/// What a reply on the connection for commands answers.
enum Asked {
    Login,
    Database,
    Probe,
    /// The value of a resource's own key.
    Key {
        pass: u64,
        number: usize,
    },
    Page {
        pass: u64,
    },
    /// The values of several keys, for the read or the round of this number.
    Values(u64, Vec<Bytes>),
    /// The value of one of several keys that could not be had together.
    Value(u64, Bytes),
}

impl Connection {
    fn new(limit: usize, now: Instant) -> Connection {
        let reader = Reader::new(limit);
        let stage = Stage::Closed;
        Connection { stage, reader, unsent: Vec::new(), heard: now, pending: 0, probed: false, is_answered: false }
    }
}

impl Redis {
    /// Without resources. `seed` spreads reads and rests over time.
    pub fn new(settings: Settings, mode: Mode, seed: u64, now: Instant) -> Redis {
        Redis {
            readings: Readings::new(NAME, mode, seed),
            resources: BTreeMap::new(),
            random: Random::new(seed.wrapping_add(1)),
            secrets: Redactor::default(),
            user: None,
            node: String::new(),
            commands: Connection::new(settings.max_response, now),
            events: Connection::new(settings.max_response, now),
            logins: VecDeque::new(),
            now,
            asked: VecDeque::new(),
            count: 0,
            pass: None,
            long: None,
            round: None,
            watch: Watch::Off,
            flushes_untold: None,
            routes: BTreeMap::new(),
            settings,
        }
    }

    fn connection(&mut self, call: CallId) -> Option<&mut Connection> {
        match call {
            COMMANDS => Some(&mut self.commands),
            EVENTS => Some(&mut self.events),
            _ => None,
        }
    }

    // Connections

    fn open(&mut self, call: CallId, now: Instant, out: &mut Vec<Output>) {
        let limit = self.settings.max_response;
        let Some(connection) = self.connection(call) else { return };
        let unsent = std::mem::take(&mut connection.unsent);
        *connection = Connection { stage: Stage::Login, unsent, ..Connection::new(limit, now) };
        self.logins.push_back(call);
        // Read anew for each connection: a new password is one at once.
        out.push(Output::ReadCredentials);
    }

    fn close(&mut self, call: CallId, out: &mut Vec<Output>) {
        let (limit, now) = (self.settings.max_response, self.now);
        if let Some(connection) = self.connection(call)
            && connection.stage != Stage::Closed
        {
            *connection = Connection::new(limit, now);
            self.logins.retain(|login| *login != call);
            out.push(Output::Cancel(call));
        }
        if call == COMMANDS {
            self.asked.clear();
        }
    }

    fn credentials(&mut self, credentials: Result<Option<Credentials>, String>, now: Instant, out: &mut Vec<Output>) {
        let Some(call) = self.logins.pop_front() else { return };
        let (mut bytes, mut first) = (Vec::new(), Vec::new());
        match credentials {
            Err(words) => return self.failed("log in to", &words, None, now, out),
            Ok(None) => self.user = None,
            Ok(Some(Credentials { user, password })) => {
                self.secrets.hide("password", password.reveal());
                let (user, password) = (user.reveal(), password.reveal());
                let words = ["AUTH", user, password].map(str::as_bytes);
                match user {
                    // Servers before version 6 know passwords, but no users.
                    "" => wire::command(&mut bytes, &[words[0], words[2]]),
                    _ => wire::command(&mut bytes, &words),
                }
                first.push(Asked::Login);
                self.user = Some(user.to_owned());
            }
        }
        match call {
            EVENTS => {
                wire::command(&mut bytes, &[b"CONFIG", b"GET", b"notify-keyspace-events"]);
                wire::command(&mut bytes, &[b"CLIENT", b"ID"]);
                self.watch = Watch::Asking(if first.is_empty() { Step::Settings } else { Step::Login });
            }
            _ => {
                if self.settings.database != 0 {
                    wire::command(&mut bytes, &[b"SELECT", self.settings.database.to_string().as_bytes()]);
                    first.push(Asked::Database);
                }
                first.into_iter().rev().for_each(|asked| self.asked.push_front(asked));
            }
        }
        let security = if self.node.starts_with("rediss:") { Security::Tls } else { Security::Plain };
        if let Some(connection) = self.connection(call) {
            connection.stage = Stage::Dialing;
            bytes.append(&mut connection.unsent);
        }
        out.extend([Output::Connect(call, security), Output::Send(call, bytes)]);
    }

    /// Asks something on the connection for commands, which is made if there is none.
    fn ask(&mut self, words: &[&[u8]], asked: Asked, now: Instant, out: &mut Vec<Output>) {
        if self.commands.stage == Stage::Closed {
            self.open(COMMANDS, now, out);
        }
        if self.asked.is_empty() {
            (self.commands.heard, self.commands.pending) = (now, 0);
        }
        wire::command(&mut self.commands.unsent, words);
        self.asked.push_back(asked);
    }

    /// Sends what was asked in this turn.
    fn flush(&mut self, out: &mut Vec<Output>) {
        for call in [COMMANDS, EVENTS] {
            if let Some(connection) = self.connection(call)
                && matches!(connection.stage, Stage::Dialing | Stage::Open)
                && !connection.unsent.is_empty()
            {
                out.push(Output::Send(call, std::mem::take(&mut connection.unsent)));
            }
        }
    }

    /// When the reply that is awaited on a connection is late.
    fn deadline(&self, call: CallId) -> Option<Instant> {
        let (connection, awaits) = match call {
            COMMANDS => (&self.commands, !self.asked.is_empty()),
            _ => (&self.events, self.events.probed || self.is_undecided()),
        };
        let is_awaited = connection.stage == Stage::Open && awaits;
        is_awaited.then(|| connection.heard.checked_add(self.settings.request_timeout)).flatten()
    }

    fn body(&mut self, call: CallId, piece: &[u8], now: Instant, out: &mut Vec<Output>) {
        let Some(connection) = self.connection(call).filter(|connection| connection.stage == Stage::Open) else {
            return;
        };
        let mut replies = Vec::new();
        let read = connection.reader.push(piece, &mut replies);
        connection.is_answered = true;
        connection.pending = connection.pending.saturating_add(piece.len());
        // A large reply may take long over a slow line. One that only drips is none.
        if !replies.is_empty() || connection.pending >= PIECE {
            (connection.heard, connection.pending) = (now, 0);
        }
        for reply in replies {
            // It may be closed over one of them.
            if self.connection(call).is_none_or(|connection| connection.stage != Stage::Open) {
                return;
            }
            match call {
                COMMANDS => self.reply(reply, now, out),
                _ => self.event(reply, now, out),
            }
        }
        if let Err(unreadable) = read
            && self.connection(call).is_some_and(|connection| connection.stage == Stage::Open)
        {
            let words = self.secrets.redact(&unreadable.to_string());
            self.failed("read from", &words, None, now, out);
        }
    }

    /// A connection is over.
    fn ended(&mut self, call: CallId, failure: Failure, now: Instant, out: &mut Vec<Output>) {
        let Some(connection) = self.connection(call) else { return };
        let (was, is_answered) = (connection.stage, connection.is_answered);
        // Servers close connections that nothing is asked on for long.
        let is_idle = call == COMMANDS && was == Stage::Open && failure.kind == FailureKind::Closed;
        if was == Stage::Closed {
        } else if is_idle && self.asked.is_empty() {
            self.close(call, out);
        } else if was == Stage::Dialing {
            self.failed("connect to", &failure.words, None, now, out);
        } else {
            let may_want_tls = !is_answered && self.node.starts_with("redis:") && failure.kind == FailureKind::Closed;
            let hint =
                if may_want_tls { " before it answered: does it want rediss://, or is it no redis?" } else { "" };
            let words = format!("{}{hint}", failure.words);
            self.failed(if call == EVENTS { "watch" } else { "read from" }, &words, None, now, out);
        }
    }

    // Failures

    /// The node did not do what it was asked for. The next one is asked, after `rest` at least.
    fn failed(&mut self, verb: &str, words: &str, rest: Option<Duration>, now: Instant, out: &mut Vec<Output>) {
        if let Watch::On { since: Some(since), .. } = self.watch
            && now.saturating_duration_since(since) >= LASTING
        {
            out.push(Output::ResetBackoff);
        }
        let words = format!("failed to {verb} {}: {words}", self.node);
        self.reset(now);
        out.push(Output::NodeFailed { words, not_before: rest.and_then(|rest| now.checked_add(rest)) });
    }

    /// Forgets all that was under way: both connections are gone.
    fn reset(&mut self, now: Instant) {
        let limit = self.settings.max_response;
        (self.commands, self.events) = (Connection::new(limit, now), Connection::new(limit, now));
        (self.pass, self.round, self.watch) = (None, None, Watch::Off);
        self.logins.clear();
        self.asked.clear();
        let ids: Vec<Id> = self.resources.keys().copied().collect();
        ids.into_iter().for_each(|id| self.forget(id));
        // What was watched may have changed meanwhile.
        self.readings.failed(true);
    }

    /// An error that concerns all resources.
    fn refused(&mut self, verb: &str, refusal: &Refusal, now: Instant, out: &mut Vec<Output>) {
        let words = format!("{}{}", refusal.words, refusal.advice());
        self.refused_with(verb, &words, refusal.is_lasting(), now, out);
    }

    fn refused_with(&mut self, verb: &str, words: &str, is_lasting: bool, now: Instant, out: &mut Vec<Output>) {
        let rest = is_lasting.then(|| {
            out.push(Output::FailFast);
            self.rest()
        });
        self.failed(verb, words, rest, now, out);
    }

    /// How long what only a person can mend is left alone.
    fn rest(&mut self) -> Duration {
        self.random.between(SLOW_RETRY, SLOW_RETRY * 3)
    }

    fn login_refused(&mut self, text: &str, now: Instant, out: &mut Vec<Output>) {
        let refusal = Refusal::new(text, &self.secrets);
        let words = match self.user.as_deref() {
            Some(user) if !user.is_empty() => format!("user `{}`: {}", cut::key(user.as_bytes()), refusal.words),
            _ => refusal.words.clone(),
        };
        self.refused_with("log in to", &words, refusal.why != Why::Busy, now, out);
    }

    /// What is meant by the user in errors.
    fn user(&self) -> String {
        match self.user.as_deref() {
            Some(user) if !user.is_empty() => format!("user `{}`", cut::key(user.as_bytes())),
            _ => "the default user".to_owned(),
        }
    }

    /// The resource that is being read cannot have what it wants.
    fn pass_refused(&mut self, words: &str, now: Instant, out: &mut Vec<Output>) {
        let Some(pass) = self.pass.take() else { return };
        let rest = self.rest();
        let words = format!("failed to read from {}: {words}", self.node);
        self.forget(pass.id);
        self.readings.refused(pass.id, words, rest, now, out);
    }

    // Replies to commands

    fn reply(&mut self, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        let Some(asked) = self.asked.pop_front() else {
            return self.failed("read from", "a reply that nothing was asked for", None, now, out);
        };
        match (asked, reply) {
            (Asked::Login, Reply::Error(text)) => self.login_refused(&text, now, out),
            (Asked::Database, Reply::Error(text)) => {
                let refusal = Refusal::new(&text, &self.secrets);
                let verb = format!("select database {} of", self.settings.database);
                match refusal.why {
                    Why::Busy | Why::NoPassword | Why::Protected => self.refused("read from", &refusal, now, out),
                    _ => self.refused_with(&verb, &refusal.words, true, now, out),
                }
            }
            (Asked::Probe, Reply::Error(text)) => {
                // A user may not be allowed to probe. The answer is one all the same.
                let refusal = Refusal::new(&text, &self.secrets);
                if refusal.why != Why::Denied {
                    self.refused("read from", &refusal, now, out);
                }
            }
            (Asked::Login | Asked::Database | Asked::Probe, _) => {}
            (Asked::Key { pass, number }, reply) => self.key(pass, number, reply, now, out),
            (Asked::Page { pass }, reply) => self.page(pass, reply, now, out),
            (Asked::Values(of, keys), reply) => self.values(of, keys, reply, now, out),
            (Asked::Value(of, key), reply) => self.value(of, &key, reply, now, out),
        }
        self.complete(now, out);
    }

    /// A reply that is no answer to what was asked.
    fn nonsense(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.failed("read from", "not an answer to what was asked", None, now, out);
    }

    fn key(&mut self, serial: u64, number: usize, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.serial == serial) else { return };
        let Some(resource) = self.resources.get(&pass.id) else { return };
        let wanted = &resource.wanted;
        let value = match reply {
            Reply::Bulk(value) => Some(value),
            Reply::Nil => None,
            Reply::Error(text) => {
                let refusal = Refusal::new(&text, &self.secrets);
                let key = wanted.keys().get(number).map_or(String::new(), |key| cut::key(key));
                let words = match refusal.why {
                    Why::WrongType => format!("key `{key}` holds no string: {}", refusal.words),
                    Why::Denied => format!("{} may not read key `{key}`: {}", self.user(), refusal.words),
                    _ => return self.refused("read from", &refusal, now, out),
                };
                return self.pass_refused(&words, now, out);
            }
            Reply::Status(_) | Reply::Integer(_) | Reply::Array(_) => return self.nonsense(now, out),
        };
        match pass.key(number, value, wanted) {
            Ok(asks) => self.ask_all(serial, asks, now, out),
            Err(words) => self.pass_refused(&words, now, out),
        }
    }

    fn page(&mut self, serial: u64, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.serial == serial) else { return };
        let (cursor, keys) = match reply {
            Reply::Error(text) => {
                let refusal = Refusal::new(&text, &self.secrets);
                if refusal.why != Why::Denied {
                    return self.refused("read from", &refusal, now, out);
                }
                let words = format!("{} may not list keys: {}", self.user(), refusal.words);
                return self.pass_refused(&words, now, out);
            }
            reply => match page_of(reply) {
                Some(page) => page,
                None => return self.nonsense(now, out),
            },
        };
        if let Err(words) = pass.follow(&cursor) {
            return self.failed("read from", &words, None, now, out);
        }
        match pass.page(cursor, keys) {
            Ok(asks) => self.ask_all(serial, asks, now, out),
            Err(words) => self.pass_refused(&words, now, out),
        }
    }

    fn values(&mut self, of: u64, keys: Vec<Bytes>, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        match reply {
            Reply::Array(values) if values.len() == keys.len() => {
                for (key, value) in keys.iter().zip(values) {
                    let value = match value {
                        Reply::Bulk(value) => Some(value),
                        Reply::Nil => None,
                        _ => return self.nonsense(now, out),
                    };
                    self.value_came(of, key, value, now, out);
                }
            }
            Reply::Error(text) => {
                let refusal = Refusal::new(&text, &self.secrets);
                if !matches!(refusal.why, Why::Denied | Why::CrossSlot) {
                    return self.refused("read from", &refusal, now, out);
                }
                // One key of many is enough for that.
                if self.is_under_way(of) {
                    for key in keys {
                        self.ask(&[b"GET", &key], Asked::Value(of, key.clone()), now, out);
                    }
                }
            }
            _ => self.nonsense(now, out),
        }
    }

    fn is_under_way(&self, of: u64) -> bool {
        self.pass.iter().any(|pass| pass.serial == of) || self.round.iter().any(|round| round.serial == of)
    }

    fn value(&mut self, of: u64, key: &Bytes, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        match reply {
            Reply::Bulk(value) => self.value_came(of, key, Some(value), now, out),
            Reply::Nil => self.value_came(of, key, None, now, out),
            Reply::Error(text) => {
                let refusal = Refusal::new(&text, &self.secrets);
                match refusal.why {
                    Why::Denied => {
                        self.pass.iter_mut().filter(|pass| pass.serial == of).for_each(|pass| pass.denied(key));
                        self.round.iter_mut().filter(|round| round.serial == of).for_each(Round::denied);
                    }
                    Why::WrongType => self.value_came(of, key, None, now, out),
                    _ => self.refused("read from", &refusal, now, out),
                }
            }
            Reply::Status(_) | Reply::Integer(_) | Reply::Array(_) => self.nonsense(now, out),
        }
    }

    fn value_came(&mut self, of: u64, key: &Bytes, value: Option<Bytes>, now: Instant, out: &mut Vec<Output>) {
        if let Some(round) = self.round.as_mut().filter(|round| round.serial == of) {
            return round.value(key, value);
        }
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.serial == of) else { return };
        let Some(resource) = self.resources.get(&pass.id) else { return };
        if let Err(words) = pass.value(key, value, &resource.wanted) {
            self.pass_refused(&words, now, out);
        }
    }

    fn ask_all(&mut self, pass: u64, asks: Vec<Ask>, now: Instant, out: &mut Vec<Output>) {
        for ask in asks {
            match ask {
                Ask::Key(number) => {
                    let id = self.pass.as_ref().map(|pass| pass.id);
                    let resource = id.and_then(|id| self.resources.get(&id));
                    let key = resource.and_then(|resource| resource.wanted.keys().get(number).cloned());
                    if let Some(key) = key {
                        self.ask(&[b"GET", &key], Asked::Key { pass, number }, now, out);
                    }
                }
                Ask::Scan { pattern, cursor } => {
                    let words: [&[u8]; 6] = [b"SCAN", &cursor, b"MATCH", &pattern, b"COUNT", PAGE];
                    self.ask(&words, Asked::Page { pass }, now, out);
                }
                Ask::Values(keys) => self.ask_values(pass, keys, now, out),
            }
        }
    }

    fn ask_values(&mut self, of: u64, keys: Vec<Bytes>, now: Instant, out: &mut Vec<Output>) {
        let mut words: Vec<&[u8]> = vec![b"MGET"];
        words.extend(keys.iter().map(|key| &**key));
        self.ask(&words, Asked::Values(of, keys.clone()), now, out);
    }

    // Reads and rounds

    /// Begins the read of a resource that is due.
    fn begin(&mut self, now: Instant, out: &mut Vec<Output>) {
        while self.pass.is_none() && !self.is_undecided() {
            let Some(id) = self.readings.begin(now, out) else { return };
            // What changes from now on is looked at again behind the read.
            self.forget(id);
            let Some(resource) = self.resources.get(&id) else { return };
            self.count += 1;
            let (pass, asks) = Pass::new(self.count, id, &resource.wanted, self.settings.limits);
            self.pass = Some(pass);
            self.long = now.checked_add(LONG);
            self.ask_all(self.count, asks, now, out);
            self.complete(now, out);
        }
    }

    /// Reports what has come completely.
    fn complete(&mut self, now: Instant, out: &mut Vec<Output>) {
        if let Some(pass) = self.pass.take_if(|pass| pass.is_complete()) {
            self.pass_complete(pass, now, out);
        }
        if let Some(round) = self.round.take_if(|round| round.is_complete()) {
            round.ids().into_iter().for_each(|id| self.round_complete(&round, id, out));
        }
    }

    fn pass_complete(&mut self, pass: Pass, now: Instant, out: &mut Vec<Output>) {
        let Pass { id, singles, mirror, denied: (denied, first), is_stale, .. } = pass;
        let Some(resource) = self.resources.get_mut(&id) else { return };
        if denied != std::mem::replace(&mut resource.denied, denied) && denied > 0 {
            let line = Line::new(Level::Warn, "keys that the user may not read are left out").with("backend", NAME);
            let first = first.map_or(String::new(), |key| cut::key(&key));
            let line = line.with("keys", denied.to_string()).with("first", first);
            out.push(Output::Report(id, Report::Log(line)));
        }
        let is_watched = self.readings.get(id).is_some_and(|subscriber| subscriber.watches);
        let layer = if is_watched {
            let layer = mirror.layer();
            (resource.singles, resource.mirror) = (singles, Some(mirror));
            layer
        } else {
            mirror.into_layer()
        };
        out.push(Output::Worked);
        if !is_watched {
            out.push(Output::ResetBackoff);
        }
        self.readings.succeeded(id, layer, now, out);
        if is_stale {
            self.reread(id);
        }
    }

    /// Asks for the keys that have changed, of all resources that are not being read.
    fn begin_round(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.round.is_some() {
            return;
        }
        let mut touched = BTreeMap::new();
        for (id, resource) in &mut self.resources {
            if resource.mirror.is_some() && !resource.touched.is_empty() {
                resource.told = Tally::new(self.settings.limits);
                touched.insert(*id, std::mem::take(&mut resource.touched));
            }
        }
        if touched.is_empty() {
            return;
        }
        self.count += 1;
        let (round, keys) = Round::new(self.count, touched);
        let serial = round.serial;
        self.round = Some(round);
        keys.chunks(BATCH).for_each(|keys| self.ask_values(serial, keys.to_vec(), now, out));
        self.complete(now, out);
    }

    fn round_complete(&mut self, round: &Round, id: Id, out: &mut Vec<Output>) {
        let limits = self.settings.limits;
        // It may be read again by now.
        let Some(Resource { wanted, singles, mirror: Some(mirror), .. }) = self.resources.get_mut(&id) else { return };
        match round.apply(id, wanted, singles, mirror) {
            Applied::Nothing => {}
            Applied::Changes(..) if mirror.count() > limits.max_keys || mirror.bytes() > limits.max_decoded => {
                self.reread(id);
            }
            Applied::Changes(changes, trigger) => {
                out.push(Output::Report(id, Report::Changes { changes, trigger }));
            }
            Applied::Reread => self.reread(id),
        }
    }

    /// Reads a resource again, whatever is known of it.
    fn reread(&mut self, id: Id) {
        self.forget(id);
        match self.pass.as_mut().filter(|pass| pass.id == id) {
            // What it brings is reported all the same: changes without end are no reason to report nothing.
            Some(pass) => pass.is_stale = true,
            None => self.readings.again(id),
        }
    }

    /// Forgets what is known of a resource's keys and of their changes.
    fn forget(&mut self, id: Id) {
        if let Some(resource) = self.resources.get_mut(&id) {
            (resource.mirror, resource.touched) = (None, Touched::new());
            resource.told = Tally::new(self.settings.limits);
        }
    }

    // Watching

    /// Whether it is still open whether changes are told. Nothing is read before.
    fn is_undecided(&self) -> bool {
        match &self.watch {
            Watch::Asking(_) => true,
            Watch::On { unconfirmed, .. } => *unconfirmed > 0,
            Watch::Off | Watch::Declined { .. } => false,
        }
    }

    /// The resources that want to be watched.
    fn watchers(&self) -> Vec<Id> {
        self.readings.iter().filter(|(_, subscriber)| subscriber.may_watch).map(|(id, _)| id).collect()
    }

    /// Asks for changes where they are wanted, and no longer where they are not.
    fn arrange_watch(&mut self, now: Instant, out: &mut Vec<Output>) {
        let is_wanted = !self.watchers().is_empty();
        match self.watch {
            Watch::Asking(_) | Watch::On { .. } if !is_wanted => {
                self.close(EVENTS, out);
                self.watch = Watch::Off;
            }
            Watch::Off if is_wanted && self.readings.is_watcher_due(now) => self.ask_to_watch(now, out),
            Watch::Declined { until } if until <= now && self.pass.is_none() && self.readings.is_watcher_due(now) => {
                self.ask_to_watch(now, out);
            }
            Watch::On { .. } => self.subscribe(now),
            Watch::Off | Watch::Asking(_) | Watch::Declined { .. } => {}
        }
    }

    fn ask_to_watch(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.watch = Watch::Asking(Step::Settings);
        self.open(EVENTS, now, out);
    }

    /// Subscribes to the channels that are wanted and not had, and ends the others.
    fn subscribe(&mut self, now: Instant) {
        let Watch::On { channels, unconfirmed, .. } = &mut self.watch else { return };
        let wanted: BTreeSet<Channel> = self.routes.keys().cloned().collect();
        if *channels == wanted {
            return;
        }
        let new: Vec<&Channel> = wanted.difference(channels).collect();
        let old: Vec<&Channel> = channels.difference(&wanted).collect();
        let prefix = format!("__keyspace@{}__:", self.settings.database);
        let mut send = |channels: &[&Channel], for_key: &'static str, for_pattern: &'static str| {
            let full = |wants_key: bool| {
                let of_kind = channels.iter().filter_map(move |channel| match channel {
                    Channel::Key(key) => wants_key.then_some(key),
                    Channel::Pattern(pattern) => (!wants_key).then_some(pattern),
                });
                of_kind.map(|end| [prefix.as_bytes(), end].concat()).collect::<Vec<_>>()
            };
            for (name, full) in [(for_key, full(true)), (for_pattern, full(false))] {
                for some in full.chunks(BATCH) {
                    let words: Vec<&[u8]> =
                        [name.as_bytes()].into_iter().chain(some.iter().map(Vec::as_slice)).collect();
                    wire::command(&mut self.events.unsent, &words);
                }
            }
        };
        send(&new, "SUBSCRIBE", "PSUBSCRIBE");
        send(&old, "UNSUBSCRIBE", "PUNSUBSCRIBE");
        *unconfirmed += new.len();
        *channels = wanted;
        (self.events.heard, self.events.pending) = (now, 0);
    }

    /// A reply or a message on the connection for changes.
    fn event(&mut self, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        match (&mut self.watch, reply) {
            (Watch::Asking(Step::Login), Reply::Error(text)) => self.login_refused(&text, now, out),
            (Watch::Asking(step @ Step::Login), _) => *step = Step::Settings,
            (Watch::Asking(Step::Settings), reply) => self.told_settings(reply, now, out),
            (Watch::Asking(step @ Step::Number), Reply::Integer(number)) => {
                *step = Step::Tracking;
                let number = number.to_string();
                let words: [&[u8]; 8] =
                    [b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", number.as_bytes(), b"BCAST", b"PREFIX", NO_KEY];
                wire::command(&mut self.events.unsent, &words);
                wire::command(&mut self.events.unsent, &[b"SUBSCRIBE", FLUSHES]);
            }
            (Watch::Asking(Step::Number), reply) => {
                let untold = self.why_untold(reply);
                self.begin_watch(untold, now, out);
            }
            (Watch::Asking(Step::Tracking), reply) => {
                let untold = self.why_untold(reply);
                self.watch = Watch::Asking(Step::Flushes(untold));
            }
            (Watch::Asking(Step::Flushes(untold)), reply) => {
                let untold = untold.take();
                let untold = untold.or_else(|| self.why_untold(reply));
                self.begin_watch(untold, now, out);
            }
            (Watch::On { .. }, Reply::Error(text)) => {
                let refusal = Refusal::new(&text, &self.secrets);
                match refusal.why {
                    // A user may not be allowed to probe. The answer is one all the same.
                    Why::Denied if self.events.probed && !self.is_undecided() => self.events.probed = false,
                    Why::Denied => {
                        let reason = format!("{} may not subscribe: {}", self.user(), refusal.words);
                        self.decline(reason, now, out);
                    }
                    _ => self.refused("watch", &refusal, now, out),
                }
            }
            (Watch::On { .. }, Reply::Array(items)) => self.message(&items, now),
            // The answer to a probe where there is no channel.
            (Watch::On { .. }, _) => self.events.probed = false,
            (Watch::Off | Watch::Declined { .. }, _) => {}
        }
    }

    /// Whether the server tells of all changes.
    fn told_settings(&mut self, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        let reason = match reply {
            Reply::Array(items) => match &items[..] {
                [Reply::Bulk(_), Reply::Bulk(flags)] if tells_all(flags) => {
                    self.watch = Watch::Asking(Step::Number);
                    return;
                }
                [Reply::Bulk(_), Reply::Bulk(flags)] if flags.is_empty() => {
                    "`notify-keyspace-events` of the server is empty: set it to `KA`".to_owned()
                }
                [Reply::Bulk(_), Reply::Bulk(flags)] => {
                    format!("`notify-keyspace-events` of the server is `{}`: set it to `KA`", cut::key(flags))
                }
                _ => "the server has no `notify-keyspace-events`".to_owned(),
            },
            Reply::Error(text) => {
                let refusal = Refusal::new(&text, &self.secrets);
                match refusal.why {
                    Why::Denied | Why::Other => {
                        format!("the server does not say whether it tells of changes: {}", refusal.words)
                    }
                    _ => return self.refused("read from", &refusal, now, out),
                }
            }
            _ => return self.nonsense(now, out),
        };
        self.decline(reason, now, out);
    }

    /// Why an answer means that changes of all keys at once are not told.
    fn why_untold(&self, reply: Reply) -> Option<String> {
        match reply {
            Reply::Error(text) => Some(Refusal::new(&text, &self.secrets).words),
            _ => None,
        }
    }

    /// Subscribes to the changes of keys. `untold`: why changes of all keys at once are not told.
    fn begin_watch(&mut self, untold: Option<String>, now: Instant, out: &mut Vec<Output>) {
        if let Some(why) = untold.as_ref().filter(|why| self.flushes_untold.as_ref() != Some(why)) {
            let line = Line::new(Level::Warn, "FLUSHALL and FLUSHDB are not noticed before the next read");
            self.readings.log(line.with("reason", why.clone()), out);
        }
        self.flushes_untold = untold;
        self.watch = Watch::On { channels: BTreeSet::new(), unconfirmed: 0, since: None };
        self.subscribe(now);
        self.confirmed(now);
    }

    /// Changes are not told: those who want them are read by time.
    fn decline(&mut self, reason: String, now: Instant, out: &mut Vec<Output>) {
        self.close(EVENTS, out);
        self.watch = Watch::Declined { until: now + SLOW_RETRY };
        for id in self.watchers() {
            let interval = self.readings.unwatch(id, INTERVAL);
            self.forget(id);
            let Some(resource) = self.resources.get_mut(&id) else { continue };
            if resource.unwatched.as_ref() != Some(&reason) {
                let line = Line::new(Level::Warn, "redis cannot be watched, using `interval` instead");
                let line = line.with("backend", NAME).with("interval", interval.as_secs().to_string());
                out.push(Output::Report(id, Report::Log(line.with("reason", reason.clone()))));
                resource.unwatched = Some(reason.clone());
            }
        }
    }

    fn message(&mut self, items: &[Reply], now: Instant) {
        let texts: Vec<&Bytes> = items
            .iter()
            .filter_map(|item| match item {
                Reply::Bulk(text) => Some(text),
                _ => None,
            })
            .collect();
        match texts[..] {
            [kind, ..] if **kind == *b"subscribe" || **kind == *b"psubscribe" => {
                if let Watch::On { unconfirmed, .. } = &mut self.watch {
                    *unconfirmed = unconfirmed.saturating_sub(1);
                }
                self.confirmed(now);
            }
            [kind, ..] if **kind == *b"pong" => self.events.probed = false,
            [kind, channel] if **kind == *b"message" && **channel == *FLUSHES => {
                self.watchers().into_iter().for_each(|id| self.reread(id));
            }
            [kind, channel, _] if **kind == *b"message" => {
                if let Some(key) = self.key_of(channel) {
                    self.touch(&Channel::Key(key.clone()), &key);
                }
            }
            [kind, pattern, channel, _] if **kind == *b"pmessage" => {
                if let (Some(pattern), Some(key)) = (self.key_of(pattern), self.key_of(channel)) {
                    self.touch(&Channel::Pattern(pattern), &key);
                }
            }
            _ => {}
        }
    }

    /// What stands behind the beginning that all channels share.
    fn key_of(&self, channel: &[u8]) -> Option<Bytes> {
        let prefix = format!("__keyspace@{}__:", self.settings.database);
        channel.strip_prefix(prefix.as_bytes()).map(Bytes::from)
    }

    /// All channels may be confirmed: what was read before may have changed in between.
    fn confirmed(&mut self, now: Instant) {
        let Watch::On { unconfirmed: 0, since, .. } = &mut self.watch else { return };
        if since.is_none() {
            *since = Some(now);
            for id in self.watchers() {
                self.readings.watch(id);
                self.reread(id);
            }
            self.resources.values_mut().for_each(|resource| resource.unwatched = None);
        }
    }

    fn touch(&mut self, channel: &Channel, key: &Bytes) {
        let mut overflown = Vec::new();
        for (id, role) in self.routes.get(channel).into_iter().flatten() {
            let Some(resource) = self.resources.get_mut(id) else { continue };
            if !resource.touched.contains_key(key) && resource.told.add(key, b"").is_err() {
                // More than are ever read.
                overflown.push(*id);
                continue;
            }
            resource.touched.entry(key.clone()).or_default().add(channel, *role);
        }
        overflown.into_iter().for_each(|id| self.reread(id));
    }

    fn route(&mut self) {
        self.routes.clear();
        for id in self.watchers() {
            let Some(resource) = self.resources.get(&id) else { continue };
            for (channel, role) in resource.wanted.channels() {
                self.routes.entry(channel).or_default().push((id, role));
            }
        }
    }

    /// When a watch that stays silent is probed.
    fn probe_at(&self) -> Option<Instant> {
        let is_silent = matches!(self.watch, Watch::On { since: Some(_), .. }) && !self.events.probed;
        if is_silent { self.events.heard.checked_add(self.settings.watch_deadline) } else { None }
    }

    /// Probes both connections, so that a change finds the way for its value open.
    fn probe(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.probe_at().is_none_or(|at| at > now) {
            return;
        }
        wire::command(&mut self.events.unsent, &[b"PING"]);
        (self.events.heard, self.events.pending, self.events.probed) = (now, 0, true);
        if self.commands.stage == Stage::Open && self.asked.is_empty() {
            self.ask(&[b"PING"], Asked::Probe, now, out);
        }
    }

    /// When it is told that the read under way takes long.
    fn told_at(&self) -> Option<Instant> {
        self.long.filter(|_| self.pass.is_some())
    }

    /// Tells that a read takes long: the pages of a large database, or of a server that has no last one.
    fn tell_long(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(pass) = self.pass.as_ref().filter(|_| self.told_at().is_some_and(|at| at <= now)) else { return };
        self.long = None;
        let (pages, keys) = pass.progress();
        let line =
            Line::new(Level::Warn, "the read takes longer than a minute: SCAN looks at all keys of the database");
        let line = line.with("backend", NAME).with("pages", pages.to_string()).with("keys", keys.to_string());
        out.push(Output::Report(pass.id, Report::Log(line)));
    }

    /// Ends the connection for commands where nothing more is asked for some time.
    fn close_idle(&mut self, now: Instant, out: &mut Vec<Output>) {
        let is_watching = matches!(self.watch, Watch::Asking(_) | Watch::On { .. });
        let is_idle = self.pass.is_none() && self.round.is_none() && self.asked.is_empty();
        if is_idle && !is_watching && !self.readings.is_due(now) {
            self.close(COMMANDS, out);
        }
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Output>) {
        for (call, verb) in [(COMMANDS, "read from"), (EVENTS, "watch")] {
            if self.deadline(call).is_some_and(|deadline| deadline <= now) {
                let limit = self.settings.request_timeout.as_secs_f64();
                return self.failed(verb, &format!("no reply within {limit}s"), None, now, out);
            }
        }
        self.arrange_watch(now, out);
        self.begin(now, out);
        self.tell_long(now, out);
        self.probe(now, out);
        self.close_idle(now, out);
    }
}

/// What an answer to SCAN holds: the next cursor and keys.
fn page_of(reply: Reply) -> Option<(Bytes, Vec<Bytes>)> {
    let Reply::Array(parts) = reply else { return None };
    let [Reply::Bulk(cursor), Reply::Array(keys)] = &parts[..] else { return None };
    let key = |key: &Reply| match key {
        Reply::Bulk(key) => Some(key.clone()),
        _ => None,
    };
    Some((cursor.clone(), keys.iter().map(key).collect::<Option<_>>()?))
}

/// Whether keyspace messages come for everything that changes strings: commands, expiry, eviction.
fn tells_all(flags: &[u8]) -> bool {
    let has = |flag| flags.contains(&flag);
    has(b'K') && (has(b'A') || b"g$xe".iter().all(|flag| has(*flag)))
}

impl Subscribers for Redis {
    fn waiting(&self) -> Vec<Id> {
        self.readings.waiting()
    }

    fn give_up(&mut self) {
        self.readings.give_up();
    }

    fn use_node(&mut self, name: &str) {
        self.reset(self.now);
        self.node = name.to_owned();
    }
}

impl Protocol for Redis {
    fn add(&mut self, id: Id, options: &config::Backend, out: &mut Vec<Output>) {
        let resource = Resource {
            wanted: Wanted::new(&options.prefix, &options.keys, &options.watch_keys),
            singles: Vec::new(),
            mirror: None,
            touched: Touched::new(),
            told: Tally::new(self.settings.limits),
            unwatched: None,
            denied: 0,
        };
        self.resources.insert(id, resource);
        self.readings.add(id, options);
        self.route();
        if let Watch::Declined { .. } = self.watch {
            // What was decided was decided for those who were there.
            self.watch = Watch::Off;
        }
        let line = Line::new(Level::Info, "set backend nodes").with("backend", NAME);
        out.push(Output::Report(id, Report::Log(line.with("nodes", self.settings.nodes.clone()))));
    }

    fn remove(&mut self, id: Id, _out: &mut Vec<Output>) {
        self.resources.remove(&id);
        self.readings.remove(id);
        self.pass.take_if(|pass| pass.id == id);
        self.route();
    }

    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        self.now = now;
        match input {
            Input::Turn => self.turn(now, out),
            Input::Credentials(credentials) => self.credentials(credentials, now, out),
            Input::Connected(call) => {
                if let Some(connection) = self.connection(call) {
                    (connection.stage, connection.heard, connection.pending) = (Stage::Open, now, 0);
                }
            }
            Input::Body(call, piece) => self.body(call, piece, now, out),
            Input::End(call) => {
                let words = "connection closed by the server".to_owned();
                self.ended(call, Failure { kind: FailureKind::Closed, words }, now, out);
            }
            Input::Failed(call, failure) => self.ended(call, failure, now, out),
            Input::Quiet => self.begin_round(now, out),
            // It makes no requests over HTTP.
            Input::Head(..) => {}
        }
        self.flush(out);
    }

    fn due(&self) -> Option<Instant> {
        // What is due is begun behind what is under way.
        let is_free = self.pass.is_none() && !self.is_undecided();
        let read = if self.readings.is_due(self.now) { Some(self.now) } else { self.readings.due() };
        let read = read.filter(|_| is_free);
        let moments = [read, self.deadline(COMMANDS), self.deadline(EVENTS), self.probe_at(), self.told_at()];
        moments.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
