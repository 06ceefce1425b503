//! What one resource wants of an etcd and how far that has got: the read of all its keys, the revisions its watches have
//! come to, what is refused to it alone. Asks for nothing and knows no node: that is `session`'s.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use super::mirror::{Applied, Loading, Mirror};
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

/// Between two reads because of events that do not tell what a store key is now.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
    pub prefix: String,
    pub goal: Goal,
    pub interval: Option<Duration>,
    mirror: Mirror,
    limits: ReadLimits,
    /// The read of all keys that is under way or due: without a watch, or beside it.
    pub reading: Option<Reading>,
    /// When all keys are read again.
    pub next_read: Option<Instant>,
    pub watches: Vec<Watch>,
    /// Of the store that was read last.
    cluster: u64,
    /// Keys that a page may have: fewer where the values are large.
    limit: usize,
    /// How often a page failed beside the stream since one came.
    failed_pages: u32,
    /// What events could not tell.
    pub unclear: Unclear,
    /// How long to wait after the last read that cleared such up, and until when that is.
    pace: Option<(Duration, Instant)>,
    /// How often the history was lost since watches lasted.
    pub losses: u32,
    /// Since when all watches have been confirmed.
    pub watched_since: Option<Instant>,
    /// How often the read that is under way lost its revision.
    pub restarts: u32,
    /// What came from a watch while all keys were read: it must not overtake them.
    held: Vec<(usize, WatchAnswer)>,
    /// How many bytes that are.
    held_size: usize,
    /// Keys that the last read had otherwise than the mirror, and until when the watches may still bring them.
    pub doubts: Option<(BTreeSet<Bytes>, Instant)>,
    /// What came in since it was last reported.
    changes: Vec<Change>,
    trigger: bool,
    pub denied: Option<Denial>,
}

/// Whether events left open what a store key is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
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

/// A resource that may not have what it wants. The others go on, and so it is asked about seldom.
pub struct Denial {
    pub until: Instant,
    /// What was refused.
    pub span: Span,
}

impl Subscription {
    pub fn new(wanted: Wanted) -> Subscription {
        let Wanted { prefix, goal, interval, mirror, limits } = wanted;
        let watched = if goal == Goal::Watched { mirror.watched() } else { Vec::new() };
        Subscription {
            prefix,
            goal,
            interval,
            reading: None,
            next_read: None,
            watches: watched.into_iter().map(|span| Watch { span, next: 0, probed: 0 }).collect(),
            cluster: 0,
            limit: PAGE,
            failed_pages: 0,
            unclear: Unclear::Nothing,
            pace: None,
            losses: 0,
            restarts: 0,
            held: Vec::new(),
            held_size: 0,
            doubts: None,
            changes: Vec::new(),
            trigger: false,
            denied: None,
            watched_since: None,
            mirror,
            limits,
        }
    }

    /// Lets all keys be read, from the first one and not before the moment.
    pub fn read_all(&mut self, from: Option<Instant>) {
        self.next_read = None;
        self.unclear = Unclear::Nothing;
        self.reading = Some(Reading {
            rest: self.mirror.spans().into(),
            first: None,
            page: Vec::new(),
            loading: self.mirror.load(),
            tally: Tally::new(self.limits),
            page_tally: Tally::new(self.limits),
            from,
        });
    }

    /// Whether its watches belong into a stream.
    pub fn watchable(&self) -> bool {
        self.reading.is_none() && self.denied.is_none() && !self.watches.is_empty()
    }

    /// Whether something is missing that a node has to give.
    pub fn is_in_need(&self) -> bool {
        self.denied.is_none() && (self.reading.is_some() || !self.watches.is_empty())
    }

    /// When it wants a request of its own; `now` for at once.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match (&self.reading, &self.denied) {
            (Some(reading), denied) => {
                let from = reading.from.unwrap_or(now);
                Some(denied.as_ref().map_or(from, |denied| from.max(denied.until)))
            }
            (None, Some(denied)) => Some(denied.until),
            (None, None) => self.next_read,
        }
    }

    /// The body that asks for the next page.
    pub fn page_request(&mut self) -> Option<String> {
        let reading = self.reading.as_mut()?;
        // What came of a page that broke off may not be of the revision, or the cluster, that is read now.
        reading.page.clear();
        reading.page_tally = reading.tally;
        let reading = self.reading.as_ref()?;
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
        let rest = self.reading.as_ref().and_then(|reading| reading.rest.front());
        let whole = rest.and_then(|rest| self.mirror.spans().into_iter().find(|span| span.end == rest.end));
        whole.unwrap_or_else(|| self.probed_span())
    }

    /// Takes a key of the page that is coming in.
    ///
    /// # Errors
    /// The read is larger than it may be, in words.
    pub fn entry(&mut self, entry: Entry) -> Result<(), String> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        reading.page_tally.add(&entry.key, &entry.value)?;
        reading.page.push(entry);
        Ok(())
    }

    /// Takes the end of a page. Gives all keys with the header of the first page when they are there, and those of them
    /// that turned out otherwise than known. An error says what is wrong with the page.
    pub fn page(&mut self, page: Page) -> Result<Option<Read>, &'static str> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        let is_whole = reading.turn_page(page)?;
        reading.tally = reading.page_tally;
        self.failed_pages = 0;
        for entry in reading.page.drain(..) {
            self.mirror.add(&mut reading.loading, entry);
        }
        if !is_whole {
            return Ok(None);
        }
        let Some(Reading { first: Some(header), loading, .. }) = self.reading.take() else { return Ok(None) };
        let changed = self.store_changed(header);
        let (layer, unknown) = self.mirror.install(loading);
        self.cluster = header.cluster_id;
        self.restarts = 0;
        self.limit = (self.limit * 2).min(PAGE);
        for watch in &mut self.watches {
            watch.next = header.revision.saturating_add(1);
        }
        Ok(Some(Read { layer, unknown, changed }))
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
        if self.reading.is_some() {
            let events = answer.events.iter();
            self.held_size += size_of_val(&answer)
                + events
                    .map(|event| size_of_val(event) + event.entry.key.len() + event.entry.value.len())
                    .sum::<usize>();
            self.held.push((watch, answer));
            return self.held_size <= HELD;
        }
        self.apply(watch, answer);
        true
    }

    fn apply(&mut self, watch: usize, answer: WatchAnswer) {
        let Some(Watch { next, .. }) = self.watches.get_mut(watch) else { return };
        // The events of one revision are all new, or all known from the read.
        let known = *next;
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
                Applied::ReadAgain if self.unclear == Unclear::Nothing => self.unclear = Unclear::Found,
                Applied::ReadAgain => {}
            }
        }
    }

    /// Plans the read that clears up what events could not tell: at once, and then seldom while there is more of it. `jitter`
    /// is a part of the pause that is added to it.
    pub fn plan_read(&mut self, now: Instant, jitter: impl FnOnce(Duration) -> Duration) {
        if self.unclear != Unclear::Found {
            return;
        }
        self.unclear = Unclear::Planned;
        let (pause, at) = match self.pace {
            Some((pause, end)) if now < end + pause => ((pause * 2).min(LONGEST_PAUSE), end.max(now)),
            _ => (SHORTEST_PAUSE, now),
        };
        self.pace = Some((pause, at + pause + jitter(pause / 4)));
        self.next_read = Some(self.next_read.map_or(at, |next| next.min(at)));
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
    pub fn take_held(&mut self) {
        self.held_size = 0;
        for (watch, answer) in mem::take(&mut self.held) {
            self.take(watch, answer);
        }
    }

    /// Its watches are closed: what they did not bring in time comes again. A loss after watches that lasted is the first.
    pub fn detached(&mut self, now: Instant) {
        (self.held, self.held_size) = (Vec::new(), 0);
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
}

/// A read of all keys, page by page.
pub struct Reading {
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
    pub from: Option<Instant>,
}

impl Reading {
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
