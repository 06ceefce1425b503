//! Performs the outputs of a network store's protocol: finds the nodes, makes calls and connections, reads the files
//! with name and password, and passes the results to the protocol. The one implementation of [`Backend`] for all such
//! stores. `core` decides what follows a failure; the protocol knows the meaning of the bytes.

mod commands;
pub mod core;
mod programs;
mod store;
mod traffic;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::core::{Command, Core, Unlocated};
use self::programs::Programs;
pub use self::store::{Nodes, Store, limits};
use self::store::{failover, is_same, record};
use self::traffic::{Ongoing, Progress, Traffic, failure};
use super::failover::Start;
use super::protocol::{
    CallId, Credentials, Failure, FailureKind, Head, Id, Input, Output, Protocol, RequestKind, Subscribers,
};
use super::{Backend, Replacement, Report};
use crate::config;
use crate::host::client::{Call, Cause, Client, without_credentials};
use crate::host::dns::{Found, Lookup, Query, Resolver};
use crate::host::process::{Exit, Pid, Termination};
use crate::host::wait::Interest;
use crate::log::{Level, Line};
use crate::sorted::SortedMap;

/// The limits of bytes and time for which the changes of streams are gathered before they are reported, while more
/// bytes are available.
const GATHERED: usize = 1 << 20;
const GATHERING: Duration = Duration::from_millis(50);

/// The size of the buffer that is kept between turns: during a read, and while only streams are open.
const KEPT_BUFFER: usize = 64 * 1024;
const IDLE_BUFFER: usize = 4 * 1024;

/// Creates the protocol for nodes: their URLs, and their texts in messages.
pub type Factory = Box<dyn Fn(&[String], &[String], Instant) -> Box<dyn Protocol>>;

/// A network store at work.
pub struct Driver {
    store: Store,
    factory: Factory,
    /// The start of a one-shot run's time limit.
    begun: Instant,
    client: Client,
    core: Core,
    stage: Stage,
    /// The subscribers with their options.
    subscribers: SortedMap<Id, config::Backend>,
    calls: SortedMap<CallId, Ongoing>,
    /// The number of calls so far.
    begun_calls: u64,
    /// The pending lookup of the record. The known nodes stay in use meanwhile.
    lookup: Option<Lookup>,
    resolver: Resolver,
    programs: Programs,
    /// A turn is due at this moment, even if the protocol needs none.
    fresh: Option<Instant>,
    /// The bytes of streams since the last report: the time of the first one, and their number.
    gathered: Option<(Instant, usize)>,
    /// A call used up its budget.
    more: bool,
    reports: Vec<(Id, Report)>,
    replacement: Option<Replacement>,
    buffer: Vec<u8>,
    /// A node has answered: it did more than refuse connections or let the time limit pass.
    has_answered: bool,
}

enum Stage {
    /// The nodes are not known yet. The record counts as the only node.
    Locating { given_up: bool },
    /// The nodes are known. `nodes` are URLs.
    Located { nodes: Vec<String>, protocol: Box<dyn Protocol> },
}

/// An input for the protocol that the driver itself causes.
enum Event {
    Credentials(Result<Option<Credentials>, String>),
    Failed(CallId, Failure),
}

impl Driver {
    /// A driver without subscribers. A list of nodes is used at once; a record is looked up in the first turn.
    pub fn new(store: Store, factory: Factory, now: Instant) -> Driver {
        Driver::since(None, store, factory, now)
    }

    /// A driver that replaces another one, whose time limit started at `begun`.
    pub fn since(begun: Option<Instant>, store: Store, factory: Factory, now: Instant) -> Driver {
        let resolver = Resolver::default();
        let begun = begun.unwrap_or(now);
        let mut driver = Driver {
            begun,
            client: Client::with(resolver.clone(), store.limits, store.tls.clone()),
            core: match &store.nodes {
                Nodes::Program(_) => Core::of_program(&store.name, record(&store, begun)),
                Nodes::List(..) | Nodes::Record { .. } => Core::new(&store.name, record(&store, begun)),
            },
            stage: Stage::Locating { given_up: false },
            subscribers: SortedMap::new(),
            calls: SortedMap::new(),
            begun_calls: 0,
            lookup: None,
            resolver,
            programs: Programs::default(),
            fresh: Some(now),
            gathered: None,
            more: false,
            reports: Vec::new(),
            replacement: None,
            buffer: Vec::new(),
            has_answered: false,
            store,
            factory,
        };
        let known = match &mut driver.store.nodes {
            Nodes::List(nodes, start) => Some((nodes.clone(), *start)),
            Nodes::Record { known, .. } => known.take().map(|nodes| (nodes, Start::First)),
            Nodes::Program(path) => Some((vec![path.display().to_string()], Start::First)),
        };
        if let Some((nodes, start)) = known {
            driver.use_nodes(nodes, start, now);
        }
        driver
    }

    /// Only the protocol, for nodes whose URLs have no credentials. For fuzzing.
    pub fn protocol(&self, nodes: &[String], now: Instant) -> Box<dyn Protocol> {
        (self.factory)(nodes, nodes, now)
    }

    /// Switches to a new list of nodes, with a new protocol.
    fn use_nodes(&mut self, nodes: Vec<String>, start: Start, now: Instant) {
        self.calls.clear();
        let shown: Vec<String> = nodes.iter().map(|node| without_credentials(node)).collect();
        let mut protocol = (self.factory)(&nodes, &shown, now);
        let failover = failover(&self.store, shown, start, self.begun);
        protocol.use_node(failover.name());
        self.core.use_nodes(failover, now);
        self.stage = Stage::Located { nodes, protocol };
        self.fresh = Some(now);
        for (id, options) in self.subscribers.clone() {
            self.with_protocol(now, |protocol, out| protocol.add(id, &options, out));
        }
    }

    /// Calls the protocol, and performs its outputs.
    fn with_protocol(&mut self, now: Instant, act: impl FnOnce(&mut dyn Protocol, &mut Vec<Output>)) {
        let mut events = VecDeque::new();
        let mut outputs = Vec::new();
        if let Stage::Located { protocol, .. } = &mut self.stage {
            act(&mut **protocol, &mut outputs);
        }
        loop {
            for output in outputs.drain(..) {
                self.take(output, now, &mut events);
            }
            let Stage::Located { protocol, .. } = &mut self.stage else { return };
            match events.pop_front() {
                Some(Event::Credentials(credentials)) => {
                    protocol.on(Input::Credentials(credentials), now, &mut outputs);
                }
                Some(Event::Failed(call, failure)) => protocol.on(Input::Failed(call, failure), now, &mut outputs),
                None => return,
            }
        }
    }

    fn take(&mut self, output: Output, now: Instant, events: &mut VecDeque<Event>) {
        let Stage::Located { protocol, .. } = &mut self.stage else { return };
        let mut commands = Vec::new();
        let is_failure = matches!(output, Output::NodeFailed { .. } | Output::RequestFailed { .. });
        let subscribers: &mut dyn Subscribers = &mut **protocol;
        self.core.take(output, subscribers, now, &mut commands);
        // The next node is used at once. No other event would cause a turn.
        if is_failure && !protocol.waiting().is_empty() && self.core.pause(now).is_none() {
            self.fresh = Some(now);
        }
        self.carry_out(commands, now, events);
    }

    /// Gives each call its turn.
    fn advance(&mut self, now: Instant) {
        let turns: Vec<(CallId, u64)> = self.calls.iter().map(|(id, ongoing)| (*id, ongoing.serial)).collect();
        let mut buffer = std::mem::take(&mut self.buffer);
        turns.into_iter().for_each(|(id, serial)| self.turn_call(id, serial, now, &mut buffer));
        buffer.clear();
        let is_reading = |ongoing: &Ongoing| matches!(ongoing.traffic, Traffic::Http(_, RequestKind::Whole));
        buffer.shrink_to(if self.calls.values().any(is_reading) { KEPT_BUFFER } else { IDLE_BUFFER });
        self.buffer = buffer;
    }

    /// Continues one call until its budget is used up.
    fn turn_call(&mut self, id: CallId, serial: u64, now: Instant, buffer: &mut Vec<u8>) {
        // Bytes of the body may have arrived with the head.
        while let Some(ongoing) = self.calls.get_mut(&id).filter(|ongoing| ongoing.serial == serial) {
            buffer.clear();
            let is_stream = ongoing.traffic.is_stream();
            let was_dialing = ongoing.traffic.is_dialing();
            let progress = match self.programs.is_closed(serial) {
                true => Ok(Progress::Ended),
                false => ongoing.traffic.turn(now, buffer),
            };
            self.has_answered |= !buffer.is_empty()
                || match &progress {
                    Ok(Progress::Head | Progress::Ended) => true,
                    Ok(Progress::Waiting | Progress::More | Progress::Connected)
                    | Err(Cause::Late { .. } | Cause::Stale) => false,
                    Err(Cause::Closed | Cause::TooLong { .. } | Cause::Other(_)) => !was_dialing,
                };
            if !buffer.is_empty() {
                if is_stream {
                    let (_, bytes) = self.gathered.get_or_insert((now, 0));
                    *bytes = bytes.saturating_add(buffer.len());
                }
                self.dispatch(Input::Body(id, buffer), now);
            }
            // The protocol may have cancelled the call because of the bytes.
            let Some(ongoing) = self.calls.get(&id).filter(|ongoing| ongoing.serial == serial) else { return };
            match progress {
                Ok(Progress::Head) => {
                    let Traffic::Http(call, _) = &ongoing.traffic else { return };
                    let (status, headers) = (call.status().unwrap_or(0), self.headers(call));
                    self.dispatch(Input::Head(id, Head { status, headers: &headers }), now);
                }
                Ok(Progress::Connected) => self.dispatch(Input::Connected(id), now),
                // The end is reported with the program's status, after its exit. A write may find the pipe closed
                // first.
                Ok(Progress::Ended) | Err(Cause::Closed) if self.programs.closed(serial, now) => return,
                Ok(Progress::Ended) => {
                    self.calls.remove(&id);
                    self.dispatch(Input::End(id), now);
                }
                Ok(Progress::More) => {
                    self.more = true;
                    return;
                }
                Ok(Progress::Waiting) => return,
                Err(cause) => {
                    self.calls.remove(&id);
                    self.dispatch(Input::Failed(id, failure(&cause)), now);
                }
            }
        }
    }

    /// Whether the time limit of a one-shot run has passed while a subscriber still waits.
    fn is_late(&self, now: Instant) -> bool {
        self.end().is_some_and(|end| end <= now)
    }

    /// The deadline of all calls in progress.
    fn end(&self) -> Option<Instant> {
        self.core.failover().end().filter(|_| self.is_waited_for())
    }

    /// Whether a subscriber needs a node.
    fn is_waited_for(&self) -> bool {
        match &self.stage {
            Stage::Locating { given_up } => !given_up,
            Stage::Located { protocol, .. } => !protocol.waiting().is_empty(),
        }
    }

    /// Ends the calls whose deadline has passed. The protocol reports the step that failed.
    fn end_in_time(&mut self, now: Instant) {
        let last = self.begun_calls;
        while self.is_late(now) {
            let Some(id) = self.calls.iter().find(|(_, call)| call.serial <= last).map(|(id, _)| *id) else { break };
            let Some(Ongoing { traffic, .. }) = self.calls.remove(&id) else { break };
            let words = format!("{} {}", traffic.missing(), self.core.time_limit());
            self.dispatch(Input::Failed(id, Failure { kind: FailureKind::TimedOut, words }), now);
        }
        if self.is_late(now)
            && let Stage::Located { protocol, .. } = &mut self.stage
        {
            let (subscribers, mut commands): (&mut dyn Subscribers, _) = (&mut **protocol, Vec::new());
            self.core.out_of_time(subscribers, now, &mut commands);
            self.carry_out(commands, now, &mut VecDeque::new());
        }
    }

    /// Ends a program whose connection has ended.
    fn end_programs(&mut self, now: Instant) {
        if let Some(serial) = self.programs.serial()
            && !self.calls.values().any(|ongoing| ongoing.serial == serial)
        {
            self.programs.end(now);
        }
    }

    fn headers(&self, call: &Call) -> Vec<(&'static str, String)> {
        let Stage::Located { protocol, .. } = &self.stage else { return Vec::new() };
        let value = |name: &&'static str| Some((*name, call.header(name)?.to_owned()));
        protocol.headers().iter().filter_map(value).collect()
    }

    fn dispatch(&mut self, input: Input<'_>, now: Instant) {
        self.with_protocol(now, |protocol, out| protocol.on(input, now, out));
    }

    /// Whether the changes of streams are reported now. Otherwise more bytes are available.
    fn is_gathered(&self, now: Instant) -> bool {
        let Some((since, bytes)) = self.gathered else { return true };
        !self.more || bytes >= GATHERED || now.saturating_duration_since(since) >= GATHERING
    }

    /// Looks the record up, at the start and when every node has failed.
    fn locate(&mut self, now: Instant) {
        let Nodes::Record { name, .. } = &self.store.nodes else { return };
        if self.lookup.is_none() {
            let is_wanted = match &self.stage {
                Stage::Locating { given_up } => !given_up && self.core.pause(now).is_none(),
                Stage::Located { .. } => self.core.is_exhausted(),
            };
            if !is_wanted {
                return;
            }
            let query = Query::Services(name.clone());
            self.core.attempt(now);
            self.lookup = Some(self.resolver.begin(query, now));
        }
        let is_late = self.is_late(now);
        let Nodes::Record { name, urls, .. } = &self.store.nodes else { return };
        let nodes = match self.lookup.as_mut().and_then(|lookup| lookup.turn(now)) {
            Some(Ok(Found::Services(services))) => match urls(services) {
                nodes if nodes.is_empty() => Err(format!("failed to look up `{name}`: its records name no node")),
                nodes => Ok(nodes),
            },
            Some(Ok(Found::Addresses(_))) => Err(format!("failed to look up `{name}`: addresses instead of records")),
            Some(Err(error)) => Err(error.to_string()),
            None if is_late => Err(format!("failed to look up `{name}`: no answer {}", self.core.time_limit())),
            None => return,
        };
        self.lookup = None;
        match (nodes, &self.stage) {
            (Ok(nodes), Stage::Located { nodes: known, .. }) if is_same(&nodes, known) => {}
            (Ok(nodes), _) => self.use_nodes(nodes, Start::First, now),
            // The known nodes stay in use.
            (Err(words), Stage::Located { .. }) => {
                let line = Line::new(Level::Debug, "keeping the nodes as they were").with("backend", &*self.store.name);
                let line = line.with("error", words);
                self.reports.extend(self.subscribers.keys().next().map(|id| (*id, Report::Log(line))));
            }
            (Err(words), Stage::Locating { .. }) => {
                let mut all = Unlocated { ids: self.subscribers.keys().copied().collect(), given_up: false };
                let mut commands = Vec::new();
                self.core.node_failed(words, None, &mut all, now, &mut commands);
                let reports = commands.into_iter().filter_map(|command| match command {
                    Command::Report(id, report) => Some((id, report)),
                    _ => None,
                });
                self.reports.extend(reports);
                self.stage = Stage::Locating { given_up: all.given_up };
            }
        }
    }
}

impl Backend for Driver {
    fn name(&self) -> &str {
        &self.store.name
    }

    fn add(&mut self, id: Id, options: &config::Backend, failure_reported: bool, now: Instant) {
        if !self.subscribers.is_empty() && !self.is_waited_for() {
            self.core.restart(now);
            if let Stage::Locating { given_up } = &mut self.stage {
                *given_up = false;
            }
        }
        self.subscribers.insert(id, options.clone());
        self.core.add(id, failure_reported);
        self.fresh.get_or_insert(now);
        self.with_protocol(now, |protocol, out| protocol.add(id, options, out));
    }

    fn remove(&mut self, id: Id, now: Instant) {
        self.subscribers.remove(&id);
        self.core.remove(id);
        self.reports.retain(|(of, _)| *of != id);
        self.with_protocol(now, |protocol, out| protocol.remove(id, out));
        self.end_programs(now);
    }

    fn interests<'a>(&'a self, out: &mut Vec<Interest<'a>>) {
        self.calls.values().for_each(|ongoing| ongoing.traffic.interests(out));
        self.lookup.iter().for_each(|lookup| lookup.interests(out));
        self.programs.interests(out);
    }

    fn due(&self) -> Option<Instant> {
        let protocol = match &self.stage {
            Stage::Located { protocol, .. } => self.core.due(protocol.due()),
            Stage::Locating { given_up: true } => None,
            Stage::Locating { given_up: false } => self.core.due(None),
        };
        let calls = self.calls.values().filter_map(|ongoing| ongoing.traffic.due());
        let lookup = self.lookup.iter().map(Lookup::due);
        calls.chain(lookup).chain(protocol).chain(self.fresh).chain(self.end()).chain(self.programs.due()).min()
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<(Id, Report)>) {
        (self.fresh, self.more) = (None, false);
        self.locate(now);
        self.programs.drain();
        self.advance(now);
        if self.is_gathered(now) {
            self.gathered = None;
            self.dispatch(Input::Quiet, now);
        }
        self.end_in_time(now);
        if self.core.pause(now).is_none() {
            // A call that has begun is due at once.
            self.core.attempt(now);
            self.dispatch(Input::Turn, now);
        }
        self.locate(now);
        self.end_programs(now);
        let first = self.subscribers.keys().next().copied();
        for (pid, escalation) in self.programs.escalate(now) {
            self.reports.extend(first.map(|id| (id, Report::Log(escalation.line(pid)))));
        }
        out.append(&mut self.reports);
    }

    fn has_answered(&self) -> bool {
        let is_program = matches!(self.store.nodes, Nodes::Program(_));
        is_program || self.has_answered || self.client.dialer().has_failed_at_tls()
    }

    fn revision(&self, id: Id) -> Option<u64> {
        match &self.stage {
            Stage::Locating { .. } => None,
            Stage::Located { protocol, .. } => protocol.revision(id),
        }
    }

    fn has_child(&self, pid: Pid) -> bool {
        self.programs.has(pid)
    }

    fn exited(&mut self, exit: &Exit, now: Instant) {
        let serial = self.programs.serial().filter(|_| self.programs.runs(exit.pid));
        let call = serial.and_then(|serial| {
            let mut calls = self.calls.iter();
            calls.find_map(|(id, ongoing)| (ongoing.serial == serial).then_some((*id, serial)))
        });
        if let Some((id, serial)) = call {
            // The output before the exit is passed on first. The end of the program is reported with its status.
            self.turn_call(id, serial, now, &mut Vec::new());
        }
        self.programs.exited(exit, now);
        let Some((id, serial)) = call else { return };
        if self.calls.get(&id).is_some_and(|ongoing| ongoing.serial == serial) {
            self.calls.remove(&id);
            let words = format!("it {}", exit.how());
            self.dispatch(Input::Failed(id, Failure { kind: FailureKind::Closed, words }), now);
        }
        self.fresh.get_or_insert(now);
    }

    fn close(&mut self, now: Instant) -> Vec<Termination> {
        self.with_protocol(now, |protocol, out| protocol.shut_down(out));
        let left = self.programs.release_all(now);
        self.calls.clear();
        left
    }

    fn replacement(&mut self) -> Option<Replacement> {
        self.replacement.take()
    }
}

#[cfg(test)]
mod tests;
