//! The one stream of all watches: which watches are in it, their answers, the probe of a silent stream, and its end.
//! Does not decide what follows a failure: `failure` does.

use std::mem;
use std::time::{Duration, Instant};

use super::{Action, Asked, Login, Resume, Session, State, log};
use crate::backend::etcd::subscription::{OTHER_CLUSTER, Subscription};
use crate::backend::etcd::wire::{self, Header, Reason, Refusal, WatchAnswer};
use crate::backend::failover::LASTING;
use crate::backend::protocol::{Id, Output};
use crate::log::Level;
use crate::sorted::SortedMap;

/// etcd sends a progress notification every 10 minutes on an idle stream, and at most 22 minutes after an event. A
/// stream that was silent for longer is dead, even if its node is alive: a proxy or a NAT table has lost the
/// connection.
pub(super) const LONGEST_SILENCE: Duration = Duration::from_secs(25 * 60);

/// An open stream.
pub(super) struct Watching {
    pub(super) since: Instant,
    /// When the last line arrived.
    pub(super) last_received: Instant,
    /// Its watches, in the order of the request, which is also the order of the confirmations.
    pub(super) slots: Vec<WatchSlot>,
    /// How many watches are confirmed, and the deadline for the next confirmation.
    pub(super) answered: usize,
    pub(super) answered_by: Instant,
    /// When the newest revision is requested from the node. The answer shows that the node is alive and that its store
    /// is the one that was read.
    pub(super) probe_at: Instant,
}

/// The subscription that receives the answers of a watch.
pub(super) struct WatchSlot {
    pub(super) id: Id,
    pub(super) watch: usize,
    pub(super) state: SlotState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    Open,
    /// etcd still sends its events, and the session drops them.
    Ignored,
    /// etcd refused or cancelled it.
    Ended,
}

impl Session {
    /// The resource whose key the probe for the newest revision uses; `None`: the stream has no watch in use.
    pub(super) fn probed_for(&self, watching: &Watching) -> Option<Id> {
        let is_taken = |slot: &&WatchSlot| slot.state == SlotState::Open && self.subscriptions.contains_key(&slot.id);
        watching.slots.iter().find(is_taken).map(|slot| slot.id)
    }

    /// The subscriptions whose watches belong into a stream.
    pub(super) fn watchable(&self) -> impl Iterator<Item = (Id, &Subscription)> {
        self.subscriptions.iter().filter(|(_, s)| s.watchable()).map(|(id, s)| (*id, s))
    }

    /// Whether the open watches differ from the wanted ones. A resource that reads all its keys does not count: its
    /// watches follow when the read is complete.
    pub(super) fn is_stale(&self, watching: &Watching) -> bool {
        let is_wanted = |slot: &WatchSlot| self.subscriptions.get(&slot.id).is_some_and(|s| !s.is_denied());
        let open = Watching::open(&watching.slots);
        watching.slots.iter().any(|slot| slot.state != SlotState::Ended && !is_wanted(slot))
            || self.watchable().any(|(id, s)| open.get(&id) != Some(&s.watches.len()))
    }

    pub(super) fn opened(&mut self, now: Instant) {
        let slots = mem::take(&mut self.asked_slots);
        self.state = State::Watching(Watching {
            since: now,
            last_received: now,
            slots,
            answered: 0,
            answered_by: now + self.settings.stream_timeout,
            probe_at: now + self.jittered(self.settings.watch_deadline),
        });
    }

    /// Takes an answer of a watch.
    pub(super) fn answered(&mut self, mut answer: WatchAnswer, now: Instant, out: &mut Vec<Action>) {
        let probe_at = now + self.jittered(self.settings.watch_deadline);
        let State::Watching(watching) = &mut self.state else {
            return;
        };
        watching.probe_at = probe_at;
        watching.last_received = now;
        // Each answer extends the deadline, because events between two confirmations take long on a slow link.
        watching.answered_by = now + self.settings.stream_timeout;
        let named = usize::try_from(answer.watch_id).ok().and_then(|id| id.checked_sub(1));
        // A refused watch has no number in the answer, but the answers still come in the order of the request.
        let index = if answer.created { Some(watching.answered) } else { named };
        let slot = index.and_then(|index| watching.slots.get_mut(index));
        let Some(slot) = slot.filter(|_| named == index || (answer.created && answer.canceled)) else {
            return self.failed("watch", "answer for a watch that was not asked for", out);
        };
        let (id, watch, was_open) = (slot.id, slot.watch, slot.state == SlotState::Open);
        if answer.canceled {
            slot.state = SlotState::Ended;
        }
        watching.answered += usize::from(answer.created);
        let Some(subscription) = self.subscriptions.get_mut(&id).filter(|_| was_open) else {
            return;
        };
        if answer.canceled {
            return match answer.compact_revision {
                0 => self.cancelled(id, watch, &mem::take(&mut answer.cancel_reason), answer.created, now, out),
                // The pending read is newer than the compacted revision.
                _ if !subscription.is_read() => self.detach(id, out),
                _ => self.lost(id, Level::Info, "history was compacted", now, out),
            };
        }
        if !answer.created {
            if !subscription.take(watch, answer) {
                // The watches resume with the next stream after the read, from the revision of the read.
                self.detach(id, out);
            }
            return self.plan_read(id, now);
        }
        if subscription.is_other_cluster(answer.header) {
            return self.lost(id, Level::Warn, OTHER_CLUSTER, now, out);
        }
        if subscription.watches.get(watch).is_some_and(|watch| answer.header.revision < watch.next.saturating_sub(1)) {
            // The node lags behind, or the store was restored from a backup. In the second case this watch would be
            // silent until the store passes the old revision.
            watching.probe_at = now;
        }
        self.confirm_login();
        self.recover(out);
    }

    /// Takes a watch that etcd refused or cancelled.
    pub(super) fn cancelled(
        &mut self,
        id: Id,
        watch: usize,
        why: &str,
        created: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let reason = Reason::of_cancelled(why);
        if !created && reason == Reason::Other {
            return self.failed("watch", &format!("watch refused: {}", wire::server_text(why)), out);
        }
        let is_for_token = self.may_log_in() && matches!(reason, Reason::Denied | Reason::Unauthenticated);
        // The token may have expired: etcd sends the same reason in that case.
        if is_for_token && self.log_in_again(now) {
            return self.detach(id, out);
        }
        let Some(subscription) = self.subscriptions.get(&id) else { return };
        let Some(span) = subscription.watches.get(watch).map(|watch| watch.span.clone()) else { return };
        self.deny(id, "watch", span, &wire::server_text(why), now, out);
    }

    /// Takes the reason with which etcd ended the stream.
    pub(super) fn ended(&mut self, refusal: Refusal, out: &mut Vec<Action>) {
        if refusal.reason == Reason::Unauthenticated
            && matches!(self.login, Login::Confirmed | Login::Needless)
            && self.may_log_in()
        {
            if self.log_in_again(self.now) {
                self.flush_all(out);
                return self.close(out);
            }
            // The next login follows the pause after the failure.
            self.login = Login::Wanted { from: None };
        }
        self.failed("watch", &refusal.words, out);
    }

    /// Takes the answer to a probe for the newest revision.
    pub(super) fn probed(&mut self, header: Header, now: Instant, out: &mut Vec<Action>) {
        self.confirm_login();
        let probe_at = now + self.jittered(self.settings.watch_deadline);
        let State::Watching(watching) = &mut self.state else {
            return;
        };
        watching.probe_at = probe_at;
        let silent = now.saturating_duration_since(watching.last_received) >= LONGEST_SILENCE;
        let lost: Vec<_> = self.watchable().filter_map(|(id, s)| Some((id, s.store_probed(header)?))).collect();
        for (id, why) in lost {
            self.lost(id, Level::Warn, why, now, out);
        }
        self.recover(out);
        if silent {
            let text = "opening the watch again";
            out.extend(self.first().map(|id| log(id, Level::Info, text, "reason", "nothing came for long".to_owned())));
            self.close(out);
        }
    }

    pub(super) fn stream_broken(&mut self, words: &str, resume: Resume, now: Instant, out: &mut Vec<Action>) {
        self.failed(Asked::Watch.verb(), words, out);
        if resume == Resume::TooLarge {
            let watched: Vec<Id> = self.watchable().map(|(id, _)| id).collect();
            // The resources with watches in this stream read all keys together.
            let from = self.moment_to_read(now);
            watched.into_iter().for_each(|id| self.read_all(id, Some(from), out));
        }
    }

    /// Reopens the watches that did not deliver in time the changes that a read had found.
    pub(super) fn give_up_doubtful(&mut self, now: Instant, out: &mut Vec<Action>) {
        let doubtful =
            |s: &Subscription| s.doubts.as_ref().filter(|(_, until)| *until <= now).map(|(keys, _)| keys.len());
        let late: Vec<(Id, usize)> =
            self.subscriptions.iter().filter_map(|(id, s)| Some((*id, doubtful(s)?))).collect();
        for (id, keys) in late {
            out.push(log(id, Level::Warn, "watch missed changes, opening it again", "keys", keys.to_string()));
            self.detach(id, out);
        }
    }

    /// Ignores the watches of a resource from now on. The stream stays open for the other resources.
    pub(super) fn detach(&mut self, id: Id, out: &mut Vec<Action>) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.detached(self.now);
        }
        if let State::Watching(watching) = &mut self.state {
            for slot in watching.slots.iter_mut().filter(|slot| slot.id == id && slot.state == SlotState::Open) {
                slot.state = SlotState::Ignored;
            }
            if watching.slots.iter().all(|slot| slot.state != SlotState::Open) {
                self.close(out);
            }
        }
    }

    /// Closes the stream, if one is open. The next stream resumes its watches.
    pub(super) fn close(&mut self, out: &mut Vec<Action>) {
        if let State::Watching(watching) = &self.state {
            if self.now.saturating_duration_since(watching.since) >= LASTING {
                out.push(Action::Emit(Output::ResetBackoff));
            }
            self.subscriptions.values_mut().for_each(|subscription| subscription.detached(self.now));
            self.state = State::Ready;
            out.push(Action::Close);
        }
    }
}

impl Watching {
    /// The deadline for the next confirmation; `None`: all watches are confirmed.
    pub(super) fn confirmed_by(&self) -> Option<Instant> {
        (self.answered < self.slots.len()).then_some(self.answered_by)
    }

    /// Whether a watch of the resource is open and in use.
    pub(super) fn is_attached(&self, id: Id) -> bool {
        self.slots.iter().any(|slot| slot.state == SlotState::Open && slot.id == id)
    }

    /// The number of open watches of each resource in `slots`.
    pub(super) fn open(slots: &[WatchSlot]) -> SortedMap<Id, usize> {
        let mut open = SortedMap::new();
        for slot in slots.iter().filter(|slot| slot.state == SlotState::Open) {
            *open.get_or_insert_with(slot.id, || 0) += 1;
        }
        open
    }
}
