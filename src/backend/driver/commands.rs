//! Performs the commands of `core`: begins and cancels calls and connections to the current node, sends bytes, starts
//! the program, reads the files with name and password, and hands the subscriber over. Gives no call its turn.

use std::collections::VecDeque;
use std::time::Instant;

use super::core::Command;
use super::store::Nodes;
use super::traffic::{Ongoing, Traffic, failure, not_started};
use super::{Driver, Event, Stage};
use crate::backend::protocol::{CallId, Credentials, Failure, Request, RequestKind, Security, Stale};
use crate::backend::{Handover, Replacement};
use crate::config;
use crate::host::client::{self, Cause, without_credentials};
use crate::host::connection::Connection;
use crate::host::dialer::Endpoint;
use crate::host::link::Link;
use crate::host::read;

impl Driver {
    pub(super) fn carry_out(&mut self, commands: Vec<Command>, now: Instant, events: &mut VecDeque<Event>) {
        for command in commands {
            match command {
                Command::Begin(id, request) => events.extend(self.begin(id, &request, now)),
                Command::Connect(id, security) => {
                    let connected = self.connect(security, now);
                    events.extend(self.keep(id, connected.map(Traffic::Bytes)));
                }
                Command::Send(id, bytes) => {
                    let sent = self.on_connection(id, |connection| connection.send(&bytes, now));
                    events.extend(self.ended_by(id, sent));
                }
                Command::Secure(id) => {
                    let secured = self.on_connection(id, |connection| connection.secure(now));
                    events.extend(self.ended_by(id, secured));
                }
                Command::Cancel(id) => drop(self.calls.remove(&id)),
                Command::Release(id) => self.release(id, now),
                Command::CancelAll => self.calls.clear(),
                Command::ReadCredentials => events.push_back(Event::Credentials(self.credentials())),
                Command::Report(id, report) => self.reports.push((id, report)),
                Command::Replace(options) => self.replace(*options),
            }
        }
    }

    /// Begins a call to the current node. Returns the failure if that is impossible.
    fn begin(&mut self, id: CallId, request: &Request, now: Instant) -> Option<Event> {
        let Stage::Located { nodes, .. } = &self.stage else { return None };
        let node = &nodes[self.core.failover().node()];
        let node = if request.anonymous { &without_credentials(node) } else { node };
        // HTTP has no URLs for unix sockets.
        let (base, socket) = match Endpoint::of(node, false) {
            Some(Endpoint::Unix(path)) => ("http://localhost", Some(path)),
            _ => (&**node, None),
        };
        let url = format!("{base}{}", request.target);
        let headers: Vec<(&str, &str)> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
        let begun = self.client.begin(
            &client::Request {
                method: request.method,
                url: &url,
                headers: &headers,
                body: request.body.as_deref().map(str::as_bytes),
                stale: match request.stale {
                    Stale::Repeat => client::Stale::Repeat,
                    Stale::RepeatUnsent => client::Stale::RepeatUnsent,
                    Stale::Fail => client::Stale::Fail,
                },
                kind: match request.kind {
                    RequestKind::Whole => client::Kind::Whole,
                    RequestKind::Stream => client::Kind::Stream,
                },
                head_within: request.head_within,
                socket: socket.as_deref(),
            },
            now,
        );
        let kind = request.kind;
        self.keep(id, begun.map(|call| Traffic::Http(call, kind)).map_err(|error| failure(&error.cause)))
    }

    /// Connects to the current node, or starts the program.
    fn connect(&mut self, security: Security, now: Instant) -> Result<Connection, Failure> {
        let (dialer, send_timeout) = (self.client.dialer(), self.store.limits.answer);
        if let Nodes::Program(path) = &self.store.nodes {
            let started = self.programs.start(path, self.begun_calls + 1, now);
            let piped = started.map_err(|error| not_started(&error))?;
            let link = Link::pipes(piped.output, piped.input).map_err(|cause| failure(&cause))?;
            return Ok(Connection::over(dialer, Endpoint::Pipes, link, send_timeout, now));
        }
        let Stage::Located { nodes, .. } = &self.stage else { return Err(failure(&Cause::Closed)) };
        let node = &nodes[self.core.failover().node()];
        let no_address = || Cause::Other(format!("`{}` is no address with a port", without_credentials(node)));
        let endpoint = Endpoint::of(node, security == Security::Tls).ok_or_else(no_address);
        let begun = endpoint.and_then(|endpoint| Connection::begin(dialer, endpoint, send_timeout, now));
        begun.map_err(|cause| failure(&cause))
    }

    /// Releases a connection to a program after the closing message.
    fn release(&mut self, id: CallId, now: Instant) {
        let Some(Ongoing { serial, traffic: Traffic::Bytes(connection) }) = self.calls.remove(&id) else { return };
        self.programs.release(serial, connection.into_input(), now);
    }

    /// Keeps a call that has begun, or returns its failure.
    fn keep(&mut self, id: CallId, begun: Result<Traffic, Failure>) -> Option<Event> {
        match begun {
            Ok(traffic) => {
                self.begun_calls += 1;
                self.calls.insert(id, Ongoing { serial: self.begun_calls, traffic });
                None
            }
            Err(failure) => Some(Event::Failed(id, failure)),
        }
    }

    /// Acts on a connection, if it still exists.
    fn on_connection(
        &mut self,
        id: CallId,
        act: impl FnOnce(&mut Connection) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        match self.calls.get_mut(&id) {
            Some(Ongoing { traffic: Traffic::Bytes(connection), .. }) => act(connection),
            _ => Ok(()),
        }
    }

    /// Ends a call if its action failed, and returns the failure.
    fn ended_by(&mut self, id: CallId, outcome: Result<(), Cause>) -> Option<Event> {
        let cause = outcome.err()?;
        self.calls.remove(&id);
        Some(Event::Failed(id, failure(&cause)))
    }

    fn credentials(&self) -> Result<Option<Credentials>, String> {
        let Some(login) = &self.store.login else { return Ok(None) };
        let (user, password) = (read::credential(&login.username)?, read::credential(&login.password)?);
        Ok(Some(Credentials { user, password }))
    }

    /// Hands the only subscriber over to a backend with other options.
    fn replace(&mut self, options: config::Backend) {
        let Stage::Located { nodes, .. } = &self.stage else { return };
        let Some(id) = self.subscribers.keys().next().copied() else { return };
        let nodes = match &self.store.nodes {
            Nodes::List(..) | Nodes::Program(_) => None,
            Nodes::Record { .. } => Some(nodes.clone()),
        };
        let handover = Handover { nodes, failure_reported: self.core.is_failure_reported(id), begun: Some(self.begun) };
        self.replacement = Some(Replacement { id, options, handover });
    }
}
