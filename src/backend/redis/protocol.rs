//! Redis as a protocol: one connection for commands, and where changes are watched, one for the channels that tell of
//! them. Decides when what is asked, and what becomes of failures. What is read is `pass`'s business, what changes
//! `round`'s; the parts below open connections, take replies and watch.

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
use crate::store::Bytes;

/// The connection for commands.
const COMMANDS: CallId = CallId(0);
/// The connection that receives changes.
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

/// Between two reads of all keys of a resource that changes call for, at least: a server that is flushed without end, in any
/// of its databases, must not have work done without end.
const PACE: Duration = Duration::from_millis(100);

/// A read that takes longer is logged.
const LONG: Duration = Duration::from_secs(60);

/// The options that all resources of a Redis share.
pub struct Settings {
    /// The nodes as they are shown.
    pub nodes: String,
    /// The number of the database.
    pub database: i64,
    /// How long a reply, or the next piece of a large one, may take.
    pub request_timeout: Duration,
    /// How long a watch may be silent before the node is probed.
    pub watch_deadline: Duration,
    /// The limits of one read.
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
    /// The texts that errors must not show.
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
    /// The requests without a reply on the connection for commands, in order.
    asked: VecDeque<Asked>,
    /// How many reads and rounds there were.
    count: u64,
    pass: Option<Pass>,
    /// When the log reports that the read takes long.
    long: Option<Instant>,
    round: Option<Round>,
    watch: Watch,
    /// Why changes of all keys at once are not told, as the log has it.
    flushes_refusal: Option<String>,
    /// The purpose of each channel, for the watched resources.
    routes: BTreeMap<Channel, Vec<(Id, Role)>>,
}

/// One resource.
struct Resource {
    wanted: Wanted,
    /// Whether each of its keys holds a string, as of the last read.
    singles: Vec<bool>,
    /// Its keys, where it is watched and was read.
    mirror: Option<Mirror>,
    /// The changes since then.
    touched: Touched,
    /// Counts what has changed.
    announced: Tally,
    /// Why it is not watched, as its log has it.
    unwatched: Option<String>,
    /// How many keys its log says that the user may not read.
    denied: usize,
    /// When changes last called for a read of all its keys, or will.
    reread: Option<Instant>,
}

/// Whether the server reports changes.
#[derive(Debug, PartialEq, Eq)]
enum Watch {
    /// The server was not asked yet.
    Off,
    /// The requests are sent; the next expected answer.
    Asking(Step),
    /// It tells. So many channels are `unconfirmed`; all of them are confirmed `since` then.
    On { channels: BTreeSet<Channel>, unconfirmed: usize, since: Option<Instant> },
    /// The server does not report changes. It is asked again before a read after this moment.
    Declined { until: Instant },
}

/// The answers to the requests before watching, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// To the login.
    Login,
    /// The kinds of changes that the server reports.
    Settings,
    /// The number of the connection.
    Number,
    /// Whether the server reports changes of all keys at once on this connection.
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
    /// The time of the last reply or [`PIECE`] of one, or of the first request on an idle connection.
    last_received: Instant,
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

/// The request that a reply on the connection for commands answers.
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

    /// Reports that the node failed. The next one is used after a pause of at least `rest`.
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
        // The watched keys may have changed meanwhile.
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
        self.refused_with("log in to", &words, refusal.kind != RefusalKind::Busy, now, out);
    }

    /// The name of the user in errors.
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
            // It is planned.
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

    /// Forgets what is known of a resource's keys and of their changes.
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

    /// Tells that a read takes long: the pages of a large database, or of a server that has no last one.
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
            // It makes no requests over HTTP.
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
