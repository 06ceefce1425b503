//! The protocol of Consul: one request reads all keys below a key, then blocking queries wait for a newer index.
//! Resources share the requests for equal keys. `listing` compares answers, `members` reports the differences, `checks`
//! probes the node. Does not choose nodes or pauses.

mod checks;
mod members;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::NAME;
use super::listing::{self, Listing, Written};
use super::options::Options;
use super::wire::{self, ListReader};
use crate::backend::keys::Keys;
use crate::backend::protocol::{
    CallId, Credentials, Failure, FailureKind, Head, Id, Input, Output, Protocol, Request, Subscribers,
};
use crate::backend::readings::Readings;
use crate::backend::redact::Redactor;
use crate::backend::tally::Tally;
use crate::backend::unreadable::Unreadable;
use crate::backend::{Mode, Report};
use crate::config::{self, Secret};
use crate::cut;
use crate::log::{Level, Line};
use crate::random::Random;
use crate::sorted::SortedMap;
use crate::store::path;

/// The shortest time between two requests for one key. It limits the rate if an index rises without end, or if a proxy
/// answers blocking queries at once.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// The number of concurrent reads.
const MOST_READS: usize = 8;

/// The probe of the node. The calls of the topics follow.
const PROBE: CallId = CallId(0);

/// The request whether the node has access control lists.
const ACLS: CallId = CallId(usize::MAX);

/// One Consul cluster and the resources that share it.
pub struct Consul {
    options: Options,
    readings: Readings,
    members: SortedMap<Id, Member>,
    /// The topics by their calls. Free places are used again.
    topics: Vec<Option<Topic>>,
    /// The place of each key.
    places: BTreeMap<Vec<u8>, usize>,
    token: Token,
    probe: Probe,
    acls: Acls,
    /// The time of the last input.
    last: Option<Instant>,
    /// The current node, as the log shows it.
    node: String,
    /// The texts that errors must not show.
    secrets: Redactor,
    random: Random,
    /// A request fails if the kept connection was closed since the last answer. Off after such a failure until a wait is
    /// answered: behind a proxy that closes each connection, every request would fail.
    doubts_closed_links: bool,
}

/// One resource.
struct Member {
    keys: Keys,
    watched: Keys,
    /// The requested keys.
    topics: Vec<Vec<u8>>,
    /// The store of the resource has the keys of the listings.
    is_live: bool,
    /// The index of the last change that triggered an update; 0: there was none.
    last_trigger: u64,
}

/// All keys below one key.
struct Topic {
    key: Vec<u8>,
    members: BTreeSet<Id>,
    /// The last listing; `None`: the key must be read.
    listing: Option<Listing>,
    /// The index of the last answer; 0: the next request returns at once.
    index: u64,
    /// The node may have restarted since the last answer, and its index may be lower: the next request returns at once.
    is_doubtful: bool,
    state: State,
    /// The next request is sent not before this moment.
    next: Option<Instant>,
    /// The log has a warning that keys are, or may be, omitted.
    is_filtered: bool,
}

/// The request of a topic.
enum State {
    Idle,
    /// The key must be read.
    Due,
    Asked(Goal),
    Listing {
        goal: Goal,
        index: u64,
        reader: ListReader,
        new: Listing,
        written: Written,
        tally: Tally,
    },
    /// There are no such keys. With `is_filtered`: none that the token may read.
    Missing {
        goal: Goal,
        index: u64,
        is_filtered: bool,
    },
    /// The listing is empty. A request whether the node hides keys is pending.
    Checking {
        index: u64,
    },
    Refused {
        goal: Goal,
        status: u16,
        body: Vec<u8>,
    },
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Read,
    Watch,
}

/// The token of the next requests.
enum Token {
    /// The token is read when a request needs it.
    Unread,
    /// The token is being read.
    Wanted,
}

/// Whether the node has access control lists. Such a node omits the keys that the token may not read, without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acls {
    Unknown,
    /// The request is pending. The status is 0 before the head has arrived.
    Asked(u16),
    Known(bool),
}

/// The probe of a silent node.
struct Probe {
    /// The time of the last bytes from the node, or of the first request to it.
    last_received: Option<Instant>,
    is_asked: bool,
    status: u16,
    body: Vec<u8>,
}

impl Topic {
    /// Whether a request may wait for a higher index.
    fn can_wait(&self) -> bool {
        self.index > 0 && !self.is_doubtful
    }
}

impl State {
    /// The purpose of the request in progress.
    fn goal(&self) -> Option<Goal> {
        match self {
            State::Idle | State::Due => None,
            State::Checking { .. } => Some(Goal::Read),
            State::Asked(goal)
            | State::Listing { goal, .. }
            | State::Missing { goal, .. }
            | State::Refused { goal, .. } => Some(*goal),
        }
    }
}

impl Consul {
    /// `nodes`: the URLs, whose credentials are hidden from errors. The seed spreads waits over time.
    pub fn new(options: Options, nodes: &[String], mode: Mode, seed: u64) -> Consul {
        let mut secrets = Redactor::default();
        nodes.iter().for_each(|node| secrets.hide_credentials_of(node));
        if let Some(pair) = options.authorization.as_ref().and_then(|header| header.reveal().strip_prefix("Basic ")) {
            secrets.hide("password", pair);
            let pair = BASE64_STANDARD.decode(pair).ok().and_then(|pair| String::from_utf8(pair).ok());
            secrets.hide(
                "password",
                pair.as_ref().and_then(|pair| pair.split_once(':')).map_or("", |(_, password)| password),
            );
        }
        Consul {
            options,
            readings: Readings::new(NAME, mode, seed),
            members: SortedMap::new(),
            topics: Vec::new(),
            places: BTreeMap::new(),
            token: Token::Unread,
            probe: Probe { last_received: None, is_asked: false, status: 0, body: Vec::new() },
            acls: Acls::Unknown,
            last: None,
            node: String::new(),
            secrets,
            random: Random::new(seed),
            doubts_closed_links: true,
        }
    }

    fn topics(&self) -> impl Iterator<Item = (usize, &Topic)> {
        self.topics.iter().enumerate().filter_map(|(place, topic)| Some((place, topic.as_ref()?)))
    }

    /// The topic of a call.
    fn topic(&mut self, call: CallId) -> Option<&mut Topic> {
        self.topics.get_mut(place_of(call)?)?.as_mut()
    }

    fn topic_of(&self, key: &[u8]) -> Option<&Topic> {
        self.topics.get(*self.places.get(key)?)?.as_ref()
    }

    /// The listings of a resource; `None`: one of them is missing.
    fn listings(&self, member: &Member) -> Option<Vec<&Listing>> {
        member.topics.iter().map(|key| self.topic_of(key)?.listing.as_ref()).collect()
    }

    /// Whether a resource watches the topic.
    fn is_watched(&self, topic: &Topic) -> bool {
        topic.members.iter().any(|id| self.readings.get(*id).is_some_and(|subscriber| subscriber.watches))
    }

    /// Whether the next blocking query of a topic may begin.
    fn may_wait(&self, topic: &Topic, now: Instant) -> bool {
        let is_time = topic.next.is_none_or(|next| next <= now);
        matches!(topic.state, State::Idle) && topic.listing.is_some() && is_time && self.is_watched(topic)
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(id) = self.readings.begin(now, out) {
            let Some(member) = self.members.get(&id) else { continue };
            for place in member.topics.iter().filter_map(|key| self.places.get(key)) {
                if let Some(Some(topic)) = self.topics.get_mut(*place)
                    && topic.listing.is_none()
                    && matches!(topic.state, State::Idle)
                {
                    topic.state = State::Due;
                }
            }
        }
        self.complete(now, out);
        if self.probe_due().is_some_and(|due| due <= now) {
            self.probe.is_asked = true;
            (self.probe.status, self.probe.body) = (0, Vec::new());
            out.push(Output::Begin(PROBE, self.request(wire::LEADER.to_owned())));
        }
        if self.wants(now) {
            // The file is read for every request, so that a new token counts at once.
            self.token = Token::Wanted;
            out.push(Output::ReadCredentials);
        }
    }

    /// Whether a request may begin, for which the token must be read.
    fn wants(&self, now: Instant) -> bool {
        let has_room = self.reads() < MOST_READS;
        let wants = |(_, topic): (usize, &Topic)| match topic.state {
            State::Due => has_room,
            _ => self.may_wait(topic, now),
        };
        matches!(self.token, Token::Unread) && self.topics().any(wants)
    }

    /// The number of reads in progress.
    fn reads(&self) -> usize {
        self.topics().filter(|(_, topic)| topic.state.goal() == Some(Goal::Read)).count()
    }

    fn request(&self, target: String) -> Request {
        let mut request = Request::get(target);
        if self.doubts_closed_links {
            request = request.failing_if_stale();
        }
        if let Some(authorization) = &self.options.authorization {
            request.headers.push(("Authorization".to_owned(), authorization.clone()));
        }
        request
    }

    fn credentials(&mut self, credentials: Result<Option<Credentials>, String>, now: Instant, out: &mut Vec<Output>) {
        if !matches!(self.token, Token::Wanted) {
            return;
        }
        self.token = Token::Unread;
        let token = match credentials {
            Err(words) => return out.push(Output::NodeFailed { words, not_before: None }),
            Ok(None) => None,
            Ok(Some(Credentials { password, .. })) => Some(password).filter(|token| !token.reveal().is_empty()),
        };
        if let Some(token) = &token {
            self.secrets.hide("token", token.reveal());
        }
        let mut reads = self.reads();
        for place in 0..self.topics.len() {
            let Some(topic) = &self.topics[place] else { continue };
            let goal = match topic.state {
                State::Due if reads < MOST_READS => Goal::Read,
                _ if self.may_wait(topic, now) => Goal::Watch,
                _ => continue,
            };
            reads += usize::from(goal == Goal::Read);
            self.ask(place, goal, token.as_ref(), now, out);
        }
    }

    fn ask(&mut self, place: usize, goal: Goal, token: Option<&Secret>, now: Instant, out: &mut Vec<Output>) {
        let time = self.random.between(self.options.wait.mul_f64(0.9), self.options.wait.mul_f64(1.1));
        let Some(topic) = &mut self.topics[place] else { return };
        let wait = (goal == Goal::Watch && topic.can_wait()).then_some((topic.index, time));
        topic.state = State::Asked(goal);
        topic.next = now.checked_add(SHORTEST_WAIT);
        let target = wire::list(&topic.key, &self.options.datacenter, &self.options.namespace, wait);
        let mut request = self.request(target);
        if wait.is_some() {
            // Consul adds up to a sixteenth to the wait.
            request.head_within = Some(time + time / 16 + self.options.request_timeout);
        }
        if let Some(token) = token {
            request.headers.push((wire::TOKEN.to_owned(), token.clone()));
        }
        self.probe.last_received.get_or_insert(now);
        out.push(Output::Begin(call_of(place), request));
    }

    fn head(&mut self, call: CallId, head: Head<'_>, now: Instant, out: &mut Vec<Output>) {
        self.probe.last_received = Some(now);
        if call == PROBE {
            return self.probe.status = head.status;
        }
        if call == ACLS {
            return self.acls = Acls::Asked(head.status);
        }
        let index = head.header(wire::INDEX).and_then(|index| index.parse::<u64>().ok());
        let is_filtered = head.header(wire::FILTERED) == Some("true");
        let limits = self.options.limits;
        let Some(topic) = self.topic(call) else { return };
        let State::Asked(goal) = topic.state else { return };
        // Hidden keys are reported again after a listing with keys.
        topic.is_filtered &= is_filtered || head.status != 200;
        topic.state = match (head.status, index) {
            (200, Some(index)) => {
                let (reader, new, tally) = (ListReader::default(), Listing::new(), Tally::new(limits));
                State::Listing { goal, index, reader, new, written: Written::default(), tally }
            }
            (404, Some(index)) => State::Missing { goal, index, is_filtered },
            (200 | 404, None) => {
                let words = format!("not an answer of consul: status {} without {}", head.status, wire::INDEX);
                return self.node_failed(call, goal, &words, out);
            }
            (status, _) => State::Refused { goal, status, body: Vec::new() },
        };
        // A missing key is handled in `checks`.
        if is_filtered && head.status == 200 && !topic.is_filtered {
            topic.is_filtered = true;
            let key = cut::key(&topic.key);
            let line = Line::new(Level::Warn, "keys are left out: the token may not read them").with("key", key);
            self.readings.log(line.with("token", self.options.token_source.clone()), out);
        }
    }

    fn body(&mut self, call: CallId, piece: &[u8], now: Instant, out: &mut Vec<Output>) {
        if call == PROBE {
            return wire::keep_beginning(&mut self.probe.body, piece);
        }
        self.probe.last_received = Some(now);
        let Some(topic) = self.topic(call) else { return };
        let old = topic.listing.as_ref();
        let (goal, read) = match &mut topic.state {
            State::Listing { goal, reader, new, written, tally, .. } => {
                let read = reader.push(piece, &mut |entry| {
                    tally.add(&entry.key, &entry.value)?;
                    listing::add(new, old, entry, written);
                    Ok(())
                });
                (*goal, read)
            }
            State::Refused { body, .. } => return wire::keep_beginning(body, piece),
            State::Idle | State::Due | State::Asked(_) | State::Missing { .. } | State::Checking { .. } => return,
        };
        match read {
            Ok(()) => {}
            Err(Unreadable::TooMany(words)) => {
                out.push(Output::Cancel(call));
                self.refused(call, goal, &words, now, out);
            }
            Err(error @ Unreadable::Nonsense(_)) => self.node_failed(call, goal, &error.of(NAME), out),
        }
    }

    fn end(&mut self, call: CallId, now: Instant, out: &mut Vec<Output>) {
        self.probe.last_received = Some(now);
        if call == PROBE {
            return self.probed(out);
        }
        if call == ACLS {
            return self.acls_answered(now, out);
        }
        let Some(topic) = self.topic(call) else { return };
        match std::mem::replace(&mut topic.state, State::Idle) {
            State::Listing { goal, index, reader, new, written, .. } => match reader.end() {
                Ok(()) => self.loaded(call, goal, index, (new, written), now, out),
                Err(error) => self.node_failed(call, goal, &error.of(NAME), out),
            },
            State::Missing { goal, is_filtered: true, .. } => {
                let words = format!("the token may read none of the keys: {}", self.options.token_source);
                self.refused(call, goal, &words, now, out);
            }
            State::Missing { goal, index, is_filtered: false } => self.missing(call, goal, index, now, out),
            State::Refused { goal, status, body } => {
                let words = wire::words(status, &body, &self.secrets);
                match status {
                    401 | 403 => {
                        let words = format!("{words}: {}", self.options.token_source);
                        self.refused(call, goal, &words, now, out);
                    }
                    // Another node may accept the request.
                    408 | 429 => self.node_failed(call, goal, &words, out),
                    400..500 => self.refused(call, goal, &words, now, out),
                    _ => self.node_failed(call, goal, &words, out),
                }
            }
            state @ (State::Idle | State::Due | State::Checking { .. }) => topic.state = state,
            // The call ended without a head.
            State::Asked(goal) => self.node_failed(call, goal, "no answer", out),
        }
    }

    /// Handles a call whose kept connection was closed: it is repeated, and no topic relies on its last index.
    fn found_stale(&mut self, call: CallId, out: &mut Vec<Output>) {
        self.doubts_closed_links = false;
        match call {
            PROBE => self.probe.is_asked = false,
            ACLS => out.push(Output::Begin(ACLS, self.request(wire::OWN_TOKEN.to_owned()))),
            call => {
                let Some(topic) = self.topic(call) else { return };
                topic.state = if topic.state.goal() == Some(Goal::Read) { State::Due } else { State::Idle };
            }
        }
        self.doubt(out);
    }

    /// The node may have restarted without its data: a wait for a higher index than that of the node would not be answered
    /// for a long time.
    pub(super) fn doubt(&mut self, out: &mut Vec<Output>) {
        for (place, topic) in self.topics.iter_mut().enumerate() {
            let Some(topic) = topic else { continue };
            if topic.state.goal() == Some(Goal::Watch) {
                if !topic.can_wait() {
                    continue;
                }
                topic.state = State::Idle;
                out.push(Output::Cancel(call_of(place)));
            }
            topic.is_doubtful = !matches!(topic.state, State::Due);
        }
    }

    /// The text of a failure: verb, key, node, cause.
    fn failure(&mut self, call: CallId, goal: Goal, words: &str) -> String {
        let node = self.node.clone();
        let key = self.topic(call).map(|topic| cut::key(&topic.key)).unwrap_or_default();
        let verb = if goal == Goal::Watch { "watch" } else { "read" };
        format!("failed to {verb} `{key}` from {node}: {words}")
    }

    fn node_failed(&mut self, call: CallId, goal: Goal, words: &str, out: &mut Vec<Output>) {
        let words = self.failure(call, goal, words);
        out.push(Output::NodeFailed { words, not_before: None });
    }

    fn failed(&mut self, call: CallId, failure: Failure, now: Instant, out: &mut Vec<Output>) {
        let Failure { kind, words } = failure;
        if kind == FailureKind::Stale {
            return self.found_stale(call, out);
        }
        if call == PROBE {
            let words = format!("failed to probe {}: {words}", self.node);
            return out.push(Output::NodeFailed { words, not_before: None });
        }
        if call == ACLS {
            let words = format!("failed to ask {} whether it has access control lists: {words}", self.node);
            return match self.acls {
                Acls::Unknown | Acls::Asked(0) => out.push(Output::NodeFailed { words, not_before: None }),
                Acls::Asked(_) | Acls::Known(_) => self.acls_answered(now, out),
            };
        }
        let Some(topic) = self.topic(call) else { return };
        let goal = match &topic.state {
            // The status of a refusal is enough for the error, even if its body is incomplete.
            State::Refused { .. } => return self.end(call, now, out),
            State::Idle | State::Due | State::Checking { .. } => return,
            State::Asked(goal) | State::Listing { goal, .. } | State::Missing { goal, .. } => *goal,
        };
        match kind {
            FailureKind::TooLarge => {
                let words = format!("{words}: raise `max_response` of the backend");
                self.refused(call, goal, &words, now, out);
            }
            FailureKind::Closed
            | FailureKind::Stale
            | FailureKind::TimedOut
            | FailureKind::Unusable
            | FailureKind::Other => {
                self.node_failed(call, goal, &words, out);
            }
        }
    }
}

fn call_of(place: usize) -> CallId {
    CallId(place + 1)
}

fn place_of(call: CallId) -> Option<usize> {
    call.0.checked_sub(1)
}

impl Subscribers for Consul {
    fn waiting(&self) -> Vec<Id> {
        self.readings.waiting()
    }

    fn give_up(&mut self) {
        self.readings.give_up();
    }

    fn use_node(&mut self, name: &str) {
        name.clone_into(&mut self.node);
        for topic in self.topics.iter_mut().flatten() {
            (topic.state, topic.listing, topic.index, topic.next) = (State::Idle, None, 0, None);
            topic.is_doubtful = false;
        }
        let readings = &self.readings;
        for (id, member) in &mut self.members {
            // Resources that are read but not watched keep their keys.
            member.is_live &= !readings.get(*id).is_some_and(|subscriber| subscriber.watches);
        }
        (self.token, self.acls) = (Token::Unread, Acls::Unknown);
        (self.probe.last_received, self.probe.is_asked) = (None, false);
        self.doubts_closed_links = true;
        self.readings.failed(true);
    }
}

impl Protocol for Consul {
    fn add(&mut self, id: Id, options: &config::Backend, out: &mut Vec<Output>) {
        if self.members.is_empty() {
            let line = Line::new(Level::Info, "set backend nodes").with("backend", NAME);
            out.push(Output::Report(id, Report::Log(line.with("nodes", self.options.nodes.clone()))));
        }
        self.readings.add(id, options);
        let watches = self.readings.get(id).is_some_and(|subscriber| subscriber.watches);
        // Keys of Consul have no leading slash. Keys of this program have one.
        let prefix = path::join(&[b"/", options.prefix.as_bytes()]);
        let prefix = String::from_utf8_lossy(&prefix).into_owned();
        let asked = if watches { [&options.keys[..], &options.watch_keys[..]].concat() } else { options.keys.clone() };
        let topics = Keys::new(&prefix, &asked).prefixes().to_vec();
        for key in &topics {
            let free = self.topics.iter().position(Option::is_none).unwrap_or(self.topics.len());
            let place = *self.places.entry(key.clone()).or_insert(free);
            if place == self.topics.len() {
                self.topics.push(None);
            }
            let topic = self.topics[place].get_or_insert_with(|| Topic {
                key: key.clone(),
                members: BTreeSet::new(),
                listing: None,
                index: 0,
                is_doubtful: false,
                state: State::Idle,
                next: None,
                is_filtered: false,
            });
            topic.members.insert(id);
        }
        let keys = Keys::new(&prefix, &options.keys);
        let watched = Keys::new(&prefix, &options.watch_keys);
        self.members.insert(id, Member { keys, watched, topics, is_live: false, last_trigger: 0 });
    }

    fn remove(&mut self, id: Id, out: &mut Vec<Output>) {
        self.readings.remove(id);
        let Some(member) = self.members.remove(&id) else { return };
        for key in &member.topics {
            let Some(place) = self.places.get(key).copied() else { continue };
            let Some(Some(topic)) = self.topics.get_mut(place) else { continue };
            topic.members.remove(&id);
            let is_waiting = matches!(topic.state, State::Asked(Goal::Watch));
            if topic.members.is_empty() {
                (self.topics[place], _) = (None, self.places.remove(key));
                out.push(Output::Cancel(call_of(place)));
            } else if is_waiting && !self.topics[place].as_ref().is_some_and(|topic| self.is_watched(topic)) {
                if let Some(topic) = &mut self.topics[place] {
                    topic.state = State::Idle;
                }
                out.push(Output::Cancel(call_of(place)));
            }
        }
        self.forget();
    }

    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        self.last = Some(now);
        match input {
            Input::Turn => self.turn(now, out),
            Input::Head(call, head) => self.head(call, head, now, out),
            Input::Body(call, piece) => self.body(call, piece, now, out),
            Input::End(call) => self.end(call, now, out),
            Input::Failed(call, failure) => self.failed(call, failure, now, out),
            Input::Credentials(credentials) => self.credentials(credentials, now, out),
            // This protocol uses HTTP only.
            Input::Connected(_) | Input::Quiet => {}
        }
    }

    fn headers(&self) -> &'static [&'static str] {
        &[wire::INDEX, wire::FILTERED]
    }

    fn revision(&self, id: Id) -> Option<u64> {
        let member = self.members.get(&id)?;
        let topics = member.topics.iter().filter_map(|key| self.topic_of(key)).map(|topic| topic.index);
        // Without a watch the index of the last read is kept here.
        topics.chain([member.last_trigger]).max().filter(|index| *index > 0)
    }

    fn due(&self) -> Option<Instant> {
        let waits = self.topics().filter(|(_, topic)| {
            matches!(topic.state, State::Idle) && topic.listing.is_some() && self.is_watched(topic)
        });
        let waits = waits.filter_map(|(_, topic)| topic.next);
        // A removed resource may have made room for another read, and a node may have failed without a pause.
        let now = self.last.filter(|now| self.wants(*now) || self.readings.is_due(*now));
        waits.chain(self.readings.due()).chain(self.probe_due()).chain(now).min()
    }
}

#[cfg(test)]
mod tests;
