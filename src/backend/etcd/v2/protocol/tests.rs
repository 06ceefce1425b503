//! Version 2 from bytes to requests: the answers of a server and the requests that follow, one line each. The session
//! has its own tests.

use std::time::{Duration, Instant};

use super::super::mirror::{Mirror, Tracking};
use super::super::session::Settings;
use super::*;
use crate::backend::Report;
use crate::backend::etcd::subscription::Goal;
use crate::config::{ReadLimits, Secret};

struct Bench {
    v2: V2,
    now: Instant,
}

const FIRST_WAIT: CallId = CallId(1);

const ANSWER: &str =
    "{\"node\":{\"key\":\"/a\",\"dir\":true,\"nodes\":[{\"key\":\"/a/x\",\"value\":\"1\",\"modifiedIndex\":3}]}}";

fn change(index: u64) -> String {
    format!("{{\"action\":\"set\",\"node\":{{\"key\":\"/a/x\",\"value\":\"2\",\"modifiedIndex\":{index}}}}}\n")
}

fn headers(index: u64) -> [(&'static str, String); 2] {
    [(wire::CLUSTER, "7".to_owned()), (wire::INDEX, index.to_string())]
}

impl Bench {
    fn new() -> Bench {
        let settings = Settings {
            id: Id(1),
            nodes: "http://a".into(),
            prefix: String::new(),
            goal: Goal::Watched,
            interval: None,
            watch_deadline: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(3),
            limits: ReadLimits::default(),
        };
        let keys = ["/a".to_owned()];
        let mirror = Mirror::new("", &keys, &keys, Tracking::Yes);
        let session = Session::new(settings, mirror, Box::new(|_| 0));
        let mut v2 = V2::new(session, &["http://bob:p4ssword@a".to_owned()], 1000);
        v2.use_node("http://a");
        Bench { v2, now: Instant::now() }
    }

    #[track_caller]
    fn check(&mut self, input: Input<'_>, want: &[&str]) {
        let mut out = Vec::new();
        self.v2.on(input, self.now, &mut out);
        assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), want);
    }

    /// A turn with a request without a user.
    #[track_caller]
    fn turn(&mut self, want: &[&str]) {
        self.check(Input::Turn, &["credentials"]);
        self.check(Input::Credentials(Ok(None)), want);
    }

    #[track_caller]
    fn head(&mut self, call: CallId, status: u16, index: u64) {
        self.check(Input::Head(call, protocol::Head { status, headers: &headers(index) }), &[]);
    }

    fn watching() -> Bench {
        let mut bench = Bench::new();
        bench.turn(&["begin 0 /v2/keys/a?recursive=true&quorum=true"]);
        bench.head(REQUEST, 200, 10);
        ANSWER.as_bytes().chunks(3).for_each(|piece| bench.check(Input::Body(REQUEST, piece), &[]));
        bench.check(Input::End(REQUEST), &["snapshot 1"]);
        bench.turn(&["begin 1 /v2/keys/a?recursive=true&wait=true&waitIndex=11 streamed"]);
        bench.check(Input::Head(FIRST_WAIT, protocol::Head { status: 200, headers: &headers(10) }), &["healthy"]);
        bench
    }
}

fn text(output: &Output) -> Option<String> {
    match output {
        Output::Begin(call, request) => {
            let streamed = if request.kind == protocol::RequestKind::Stream { " streamed" } else { "" };
            let user = request.headers.iter().map(|(name, value)| format!(" {name}={}", value.reveal()));
            Some(format!("begin {} {}{}{streamed}", call.0, request.target, user.collect::<String>()))
        }
        Output::Connect(..) | Output::Send(..) | Output::Secure(_) | Output::RequestFailed { .. } => {
            panic!("etcd does not do this")
        }
        Output::Cancel(call) => Some(format!("cancel {}", call.0)),
        Output::Release(call) => Some(format!("release {}", call.0)),
        Output::ReadCredentials => Some("credentials".into()),
        Output::Report(_, Report::Snapshot(layer)) => Some(format!("snapshot {}", layer.len())),
        Output::Report(_, Report::Changes { changes, .. }) => Some(format!("changes {}", changes.len())),
        Output::NodeFailed { words, .. } => Some(format!("node: {words}")),
        Output::Healthy(_) => Some("healthy".into()),
        Output::Report(..) | Output::Worked | Output::ResetBackoff | Output::FailFast => None,
        Output::Replace(_) => Some("replace".into()),
    }
}

#[test]
fn a_wait_brings_one_change_and_is_opened_again() {
    let mut bench = Bench::watching();
    let line = change(11);
    bench.check(Input::Body(FIRST_WAIT, &line.as_bytes()[..9]), &[]);
    bench.check(Input::Body(FIRST_WAIT, &line.as_bytes()[9..]), &[]);
    bench.check(Input::End(FIRST_WAIT), &[]);
    bench.check(Input::Quiet, &["cancel 1", "changes 1"]);
    bench.turn(&["begin 1 /v2/keys/a?recursive=true&wait=true&waitIndex=12 streamed"]);
    bench.check(Input::Head(FIRST_WAIT, protocol::Head { status: 200, headers: &headers(11) }), &["healthy"]);
    // The line has no newline, and the end of the answer is not awaited.
    bench.check(Input::Body(FIRST_WAIT, change(12).trim_end().as_bytes()), &[]);
    bench.check(Input::End(FIRST_WAIT), &[]);
    bench.check(Input::Quiet, &["cancel 1", "changes 1"]);
}

/// The answer to a read may be older than a change that a wait delivered meanwhile.
#[test]
fn what_a_wait_brings_is_held_back_while_a_question_is_under_way() {
    let mut bench = Bench::watching();
    bench.now += Duration::from_secs(30);
    bench.turn(&["begin 0 /v2/keys/a/_remco?quorum=true"]);
    bench.check(Input::Body(FIRST_WAIT, change(20).as_bytes()), &[]);
    bench.check(Input::Quiet, &[]);
    bench.head(REQUEST, 404, 15);
    bench.check(Input::Body(REQUEST, b"{\"errorCode\":100}"), &[]);
    bench.check(Input::End(REQUEST), &["cancel 1"]);
    bench.check(Input::Quiet, &[]);
    bench.turn(&["begin 1 /v2/keys/a?recursive=true&wait=true&waitIndex=11 streamed"]);
}

#[test]
fn the_user_goes_with_every_request_and_is_not_shown() {
    let mut bench = Bench::new();
    bench.check(Input::Turn, &["credentials"]);
    let credentials = || Credentials { user: Secret::new("me".into()), password: Secret::new("s3cret".into()) };
    let want = "begin 0 /v2/keys/a?recursive=true&quorum=true Authorization=Basic bWU6czNjcmV0";
    bench.check(Input::Credentials(Ok(Some(credentials()))), &[want]);
    bench.head(REQUEST, 401, 10);
    bench.check(Input::Body(REQUEST, b"{\"message\":\"bWU6czNjcmV0 of p4ssword\"}"), &[]);
    let words = "node: failed to read from http://a: user `me` may not read `/a`, or has another password: \
                 HTTP 401: <password> of <password>";
    bench.check(Input::End(REQUEST), &[words]);
    bench.check(Input::Turn, &["credentials"]);
    let words = "node: failed to read from http://a: failed to read `p`";
    bench.check(Input::Credentials(Err("failed to read `p`".into())), &[words]);
}

#[test]
fn what_is_no_answer_fails() {
    let mut bench = Bench::new();
    bench.turn(&["begin 0 /v2/keys/a?recursive=true&quorum=true"]);
    let words = "node: failed to read from http://a: not an answer of etcd: no X-Etcd-Index or X-Etcd-Cluster-Id";
    bench.check(Input::Head(REQUEST, protocol::Head { status: 200, headers: &[] }), &["cancel 0", words]);
    let mut bench = Bench::watching();
    bench.check(Input::Body(FIRST_WAIT, &[b'1'; 1001]), &[]);
    let words = "node: failed to watch http://a: answer is longer than 1000 bytes";
    bench.check(Input::Quiet, &["cancel 1", "cancel 1", words]);
    // The first invalid byte ends the answer.
    let mut bench = Bench::watching();
    bench.check(Input::Body(FIRST_WAIT, b"<"), &[]);
    let words = "node: failed to watch http://a: not an answer of etcd: no JSON from byte 1 on";
    bench.check(Input::Quiet, &["cancel 1", "cancel 1", words]);
    let mut bench = Bench::watching();
    let failure = Failure { kind: FailureKind::Closed, words: "cut".into() };
    bench.check(Input::Failed(FIRST_WAIT, failure), &[]);
    bench.check(Input::Quiet, &["cancel 1", "node: failed to watch http://a: wait ended without a change"]);
}
