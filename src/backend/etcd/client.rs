//! Does what the session decides: requests and the stream, over `host::http`, for all resources that share an etcd.
//! Decides nothing. Each resource holds a handle: one of them drives, the others find their reports in a queue.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Instant;

use super::session::{Action, Event, Id, Request, RequestKind, Session, Tail};
use super::subscription::Wanted;
use super::{NAME, wire};
use crate::backend::redact::Redactor;
use crate::backend::{Backend, Report};
use crate::config::{Login, Secret};
use crate::host::http::{self, Answer, Cause, Line, Socket, Stream};
use crate::host::read;
use crate::log;

/// Lines of a stream that one turn takes, so that a busy etcd does not keep the loop.
const LINES: usize = 1000;

/// Bytes of the answer to a login. A token of JSON Web Tokens has some hundred.
const LONGEST_TOKEN: u64 = 64 * 1024;

/// The connections to one etcd.
pub struct Client {
    http: http::Client,
    /// URLs without a slash at the end.
    nodes: Vec<String>,
    login: Option<Login>,
    token: Option<Secret>,
    /// What no error shows.
    secrets: Redactor,
    session: Session,
    stream: Option<Stream>,
    /// The last turn left lines in the stream: no descriptor tells of them.
    left_lines: bool,
    turned: Instant,
    /// Who shows the stream and takes the turns of all: the first one that gets a turn itself, for as long as it is there.
    driver: Option<Id>,
    queues: BTreeMap<Id, Queue>,
}

/// What a resource was not told yet.
#[derive(Default)]
struct Queue {
    reports: Vec<Report>,
    /// Since when it waits for being told.
    since: Option<Instant>,
}

impl Queue {
    /// Adds a report. A resource may get no turns for long: what a later report makes needless goes.
    fn push(&mut self, report: Report) {
        match (self.reports.last_mut(), report) {
            (Some(Report::Changes { changes, trigger }), Report::Changes { changes: more, trigger: also }) => {
                changes.extend(more);
                *trigger |= also;
            }
            (_, Report::Snapshot(layer)) => {
                self.reports.retain(|old| !matches!(old, Report::Snapshot(_) | Report::Changes { .. }));
                self.reports.push(Report::Snapshot(layer));
            }
            (_, report) => self.reports.push(report),
        }
    }
}

impl Client {
    pub fn new(http: http::Client, nodes: Vec<String>, login: Option<Login>, session: Session, now: Instant) -> Client {
        Client {
            http,
            nodes,
            login,
            token: None,
            secrets: Redactor::default(),
            session,
            stream: None,
            left_lines: false,
            turned: now,
            driver: None,
            queues: BTreeMap::new(),
        }
    }

    /// The moment of the next turn, apart from the stream.
    fn due(&self) -> Option<Instant> {
        if self.left_lines && self.session.listens() { Some(self.turned) } else { self.session.due() }
    }

    fn turn(&mut self, now: Instant) {
        self.turned = now;
        if self.stream.is_some() {
            self.listen(now);
        }
        let Some(request) = self.tell(Event::Turn, now) else {
            return;
        };
        let Some(event) = self.ask(request) else { return };
        // The answer took its time.
        let now = Instant::now();
        self.tell(event, now);
        self.listen(now);
    }

    /// Tells the session what happened, and does what it wants but the request.
    fn tell(&mut self, event: Event, now: Instant) -> Option<Request> {
        let mut actions = Vec::new();
        self.session.on(event, now, &mut actions);
        self.perform(actions)
    }

    fn perform(&mut self, actions: Vec<Action>) -> Option<Request> {
        let mut wanted = None;
        for action in actions {
            match action {
                Action::Ask(request) => wanted = Some(request),
                Action::Close => self.stream = None,
                Action::Report(id, report) => self.queues.entry(id).or_default().push(report),
            }
        }
        wanted
    }

    /// Makes a request and waits for its answer. `None`: the loop wants to end.
    fn ask(&mut self, request: Request) -> Option<Event> {
        let node = self.nodes[request.node].clone();
        let event = match request.kind {
            RequestKind::Login => self.log_in(&format!("{node}{}", wire::AUTHENTICATE)),
            RequestKind::Range => {
                let answer =
                    self.http.post(&format!("{node}{}", wire::RANGE), &self.headers(), request.body.as_bytes());
                answer.map_or_else(|error| broken(&error.cause), |answer| self.page(answer))
            }
            RequestKind::Watch => {
                let url = format!("{node}{}", wire::WATCH);
                match self.http.stream(&url, &self.headers(), Some(request.body.as_bytes())) {
                    Ok(Ok(stream)) => {
                        self.stream = Some(stream);
                        Event::Opened
                    }
                    Ok(Err(mut answer)) => Event::Refused(refusal(wire::WATCH, &mut answer, &self.secrets)),
                    Err(error) => broken(&error.cause),
                }
            }
        };
        (!self.http.aborted()).then_some(event)
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let token = self.token.iter().map(|token| (wire::TOKEN, token.reveal()));
        wire::HEADERS.iter().copied().chain(token).collect()
    }

    fn log_in(&mut self, url: &str) -> Event {
        self.token = None;
        let Some(login) = &self.login else {
            return Event::NoCredentials("there is nobody to log in".into());
        };
        match token(&self.http, url, login, &mut self.secrets) {
            Ok((user, token)) => {
                self.token = Some(token);
                Event::LoggedIn { user }
            }
            Err(no_token) => no_token.into(),
        }
    }

    fn page(&mut self, mut answer: Answer) -> Event {
        if answer.status != 200 {
            return Event::Refused(refusal(wire::RANGE, &mut answer, &self.secrets));
        }
        match wire::read_page(answer, &mut |entry| self.session.entry(entry)) {
            Ok(page) => Event::Page(page),
            Err(error) => {
                let tail = match &error {
                    wire::Unreadable::Cut(error) => tail(Cause::of_reading(error)),
                    wire::Unreadable::TooMany(_) => Tail::TooMany,
                    wire::Unreadable::Nonsense(_) => Tail::Fetchable,
                };
                Event::Broken { words: error.to_string(), tail }
            }
        }
    }

    /// Takes what has come on the stream.
    fn listen(&mut self, now: Instant) {
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
                Line::Whole(line) => match wire::read_message(line, &self.secrets) {
                    Ok(message) => Event::Message(message),
                    Err(error) => Event::Broken { words: error.to_string(), tail: Tail::Fetchable },
                },
                Line::NothingYet => break,
                Line::Ended(cause) => broken(&cause),
            };
            // Only a turn makes requests.
            self.tell(event, now);
        }
        self.tell(Event::Quiet, now);
    }

    /// Makes those due whose reports wait for them.
    fn wake_others(&mut self) {
        let now = self.turned;
        for queue in self.queues.values_mut().filter(|queue| !queue.reports.is_empty()) {
            queue.since.get_or_insert(now);
        }
    }
}

/// Why there is no token.
pub enum NoToken {
    Refused {
        user: String,
        refusal: wire::Refusal,
    },
    /// Name or password could not be read: why, in words.
    NoCredentials(String),
    Broken {
        words: String,
        tail: Tail,
    },
}

impl From<NoToken> for Event {
    fn from(no: NoToken) -> Event {
        match no {
            NoToken::Refused { user, refusal } => Event::LoginRefused { user, refusal },
            NoToken::NoCredentials(words) => Event::NoCredentials(words),
            NoToken::Broken { words, tail } => Event::Broken { words, tail },
        }
    }
}

/// Gets a token for name and password as they are now, with who it is for. Adds both secrets to those that are hidden.
pub fn token(
    http: &http::Client,
    url: &str,
    login: &Login,
    secrets: &mut Redactor,
) -> Result<(String, Secret), NoToken> {
    let credentials = read::credential(&login.username).and_then(|user| Ok((user, read::credential(&login.password)?)));
    let (user, password) = credentials.map_err(NoToken::NoCredentials)?;
    let user = user.reveal().to_owned();
    // Something between us and etcd may quote what it was sent.
    secrets.hide("password", password.reveal());
    let body = wire::login(&user, password.reveal());
    let mut answer = http
        .post(url, wire::HEADERS, body.as_bytes())
        .map_err(|error| NoToken::Broken { words: error.cause.to_string(), tail: tail(Some(&error.cause)) })?;
    if answer.status != 200 {
        let refusal = refusal(wire::AUTHENTICATE, &mut answer, secrets);
        return Err(NoToken::Refused { user, refusal });
    }
    let broken = |words: String| NoToken::Broken { words, tail: Tail::Fetchable };
    let mut text = Vec::new();
    answer.take(LONGEST_TOKEN).read_to_end(&mut text).map_err(|error| broken(error.to_string()))?;
    let token = wire::read_token(&text).map_err(|error| broken(error.to_string()))?;
    secrets.hide("token", &token);
    Ok((user, Secret::new(token)))
}

fn refusal(path: &str, answer: &mut Answer, secrets: &Redactor) -> wire::Refusal {
    wire::refusal(answer.status, path, &answer.beginning(), secrets)
}

fn broken(cause: &Cause) -> Event {
    Event::Broken { words: cause.to_string(), tail: tail(Some(cause)) }
}

fn tail(cause: Option<&Cause>) -> Tail {
    match cause {
        Some(Cause::TooLong { .. }) => Tail::TooLong,
        Some(Cause::Late { .. }) => Tail::Late,
        Some(Cause::Aborted | Cause::Closed | Cause::Ended | Cause::Other(_)) | None => Tail::Fetchable,
    }
}

/// A resource's part of a client.
pub struct Handle {
    client: Rc<RefCell<Client>>,
    id: Id,
    /// Of the stream, while this handle drives and the stream is to be read.
    socket: Option<Socket>,
}

impl Handle {
    pub fn new(client: Rc<RefCell<Client>>, wanted: Wanted) -> Handle {
        let mut actions = Vec::new();
        let mut shared = client.borrow_mut();
        let id = shared.session.add(wanted, &mut actions);
        // Whoever is new gets a turn anyway; the request is made by who drives.
        shared.perform(actions);
        drop(shared);
        Handle { client, id, socket: None }
    }
}

impl Backend for Handle {
    fn name(&self) -> &'static str {
        NAME
    }

    fn fds<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        out.extend(self.socket.as_ref().map(AsFd::as_fd));
    }

    fn due(&self) -> Option<Instant> {
        let client = self.client.borrow();
        let told = client.queues.get(&self.id).and_then(|queue| queue.since);
        let driven = if client.driver == Some(self.id) { client.due() } else { None };
        told.into_iter().chain(driven).min()
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<Report>) {
        let mut client = self.client.borrow_mut();
        self.socket = None;
        let drives = *client.driver.get_or_insert(self.id) == self.id;
        if drives {
            client.turn(now);
        }
        out.append(&mut client.queues.remove(&self.id).unwrap_or_default().reports);
        if drives {
            client.wake_others();
            self.socket = client.stream.as_ref().filter(|_| client.session.listens()).map(Stream::socket);
        }
    }

    fn close(&mut self, out: &mut Vec<Report>) {
        out.push(Report::Log(log::Line::new(log::Level::Debug, "closing client connection").with("backend", NAME)));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut client = self.client.borrow_mut();
        let mut actions = Vec::new();
        client.session.remove(self.id, &mut actions);
        client.perform(actions);
        client.queues.remove(&self.id);
        if client.driver == Some(self.id) {
            client.driver = None;
            // One of the others is to drive. A resource may not get turns for now: whoever does will.
            let since = client.turned;
            for id in client.session.ids() {
                client.queues.entry(id).or_default().since.get_or_insert(since);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Change;
    use crate::store::Layer;

    #[test]
    fn what_waits_for_its_turn_is_no_more_than_needed() {
        let changes = |key: &[u8], trigger| Report::Changes { changes: vec![Change::Delete(key.into())], trigger };
        let mut queue = Queue::default();
        queue.push(changes(b"/a", false));
        queue.push(Report::Failed("cut".into()));
        queue.push(Report::Snapshot(Layer::new()));
        queue.push(changes(b"/b", true));
        queue.push(changes(b"/c", false));
        let [Report::Failed(_), Report::Snapshot(_), Report::Changes { changes, trigger: true }] = &queue.reports[..]
        else {
            panic!("what is needed");
        };
        assert_eq!(changes.len(), 2);
    }
}
