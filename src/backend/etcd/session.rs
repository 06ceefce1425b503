//! The state machine of one etcd cluster for all resources that share it. Decides the next request (login, page of a
//! read, one stream of all watches) and what an answer, a failure or a passed deadline means. Opens no connection,
//! holds no password and reads no clock: events carry the time. The driver chooses the node and the pause after a
//! failure.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

use super::NAME;
use super::subscription::{Goal, OTHER_CLUSTER, SMALLEST_PAGE, Subscription, Want, Wanted};
use super::wire::{self, Entry, Header, Message, Page, Reason, Refusal, Span, WatchAnswer};
use crate::backend::Report;
use crate::backend::failover::{LASTING, SLOW_RETRY};
use crate::backend::protocol::{Id, Output, Subscribers};
use crate::log::{Level, Line};

/// etcd sends a progress notification every 10 minutes on an idle stream, and at most 22 minutes after an event. A
/// stream that was silent for longer is dead, even if its node is alive: a proxy or a NAT table has lost the
/// connection.
const LONGEST_SILENCE: Duration = Duration::from_secs(25 * 60);

/// A compacted history hits every machine at the same moment. Each one starts to read all keys at a random moment
/// within this time.
const SPREAD: Duration = Duration::from_secs(1);

/// How often a read restarts at the same node after its revision was compacted.
const RESTARTS: u32 = 3;

/// The options of one etcd cluster.
pub struct Settings {
    /// The nodes, as the log shows them.
    pub nodes: String,
    /// Whether the configuration names a user.
    pub login: bool,
    /// A silent stream may be dead although the kernel of its node is alive. After this time the session requests the
    /// newest revision from the node.
    pub watch_deadline: Duration,
    /// The time limit of a stream for the confirmation of its watches, and for the events up to the revision of a read.
    pub stream_timeout: Duration,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time passed. Only this event begins a request, and at most one.
    Turn,
    /// A login returned a token.
    LoggedIn { user: String },
    /// A login was refused.
    LoginRefused { user: String, refusal: Refusal },
    /// Name or password could not be read.
    NoCredentials(String),
    /// The answer to a range request is complete. Its entries went to [`Session::entry`].
    Page(Page),
    /// A watch request opened a stream.
    Opened,
    /// A line arrived on the stream.
    Message(Message),
    /// All bytes that have arrived on the stream are processed.
    Quiet,
    /// The request was refused.
    Refused(Refusal),
    /// The request failed before its answer was complete.
    Broken { words: String, resume: Resume },
    /// The stream ended or failed.
    StreamBroken { words: String, resume: Resume },
}

/// Whether a watch or a read can resume after the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    Possible,
    /// The time limit passed.
    TimedOut,
    /// The next answer is larger than the limit.
    TooLarge,
    /// All keys together exceed the limits of a read.
    TooMany,
}

/// What the protocol does for the session.
#[derive(Debug)]
pub enum Action {
    Ask(Request),
    /// Cancels the pending request.
    Abort,
    /// Closes the stream.
    Close,
    Emit(Output),
}

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: RequestKind,
    pub body: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Answered by `LoggedIn`, `LoginRefused`, `NoCredentials` or `Broken`. The protocol makes the body, which is
    /// secret.
    Login,
    /// Answered by `Page`, `Refused` or `Broken`.
    Range,
    /// Answered by `Opened`, `Refused` or `Broken`.
    Watch,
}

/// One etcd and the subscriptions that share it.
pub struct Session {
    settings: Settings,
    subscriptions: BTreeMap<Id, Subscription>,
    /// The current node, as the log shows it.
    node: String,
    /// The resource whose page is requested next. A read keeps the turn until its last page, then the next resource has
    /// it.
    next_reader: Id,
    state: State,
    login: Login,
    /// The user of the last login.
    user: Option<String>,
    /// When etcd last refused a watch or ended a stream for a reason that a new token may cure.
    token_refused: Option<Instant>,
    /// A page failed while no stream was open. The stream for the other resources is opened before the page is
    /// requested again.
    watch_first: bool,
    /// The purpose of the pending request.
    asked: Option<Asked>,
    asked_slots: Vec<WatchSlot>,
    /// The time of the last event.
    now: Instant,
    random: Box<dyn FnMut(u64) -> u64>,
}

enum State {
    /// No stream is open. Reads come first, then the stream.
    Ready,
    /// No stream is open after a failure. No request is made until the moment.
    Resting {
        until: Instant,
    },
    Watching(Watching),
}

/// An open stream.
struct Watching {
    since: Instant,
    /// When the last line arrived.
    last_received: Instant,
    /// Its watches, in the order of the request, which is also the order of the confirmations.
    slots: Vec<WatchSlot>,
    /// How many watches are confirmed, and the deadline for the next confirmation.
    answered: usize,
    answered_by: Instant,
    /// When the newest revision is requested from the node. The answer shows that the node is alive and that its store
    /// is the one that was read.
    probe_at: Instant,
}

/// The subscription that receives the answers of a watch.
struct WatchSlot {
    id: Id,
    watch: usize,
    state: SlotState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Open,
    /// etcd still sends its events, and the session drops them.
    Ignored,
    /// etcd refused or cancelled it.
    Ended,
}

/// The state of the login.
#[derive(Debug)]
enum Login {
    /// No login is configured, or authentication is disabled in this etcd.
    Needless,
    /// etcd says that authentication is disabled, and no request has succeeded since.
    AuthDisabledClaimed,
    /// A login is the next request, not before the moment.
    Wanted {
        from: Option<Instant>,
    },
    /// No request has succeeded with the token yet. A refusal now does not mean that the token has expired.
    Fresh,
    Proved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Login,
    /// The next page of a resource.
    Page(Id),
    /// A probe whether the resource is still denied access.
    Permission(Id),
    /// The newest revision, requested with a key that the resource may read.
    Newest(Id),
    /// All watches.
    Watch,
}

impl Asked {
    fn verb(self) -> &'static str {
        match self {
            Asked::Login => "log in to",
            Asked::Page(_) | Asked::Permission(_) => "read from",
            Asked::Newest(_) | Asked::Watch => "watch",
        }
    }
}

impl Session {
    /// `random` returns a number below its argument, which is not 0.
    pub fn new(settings: Settings, now: Instant, random: Box<dyn FnMut(u64) -> u64>) -> Session {
        Session {
            subscriptions: BTreeMap::new(),
            node: String::new(),
            next_reader: Id(0),
            state: State::Ready,
            login: if settings.login { Login::Wanted { from: None } } else { Login::Needless },
            user: None,
            token_refused: None,
            watch_first: false,
            asked: None,
            asked_slots: Vec::new(),
            now,
            settings,
            random,
        }
    }

    /// Adds a resource. Its first request is made in the next turn.
    pub fn add(&mut self, id: Id, wanted: Wanted, out: &mut Vec<Action>) {
        let line = Line::new(Level::Info, "set backend nodes").with("backend", NAME);
        // The version is logged too, because the configuration may leave it open.
        let line = line.with("nodes", self.settings.nodes.clone()).with("version", "3");
        out.push(report(id, Report::Log(line)));
        self.subscriptions.insert(id, Subscription::new(wanted));
        self.read_all(id, None, out);
    }

    /// Removes a resource.
    pub fn remove(&mut self, id: Id, out: &mut Vec<Action>) {
        self.subscriptions.remove(&id);
        // If other resources use the stream, the watches of the removed one stay in it, and the next stream omits them.
        if let State::Watching(watching) = &self.state
            && !watching.slots.iter().any(|r| r.state == SlotState::Open && self.subscriptions.contains_key(&r.id))
        {
            self.close(out);
        }
    }

    /// The subscriber whose log receives the lines that concern no single subscriber.
    fn first(&self) -> Option<Id> {
        self.subscriptions.keys().next().copied()
    }

    pub fn on(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        self.now = now;
        match event {
            Event::Turn => self.turn(now, out),
            Event::Message(Message::Watch(answer)) => self.answered(answer, now, out),
            Event::Message(Message::Error(refusal)) => self.ended(refusal, out),
            Event::Quiet => self.flush_all(out),
            Event::LoggedIn { user } => {
                self.asked = None;
                let (first, node) = (self.first(), self.node.clone());
                let line = Line::new(Level::Debug, "logged in").with("backend", NAME);
                let line = line.with("node", node).with("user", user.clone());
                out.extend(first.map(|id| report(id, Report::Log(line))));
                self.user = Some(user);
                self.login = Login::Fresh;
                self.recover(out);
            }
            Event::LoginRefused { user, refusal } => {
                self.asked = None;
                self.user = Some(user);
                self.login_refused(refusal, now, out);
            }
            Event::NoCredentials(words) => {
                self.asked = None;
                self.locked_out(words, now, out);
            }
            Event::Page(page) => match self.asked.take() {
                Some(Asked::Page(id)) => self.page(id, page, now, out),
                Some(Asked::Permission(id)) => self.permitted(id, out),
                Some(Asked::Newest(_)) => self.probed(page.header, now, out),
                Some(Asked::Login | Asked::Watch) | None => {}
            },
            Event::Opened => {
                self.asked = None;
                self.opened(now);
            }
            Event::Refused(refusal) => {
                if let Some(asked) = self.asked.take() {
                    self.refused(asked, refusal, now, out);
                }
            }
            Event::Broken { words, resume } => self.broken(&words, resume, now, out),
            Event::StreamBroken { words, resume } => self.stream_broken(&words, resume, now, out),
        }
    }

    /// Takes a key of the page that is arriving.
    ///
    /// # Errors
    /// The read exceeds its limits. The text names the limit, and the rest of the page is dropped.
    pub fn entry(&mut self, entry: Entry) -> Result<(), String> {
        match self.asked {
            Some(Asked::Page(id)) => self.subscriptions.get_mut(&id).map_or(Ok(()), |s| s.entry(entry)),
            Some(Asked::Login | Asked::Permission(_) | Asked::Newest(_) | Asked::Watch) | None => Ok(()),
        }
    }

    /// When the next [`Event::Turn`] is due.
    pub fn due(&self) -> Option<Instant> {
        let now = self.now;
        if self.asked.is_some() {
            // One request at a time.
            return match &self.state {
                State::Watching(watching) => watching.confirmed_by(),
                State::Ready | State::Resting { .. } => None,
            };
        }
        let mut moments: Vec<Instant> = self.subscriptions.values().filter_map(|s| s.due(now)).collect();
        let mut answered_by = None;
        match &self.state {
            State::Resting { until } => return Some(*until),
            State::Ready => moments.extend(self.watchable().next().map(|_| now)),
            State::Watching(watching) => {
                match self.is_stale(watching) {
                    true => moments.push(now),
                    false => moments.extend(self.probed_for(watching).map(|_| watching.probe_at)),
                }
                moments.extend(self.subscriptions.values().filter_map(|s| Some(s.doubts.as_ref()?.1)));
                answered_by = watching.confirmed_by();
            }
        }
        let request = moments.into_iter().min().map(|at| match self.login {
            Login::Wanted { from: Some(from) } => at.max(from),
            Login::Wanted { from: None }
            | Login::Needless
            | Login::AuthDisabledClaimed
            | Login::Fresh
            | Login::Proved => at,
        });
        request.into_iter().chain(answered_by).min()
    }

    /// Whether the stream is open.
    #[cfg(test)]
    pub fn listens(&self) -> bool {
        matches!(self.state, State::Watching(_))
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let State::Resting { until } = self.state {
            if now < until {
                return;
            }
            self.state = State::Ready;
        }
        let due: Vec<Id> = self.subscriptions.iter().filter(|(_, s)| s.is_due_again(now)).map(|(id, _)| *id).collect();
        for id in due {
            self.read_all(id, None, out);
        }
        if let State::Watching(watching) = &self.state
            && watching.answered < watching.slots.len()
            && watching.answered_by <= now
        {
            return self.failed(
                "watch",
                &format!("watch not confirmed within {:?}", self.settings.stream_timeout),
                out,
            );
        }
        if self.asked.is_some() {
            return;
        }
        let Some(mut asked) = self.missing(now, out) else { return };
        if let Login::Wanted { from } = self.login {
            if from.is_some_and(|from| now < from) {
                return;
            }
            asked = Asked::Login;
        }
        self.ask(asked, out);
    }

    /// The next request that is needed.
    fn missing(&mut self, now: Instant, out: &mut Vec<Action>) -> Option<Asked> {
        if mem::take(&mut self.watch_first)
            && let State::Ready = self.state
            && self.watchable().next().is_some()
        {
            return Some(Asked::Watch);
        }
        let is_due = |(_, s): &(&Id, &Subscription)| s.due(now).is_some_and(|at| at <= now);
        let due = self.subscriptions.range(self.next_reader..).find(is_due);
        let due = due.or_else(|| self.subscriptions.iter().find(is_due));
        if let Some((id, subscription)) = due {
            return Some(match subscription.want() {
                Want::Page => Asked::Page(*id),
                Want::Permission => Asked::Permission(*id),
            });
        }
        self.give_up_doubtful(now, out);
        let State::Watching(watching) = &self.state else {
            return self.watchable().next().map(|_| Asked::Watch);
        };
        if self.is_stale(watching) {
            return Some(Asked::Watch);
        }
        self.probed_for(watching).filter(|_| watching.probe_at <= now).map(Asked::Newest)
    }

    /// The resource whose key the probe for the newest revision uses; `None`: the stream has no watch in use.
    fn probed_for(&self, watching: &Watching) -> Option<Id> {
        let is_taken = |slot: &&WatchSlot| slot.state == SlotState::Open && self.subscriptions.contains_key(&slot.id);
        watching.slots.iter().find(is_taken).map(|slot| slot.id)
    }

    fn ask(&mut self, asked: Asked, out: &mut Vec<Action>) {
        if let Asked::Page(id) | Asked::Permission(id) = asked {
            self.next_reader = Id(id.0 + 1);
        }
        let of = |id: Id| self.subscriptions.get(&id);
        let (kind, body) = match asked {
            Asked::Login => (RequestKind::Login, Some(String::new())),
            Asked::Page(id) => {
                let reader = self.subscriptions.get_mut(&id);
                (RequestKind::Range, reader.and_then(Subscription::page_request))
            }
            Asked::Permission(id) => {
                (RequestKind::Range, of(id).and_then(Subscription::denied_span).map(wire::permission))
            }
            Asked::Newest(id) => {
                let body = of(id).map(|s| wire::newest_revision(&s.probed_span()));
                self.subscriptions.values_mut().for_each(Subscription::probe);
                (RequestKind::Range, body)
            }
            Asked::Watch => {
                self.close(out);
                let slots = self.watchable().flat_map(|(id, s)| (0..s.watches.len()).map(move |watch| (id, watch)));
                let slots = slots.map(|(id, watch)| WatchSlot { id, watch, state: SlotState::Open }).collect();
                self.asked_slots = slots;
                let watches = self.watchable().flat_map(|(_, s)| &s.watches).map(|watch| (&watch.span, watch.next));
                (RequestKind::Watch, Some(wire::watch(watches)).filter(|body| !body.is_empty()))
            }
        };
        if let Some(body) = body {
            self.asked = Some(asked);
            out.push(Action::Ask(Request { kind, body }));
        }
    }

    /// The subscriptions whose watches belong into a stream.
    fn watchable(&self) -> impl Iterator<Item = (Id, &Subscription)> {
        self.subscriptions.iter().filter(|(_, s)| s.watchable()).map(|(id, s)| (*id, s))
    }

    /// Whether the open watches differ from the wanted ones. A resource that reads all its keys does not count: its
    /// watches follow when the read is complete.
    fn is_stale(&self, watching: &Watching) -> bool {
        let is_wanted = |slot: &WatchSlot| self.subscriptions.get(&slot.id).is_some_and(|s| !s.is_denied());
        let open = Watching::open(&watching.slots);
        watching.slots.iter().any(|slot| slot.state != SlotState::Ended && !is_wanted(slot))
            || self.watchable().any(|(id, s)| open.get(&id) != Some(&s.watches.len()))
    }

    /// Cancels the pending request if the condition holds for it.
    fn abort_if(&mut self, is_needless: impl FnOnce(Asked) -> bool, out: &mut Vec<Action>) {
        if self.asked.take_if(|asked| is_needless(*asked)).is_some() {
            out.push(Action::Abort);
        }
    }

    /// Starts a read of all keys of a resource.
    fn read_all(&mut self, id: Id, from: Option<Instant>, out: &mut Vec<Action>) {
        // Otherwise the rest of the page would be taken for a whole one.
        self.abort_if(|asked| asked == Asked::Page(id), out);
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            let prefix = subscription.prefix.clone();
            out.push(log(id, Level::Debug, "retrieving keys", "key_prefix", prefix));
            subscription.read_all(from);
        }
    }

    fn page(&mut self, id: Id, page: Page, now: Instant, out: &mut Vec<Action>) {
        self.proved();
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        // A page arrived, so the resource has access.
        subscription.allow();
        let read = match subscription.page(page) {
            Ok(Some(read)) => read,
            Ok(None) => {
                self.next_reader = id;
                return;
            }
            Err(words) => {
                self.read_all(id, None, out);
                return self.page_failed(id, words, now, out);
            }
        };
        let interval = subscription.interval.map(|interval| self.jittered(interval));
        let stream_timeout = now + self.settings.stream_timeout;
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.read_again_at(interval.and_then(|interval| now.checked_add(interval)));
        let is_attached = matches!(&self.state, State::Watching(watching) if watching.is_attached(id));
        if let (true, Some(why)) = (is_attached, read.changed) {
            out.push(log(id, Level::Warn, "opening the watch again", "reason", why.to_owned()));
            self.detach(id, out);
        } else if is_attached {
            let mut doubts = subscription.doubts.take().map(|(keys, _)| keys).unwrap_or_default();
            doubts.extend(read.unknown);
            subscription.doubts = (!doubts.is_empty()).then_some((doubts, stream_timeout));
        }
        // The changes that arrived before the read are older than it.
        self.flush(id, out);
        out.push(report(id, Report::Snapshot(read.layer)));
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.take_held(read.held);
        }
        self.plan_read(id, now);
        self.recover(out);
    }

    fn opened(&mut self, now: Instant) {
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
    fn answered(&mut self, mut answer: WatchAnswer, now: Instant, out: &mut Vec<Action>) {
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
        self.proved();
        self.recover(out);
    }

    /// Takes a watch that etcd refused or cancelled.
    fn cancelled(&mut self, id: Id, watch: usize, why: &str, created: bool, now: Instant, out: &mut Vec<Action>) {
        let reason = Reason::of_cancelled(why);
        if !created && reason == Reason::Other {
            return self.failed("watch", &format!("watch refused: {}", wire::said(why)), out);
        }
        let is_for_token = self.may_log_in() && matches!(reason, Reason::Denied | Reason::Unauthenticated);
        // The token may have expired: etcd sends the same reason in that case.
        if is_for_token && self.log_in_anew(now) {
            return self.detach(id, out);
        }
        let Some(subscription) = self.subscriptions.get(&id) else { return };
        let Some(span) = subscription.watches.get(watch).map(|watch| watch.span.clone()) else { return };
        self.deny(id, "watch", span, &wire::said(why), now, out);
    }

    /// Requests a new token after a refusal that an expired token may have caused. Returns whether a new token may
    /// help: if etcd refuses a fresh one too, the token's age is not the cause. A confirmation between the two refusals
    /// proves nothing.
    fn log_in_anew(&mut self, now: Instant) -> bool {
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
    fn may_log_in(&self) -> bool {
        match self.login {
            Login::Wanted { .. } | Login::Fresh | Login::Proved => true,
            Login::Needless => self.settings.login,
            Login::AuthDisabledClaimed => false,
        }
    }

    /// Takes the reason with which etcd ended the stream.
    fn ended(&mut self, refusal: Refusal, out: &mut Vec<Action>) {
        if refusal.reason == Reason::Unauthenticated
            && matches!(self.login, Login::Proved | Login::Needless)
            && self.may_log_in()
        {
            if self.log_in_anew(self.now) {
                self.flush_all(out);
                return self.close(out);
            }
            // The next login follows the pause after the failure.
            self.login = Login::Wanted { from: None };
        }
        self.failed("watch", &refusal.words, out);
    }

    /// Takes the answer to a probe for the newest revision.
    fn probed(&mut self, header: Header, now: Instant, out: &mut Vec<Action>) {
        self.proved();
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

    /// A resource has access again. The next stream has its watches.
    fn permitted(&mut self, id: Id, out: &mut Vec<Action>) {
        self.proved();
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.allow();
        }
        self.recover(out);
    }

    fn refused(&mut self, asked: Asked, refusal: Refusal, now: Instant, out: &mut Vec<Action>) {
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
                Login::Proved => self.login = Login::Wanted { from: None },
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

    fn broken(&mut self, words: &str, resume: Resume, now: Instant, out: &mut Vec<Action>) {
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

    fn stream_broken(&mut self, words: &str, resume: Resume, now: Instant, out: &mut Vec<Action>) {
        self.failed(Asked::Watch.verb(), words, out);
        if resume == Resume::TooLarge {
            let watched: Vec<Id> = self.watchable().map(|(id, _)| id).collect();
            // The resources with watches in this stream read all keys together.
            let from = self.moment_to_read(now);
            watched.into_iter().for_each(|id| self.read_all(id, Some(from), out));
        }
    }

    /// Handles a page that failed. While a stream is open the node need not be at fault, so it gets only a probe, and
    /// this resource alone pauses.
    fn page_failed(&mut self, id: Id, words: &str, now: Instant, out: &mut Vec<Action>) {
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
    fn too_large(&mut self, id: Id, words: &str, now: Instant, out: &mut Vec<Action>) {
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

    /// Plans a read of all keys of a resource if events left the value of a key open.
    fn plan_read(&mut self, id: Id, now: Instant) {
        let part = self.up_to(Duration::from_secs(1));
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.plan_read(now, |pause| pause.mul_f64(part.as_secs_f64()));
        }
    }

    fn login_refused(&mut self, refusal: Refusal, now: Instant, out: &mut Vec<Action>) {
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
    fn locked_out(&mut self, words: String, now: Instant, out: &mut Vec<Action>) {
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
            (Login::Wanted { .. } | Login::Fresh | Login::Proved, _) => {
                self.login = Login::Wanted { from: Some(until) }
            }
        }
    }

    /// The keys of a resource cannot be brought up to date by events: starts a read of all its keys.
    fn lost(&mut self, id: Id, level: Level, why: &str, now: Instant, out: &mut Vec<Action>) {
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
    fn moment_to_read(&mut self, now: Instant) -> Instant {
        let planned =
            self.subscriptions.values().filter_map(Subscription::reads_from).filter(|from| *from >= now).min();
        planned.unwrap_or_else(|| now + self.up_to(SPREAD))
    }

    /// Denies a resource its read or its watch. Only this resource reports the failure, and it retries much later.
    fn deny(&mut self, id: Id, verb: &str, span: Span, words: &str, now: Instant, out: &mut Vec<Action>) {
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

    fn as_user(&self) -> String {
        self.user.as_ref().map_or(String::new(), |user| format!(" as user `{}`", wire::said(user)))
    }

    /// Reports that the node failed, and ends the stream and the pending request.
    fn failed(&mut self, verb: &str, words: &str, out: &mut Vec<Action>) {
        self.flush_all(out);
        self.close(out);
        self.abort_if(|_| true, out);
        let words = format!("failed to {verb} {}: {words}", self.node);
        out.push(Action::Emit(Output::NodeFailed { words, not_before: None }));
    }

    /// Reopens the watches that did not deliver in time the changes that a read had found.
    fn give_up_doubtful(&mut self, now: Instant, out: &mut Vec<Action>) {
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
    fn detach(&mut self, id: Id, out: &mut Vec<Action>) {
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
    fn close(&mut self, out: &mut Vec<Action>) {
        if let State::Watching(watching) = &self.state {
            if self.now.saturating_duration_since(watching.since) >= LASTING {
                out.push(Action::Emit(Output::ResetBackoff));
            }
            self.subscriptions.values_mut().for_each(|subscription| subscription.detached(self.now));
            self.state = State::Ready;
            out.push(Action::Close);
        }
    }

    /// Notes that a request succeeded.
    fn proved(&mut self) {
        match self.login {
            Login::Fresh => self.login = Login::Proved,
            Login::AuthDisabledClaimed => self.login = Login::Needless,
            Login::Needless | Login::Wanted { .. } | Login::Proved => {}
        }
    }

    /// Reports the end of a failure to the subscribers that it concerned.
    fn recover(&mut self, out: &mut Vec<Action>) {
        let locked_out = matches!(self.login, Login::Wanted { from: Some(_) });
        if let State::Resting { .. } = self.state {
            return;
        }
        let mut all = !locked_out;
        let confirmed = match &self.state {
            State::Watching(watching) => Watching::open(&watching.slots[..watching.answered]),
            State::Ready | State::Resting { .. } => BTreeMap::new(),
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

    fn flush_all(&mut self, out: &mut Vec<Action>) {
        let flushed = self.subscriptions.iter_mut().filter_map(|(id, s)| Some(report(*id, s.flush()?)));
        out.extend(flushed);
    }

    /// Reports the changes of a resource that arrived together as one.
    fn flush(&mut self, id: Id, out: &mut Vec<Action>) {
        let flushed = self.subscriptions.get_mut(&id).and_then(Subscription::flush);
        out.extend(flushed.map(|flushed| report(id, flushed)));
    }

    fn slow(&mut self) -> Duration {
        SLOW_RETRY + self.up_to(SLOW_RETRY * 2)
    }

    /// The duration with a random change of at most a tenth.
    fn jittered(&mut self, duration: Duration) -> Duration {
        let tenth = duration / 10;
        duration - tenth + self.up_to(tenth * 2)
    }

    fn up_to(&mut self, duration: Duration) -> Duration {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros((self.random)(micros.max(1)))
    }
}

impl Subscribers for Session {
    fn waiting(&self) -> Vec<Id> {
        self.subscriptions.iter().filter(|(_, s)| s.is_in_need()).map(|(id, _)| *id).collect()
    }

    fn give_up(&mut self) {
        for subscription in self.subscriptions.values_mut().filter(|s| s.goal == Goal::Once) {
            subscription.stop_reading(None);
        }
    }

    fn use_node(&mut self, name: &str) {
        self.node = name.to_owned();
    }
}

impl Watching {
    /// The deadline for the next confirmation; `None`: all watches are confirmed.
    fn confirmed_by(&self) -> Option<Instant> {
        (self.answered < self.slots.len()).then_some(self.answered_by)
    }

    /// Whether a watch of the resource is open and in use.
    fn is_attached(&self, id: Id) -> bool {
        self.slots.iter().any(|slot| slot.state == SlotState::Open && slot.id == id)
    }

    /// The number of open watches of each resource in `slots`.
    fn open(slots: &[WatchSlot]) -> BTreeMap<Id, usize> {
        let mut open = BTreeMap::new();
        for slot in slots.iter().filter(|slot| slot.state == SlotState::Open) {
            *open.entry(slot.id).or_default() += 1;
        }
        open
    }
}

fn log(id: Id, level: Level, message: &str, name: &'static str, value: String) -> Action {
    report(id, Report::Log(Line::new(level, message).with("backend", NAME).with(name, value)))
}

fn report(id: Id, report: Report) -> Action {
    Action::Emit(Output::Report(id, report))
}

#[cfg(test)]
mod tests;
