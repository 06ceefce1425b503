//! The protocol of Redis: one connection for commands, and a second one for keyspace notifications if a resource
//! watches. Decides the next command and what follows a failure. `pass` reads all keys of a resource, `round` the
//! changed ones. Does not choose the node.

mod connections;
mod replies;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::NAME;
use super::mirror::Mirror;
use super::pass::{BATCH, Pass};
use super::refusal::{Refusal, RefusalKind};
use super::round::{Applied, Round, Touched};
use super::wanted::{Channel, Role, Wanted};
use super::wire::Reader;
use crate::backend::failover::{LONGEST_BACKOFF, SLOW_RETRY};
use crate::backend::protocol::{CallId, Failure, FailureKind, Id, Input, Output, Protocol, Subscribers};
use crate::backend::readings::Readings;
use crate::backend::redact::Redactor;
use crate::backend::tally::Tally;
use crate::backend::{Mode, Report};
use crate::config::{self, ReadLimits};
use crate::cut;
use crate::log::{Level, Line};
use crate::random::Random;
use crate::sorted::SortedMap;
use crate::store::Bytes;

/// The connection for commands.
const COMMANDS: CallId = CallId(0);
/// The connection that receives changes.
const EVENTS: CallId = CallId(1);

/// A watch that lasted this long resets the backoff.
const LASTING: Duration = LONGEST_BACKOFF;

/// The read interval of a resource that cannot be watched and has no interval.
const INTERVAL: Duration = Duration::from_secs(60);

/// The number of bytes of a large reply that must arrive within the time limit of a reply.
const PIECE: usize = 1024;

/// The approximate number of keys in one page of SCAN.
const PAGE: &[u8] = b"1000";

/// The channel that reports FLUSHALL and FLUSHDB.
const FLUSHES: &[u8] = b"__redis__:invalidate";

/// A prefix that no key has: of the messages of CLIENT TRACKING only those about all keys are needed.
const NO_KEY: &[u8] = b"\0remco: the beginning of no key\0";

/// The shortest time between two reads of all keys of a resource after changes. It limits the rate on a server that is
/// flushed again and again, in any of its databases.
const PACE: Duration = Duration::from_millis(100);

/// A read that takes longer than this is logged.
const LONG: Duration = Duration::from_secs(60);

/// The options of a Redis.
pub struct Settings {
    /// The nodes, as the log shows them.
    pub nodes: String,
    /// The number of the database.
    pub database: i64,
    /// The time limit of a reply, or of the next piece of a large one.
    pub request_timeout: Duration,
    /// The node is probed after this time of silence of a watch.
    pub watch_deadline: Duration,
    /// The limits of one read.
    pub limits: ReadLimits,
    /// The size limit of a reply, in bytes.
    pub max_response: usize,
}

/// One Redis and the resources that share it.
pub struct Redis {
    settings: Settings,
    readings: Readings,
    resources: SortedMap<Id, Resource>,
    random: Random,
    /// The texts that errors must not show.
    secrets: Redactor,
    /// The user of the last login; `None`: there was none. Empty: the default user.
    user: Option<String>,
    /// The current node, as the log shows it.
    node: String,
    commands: Connection,
    events: Connection,
    /// The connections whose credentials are being read.
    logins: VecDeque<CallId>,
    /// The moment of the last input.
    now: Instant,
    /// The commands without a reply on the connection for commands, in order.
    asked: VecDeque<Asked>,
    /// The number of reads and rounds so far.
    count: u64,
    pass: Option<Pass>,
    /// When the log reports that the read takes long.
    long: Option<Instant>,
    round: Option<Round>,
    watch: Watch,
    /// Why the server does not report FLUSHALL and FLUSHDB, as the log has it.
    flushes_refusal: Option<String>,
    /// The purpose of each channel, for the watched resources.
    routes: BTreeMap<Channel, Vec<(Id, Role)>>,
}

/// One resource.
struct Resource {
    wanted: Wanted,
    /// Whether each configured key held a string at the last read.
    singles: Vec<bool>,
    /// The keys, if the resource is watched and was read.
    mirror: Option<Mirror>,
    /// The keys that changed since the read.
    touched: Touched,
    /// The count of the changed keys.
    announced: Tally,
    /// Why the resource is not watched, as its log has it.
    unwatched: Option<String>,
    /// The number of unreadable keys that the log has reported.
    denied: usize,
    /// When a read of all keys after changes was last planned, or is planned.
    reread: Option<Instant>,
}

/// Whether the server reports changes.
#[derive(Debug, PartialEq, Eq)]
enum Watch {
    /// The server was not asked for notifications yet.
    Off,
    /// The requests are sent. The next expected reply.
    Asking(Step),
    /// The server reports changes. `unconfirmed`: the number of unconfirmed channels; `since`: when all of them were
    /// confirmed.
    On { channels: BTreeSet<Channel>, unconfirmed: usize, since: Option<Instant> },
    /// The server does not report changes. The first read after `until` asks again.
    Declined { until: Instant },
}

/// The replies before watching, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The reply to the login.
    Login,
    /// The kinds of changes that the server reports.
    Settings,
    /// The number of the connection.
    Number,
    /// Whether the server reports FLUSHALL and FLUSHDB on this connection.
    Tracking,
    /// Whether the channel of flushes may be subscribed to. The text: why flushes are not reported, as known so far.
    Flushes(Option<String>),
}

/// One of the two connections.
struct Connection {
    stage: Stage,
    reader: Reader,
    /// The commands that are sent at the end of the turn, or when name and password are known.
    unsent: Vec<u8>,
    /// The time of the last reply or [`PIECE`] of one, or of the first request on an idle connection.
    last_received: Instant,
    /// The number of bytes since `last_received`.
    pending: usize,
    /// Whether a probe has no reply yet.
    probed: bool,
    /// Whether the server has sent anything.
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

/// The purpose of a command, for its reply.
enum Asked {
    Login,
    Database,
    Probe,
    /// The value of a configured key.
    Key {
        pass: u64,
        number: usize,
    },
    Page {
        pass: u64,
    },
    /// The values of several keys, for the read or round with this number.
    Values(u64, Vec<Bytes>),
    /// The value of one of several keys whose common read failed.
    Value(u64, Bytes),
}

impl Connection {
    fn new(limit: usize, now: Instant) -> Connection {
        let reader = Reader::new(limit);
        let stage = Stage::Closed;
        Connection {
            stage,
            reader,
            unsent: Vec::new(),
            last_received: now,
            pending: 0,
            probed: false,
            is_answered: false,
        }
    }
}

impl Redis {
    /// A protocol without resources. `seed` spreads reads and pauses over time.
    pub fn new(settings: Settings, mode: Mode, seed: u64, now: Instant) -> Redis {
        Redis {
            readings: Readings::new(NAME, mode, seed),
            resources: SortedMap::new(),
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
            flushes_refusal: None,
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

    // Failures

    /// Reports that the node failed. The next node is used after a pause of at least `rest`.
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

    /// Drops all pending work: both connections are closed.
    fn reset(&mut self, now: Instant) {
        let limit = self.settings.max_response;
        (self.commands, self.events) = (Connection::new(limit, now), Connection::new(limit, now));
        (self.pass, self.round, self.watch) = (None, None, Watch::Off);
        self.logins.clear();
        self.asked.clear();
        let ids: Vec<Id> = self.resources.keys().copied().collect();
        ids.into_iter().for_each(|id| self.forget(id));
        // The watched keys may have changed meanwhile.
        self.readings.failed(true);
    }

    /// Handles an error that concerns all resources.
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

    /// The pause before a retry if an operator has to correct the cause.
    fn rest(&mut self) -> Duration {
        self.random.between(SLOW_RETRY, SLOW_RETRY * 3)
    }

    fn login_refused(&mut self, text: &str, now: Instant, out: &mut Vec<Output>) {
        let refusal = Refusal::new(text, &self.secrets);
        let words = match self.user.as_deref() {
            Some(user) if !user.is_empty() => format!("user `{}`: {}", cut::key(user.as_bytes()), refusal.words),
            _ => refusal.words.clone(),
        };
        self.refused_with("log in to", &words, refusal.kind != RefusalKind::Busy, now, out);
    }

    /// The name of the user in errors.
    fn user(&self) -> String {
        match self.user.as_deref() {
            Some(user) if !user.is_empty() => format!("user `{}`", cut::key(user.as_bytes())),
            _ => "the default user".to_owned(),
        }
    }

    /// Reports a failure of the resource that is being read.
    fn pass_refused(&mut self, words: &str, now: Instant, out: &mut Vec<Output>) {
        let Some(pass) = self.pass.take() else { return };
        let rest = self.rest();
        let words = format!("failed to read from {}: {words}", self.node);
        self.forget(pass.id);
        self.readings.refused(pass.id, words, rest, now, out);
    }

    // Reads and rounds

    /// Begins the read of a resource that is due.
    fn begin(&mut self, now: Instant, out: &mut Vec<Output>) {
        while self.pass.is_none() && !self.is_undecided() {
            let Some(id) = self.readings.begin(now, out) else { return };
            // Later changes are handled after the read.
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

    /// Reports the complete read and the complete round.
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

    /// Requests the changed keys of all resources that are not being read.
    fn begin_round(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.round.is_some() {
            return;
        }
        let mut touched = SortedMap::new();
        for (id, resource) in &mut self.resources {
            if resource.mirror.is_some() && !resource.touched.is_empty() {
                resource.announced = Tally::new(self.settings.limits);
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
        // The resource may be being read again by now.
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

    /// Reads all keys of a resource again.
    fn reread(&mut self, id: Id) {
        self.forget(id);
        match self.pass.as_mut().filter(|pass| pass.id == id) {
            // The result is reported anyway, because endless changes must not suppress all reports.
            Some(pass) => pass.is_stale = true,
            None => self.plan_reread(id),
        }
    }

    /// Plans to read a resource again: at once, unless it was read again just before.
    fn plan_reread(&mut self, id: Id) {
        let Some(resource) = self.resources.get_mut(&id) else { return };
        let now = self.now;
        match resource.reread {
            // The read is planned already.
            Some(last) if last > now => {}
            Some(last) if last + PACE > now => {
                resource.reread = Some(last + PACE);
                self.readings.again_at(id, last + PACE);
            }
            Some(_) | None => {
                resource.reread = Some(now);
                self.readings.again(id);
            }
        }
    }

    /// Drops the keys of a resource and their changes.
    fn forget(&mut self, id: Id) {
        if let Some(resource) = self.resources.get_mut(&id) {
            (resource.mirror, resource.touched) = (None, Touched::new());
            resource.announced = Tally::new(self.settings.limits);
        }
    }

    /// When the log reports that the pending read takes long.
    fn slow_warning_due(&self) -> Option<Instant> {
        self.long.filter(|_| self.pass.is_some())
    }

    /// Warns that a read takes long: the database is large, or the pages have no end.
    fn warn_slow(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(pass) = self.pass.as_ref().filter(|_| self.slow_warning_due().is_some_and(|at| at <= now)) else {
            return;
        };
        self.long = None;
        let (pages, keys) = pass.progress();
        let line =
            Line::new(Level::Warn, "the read takes longer than a minute: SCAN looks at all keys of the database");
        let line = line.with("backend", NAME).with("pages", pages.to_string()).with("keys", keys.to_string());
        out.push(Output::Report(pass.id, Report::Log(line)));
    }

    /// Closes the connection for commands if no request follows for some time.
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
        self.warn_slow(now, out);
        self.probe(now, out);
        self.close_idle(now, out);
    }
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
            announced: Tally::new(self.settings.limits),
            unwatched: None,
            denied: 0,
            reread: None,
        };
        self.resources.insert(id, resource);
        self.readings.add(id, options);
        self.route();
        if let Watch::Declined { .. } = self.watch {
            // The decision applied to the resources at that time.
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
                    (connection.stage, connection.last_received, connection.pending) = (Stage::Open, now, 0);
                }
            }
            Input::Body(call, piece) => self.body(call, piece, now, out),
            Input::End(call) => {
                let words = "connection closed by the server".to_owned();
                self.ended(call, Failure { kind: FailureKind::Closed, words }, now, out);
            }
            Input::Failed(call, failure) => self.ended(call, failure, now, out),
            Input::Quiet => self.begin_round(now, out),
            // This protocol does not use HTTP.
            Input::Head(..) => {}
        }
        self.flush(out);
    }

    fn due(&self) -> Option<Instant> {
        // A due read starts after the pending one.
        let is_free = self.pass.is_none() && !self.is_undecided();
        let read = if self.readings.is_due(self.now) { Some(self.now) } else { self.readings.due() };
        let read = read.filter(|_| is_free);
        let moments = [read, self.deadline(COMMANDS), self.deadline(EVENTS), self.probe_at(), self.slow_warning_due()];
        moments.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
