//! The requests to a node besides keys: the probe while all waits are silent, and the request whether the node has
//! access control lists, which hide keys without an error. Reads no keys.

use std::time::Instant;

use super::{ACLS, Acls, Consul, Goal, Probe, State, call_of, place_of};
use crate::backend::consul::listing::Listing;
use crate::backend::consul::wire;
use crate::backend::protocol::{CallId, Output};
use crate::cut;
use crate::log::{Level, Line};

impl Consul {
    /// When the node is probed, because all waits are silent.
    pub(super) fn probe_due(&self) -> Option<Instant> {
        let waits = || self.topics().any(|(_, topic)| matches!(topic.state, State::Asked(Goal::Watch)));
        let last_received = self.probe.last_received.filter(|_| !self.probe.is_asked && waits())?;
        last_received.checked_add(self.options.watch_deadline)
    }

    pub(super) fn probed(&mut self, out: &mut Vec<Output>) {
        self.probe.is_asked = false;
        let Probe { status, body, .. } = &self.probe;
        let words = match (status, body.trim_ascii()) {
            (200, b"" | b"\"\"") => "the cluster has no leader".to_owned(),
            // The token may have been revoked. The waits report that.
            (200 | 401 | 403, _) => return,
            (status, body) => wire::words(*status, body, &self.secrets),
        };
        let words = format!("failed to probe {}: {words}", self.node);
        out.push(Output::NodeFailed { words, not_before: None });
    }

    /// Handles a topic without keys that the token may read. Before an empty file is rendered, a request shows whether
    /// the node may hide keys.
    pub(super) fn missing(&mut self, call: CallId, goal: Goal, index: u64, now: Instant, out: &mut Vec<Output>) {
        let Some(place) = place_of(call) else { return };
        let Some(Some(topic)) = self.topics.get(place) else { return };
        // A topic that is only watched has no keys in the store.
        let is_wanted =
            topic.members.iter().filter_map(|id| self.members.get(id)).any(|member| member.keys.covers(&topic.key));
        if is_wanted && self.acls == Acls::Unknown {
            self.acls = Acls::Asked(0);
            out.push(Output::Begin(ACLS, self.request(wire::OWN_TOKEN.to_owned())));
        }
        if is_wanted
            && goal == Goal::Read
            && matches!(self.acls, Acls::Asked(_))
            && let Some(Some(topic)) = self.topics.get_mut(place)
        {
            topic.state = State::Checking { index };
            return;
        }
        if is_wanted && self.acls == Acls::Known(true) {
            self.warn_hidden(place, out);
        }
        self.loaded(call, goal, index, <_>::default(), now, out);
    }

    /// Takes the answer whether the node has access control lists. A node without them answers with status 401.
    pub(super) fn acls_answered(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Acls::Asked(status) = self.acls else { return };
        self.acls = Acls::Known(matches!(status, 200 | 403));
        for place in 0..self.topics.len() {
            let Some(Some(topic)) = self.topics.get_mut(place) else { continue };
            let is_empty = topic.listing.as_ref().is_some_and(Listing::is_empty);
            let checked = match topic.state {
                State::Checking { index } => {
                    topic.state = State::Idle;
                    Some(index)
                }
                _ => None,
            };
            if self.acls == Acls::Known(true) && (is_empty || checked.is_some()) {
                self.warn_hidden(place, out);
            }
            if let Some(index) = checked {
                self.loaded(call_of(place), Goal::Read, index, <_>::default(), now, out);
            }
        }
    }

    /// Warns once that the keys of a topic may be hidden.
    fn warn_hidden(&mut self, place: usize, out: &mut Vec<Output>) {
        let Some(Some(topic)) = self.topics.get_mut(place) else { return };
        if std::mem::replace(&mut topic.is_filtered, true) {
            return;
        }
        let line = Line::new(Level::Warn, "there are no keys, or none that the token may read");
        let line = line.with("key", cut::key(&topic.key)).with("token", self.options.token_source.clone());
        self.readings.log(line, out);
    }
}
