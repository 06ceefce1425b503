//! The protocol of etcd version 2: converts bytes of answers to events for `session`, and its actions to requests. A
//! wait is a request whose answer has a head at once and a body after the next change. Keeps the secrets that errors
//! must not show. Decides nothing.

use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::session::{Action, Event, Request, RequestKind, Session};
use super::wire::{self, Head, KeysReader, Refusal, RefusalKind};
use crate::backend::etcd::NAME;
use crate::backend::etcd::request::append_beginning;
use crate::backend::json::Json;
use crate::backend::lines::{Lines, TooLong};
use crate::backend::protocol::{
    self, CallId, Credentials, Failure, FailureKind, Id, Input, Output, Protocol, Subscribers,
};
use crate::backend::redact::Redactor;
use crate::backend::unreadable::Unreadable;
use crate::config;

/// The call of reads and probes. The calls of the waits follow in their order.
const REQUEST: CallId = CallId(0);

/// An etcd of version 2.
pub struct V2 {
    session: Session,
    max_response: usize,
    /// The texts that errors must not show.
    secrets: Redactor,
    /// The user of the last request.
    user: Option<String>,
    /// The request that is sent when name and password are read.
    wanted: Option<Request>,
    request: Reading,
    waits: Vec<Waiting>,
}

/// The answer of the pending request.
enum Reading {
    Idle,
    /// The head has not arrived.
    Asked(RequestKind),
    Keys {
        kind: RequestKind,
        head: Head,
        reader: KeysReader,
    },
    Refusal(Refused),
}

enum Waiting {
    Idle,
    /// The head has not arrived.
    Opening,
    Open(Lines, Json),
    Refusal(Refused),
    /// The answer is complete. The session takes it when it [listens](Session::listens).
    Complete(Event),
}

struct Refused {
    kind: RequestKind,
    head: Option<Head>,
    status: u16,
    body: Vec<u8>,
}

impl V2 {
    /// `nodes` are the URLs, whose credentials are hidden from errors.
    pub fn new(session: Session, nodes: &[String], max_response: usize) -> V2 {
        let mut secrets = Redactor::default();
        nodes.iter().for_each(|node| secrets.hide_credentials_of(node));
        let waits = (0..session.waits()).map(|_| Waiting::Idle).collect();
        V2 { session, max_response, secrets, user: None, wanted: None, request: Reading::Idle, waits }
    }

    /// Passes an event to the session, and performs its actions.
    fn dispatch(&mut self, event: Event, now: Instant, out: &mut Vec<Output>) {
        let mut actions = Vec::new();
        self.session.on(event, now, &mut actions);
        for action in actions {
            match action {
                Action::Ask(request) => {
                    // The files are read for every request, so that a new password counts at once.
                    self.wanted = Some(request);
                    out.push(Output::ReadCredentials);
                }
                Action::Abort => self.abort(out),
                Action::Close => (0..self.waits.len()).for_each(|wait| self.drop_wait(wait, out)),
                Action::Drop(wait) => self.drop_wait(wait, out),
                Action::Emit(output) => out.push(output),
            }
        }
    }

    /// Cancels the pending request, which may be a wait without a head.
    fn abort(&mut self, out: &mut Vec<Output>) {
        (self.wanted, self.request) = (None, Reading::Idle);
        out.push(Output::Cancel(REQUEST));
        for wait in 0..self.waits.len() {
            if let Waiting::Opening | Waiting::Refusal(_) = self.waits[wait] {
                self.drop_wait(wait, out);
            }
        }
    }

    fn drop_wait(&mut self, wait: usize, out: &mut Vec<Output>) {
        self.waits[wait] = Waiting::Idle;
        out.push(Output::Cancel(call_of(wait)));
    }

    fn credentials(&mut self, credentials: Result<Option<Credentials>, String>, now: Instant, out: &mut Vec<Output>) {
        let Some(Request { kind, target }) = self.wanted.take() else { return };
        let mut request = protocol::Request::get(target);
        self.user = None;
        match credentials {
            Err(words) => return self.dispatch(Event::Broken(words), now, out),
            // The URL of the node may name a user.
            Ok(None) => {}
            Ok(Some(Credentials { user, password })) => {
                self.secrets.hide("password", password.reveal());
                let pair = BASE64_STANDARD.encode(format!("{}:{}", user.reveal(), password.reveal()));
                request = request.with_header("Authorization", &format!("Basic {pair}"));
                self.user = Some(user.reveal().to_owned());
            }
        }
        match kind {
            RequestKind::Read | RequestKind::Probe => {
                self.request = Reading::Asked(kind);
                out.push(Output::Begin(REQUEST, request));
            }
            RequestKind::Wait(wait) => {
                self.waits[wait] = Waiting::Opening;
                out.push(Output::Begin(call_of(wait), request.streamed()));
            }
        }
    }

    fn head(&mut self, call: CallId, answer: protocol::Head<'_>, now: Instant, out: &mut Vec<Output>) {
        let status = answer.status;
        let head = Head::new(answer.header(wire::CLUSTER), answer.header(wire::INDEX));
        let refused = |kind| Refused { kind, head, status, body: Vec::new() };
        let Some(wait) = wait_of(call) else {
            let Reading::Asked(kind) = self.request else { return };
            self.request = match (status, head) {
                (200, Some(head)) => Reading::Keys { kind, head, reader: KeysReader::default() },
                (200, None) => {
                    self.abort(out);
                    return self.dispatch(no_head(), now, out);
                }
                _ => Reading::Refusal(refused(kind)),
            };
            return;
        };
        if !matches!(self.waits.get(wait), Some(Waiting::Opening)) {
            return;
        }
        match (status, head) {
            (200, Some(head)) => {
                self.waits[wait] = Waiting::Open(Lines::new(self.max_response), Json::many());
                self.dispatch(Event::Opened { wait, head }, now, out);
            }
            (200, None) => {
                self.drop_wait(wait, out);
                self.dispatch(no_head(), now, out);
            }
            _ => self.waits[wait] = Waiting::Refusal(refused(RequestKind::Wait(wait))),
        }
    }

    fn body(&mut self, call: CallId, piece: &[u8], now: Instant, out: &mut Vec<Output>) {
        let Some(wait) = wait_of(call) else {
            return match &mut self.request {
                Reading::Keys { kind, reader, .. } => {
                    let (kind, session) = (*kind, &mut self.session);
                    let read = reader.push(piece, &mut |entry| match kind {
                        RequestKind::Read => session.entry(entry),
                        RequestKind::Probe | RequestKind::Wait(_) => Ok(()),
                    });
                    if let Err(error) = read {
                        self.abort(out);
                        self.dispatch(unreadable(error), now, out);
                    }
                }
                Reading::Refusal(refused) => append_beginning(&mut refused.body, piece),
                Reading::Idle | Reading::Asked(_) => {}
            };
        };
        match self.waits.get_mut(wait) {
            Some(Waiting::Open(lines, json)) => {
                let mut over = None;
                let (length, wrong) = json.push(piece);
                let pushed = lines.push(&piece[..length], &mut |line| {
                    over = change_of(wait, line);
                    over.is_none()
                });
                match (pushed, wrong) {
                    (Err(TooLong(bytes)), _) => {
                        over = Some(Event::Unusable(format!("answer is longer than {bytes} bytes")));
                    }
                    // The wait ends here, before more of it fills memory.
                    (Ok(()), Some(why)) if over.is_none() => {
                        over = Some(Event::Unusable(Unreadable::Nonsense(why.to_string()).of(NAME)));
                    }
                    (Ok(()), _) => {}
                }
                if let Some(event) = over {
                    self.waits[wait] = Waiting::Complete(event);
                }
            }
            Some(Waiting::Refusal(refused)) => append_beginning(&mut refused.body, piece),
            _ => {}
        }
    }

    fn end(&mut self, call: CallId, now: Instant, out: &mut Vec<Output>) {
        let Some(wait) = wait_of(call) else {
            let event = match std::mem::replace(&mut self.request, Reading::Idle) {
                Reading::Keys { kind, head, reader } => {
                    let session = &mut self.session;
                    let read = reader.end(&mut |entry| match kind {
                        RequestKind::Read => session.entry(entry),
                        RequestKind::Probe | RequestKind::Wait(_) => Ok(()),
                    });
                    match (read, kind) {
                        (Ok(()), RequestKind::Probe) => Event::Probed(head),
                        (Ok(()), RequestKind::Read | RequestKind::Wait(_)) => Event::Read(head),
                        (Err(error), _) => unreadable(error),
                    }
                }
                Reading::Refusal(refused) => self.refused(refused),
                Reading::Idle | Reading::Asked(_) => return,
            };
            return self.dispatch(event, now, out);
        };
        let Some(waiting) = self.waits.get_mut(wait) else { return };
        match std::mem::replace(waiting, Waiting::Idle) {
            Waiting::Open(lines, _) => {
                let last = lines.end().and_then(|line| change_of(wait, &line));
                self.waits[wait] = Waiting::Complete(last.unwrap_or(Event::Ended { wait, whole: true }));
            }
            Waiting::Refusal(refused) => {
                let event = self.refused(refused);
                self.dispatch(event, now, out);
            }
            over @ Waiting::Complete(_) => self.waits[wait] = over,
            Waiting::Idle | Waiting::Opening => {}
        }
    }

    fn failed(&mut self, call: CallId, failure: Failure, now: Instant, out: &mut Vec<Output>) {
        let Failure { kind, words } = failure;
        let Some(wait) = wait_of(call) else {
            return match &self.request {
                // The status of a refusal is enough for the error, even if its body is incomplete.
                Reading::Refusal(_) => self.end(call, now, out),
                Reading::Idle | Reading::Asked(_) | Reading::Keys { .. } => {
                    self.request = Reading::Idle;
                    self.dispatch(Event::Broken(words), now, out);
                }
            };
        };
        let event = match self.waits.get(wait) {
            Some(Waiting::Open(..)) => match kind {
                FailureKind::Closed => Event::Ended { wait, whole: false },
                FailureKind::TooLarge => Event::Unusable(words),
                FailureKind::Stale | FailureKind::TimedOut | FailureKind::Unusable | FailureKind::Other => {
                    Event::WaitBroken { wait, words }
                }
            },
            Some(Waiting::Refusal(_)) => return self.end(call, now, out),
            Some(Waiting::Opening) => {
                self.waits[wait] = Waiting::Idle;
                return self.dispatch(Event::Broken(words), now, out);
            }
            Some(Waiting::Idle | Waiting::Complete(_)) | None => return,
        };
        self.waits[wait] = Waiting::Complete(event);
    }

    fn refused(&self, refused: Refused) -> Event {
        let Refused { kind, head, status, body } = refused;
        let refusal = wire::refusal(status, &body, &self.secrets);
        match (kind, &refusal, head) {
            (RequestKind::Probe, Refusal { kind: RefusalKind::Missing, .. }, Some(head)) => Event::Probed(head),
            _ => Event::Refused { refusal, user: self.user.clone() },
        }
    }

    /// Passes the answers of the waits to the session while it listens.
    fn deliver(&mut self, now: Instant, out: &mut Vec<Output>) {
        for wait in 0..self.waits.len() {
            if !self.session.listens() {
                return;
            }
            if let Waiting::Complete(_) = self.waits[wait]
                && let Waiting::Complete(event) = std::mem::replace(&mut self.waits[wait], Waiting::Idle)
            {
                // The end of the answer has mostly arrived, and then the connection is kept.
                out.push(Output::Cancel(call_of(wait)));
                self.dispatch(event, now, out);
            }
        }
    }
}

fn call_of(wait: usize) -> CallId {
    CallId(wait + 1)
}

fn wait_of(call: CallId) -> Option<usize> {
    call.0.checked_sub(1)
}

/// The event that a line of a wait's answer means; `None` for an empty line.
fn change_of(wait: usize, line: &[u8]) -> Option<Event> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    Some(match wire::read_event(line) {
        Ok(event) => Event::Changed { wait, event },
        Err(error) => Event::Unusable(error.of(NAME)),
    })
}

fn unreadable(error: Unreadable) -> Event {
    match error {
        Unreadable::TooMany(words) => Event::TooMany(words),
        Unreadable::Nonsense(_) => Event::Broken(error.of(NAME)),
    }
}

fn no_head() -> Event {
    Event::Broken(format!("not an answer of etcd: no {} or {}", wire::INDEX, wire::CLUSTER))
}

impl Subscribers for V2 {
    fn waiting(&self) -> Vec<Id> {
        self.session.waiting()
    }

    fn give_up(&mut self) {
        self.session.give_up();
    }

    fn use_node(&mut self, name: &str) {
        (self.wanted, self.request) = (None, Reading::Idle);
        self.waits.fill_with(|| Waiting::Idle);
        self.session.use_node(name);
    }
}

impl Protocol for V2 {
    /// The only resource is known from the start.
    fn add(&mut self, _id: Id, _options: &config::Backend, _out: &mut Vec<Output>) {}

    fn remove(&mut self, _id: Id, _out: &mut Vec<Output>) {}

    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        match input {
            Input::Turn => self.dispatch(Event::Turn, now, out),
            Input::Head(call, head) => self.head(call, head, now, out),
            Input::Body(call, piece) => self.body(call, piece, now, out),
            Input::End(call) => self.end(call, now, out),
            Input::Failed(call, failure) => self.failed(call, failure, now, out),
            Input::Credentials(credentials) => self.credentials(credentials, now, out),
            // This protocol uses HTTP only.
            Input::Connected(_) => {}
            Input::Quiet => {
                self.deliver(now, out);
                self.dispatch(Event::Quiet, now, out);
            }
        }
    }

    fn headers(&self) -> &'static [&'static str] {
        &[wire::CLUSTER, wire::INDEX]
    }

    fn due(&self) -> Option<Instant> {
        self.session.due()
    }

    fn revision(&self, _id: Id) -> Option<u64> {
        self.session.revision()
    }
}

#[cfg(test)]
mod tests;
