//! Does what the session decides: requests and the stream, over `host::http`.
//! Decides nothing.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::session::{Action, Event, Request, RequestKind, Session, Tail};
use super::{NAME, wire};
use crate::backend::{Backend, Report};
use crate::host::http::{self, Cause, Line, Stream};
use crate::log;

/// Lines of a stream that one turn takes, so that a busy etcd does not keep the loop.
const LINES: usize = 1000;

/// The connections to one etcd.
pub struct Client {
    http: http::Client,
    /// URLs without a slash at the end.
    nodes: Vec<String>,
    session: Session,
    stream: Option<Stream>,
    /// The last turn left lines in the stream: no descriptor tells of them.
    left_lines: bool,
    turned: Option<Instant>,
}

impl Client {
    pub fn new(http: http::Client, nodes: Vec<String>, session: Session) -> Client {
        Client { http, nodes, session, stream: None, left_lines: false, turned: None }
    }

    /// Tells the session what happened, and does what it wants but the request.
    fn tell(&mut self, event: Event, now: Instant, out: &mut Vec<Report>) -> Option<Request> {
        let mut actions = Vec::new();
        self.session.on(event, now, &mut actions);
        let mut wanted = None;
        for action in actions {
            match action {
                Action::Ask(request) => wanted = Some(request),
                Action::Close => self.stream = None,
                Action::Report(report) => out.push(report),
            }
        }
        wanted
    }

    /// Makes a request and waits for its answer. `None`: the loop wants to end.
    fn ask(&mut self, request: Request) -> Option<Event> {
        let node = &self.nodes[request.node];
        let answered = match request.kind {
            RequestKind::Range => {
                let answer = self.http.post(&format!("{node}{}", wire::RANGE), wire::HEADERS, request.body.as_bytes());
                answer.map(|answer| self.page(answer))
            }
            RequestKind::Watch => {
                let opened =
                    self.http.stream(&format!("{node}{}", wire::WATCH), wire::HEADERS, request.body.as_bytes());
                opened.map(|opened| match opened {
                    Ok(stream) => {
                        self.stream = Some(stream);
                        Event::Opened
                    }
                    Err(mut answer) => Event::Refused(wire::refusal(answer.status, wire::WATCH, &answer.beginning())),
                })
            }
        };
        let event = answered.unwrap_or_else(|error| broken(&error.cause));
        (!self.http.aborted()).then_some(event)
    }

    fn page(&mut self, mut answer: http::Answer) -> Event {
        if answer.status != 200 {
            return Event::Refused(wire::refusal(answer.status, wire::RANGE, &answer.beginning()));
        }
        match wire::read_page(answer, &mut |entry| self.session.entry(entry)) {
            Ok(page) => Event::Page(page),
            Err(error) => Event::Broken { words: error.to_string(), tail: Tail::Fetchable },
        }
    }

    /// Takes what has come on the stream.
    fn listen(&mut self, now: Instant, out: &mut Vec<Report>) {
        self.left_lines = false;
        let mut taken = 0;
        while let Some(stream) = &mut self.stream
            && self.session.listens()
        {
            if taken == LINES {
                self.left_lines = true;
                break;
            }
            taken += 1;
            let event = match stream.next_line() {
                Line::Whole(line) if line.trim_ascii().is_empty() => continue,
                Line::Whole(line) => match wire::read_message(line) {
                    Ok(message) => Event::Message(message),
                    Err(error) => Event::Broken { words: error.to_string(), tail: Tail::Fetchable },
                },
                Line::NothingYet => break,
                Line::Ended(cause) => broken(&cause),
            };
            // Only a turn makes requests.
            self.tell(event, now, out);
        }
        self.tell(Event::Quiet, now, out);
    }
}

fn broken(cause: &Cause) -> Event {
    let tail = if matches!(cause, Cause::TooLong { .. }) { Tail::TooLong } else { Tail::Fetchable };
    Event::Broken { words: cause.to_string(), tail }
}

impl Backend for Client {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        if self.session.listens() {
            out.extend(self.stream.as_ref().map(AsFd::as_fd));
        }
    }

    fn due(&self) -> Option<Instant> {
        if self.left_lines && self.session.listens() { self.turned } else { self.session.due() }
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Report>) {
        self.turned = Some(now);
        if self.stream.is_some() {
            self.listen(now, out);
        }
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
        self.stream = None;
        out.push(Report::Log(log::Line::new(log::Level::Debug, "closing client connection").with("backend", NAME)));
    }
}
