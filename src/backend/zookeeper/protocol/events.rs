//! Handles the events of watches: rereads changed nodes for their resources, and removes deleted ones. A deleted key is
//! a failure of its resource only. Sends no request itself.

use std::time::{Duration, Instant};

use super::Zookeeper;
use crate::backend::protocol::{Id, Output};
use crate::backend::zookeeper::reads::{Interest, NodePart};
use crate::backend::zookeeper::subscription::{Gone, parent};
use crate::backend::zookeeper::wire::{Code, EventKind};
use crate::cut;
use crate::store::Bytes;

impl Zookeeper {
    pub(super) fn event(&mut self, kind: EventKind, path: &Bytes, now: Instant, out: &mut Vec<Output>) {
        if kind == EventKind::Created {
            self.created(path, now);
        }
        let watching: Vec<Id> =
            self.readings.iter().filter(|(_, subscriber)| subscriber.watches).map(|(id, _)| id).collect();
        for id in watching {
            let is_old = self.is_old;
            let Some(subscription) = self.active(id) else { continue };
            let trigger = subscription.is_trigger(path);
            let interest = Interest { id, trigger };
            // A read sets a one-time watch again.
            let is_read = subscription.is_wanted(path) || (is_old && trigger);
            match kind {
                EventKind::Deleted => {
                    self.gone(path, interest, now, out);
                    if let Some(subscription) = self.active(id).filter(|_| trigger) {
                        subscription.triggered();
                    }
                }
                EventKind::Created | EventKind::Changed if is_read => {
                    if kind == EventKind::Created
                        && let Some(parent) = parent(path)
                    {
                        subscription.child_created(parent);
                    }
                    self.want_node(path, interest);
                }
                EventKind::ChildrenChanged if is_read => self.want(path, NodePart::Children, interest),
                EventKind::Created | EventKind::Changed | EventKind::ChildrenChanged if trigger => {
                    subscription.triggered();
                }
                EventKind::Created | EventKind::Changed | EventKind::ChildrenChanged | EventKind::Other => {}
            }
        }
    }

    /// Notes the creation of a node, which may be a missing key.
    fn created(&mut self, path: &Bytes, now: Instant) {
        for (id, subscription) in &self.subscriptions {
            if !subscription.is_active() && subscription.is_key(path) {
                self.readings.again(*id);
                self.wake = Some(now);
            }
        }
    }

    pub(super) fn gone(&mut self, path: &Bytes, interest: Interest, now: Instant, out: &mut Vec<Output>) {
        let sets_watches = self.sets_watches(interest.id);
        let Some(subscription) = self.active(interest.id) else { return };
        match subscription.gone(path) {
            Gone::Noted => {}
            // The parent may have been replaced by a new node, whose watches must be set again.
            Gone::Emptied(parent) => self.want_node(&parent, interest),
            Gone::Key => return self.missing(interest.id, path, now, out),
        }
        if sets_watches && self.subscriptions.get(&interest.id).is_some_and(|one| one.watched().contains(path)) {
            self.await_creation(path, now);
        }
    }

    /// Reports that a key does not exist.
    pub(super) fn missing(&mut self, id: Id, path: &Bytes, now: Instant, out: &mut Vec<Output>) {
        if self.sets_watches(id) {
            self.await_creation(path, now);
        }
        let words = self.refusal(path, Code::NO_NODE);
        let slow = self.slow_retry();
        let interval = self.readings.get(id).and_then(|subscriber| subscriber.interval);
        self.refuse(id, words, interval.map_or(slow, |interval| interval.min(slow)), now, out);
    }

    /// Why a node cannot be read.
    pub(super) fn refusal(&mut self, path: &[u8], code: Code) -> String {
        let (node, path) = (&self.node, cut::key(path));
        match (code, &self.user) {
            (Code::NO_NODE, _) => format!("failed to read from {node}: key `{path}` does not exist"),
            (Code::NO_AUTH, None) => {
                format!("failed to read from {node}: `{path}` may not be read without a user: set `username`")
            }
            (Code::NO_AUTH, Some((user, _))) => {
                let user = user.reveal();
                self.credentials_suspect = true;
                format!("failed to read from {node}: user `{user}` may not read `{path}`, or has another password")
            }
            (code, _) => format!("failed to read from {node}: `{path}`: {code}"),
        }
    }

    /// Reports a failure that concerns one resource only.
    pub(super) fn refuse(&mut self, id: Id, words: String, pause: Duration, now: Instant, out: &mut Vec<Output>) {
        let Some(subscription) = self.active(id) else { return };
        out.extend(subscription.take_changes().map(|report| Output::Report(id, report)));
        subscription.reset();
        self.reads.forget(id);
        self.readings.refused(id, words, pause, now, out);
        self.wake = Some(now);
    }
}
