//! The protocol of an etcd whose version the configuration does not say. Sends the questions of `discovery` to a node,
//! logs in to version 3 if a user is configured, and replaces itself by the protocol of the version that was found.
//! Does not choose the version.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::NAME;
use super::discovery::{Answer, Certainty, Discovery, Question, Step};
use super::login::{Login, NoToken};
use super::mirror::{Comparing, Mirror};
use super::request::{append_beginning, with_headers};
use super::v2::{self, wire as v2_wire};
use super::wire::{self, PageReader, Reason, Refusal};
use crate::backend::Report;
use crate::backend::failover::SLOW_RETRY;
use crate::backend::protocol::{CallId, Credentials, Failure, Id, Input, Output, Protocol, Request, Subscribers};
use crate::backend::redact::Redactor;
use crate::backend::unreadable::Unreadable;
use crate::config::{self, EtcdVersion, Kind, Secret};
use crate::log::{Level, Line};

/// One call at a time.
const CALL: CallId = CallId(0);

/// One resource whose version is being found.
pub struct Unversioned {
    id: Id,
    options: config::Backend,
    has_login: bool,
    /// The current node, as the log shows it.
    node: String,
    attempt: Discovery,
    login: Login,
    /// The token of version 3 in this attempt.
    token: Token,
    /// Version 3 refused the login in this attempt. Version 2 has its own users, so it is tried too.
    locked_out: Option<String>,
    secrets: Redactor,
    stage: Stage,
    random: fn(u64) -> u64,
    now: Instant,
}

enum Token {
    Wanted,
    Got(Secret),
    /// Authentication is disabled in this etcd, or no login is configured.
    Needless,
}

enum Stage {
    /// The next turn sends a request.
    Ready,
    /// Name and password for this question are being read.
    Preparing(Question),
    LoggingIn(Question),
    Asking(Question, Reading),
    /// A version was found, or the time limit has passed.
    Done,
}

enum Reading {
    /// The head has not arrived.
    Asked,
    Page(Box<PageReader>),
    Keys(Box<v2_wire::KeysReader>),
    Refusal {
        status: u16,
        body: Vec<u8>,
    },
}

/// Why a question has no answer.
enum Unanswered {
    /// Another node may answer.
    Node(String),
    /// Authentication failed.
    Login(String),
}

impl Unversioned {
    /// `nodes` are the URLs, whose credentials are hidden from errors.
    pub fn new(
        id: Id,
        options: config::Backend,
        nodes: &[String],
        has_login: bool,
        random: fn(u64) -> u64,
        now: Instant,
    ) -> Unversioned {
        let mut secrets = Redactor::default();
        nodes.iter().for_each(|node| secrets.hide_credentials_of(node));
        Unversioned {
            id,
            has_login,
            node: String::new(),
            attempt: attempt(&options),
            login: Login::default(),
            token: if has_login { Token::Wanted } else { Token::Needless },
            locked_out: None,
            secrets,
            stage: Stage::Ready,
            random,
            now,
            options,
        }
    }

    /// Performs the next step of the attempt.
    fn step(&mut self, answer: Option<Answer>, out: &mut Vec<Output>) {
        match self.attempt.step(answer) {
            Step::Ask(question) => self.ask(question, out),
            Step::Take(version, certainty) => self.take(version, certainty, out),
            Step::Fail(words) => self.failed(Unanswered::Node(words), out),
        }
    }

    fn ask(&mut self, question: Question, out: &mut Vec<Output>) {
        let needs_user = match question {
            Question::Range(_) => matches!(self.token, Token::Wanted),
            Question::Look(_) => self.has_login,
        };
        if needs_user {
            self.stage = Stage::Preparing(question);
            out.push(Output::ReadCredentials);
            return;
        }
        let request = match &question {
            Question::Range(body) => {
                let token =
                    if let Token::Got(token) = &self.token { Some((wire::TOKEN, token.reveal())) } else { None };
                with_headers(Request::post(wire::RANGE, body.clone()), token.into_iter())
            }
            Question::Look(target) => Request::get(target.clone()),
        };
        self.begin(question, request, out);
    }

    fn begin(&mut self, question: Question, request: Request, out: &mut Vec<Output>) {
        self.stage = Stage::Asking(question, Reading::Asked);
        out.push(Output::Begin(CALL, request));
    }

    fn credentials(&mut self, credentials: Result<Option<Credentials>, String>, out: &mut Vec<Output>) {
        let Stage::Preparing(question) = std::mem::replace(&mut self.stage, Stage::Ready) else { return };
        match &question {
            Question::Range(_) => match self.login.request(credentials, &mut self.secrets) {
                Ok(request) => {
                    self.stage = Stage::LoggingIn(question);
                    out.push(Output::Begin(CALL, request));
                }
                Err(words) => self.failed(Unanswered::Login(format!("failed to log in: {words}")), out),
            },
            Question::Look(target) => {
                let mut request = Request::get(target.clone());
                match credentials {
                    Err(words) => return self.failed(Unanswered::Node(words), out),
                    Ok(None) => {}
                    Ok(Some(Credentials { user, password })) => {
                        self.secrets.hide("password", password.reveal());
                        let pair = BASE64_STANDARD.encode(format!("{}:{}", user.reveal(), password.reveal()));
                        request = request.with_header("Authorization", &format!("Basic {pair}"));
                    }
                }
                self.begin(question, request, out);
            }
        }
    }

    fn body(&mut self, piece: &[u8], out: &mut Vec<Output>) {
        let read = match &mut self.stage {
            Stage::LoggingIn(_) => return self.login.body(piece),
            Stage::Asking(_, Reading::Refusal { body, .. }) => return append_beginning(body, piece),
            Stage::Asking(_, Reading::Page(reader)) => reader.push(piece, &mut |_| Ok(())),
            Stage::Asking(_, Reading::Keys(reader)) => reader.push(piece, &mut |_| Ok(())),
            Stage::Asking(_, Reading::Asked) | Stage::Ready | Stage::Preparing(_) | Stage::Done => return,
        };
        if let Err(error) = read {
            self.failed(Unanswered::Node(error.of(NAME)), out);
        }
    }

    fn end(&mut self, out: &mut Vec<Output>) {
        let answered = match std::mem::replace(&mut self.stage, Stage::Ready) {
            Stage::LoggingIn(question) => match self.login.end(&mut self.secrets) {
                Ok(answered) => {
                    self.token = Token::Got(answered.token);
                    return self.ask(question, out);
                }
                Err(NoToken::Refused { refusal: Refusal { reason: Reason::NoUsers, .. }, .. }) => {
                    self.token = Token::Needless;
                    return self.ask(question, out);
                }
                Err(NoToken::Refused { user, refusal }) => self.login_refused(&user, refusal),
                Err(NoToken::Broken(words)) => Err(Unanswered::Node(words)),
            },
            Stage::Asking(question, reading) => self.answered(&question, reading),
            Stage::Ready | Stage::Preparing(_) | Stage::Done => return,
        };
        match answered {
            Ok(answer) => self.step(Some(answer), out),
            Err(cause) => self.failed(cause, out),
        }
    }

    fn answered(&mut self, question: &Question, reading: Reading) -> Result<Answer, Unanswered> {
        let node = |error: Unreadable| Unanswered::Node(error.of(NAME));
        match (question, reading) {
            (_, Reading::Page(reader)) => {
                let page = reader.end().map_err(node)?;
                Ok(if page.last.is_some() { Answer::Yes } else { Answer::No })
            }
            (_, Reading::Keys(reader)) => reader.end(&mut |_| Ok(())).map(|()| Answer::Yes).map_err(node),
            (Question::Range(_), Reading::Refusal { status, body }) => {
                answer_of(wire::refusal(status, wire::RANGE, &body, &self.secrets))
            }
            (Question::Look(_), Reading::Refusal { status, body }) => {
                let refusal = v2_wire::refusal(status, &body, &self.secrets);
                match refusal.kind {
                    v2_wire::RefusalKind::Missing => Ok(Answer::No),
                    v2_wire::RefusalKind::UnknownPath => Ok(Answer::Unknown),
                    v2_wire::RefusalKind::Denied => Ok(Answer::Refused(refusal.words)),
                    v2_wire::RefusalKind::Cleared | v2_wire::RefusalKind::Other => Err(Unanswered::Node(refusal.words)),
                }
            }
            (_, Reading::Asked) => Err(Unanswered::Node("an answer without a head".to_owned())),
        }
    }

    fn login_refused(&mut self, user: &str, refusal: Refusal) -> Result<Answer, Unanswered> {
        match refusal.reason {
            Reason::Unauthenticated | Reason::Denied => {
                let node = &self.node;
                self.locked_out = Some(format!("failed to log in to {node} as user {user}: {}", refusal.words));
                Ok(Answer::Refused(refusal.words))
            }
            Reason::UnknownPath | Reason::NoUsers | Reason::RevisionGone | Reason::Other => answer_of(refusal),
        }
    }

    fn failed(&mut self, cause: Unanswered, out: &mut Vec<Output>) {
        let node = &self.node;
        // The failed login is reported even if something else failed later, because the user can correct it.
        let (words, not_before) = match self.locked_out.take().map_or(cause, Unanswered::Login) {
            Unanswered::Node(words) => (format!("failed to find out the version of {node}: {words}"), None),
            // Each attempt costs etcd a hash of the password, and an early retry would fail again.
            Unanswered::Login(words) => {
                out.push(Output::FailFast);
                let longer = u64::try_from((SLOW_RETRY * 2).as_micros()).unwrap_or(u64::MAX);
                (words, Some(self.now + SLOW_RETRY + Duration::from_micros((self.random)(longer))))
            }
        };
        self.attempt = attempt(&self.options);
        self.token = if self.has_login { Token::Wanted } else { Token::Needless };
        self.stage = Stage::Ready;
        out.push(Output::NodeFailed { words, not_before });
    }

    fn take(&mut self, version: EtcdVersion, certainty: Certainty, out: &mut Vec<Output>) {
        self.stage = Stage::Done;
        if certainty == Certainty::Default {
            let text = "no key was found in version 3 or 2 of etcd, taking 3: set `version`";
            let line = Line::new(Level::Warn, text).with("backend", NAME);
            out.push(Output::Report(self.id, Report::Log(line)));
        }
        let mut options = self.options.clone();
        if let Kind::Etcd(etcd) = &mut options.kind {
            etcd.version = Some(version);
        }
        out.push(Output::Replace(Box::new(options)));
    }
}

/// The answer that a refusal of version 3 means.
fn answer_of(refusal: Refusal) -> Result<Answer, Unanswered> {
    match refusal.reason {
        Reason::UnknownPath => Ok(Answer::Unknown),
        Reason::Unauthenticated | Reason::Denied | Reason::NoUsers => Ok(Answer::Refused(refusal.words)),
        Reason::RevisionGone | Reason::Other => Err(Unanswered::Node(refusal.words)),
    }
}

fn attempt(options: &config::Backend) -> Discovery {
    let spans = Mirror::new(&options.prefix, &options.keys, &[], Comparing::No).spans();
    Discovery::new(&spans, &v2::paths(options))
}

impl Subscribers for Unversioned {
    fn waiting(&self) -> Vec<Id> {
        if let Stage::Done = self.stage { Vec::new() } else { vec![self.id] }
    }

    fn give_up(&mut self) {
        self.stage = Stage::Done;
    }

    fn use_node(&mut self, name: &str) {
        self.node = name.to_owned();
    }
}

impl Protocol for Unversioned {
    /// The only resource is known from the start.
    fn add(&mut self, _id: Id, _options: &config::Backend, _out: &mut Vec<Output>) {}

    fn remove(&mut self, _id: Id, _out: &mut Vec<Output>) {}

    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        self.now = now;
        match input {
            Input::Turn => {
                if let Stage::Ready = self.stage {
                    self.step(None, out);
                }
            }
            Input::Head(_, head) => match (&mut self.stage, head.status) {
                (Stage::LoggingIn(_), status) => self.login.head(status),
                (Stage::Asking(Question::Range(_), reading), 200) => *reading = Reading::Page(Box::default()),
                (Stage::Asking(Question::Look(_), reading), 200) => *reading = Reading::Keys(Default::default()),
                (Stage::Asking(_, reading), status) => *reading = Reading::Refusal { status, body: Vec::new() },
                (Stage::Ready | Stage::Preparing(_) | Stage::Done, _) => {}
            },
            Input::Body(_, piece) => self.body(piece, out),
            Input::End(_) => self.end(out),
            Input::Failed(_, Failure { words, .. }) => match &self.stage {
                // The status of a refusal is enough for the error, even if its body is incomplete.
                Stage::Asking(_, Reading::Refusal { .. }) => self.end(out),
                Stage::LoggingIn(_) if self.login.is_refused() => self.end(out),
                Stage::Ready | Stage::Done => {}
                Stage::Preparing(_) | Stage::LoggingIn(_) | Stage::Asking(..) => {
                    self.failed(Unanswered::Node(words), out);
                }
            },
            Input::Credentials(credentials) => self.credentials(credentials, out),
            Input::Connected(_) | Input::Quiet => {}
        }
    }

    fn due(&self) -> Option<Instant> {
        if let Stage::Ready = self.stage { Some(self.now) } else { None }
    }
}
