//! Decides what is asked of which node next, and what an answer, a failure or the time means: reading all keys at one
//! revision, watching from the next one, starting over where history was lost, backing off. Opens no connection and
//! reads no clock: it is told what happened and when.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use super::NAME;
use super::mirror::{Loading, Meaning, Mirror};
use super::wire::{self, Entry, Header, Message, Page, Refusal, Span, WatchAnswer};
use crate::backend::keys::StoreKey;
use crate::backend::{Change, Report};
use crate::log::{Level, Line};
use crate::store::Bytes;

/// Keys of one page of a read. A page holds the loop while etcd gathers it: some 100 ms each where there are 100,000
/// keys, and all of them at once would take a second.
pub const PAGE: usize = 10_000;

/// Between two attempts: twice this for the first round over the nodes, doubled every round.
const SHORTEST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(10);

/// A stream that lasted as long as this was no failure to watch.
const LASTING: Duration = LONGEST_REST;

/// A lost history concerns every machine at once: they read all keys at random moments within this.
const SPREAD: Duration = Duration::from_secs(1);

/// A silent stream may be dead with its node's kernel alive: after this the node is asked for the newest revision.
const SILENCE: Duration = Duration::from_secs(30);

/// What a stream has to bring within this: the confirmation of its watches, or the events up to a read's revision.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a read starts over at the same node because its revision was compacted meanwhile.
const RESTARTS: u32 = 3;

/// How a change of the store behind a node is called.
const OTHER_CLUSTER: &str = "the node belongs to another cluster";

/// What a backend is asked for.
pub struct Settings {
    /// As they are shown.
    pub nodes: Vec<String>,
    /// As it is logged.
    pub prefix: String,
    pub goal: Goal,
    /// Reads all keys again and again.
    pub interval: Option<Duration>,
}

/// How keys are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Read once. As many failures as there are nodes end it.
    Once,
    /// Read until it succeeds, then by interval, if there is one.
    Kept,
    /// The same, and changes as they come.
    Watched,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time passed. The only event that makes a request, at most one.
    Turn,
    /// A range request was answered; its entries were given to [`Session::entry`].
    Page(Page),
    /// A watch request was answered by a stream.
    Opened,
    /// The stream brought a line.
    Message(Message),
    /// The stream has nothing more for now.
    Quiet,
    /// The request was refused.
    Refused(Refusal),
    /// The request or the stream broke off.
    Broken { words: String, tail: Tail },
}

/// Whether the watch can go on where it broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    Fetchable,
    /// What comes next in the history is too large to be taken.
    TooLong,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    Ask(Request),
    /// Drops the stream.
    Close,
    Report(Report),
}

/// A request to one node.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Its place in [`Settings::nodes`].
    pub node: usize,
    pub kind: RequestKind,
    pub body: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Answered by `Page`, `Refused` or `Broken`.
    Range,
    /// Answered by `Opened`, `Refused` or `Broken`.
    Watch,
}

/// One etcd and what is known of it.
pub struct Session {
    settings: Settings,
    mirror: Mirror,
    state: State,
    /// The read of all keys that is under way or due: without a stream, or beside one that is left alone meanwhile.
    reading: Option<Reading>,
    /// When all keys are read again.
    next_read: Option<Instant>,
    /// What is watched, each with the first revision that has not come yet.
    watches: Vec<(Span, u64)>,
    /// Of the store that was read last.
    cluster: u64,
    /// The node that is asked.
    node: usize,
    /// What each node failed with since everything worked.
    failures: Vec<Option<String>>,
    /// Whether that was reported.
    reported: bool,
    /// How often nodes failed since a stream lasted, or since a read where nothing is watched.
    attempts: u32,
    /// How often the read that is under way lost its revision.
    restarts: u32,
    /// What the stream brought since it was last quiet.
    changes: Vec<Change>,
    trigger: bool,
    /// When the last event came; `None`: before the first turn.
    now: Option<Instant>,
    random: Box<dyn FnMut(u64) -> u64>,
}

enum State {
    /// No stream is open. What is missing can be asked for: first the keys, then the stream.
    Ready,
    /// The same after a failure: nothing is asked for until then.
    Resting {
        until: Instant,
    },
    Watching(Watching),
}

/// A stream that is open.
struct Watching {
    since: Instant,
    /// How many watches are not confirmed, and until when they have to be.
    unconfirmed: Option<(usize, Instant)>,
    /// When the node is asked for its newest revision, to see whether it is alive and what it was.
    probe_at: Instant,
    /// Keys that the last read had otherwise than the mirror, and until when the stream may still bring them.
    doubts: Option<(BTreeSet<Bytes>, Instant)>,
}

/// A read of all keys, page by page.
struct Reading {
    /// What is not read yet; the next page begins at its beginning.
    rest: VecDeque<Span>,
    /// That of the first page; all others are read as of its revision.
    first: Option<Header>,
    loading: Loading,
}

impl Session {
    /// `random` gives a number below its argument, which is not 0.
    pub fn new(settings: Settings, mirror: Mirror, mut random: Box<dyn FnMut(u64) -> u64>) -> Session {
        let nodes = settings.nodes.len();
        Session {
            // Many machines have the same list; they spread over it.
            node: random(nodes as u64) as usize,
            failures: vec![None; nodes],
            reported: false,
            attempts: 0,
            restarts: 0,
            watches: mirror.watched().into_iter().map(|span| (span, 0)).collect(),
            cluster: 0,
            reading: None,
            next_read: None,
            changes: Vec::new(),
            trigger: false,
            now: None,
            state: State::Ready,
            settings,
            mirror,
            random,
        }
    }

    pub fn on(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        if self.now.replace(now).is_none() {
            let line = Line::new(Level::Info, "set backend nodes").with("backend", NAME);
            // The version too: it is found out where the configuration does not say it.
            let line = line.with("nodes", self.settings.nodes.join(",")).with("version", "3");
            out.push(Action::Report(Report::Log(line)));
            self.read_all(out);
        }
        match event {
            Event::Turn => self.turn(now, out),
            Event::Page(page) => self.page(page, now, out),
            Event::Opened => self.opened(now),
            Event::Message(Message::Watch(answer)) => self.watched(answer, now, out),
            Event::Message(Message::Error(words)) => self.failed(&words, now, out),
            Event::Quiet => self.flush(out),
            Event::Refused(refusal) => self.refused(refusal, now, out),
            Event::Broken { words, tail } => {
                self.failed(&words, now, out);
                if tail == Tail::TooLong && self.reading.is_none() {
                    self.read_all(out);
                }
            }
        }
    }

    /// Takes a key of the page that is coming in.
    pub fn entry(&mut self, entry: Entry) {
        if let Some(reading) = &mut self.reading {
            self.mirror.add(&mut reading.loading, entry);
        }
    }

    /// When the next turn is wanted.
    pub fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Resting { until } => Some(*until),
            State::Ready | State::Watching(_) if self.reading.is_some() => self.now,
            State::Ready if self.wants_stream() => self.now,
            State::Ready => self.next_read,
            State::Watching(watching) => {
                let confirmed = watching.unconfirmed.map(|(_, until)| until);
                let settled = watching.doubts.as_ref().map(|(_, until)| *until);
                [Some(watching.probe_at), confirmed, settled, self.next_read].into_iter().flatten().min()
            }
        }
    }

    /// Whether the stream is to be read.
    pub fn listens(&self) -> bool {
        matches!(self.state, State::Watching(_)) && self.reading.is_none()
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.state {
            State::Resting { until } if now < until => return,
            State::Resting { .. } => self.state = State::Ready,
            State::Ready | State::Watching(_) => {}
        }
        if self.reading.is_none() && self.next_read.is_some_and(|at| at <= now) {
            self.read_all(out);
        }
        if let Some(reading) = &self.reading {
            return out.push(self.ask(RequestKind::Range, reading.request()));
        }
        if let State::Watching(watching) = &self.state {
            match watching {
                Watching { doubts: Some((keys, until)), .. } if *until <= now => {
                    let keys = keys.len().to_string();
                    out.push(log(Level::Warn, "watch missed changes, opening it again", "keys", keys));
                    out.push(Action::Close);
                    self.state = State::Ready;
                }
                Watching { unconfirmed: Some((_, until)), .. } if *until <= now => {
                    return self.failed(&format!("watch not confirmed within {PATIENCE:?}"), now, out);
                }
                Watching { probe_at, .. } if *probe_at <= now => {
                    return out.push(self.ask(RequestKind::Range, wire::newest_revision()));
                }
                Watching { .. } => return,
            }
        }
        if self.wants_stream() {
            let body = wire::watch(self.watches.iter().map(|(span, next)| (span, *next)));
            out.push(self.ask(RequestKind::Watch, body));
        }
    }

    fn ask(&self, kind: RequestKind, body: String) -> Action {
        Action::Ask(Request { node: self.node, kind, body })
    }

    fn wants_stream(&self) -> bool {
        self.settings.goal == Goal::Watched && !self.watches.is_empty()
    }

    /// Lets all keys be read, from the first one.
    fn read_all(&mut self, out: &mut Vec<Action>) {
        out.push(log(Level::Debug, "retrieving keys", "key_prefix", self.settings.prefix.clone()));
        self.next_read = None;
        self.reading = Some(Reading { rest: self.mirror.spans().into(), first: None, loading: self.mirror.load() });
    }

    fn page(&mut self, page: Page, now: Instant, out: &mut Vec<Action>) {
        let Some(mut reading) = self.reading.take() else {
            return self.probed(page.header, now, out);
        };
        match reading.turn_page(page) {
            Ok(Progress::Goes) => self.reading = Some(reading),
            Ok(Progress::Done(header)) => self.install(reading.loading, header, now, out),
            Err(words) => {
                self.read_all(out);
                self.failed(words, now, out);
            }
        }
    }

    /// All keys are there.
    fn install(&mut self, loading: Loading, header: Header, now: Instant, out: &mut Vec<Action>) {
        let changed = self.store_changed(header);
        let (layer, unknown) = self.mirror.install(loading);
        self.cluster = header.cluster_id;
        self.restarts = 0;
        for (_, next) in &mut self.watches {
            *next = header.revision.saturating_add(1);
        }
        if let Some(interval) = self.settings.interval {
            self.next_read = now.checked_add(self.about(interval));
        }
        if let (State::Watching(_), Some(why)) = (&self.state, changed) {
            out.push(log(Level::Warn, "opening the watch again", "reason", why.to_owned()));
            out.push(Action::Close);
            self.state = State::Ready;
        } else if let State::Watching(watching) = &mut self.state {
            let mut doubts = watching.doubts.take().map(|(keys, _)| keys).unwrap_or_default();
            doubts.extend(unknown);
            watching.doubts = (!doubts.is_empty()).then(|| (doubts, now + PATIENCE));
        } else if !self.wants_stream() {
            self.attempts = 0;
            self.healthy(out);
        }
        out.push(Action::Report(Report::Snapshot(layer)));
    }

    fn opened(&mut self, now: Instant) {
        self.state = State::Watching(Watching {
            since: now,
            unconfirmed: Some((self.watches.len(), now + PATIENCE)),
            probe_at: now + self.about(SILENCE),
            doubts: None,
        });
    }

    fn watched(&mut self, answer: WatchAnswer, now: Instant, out: &mut Vec<Action>) {
        let probe_at = now + self.about(SILENCE);
        let State::Watching(watching) = &mut self.state else {
            return;
        };
        watching.probe_at = probe_at;
        if answer.canceled {
            return match answer.compact_revision {
                0 => self.failed(&format!("watch refused: {}", wire::shown(&answer.cancel_reason)), now, out),
                _ => self.lost(Level::Info, "history was compacted", now, out),
            };
        }
        let index = answer.watch_id.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let Some((_, next)) = index.and_then(|index| self.watches.get_mut(index)) else {
            return self.failed("answer for a watch that was not asked for", now, out);
        };
        // The events of one revision come together: they are all new, or all known from the read.
        let known = *next;
        if answer.created {
            if answer.header.cluster_id != self.cluster {
                return self.lost(Level::Warn, OTHER_CLUSTER, now, out);
            }
            if answer.header.revision < known.saturating_sub(1) {
                // The node lags behind, or the store was put back; then this watch would be silent until it is past `known`.
                watching.probe_at = now;
            }
            watching.unconfirmed = watching.unconfirmed.and_then(|(n, until)| (n > 1).then(|| (n - 1, until)));
            if watching.unconfirmed.is_none() {
                self.healthy(out);
            }
            return;
        }
        if answer.events.is_empty() {
            // Progress: there is nothing up to this revision that has not come.
            *next = known.max(answer.header.revision.saturating_add(1));
        }
        let mut read_again = false;
        for event in answer.events {
            let revision = event.entry.mod_revision;
            if revision < known {
                watching.settle(self.mirror.store_key(&event.entry.key));
                continue;
            }
            *next = (*next).max(revision.saturating_add(1));
            match self.mirror.apply(event) {
                Meaning::Nothing => {}
                Meaning::Trigger => self.trigger = true,
                Meaning::Change { change, trigger } => {
                    self.changes.push(change);
                    self.trigger |= trigger;
                }
                Meaning::ReadAgain => read_again = true,
            }
        }
        if read_again {
            self.read_all(out);
        }
    }

    /// The node told its newest revision because it was asked.
    fn probed(&mut self, header: Header, now: Instant, out: &mut Vec<Action>) {
        let probe_at = now + self.about(SILENCE);
        let State::Watching(watching) = &mut self.state else {
            return;
        };
        watching.probe_at = probe_at;
        if let Some(why) = self.store_changed(header) {
            self.lost(Level::Warn, why, now, out);
        }
    }

    /// Why what the whole cluster agreed on cannot come from the store that was read and watched so far.
    fn store_changed(&self, newest: Header) -> Option<&'static str> {
        let behind = |(_, next): &(Span, u64)| newest.revision < next.saturating_sub(1);
        if newest.cluster_id != self.cluster {
            Some(OTHER_CLUSTER)
        } else if self.watches.iter().any(behind) {
            Some("etcd was put back to an earlier revision")
        } else {
            None
        }
    }

    fn refused(&mut self, refusal: Refusal, now: Instant, out: &mut Vec<Action>) {
        if refusal.revision_gone && self.reading.is_some() {
            self.read_all(out);
            self.restarts += 1;
            if self.restarts <= RESTARTS {
                return;
            }
        }
        self.failed(&refusal.words, now, out);
    }

    /// What was known cannot be brought up to date: all keys are read again.
    fn lost(&mut self, level: Level, why: &str, now: Instant, out: &mut Vec<Action>) {
        self.flush(out);
        out.push(Action::Close);
        out.push(log(level, "reading all keys again", "reason", why.to_owned()));
        self.read_all(out);
        self.state = State::Resting { until: now + self.up_to(SPREAD) };
    }

    /// The node did not do what it was asked for. The next one is, after a rest.
    fn failed(&mut self, words: &str, now: Instant, out: &mut Vec<Action>) {
        self.flush(out);
        if let State::Watching(watching) = &self.state {
            out.push(Action::Close);
            if now.saturating_duration_since(watching.since) >= LASTING {
                self.attempts = 0;
            }
        }
        let what = if self.reading.is_some() { "read from" } else { "watch" };
        self.failures[self.node] = Some(format!("failed to {what} {}: {words}", self.settings.nodes[self.node]));
        self.attempts = self.attempts.saturating_add(1);
        self.node = (self.node + 1) % self.settings.nodes.len();
        self.state = State::Ready;
        if self.settings.goal == Goal::Once && (self.attempts as usize) < self.settings.nodes.len() {
            return;
        }
        // All nodes' failures, so that the text is the same in every round.
        let all: Vec<&str> = self.failures.iter().flatten().map(String::as_str).collect();
        out.push(Action::Report(Report::Failed(all.join("; "))));
        self.reported = true;
        if self.settings.goal == Goal::Once {
            self.reading = None;
        } else {
            self.state = State::Resting { until: now + self.rest() };
        }
    }

    fn healthy(&mut self, out: &mut Vec<Action>) {
        self.failures.fill(None);
        if mem::take(&mut self.reported) {
            out.push(Action::Report(Report::Recovered));
        }
    }

    /// Reports what came in together as one.
    fn flush(&mut self, out: &mut Vec<Action>) {
        let (changes, trigger) = (mem::take(&mut self.changes), mem::take(&mut self.trigger));
        if trigger || !changes.is_empty() {
            out.push(Action::Report(Report::Changes { changes, trigger }));
        }
    }

    /// How long to rest after the attempts so far.
    fn rest(&mut self) -> Duration {
        let round = self.attempts.saturating_sub(1) as usize / self.settings.nodes.len();
        let half = (SHORTEST_REST * (1 << round.min(10))).min(LONGEST_REST / 2);
        half + self.up_to(half)
    }

    /// The duration give or take a tenth.
    fn about(&mut self, duration: Duration) -> Duration {
        let tenth = duration / 10;
        duration - tenth + self.up_to(tenth * 2)
    }

    fn up_to(&mut self, duration: Duration) -> Duration {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros((self.random)(micros.max(1)))
    }
}

impl Watching {
    /// The stream brought something that a read had before it.
    fn settle(&mut self, store_key: Option<StoreKey>) {
        if let (Some((keys, _)), Some(StoreKey { key, .. })) = (&mut self.doubts, store_key) {
            keys.remove(&key);
            if keys.is_empty() {
                self.doubts = None;
            }
        }
    }
}

enum Progress {
    Goes,
    /// As of the revision of the first page.
    Done(Header),
}

impl Reading {
    /// The body that asks for the next page.
    fn request(&self) -> String {
        match self.rest.front() {
            Some(span) => wire::range(span, PAGE, self.first.map(|header| header.revision)),
            // No keys are wanted, but their revision is.
            None => wire::newest_revision(),
        }
    }

    /// Takes the end of a page. An error says what is wrong with it.
    fn turn_page(&mut self, page: Page) -> Result<Progress, &'static str> {
        let first = *self.first.get_or_insert(page.header);
        if first.revision == 0 {
            return Err("answer without a revision");
        }
        if first.cluster_id != page.header.cluster_id {
            return Err("keys of another cluster than those of the node before it");
        }
        match (self.rest.front_mut(), page.more, page.last) {
            (Some(span), true, Some(last)) if span.holds(&last) => *span = span.after(&last),
            (_, true, _) => return Err("page that leads to no other"),
            (_, false, _) => drop(self.rest.pop_front()),
        }
        Ok(if self.rest.is_empty() { Progress::Done(first) } else { Progress::Goes })
    }
}

fn log(level: Level, message: &str, name: &'static str, value: String) -> Action {
    Action::Report(Report::Log(Line::new(level, message).with("backend", NAME).with(name, value)))
}

#[cfg(test)]
mod tests;
