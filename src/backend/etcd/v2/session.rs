//! Decides what is asked next, and what an answer, a failure or the time means: reading all keys, waiting for the next
//! change of each, starting over where history was lost. Opens no connection and reads no clock: it is told what
//! happened and when. Which node is used, and when after a failure, is the driver's.
//!
//! Each key is read as of an index of its own, and is waited for from the one behind it, so that nothing is lost between.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use super::mirror::{Applied, Loading, Mirror, is_within};
use super::wire::{self, Entry, Head, Refusal, Why};
use crate::backend::etcd::NAME;
use crate::backend::etcd::pace::Pace;
use crate::backend::etcd::subscription::{Goal, OTHER_CLUSTER};
use crate::backend::failover::{LASTING, LONGEST_BACKOFF, SLOW_RETRY};
use crate::backend::protocol::{Id, Output, Subscribers};
use crate::backend::tally::Tally;
use crate::backend::{Change, Report};
use crate::config::ReadLimits;
use crate::cut;
use crate::log::{Level, Line};
use crate::store::Bytes;

/// A lost history concerns every machine at once: they read all keys at random moments within this.
const SPREAD: Duration = Duration::from_secs(1);

/// A wait brings one change. Those of a burst are reported as one, but not later than this.
const BURST: Duration = Duration::from_millis(100);

/// A wait is silent where its keys do not change, and where its connection alone is dead: it is opened anew as soon as the
/// store has changed behind it, and at the latest after this.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// How many changes etcd remembers. A wait from before them cannot be opened anew without a read.
const HISTORY: u64 = 1000;

/// What a backend is asked for.
pub struct Settings {
    /// Whose backend it is.
    pub id: Id,
    /// The nodes as they are logged.
    pub nodes: String,
    /// As it is logged.
    pub prefix: String,
    pub goal: Goal,
    /// Reads all keys again and again.
    pub interval: Option<Duration>,
    /// Silent waits may be dead with their node's kernel alive: after this the node is asked for the newest index.
    pub watch_deadline: Duration,
    /// How long waits may take to bring what a read had before them.
    pub patience: Duration,
    pub limits: ReadLimits,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time passed. The only event that makes a request, at most one.
    Turn,
    /// A key was read; what is below it was given to [`Session::entry`].
    Read(Head),
    /// A wait was answered with a head. The rest comes in its own time.
    Opened { wait: usize, head: Head },
    /// The rest of a wait came, and with it the wait has ended.
    Came { wait: usize, event: wire::Event },
    /// A wait ended without a change. `whole`: as the server meant it, not cut off.
    Ended { wait: usize, whole: bool },
    /// The waits have nothing more for now.
    Quiet,
    /// The newest index was told.
    Probed(Head),
    /// The request was refused, to the user if there is one.
    Refused { refusal: Refusal, user: Option<String> },
    /// The request broke off, in words.
    Broken(String),
    /// A wait that was open broke off, in words.
    WaitBroken { wait: usize, words: String },
    /// All keys together are more than may be read, in words.
    TooMany(String),
    /// A wait brought what cannot be taken, in words. It would bring the same again.
    Unusable(String),
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    Ask(Request),
    /// Drops the request under way.
    Abort,
    /// Drops all waits.
    Close,
    /// Drops one of them.
    Drop(usize),
    Tell(Output),
}

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: RequestKind,
    /// What to get: path and query.
    pub target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Answered by `Read`, `Refused` or `Broken`.
    Read,
    /// Answered by `Opened`, `Refused` or `Broken`.
    Wait(usize),
    /// Answered by `Probed`, `Refused` or `Broken`. That there is no such key is an answer too.
    Probe,
}

/// One etcd and what is known of it.
pub struct Session {
    settings: Settings,
    mirror: Mirror,
    /// After a failure nothing is asked for until then.
    resting: Option<Instant>,
    state: State,
    waits: Vec<Wait>,
    /// When the node is asked for its newest index.
    probe_at: Option<Instant>,
    /// Since when all waits have been open, but for those that are opened anew.
    watching: Option<Instant>,
    /// Of the store that was read last, and the newest index seen of it.
    cluster: Option<u64>,
    newest: u64,
    /// The node that is used, as it is shown.
    node: String,
    /// The request that is under way.
    under_way: Option<RequestKind>,
    /// What the node is asked about: a key, for messages.
    asked: Vec<u8>,
    /// Of reads that tell what has become of a key.
    pace: Pace,
    /// How often history was lost since waits lasted.
    losses: u32,
    /// What has come and is not reported yet; and until when it may wait for the rest of its burst.
    changes: Vec<Change>,
    trigger: bool,
    burst: Option<Instant>,
    /// When the last event came; `None`: before the first turn.
    now: Option<Instant>,
    random: Box<dyn FnMut(u64) -> u64>,
}

/// How far the keys are.
enum State {
    /// All keys are being read, or are about to be. Waits are left alone meanwhile.
    Reading(Reading),
    /// All keys are known, or are not wanted any more.
    Known {
        /// When all keys are read again.
        next_read: Option<Instant>,
        doubts: Option<Doubts>,
    },
}

/// Keys that the last read had otherwise than the mirror.
struct Doubts {
    keys: BTreeSet<Bytes>,
    /// Until when the waits may still bring them.
    until: Instant,
}

/// One key that is waited for.
struct Wait {
    path: Vec<u8>,
    /// The first index that has not come yet.
    next: u64,
    /// The index as of which its keys were read. What comes up to it is known.
    read: u64,
    open: Option<Open>,
}

/// A wait that was answered with a head.
#[derive(Clone, Copy)]
struct Open {
    at: Instant,
    /// The first index it was asked for.
    from: u64,
    /// The newest one when it was opened: a change up to it is of the past.
    index: u64,
}

/// A read of all keys, one after the other.
struct Reading {
    /// What is not read yet, by its place in the mirror's list.
    rest: VecDeque<usize>,
    mode: ReadMode,
    /// As of when the others were.
    heads: Vec<(usize, Head)>,
    loading: Loading,
    /// Of the answer that is coming in: void if it breaks off.
    part: Loading,
    /// What was read, and the same with the answer that is coming in.
    tally: Tally,
    part_tally: Tally,
}

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadMode {
    /// What was known before it is void: it is waited for what comes behind it.
    Reset,
    /// The waits go on, and are to know the same.
    WhileWatching,
}

impl Session {
    /// `random` gives a number below its argument, which is not 0.
    pub fn new(settings: Settings, mirror: Mirror, random: Box<dyn FnMut(u64) -> u64>) -> Session {
        let watched = if settings.goal == Goal::Watched { mirror.watched() } else { Vec::new() };
        Session {
            node: String::new(),
            under_way: None,
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
            self.under_way = None;
        }
        match event {
            Event::Turn => self.turn(now, out),
            Event::Read(head) => self.read(head, now, out),
            Event::Opened { wait, head } => self.opened(wait, head, now, out),
            Event::Came { wait, event } => self.came(wait, event, now, out),
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

    /// Takes a key of the answer that is coming in.
    ///
    /// # Errors
    /// The read is larger than it may be, in words: nothing more is taken of the answer.
    pub fn entry(&mut self, entry: Entry) -> Result<(), String> {
        let State::Reading(reading) = &mut self.state else { return Ok(()) };
        reading.part_tally.add(&entry.key, &entry.value)?;
        self.mirror.add(&mut reading.part, entry);
        Ok(())
    }

    /// When the next turn is wanted.
    pub fn due(&self) -> Option<Instant> {
        if self.under_way.is_some() {
            // One request at a time. A burst ends by itself.
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

    /// Whether what the waits bring is taken: an answer that is under way must not be older than what is known.
    pub fn listens(&self) -> bool {
        !self.is_reading() && !matches!(self.under_way, Some(RequestKind::Read | RequestKind::Probe))
    }

    fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// How many waits there can be.
    pub fn waits(&self) -> usize {
        self.waits.len()
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.under_way.is_some() || self.resting.is_some_and(|until| now < until) {
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
            // Before the waits: where one has many changes, there is always one that is closed.
            self.probe()
        } else if let Some(place) = self.closed() {
            let Wait { path, next, .. } = &self.waits[place];
            (RequestKind::Wait(place), path.clone(), wire::wait(path, *next))
        } else {
            return;
        };
        self.asked = key;
        self.under_way = Some(kind);
        out.push(Action::Ask(Request { kind, target }));
    }

    /// The wait to be opened next: of several the one that is furthest behind, so that one with many changes does not
    /// starve the others.
    fn closed(&self) -> Option<usize> {
        let closed = self.waits.iter().enumerate().filter(|(_, wait)| wait.open.is_none());
        closed.min_by_key(|(_, wait)| wait.next).map(|(place, _)| place)
    }

    fn probe(&self) -> (RequestKind, Vec<u8>, String) {
        // One that is read or watched may be asked about.
        let watched = self.waits.first().map(|wait| &*wait.path);
        let key = watched.or(self.mirror.read().first().map(|path| &**path)).unwrap_or(b"/");
        (RequestKind::Probe, key.to_vec(), wire::probe(key))
    }

    /// Lets all keys be read, from the first one.
    fn read_all(&mut self, mode: ReadMode, out: &mut Vec<Action>) {
        out.push(self.log(Level::Debug, "retrieving keys", "key_prefix", self.settings.prefix.clone()));
        let rest = (0..self.mirror.read().len()).collect();
        let tally = Tally::new(self.settings.limits);
        let (loading, part) = (self.mirror.load(), self.mirror.load());
        self.state = State::Reading(Reading { rest, mode, heads: Vec::new(), loading, part, tally, part_tally: tally });
    }

    fn read(&mut self, head: Head, now: Instant, out: &mut Vec<Action>) {
        let State::Reading(reading) = &mut self.state else { return };
        // What the cluster agrees on never goes back.
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

    /// The read that is over, or is given up.
    fn stop_reading(&mut self) -> Option<Reading> {
        match mem::replace(&mut self.state, State::Known { next_read: None, doubts: None }) {
            State::Reading(reading) => Some(reading),
            known @ State::Known { .. } => {
                self.state = known;
                None
            }
        }
    }

    /// All keys are there. `head` came last.
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
            doubts = Some(Doubts { keys: unknown, until: now + self.settings.patience });
        }
        let interval = self.settings.interval.map(|interval| self.about(interval));
        let next_read = interval.and_then(|interval| now.checked_add(interval));
        self.state = State::Known { next_read, doubts };
        // What has come before is part of it.
        (self.changes, self.trigger, self.burst) = (Vec::new(), false, None);
        if let (true, Some(why)) = (self.watching.is_some(), changed) {
            out.push(self.log(Level::Warn, "opening the watch again", "reason", why.to_owned()));
            self.close(out);
        } else if self.waits.is_empty() {
            out.push(Action::Tell(Output::ResetBackoff));
            self.healthy(out);
        }
        out.push(self.report(Report::Snapshot(layer)));
    }

    fn opened(&mut self, wait: usize, head: Head, now: Instant, out: &mut Vec<Action>) {
        let wait = &mut self.waits[wait];
        wait.open = Some(Open { at: now, from: wait.next, index: head.index });
        if self.cluster.is_some_and(|cluster| cluster != head.cluster) {
            return self.lost(Level::Warn, OTHER_CLUSTER, now, out);
        }
        let lags = head.index < wait.next.saturating_sub(1);
        if self.waits.iter().all(|wait| wait.open.is_some()) {
            self.watching.get_or_insert(now);
            self.healthy(out);
        }
        // A node that lags catches up; a store that was put back makes the wait silent until it is past its index.
        let usual = now + self.about(self.settings.watch_deadline);
        // The changes of one wait say nothing about the others.
        self.probe_at = Some(if lags { now } else { self.probe_at.unwrap_or(usual) });
    }

    fn came(&mut self, wait: usize, event: wire::Event, now: Instant, out: &mut Vec<Action>) {
        let wait = &mut self.waits[wait];
        let Some(open) = wait.open.take() else { return };
        if event.index < open.from {
            // Asked again at once it would say the same.
            self.asked.clone_from(&wait.path);
            return self.failed("an answer to another wait", None, now, out);
        }
        if event.index < wait.next {
            return;
        }
        wait.next = event.index.saturating_add(1);
        if event.index <= wait.read {
            return self.settle(&event.key);
        }
        self.newest = self.newest.max(event.index);
        if event.index < open.index {
            // There may be more to come at once.
            self.burst.get_or_insert(now + BURST);
        }
        match self.mirror.apply(event) {
            Applied::Changes { changes, trigger } => {
                self.changes.extend(changes);
                self.trigger |= trigger;
            }
            Applied::ReadAgain => {
                self.read_all(ReadMode::Reset, out);
                let part = self.up_to(Duration::from_secs(1));
                let at = self.pace.next(now, |pause| pause.mul_f64(part.as_secs_f64()));
                self.resting = Some(at).filter(|at| *at > now);
            }
        }
    }

    fn ended(&mut self, wait: usize, whole: bool, now: Instant, out: &mut Vec<Action>) {
        let wait = &mut self.waits[wait];
        let Some(open) = wait.open.take() else { return };
        if now.saturating_duration_since(open.at) < LASTING {
            self.asked.clone_from(&wait.path);
            self.failed("wait ended without a change", None, now, out);
        } else if whole {
            // Nothing came of what was past when it was opened. Without this a quiet key would fall out of history.
            wait.next = wait.next.max(open.index.saturating_add(1));
        }
    }

    fn quiet(&mut self, now: Instant, out: &mut Vec<Action>) {
        let catches_up = self.waits.iter().any(|wait| wait.open.is_none());
        if !(catches_up && self.burst.is_some_and(|until| now < until)) {
            self.flush(out);
        }
    }

    /// The node told the newest index because it was asked.
    fn probed(&mut self, head: Head, now: Instant, out: &mut Vec<Action>) {
        if let Some(reading) = self.stop_reading() {
            return self.install(reading, head, now, out);
        }
        self.probe_at = Some(now + self.about(self.settings.watch_deadline));
        if let Some(why) = self.store_changed(head) {
            return self.lost(Level::Warn, why, now, out);
        }
        for (place, wait) in self.waits.iter_mut().enumerate() {
            let Some(open) = wait.open else { continue };
            let age = now.saturating_duration_since(open.at);
            // Not where it would cost a read: its age has to say it then.
            let cheap = head.index > open.index && head.index.saturating_sub(wait.next) < HISTORY;
            if age >= LONGEST_WAIT || (cheap && age >= self.settings.watch_deadline) {
                wait.open = None;
                out.push(Action::Drop(place));
            }
        }
    }

    /// Why what the whole cluster agreed on cannot come from the store that was read and watched so far.
    fn store_changed(&self, newest: Head) -> Option<&'static str> {
        if self.cluster? != newest.cluster {
            Some(OTHER_CLUSTER)
        } else if newest.index < self.newest {
            Some("etcd was put back to an earlier index")
        } else {
            None
        }
    }

    fn refused(&mut self, refusal: &Refusal, user: Option<String>, now: Instant, out: &mut Vec<Action>) {
        if refusal.why == Why::Cleared && !self.is_reading() {
            return self.lost(Level::Info, "history was cleared", now, out);
        }
        let key = cut::key(&self.asked);
        let said = &refusal.words;
        let words = match (refusal.why, user) {
            (Why::Denied, None) => format!("`{key}` may not be read without a user: {said}"),
            (Why::Denied, Some(user)) => format!("user `{user}` may not read `{key}`, or has another password: {said}"),
            (Why::Missing | Why::Other | Why::Cleared, _) => format!("`{key}`: {said}"),
            (Why::UnknownPath, _) => said.clone(),
        };
        if self.settings.goal == Goal::Once && matches!(refusal.why, Why::Missing | Why::Denied | Why::UnknownPath) {
            // The other nodes would say the same, and so would this one later.
            out.push(Action::Tell(Output::FailFast));
        }
        // Only a person can mend it, and every attempt costs etcd a hash of the password.
        let not_before = (refusal.why == Why::Denied).then(|| self.slow_retry(now));
        self.failed(&words, not_before, now, out);
    }

    /// All keys together are more than may be read: no node has fewer. What was read of them is given back.
    fn too_many(&mut self, words: &str, now: Instant, out: &mut Vec<Action>) {
        let mode = self.stop_reading().map_or(ReadMode::Reset, |reading| reading.mode);
        self.read_all(mode, out);
        out.push(Action::Tell(Output::FailFast));
        let words = format!("`{}`: {words}", cut::key(&self.asked));
        let not_before = Some(self.slow_retry(now));
        self.failed(&words, not_before, now, out);
    }

    /// When to ask again for what it may take a person to mend.
    fn slow_retry(&mut self, now: Instant) -> Instant {
        now + SLOW_RETRY + self.up_to(SLOW_RETRY * 2)
    }

    /// What was known cannot be brought up to date: all keys are read again.
    fn lost(&mut self, level: Level, why: &str, now: Instant, out: &mut Vec<Action>) {
        self.flush(out);
        self.close(out);
        self.abort(out);
        out.push(self.log(level, "reading all keys again", "reason", why.to_owned()));
        self.read_all(ReadMode::Reset, out);
        // A history that is always shorter than a read takes must not become a stream of reads.
        let longest = (SPREAD * (1 << self.losses.min(10))).min(LONGEST_BACKOFF);
        let certain = if self.losses == 0 { Duration::ZERO } else { longest / 2 };
        self.losses = self.losses.saturating_add(1);
        self.resting = Some(now + certain + self.up_to(longest - certain));
    }

    /// The node did not do what it was asked for. The next one is, after a rest.
    fn failed(&mut self, words: &str, not_before: Option<Instant>, now: Instant, out: &mut Vec<Action>) {
        self.flush(out);
        if self.is_lasting(now) {
            out.push(Action::Tell(Output::ResetBackoff));
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
        out.push(Action::Tell(Output::NodeFailed { words, not_before }));
    }

    /// Whether the waits have been open for so long that what ends them was no failure to watch.
    fn is_lasting(&self, now: Instant) -> bool {
        self.watching.is_some_and(|since| now.saturating_duration_since(since) >= LASTING)
    }

    /// Drops the request under way.
    fn abort(&mut self, out: &mut Vec<Action>) {
        if self.under_way.take().is_some() {
            out.push(Action::Abort);
        }
    }

    /// A wait brought a change that a read had before it.
    fn settle(&mut self, key: &[u8]) {
        if let State::Known { doubts: Some(doubts), .. } = &mut self.state {
            // A directory went with all that was below it.
            doubts.keys.retain(|doubtful| !is_within(doubtful, key));
            if doubts.keys.is_empty() {
                self.skip_what_was_read();
            }
        }
    }

    /// The waits go on behind the last read. Those that are open may still bring one change of before it.
    fn skip_what_was_read(&mut self) {
        self.forget_doubts();
        for wait in &mut self.waits {
            wait.next = wait.next.max(wait.read.saturating_add(1));
        }
    }

    fn forget_doubts(&mut self) {
        if let State::Known { doubts, .. } = &mut self.state {
            *doubts = None;
        }
    }

    /// Drops all waits.
    fn close(&mut self, out: &mut Vec<Action>) {
        // A loss after waits that lasted is the first. Proxies end silent ones.
        if self.now.is_some_and(|now| self.is_lasting(now)) {
            self.losses = 0;
        }
        (self.watching, self.probe_at) = (None, None);
        self.forget_doubts();
        if self.waits.iter_mut().filter_map(|wait| wait.open.take()).count() > 0 {
            out.push(Action::Close);
        }
    }

    fn healthy(&mut self, out: &mut Vec<Action>) {
        out.push(Action::Tell(Output::Worked));
        out.push(Action::Tell(Output::Healthy(self.settings.id)));
    }

    /// Reports what came in together as one.
    fn flush(&mut self, out: &mut Vec<Action>) {
        self.burst = None;
        let (changes, trigger) = (mem::take(&mut self.changes), mem::take(&mut self.trigger));
        if trigger || !changes.is_empty() {
            out.push(self.report(Report::Changes { changes, trigger }));
        }
    }

    /// The duration give or take a tenth.
    fn about(&mut self, duration: Duration) -> Duration {
        let tenth = duration / 10;
        duration - tenth + self.up_to(tenth * 2)
    }

    fn log(&self, level: Level, message: &str, name: &'static str, value: String) -> Action {
        self.report(Report::Log(Line::new(level, message).with("backend", NAME).with(name, value)))
    }

    fn report(&self, report: Report) -> Action {
        Action::Tell(Output::Report(self.settings.id, report))
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
