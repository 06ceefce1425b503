//! The state machine of etcd version 2 for one resource. Decides the next request (a read of all keys, a wait for the
//! next change of each) and what an answer, a failure or a passed deadline means. Opens no connection and reads no
//! clock: events carry the time. The driver chooses the node and the pause after a failure.
//!
//! Each key is read at an index of its own. Its wait starts at the next index, so no change is lost between them.
//! `waits` has the waits.

mod waits;

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use self::waits::Wait;
use super::mirror::{Loading, Mirror, is_within};
use super::wire::{self, Entry, Head, Refusal, RefusalKind};
use crate::backend::etcd::NAME;
use crate::backend::etcd::pace::Pace;
use crate::backend::etcd::subscription::Goal;
use crate::backend::failover::{LONGEST_BACKOFF, SLOW_RETRY};
use crate::backend::protocol::{Id, Output, Subscribers};
use crate::backend::tally::Tally;
use crate::backend::{Change, Report};
use crate::config::ReadLimits;
use crate::cut;
use crate::log::{Level, Line};
use crate::store::Bytes;

/// A lost history hits every machine at the same moment. Each one starts to read all keys at a random moment within
/// this time.
const SPREAD: Duration = Duration::from_secs(1);

/// A wait delivers one change. The changes of a burst are reported together, at most this long after the first.
const BURST: Duration = Duration::from_millis(100);

/// The options of one resource.
pub struct Settings {
    /// The subscriber.
    pub id: Id,
    /// The nodes, as the log shows them.
    pub nodes: String,
    /// The prefix, as the log shows it.
    pub prefix: String,
    pub goal: Goal,
    /// The time between two reads of all keys; `None`: one read.
    pub interval: Option<Duration>,
    /// Silent waits may be dead although the kernel of their node is alive. After this time the session requests the
    /// newest index from the node.
    pub watch_deadline: Duration,
    /// The time limit for waits to deliver changes that a read has found first.
    pub stream_timeout: Duration,
    pub limits: ReadLimits,
}

/// An input of the session.
#[derive(Debug)]
pub enum Event {
    /// Time passed. Only this event begins a request, and at most one.
    Turn,
    /// A key was read. The keys below it went to [`Session::entry`].
    Read(Head),
    /// The head of a wait's answer arrived. The body follows after a change.
    Opened { wait: usize, head: Head },
    /// The body of a wait's answer arrived, and the wait has ended.
    Changed { wait: usize, event: wire::Event },
    /// A wait ended without a change. `whole`: the server ended the answer properly.
    Ended { wait: usize, whole: bool },
    /// All bytes that have arrived for the waits are processed.
    Quiet,
    /// The newest index arrived.
    Probed(Head),
    /// The request was refused, to `user` if the configuration names one.
    Refused { refusal: Refusal, user: Option<String> },
    /// The request failed. The text has the cause.
    Broken(String),
    /// An open wait failed. The text has the cause.
    WaitBroken { wait: usize, words: String },
    /// All keys together exceed the limits of a read. The text names the limit.
    TooMany(String),
    /// A wait's answer is unusable, and a repeated wait would have an equal answer. The text has the cause.
    Unusable(String),
}

/// An action for the protocol.
#[derive(Debug)]
pub enum Action {
    Ask(Request),
    /// Cancels the pending request.
    Abort,
    /// Closes all waits.
    Close,
    /// Closes one wait.
    Drop(usize),
    Emit(Output),
}

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: RequestKind,
    /// Path and query.
    pub target: String,
}

/// The kind of a request, with the events that answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Answered by `Read`, `Refused` or `Broken`.
    Read,
    /// Answered by `Opened`, `Refused` or `Broken`.
    Wait(usize),
    /// Answered by `Probed`, `Refused` or `Broken`. A missing key counts as `Probed`.
    Probe,
}

/// The state of one resource in one etcd.
pub struct Session {
    settings: Settings,
    mirror: Mirror,
    /// The end of the pause after a failure.
    resting: Option<Instant>,
    state: State,
    waits: Vec<Wait>,
    /// When the newest index is requested from the node.
    probe_at: Option<Instant>,
    /// Since when all waits have been open, apart from those that are being reopened.
    watching: Option<Instant>,
    /// The cluster that was read last, and its newest index so far.
    cluster: Option<u64>,
    newest: u64,
    /// The current node, as the log shows it.
    node: String,
    /// The pending request.
    pending: Option<RequestKind>,
    /// The key of the pending request, for messages.
    asked: Vec<u8>,
    /// The pauses between reads that events made necessary.
    pace: Pace,
    /// How often history was lost since the last waits that lasted.
    losses: u32,
    /// The changes that are not reported yet, and the deadline for the rest of their burst.
    changes: Vec<Change>,
    trigger: bool,
    burst: Option<Instant>,
    /// The time of the last event; `None`: before the first turn.
    now: Option<Instant>,
    random: Box<dyn FnMut(u64) -> u64>,
}

/// The progress of the keys.
enum State {
    /// A read of all keys is pending or planned. Waits stay as they are during the read.
    Reading(Reading),
    /// All keys are known, or no longer needed.
    Known {
        /// When the next read of all keys starts.
        next_read: Option<Instant>,
        doubts: Option<Doubts>,
    },
}

/// Keys whose value in the last read differed from the mirror.
struct Doubts {
    keys: BTreeSet<Bytes>,
    /// The deadline for the waits to deliver these changes.
    until: Instant,
}

/// A read of all keys, one after the other.
struct Reading {
    /// The keys that are not read yet, by their position in the mirror's list.
    rest: VecDeque<usize>,
    mode: ReadMode,
    /// The heads of the answers so far, by the position of the key.
    heads: Vec<(usize, Head)>,
    loading: Loading,
    /// The keys of the answer that is arriving. They are dropped if it fails.
    part: Loading,
    /// The size of the complete answers, without and with the one that is arriving.
    tally: Tally,
    part_tally: Tally,
}

/// The purpose of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadMode {
    /// The earlier state is void. The waits start after the read.
    Reset,
    /// The waits stay open, and the read is compared with their state.
    WhileWatching,
}

impl Session {
    /// `random` returns a number below its argument, which is not 0.
    pub fn new(settings: Settings, mirror: Mirror, random: Box<dyn FnMut(u64) -> u64>) -> Session {
        let watched = if settings.goal == Goal::Watched { mirror.watched() } else { Vec::new() };
        Session {
            node: String::new(),
            pending: None,
            asked: Vec::new(),
            pace: Pace::default(),
            losses: 0,
            waits: watched.into_iter().map(|path| Wait { path, next: 0, read: 0, open: None }).collect(),
            probe_at: None,
            watching: None,
            cluster: None,
            newest: 0,
            state: State::Known { next_read: None, doubts: None },
            changes: Vec::new(),
            trigger: false,
            burst: None,
            now: None,
            resting: None,
            settings,
            mirror,
            random,
        }
    }

    /// Processes an event of the time `now`, and appends the actions that follow to `out`. The first event also starts
    /// the read of all keys.
    pub fn on(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        if self.now.replace(now).is_none() {
            let line = Line::new(Level::Info, "set backend nodes").with("backend", NAME);
            let line = line.with("nodes", self.settings.nodes.clone()).with("version", "2");
            out.push(self.report(Report::Log(line)));
            self.read_all(ReadMode::Reset, out);
        }
        if matches!(
            event,
            Event::Read(_)
                | Event::Opened { .. }
                | Event::Probed(_)
                | Event::Refused { .. }
                | Event::Broken(_)
                | Event::TooMany(_)
        ) {
            self.pending = None;
        }
        match event {
            Event::Turn => self.turn(now, out),
            Event::Read(head) => self.read(head, now, out),
            Event::Opened { wait, head } => self.opened(wait, head, now, out),
            Event::Changed { wait, event } => self.changed(wait, event, now, out),
            Event::Ended { wait, whole } => self.ended(wait, whole, now, out),
            Event::Quiet => self.quiet(now, out),
            Event::Probed(head) => self.probed(head, now, out),
            Event::Refused { refusal, user } => self.refused(&refusal, user, now, out),
            Event::Broken(words) => self.failed(&words, None, now, out),
            Event::WaitBroken { wait, words } => {
                if self.waits[wait].open.is_some() {
                    self.failed(&words, None, now, out);
                }
            }
            Event::TooMany(words) => self.too_many(&words, now, out),
            Event::Unusable(words) => {
                self.failed(&words, None, now, out);
                self.read_all(ReadMode::Reset, out);
            }
        }
    }

    /// Takes a key of the answer that is arriving.
    ///
    /// # Errors
    /// The read exceeds its limits. The text names the limit, and the rest of the answer is dropped.
    pub fn entry(&mut self, entry: Entry) -> Result<(), String> {
        let State::Reading(reading) = &mut self.state else { return Ok(()) };
        reading.part_tally.add(&entry.key, &entry.value)?;
        self.mirror.add(&mut reading.part, entry);
        Ok(())
    }

    /// When the next [`Event::Turn`] is due.
    pub fn due(&self) -> Option<Instant> {
        if self.pending.is_some() {
            // Only one request may be pending. The end of a burst needs no request.
            return self.burst;
        }
        match &self.state {
            _ if self.resting.is_some() => self.resting,
            State::Reading(_) => self.now,
            State::Known { .. } if self.waits.iter().any(|wait| wait.open.is_none()) => self.now,
            State::Known { next_read, doubts } => {
                let settled = doubts.as_ref().map(|doubts| doubts.until);
                [self.probe_at, *next_read, self.burst, settled].into_iter().flatten().min()
            }
        }
    }

    /// Whether the session takes answers of waits. During a read it does not, because the answer to the read must not
    /// be older than the known state.
    pub fn listens(&self) -> bool {
        !self.is_reading() && !matches!(self.pending, Some(RequestKind::Read | RequestKind::Probe))
    }

    fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// The number of waits.
    pub fn waits(&self) -> usize {
        self.waits.len()
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.pending.is_some() || self.resting.is_some_and(|until| now < until) {
            return;
        }
        self.resting = None;
        if let State::Known { next_read, doubts } = &mut self.state {
            if next_read.is_some_and(|at| at <= now) {
                let mode = if self.watching.is_some() { ReadMode::WhileWatching } else { ReadMode::Reset };
                self.read_all(mode, out);
            } else if let Some(Doubts { keys, .. }) = doubts.take_if(|doubts| doubts.until <= now) {
                let keys = keys.len().to_string();
                out.push(self.log(Level::Warn, "watch missed changes, opening it again", "keys", keys));
                self.close(out);
                self.skip_what_was_read();
            }
        }
        let (kind, key, target) = if let State::Reading(reading) = &self.state {
            match reading.rest.front() {
                Some(place) => {
                    let key = &self.mirror.read()[*place];
                    (RequestKind::Read, key.clone(), wire::read(key))
                }
                None => self.probe(),
            }
        } else if self.watching.is_some() && self.probe_at.is_some_and(|at| at <= now) {
            // The probe comes before the waits, because a key with many changes always has a closed wait.
            self.probe()
        } else if let Some(place) = self.closed() {
            let Wait { path, next, .. } = &self.waits[place];
            (RequestKind::Wait(place), path.clone(), wire::wait(path, *next))
        } else {
            return;
        };
        self.asked = key;
        self.pending = Some(kind);
        out.push(Action::Ask(Request { kind, target }));
    }

    fn probe(&self) -> (RequestKind, Vec<u8>, String) {
        // The user may read a key that is read or watched.
        let watched = self.waits.first().map(|wait| &*wait.path);
        let key = watched.or(self.mirror.read().first().map(|path| &**path)).unwrap_or(b"/");
        (RequestKind::Probe, key.to_vec(), wire::probe(key))
    }

    /// The newest index that the keys have reached; `None`: nothing was read yet.
    pub fn revision(&self) -> Option<u64> {
        self.cluster.map(|_| self.newest)
    }

    /// Starts a read of all keys, from the first one.
    fn read_all(&mut self, mode: ReadMode, out: &mut Vec<Action>) {
        out.push(self.log(Level::Debug, "retrieving keys", "key_prefix", self.settings.prefix.clone()));
        let rest = (0..self.mirror.read().len()).collect();
        let tally = Tally::new(self.settings.limits);
        let (loading, part) = (self.mirror.load(), self.mirror.load());
        self.state = State::Reading(Reading { rest, mode, heads: Vec::new(), loading, part, tally, part_tally: tally });
    }

    fn read(&mut self, head: Head, now: Instant, out: &mut Vec<Action>) {
        let State::Reading(reading) = &mut self.state else { return };
        // An index that a quorum has confirmed never decreases.
        let other = |before: &Head| before.cluster != head.cluster || before.index > head.index;
        if reading.heads.iter().any(|(_, before)| other(before)) {
            self.read_all(ReadMode::Reset, out);
            return self.failed("keys of another store than those of the answer before it", None, now, out);
        }
        reading.heads.extend(reading.rest.pop_front().map(|place| (place, head)));
        reading.loading.append(&mut reading.part);
        reading.tally = reading.part_tally;
        if reading.rest.is_empty()
            && let Some(reading) = self.stop_reading()
        {
            self.install(reading, head, now, out);
        }
    }

    /// Ends the read, and returns it.
    fn stop_reading(&mut self) -> Option<Reading> {
        match mem::replace(&mut self.state, State::Known { next_read: None, doubts: None }) {
            State::Reading(reading) => Some(reading),
            known @ State::Known { .. } => {
                self.state = known;
                None
            }
        }
    }

    /// Takes over a complete read. `head` is the last one.
    fn install(&mut self, reading: Reading, head: Head, now: Instant, out: &mut Vec<Action>) {
        let changed = self.store_changed(head);
        self.cluster = Some(head.cluster);
        let heads = &reading.heads;
        let oldest = heads.iter().map(|(_, head)| head.index).min().unwrap_or(head.index);
        for wait in &mut self.waits {
            let keys = self.mirror.read();
            let own = heads.iter().filter(|(place, _)| is_within(&keys[*place], &wait.path));
            wait.read = own.map(|(_, head)| head.index).min().unwrap_or(oldest);
        }
        self.newest = if changed.is_some() { head.index } else { self.newest.max(head.index) };
        let (layer, unknown) = self.mirror.install(reading.loading);
        let mut doubts = None;
        if reading.mode == ReadMode::Reset || changed.is_some() {
            self.waits.iter_mut().for_each(|wait| wait.next = wait.read.saturating_add(1));
        } else if unknown.is_empty() {
            self.skip_what_was_read();
        } else {
            doubts = Some(Doubts { keys: unknown, until: now + self.settings.stream_timeout });
        }
        let interval = self.settings.interval.map(|interval| self.jittered(interval));
        let next_read = interval.and_then(|interval| now.checked_add(interval));
        self.state = State::Known { next_read, doubts };
        // The changes that arrived before the read are part of it.
        (self.changes, self.trigger, self.burst) = (Vec::new(), false, None);
        if let (true, Some(why)) = (self.watching.is_some(), changed) {
            out.push(self.log(Level::Warn, "opening the watch again", "reason", why.to_owned()));
            self.close(out);
        } else if self.waits.is_empty() {
            out.push(Action::Emit(Output::ResetBackoff));
            self.healthy(out);
        }
        out.push(self.report(Report::Snapshot(layer)));
    }

    fn quiet(&mut self, now: Instant, out: &mut Vec<Action>) {
        let catches_up = self.waits.iter().any(|wait| wait.open.is_none());
        if !(catches_up && self.burst.is_some_and(|until| now < until)) {
            self.flush(out);
        }
    }

    fn refused(&mut self, refusal: &Refusal, user: Option<String>, now: Instant, out: &mut Vec<Action>) {
        if refusal.kind == RefusalKind::Cleared && !self.is_reading() {
            return self.lost(Level::Info, "history was cleared", now, out);
        }
        let key = cut::key(&self.asked);
        let server_text = &refusal.words;
        let words = match (refusal.kind, user) {
            (RefusalKind::Denied, None) => format!("`{key}` may not be read without a user: {server_text}"),
            (RefusalKind::Denied, Some(user)) => {
                format!("user `{user}` may not read `{key}`, or has another password: {server_text}")
            }
            (RefusalKind::Missing | RefusalKind::Other | RefusalKind::Cleared, _) => format!("`{key}`: {server_text}"),
            (RefusalKind::UnknownPath, _) => server_text.clone(),
        };
        if self.settings.goal == Goal::Once
            && matches!(refusal.kind, RefusalKind::Missing | RefusalKind::Denied | RefusalKind::UnknownPath)
        {
            // The other nodes would refuse too, and so would this node later.
            out.push(Action::Emit(Output::FailFast));
        }
        // An operator must correct it, and each attempt costs etcd a hash of the password.
        let not_before = (refusal.kind == RefusalKind::Denied).then(|| self.slow_retry(now));
        self.failed(&words, not_before, now, out);
    }

    /// All keys together exceed the limits of a read, on every node. The keys that were read are dropped.
    fn too_many(&mut self, words: &str, now: Instant, out: &mut Vec<Action>) {
        let mode = self.stop_reading().map_or(ReadMode::Reset, |reading| reading.mode);
        self.read_all(mode, out);
        out.push(Action::Emit(Output::FailFast));
        let words = format!("`{}`: {words}", cut::key(&self.asked));
        let not_before = Some(self.slow_retry(now));
        self.failed(&words, not_before, now, out);
    }

    /// The time of the next attempt after a failure that an operator may have to correct.
    fn slow_retry(&mut self, now: Instant) -> Instant {
        now + SLOW_RETRY + self.up_to(SLOW_RETRY * 2)
    }

    /// The keys cannot be brought up to date by events: starts a read of all keys.
    fn lost(&mut self, level: Level, why: &str, now: Instant, out: &mut Vec<Action>) {
        self.flush(out);
        self.close(out);
        self.abort(out);
        out.push(self.log(level, "reading all keys again", "reason", why.to_owned()));
        self.read_all(ReadMode::Reset, out);
        // If the history is always shorter than the time of a read, the reads must not follow each other without a
        // pause.
        let longest = (SPREAD * (1 << self.losses.min(10))).min(LONGEST_BACKOFF);
        let certain = if self.losses == 0 { Duration::ZERO } else { longest / 2 };
        self.losses = self.losses.saturating_add(1);
        self.resting = Some(now + certain + self.up_to(longest - certain));
    }

    /// Reports that the node failed. The next node is used after a pause.
    fn failed(&mut self, words: &str, not_before: Option<Instant>, now: Instant, out: &mut Vec<Action>) {
        self.flush(out);
        if self.is_lasting(now) {
            out.push(Action::Emit(Output::ResetBackoff));
        }
        self.close(out);
        let what = match &mut self.state {
            State::Reading(reading) => {
                reading.part = self.mirror.load();
                reading.part_tally = reading.tally;
                "read from"
            }
            State::Known { .. } => "watch",
        };
        self.abort(out);
        let words = format!("failed to {what} {}: {words}", self.node);
        out.push(Action::Emit(Output::NodeFailed { words, not_before }));
    }

    /// Cancels the pending request.
    fn abort(&mut self, out: &mut Vec<Action>) {
        if self.pending.take().is_some() {
            out.push(Action::Abort);
        }
    }

    fn healthy(&mut self, out: &mut Vec<Action>) {
        out.push(Action::Emit(Output::Worked));
        out.push(Action::Emit(Output::Healthy(self.settings.id)));
    }

    /// Reports the changes that arrived together as one.
    fn flush(&mut self, out: &mut Vec<Action>) {
        self.burst = None;
        let (changes, trigger) = (mem::take(&mut self.changes), mem::take(&mut self.trigger));
        if trigger || !changes.is_empty() {
            out.push(self.report(Report::Changes { changes, trigger }));
        }
    }

    /// The duration with a random change of at most a tenth.
    fn jittered(&mut self, duration: Duration) -> Duration {
        let tenth = duration / 10;
        duration - tenth + self.up_to(tenth * 2)
    }

    fn log(&self, level: Level, message: &str, name: &'static str, value: String) -> Action {
        self.report(Report::Log(Line::new(level, message).with("backend", NAME).with(name, value)))
    }

    fn report(&self, report: Report) -> Action {
        Action::Emit(Output::Report(self.settings.id, report))
    }

    fn up_to(&mut self, duration: Duration) -> Duration {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros((self.random)(micros.max(1)))
    }
}

impl Subscribers for Session {
    fn waiting(&self) -> Vec<Id> {
        let has_all = self.now.is_some() && !self.is_reading() && self.waits.is_empty();
        if has_all { Vec::new() } else { vec![self.settings.id] }
    }

    fn give_up(&mut self) {
        drop(self.stop_reading());
    }

    fn use_node(&mut self, name: &str) {
        self.node = name.to_owned();
    }
}

#[cfg(test)]
mod tests;
