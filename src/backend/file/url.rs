//! The backend `file` for a URL, as a protocol: one YAML or JSON document that is read over HTTP, at the start and
//! every interval. It cannot be watched. `flatten` converts it to keys.

use std::time::{Duration, Instant};

use super::NAME;
use crate::backend::keys::Keys;
use crate::backend::polled::retrieving_keys;
use crate::backend::protocol::{CallId, Failure, Id, Input, Output, Protocol, Request, Subscribers};
use crate::backend::redact::Redactor;
use crate::backend::{Mode, Report, flatten, interval};
use crate::config::{self, File};
use crate::log::{Level, Line};
use crate::random::Random;

/// Go remco's time limit, from the connection to the last byte.
pub const TIMEOUT: Duration = Duration::from_secs(5);

const CALL: CallId = CallId(0);

/// One document.
pub struct Url {
    id: Id,
    file: File,
    /// The URL without credentials.
    shown: String,
    prefix: String,
    keys: Keys,
    interval: Option<Duration>,
    random: Random,
    state: State,
    /// The texts that errors must not show.
    secrets: Redactor,
}

enum State {
    /// Nothing was read yet.
    Start,
    Asked,
    Reading {
        status: u16,
        text: Vec<u8>,
    },
    /// When the next read is due; `None`: never.
    Idle(Option<Instant>),
}

impl Url {
    /// `shown`: the URL without credentials. The seed spreads reads over time.
    pub fn new(id: Id, options: &config::Backend, file: &File, shown: &str, mode: Mode, seed: u64) -> Url {
        let mut secrets = Redactor::default();
        secrets.hide_credentials_of(&file.filepath);
        file.httpheaders.values().for_each(|value| secrets.hide("header", value.reveal()));
        Url {
            id,
            file: file.clone(),
            shown: shown.to_owned(),
            prefix: options.prefix.clone(),
            keys: Keys::new(&options.prefix, &options.keys),
            interval: interval(options, mode),
            random: Random::new(seed),
            state: State::Start,
            secrets,
        }
    }

    fn ask(&mut self, out: &mut Vec<Output>) {
        self.state = State::Asked;
        out.push(Output::Report(self.id, Report::Log(retrieving_keys(NAME, &self.prefix))));
        let headers = self.file.httpheaders.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        out.push(Output::Begin(CALL, Request { headers, ..Request::get(String::new()) }));
    }

    fn end(&mut self, now: Instant, out: &mut Vec<Output>) {
        let State::Reading { status, text } = std::mem::replace(&mut self.state, State::Start) else { return };
        let shown = &self.shown;
        if !(200..300).contains(&status) {
            return self.failed(format!("failed to GET {shown}: the server answered with status {status}"), out);
        }
        match flatten::document(&text, &self.keys, self.file.read) {
            Ok(layer) => {
                let next = self.interval.and_then(|interval| {
                    let least = interval.mul_f64(0.9);
                    now.checked_add(self.random.between(least, interval.mul_f64(1.1)))
                });
                self.state = State::Idle(next);
                out.extend([Output::Healthy(self.id), Output::Worked, Output::ResetBackoff]);
                out.push(Output::Report(self.id, Report::Snapshot(layer)));
            }
            Err(bad) => {
                let why = self.secrets.redact(&bad.why);
                self.failed(format!("failed to parse {shown}:{}:{}: {why}", bad.line, bad.column), out);
            }
        }
    }

    fn failed(&mut self, words: String, out: &mut Vec<Output>) {
        self.state = State::Start;
        out.push(Output::NodeFailed { words, not_before: None });
    }
}

impl Subscribers for Url {
    fn waiting(&self) -> Vec<Id> {
        match self.state {
            State::Start | State::Asked | State::Reading { .. } => vec![self.id],
            State::Idle(_) => Vec::new(),
        }
    }

    fn give_up(&mut self) {
        self.state = State::Idle(None);
    }

    fn use_node(&mut self, _name: &str) {}
}

impl Protocol for Url {
    fn add(&mut self, id: Id, _options: &config::Backend, out: &mut Vec<Output>) {
        let line = Line::new(Level::Info, "set file path").with("backend", NAME);
        out.push(Output::Report(id, Report::Log(line.with("filepath", self.shown.clone()))));
    }

    fn remove(&mut self, _id: Id, _out: &mut Vec<Output>) {}

    fn on(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        match (input, &mut self.state) {
            (Input::Turn, State::Start) => self.ask(out),
            (Input::Turn, State::Idle(Some(next))) if *next <= now => self.ask(out),
            (Input::Head(_, head), State::Asked) => {
                self.state = State::Reading { status: head.status, text: Vec::new() };
            }
            (Input::Body(_, piece), State::Reading { status: 200..300, text }) => text.extend_from_slice(piece),
            (Input::End(_), _) => self.end(now, out),
            // The status of a refusal is enough for the error, even if its body is incomplete.
            (Input::Failed(..), State::Reading { status: 0..200 | 300.., .. }) => self.end(now, out),
            (Input::Failed(_, Failure { words, .. }), _) => {
                self.failed(format!("failed to GET {}: {words}", self.shown), out);
            }
            (Input::Turn | Input::Head(..) | Input::Body(..), _) => {}
            (Input::Credentials(_) | Input::Connected(_) | Input::Quiet, _) => {}
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Idle(next) => *next,
            State::Start | State::Asked | State::Reading { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::protocol::Head;
    use crate::config::{Kind, ReadLimits};

    struct Bench {
        url: Url,
        now: Instant,
    }

    impl Bench {
        fn new(interval: Option<u64>) -> Bench {
            let file = File {
                filepath: "http://me:p4ssword@h/d.json".to_owned(),
                httpheaders: [("X-Key".to_owned(), config::Secret::new("h34der".to_owned()))].into(),
                read: ReadLimits { max_keys: 2, max_decoded: 100 },
            };
            let options = config::Backend {
                keys: vec!["/".to_owned()],
                watch_keys: Vec::new(),
                secret: false,
                prefix: String::new(),
                watch: false,
                onetime: false,
                interval: interval.map(Duration::from_secs),
                kind: Kind::File(file.clone()),
            };
            Bench { url: Url::new(Id(1), &options, &file, "http://h/d.json", Mode::Watch, 1), now: Instant::now() }
        }

        #[track_caller]
        fn check(&mut self, input: Input<'_>, want: &[&str]) {
            let mut out = Vec::new();
            self.url.on(input, self.now, &mut out);
            let text = |output: &Output| match output {
                Output::Begin(_, request) => Some(format!("{} {}", request.method, request.headers.len())),
                Output::Report(_, Report::Log(_)) | Output::Worked | Output::ResetBackoff => None,
                Output::Report(_, Report::Snapshot(layer)) => Some(format!("keys: {}", layer.len())),
                Output::Healthy(_) => Some("healthy".to_owned()),
                Output::NodeFailed { words, .. } => Some(words.clone()),
                other => Some(format!("{other:?}")),
            };
            assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), want);
        }

        #[track_caller]
        fn answer(&mut self, status: u16, text: &str, want: &[&str]) {
            self.check(Input::Head(CALL, Head { status, headers: &[] }), &[]);
            text.as_bytes().chunks(3).for_each(|piece| self.check(Input::Body(CALL, piece), &[]));
            self.check(Input::End(CALL), want);
        }
    }

    #[test]
    fn a_document_is_read_every_interval() {
        let mut bench = Bench::new(Some(60));
        bench.check(Input::Turn, &["GET 1"]);
        bench.check(Input::Turn, &[]);
        bench.answer(200, "{\"a\": 1}", &["healthy", "keys: 1"]);
        let due = bench.url.due().unwrap();
        assert!((54.0..=66.0).contains(&(due - bench.now).as_secs_f64()));
        bench.check(Input::Turn, &[]);
        bench.now = due;
        bench.check(Input::Turn, &["GET 1"]);
        bench.answer(204, "{}", &["healthy", "keys: 0"]);
        let mut bench = Bench::new(None);
        bench.check(Input::Turn, &["GET 1"]);
        bench.answer(200, "a: 1", &["healthy", "keys: 1"]);
        assert_eq!(bench.url.due(), None);
    }

    #[test]
    fn a_failure_names_its_cause_and_the_read_is_retried() {
        let mut bench = Bench::new(None);
        let mut check = |status, text: &str, words: &str| {
            bench.check(Input::Turn, &["GET 1"]);
            bench.answer(status, text, &[words]);
        };
        check(500, "oops", "failed to GET http://h/d.json: the server answered with status 500");
        check(200, "a: *h34der", "failed to parse http://h/d.json:1:4: found no anchor `<header>` before the alias");
        let words = "failed to parse http://h/d.json:1:18: more than 2 keys: raise `max_keys` of the backend";
        check(200, "{\"a\":1,\"b\":2,\"c\":3  }", words);
        bench.check(Input::Turn, &["GET 1"]);
        bench.check(Input::Head(CALL, Head { status: 503, headers: &[] }), &[]);
        let failure = || Failure { kind: crate::backend::protocol::FailureKind::Closed, words: "cut".into() };
        let words = "failed to GET http://h/d.json: the server answered with status 503";
        bench.check(Input::Failed(CALL, failure()), &[words]);
        bench.check(Input::Turn, &["GET 1"]);
        bench.check(Input::Failed(CALL, failure()), &["failed to GET http://h/d.json: cut"]);
        bench.url.give_up();
        bench.check(Input::Turn, &[]);
        assert_eq!(bench.url.due(), None);
    }
}
