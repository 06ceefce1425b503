//! The waits for the next change of each key: which of them is opened next, what an answer means, and the probe of
//! silent ones. Does not decide what follows a failure.

use std::time::{Duration, Instant};

use super::{Action, BURST, ReadMode, Session, State};
use crate::backend::etcd::subscription::OTHER_CLUSTER;
use crate::backend::etcd::v2::mirror::{Applied, is_within};
use crate::backend::etcd::v2::wire::{self, Head};
use crate::backend::failover::LASTING;
use crate::log::Level;

/// A silent wait may be dead although its keys do not change. It is opened again as soon as the store has changed since
/// it was opened, and at the latest after this time.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// The number of changes that etcd keeps. A wait cannot start at an older one without a read.
pub(super) const HISTORY: u64 = 1000;

/// One watched key.
pub(super) struct Wait {
    pub(super) path: Vec<u8>,
    /// The first index that may still bring a change.
    pub(super) next: u64,
    /// The index at which the keys were read. Changes up to it are known.
    pub(super) read: u64,
    pub(super) open: Option<Open>,
}

/// A wait with the head of its answer.
#[derive(Clone, Copy)]
pub(super) struct Open {
    pub(super) at: Instant,
    /// The first index of the request.
    pub(super) from: u64,
    /// The newest index when the wait was opened: changes up to it come from the history.
    pub(super) index: u64,
}

impl Session {
    /// The wait to open next: the one that is furthest behind, so that a key with many changes does not starve the
    /// others.
    pub(super) fn closed(&self) -> Option<usize> {
        let closed = self.waits.iter().enumerate().filter(|(_, wait)| wait.open.is_none());
        closed.min_by_key(|(_, wait)| wait.next).map(|(place, _)| place)
    }

    pub(super) fn opened(&mut self, wait: usize, head: Head, now: Instant, out: &mut Vec<Action>) {
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
        // A node that lags behind catches up. If the store was restored from a backup, the wait is silent until the
        // store passes its index.
        let usual = now + self.jittered(self.settings.watch_deadline);
        // Each wait has its own order of changes, independent of the others.
        self.probe_at = Some(if lags { now } else { self.probe_at.unwrap_or(usual) });
    }

    pub(super) fn changed(&mut self, wait: usize, event: wire::Event, now: Instant, out: &mut Vec<Action>) {
        let wait = &mut self.waits[wait];
        let Some(open) = wait.open.take() else { return };
        if event.index < open.from {
            // An immediate retry would have an equal answer.
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
            // More changes may follow at once.
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

    pub(super) fn ended(&mut self, wait: usize, whole: bool, now: Instant, out: &mut Vec<Action>) {
        let wait = &mut self.waits[wait];
        let Some(open) = wait.open.take() else { return };
        if now.saturating_duration_since(open.at) < LASTING {
            self.asked.clone_from(&wait.path);
            self.failed("wait ended without a change", None, now, out);
        } else if whole {
            // The history up to the opening of the wait held no change. Without this step a quiet key would fall out of
            // the history.
            wait.next = wait.next.max(open.index.saturating_add(1));
        }
    }

    /// Takes the answer to a probe for the newest index.
    pub(super) fn probed(&mut self, head: Head, now: Instant, out: &mut Vec<Action>) {
        if let Some(reading) = self.stop_reading() {
            return self.install(reading, head, now, out);
        }
        self.probe_at = Some(now + self.jittered(self.settings.watch_deadline));
        if let Some(why) = self.store_changed(head) {
            return self.lost(Level::Warn, why, now, out);
        }
        for (place, wait) in self.waits.iter_mut().enumerate() {
            let Some(open) = wait.open else { continue };
            let age = now.saturating_duration_since(open.at);
            // The wait is not reopened here if its index has left the history, because that would cost a read. Its age
            // decides then.
            let cheap = head.index > open.index && head.index.saturating_sub(wait.next) < HISTORY;
            if age >= LONGEST_WAIT || (cheap && age >= self.settings.watch_deadline) {
                wait.open = None;
                out.push(Action::Drop(place));
            }
        }
    }

    /// Why an index that a quorum has confirmed cannot belong to the store that was read and watched so far.
    pub(super) fn store_changed(&self, newest: Head) -> Option<&'static str> {
        if self.cluster? != newest.cluster {
            Some(OTHER_CLUSTER)
        } else if newest.index < self.newest {
            Some("etcd was put back to an earlier index")
        } else {
            None
        }
    }

    /// Whether the waits were open for so long that their end does not count as a failure to watch.
    pub(super) fn is_lasting(&self, now: Instant) -> bool {
        self.watching.is_some_and(|since| now.saturating_duration_since(since) >= LASTING)
    }

    /// Removes a key from the doubtful ones: a wait delivered the change that a read had found.
    pub(super) fn settle(&mut self, key: &[u8]) {
        if let State::Known { doubts: Some(doubts), .. } = &mut self.state {
            // A deleted directory takes all keys below it along.
            doubts.keys.retain(|doubtful| !is_within(doubtful, key));
            if doubts.keys.is_empty() {
                self.skip_what_was_read();
            }
        }
    }

    /// The waits continue after the last read. An open wait may still deliver one change from before it.
    pub(super) fn skip_what_was_read(&mut self) {
        self.forget_doubts();
        for wait in &mut self.waits {
            wait.next = wait.next.max(wait.read.saturating_add(1));
        }
    }

    pub(super) fn forget_doubts(&mut self) {
        if let State::Known { doubts, .. } = &mut self.state {
            *doubts = None;
        }
    }

    /// Closes all waits.
    pub(super) fn close(&mut self, out: &mut Vec<Action>) {
        // After waits that lasted, losses are counted from zero. Proxies end silent waits.
        if self.now.is_some_and(|now| self.is_lasting(now)) {
            self.losses = 0;
        }
        (self.watching, self.probe_at) = (None, None);
        self.forget_doubts();
        if self.waits.iter_mut().filter_map(|wait| wait.open.take()).count() > 0 {
            out.push(Action::Close);
        }
    }
}
