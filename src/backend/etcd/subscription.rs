//! What one resource wants of an etcd and how far that has got: the read of all its keys, the revisions its watches have
//! come to, what is refused to it alone. Asks for nothing and knows no node: that is `session`'s.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use super::mirror::{Applied, Loading, Mirror};
use super::pace::Pace;
use super::wire::{self, Entry, Header, Page, Span, WatchAnswer};
use crate::backend::failover::{LASTING, LONGEST_BACKOFF, SHORTEST_BACKOFF};
use crate::backend::keys::StoreKey;
use crate::backend::tally::Tally;
use crate::backend::{Change, Report};
use crate::config::ReadLimits;
use crate::store::{Bytes, Layer};

/// Keys of one page of a read. etcd gathers a page of them in some 100 ms where there are 100,000 keys. All keys at once would
/// take it a second, and a page that breaks off is read again as a whole.
pub const PAGE: usize = 10_000;

/// The fewest keys to ask for where a page is late: a node that hangs must not make thousands of requests of the next read.
pub const LEAST_LATE: usize = 100;

/// Bytes that are held back while all keys are read.
pub const HELD: usize = 1 << 20;

/// How a change of the store behind a node is called.
pub const OTHER_CLUSTER: &str = "the node belongs to another cluster";

/// What a resource asks for.
pub struct Wanted {
    /// As it is logged.
    pub prefix: String,
    pub goal: Goal,
    /// Reads all keys again and again.
    pub interval: Option<Duration>,
    pub mirror: Mirror,
    pub limits: ReadLimits,
}

/// How keys are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Read once, within the time there is for it.
    Once,
    /// Read until it succeeds, then by interval, if there is one.
    Kept,
    /// The same, and changes as they come.
    Watched,
}

/// One resource's part of a session.
pub struct Subscription {
    /// As it is logged.
    pub prefix: String,
    /// How its keys are wanted.
    pub goal: Goal,
    /// How often all keys are read again; `None`: never.
    pub interval: Option<Duration>,
    mirror: Mirror,
    limits: ReadLimits,
    state: State,
    pub watches: Vec<Watch>,
    /// Of the store that was read last.
    cluster: u64,
    /// Keys that a page may have: fewer where the values are large.
    limit: usize,
    /// How often a page failed beside the stream since one came.
    failed_pages: u32,
    /// Of reads that clear up what events could not tell.
    pace: Pace,
    /// How often the history was lost since watches lasted.
    pub losses: u32,
    /// Since when all watches have been confirmed.
    pub watched_since: Option<Instant>,
    /// Keys that the last read had otherwise than the mirror, and until when the watches may still bring them.
    pub doubts: Option<(BTreeSet<Bytes>, Instant)>,
    /// What came in since it was last reported.
    changes: Vec<Change>,
    trigger: bool,
}

/// How far a resource is.
enum State {
    /// All keys are being read, or are about to be: without a watch, or beside it.
    Reading(Box<Reading>),
    /// All keys are known. Its watches belong into the stream.
    Known(Known),
    /// It may not have what it wants. The others go on, and so it is asked about seldom.
    Denied { until: Instant, what: Denied },
}

/// What was refused to a resource.
enum Denied {
    /// The read, which goes on where it was once it is allowed.
    Read(Box<Reading>),
    /// The watch of a range.
    Watch { span: Span, known: Known },
}

/// What is to follow once all keys are known.
#[derive(Clone, Copy)]
struct Known {
    /// When all keys are read again.
    next_read: Option<Instant>,
    /// What events could not tell.
    unclear: Unclear,
}

/// What a resource wants a request for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The next page.
    Page,
    /// Whether what was refused to it still is.
    Permission,
}

/// Whether events left open what a store key is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unclear {
    Nothing,
    Found,
    /// A read is planned that tells.
    Planned,
}

/// A key range that is watched.
pub struct Watch {
    pub span: Span,
    /// The first revision that may not have come yet as a whole. 0: nothing was read yet.
    pub next: u64,
    /// What that was when the newest revision was asked for: events may come before its answer.
    probed: u64,
}

impl Subscription {
    pub fn new(wanted: Wanted) -> Subscription {
        let Wanted { prefix, goal, interval, mirror, limits } = wanted;
        let watched = if goal == Goal::Watched { mirror.watched() } else { Vec::new() };
        let reading = Reading::new(&mirror, limits, None);
        Subscription {
            prefix,
            goal,
            interval,
            state: State::Reading(Box::new(reading)),
            watches: watched.into_iter().map(|span| Watch { span, next: 0, probed: 0 }).collect(),
            cluster: 0,
            limit: PAGE,
            failed_pages: 0,
            pace: Pace::default(),
            losses: 0,
            watched_since: None,
            doubts: None,
            changes: Vec::new(),
            trigger: false,
            mirror,
            limits,
        }
    }

    fn reading(&self) -> Option<&Reading> {
        match &self.state {
            State::Reading(reading) | State::Denied { what: Denied::Read(reading), .. } => Some(reading),
            State::Known(_) | State::Denied { what: Denied::Watch { .. }, .. } => None,
        }
    }

    fn reading_mut(&mut self) -> Option<&mut Reading> {
        match &mut self.state {
            State::Reading(reading) | State::Denied { what: Denied::Read(reading), .. } => Some(reading),
            State::Known(_) | State::Denied { what: Denied::Watch { .. }, .. } => None,
        }
    }

    /// Lets all keys be read, from the first one and not before the moment. What a watch brought meanwhile is kept.
    pub fn read_all(&mut self, from: Option<Instant>) {
        let mut reading = Reading::new(&self.mirror, self.limits, from);
        if let Some(before) = self.reading_mut() {
            reading.held = mem::take(&mut before.held);
            reading.restarts = before.restarts;
        }
        let reading = Box::new(reading);
        self.state = match self.state {
            State::Denied { until, .. } => State::Denied { until, what: Denied::Read(reading) },
            State::Reading(_) | State::Known(_) => State::Reading(reading),
        };
    }

    /// The read that began anew did so because its revision is gone. Tells how often that was.
    pub fn restarted(&mut self) -> u32 {
        self.reading_mut().map_or(0, |reading| {
            reading.restarts = reading.restarts.saturating_add(1);
            reading.restarts
        })
    }

    /// Reads no more for now, and takes what was held back for the read.
    pub fn stop_reading(&mut self, next_read: Option<Instant>) {
        let held = self.reading_mut().map(|reading| mem::take(&mut reading.held)).unwrap_or_default();
        self.state = State::Known(Known { next_read, unclear: Unclear::Nothing });
        self.take_held(held);
    }

    /// The next page is not asked for before the moment.
    pub fn rest_until(&mut self, from: Instant) {
        if let Some(reading) = self.reading_mut() {
            reading.from = Some(from);
        }
    }

    /// When a read is to begin that has not; `None`: at once, or there is none.
    pub fn reads_from(&self) -> Option<Instant> {
        self.reading()?.from
    }

    /// Whether all keys are known, or are not wanted.
    pub fn is_read(&self) -> bool {
        self.reading().is_none()
    }

    /// Whether all keys are to be read again now.
    pub fn is_due_again(&self, now: Instant) -> bool {
        matches!(&self.state, State::Known(Known { next_read: Some(at), .. }) if *at <= now)
    }

    /// All keys are read again then; `None`: not for the time that passes.
    pub fn read_again_at(&mut self, at: Option<Instant>) {
        if let State::Known(known) = &mut self.state {
            known.next_read = at;
        }
    }

    /// It may not have what it wants, and is asked about again then.
    pub fn deny(&mut self, until: Instant, span: Span) {
        let nothing = State::Known(Known { next_read: None, unclear: Unclear::Nothing });
        let what = match mem::replace(&mut self.state, nothing) {
            State::Reading(reading) | State::Denied { what: Denied::Read(reading), .. } => Denied::Read(reading),
            State::Known(known) | State::Denied { what: Denied::Watch { known, .. }, .. } => {
                Denied::Watch { span, known }
            }
        };
        self.state = State::Denied { until, what };
    }

    /// It may have what it wants.
    pub fn allow(&mut self) {
        let nothing = State::Known(Known { next_read: None, unclear: Unclear::Nothing });
        self.state = match mem::replace(&mut self.state, nothing) {
            State::Denied { what: Denied::Read(reading), .. } => State::Reading(reading),
            State::Denied { what: Denied::Watch { known, .. }, .. } => State::Known(known),
            state @ (State::Reading(_) | State::Known(_)) => state,
        };
    }

    /// Whether something was refused to it.
    pub fn is_denied(&self) -> bool {
        matches!(self.state, State::Denied { .. })
    }

    /// The range whose watch was refused to it.
    pub fn denied_span(&self) -> Option<&Span> {
        match &self.state {
            State::Denied { what: Denied::Watch { span, .. }, .. } => Some(span),
            State::Denied { what: Denied::Read(_), .. } | State::Reading(_) | State::Known(_) => None,
        }
    }

    /// Whether its watches belong into a stream.
    pub fn watchable(&self) -> bool {
        matches!(self.state, State::Known(_)) && !self.watches.is_empty()
    }

    /// Whether something is missing that a node has to give.
    pub fn is_in_need(&self) -> bool {
        match &self.state {
            State::Reading(_) => true,
            State::Known(_) => !self.watches.is_empty(),
            State::Denied { .. } => false,
        }
    }

    /// When it wants a request of its own; `now` for at once.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Reading(reading) => Some(reading.from.unwrap_or(now)),
            State::Known(known) => known.next_read,
            State::Denied { until, what: Denied::Read(reading) } => Some(reading.from.unwrap_or(now).max(*until)),
            State::Denied { until, what: Denied::Watch { .. } } => Some(*until),
        }
    }

    /// What it wants a request for when it is due.
    pub fn want(&self) -> Want {
        if self.is_read() { Want::Permission } else { Want::Page }
    }

    /// The body that asks for the next page.
    pub fn page_request(&mut self) -> Option<String> {
        let reading = self.reading_mut()?;
        // What came of a page that broke off may not be of the revision, or the cluster, that is read now.
        reading.page.clear();
        reading.page_tally = reading.tally;
        let reading = self.reading()?;
        Some(match reading.rest.front() {
            Some(span) => wire::range(span, self.limit, reading.first.map(|header| header.revision)),
            // No keys are wanted, but their revision is.
            None => wire::newest_revision(&self.probed_span()),
        })
    }

    /// What a request reads that is only after the revision: something that this resource is allowed to read.
    pub fn probed_span(&self) -> Span {
        self.watches.first().map_or_else(|| Span::of_prefix(b""), |watch| watch.span.clone())
    }

    /// The range that the next page belongs to, as a whole.
    pub fn span_in_reading(&self) -> Span {
        let rest = self.reading().and_then(|reading| reading.rest.front());
        let whole = rest.and_then(|rest| self.mirror.spans().into_iter().find(|span| span.end == rest.end));
        whole.unwrap_or_else(|| self.probed_span())
    }

    /// Takes a key of the page that is coming in.
    ///
    /// # Errors
    /// The read is larger than it may be, in words.
    pub fn entry(&mut self, entry: Entry) -> Result<(), String> {
        let Some(reading) = self.reading_mut() else { return Ok(()) };
        reading.page_tally.add(&entry.key, &entry.value)?;
        reading.page.push(entry);
        Ok(())
    }

    /// Takes the end of a page. Gives all keys with the header of the first page when they are there, and those of them
    /// that turned out otherwise than known. An error says what is wrong with the page.
    pub fn page(&mut self, page: Page) -> Result<Option<Read>, &'static str> {
        let State::Reading(reading) = &mut self.state else { return Ok(None) };
        let is_whole = reading.turn_page(page)?;
        reading.tally = reading.page_tally;
        self.failed_pages = 0;
        for entry in reading.page.drain(..) {
            self.mirror.add(&mut reading.loading, entry);
        }
        let known = State::Known(Known { next_read: None, unclear: Unclear::Nothing });
        let reading = match mem::replace(&mut self.state, known) {
            State::Reading(reading) if is_whole => *reading,
            state => {
                self.state = state;
                return Ok(None);
            }
        };
        let Reading { first: Some(header), loading, held, .. } = reading else { return Ok(None) };
        let changed = self.store_changed(header);
        let (layer, unknown) = self.mirror.install(loading);
        self.cluster = header.cluster_id;
        self.limit = (self.limit * 2).min(PAGE);
        for watch in &mut self.watches {
            watch.next = header.revision.saturating_add(1);
        }
        Ok(Some(Read { layer, unknown, changed, held }))
    }

    /// Why what the whole cluster agreed on cannot come from the store that was read and watched so far.
    pub fn store_changed(&self, newest: Header) -> Option<&'static str> {
        self.changed(newest, |watch| watch.next)
    }

    /// The newest revision is asked for.
    pub fn probe(&mut self) {
        self.watches.iter_mut().for_each(|watch| watch.probed = watch.next);
    }

    /// The same as [`Subscription::store_changed`] for the answer to that question.
    pub fn store_probed(&self, newest: Header) -> Option<&'static str> {
        self.changed(newest, |watch| watch.next.min(watch.probed))
    }

    fn changed(&self, newest: Header, next: fn(&Watch) -> u64) -> Option<&'static str> {
        if self.is_other_cluster(newest) {
            Some(OTHER_CLUSTER)
        } else if self.watches.iter().any(|watch| newest.revision < next(watch).saturating_sub(1)) {
            Some("etcd was put back to an earlier revision")
        } else {
            None
        }
    }

    pub fn is_other_cluster(&self, header: Header) -> bool {
        header.cluster_id != self.cluster
    }

    /// Takes what one of its watches brought, at once or when all keys are read. Tells whether there was room for it; if
    /// not, it has to come again.
    pub fn take(&mut self, watch: usize, answer: WatchAnswer) -> bool {
        match self.reading_mut() {
            Some(reading) => reading.held.push(watch, answer),
            None => {
                self.apply(watch, answer);
                true
            }
        }
    }

    fn apply(&mut self, watch: usize, answer: WatchAnswer) {
        let Some(Watch { next, .. }) = self.watches.get_mut(watch) else { return };
        // The events of one revision are all new, or all known from the read.
        let known = *next;
        let mut is_unclear = false;
        if answer.events.is_empty() && !answer.fragment {
            // Progress: there is nothing up to this revision that has not come.
            *next = known.max(answer.header.revision.saturating_add(1));
        }
        for event in answer.events {
            let revision = event.entry.mod_revision;
            if revision < known {
                let store_key = self.mirror.store_key(&event.entry.key);
                settle(&mut self.doubts, store_key);
                continue;
            }
            // More events of the last revision may come in the next fragment.
            *next = (*next).max(if answer.fragment { revision } else { revision.saturating_add(1) });
            match self.mirror.apply(event) {
                Applied::Nothing => {}
                Applied::Trigger => self.trigger = true,
                Applied::Change { change, trigger } => {
                    self.changes.push(change);
                    self.trigger |= trigger;
                }
                Applied::ReadAgain => is_unclear = true,
            }
        }
        if let State::Known(Known { unclear: unclear @ Unclear::Nothing, .. }) = &mut self.state
            && is_unclear
        {
            *unclear = Unclear::Found;
        }
    }

    /// Plans the read that clears up what events could not tell: at once, and then seldom while there is more of it. `jitter`
    /// is a part of the pause that is added to it.
    pub fn plan_read(&mut self, now: Instant, jitter: impl FnOnce(Duration) -> Duration) {
        let State::Known(known @ Known { unclear: Unclear::Found, .. }) = &mut self.state else { return };
        let at = self.pace.next(now, jitter);
        known.unclear = Unclear::Planned;
        known.next_read = Some(known.next_read.map_or(at, |next| next.min(at)));
    }

    /// Whether events left nothing open.
    #[cfg(test)]
    pub fn is_clear(&self) -> bool {
        matches!(self.state, State::Known(Known { unclear: Unclear::Nothing, .. }))
    }

    #[cfg(test)]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Asks for fewer keys at a time. Tells whether that is possible.
    pub fn halve_page(&mut self, least: usize) -> bool {
        let is_possible = self.limit > least;
        if is_possible {
            self.limit = (self.limit / 2).max(least);
        }
        is_possible
    }

    /// A page failed beside the stream: gives the rest before the next attempt, less its random part.
    pub fn page_failed(&mut self) -> Duration {
        let rest = (SHORTEST_BACKOFF * (1 << self.failed_pages.min(10))).min(LONGEST_BACKOFF / 2);
        self.failed_pages = self.failed_pages.saturating_add(1);
        rest
    }

    /// Takes what was held back while all keys were read.
    pub fn take_held(&mut self, held: Held) {
        for (watch, answer) in held.answers {
            self.take(watch, answer);
        }
    }

    /// Its watches are closed: what they did not bring in time comes again. A loss after watches that lasted is the first.
    pub fn detached(&mut self, now: Instant) {
        if let Some(reading) = self.reading_mut() {
            reading.held = Held::default();
        }
        self.doubts = None;
        if self.watched_since.take().is_some_and(|since| now.saturating_duration_since(since) >= LASTING) {
            self.losses = 0;
        }
    }

    /// What came in together, as one report.
    pub fn flush(&mut self) -> Option<Report> {
        let (changes, trigger) = (mem::take(&mut self.changes), mem::take(&mut self.trigger));
        (trigger || !changes.is_empty()).then_some(Report::Changes { changes, trigger })
    }
}

/// The stream brought something that a read had before it.
fn settle(doubts: &mut Option<(BTreeSet<Bytes>, Instant)>, store_key: Option<StoreKey>) {
    if let (Some((keys, _)), Some(StoreKey { key, .. })) = (&mut *doubts, store_key) {
        keys.remove(&key);
        if keys.is_empty() {
            *doubts = None;
        }
    }
}

/// All keys, as of one revision.
pub struct Read {
    pub layer: Layer,
    pub unknown: BTreeSet<Bytes>,
    /// Why they do not go with what was known before.
    pub changed: Option<&'static str>,
    /// What the watches brought meanwhile, for [`Subscription::take_held`].
    pub held: Held,
}

/// What came from watches while all keys were read: it must not overtake them.
#[derive(Default)]
pub struct Held {
    answers: Vec<(usize, WatchAnswer)>,
    /// How many bytes that are.
    size: usize,
}

impl Held {
    /// Tells whether there was room for it.
    fn push(&mut self, watch: usize, answer: WatchAnswer) -> bool {
        let size = |event: &wire::Event| size_of_val(event) + event.entry.key.len() + event.entry.value.len();
        self.size += size_of_val(&answer) + answer.events.iter().map(size).sum::<usize>();
        self.answers.push((watch, answer));
        self.size <= HELD
    }
}

/// A read of all keys, page by page.
struct Reading {
    /// What is not read yet; the next page begins at its beginning.
    rest: VecDeque<Span>,
    /// That of the first page; all others are read as of its revision.
    first: Option<Header>,
    /// The page that is coming in: it counts when its end has come.
    page: Vec<Entry>,
    loading: Loading,
    /// What was read, and the same with the page that is coming in.
    tally: Tally,
    page_tally: Tally,
    /// Nothing is asked for before.
    from: Option<Instant>,
    /// How often its revision was lost.
    restarts: u32,
    held: Held,
}

impl Reading {
    fn new(mirror: &Mirror, limits: ReadLimits, from: Option<Instant>) -> Reading {
        let (tally, page_tally) = (Tally::new(limits), Tally::new(limits));
        Reading {
            rest: mirror.spans().into(),
            first: None,
            page: Vec::new(),
            loading: mirror.load(),
            tally,
            page_tally,
            from,
            restarts: 0,
            held: Held::default(),
        }
    }

    /// Takes the end of a page. Tells whether it was the last one.
    fn turn_page(&mut self, page: Page) -> Result<bool, &'static str> {
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
        Ok(self.rest.is_empty())
    }
}
