//! Does what the session decides: requests and waits, over `host::http`. A wait is a request whose answer has a head at
//! once and a body when something changes.
//! Decides nothing.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::login::{Header, Login};
use super::session::{Action, Event, Request, RequestKind, Session};
use super::wire::{self, Head, Refusal, Why};
use crate::backend::etcd::NAME;
use crate::backend::etcd::wire::Unreadable;
use crate::backend::redact::Redactor;
use crate::backend::{Backend, Report};
use crate::host::http::{self, Cause, Line, Stream};
use crate::log;

/// The connections to one etcd.
pub struct Client {
    http: http::Client,
    /// URLs without a slash at the end.
    nodes: Vec<String>,
    login: Login,
    /// What no error shows.
    secrets: Redactor,
    session: Session,
    /// Those that are open, each in its place.
    waits: Vec<Option<Stream>>,
}

impl Client {
    pub fn new(http: http::Client, nodes: Vec<String>, login: Login, session: Session) -> Client {
        let waits = (0..session.waits()).map(|_| None).collect();
        Client { http, nodes, login, secrets: Redactor::default(), session, waits }
    }

    /// Tells the session what happened, and does what it wants but the request.
    fn tell(&mut self, event: Event, now: Instant, out: &mut Vec<Report>) -> Option<Request> {
        let mut actions = Vec::new();
        self.session.on(event, now, &mut actions);
        let mut wanted = None;
        for action in actions {
            match action {
                Action::Ask(request) => wanted = Some(request),
                Action::Close => self.waits.fill_with(|| None),
                Action::Drop(wait) => self.waits[wait] = None,
                Action::Report(report) => out.push(report),
            }
        }
        wanted
    }

    /// Makes a request and waits for its answer, or for the head of a wait's. `None`: the loop wants to end.
    fn ask(&mut self, request: Request) -> Option<Event> {
        let url = format!("{}{}", self.nodes[request.node], request.target);
        let (user, header) = match self.login.header(&url, &mut self.secrets) {
            Ok(Some(Header { user, value })) => (Some(user), Some(value)),
            Ok(None) => (None, None),
            Err(words) => return Some(Event::Broken(words)),
        };
        let headers: Vec<(&str, &str)> = header.iter().map(|value| ("Authorization", &**value)).collect();
        let answered = match request.kind {
            RequestKind::Read | RequestKind::Probe => {
                self.http.get(&url, &headers).map(|answer| self.answered(request.kind, answer, user))
            }
            RequestKind::Wait(wait) => self.http.stream(&url, &headers, None).map(|opened| match opened {
                Ok(stream) => match Head::new(stream.header(wire::CLUSTER), stream.header(wire::INDEX)) {
                    Some(head) => {
                        self.waits[wait] = Some(stream);
                        Event::Opened { wait, head }
                    }
                    None => no_head(),
                },
                Err(mut answer) => {
                    let refusal = wire::refusal(answer.status, &answer.beginning(), &self.secrets);
                    Event::Refused { refusal, user }
                }
            }),
        };
        let event = answered.unwrap_or_else(|error| Event::Broken(error.cause.to_string()));
        (!self.http.aborted()).then_some(event)
    }

    fn answered(&mut self, kind: RequestKind, mut answer: http::Answer, user: Option<String>) -> Event {
        let head = Head::new(answer.header(wire::CLUSTER), answer.header(wire::INDEX));
        if answer.status != 200 {
            let refusal = wire::refusal(answer.status, &answer.beginning(), &self.secrets);
            return match (kind, &refusal, head) {
                (RequestKind::Probe, Refusal { why: Why::Missing, .. }, Some(head)) => Event::Probed(head),
                _ => Event::Refused { refusal, user },
            };
        }
        let Some(head) = head else { return no_head() };
        match wire::read_keys(answer, &mut |entry| {
            if kind == RequestKind::Read { self.session.entry(entry) } else { Ok(()) }
        }) {
            Ok(()) if kind == RequestKind::Probe => Event::Probed(head),
            Ok(()) => Event::Read(head),
            Err(Unreadable::TooMany(words)) => Event::TooMany(words),
            Err(error) => Event::Broken(error.to_string()),
        }
    }

    /// Takes what has come for the waits.
    fn listen(&mut self, now: Instant, out: &mut Vec<Report>) {
        for wait in 0..self.waits.len() {
            while self.session.listens()
                && let Some(stream) = &mut self.waits[wait]
            {
                let event = match stream.next_line() {
                    Line::Whole(line) if line.trim_ascii().is_empty() => continue,
                    Line::Whole(line) => match wire::read_event(line) {
                        Ok(event) => Event::Came { wait, event },
                        Err(error) => Event::Unusable(error.to_string()),
                    },
                    Line::NothingYet => break,
                    Line::Ended(cause @ (Cause::Ended | Cause::Closed)) => {
                        Event::Ended { wait, whole: cause == Cause::Ended }
                    }
                    Line::Ended(cause @ Cause::TooLong { .. }) => Event::Unusable(cause.to_string()),
                    Line::Ended(cause) => Event::Broken(cause.to_string()),
                };
                // The end of the answer mostly came with it: having seen it, the connection is kept.
                let _ = stream.next_line();
                self.waits[wait] = None;
                // Only a turn makes requests.
                self.tell(event, now, out);
            }
        }
        self.tell(Event::Quiet, now, out);
    }
}

fn no_head() -> Event {
    Event::Broken(format!("not an answer of etcd: no {} or {}", wire::INDEX, wire::CLUSTER))
}

impl Backend for Client {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        if self.session.listens() {
            out.extend(self.waits.iter().flatten().map(AsFd::as_fd));
        }
    }

    fn due(&self) -> Option<Instant> {
        self.session.due()
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Report>) {
        self.listen(now, out);
        let Some(request) = self.tell(Event::Turn, now, out) else {
            return;
        };
        let Some(event) = self.ask(request) else { return };
        // The answer took its time.
        let now = Instant::now();
        self.tell(event, now, out);
        self.listen(now, out);
    }

    fn close(&mut self, out: &mut Vec<Report>) {
        self.waits.fill_with(|| None);
        out.push(Report::Log(log::Line::new(log::Level::Debug, "closing client connection").with("backend", NAME)));
    }
}
