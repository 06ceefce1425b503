//! The protocol of etcd version 3: converts bytes of answers to events for `session`, and its actions to requests.
//! Keeps the token and the secrets that errors must not show. Decides nothing.

use std::time::Instant;

use super::NAME;
use super::login::{Answered, Login, NoToken};
use super::mirror::{Comparing, Mirror};
use super::request::{append_beginning, with_headers};
use super::session::{Action, Event, Request, RequestKind, Resume, Session};
use super::subscription::{Goal, Wanted};
use super::wire::{self, PageReader};
use crate::backend::json::Json;
use crate::backend::lines::{Lines, TooLong};
use crate::backend::protocol::{self, CallId, Failure, FailureKind, Head, Id, Input, Output, Protocol, Subscribers};
use crate::backend::redact::Redactor;
use crate::backend::unreadable::Unreadable;
use crate::backend::{Mode, interval, watches};
use crate::config::{self, ReadLimits, Secret};

/// The one request that may be pending beside the stream.
const REQUEST: CallId = CallId(0);
const STREAM: CallId = CallId(1);

/// An etcd of version 3.
pub struct V3 {
    session: Session,
    mode: Mode,
    limits: ReadLimits,
    max_response: usize,
    token: Option<Secret>,
    login: Login,
    /// The texts that errors must not show.
    secrets: Redactor,
    request: Reading,
    stream: Streaming,
}

/// The answer of the pending request.
enum Reading {
    Idle,
    Login,
    /// The head has not arrived.
    Range,
    Page(Box<PageReader>),
    Refusal {
        status: u16,
        body: Vec<u8>,
    },
}

enum Streaming {
    Idle,
    /// The head has not arrived.
    Opening,
    Open(Lines, Json),
    Refusal {
        status: u16,
        body: Vec<u8>,
    },
}

impl V3 {
    /// A protocol without a token and without requests. The limits of a read and of an answer come from `etcd`.
    pub fn new(session: Session, mode: Mode, etcd: &config::Etcd) -> V3 {
        V3 {
            session,
            mode,
            limits: etcd.network.read,
            max_response: etcd.network.max_response,
            token: None,
            login: Login::default(),
            secrets: Redactor::default(),
            request: Reading::Idle,
            stream: Streaming::Idle,
        }
    }

    /// Passes an event to the session, and performs its actions.
    fn dispatch(&mut self, event: Event, now: Instant, out: &mut Vec<Output>) {
        let mut actions = Vec::new();
        self.session.on(event, now, &mut actions);
        self.perform(actions, out);
    }

    fn perform(&mut self, actions: Vec<Action>, out: &mut Vec<Output>) {
        for action in actions {
            match action {
                Action::Ask(request) => self.ask(request, out),
                Action::Abort => {
                    self.request = Reading::Idle;
                    out.push(Output::Cancel(REQUEST));
                }
                Action::Close => {
                    self.stream = Streaming::Idle;
                    out.push(Output::Cancel(STREAM));
                }
                Action::Emit(output) => out.push(output),
            }
        }
    }

    fn ask(&mut self, request: Request, out: &mut Vec<Output>) {
        match request.kind {
            RequestKind::Login => {
                (self.token, self.request) = (None, Reading::Login);
                out.push(Output::ReadCredentials);
            }
            RequestKind::Range => {
                self.request = Reading::Range;
                out.push(Output::Begin(REQUEST, self.post(wire::RANGE, request.body)));
            }
            RequestKind::Watch => {
                self.stream = Streaming::Opening;
                let request = self.post(wire::WATCH, request.body).streamed();
                let (name, value) = wire::CLOSING;
                out.push(Output::Begin(STREAM, request.with_header(name, value)));
            }
        }
    }

    fn post(&self, path: &str, body: String) -> protocol::Request {
        let token = self.token.iter().map(|token| (wire::TOKEN, token.reveal()));
        with_headers(protocol::Request::post(path, body), token)
    }

    fn head(&mut self, call: CallId, head: Head<'_>, now: Instant, out: &mut Vec<Output>) {
        let (status, body) = (head.status, Vec::new());
        match (call, &self.request, &self.stream) {
            (REQUEST, Reading::Login, _) => self.login.head(status),
            (REQUEST, Reading::Range, _) => {
                self.request = match status {
                    200 => Reading::Page(Box::default()),
                    _ => Reading::Refusal { status, body },
                };
            }
            (STREAM, _, Streaming::Opening) if status == 200 => {
                self.stream = Streaming::Open(Lines::new(self.max_response), Json::many());
                self.dispatch(Event::Opened, now, out);
            }
            (STREAM, _, Streaming::Opening) => self.stream = Streaming::Refusal { status, body },
            _ => {}
        }
    }

    fn body(&mut self, call: CallId, piece: &[u8], now: Instant, out: &mut Vec<Output>) {
        match (call, &mut self.request, &mut self.stream) {
            (REQUEST, Reading::Login, _) => self.login.body(piece),
            (REQUEST, Reading::Page(reader), _) => {
                let session = &mut self.session;
                if let Err(error) = reader.push(piece, &mut |entry| session.entry(entry)) {
                    self.unreadable(error, now, out);
                }
            }
            (REQUEST, Reading::Refusal { body, .. }, _) | (STREAM, _, Streaming::Refusal { body, .. }) => {
                append_beginning(body, piece);
            }
            (STREAM, _, Streaming::Open(..)) => self.streamed(piece, now, out),
            _ => {}
        }
    }

    /// Ends a request whose page is unreadable.
    fn unreadable(&mut self, error: Unreadable, now: Instant, out: &mut Vec<Output>) {
        self.request = Reading::Idle;
        out.push(Output::Cancel(REQUEST));
        let resume = if matches!(error, Unreadable::TooMany(_)) { Resume::TooMany } else { Resume::Possible };
        self.dispatch(Event::Broken { words: error.of(NAME), resume }, now, out);
    }

    /// Takes a piece of the stream.
    fn streamed(&mut self, piece: &[u8], now: Instant, out: &mut Vec<Output>) {
        // The session may close the stream within a piece: the rest of the piece has no use.
        let Streaming::Open(mut lines, mut json) = std::mem::replace(&mut self.stream, Streaming::Idle) else { return };
        let mut closed = false;
        let (length, wrong) = json.push(piece);
        let pushed = lines.push(&piece[..length], &mut |line| {
            closed = !self.line(line, now, out);
            !closed
        });
        let (words, resume) = match (pushed, wrong) {
            _ if closed => return,
            (Ok(()), None) => {
                self.stream = Streaming::Open(lines, json);
                return;
            }
            // The stream ends here, before more of it fills memory.
            (Ok(()), Some(why)) => (Unreadable::Nonsense(why.to_string()).of(NAME), Resume::Possible),
            (Err(TooLong(bytes)), _) => (format!("answer is longer than {bytes} bytes"), Resume::TooLarge),
        };
        out.push(Output::Cancel(STREAM));
        self.dispatch(Event::StreamBroken { words, resume }, now, out);
    }

    /// Takes a line of the stream. Returns whether the stream stays open.
    fn line(&mut self, line: &[u8], now: Instant, out: &mut Vec<Output>) -> bool {
        if line.trim_ascii().is_empty() {
            return true;
        }
        let event = match wire::read_message(line, &self.secrets) {
            Ok(message) => Event::Message(message),
            Err(error) => Event::StreamBroken { words: error.of(NAME), resume: Resume::Possible },
        };
        let mut actions = Vec::new();
        self.session.on(event, now, &mut actions);
        let closes = actions.iter().any(|action| matches!(action, Action::Close));
        self.perform(actions, out);
        !closes
    }

    fn end(&mut self, call: CallId, now: Instant, out: &mut Vec<Output>) {
        if call == REQUEST {
            let event = match std::mem::replace(&mut self.request, Reading::Idle) {
                Reading::Login => match self.login.end(&mut self.secrets) {
                    Ok(Answered { user, token }) => {
                        self.token = Some(token);
                        Event::LoggedIn { user }
                    }
                    Err(NoToken::Refused { user, refusal }) => Event::LoginRefused { user, refusal },
                    Err(NoToken::Broken(words)) => Event::Broken { words, resume: Resume::Possible },
                },
                Reading::Page(reader) => match reader.end() {
                    Ok(page) => Event::Page(page),
                    Err(error) => Event::Broken { words: error.of(NAME), resume: Resume::Possible },
                },
                Reading::Refusal { status, body } => {
                    Event::Refused(wire::refusal(status, wire::RANGE, &body, &self.secrets))
                }
                Reading::Idle | Reading::Range => return,
            };
            return self.dispatch(event, now, out);
        }
        let resume = Resume::Possible;
        match std::mem::replace(&mut self.stream, Streaming::Idle) {
            Streaming::Refusal { status, body } => {
                let refusal = wire::refusal(status, wire::WATCH, &body, &self.secrets);
                self.dispatch(Event::Refused(refusal), now, out);
            }
            Streaming::Open(lines, _) => {
                // The last line has no newline, and mostly holds the reason of the end.
                let goes_on = lines.end().is_none_or(|line| self.line(&line, now, out));
                if goes_on {
                    let words = "connection closed by the server".to_owned();
                    self.dispatch(Event::StreamBroken { words, resume }, now, out);
                }
            }
            Streaming::Idle | Streaming::Opening => {}
        }
    }

    fn failed(&mut self, call: CallId, failure: Failure, now: Instant, out: &mut Vec<Output>) {
        let Failure { kind, words } = failure;
        let resume = match kind {
            FailureKind::TooLarge => Resume::TooLarge,
            FailureKind::TimedOut => Resume::TimedOut,
            FailureKind::Closed | FailureKind::Stale | FailureKind::Unusable | FailureKind::Other => Resume::Possible,
        };
        if call == REQUEST {
            return match &self.request {
                // The status of a refusal is enough for the error, even if its body is incomplete.
                Reading::Refusal { .. } => self.end(call, now, out),
                Reading::Login if self.login.is_refused() => self.end(call, now, out),
                Reading::Idle | Reading::Login | Reading::Range | Reading::Page(_) => {
                    self.request = Reading::Idle;
                    self.dispatch(Event::Broken { words, resume }, now, out);
                }
            };
        }
        let event = match std::mem::replace(&mut self.stream, Streaming::Idle) {
            Streaming::Open(..) => Event::StreamBroken { words, resume },
            Streaming::Refusal { status, body } => {
                Event::Refused(wire::refusal(status, wire::WATCH, &body, &self.secrets))
            }
            Streaming::Opening => Event::Broken { words, resume },
            Streaming::Idle => return,
        };
        self.dispatch(event, now, out);
    }
}

impl Subscribers for V3 {
    fn waiting(&self) -> Vec<Id> {
        self.session.waiting()
    }

    fn give_up(&mut self) {
        self.session.give_up();
    }

    fn use_node(&mut self, name: &str) {
        (self.request, self.stream) = (Reading::Idle, Streaming::Idle);
        self.session.use_node(name);
    }
}

impl Protocol for V3 {
    fn add(&mut self, id: Id, options: &config::Backend, out: &mut Vec<Output>) {
        let goal = match self.mode {
            Mode::OneShot => Goal::Once,
            Mode::Watch if watches(options, self.mode) => Goal::Watched,
            Mode::Watch => Goal::Kept,
        };
        let interval = interval(options, self.mode);
        let comparing = if goal == Goal::Watched && interval.is_some() { Comparing::Yes } else { Comparing::No };
        let mirror = Mirror::new(&options.prefix, &options.keys, &options.watch_keys, comparing);
        let wanted = Wanted { prefix: options.prefix.clone(), goal, interval, mirror, limits: self.limits };
        let mut actions = Vec::new();
        self.session.add(id, wanted, &mut actions);
        self.perform(actions, out);
    }

    fn remove(&mut self, id: Id, out: &mut Vec<Output>) {
        let mut actions = Vec::new();
        self.session.remove(id, &mut actions);
        self.perform(actions, out);
    }

    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        match input {
            Input::Turn => self.dispatch(Event::Turn, now, out),
            Input::Head(call, head) => self.head(call, head, now, out),
            Input::Body(call, piece) => self.body(call, piece, now, out),
            Input::End(call) => self.end(call, now, out),
            Input::Failed(call, failure) => self.failed(call, failure, now, out),
            Input::Credentials(credentials) => match self.login.request(credentials, &mut self.secrets) {
                Ok(request) => out.push(Output::Begin(REQUEST, request)),
                Err(words) => {
                    self.request = Reading::Idle;
                    self.dispatch(Event::NoCredentials(words), now, out);
                }
            },
            // This protocol uses HTTP only.
            Input::Connected(_) => {}
            Input::Quiet => self.dispatch(Event::Quiet, now, out),
        }
    }

    fn due(&self) -> Option<Instant> {
        self.session.due()
    }

    fn revision(&self, id: Id) -> Option<u64> {
        self.session.revision(id)
    }
}

#[cfg(test)]
mod tests;
