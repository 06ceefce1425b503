//! The state machine of one etcd cluster for all resources that share it. Decides the next request (login, page of a
//! read, one stream of all watches) and what an answer, a failure or a passed deadline means. Opens no connection,
//! holds no password and reads no clock: events carry the time. The driver chooses the node and the pause after a
//! failure. `stream` has the stream of watches, `failure` what follows a failure.

mod failure;
mod stream;

use std::mem;
use std::time::{Duration, Instant};

use self::stream::{SlotState, WatchSlot, Watching};
use super::NAME;
use super::subscription::{Goal, Subscription, Want, Wanted};
use super::wire::{self, Entry, Message, Page, Refusal};
use crate::backend::Report;
use crate::backend::failover::SLOW_RETRY;
use crate::backend::protocol::{Id, Output, Subscribers};
use crate::log::{Level, Line};
use crate::sorted::SortedMap;

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

/// An input of the session.
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

/// An action for the protocol.
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

/// The kind of a request, with the events that answer it.
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
    subscriptions: SortedMap<Id, Subscription>,
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

/// The state of the login.
#[derive(Debug)]
enum Login {
    /// No login is configured, or authentication is disabled in this etcd.
    Needless,
    /// etcd reported that authentication is disabled, and no request has succeeded since.
    AuthDisabledClaimed,
    /// A login is the next request, not before the moment.
    Wanted {
        from: Option<Instant>,
    },
    /// No request has succeeded with the token yet. A refusal now does not mean that the token has expired.
    Fresh,
    Confirmed,
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
            subscriptions: SortedMap::new(),
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

    /// The newest revision that the keys of a resource have reached.
    pub fn revision(&self, id: Id) -> Option<u64> {
        self.subscriptions.get(&id)?.revision()
    }

    /// The subscriber whose log receives the lines that concern no single subscriber.
    fn first(&self) -> Option<Id> {
        self.subscriptions.keys().next().copied()
    }

    /// Processes an event of the time `now`, and appends the actions that follow to `out`.
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
            | Login::Confirmed => at,
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
        let due = self.subscriptions.iter_from(&self.next_reader).find(is_due);
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
        self.confirm_login();
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

    /// A resource has access again. The next stream has its watches.
    fn permitted(&mut self, id: Id, out: &mut Vec<Action>) {
        self.confirm_login();
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.allow();
        }
        self.recover(out);
    }

    /// Plans a read of all keys of a resource if events left the value of a key open.
    fn plan_read(&mut self, id: Id, now: Instant) {
        let part = self.up_to(Duration::from_secs(1));
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.plan_read(now, |pause| pause.mul_f64(part.as_secs_f64()));
        }
    }

    /// Notes that a request succeeded.
    fn confirm_login(&mut self) {
        match self.login {
            Login::Fresh => self.login = Login::Confirmed,
            Login::AuthDisabledClaimed => self.login = Login::Needless,
            Login::Needless | Login::Wanted { .. } | Login::Confirmed => {}
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
        self.subscriptions.iter().filter(|(_, s)| s.needs_node()).map(|(id, _)| *id).collect()
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

fn log(id: Id, level: Level, message: &str, name: &'static str, value: String) -> Action {
    report(id, Report::Log(Line::new(level, message).with("backend", NAME).with(name, value)))
}

fn report(id: Id, report: Report) -> Action {
    Action::Emit(Output::Report(id, report))
}

#[cfg(test)]
mod tests;
