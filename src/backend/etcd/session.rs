//! Decides what is asked of an etcd next, on behalf of all resources that it serves, and what an answer, a failure or the
//! time means: logging in, reading, one stream of all watches, starting over. Opens no connection, knows no password and
//! reads no clock: it is told what happened and when. Which node is used, and when after a failure, is the driver's.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

use super::NAME;
use super::subscription::{Goal, LEAST_LATE, OTHER_CLUSTER, Subscription, Want, Wanted};
use super::wire::{self, Entry, Header, Message, Page, Reason, Refusal, Span, WatchAnswer};
use crate::backend::Report;
use crate::backend::failover::{LASTING, SLOW_RETRY};
use crate::backend::protocol::{Id, Output, Subscribers};
use crate::log::{Level, Line};

/// etcd tells of its progress every 10 minutes where it has nothing else to tell, and 22 minutes after an event at the
/// latest. A stream that was silent for longer is dead, however alive its node is: something between them has forgotten it.
const LONGEST_SILENCE: Duration = Duration::from_secs(25 * 60);

/// A lost history concerns every machine at once: they read all keys at random moments within this.
const SPREAD: Duration = Duration::from_secs(1);

/// How often a read starts over at the same node because its revision was compacted meanwhile.
const RESTARTS: u32 = 3;

/// An etcd.
pub struct Settings {
    /// The nodes as they are logged.
    pub nodes: String,
    /// A user is to log in.
    pub login: bool,
    /// A silent stream may be dead with its node's kernel alive: after this the node is asked for the newest revision.
    pub watch_deadline: Duration,
    /// What a stream has to bring within this: the confirmation of its watches, or the events up to a read's revision.
    pub patience: Duration,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time passed. The only event that makes a request, at most one.
    Turn,
    /// A login was answered by a token.
    LoggedIn { user: String },
    /// A login was refused.
    LoginRefused { user: String, refusal: Refusal },
    /// Name or password could not be read.
    NoCredentials(String),
    /// A range request was answered; its entries were given to [`Session::entry`].
    Page(Page),
    /// A watch request was answered by a stream.
    Opened,
    /// The stream brought a line.
    Message(Message),
    /// The stream has nothing more for now.
    Quiet,
    /// The request was refused.
    Refused(Refusal),
    /// The request broke off.
    Broken { words: String, resume: Resume },
    /// The stream broke off.
    StreamBroken { words: String, resume: Resume },
}

/// Whether the watch can go on where it broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    Possible,
    /// It did not come in time.
    TimedOut,
    /// What comes next in the history is too large to be taken.
    TooLarge,
    /// All keys together are more than may be read.
    TooMany,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    Ask(Request),
    /// Drops the request under way.
    Abort,
    /// Drops the stream.
    Close,
    Tell(Output),
}

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: RequestKind,
    pub body: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Answered by `LoggedIn`, `LoginRefused`, `NoCredentials` or `Broken`. Has no body: it is a secret.
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
    /// The node that is used, as it is shown.
    node: String,
    /// Whose turn to be asked for it is: a read goes on while its pages come, and then the others have theirs.
    turn_of: Id,
    state: State,
    login: Login,
    /// Who logged in last.
    user: Option<String>,
    /// When a watch or a stream was refused last as if the token were at fault.
    token_refused: Option<Instant>,
    /// A page failed where there is no stream: the others open theirs before it is asked for again.
    watch_first: bool,
    /// What the request under way is for, and if it is a stream, its watches.
    asked: Option<Asked>,
    asked_slots: Vec<WatchSlot>,
    /// When the last event came.
    now: Instant,
    random: Box<dyn FnMut(u64) -> u64>,
}

enum State {
    /// No stream is open. What is missing can be asked for: first the keys, then the stream.
    Ready,
    /// The same after a failure: nothing is asked for until then.
    Resting {
        until: Instant,
    },
    Watching(Watching),
}

/// A stream that is open.
struct Watching {
    since: Instant,
    /// When it brought something last.
    heard: Instant,
    /// Its watches, in the order in which they were asked for and are answered.
    slots: Vec<WatchSlot>,
    /// How many of them are answered, and until when all have to be.
    answered: usize,
    answered_by: Instant,
    /// When the node is asked for its newest revision, to see whether it is alive and what it was.
    probe_at: Instant,
}

/// Whom the answers of a watch are for.
struct WatchSlot {
    id: Id,
    watch: usize,
    state: SlotState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Open,
    /// etcd goes on with it, but what it brings is not taken.
    Ignored,
    /// It was refused or cancelled.
    Ended,
}

/// Whether there is a token.
#[derive(Debug)]
enum Login {
    /// No login is configured, or this etcd has no users.
    Needless,
    /// It says that it has no users, and no request has succeeded since.
    AuthDisabledClaimed,
    /// It has to be got first; not before the moment.
    Wanted {
        from: Option<Instant>,
    },
    /// No request has succeeded with it yet: what is refused now is not for its age.
    Fresh,
    Proved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Login,
    /// The next page of a resource.
    Page(Id),
    /// Whether what was refused to a resource still is.
    Permission(Id),
    /// The newest revision, read as a resource may.
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
    /// `random` gives a number below its argument, which is not 0.
    pub fn new(settings: Settings, now: Instant, random: Box<dyn FnMut(u64) -> u64>) -> Session {
        Session {
            subscriptions: BTreeMap::new(),
            node: String::new(),
            turn_of: Id(0),
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

    /// Serves one more resource from its next turn on.
    pub fn add(&mut self, id: Id, wanted: Wanted, out: &mut Vec<Action>) {
        let line = Line::new(Level::Info, "set backend nodes").with("backend", NAME);
        // The version too: it is found out where the configuration does not say it.
        let line = line.with("nodes", self.settings.nodes.clone()).with("version", "3");
        out.push(report(id, Report::Log(line)));
        self.subscriptions.insert(id, Subscription::new(wanted));
        self.read_all(id, None, out);
    }

    /// Serves a resource no more.
    pub fn remove(&mut self, id: Id, out: &mut Vec<Action>) {
        self.subscriptions.remove(&id);
        // A watch of its own that goes on beside others is left out of the next stream.
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

    /// Takes a key of the page that is coming in.
    ///
    /// # Errors
    /// The read is larger than it may be, in words: nothing more is taken of the page.
    pub fn entry(&mut self, entry: Entry) -> Result<(), String> {
        match self.asked {
            Some(Asked::Page(id)) => self.subscriptions.get_mut(&id).map_or(Ok(()), |s| s.entry(entry)),
            Some(Asked::Login | Asked::Permission(_) | Asked::Newest(_) | Asked::Watch) | None => Ok(()),
        }
    }

    /// When the next turn is wanted.
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
            return self.failed("watch", &format!("watch not confirmed within {:?}", self.settings.patience), out);
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

    /// What is to be asked for next.
    fn missing(&mut self, now: Instant, out: &mut Vec<Action>) -> Option<Asked> {
        if mem::take(&mut self.watch_first)
            && let State::Ready = self.state
            && self.watchable().next().is_some()
        {
            return Some(Asked::Watch);
        }
        let is_due = |(_, s): &(&Id, &Subscription)| s.due(now).is_some_and(|at| at <= now);
        let due = self.subscriptions.range(self.turn_of..).find(is_due);
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

    /// The resource for which the node is asked for its newest revision; `None`: the stream has no watch that is taken.
    fn probed_for(&self, watching: &Watching) -> Option<Id> {
        let is_taken = |slot: &&WatchSlot| slot.state == SlotState::Open && self.subscriptions.contains_key(&slot.id);
        watching.slots.iter().find(is_taken).map(|slot| slot.id)
    }

    fn ask(&mut self, asked: Asked, out: &mut Vec<Action>) {
        if let Asked::Page(id) | Asked::Permission(id) = asked {
            self.turn_of = Id(id.0 + 1);
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

    /// Those whose watches belong into a stream.
    fn watchable(&self) -> impl Iterator<Item = (Id, &Subscription)> {
        self.subscriptions.iter().filter(|(_, s)| s.watchable()).map(|(id, s)| (*id, s))
    }

    /// Whether the open watches are other ones than those that are wanted. Who reads all keys is waited for.
    fn is_stale(&self, watching: &Watching) -> bool {
        let is_wanted = |slot: &WatchSlot| self.subscriptions.get(&slot.id).is_some_and(|s| !s.is_denied());
        let open = Watching::open(&watching.slots);
        watching.slots.iter().any(|slot| slot.state != SlotState::Ended && !is_wanted(slot))
            || self.watchable().any(|(id, s)| open.get(&id) != Some(&s.watches.len()))
    }

    /// Ends the request under way if it is one of these.
    fn abort_if(&mut self, is_needless: impl FnOnce(Asked) -> bool, out: &mut Vec<Action>) {
        if self.asked.take_if(|asked| is_needless(*asked)).is_some() {
            out.push(Action::Abort);
        }
    }

    /// Lets all keys of a resource be read.
    fn read_all(&mut self, id: Id, from: Option<Instant>, out: &mut Vec<Action>) {
        // The rest of a page would be taken for a whole one.
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
        // What it reads it may read.
        subscription.allow();
        let read = match subscription.page(page) {
            Ok(Some(read)) => read,
            Ok(None) => {
                self.turn_of = id;
                return;
            }
            Err(words) => {
                self.read_all(id, None, out);
                return self.page_failed(id, words, now, out);
            }
        };
        let interval = subscription.interval.map(|interval| self.about(interval));
        let patience = now + self.settings.patience;
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.read_again_at(interval.and_then(|interval| now.checked_add(interval)));
        let is_attached = matches!(&self.state, State::Watching(watching) if watching.is_attached(id));
        if let (true, Some(why)) = (is_attached, read.changed) {
            out.push(log(id, Level::Warn, "opening the watch again", "reason", why.to_owned()));
            self.detach(id, out);
        } else if is_attached {
            let mut doubts = subscription.doubts.take().map(|(keys, _)| keys).unwrap_or_default();
            doubts.extend(read.unknown);
            subscription.doubts = (!doubts.is_empty()).then_some((doubts, patience));
        }
        // What came before the read is older than it.
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
            heard: now,
            slots,
            answered: 0,
            answered_by: now + self.settings.patience,
            probe_at: now + self.about(self.settings.watch_deadline),
        });
    }

    /// A watch brought something.
    fn answered(&mut self, mut answer: WatchAnswer, now: Instant, out: &mut Vec<Action>) {
        let probe_at = now + self.about(self.settings.watch_deadline);
        let State::Watching(watching) = &mut self.state else {
            return;
        };
        watching.probe_at = probe_at;
        watching.heard = now;
        // On a slow link what is between two confirmations may take its time.
        watching.answered_by = now + self.settings.patience;
        let named = usize::try_from(answer.watch_id).ok().and_then(|id| id.checked_sub(1));
        // A watch that was refused has lost its number, but not its turn.
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
                // The read that is under way is newer.
                _ if !subscription.is_read() => self.detach(id, out),
                _ => self.lost(id, Level::Info, "history was compacted", now, out),
            };
        }
        if !answer.created {
            if !subscription.take(watch, answer) {
                // When all keys are read it watches on from there, with the next stream.
                self.detach(id, out);
            }
            return self.plan_read(id, now);
        }
        if subscription.is_other_cluster(answer.header) {
            return self.lost(id, Level::Warn, OTHER_CLUSTER, now, out);
        }
        if subscription.watches.get(watch).is_some_and(|watch| answer.header.revision < watch.next.saturating_sub(1)) {
            // The node lags behind, or the store was put back; then this watch would be silent until it is past that.
            watching.probe_at = now;
        }
        self.proved();
        self.recover(out);
    }

    /// A watch was refused or ended.
    fn cancelled(&mut self, id: Id, watch: usize, why: &str, created: bool, now: Instant, out: &mut Vec<Action>) {
        let reason = Reason::of_cancelled(why);
        if !created && reason == Reason::Other {
            return self.failed("watch", &format!("watch refused: {}", wire::said(why)), out);
        }
        let is_for_token = self.may_log_in() && matches!(reason, Reason::Denied | Reason::Unauthenticated);
        // Perhaps the token has had its time: etcd says the same then.
        if is_for_token && self.log_in_anew(now) {
            return self.detach(id, out);
        }
        let Some(subscription) = self.subscriptions.get(&id) else { return };
        let Some(span) = subscription.watches.get(watch).map(|watch| watch.span.clone()) else { return };
        self.bar(id, "watch", span, &wire::said(why), now, out);
    }

    /// A watch was refused for its token, perhaps: lets a new one be got. Tells whether that may help. A token that is
    /// refused again so soon is not too old; a confirmation in between says nothing of that.
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

    /// Whether a login may mend a refusal: a login is configured, and no node has just said that there are no users.
    fn may_log_in(&self) -> bool {
        match self.login {
            Login::Wanted { .. } | Login::Fresh | Login::Proved => true,
            Login::Needless => self.settings.login,
            Login::AuthDisabledClaimed => false,
        }
    }

    /// The server ended the stream and said why.
    fn ended(&mut self, refusal: Refusal, out: &mut Vec<Action>) {
        if refusal.reason == Reason::Unauthenticated
            && matches!(self.login, Login::Proved | Login::Needless)
            && self.may_log_in()
        {
            if self.log_in_anew(self.now) {
                self.flush_all(out);
                return self.close(out);
            }
            // The next login follows a pause.
            self.login = Login::Wanted { from: None };
        }
        self.failed("watch", &refusal.words, out);
    }

    /// The node told its newest revision because it was asked.
    fn probed(&mut self, header: Header, now: Instant, out: &mut Vec<Action>) {
        self.proved();
        let probe_at = now + self.about(self.settings.watch_deadline);
        let State::Watching(watching) = &mut self.state else {
            return;
        };
        watching.probe_at = probe_at;
        let silent = now.saturating_duration_since(watching.heard) >= LONGEST_SILENCE;
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

    /// What was refused to a resource is not any more. Its watches are in the next stream.
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
            // Users were turned on since the node said that it has none.
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
                // It was sent before that was known.
                Login::Wanted { .. } => {}
                // A node that contradicts itself fails as any other.
                Login::Fresh | Login::AuthDisabledClaimed => {
                    self.login = Login::Wanted { from: None };
                    self.failed(asked.verb(), &words, out);
                }
            },
            (Reason::Denied, Asked::Page(id)) => {
                if let Some(span) = of(id).map(Subscription::span_in_reading) {
                    self.bar(id, "read", span, &words, now, out);
                }
            }
            (Reason::Denied, Asked::Permission(id)) => {
                if let Some(span) = of(id).and_then(|s| s.denied_span().cloned()) {
                    self.bar(id, "read", span, &words, now, out);
                }
            }
            (Reason::Denied, Asked::Newest(id)) => {
                if let Some(span) = of(id).map(Subscription::probed_span) {
                    self.bar(id, "read", span, &words, now, out);
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
            // Fewer keys may do. No other node would have less to say.
            Resume::TooLarge if subscription.halve_page(1) => {}
            Resume::TooLarge => self.too_long(id, words, now, out),
            Resume::TooMany => {
                self.too_long(id, words, now, out);
                // What was read of it is given back, and is read anew when its time comes.
                if let Some(s) = self.subscriptions.get_mut(&id).filter(|s| !s.is_read()) {
                    s.read_all(None);
                }
            }
            Resume::TimedOut => {
                subscription.halve_page(LEAST_LATE);
                self.page_failed(id, words, now, out);
            }
            Resume::Possible => self.page_failed(id, words, now, out),
        }
    }

    fn stream_broken(&mut self, words: &str, resume: Resume, now: Instant, out: &mut Vec<Action>) {
        self.failed(Asked::Watch.verb(), words, out);
        if resume == Resume::TooLarge {
            let watched: Vec<Id> = self.watchable().map(|(id, _)| id).collect();
            // The others that had that line read, too.
            let from = self.moment_to_read(now);
            watched.into_iter().for_each(|id| self.read_all(id, Some(from), out));
        }
    }

    /// A page could not be had. Beside a stream that need not be the node's fault: it is asked for little, and the
    /// resource waits alone.
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

    /// A single key, or all of them, are too large to be read. A watch that goes on knows all the same what changes.
    fn too_long(&mut self, id: Id, words: &str, now: Instant, out: &mut Vec<Action>) {
        let Some(span) = self.subscriptions.get(&id).map(Subscription::span_in_reading) else { return };
        if !matches!(&self.state, State::Watching(watching) if watching.is_attached(id)) {
            return self.bar(id, "read", span, words, now, out);
        }
        let (slow, node) = (self.slow(), &self.node);
        let words = format!("failed to read `{}` from {node}: {words}", span.shown());
        out.push(log(id, Level::Warn, "going on with the watch alone", "error", words));
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.stop_reading(Some(now + slow.max(subscription.interval.unwrap_or_default())));
        self.plan_read(id, now);
        self.recover(out);
    }

    /// Plans a read of all keys of a resource if events could not tell what has become of one.
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

    /// Nothing can be asked for: no node will know who asks. A stream that is open stays: it may go on all the same.
    fn locked_out(&mut self, words: String, now: Instant, out: &mut Vec<Action>) {
        out.extend(self.waiting().into_iter().map(|id| report(id, Report::Failed(words.clone()))));
        self.give_up();
        let until = now + self.slow();
        match (&self.login, &self.state) {
            // Without a user the request itself is what is tried again.
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

    /// What a resource knows cannot be brought up to date: all its keys are read again.
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
        // No watch came of the reads before: the nodes may be of two clusters, or history may be compacted too fast.
        let words = format!("failed to watch {}: {why}, {losses} times before", &self.node);
        out.push(report(id, Report::Failed(words)));
        let least = SPREAD * (1 << losses.min(10));
        let rest = least.min(SLOW_RETRY);
        let from = now + rest + self.up_to(rest * 2);
        self.read_all(id, Some(from), out);
    }

    /// When all keys are read after a loss. Those who lost something read one after the other, so that one stream serves
    /// all again.
    fn moment_to_read(&mut self, now: Instant) -> Instant {
        let planned =
            self.subscriptions.values().filter_map(Subscription::reads_from).filter(|from| *from >= now).min();
        planned.unwrap_or_else(|| now + self.up_to(SPREAD))
    }

    /// A resource may not have what it wants, or cannot: it alone is told, and asks again much later.
    fn bar(&mut self, id: Id, verb: &str, span: Span, words: &str, now: Instant, out: &mut Vec<Action>) {
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

    /// The node did not do what it was asked for.
    fn failed(&mut self, verb: &str, words: &str, out: &mut Vec<Action>) {
        self.flush_all(out);
        self.close(out);
        self.abort_if(|_| true, out);
        let words = format!("failed to {verb} {}: {words}", self.node);
        out.push(Action::Tell(Output::NodeFailed { words, not_before: None }));
    }

    /// The watches of a resource did not bring in time what a read had.
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

    /// Takes no more from the watches of a resource. The stream goes on for the others.
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

    /// Ends the stream, if there is one. What is to be watched is watched on by the next.
    fn close(&mut self, out: &mut Vec<Action>) {
        if let State::Watching(watching) = &self.state {
            if self.now.saturating_duration_since(watching.since) >= LASTING {
                out.push(Action::Tell(Output::ResetBackoff));
            }
            self.subscriptions.values_mut().for_each(|subscription| subscription.detached(self.now));
            self.state = State::Ready;
            out.push(Action::Close);
        }
    }

    /// A request succeeded.
    fn proved(&mut self) {
        match self.login {
            Login::Fresh => self.login = Login::Proved,
            Login::AuthDisabledClaimed => self.login = Login::Needless,
            Login::Needless | Login::Wanted { .. } | Login::Proved => {}
        }
    }

    /// Tells those whose failure is over.
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
                out.push(Action::Tell(Output::Healthy(*id)));
            } else {
                all &= subscription.is_denied();
            }
        }
        if all {
            out.push(Action::Tell(Output::Worked));
            if let State::Ready = self.state {
                out.push(Action::Tell(Output::ResetBackoff));
            }
        }
    }

    fn flush_all(&mut self, out: &mut Vec<Action>) {
        let flushed = self.subscriptions.iter_mut().filter_map(|(id, s)| Some(report(*id, s.flush()?)));
        out.extend(flushed);
    }

    /// Reports what came in together as one.
    fn flush(&mut self, id: Id, out: &mut Vec<Action>) {
        let flushed = self.subscriptions.get_mut(&id).and_then(Subscription::flush);
        out.extend(flushed.map(|flushed| report(id, flushed)));
    }

    fn slow(&mut self) -> Duration {
        SLOW_RETRY + self.up_to(SLOW_RETRY * 2)
    }

    /// The duration give or take a tenth.
    fn about(&mut self, duration: Duration) -> Duration {
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
    /// When all watches have to be confirmed, if one is not.
    fn confirmed_by(&self) -> Option<Instant> {
        (self.answered < self.slots.len()).then_some(self.answered_by)
    }

    /// Whether what it brings reaches a resource.
    fn is_attached(&self, id: Id) -> bool {
        self.slots.iter().any(|slot| slot.state == SlotState::Open && slot.id == id)
    }

    /// How many open watches each resource has among some.
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
    Action::Tell(Output::Report(id, report))
}

#[cfg(test)]
mod tests;
