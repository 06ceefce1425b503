//! The connection for notifications: whether the server reports all changes, which channels are subscribed to, and
//! which keys of which resource a message concerns. Does not read the keys.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Asked, EVENTS, FLUSHES, INTERVAL, NO_KEY, Redis, Stage, Step, Watch};
use crate::backend::Report;
use crate::backend::failover::SLOW_RETRY;
use crate::backend::protocol::{Id, Output};
use crate::backend::redis::NAME;
use crate::backend::redis::pass::BATCH;
use crate::backend::redis::refusal::{Refusal, RefusalKind};
use crate::backend::redis::wanted::Channel;
use crate::backend::redis::wire::{self, Reply};
use crate::cut;
use crate::log::{Level, Line};
use crate::store::Bytes;

impl Redis {
    /// Whether it is undecided if the server reports changes. No read begins before.
    pub(super) fn is_undecided(&self) -> bool {
        match &self.watch {
            Watch::Asking(_) => true,
            Watch::On { unconfirmed, .. } => *unconfirmed > 0,
            Watch::Off | Watch::Declined { .. } => false,
        }
    }

    /// The resources with watching enabled.
    fn watchers(&self) -> Vec<Id> {
        self.readings.iter().filter(|(_, subscriber)| subscriber.may_watch).map(|(id, _)| id).collect()
    }

    /// Opens the watch if a resource needs it, and closes it otherwise.
    pub(super) fn arrange_watch(&mut self, now: Instant, out: &mut Vec<Output>) {
        let is_wanted = !self.watchers().is_empty();
        match self.watch {
            Watch::Asking(_) | Watch::On { .. } if !is_wanted => {
                self.close(EVENTS, out);
                self.watch = Watch::Off;
            }
            Watch::Off if is_wanted && self.readings.is_watcher_due(now) => self.ask_to_watch(now, out),
            Watch::Declined { until } if until <= now && self.pass.is_none() && self.readings.is_watcher_due(now) => {
                self.ask_to_watch(now, out);
            }
            Watch::On { .. } => self.subscribe(now),
            Watch::Off | Watch::Asking(_) | Watch::Declined { .. } => {}
        }
    }

    fn ask_to_watch(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.watch = Watch::Asking(Step::Settings);
        self.open(EVENTS, now, out);
    }

    /// Subscribes to the missing channels, and unsubscribes from the unneeded ones.
    fn subscribe(&mut self, now: Instant) {
        let Watch::On { channels, unconfirmed, .. } = &mut self.watch else { return };
        let wanted: BTreeSet<Channel> = self.routes.keys().cloned().collect();
        if *channels == wanted {
            return;
        }
        let new: Vec<&Channel> = wanted.difference(channels).collect();
        let old: Vec<&Channel> = channels.difference(&wanted).collect();
        let prefix = format!("__keyspace@{}__:", self.settings.database);
        let mut send = |channels: &[&Channel], for_key: &'static str, for_pattern: &'static str| {
            let full = |wants_key: bool| {
                let of_kind = channels.iter().filter_map(move |channel| match channel {
                    Channel::Key(key) => wants_key.then_some(key),
                    Channel::Pattern(pattern) => (!wants_key).then_some(pattern),
                });
                of_kind.map(|end| [prefix.as_bytes(), end].concat()).collect::<Vec<_>>()
            };
            for (name, full) in [(for_key, full(true)), (for_pattern, full(false))] {
                for some in full.chunks(BATCH) {
                    let words: Vec<&[u8]> =
                        [name.as_bytes()].into_iter().chain(some.iter().map(Vec::as_slice)).collect();
                    wire::command(&mut self.events.unsent, &words);
                }
            }
        };
        send(&new, "SUBSCRIBE", "PSUBSCRIBE");
        send(&old, "UNSUBSCRIBE", "PUNSUBSCRIBE");
        *unconfirmed += new.len();
        *channels = wanted;
        (self.events.last_received, self.events.pending) = (now, 0);
    }

    /// Takes a reply or a message on the connection for notifications.
    pub(super) fn event(&mut self, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        match (&mut self.watch, reply) {
            (Watch::Asking(Step::Login), Reply::Error(text)) => self.login_refused(&text, now, out),
            (Watch::Asking(step @ Step::Login), _) => *step = Step::Settings,
            (Watch::Asking(Step::Settings), reply) => self.settings_received(reply, now, out),
            (Watch::Asking(step @ Step::Number), Reply::Integer(number)) => {
                *step = Step::Tracking;
                let number = number.to_string();
                let words: [&[u8]; 8] =
                    [b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", number.as_bytes(), b"BCAST", b"PREFIX", NO_KEY];
                wire::command(&mut self.events.unsent, &words);
                wire::command(&mut self.events.unsent, &[b"SUBSCRIBE", FLUSHES]);
            }
            (Watch::Asking(Step::Number), reply) => {
                let refusal = self.error_text(reply);
                self.begin_watch(refusal, now, out);
            }
            (Watch::Asking(Step::Tracking), reply) => {
                let refusal = self.error_text(reply);
                self.watch = Watch::Asking(Step::Flushes(refusal));
            }
            (Watch::Asking(Step::Flushes(refusal)), reply) => {
                let refusal = refusal.take();
                let refusal = refusal.or_else(|| self.error_text(reply));
                self.begin_watch(refusal, now, out);
            }
            (Watch::On { .. }, Reply::Error(text)) => {
                let refusal = Refusal::new(&text, &self.secrets);
                match refusal.kind {
                    // A user may lack the permission to probe. The refusal is an answer, too.
                    RefusalKind::Denied if self.events.probed && !self.is_undecided() => self.events.probed = false,
                    RefusalKind::Denied => {
                        let reason = format!("{} may not subscribe: {}", self.user(), refusal.words);
                        self.decline(reason, now, out);
                    }
                    _ => self.refused("watch", &refusal, now, out),
                }
            }
            (Watch::On { .. }, Reply::Array(items)) => self.message(&items, now),
            // The reply to a probe without a subscription.
            (Watch::On { .. }, _) => self.events.probed = false,
            (Watch::Off | Watch::Declined { .. }, _) => {}
        }
    }

    /// Takes the reply whether the server reports all changes.
    fn settings_received(&mut self, reply: Reply, now: Instant, out: &mut Vec<Output>) {
        let reason = match reply {
            Reply::Array(items) => match &items[..] {
                [Reply::Bulk(_), Reply::Bulk(flags)] if covers_all_changes(flags) => {
                    self.watch = Watch::Asking(Step::Number);
                    return;
                }
                [Reply::Bulk(_), Reply::Bulk(flags)] if flags.is_empty() => {
                    "`notify-keyspace-events` of the server is empty: set it to `KA`".to_owned()
                }
                [Reply::Bulk(_), Reply::Bulk(flags)] => {
                    format!("`notify-keyspace-events` of the server is `{}`: set it to `KA`", cut::key(flags))
                }
                _ => "the server has no `notify-keyspace-events`".to_owned(),
            },
            Reply::Error(text) => {
                let refusal = Refusal::new(&text, &self.secrets);
                match refusal.kind {
                    RefusalKind::Denied | RefusalKind::Other => {
                        format!("the server does not say whether it tells of changes: {}", refusal.words)
                    }
                    _ => return self.refused("read from", &refusal, now, out),
                }
            }
            _ => return self.nonsense(now, out),
        };
        self.decline(reason, now, out);
    }

    /// The error in a reply, which means that flushes are not reported.
    fn error_text(&self, reply: Reply) -> Option<String> {
        match reply {
            Reply::Error(text) => Some(Refusal::new(&text, &self.secrets).words),
            _ => None,
        }
    }

    /// Subscribes to the changes of keys. `refusal`: why the server does not report changes of
    /// all keys at once.
    fn begin_watch(&mut self, refusal: Option<String>, now: Instant, out: &mut Vec<Output>) {
        if let Some(reason) = refusal.as_ref().filter(|reason| self.flushes_refusal.as_ref() != Some(reason)) {
            let line = Line::new(Level::Warn, "FLUSHALL and FLUSHDB are not noticed before the next read");
            self.readings.log(line.with("reason", reason.clone()), out);
        }
        self.flushes_refusal = refusal;
        self.watch = Watch::On { channels: BTreeSet::new(), unconfirmed: 0, since: None };
        self.subscribe(now);
        self.confirmed(now);
    }

    /// The server reports no changes: watched resources are read by interval.
    fn decline(&mut self, reason: String, now: Instant, out: &mut Vec<Output>) {
        self.close(EVENTS, out);
        self.watch = Watch::Declined { until: now + SLOW_RETRY };
        for id in self.watchers() {
            let interval = self.readings.unwatch(id, INTERVAL);
            self.forget(id);
            let Some(resource) = self.resources.get_mut(&id) else { continue };
            if resource.unwatched.as_ref() != Some(&reason) {
                let line = Line::new(Level::Warn, "redis cannot be watched, using `interval` instead");
                let line = line.with("backend", NAME).with("interval", interval.as_secs().to_string());
                out.push(Output::Report(id, Report::Log(line.with("reason", reason.clone()))));
                resource.unwatched = Some(reason.clone());
            }
        }
    }

    fn message(&mut self, items: &[Reply], now: Instant) {
        let texts: Vec<&Bytes> = items
            .iter()
            .filter_map(|item| match item {
                Reply::Bulk(text) => Some(text),
                _ => None,
            })
            .collect();
        match texts[..] {
            [kind, ..] if **kind == *b"subscribe" || **kind == *b"psubscribe" => {
                if let Watch::On { unconfirmed, .. } = &mut self.watch {
                    *unconfirmed = unconfirmed.saturating_sub(1);
                }
                self.confirmed(now);
            }
            [kind, ..] if **kind == *b"pong" => self.events.probed = false,
            [kind, channel] if **kind == *b"message" && **channel == *FLUSHES => {
                self.watchers().into_iter().for_each(|id| self.reread(id));
            }
            [kind, channel, _] if **kind == *b"message" => {
                if let Some(key) = self.key_of(channel) {
                    self.touch(&Channel::Key(key.clone()), &key);
                }
            }
            [kind, pattern, channel, _] if **kind == *b"pmessage" => {
                if let (Some(pattern), Some(key)) = (self.key_of(pattern), self.key_of(channel)) {
                    self.touch(&Channel::Pattern(pattern), &key);
                }
            }
            _ => {}
        }
    }

    /// The key in the name of a channel.
    fn key_of(&self, channel: &[u8]) -> Option<Bytes> {
        let prefix = format!("__keyspace@{}__:", self.settings.database);
        channel.strip_prefix(prefix.as_bytes()).map(Bytes::from)
    }

    /// Checks whether all channels are confirmed. Keys that were read before may have changed in between.
    fn confirmed(&mut self, now: Instant) {
        let Watch::On { unconfirmed: 0, since, .. } = &mut self.watch else { return };
        if since.is_none() {
            *since = Some(now);
            for id in self.watchers() {
                self.readings.watch(id);
                self.reread(id);
            }
            self.resources.values_mut().for_each(|resource| (resource.unwatched, resource.reread) = (None, None));
        }
    }

    fn touch(&mut self, channel: &Channel, key: &Bytes) {
        let mut overflown = Vec::new();
        for (id, role) in self.routes.get(channel).into_iter().flatten() {
            let Some(resource) = self.resources.get_mut(id) else { continue };
            if !resource.touched.contains_key(key) && resource.announced.add(key, b"").is_err() {
                // There are more changed keys than the limits of a read allow.
                overflown.push(*id);
                continue;
            }
            resource.touched.entry(key.clone()).or_default().add(channel, *role);
        }
        overflown.into_iter().for_each(|id| self.reread(id));
    }

    pub(super) fn route(&mut self) {
        self.routes.clear();
        for id in self.watchers() {
            let Some(resource) = self.resources.get(&id) else { continue };
            for (channel, role) in resource.wanted.channels() {
                self.routes.entry(channel).or_default().push((id, role));
            }
        }
    }

    /// When a silent watch is probed.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        let is_silent = matches!(self.watch, Watch::On { since: Some(_), .. }) && !self.events.probed;
        if is_silent { self.events.last_received.checked_add(self.settings.watch_deadline) } else { None }
    }

    /// Probes both connections, because a change needs both.
    pub(super) fn probe(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.probe_at().is_none_or(|at| at > now) {
            return;
        }
        wire::command(&mut self.events.unsent, &[b"PING"]);
        (self.events.last_received, self.events.pending, self.events.probed) = (now, 0, true);
        if self.commands.stage == Stage::Open && self.asked.is_empty() {
            self.ask(&[b"PING"], Asked::Probe, now, out);
        }
    }
}

/// Whether the flags of keyspace notifications cover all changes of strings: commands, expiry, eviction.
fn covers_all_changes(flags: &[u8]) -> bool {
    let has = |flag| flags.contains(&flag);
    has(b'K') && (has(b'A') || b"g$xe".iter().all(|flag| has(*flag)))
}
