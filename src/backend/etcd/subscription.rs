//! One resource's part of a session: the read of all its keys, the revision that each of its watches has reached, and
//! the access that etcd denies to it alone. Makes no request and knows no node: see `session`.

pub mod reading;

use std::collections::BTreeSet;
use std::mem;
use std::time::{Duration, Instant};

use self::reading::{Held, Reading};
use super::mirror::{Applied, Mirror};
use super::pace::Pace;
use super::wire::{self, Entry, Header, Page, Span, WatchAnswer};
use crate::backend::failover::{LASTING, LONGEST_BACKOFF, SHORTEST_BACKOFF};
use crate::backend::keys::StoreKey;
use crate::backend::{Change, Report};
use crate::config::ReadLimits;
use crate::store::{Bytes, Layer};

/// The number of keys in one page of a read. With 100,000 keys in the store, etcd takes about 100 ms for such a page
/// and about a second for all keys at once. A page that fails is read again as a whole.
pub const PAGE: usize = 10_000;

/// The smallest page after a timeout: a node that hangs must not split the next read into thousands of requests.
pub const SMALLEST_PAGE: usize = 100;

/// The logged reason if the node belongs to another cluster.
pub const OTHER_CLUSTER: &str = "the node belongs to another cluster";

/// The options of one resource.
pub struct Wanted {
    /// The prefix, as the log shows it.
    pub prefix: String,
    pub goal: Goal,
    /// The time between two reads of all keys; `None`: one read.
    pub interval: Option<Duration>,
    pub mirror: Mirror,
    pub limits: ReadLimits,
}

/// How long the keys of a resource are kept up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// One read, within the time limit of a one-shot run.
    Once,
    /// Retried until a read succeeds, then read by interval, if there is one.
    Kept,
    /// As `Kept`, and changes arrive by a watch.
    Watched,
}

/// One resource's part of a session.
pub struct Subscription {
    /// The prefix, as the log shows it.
    pub prefix: String,
    /// How long the keys are kept up to date.
    pub goal: Goal,
    /// How often all keys are read again; `None`: never.
    pub interval: Option<Duration>,
    mirror: Mirror,
    limits: ReadLimits,
    state: State,
    pub watches: Vec<Watch>,
    /// The identifier of the cluster that was read last.
    cluster: u64,
    /// The newest revision that the keys have reached. 0: nothing was read yet.
    revision: u64,
    /// The number of keys in a page: fewer where the values are large.
    limit: usize,
    /// The number of pages that failed in a row while a stream was open.
    failed_pages: u32,
    /// The pauses between reads that events made necessary.
    pace: Pace,
    /// How often the history was lost since the last watch that lasted.
    pub losses: u32,
    /// Since when all watches have been confirmed.
    pub watched_since: Option<Instant>,
    /// Keys whose value in the last read differed from the mirror, and the deadline for the watches to deliver these
    /// changes.
    pub doubts: Option<(BTreeSet<Bytes>, Instant)>,
    /// The changes that arrived since the last report.
    changes: Vec<Change>,
    trigger: bool,
}

/// The progress of a resource.
enum State {
    /// A read of all keys is pending or planned, with or without an open watch.
    Reading(Box<Reading>),
    /// All keys are known. The watches belong into the stream.
    Known(Known),
    /// etcd denies access to this resource. Others are not affected, so the next attempt comes late.
    Denied { until: Instant, what: Denied },
}

/// The access that etcd denies to a resource.
enum Denied {
    /// The read. It resumes where it stopped when access is granted.
    Read(Box<Reading>),
    /// The watch of a range.
    Watch { span: Span, known: Known },
}

/// What follows while all keys are known.
#[derive(Clone, Copy)]
struct Known {
    /// When the next read of all keys starts.
    next_read: Option<Instant>,
    /// Whether events left the value of a key open.
    unclear: Unclear,
}

/// The purpose of a resource's next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The next page.
    Page,
    /// A probe whether access is still denied.
    Permission,
}

/// Whether events left the value of a store key open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unclear {
    Nothing,
    Found,
    /// A read is planned, which will show the value.
    Planned,
}

/// A watched range of keys.
pub struct Watch {
    pub span: Span,
    /// The first revision whose events may still be incomplete. 0: nothing was read yet.
    pub next: u64,
    /// The value of `next` when the newest revision was requested: events may arrive before that answer.
    probed: u64,
}

impl Subscription {
    /// A subscription without known keys, whose first read may start at once. Only the goal [`Goal::Watched`] needs
    /// watches; the mirror has their ranges.
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
            revision: 0,
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

    /// The newest revision that the keys have reached; `None`: nothing was read yet.
    pub fn revision(&self) -> Option<u64> {
        Some(self.revision).filter(|revision| *revision > 0)
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

    /// Starts a read of all keys, from the first one and not before `from`. Events that arrived during the read before
    /// it are kept.
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

    /// Counts a restart of the read after its revision was compacted. Returns the number of restarts.
    pub fn restarted(&mut self) -> u32 {
        self.reading_mut().map_or(0, |reading| {
            reading.restarts = reading.restarts.saturating_add(1);
            reading.restarts
        })
    }

    /// Ends the read, and applies the events that were held back for it.
    pub fn stop_reading(&mut self, next_read: Option<Instant>) {
        let held = self.reading_mut().map(|reading| mem::take(&mut reading.held)).unwrap_or_default();
        self.state = State::Known(Known { next_read, unclear: Unclear::Nothing });
        self.take_held(held);
    }

    /// Delays the request for the next page until `from`.
    pub fn rest_until(&mut self, from: Instant) {
        if let Some(reading) = self.reading_mut() {
            reading.from = Some(from);
        }
    }

    /// When a planned read starts; `None`: at once, or no read is planned.
    pub fn reads_from(&self) -> Option<Instant> {
        self.reading()?.from
    }

    /// Whether no read is pending or planned.
    pub fn is_read(&self) -> bool {
        self.reading().is_none()
    }

    /// Whether the next read of all keys is due.
    pub fn is_due_again(&self, now: Instant) -> bool {
        matches!(&self.state, State::Known(Known { next_read: Some(at), .. }) if *at <= now)
    }

    /// Plans the next read of all keys; `None`: no read by time.
    pub fn read_again_at(&mut self, at: Option<Instant>) {
        if let State::Known(known) = &mut self.state {
            known.next_read = at;
        }
    }

    /// Notes that access is denied. The next attempt is made at `until`.
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

    /// Notes that access is granted.
    pub fn allow(&mut self) {
        let nothing = State::Known(Known { next_read: None, unclear: Unclear::Nothing });
        self.state = match mem::replace(&mut self.state, nothing) {
            State::Denied { what: Denied::Read(reading), .. } => State::Reading(reading),
            State::Denied { what: Denied::Watch { known, .. }, .. } => State::Known(known),
            state @ (State::Reading(_) | State::Known(_)) => state,
        };
    }

    /// Whether etcd denies access to this resource.
    pub fn is_denied(&self) -> bool {
        matches!(self.state, State::Denied { .. })
    }

    /// The range whose watch was refused.
    pub fn denied_span(&self) -> Option<&Span> {
        match &self.state {
            State::Denied { what: Denied::Watch { span, .. }, .. } => Some(span),
            State::Denied { what: Denied::Read(_), .. } | State::Reading(_) | State::Known(_) => None,
        }
    }

    /// Whether the watches belong into a stream.
    pub fn watchable(&self) -> bool {
        matches!(self.state, State::Known(_)) && !self.watches.is_empty()
    }

    /// Whether the resource needs a node.
    pub fn needs_node(&self) -> bool {
        match &self.state {
            State::Reading(_) => true,
            State::Known(_) => !self.watches.is_empty(),
            State::Denied { .. } => false,
        }
    }

    /// When the next request of this resource is due; `now`: at once.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Reading(reading) => Some(reading.from.unwrap_or(now)),
            State::Known(known) => known.next_read,
            State::Denied { until, what: Denied::Read(reading) } => Some(reading.from.unwrap_or(now).max(*until)),
            State::Denied { until, what: Denied::Watch { .. } } => Some(*until),
        }
    }

    /// The purpose of the next request.
    pub fn want(&self) -> Want {
        if self.is_read() { Want::Permission } else { Want::Page }
    }

    /// The body of the request for the next page.
    pub fn page_request(&mut self) -> Option<String> {
        let reading = self.reading_mut()?;
        // The entries of a page that failed may belong to another revision or cluster than the next one.
        reading.page.clear();
        reading.page_tally = reading.tally;
        let reading = self.reading()?;
        Some(match reading.rest.front() {
            Some(span) => wire::range(span, self.limit, reading.first.map(|header| header.revision)),
            // The resource has no keys, but the watches need a revision to start from.
            None => wire::newest_revision(&self.probed_span()),
        })
    }

    /// The range that a probe for the newest revision names. The resource is allowed to read it.
    pub fn probed_span(&self) -> Span {
        self.watches.first().map_or_else(|| Span::of_prefix(b""), |watch| watch.span.clone())
    }

    /// The whole range that the next page belongs to.
    pub fn span_in_reading(&self) -> Span {
        let rest = self.reading().and_then(|reading| reading.rest.front());
        let whole = rest.and_then(|rest| self.mirror.spans().into_iter().find(|span| span.end == rest.end));
        whole.unwrap_or_else(|| self.probed_span())
    }

    /// Takes a key of the page that is arriving.
    ///
    /// # Errors
    /// The read exceeds its limits. The text names the limit.
    pub fn entry(&mut self, entry: Entry) -> Result<(), String> {
        let Some(reading) = self.reading_mut() else { return Ok(()) };
        reading.page_tally.add(&entry.key, &entry.value)?;
        reading.page.push(entry);
        Ok(())
    }

    /// Takes the end of a page. After the last page, returns all keys with the header of the first page, and the keys
    /// whose values differ from the known ones.
    ///
    /// # Errors
    /// The text says what is wrong with the page.
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
        (self.cluster, self.revision) = (header.cluster_id, header.revision);
        self.limit = (self.limit * 2).min(PAGE);
        for watch in &mut self.watches {
            watch.next = header.revision.saturating_add(1);
        }
        Ok(Some(Read { layer, unknown, changed, held }))
    }

    /// Why a revision that a quorum has confirmed cannot belong to the store that was read and watched so far.
    pub fn store_changed(&self, newest: Header) -> Option<&'static str> {
        self.changed(newest, |watch| watch.next)
    }

    /// Notes that the newest revision is requested.
    pub fn probe(&mut self) {
        self.watches.iter_mut().for_each(|watch| watch.probed = watch.next);
    }

    /// As [`Subscription::store_changed`], for the answer to a probe for the newest revision.
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

    /// Whether the answer comes from another cluster than the last read (`cluster_id` of etcd's ResponseHeader).
    pub fn is_other_cluster(&self, header: Header) -> bool {
        header.cluster_id != self.cluster
    }

    /// Takes the events of a watch, at once or after the read of all keys. Returns whether there was room to hold them
    /// back. If not, the watch must deliver them again.
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
        // The events of one revision are either all new or all known from the read.
        let known = *next;
        let mut is_unclear = false;
        if answer.events.is_empty() && !answer.fragment {
            // A progress notification: all events up to this revision have arrived.
            *next = known.max(answer.header.revision.saturating_add(1));
            self.revision = self.revision.max(answer.header.revision);
        }
        for event in answer.events {
            let revision = event.entry.mod_revision;
            if revision < known {
                let store_key = self.mirror.store_key(&event.entry.key);
                settle(&mut self.doubts, store_key);
                continue;
            }
            // More events of the last revision may follow in the next fragment.
            *next = (*next).max(if answer.fragment { revision } else { revision.saturating_add(1) });
            self.revision = self.revision.max(revision);
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

    /// Plans the read that shows the values that events left open: at once, and then with growing pauses while more
    /// such events arrive. `jitter` returns the part of the pause that is added to it.
    pub fn plan_read(&mut self, now: Instant, jitter: impl FnOnce(Duration) -> Duration) {
        let State::Known(known @ Known { unclear: Unclear::Found, .. }) = &mut self.state else { return };
        let at = self.pace.next(now, jitter);
        known.unclear = Unclear::Planned;
        known.next_read = Some(known.next_read.map_or(at, |next| next.min(at)));
    }

    /// Whether events left no value open.
    #[cfg(test)]
    pub fn is_clear(&self) -> bool {
        matches!(self.state, State::Known(Known { unclear: Unclear::Nothing, .. }))
    }

    /// The number of keys in a page.
    #[cfg(test)]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Halves the page, down to `least` keys. Returns whether that was possible.
    pub fn halve_page(&mut self, least: usize) -> bool {
        let is_possible = self.limit > least;
        if is_possible {
            self.limit = (self.limit / 2).max(least);
        }
        is_possible
    }

    /// Counts a page that failed while a stream was open. Returns the pause before the next attempt, without its random
    /// part.
    pub fn page_failed(&mut self) -> Duration {
        let rest = (SHORTEST_BACKOFF * (1 << self.failed_pages.min(10))).min(LONGEST_BACKOFF / 2);
        self.failed_pages = self.failed_pages.saturating_add(1);
        rest
    }

    /// Applies the events that were held back during a read of all keys.
    pub fn take_held(&mut self, held: Held) {
        for (watch, answer) in held.answers {
            self.take(watch, answer);
        }
    }

    /// Notes that the watches are closed. The next stream delivers the missing events. After watches that lasted,
    /// losses are counted from zero.
    pub fn detached(&mut self, now: Instant) {
        if let Some(reading) = self.reading_mut() {
            reading.held = Held::default();
        }
        self.doubts = None;
        if self.watched_since.take().is_some_and(|since| now.saturating_duration_since(since) >= LASTING) {
            self.losses = 0;
        }
    }

    /// The changes that arrived together, as one report.
    pub fn flush(&mut self) -> Option<Report> {
        let (changes, trigger) = (mem::take(&mut self.changes), mem::take(&mut self.trigger));
        (trigger || !changes.is_empty()).then_some(Report::Changes { changes, trigger })
    }
}

/// Removes a key from the doubtful ones: the stream delivered the change that the read had found.
fn settle(doubts: &mut Option<(BTreeSet<Bytes>, Instant)>, store_key: Option<StoreKey>) {
    if let (Some((keys, _)), Some(StoreKey { key, .. })) = (&mut *doubts, store_key) {
        keys.remove(&key);
        if keys.is_empty() {
            *doubts = None;
        }
    }
}

/// All keys, at one revision.
pub struct Read {
    pub layer: Layer,
    pub unknown: BTreeSet<Bytes>,
    /// Why the keys do not fit what was known before.
    pub changed: Option<&'static str>,
    /// The events that arrived during the read, for [`Subscription::take_held`].
    pub held: Held,
}
