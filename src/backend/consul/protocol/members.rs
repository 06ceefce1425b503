//! Reports the answer of a topic to its resources: all keys, changes, or a refusal. Parses nothing: `protocol` has the
//! listings, `listing` compares them.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Consul, Goal, State, Topic, place_of};
use crate::backend::Report;
use crate::backend::consul::listing::{self, Listing, Written};
use crate::backend::failover::SLOW_RETRY;
use crate::backend::protocol::{CallId, Id, Output};
use crate::store::Bytes;

impl Consul {
    /// Takes the complete listing of a topic.
    pub(super) fn loaded(
        &mut self,
        call: CallId,
        goal: Goal,
        index: u64,
        (new, written): (Listing, Written),
        now: Instant,
        out: &mut Vec<Output>,
    ) {
        let Some(topic) = self.topic(call) else { return };
        // Consul's documentation of blocking queries: if the index decreases, the next query starts at 0.
        let (index, last) = (index.max(1), topic.index);
        let is_watch = goal == Goal::Watch;
        let (has_fallen, has_waited) = (is_watch && index < last, is_watch && topic.can_wait());
        topic.is_doubtful &= !is_watch;
        topic.index = if has_fallen { 0 } else { index };
        let old = topic.listing.replace(new);
        if is_watch {
            out.push(Output::ResetBackoff);
        }
        if has_fallen {
            self.members.values_mut().for_each(|member| member.last_trigger = 0);
            self.doubt(out);
        }
        self.doubts_closed_links |= has_waited;
        if let Some(old) = old {
            self.report_changes(call, &old, written, last, out);
        }
        self.complete(now, out);
    }

    /// Reports the changes since `old` to the resources of a topic. `last` is the index of `old`.
    fn report_changes(&mut self, call: CallId, old: &Listing, written: Written, last: u64, out: &mut Vec<Output>) {
        let Some(Some(topic)) = place_of(call).and_then(|place| self.topics.get(place)) else { return };
        let Some(new) = &topic.listing else { return };
        let differences = listing::differences(old, new);
        if differences.is_empty() {
            return;
        }
        let deleted = differences.iter().filter(|raw| !new.contains_key(*raw)).count();
        let (index, oldest) = (topic.index, written.oldest(deleted, last, topic.index));
        let mut triggered = Vec::new();
        for id in &topic.members {
            let Some(member) = self.members.get(id).filter(|member| member.is_live) else { continue };
            if !self.readings.get(*id).is_some_and(|subscriber| subscriber.watches) {
                continue;
            }
            let Some(listings) = self.listings(member) else { continue };
            let is_folder = |raw: &Bytes| listing::is_folder(&member.keys, raw);
            let has_folders = old.keys().any(is_folder) || listings.iter().any(|all| all.keys().any(is_folder));
            let changes = listing::changes(&member.keys, &differences, has_folders, listings.into_iter());
            let is_watched = differences.iter().any(|raw| member.watched.covers(raw));
            if is_watched {
                triggered.push(*id);
            }
            // Requests are not ordered among each other: a change before the last trigger can arrive after it.
            let trigger = is_watched || (!changes.is_empty() && oldest <= member.last_trigger);
            if trigger || !changes.is_empty() {
                out.push(Output::Report(*id, Report::Changes { changes, trigger }));
            }
        }
        for id in triggered {
            if let Some(member) = self.members.get_mut(&id) {
                member.last_trigger = member.last_trigger.max(index);
            }
        }
    }

    /// Reports all keys to the resources whose listings are complete.
    pub(super) fn complete(&mut self, now: Instant, out: &mut Vec<Output>) {
        for id in self.readings.reading().collect::<Vec<_>>() {
            let Some(member) = self.members.get(&id) else { continue };
            let Some(listings) = self.listings(member) else { continue };
            let layer = listing::layer(&member.keys, listings.into_iter());
            self.readings.succeeded(id, layer, now, out);
            out.push(Output::Worked);
            let watches = self.readings.get(id).is_some_and(|subscriber| subscriber.watches);
            if !watches {
                // A watched resource resets the backoff with the next answer.
                out.push(Output::ResetBackoff);
            }
            // The listings were read at different moments: one of them may include a trigger whose earlier changes
            // another one lacks.
            let newest = member.topics.iter().filter_map(|key| self.topic_of(key)).map(|topic| topic.index).max();
            if let Some(member) = self.members.get_mut(&id) {
                (member.is_live, member.last_trigger) = (true, newest.unwrap_or_default());
            }
        }
        self.forget();
    }

    /// Drops the listings that no resource reads or watches.
    pub(super) fn forget(&mut self) {
        let reading: BTreeSet<Id> = self.readings.reading().collect();
        let is_over =
            |topic: &Topic| topic.listing.is_some() && topic.members.is_disjoint(&reading) && !self.is_watched(topic);
        let over: Vec<usize> = self.topics().filter(|(_, topic)| is_over(topic)).map(|(place, _)| place).collect();
        for place in over {
            if let Some(topic) = &mut self.topics[place] {
                (topic.listing, topic.index) = (None, 0);
            }
        }
    }

    /// Reports to the resources of a topic that every node would refuse it.
    pub(super) fn refused(&mut self, call: CallId, goal: Goal, words: &str, now: Instant, out: &mut Vec<Output>) {
        let words = self.failure(call, goal, words);
        let Some(topic) = self.topic(call) else { return };
        (topic.state, topic.listing, topic.index) = (State::Idle, None, 0);
        let members: Vec<Id> = topic.members.iter().copied().collect();
        let reading: Vec<Id> = self.readings.reading().collect();
        for id in members {
            let watches = self.readings.get(id).is_some_and(|subscriber| subscriber.watches);
            if !watches && !reading.contains(&id) {
                continue;
            }
            let pause = self.random.between(SLOW_RETRY, SLOW_RETRY * 3);
            self.readings.refused(id, words.clone(), pause, now, out);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_live = false;
            }
        }
        self.forget();
    }
}
