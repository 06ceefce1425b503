//! What follows a refusal, a failed request or a lost history: a new login, a pause of one resource, another node, or a
//! read of all keys. Reports each failure and its end. Does not choose the node.

use std::time::{Duration, Instant};

use super::stream::Watching;
use super::{Action, Asked, Login, Resume, Session, State, log, report};
use crate::backend::Report;
use crate::backend::etcd::subscription::{Goal, SMALLEST_PAGE, Subscription};
use crate::backend::etcd::wire::{self, Reason, Refusal, Span};
use crate::backend::failover::{LASTING, SLOW_RETRY};
use crate::backend::protocol::{Id, Output, Subscribers};
use crate::log::Level;
use crate::sorted::SortedMap;

/// A compacted history hits every machine at the same moment. Each one starts to read all keys at a random moment
/// within this time.
pub(super) const SPREAD: Duration = Duration::from_secs(1);

/// How often a read restarts at the same node after its revision was compacted.
const RESTARTS: u32 = 3;

impl Session {
    /// Requests a new token after a refusal that an expired token may have caused. Returns whether a new token may
    /// help: if etcd refuses a fresh one too, the token's age is not the cause. A confirmation between the two refusals
    /// proves nothing.
    pub(super) fn log_in_again(&mut self, now: Instant) -> bool {
        let is_asked_for = matches!(self.login, Login::Wanted { .. });
        let is_soon = |last: Instant| now.saturating_duration_since(last) < LASTING;
        if !is_asked_for && self.token_refused.replace(now).is_some_and(is_soon) {
            return false;
        }
        if !is_asked_for {
            self.login = Login::Wanted { from: None };
        }
        true
    }

    /// Whether a login may cure a refusal: the configuration has a user, and no node has just said that authentication
    /// is disabled.
    pub(super) fn may_log_in(&self) -> bool {
        match self.login {
            Login::Wanted { .. } | Login::Fresh | Login::Confirmed => true,
            Login::Needless => self.settings.login,
            Login::AuthDisabledClaimed => false,
        }
    }

    pub(super) fn refused(&mut self, asked: Asked, refusal: Refusal, now: Instant, out: &mut Vec<Action>) {
        let Refusal { reason, words } = refusal;
        let of = |id: Id| self.subscriptions.get(&id);
        match (reason, asked) {
            // Authentication was enabled after the node had said that it is disabled.
            (Reason::Unauthenticated | Reason::Denied, _)
                if matches!(self.login, Login::Needless) && self.may_log_in() =>
            {
                self.login = Login::Wanted { from: None };
            }
            (Reason::RevisionGone, Asked::Page(id)) => {
                self.read_all(id, None, out);
                if self.subscriptions.get_mut(&id).is_some_and(|s| s.restarted() > RESTARTS) {
                    self.page_failed(id, &words, now, out);
                }
            }
            (Reason::Unauthenticated, _) => match self.login {
                Login::Confirmed => self.login = Login::Wanted { from: None },
                Login::Needless => {
                    let node = &self.node;
                    let text = format!("failed to {} {node}: {words}: set `username` and `password`", asked.verb());
                    self.locked_out(text, now, out);
                }
                // The request was sent before the login was known to be needed.
                Login::Wanted { .. } => {}
                // A node that contradicts itself counts as failed.
                Login::Fresh | Login::AuthDisabledClaimed => {
                    self.login = Login::Wanted { from: None };
                    self.failed(asked.verb(), &words, out);
                }
            },
            (Reason::Denied, Asked::Page(id)) => {
                if let Some(span) = of(id).map(Subscription::span_in_reading) {
                    self.deny(id, "read", span, &words, now, out);
                }
            }
            (Reason::Denied, Asked::Permission(id)) => {
                if let Some(span) = of(id).and_then(|s| s.denied_span().cloned()) {
                    self.deny(id, "read", span, &words, now, out);
                }
            }
            (Reason::Denied, Asked::Newest(id)) => {
                if let Some(span) = of(id).map(Subscription::probed_span) {
                    self.deny(id, "read", span, &words, now, out);
                }
            }
            (_, Asked::Page(id)) => self.page_failed(id, &words, now, out),
            _ => self.failed(asked.verb(), &words, out),
        }
    }

    pub(super) fn broken(&mut self, words: &str, resume: Resume, now: Instant, out: &mut Vec<Action>) {
        let Some(asked) = self.asked.take() else { return };
        let Asked::Page(id) = asked else { return self.failed(asked.verb(), words, out) };
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        match resume {
            // A page with fewer keys may fit. Another node would send an answer of the same size.
            Resume::TooLarge if subscription.halve_page(1) => {}
            Resume::TooLarge => self.too_large(id, words, now, out),
            Resume::TooMany => {
                self.too_large(id, words, now, out);
                // The keys that were read are dropped. The next read starts from the first key.
                if let Some(s) = self.subscriptions.get_mut(&id).filter(|s| !s.is_read()) {
                    s.read_all(None);
                }
            }
            Resume::TimedOut => {
                subscription.halve_page(SMALLEST_PAGE);
                self.page_failed(id, words, now, out);
            }
            Resume::Possible => self.page_failed(id, words, now, out),
        }
    }

    /// Handles a page that failed. While a stream is open the node need not be at fault, so it gets only a probe, and
    /// this resource alone pauses.
    pub(super) fn page_failed(&mut self, id: Id, words: &str, now: Instant, out: &mut Vec<Action>) {
        let (State::Watching(watching), Some(subscription)) = (&mut self.state, self.subscriptions.get_mut(&id)) else {
            self.watch_first = true;
            return self.failed("read from", words, out);
        };
        watching.probe_at = now;
        let rest = subscription.page_failed();
        let from = now + rest + self.up_to(rest);
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.rest_until(from);
        }
        out.push(report(id, Report::Failed(format!("failed to read from {}: {words}", &self.node))));
    }

    /// Handles a key, or a set of keys, that exceeds the limits. An open watch still delivers the changes.
    pub(super) fn too_large(&mut self, id: Id, words: &str, now: Instant, out: &mut Vec<Action>) {
        let Some(span) = self.subscriptions.get(&id).map(Subscription::span_in_reading) else { return };
        if !matches!(&self.state, State::Watching(watching) if watching.is_attached(id)) {
            return self.deny(id, "read", span, words, now, out);
        }
        let (slow, node) = (self.slow(), &self.node);
        let words = format!("failed to read `{}` from {node}: {words}", span.shown());
        out.push(log(id, Level::Warn, "going on with the watch alone", "error", words));
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.stop_reading(Some(now + slow.max(subscription.interval.unwrap_or_default())));
        self.plan_read(id, now);
        self.recover(out);
    }

    pub(super) fn login_refused(&mut self, refusal: Refusal, now: Instant, out: &mut Vec<Action>) {
        match refusal.reason {
            // As etcd's own clients do.
            Reason::NoUsers => self.login = Login::AuthDisabledClaimed,
            Reason::Unauthenticated | Reason::Denied => {
                let node = &self.node;
                let text = format!("failed to log in to {node}{}: {}", self.as_user(), refusal.words);
                self.locked_out(text, now, out);
            }
            Reason::RevisionGone | Reason::UnknownPath | Reason::Other => {
                self.failed(Asked::Login.verb(), &refusal.words, out)
            }
        }
    }

    /// Handles a failed login, after which no request can succeed. An open stream stays open, because etcd does not
    /// check the token of a stream again.
    pub(super) fn locked_out(&mut self, words: String, now: Instant, out: &mut Vec<Action>) {
        out.extend(self.waiting().into_iter().map(|id| report(id, Report::Failed(words.clone()))));
        self.give_up();
        let until = now + self.slow();
        match (&self.login, &self.state) {
            // Without a login the request itself is retried.
            (Login::Needless | Login::AuthDisabledClaimed, State::Ready | State::Resting { .. }) => {
                self.state = State::Resting { until };
            }
            (Login::Needless | Login::AuthDisabledClaimed, State::Watching(_)) => {
                self.close(out);
                self.state = State::Resting { until };
            }
            (Login::Wanted { .. } | Login::Fresh | Login::Confirmed, _) => {
                self.login = Login::Wanted { from: Some(until) }
            }
        }
    }

    /// The keys of a resource cannot be brought up to date by events: starts a read of all its keys.
    pub(super) fn lost(&mut self, id: Id, level: Level, why: &str, now: Instant, out: &mut Vec<Action>) {
        self.flush(id, out);
        self.detach(id, out);
        out.push(log(id, level, "reading all keys again", "reason", why.to_owned()));
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let losses = subscription.losses;
        subscription.losses = losses.saturating_add(1);
        if losses < 2 {
            let from = self.moment_to_read(now);
            return self.read_all(id, Some(from), out);
        }
        // The earlier reads led to no lasting watch. Either the nodes belong to two clusters, or the history is
        // compacted too fast.
        let words = format!("failed to watch {}: {why}, {losses} times before", &self.node);
        out.push(report(id, Report::Failed(words)));
        let least = SPREAD * (1 << losses.min(10));
        let rest = least.min(SLOW_RETRY);
        let from = now + rest + self.up_to(rest * 2);
        self.read_all(id, Some(from), out);
    }

    /// When a resource reads all keys after a loss. All resources that lost their history read one after the other, so
    /// that one new stream serves them all.
    pub(super) fn moment_to_read(&mut self, now: Instant) -> Instant {
        let planned =
            self.subscriptions.values().filter_map(Subscription::reads_from).filter(|from| *from >= now).min();
        planned.unwrap_or_else(|| now + self.up_to(SPREAD))
    }

    /// Denies a resource its read or its watch. Only this resource reports the failure, and it retries much later.
    pub(super) fn deny(&mut self, id: Id, verb: &str, span: Span, words: &str, now: Instant, out: &mut Vec<Action>) {
        self.flush(id, out);
        self.detach(id, out);
        self.abort_if(|asked| [Asked::Page(id), Asked::Permission(id), Asked::Newest(id)].contains(&asked), out);
        let until = now + self.slow();
        let (node, user) = (&self.node, self.as_user());
        let preposition = if verb == "watch" { "at" } else { "from" };
        let words = format!("failed to {verb} `{}` {preposition} {node}{user}: {words}", span.shown());
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if subscription.goal == Goal::Once {
            subscription.stop_reading(None);
        } else {
            subscription.deny(until, span);
        }
        out.push(report(id, Report::Failed(words)));
    }

    pub(super) fn as_user(&self) -> String {
        self.user.as_ref().map_or(String::new(), |user| format!(" as user `{}`", wire::server_text(user)))
    }

    /// Reports that the node failed, and ends the stream and the pending request.
    pub(super) fn failed(&mut self, verb: &str, words: &str, out: &mut Vec<Action>) {
        self.flush_all(out);
        self.close(out);
        self.abort_if(|_| true, out);
        let words = format!("failed to {verb} {}: {words}", self.node);
        out.push(Action::Emit(Output::NodeFailed { words, not_before: None }));
    }

    /// Reports the end of a failure to the subscribers that it concerned.
    pub(super) fn recover(&mut self, out: &mut Vec<Action>) {
        let locked_out = matches!(self.login, Login::Wanted { from: Some(_) });
        if let State::Resting { .. } = self.state {
            return;
        }
        let mut all = !locked_out;
        let confirmed = match &self.state {
            State::Watching(watching) => Watching::open(&watching.slots[..watching.answered]),
            State::Ready | State::Resting { .. } => SortedMap::new(),
        };
        for (id, subscription) in &mut self.subscriptions {
            let watched = confirmed.get(id).copied().unwrap_or(0) == subscription.watches.len();
            if watched && subscription.is_read() && !subscription.is_denied() && !locked_out {
                if !subscription.watches.is_empty() {
                    subscription.watched_since.get_or_insert(self.now);
                }
                out.push(Action::Emit(Output::Healthy(*id)));
            } else {
                all &= subscription.is_denied();
            }
        }
        if all {
            out.push(Action::Emit(Output::Worked));
            if let State::Ready = self.state {
                out.push(Action::Emit(Output::ResetBackoff));
            }
        }
    }
}
