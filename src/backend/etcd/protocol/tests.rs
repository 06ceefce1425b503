//! Version 3 from bytes to requests: the answers of a server in pieces, and the requests that follow, one line each.
//! The session has its own tests.

use std::time::{Duration, Instant};

use super::super::session::{Session, Settings};
use super::*;
use crate::backend::Report;
use crate::backend::protocol::Credentials;
use crate::config::{Backend, Kind, Secret};

struct Bench {
    v3: V3,
    now: Instant,
}

/// A page with these fields.
fn page(rest: &str) -> String {
    format!("{{\"header\":{{\"cluster_id\":\"7\",\"revision\":\"10\"}}{rest}}}")
}

/// A line of a watch.
fn line(rest: &str) -> String {
    format!("{{\"result\":{{\"header\":{{\"cluster_id\":\"7\",\"revision\":\"10\"}},\"watch_id\":\"1\"{rest}}}}}\n")
}

const KEY: &str = "{\"key\":\"L2EveA==\",\"mod_revision\":\"3\",\"value\":\"MQ==\"}";

impl Bench {
    fn new(login: bool, etcd: &config::Etcd) -> Bench {
        let second = Duration::from_secs(1);
        let settings =
            Settings { nodes: "http://a".into(), login, watch_deadline: 30 * second, stream_timeout: 3 * second };
        let now = Instant::now();
        let mut v3 = V3::new(Session::new(settings, now, Box::new(|_| 0)), Mode::Watch, etcd);
        v3.use_node("http://a");
        let options = Backend {
            keys: vec!["/a".into()],
            watch_keys: vec!["/a".into()],
            secret: false,
            prefix: String::new(),
            watch: true,
            onetime: false,
            interval: None,
            kind: Kind::Etcd(etcd.clone()),
        };
        v3.add(Id(1), &options, &mut Vec::new());
        Bench { v3, now }
    }

    #[track_caller]
    fn check(&mut self, input: Input<'_>, want: &[&str]) {
        let mut out = Vec::new();
        self.v3.on(input, self.now, &mut out);
        assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), want);
    }

    /// A whole answer, in pieces of each small size in turn.
    #[track_caller]
    fn answer(&mut self, call: CallId, status: u16, body: &str, want: &[&str]) {
        self.check(Input::Head(call, Head { status, headers: &[] }), &[]);
        let mut rest = body.as_bytes();
        for size in (1..8).cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at(size.min(rest.len()));
            self.check(Input::Body(call, piece), &[]);
            rest = behind;
        }
        self.check(Input::End(call), want);
    }

    #[track_caller]
    fn stream(&mut self, body: &str, want: &[&str]) {
        self.check(Input::Body(STREAM, body.as_bytes()), want);
    }

    /// A bench that watches `/a`.
    fn watching() -> Bench {
        let mut bench = Bench::new(false, &config::Etcd::default());
        bench.check(Input::Turn, &["begin 0 /v3/kv/range"]);
        bench.answer(REQUEST, 200, &page(&format!(",\"kvs\":[{KEY}]")), &["snapshot 1"]);
        bench.check(Input::Turn, &["begin 1 /v3/watch streamed"]);
        bench.check(Input::Head(STREAM, Head { status: 200, headers: &[] }), &[]);
        bench.stream(&line(",\"created\":true"), &["healthy"]);
        bench
    }
}

fn text(output: &Output) -> Option<String> {
    match output {
        Output::Begin(call, request) => {
            let token = request.headers.iter().find(|(name, _)| name == wire::TOKEN);
            let token = token.map_or(String::new(), |(_, token)| format!(" with {}", token.reveal()));
            let streamed = if request.kind == protocol::RequestKind::Stream { " streamed" } else { "" };
            Some(format!("begin {} {}{token}{streamed}", call.0, request.target))
        }
        Output::Connect(..) | Output::Send(..) | Output::Secure(_) | Output::RequestFailed { .. } => {
            panic!("etcd does not do this")
        }
        Output::Cancel(call) => Some(format!("cancel {}", call.0)),
        Output::Release(call) => Some(format!("release {}", call.0)),
        Output::ReadCredentials => Some("credentials".into()),
        Output::Report(_, Report::Snapshot(layer)) => Some(format!("snapshot {}", layer.len())),
        Output::Report(_, Report::Changes { changes, .. }) => Some(format!("changes {}", changes.len())),
        Output::Report(_, Report::Failed(words)) => Some(format!("failed: {words}")),
        Output::NodeFailed { words, .. } => Some(format!("node: {words}")),
        Output::Healthy(_) => Some("healthy".into()),
        Output::Report(..) | Output::Worked | Output::ResetBackoff | Output::FailFast => None,
        Output::Replace(_) => Some("replace".into()),
    }
}

fn cut() -> Failure {
    Failure { kind: FailureKind::Closed, words: "cut".into() }
}

#[test]
fn a_login_a_page_and_a_stream() {
    let mut bench = Bench::new(true, &config::Etcd::default());
    bench.check(Input::Turn, &["credentials"]);
    let (user, password) = (Secret::new("me".into()), Secret::new("s3cret".into()));
    bench.check(Input::Credentials(Ok(Some(Credentials { user, password }))), &["begin 0 /v3/auth/authenticate"]);
    // One request at a time.
    bench.check(Input::Turn, &[]);
    bench.answer(REQUEST, 200, "{\"token\":\"t0ken.1\"}", &[]);
    bench.check(Input::Turn, &["begin 0 /v3/kv/range with t0ken.1"]);
    bench.answer(REQUEST, 200, &page(&format!(",\"kvs\":[{KEY}]")), &["snapshot 1"]);
    bench.check(Input::Turn, &["begin 1 /v3/watch with t0ken.1 streamed"]);
    bench.check(Input::Head(STREAM, Head { status: 200, headers: &[] }), &[]);
    // A line in two pieces, two lines in one, and an empty one.
    let created = line(",\"created\":true");
    bench.stream(&created[..20], &[]);
    bench.stream(&created[20..], &["healthy"]);
    let event = line(&format!(",\"events\":[{{\"kv\":{}}}]", KEY.replace("\"3\"", "\"11\"")));
    bench.stream(&format!("{event}\n{event}"), &[]);
    bench.check(Input::Quiet, &["changes 1"]);
    // The last line has the reason of the end, without a newline.
    bench.stream("{\"error\":{\"http_code\":503,\"message\":\"no leader for t0ken.1 of s3cret\"}}", &[]);
    let words = "node: failed to watch http://a: no leader for <token> of <password>";
    bench.check(Input::End(STREAM), &["cancel 1", words]);
}

#[test]
fn no_credentials() {
    let mut bench = Bench::new(true, &config::Etcd::default());
    bench.check(Input::Turn, &["credentials"]);
    bench.check(Input::Credentials(Err("failed to read `p`".into())), &["failed: failed to read `p`"]);
}

#[test]
fn a_refusal_is_reported_also_where_its_body_is_cut() {
    let mut bench = Bench::new(false, &config::Etcd::default());
    bench.check(Input::Turn, &["begin 0 /v3/kv/range"]);
    bench.check(Input::Head(REQUEST, Head { status: 503, headers: &[] }), &[]);
    bench.check(Input::Body(REQUEST, b"{\"message\":\"no"), &[]);
    bench.check(Input::Failed(REQUEST, cut()), &["node: failed to read from http://a: HTTP 503"]);
    bench.check(Input::Turn, &["begin 0 /v3/kv/range"]);
    let long = format!("{{\"message\":\"{}\"}}", "x".repeat(super::super::request::BEGINNING));
    bench.answer(REQUEST, 500, &long, &["node: failed to read from http://a: HTTP 500"]);
    bench.check(Input::Turn, &["begin 0 /v3/kv/range"]);
    bench.check(Input::Failed(REQUEST, cut()), &["node: failed to read from http://a: cut"]);
}

#[test]
fn a_page_that_is_none_is_cancelled_at_once() {
    let mut bench = Bench::new(false, &config::Etcd::default());
    bench.check(Input::Turn, &["begin 0 /v3/kv/range"]);
    bench.check(Input::Head(REQUEST, Head { status: 200, headers: &[] }), &[]);
    let words = "node: failed to read from http://a: not an answer of etcd: a field is missing or wrong at column 2";
    bench.check(Input::Body(REQUEST, b"{\"kvs\":[{}"), &["cancel 0", words]);
    let read = ReadLimits { max_keys: 1, max_decoded: 100 };
    let mut bench = Bench::new(
        false,
        &config::Etcd { network: config::Network { read, ..Default::default() }, ..Default::default() },
    );
    bench.check(Input::Turn, &["begin 0 /v3/kv/range"]);
    bench.check(Input::Head(REQUEST, Head { status: 200, headers: &[] }), &[]);
    let words = "failed: failed to read `/a` from http://a: more than 1 key: raise `max_keys` of the backend";
    bench.check(Input::Body(REQUEST, page(&format!(",\"kvs\":[{KEY},{KEY},")).as_bytes()), &["cancel 0", words]);
}

/// A request is pending while the stream receives lines, and both fail in turn.
#[test]
fn two_calls_at_a_time() {
    let mut bench = Bench::watching();
    bench.now += Duration::from_secs(30);
    bench.check(Input::Turn, &["begin 0 /v3/kv/range"]);
    let event = line(&format!(",\"events\":[{{\"kv\":{}}}]", KEY.replace("\"3\"", "\"11\"")));
    bench.stream(&event, &[]);
    bench.check(Input::Quiet, &["changes 1"]);
    bench.check(Input::Head(REQUEST, Head { status: 200, headers: &[] }), &[]);
    // The stream breaks: the request to its node is cancelled.
    bench.check(Input::Failed(STREAM, cut()), &["cancel 1", "cancel 0", "node: failed to watch http://a: cut"]);
    bench.check(Input::Turn, &["begin 1 /v3/watch streamed"]);
    bench.check(Input::Head(STREAM, Head { status: 404, headers: &[] }), &[]);
    bench.check(Input::Body(STREAM, b"404 page not found"), &[]);
    let words = "node: failed to watch http://a: HTTP 404: `/v3/watch` is not known here: an etcd before 3.4 needs \
                 `version = 2`";
    bench.check(Input::End(STREAM), &[words]);
}

#[test]
fn a_line_has_an_end() {
    let mut bench = Bench::watching();
    bench.v3.stream = Streaming::Open(Lines::new(10), Json::many());
    let words = "node: failed to watch http://a: answer is longer than 10 bytes";
    bench.stream("12345678901", &["cancel 1", "cancel 1", words]);
    // The rest of the piece belongs to a closed stream.
    let mut bench = Bench::watching();
    let nonsense = "node: failed to watch http://a: not an answer of etcd: neither result nor error";
    bench.stream("{}\n{}\n", &["cancel 1", nonsense]);
    bench.stream("{}\n", &[]);
    // Bytes that cannot be JSON end the stream before the end of the line.
    let mut bench = Bench::watching();
    bench.v3.stream = Streaming::Open(Lines::new(10), Json::many());
    let nonsense = "node: failed to watch http://a: not an answer of etcd: no JSON from byte 1 on";
    bench.stream("<", &["cancel 1", "cancel 1", nonsense]);
}

#[test]
fn a_watch_asks_for_its_connection_to_be_closed() {
    let closes = |output: &Output| match output {
        Output::Begin(_, request) => {
            Some(request.headers.iter().any(|(name, value)| name == "Connection" && value.reveal() == "close"))
        }
        _ => None,
    };
    let mut bench = Bench::new(false, &config::Etcd::default());
    let mut out = Vec::new();
    bench.v3.on(Input::Turn, bench.now, &mut out);
    assert_eq!(out.iter().filter_map(closes).collect::<Vec<_>>(), [false], "a read keeps its connection");
    bench.answer(REQUEST, 200, &page(&format!(",\"kvs\":[{KEY}]")), &["snapshot 1"]);
    let mut out = Vec::new();
    bench.v3.on(Input::Turn, bench.now, &mut out);
    assert_eq!(out.iter().filter_map(closes).collect::<Vec<_>>(), [true]);
}
