//! Consul from bytes to requests: the answers of a server and the requests that follow, one line each. The
//! configuration has its own tests.

use super::*;
use crate::backend::Change;
use crate::backend::failover::SLOW_RETRY;
use crate::backend::protocol::Stale;
use crate::config::{Backend, Kind, ReadLimits};
use crate::store::Bytes;

const A: CallId = CallId(1);
const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    consul: Consul,
    now: Instant,
}

fn list(entries: &[(&str, &str)]) -> String {
    let entry = |(key, value): &(&str, &str)| format!(r#"{{"Key":"{key}","Value":"{value}","ModifyIndex":3}}"#);
    format!("[{}]", entries.iter().map(entry).collect::<Vec<_>>().join(","))
}

/// The key `a/x`, written at an index.
fn entry(value: &str, index: u64) -> String {
    format!(r#"[{{"Key":"a/x","Value":"{value}","ModifyIndex":{index}}}]"#)
}

fn options(keys: &[&str], watch_keys: &[&str], watch: bool) -> Backend {
    let texts = |keys: &[&str]| keys.iter().map(|key| key.to_string()).collect();
    let kind = Kind::Consul(config::Consul::default());
    let (keys, watch_keys) = (texts(keys), texts(watch_keys));
    Backend { keys, watch_keys, prefix: String::new(), watch, onetime: false, interval: None, secret: false, kind }
}

impl Bench {
    fn new(mode: Mode) -> Bench {
        let options = Options {
            namespace: "n".into(),
            limits: ReadLimits { max_keys: 3, max_decoded: 1000 },
            token_source: "the token is that of `token_file`".into(),
            ..Options::of(&config::Consul::default(), "http://a".into())
        };
        let mut consul = Consul::new(options, &["http://bob:p4ssword@a".to_owned()], mode, 1);
        consul.use_node("http://a");
        consul.acls = Acls::Known(false);
        Bench { consul, now: Instant::now() }
    }

    /// A bench that watches `/a` with the key `x`.
    fn watching() -> Bench {
        let mut bench = Bench::new(Mode::Watch);
        bench.add(1, &options(&["/a"], &["/a"], true));
        bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n"]);
        bench.answer(A, 200, "7", &list(&[("a/x", "MQ==")]), &["1 snapshot /a/x=1", "worked"]);
        bench.pass(SHORTEST_WAIT);
        bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=7&wait"]);
        bench
    }

    fn add(&mut self, id: u64, options: &Backend) {
        self.consul.add(Id(id), options, &mut Vec::new());
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    #[track_caller]
    fn check(&mut self, input: Input<'_>, want: &[&str]) {
        let mut out = Vec::new();
        self.consul.on(input, self.now, &mut out);
        assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), want);
    }

    /// A turn that begins a request.
    #[track_caller]
    fn turn(&mut self, want: &[&str]) {
        self.check(Input::Turn, &["credentials"]);
        let credentials = Credentials { user: Secret::default(), password: Secret::new("s3cret".into()) };
        self.check(Input::Credentials(Ok(Some(credentials))), want);
    }

    #[track_caller]
    fn idle(&mut self) {
        self.check(Input::Turn, &[]);
    }

    #[track_caller]
    fn head(&mut self, call: CallId, status: u16, index: &str, want: &[&str]) {
        let headers = [(wire::INDEX, index.to_owned())];
        let headers = if index.is_empty() { &[][..] } else { &headers[..] };
        self.check(Input::Head(call, Head { status, headers }), want);
    }

    #[track_caller]
    fn answer(&mut self, call: CallId, status: u16, index: &str, body: &str, want: &[&str]) {
        self.head(call, status, index, &[]);
        body.as_bytes().chunks(3).for_each(|piece| self.check(Input::Body(call, piece), &[]));
        self.check(Input::End(call), want);
    }
}

fn text(output: &Output) -> Option<String> {
    let shown = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    Some(match output {
        Output::Begin(call, request) => {
            let (target, wait) = request.target.split_once("&wait=").unwrap_or((&request.target, ""));
            assert_eq!(request.head_within.is_some(), !wait.is_empty());
            let has_token =
                request.headers.iter().any(|(name, value)| name == wire::TOKEN && value.reveal() == "s3cret");
            assert_eq!(has_token, !matches!(*call, PROBE | ACLS));
            let name = if *call == ACLS { "acls".to_owned() } else { call.0.to_string() };
            // A request that is repeated on a new connection.
            let repeated = if request.stale == Stale::Repeat { " !" } else { "" };
            format!("begin {name} {target}{}{repeated}", if wait.is_empty() { "" } else { "&wait" })
        }
        Output::Cancel(call) => format!("cancel {}", call.0),
        Output::Release(call) => format!("release {}", call.0),
        Output::ReadCredentials => "credentials".into(),
        Output::Report(Id(id), Report::Snapshot(layer)) => {
            let keys = layer.iter().map(|(key, value)| format!(" {}={}", shown(key), shown(value)));
            format!("{id} snapshot{}", keys.collect::<String>())
        }
        Output::Report(Id(id), Report::Changes { changes, trigger }) => {
            let change = |change: &Change| match change {
                Change::Put(key, value) => format!(" {}={}", shown(key), shown(value)),
                Change::Delete(key) => format!(" -{}", shown(key)),
            };
            let changes: String = changes.iter().map(change).collect();
            format!("{id} changes{changes}{}", if *trigger { " trigger" } else { "" })
        }
        Output::Report(Id(id), Report::Failed(words)) => format!("{id} failed: {words}"),
        Output::Report(_, Report::Log(line)) if line.level == Level::Warn => format!("warn: {}", line.message),
        Output::NodeFailed { words, .. } => format!("node: {words}"),
        Output::Worked => "worked".into(),
        Output::ResetBackoff => "reset".into(),
        Output::FailFast => "fail fast".into(),
        Output::Report(..) | Output::Healthy(_) => return None,
        Output::Connect(..)
        | Output::Send(..)
        | Output::Secure(_)
        | Output::RequestFailed { .. }
        | Output::Replace(_) => {
            panic!("consul does not do this")
        }
    })
}

#[test]
fn a_wait_goes_on_from_the_last_index_and_is_slowed() {
    let mut bench = Bench::watching();
    bench.idle();
    let body = list(&[("a/x", "Mg=="), ("a/y", "")]);
    bench.answer(A, 200, "9", &body, &["reset", "1 changes /a/x=2 /a/y= trigger"]);
    bench.idle();
    assert_eq!(bench.consul.due(), Some(bench.now + SHORTEST_WAIT));
    bench.pass(SHORTEST_WAIT);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=9&wait"]);
    // The wait ended without a change: nothing is rendered.
    bench.pass(300 * SECOND);
    bench.answer(A, 200, "9", &body, &["reset"]);
    // The next request follows a late answer at once.
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=9&wait"]);
    assert_eq!(bench.consul.revision(Id(1)), Some(9));
    bench.answer(A, 404, "12", "", &["reset", "1 changes -/a/x -/a/y trigger"]);
    assert_eq!((bench.consul.revision(Id(1)), bench.consul.revision(Id(2))), (Some(12), None));
}

#[test]
fn an_index_that_falls_starts_over_and_none_is_below_one() {
    let mut bench = Bench::watching();
    bench.answer(A, 200, "5", &list(&[("a/x", "MQ==")]), &["reset"]);
    assert_eq!(bench.consul.revision(Id(1)), None, "it is not known");
    bench.pass(SECOND);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n"]);
    bench.answer(A, 200, "0", &list(&[("a/x", "Mg==")]), &["reset", "1 changes /a/x=2 trigger"]);
    bench.pass(SECOND);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=1&wait"]);
}

#[test]
fn resources_share_the_requests_of_equal_keys() {
    let mut bench = Bench::watching();
    bench.add(2, &options(&["/a"], &["/t"], true));
    bench.turn(&["begin 2 /v1/kv/t?recurse&ns=n"]);
    bench.answer(CallId(2), 404, "7", "", &["2 snapshot /a/x=1", "worked"]);
    bench.answer(A, 200, "8", &entry("Mg==", 8), &["reset", "1 changes /a/x=2 trigger", "2 changes /a/x=2"]);
    bench.pass(SECOND);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=8&wait", "begin 2 /v1/kv/t?recurse&ns=n&index=7&wait"]);
    bench.answer(CallId(2), 200, "9", &list(&[("t", "MQ==")]), &["reset", "2 changes trigger"]);
    let mut out = Vec::new();
    bench.consul.remove(Id(2), &mut out);
    assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), ["cancel 2"]);
    bench.consul.remove(Id(1), &mut out);
    assert_eq!(bench.consul.due(), None);
}

#[test]
fn what_a_trigger_overtook_calls_for_an_update_too() {
    let answered = |index: u64| {
        let mut bench = Bench::new(Mode::Watch);
        bench.add(1, &options(&["/a"], &["/t"], true));
        bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n", "begin 2 /v1/kv/t?recurse&ns=n"]);
        bench.answer(A, 200, "3", &entry("MQ==", 3), &[]);
        bench.answer(CallId(2), 404, "3", "", &["1 snapshot /a/x=1", "worked"]);
        bench.pass(SECOND);
        bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=3&wait", "begin 2 /v1/kv/t?recurse&ns=n&index=3&wait"]);
        bench.answer(CallId(2), 200, "8", &list(&[("t", "MQ==")]), &["reset", "1 changes trigger"]);
        let body = entry("Mg==", index);
        (bench, body)
    };
    let (mut bench, body) = answered(7);
    bench.answer(A, 200, "7", &body, &["reset", "1 changes /a/x=2 trigger"]);
    let (mut bench, body) = answered(9);
    bench.answer(A, 200, "9", &body, &["reset", "1 changes /a/x=2"]);
    let (mut bench, _) = answered(7);
    bench.answer(A, 404, "7", "", &["reset", "1 changes -/a/x trigger"]);
    let (mut bench, _) = answered(9);
    bench.answer(A, 404, "9", "", &["reset", "1 changes -/a/x"]);
    // A trigger that was part of the first read.
    let mut bench = Bench::new(Mode::Watch);
    bench.add(1, &options(&["/a"], &["/t"], true));
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n", "begin 2 /v1/kv/t?recurse&ns=n"]);
    bench.answer(A, 200, "3", &entry("MQ==", 3), &[]);
    bench.answer(CallId(2), 200, "8", &list(&[("t", "MQ==")]), &["1 snapshot /a/x=1", "worked"]);
    bench.pass(SECOND);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=3&wait", "begin 2 /v1/kv/t?recurse&ns=n&index=8&wait"]);
    bench.answer(A, 200, "7", &entry("Mg==", 7), &["reset", "1 changes /a/x=2 trigger"]);
}

#[test]
fn what_is_not_watched_is_read_and_forgotten() {
    let mut bench = Bench::new(Mode::OneShot);
    bench.add(1, &options(&["/a", "/b"], &["/t"], true));
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n", "begin 2 /v1/kv/b?recurse&ns=n"]);
    bench.answer(A, 200, "7", &list(&[("a/x", "MQ==")]), &[]);
    bench.answer(CallId(2), 404, "7", "", &["1 snapshot /a/x=1", "worked", "reset"]);
    assert_eq!(bench.consul.revision(Id(1)), Some(7));
    bench.idle();
    assert_eq!((bench.consul.due(), bench.consul.waiting()), (None, vec![]));
    assert!(bench.consul.topics().all(|(_, topic)| topic.listing.is_none()));
}

#[test]
fn a_refusal_names_the_source_of_the_token() {
    let mut bench = Bench::new(Mode::Watch);
    bench.add(1, &options(&["/a"], &["/a"], true));
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n"]);
    let words = "1 failed: failed to read `/a` from http://a: status 403: ACL not found: <token>: the token is that \
                 of `token_file`";
    bench.answer(A, 403, "", "ACL not found: s3cret", &[words]);
    bench.idle();
    let due = bench.consul.due().expect("it is tried again");
    assert!((SLOW_RETRY..=SLOW_RETRY * 3).contains(&(due - bench.now)));
    bench.now = due;
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n"]);
}

#[test]
fn other_refusals_are_the_nodes() {
    for (status, index, body, words) in [
        (500, "", "No cluster leader", "status 500: No cluster leader"),
        (429, "", "slow down", "status 429: slow down"),
        (404, "7", "", ""),
        (200, "7", "{}", "not an answer of consul: no list of keys"),
    ] {
        let mut bench = Bench::watching();
        bench.head(A, status, index, &[]);
        let node = format!("node: failed to watch `/a` from http://a: {words}");
        match words {
            "" => bench.check(Input::End(A), &["reset", "1 changes -/a/x trigger"]),
            _ if status == 200 => bench.check(Input::Body(A, body.as_bytes()), &[&node]),
            _ => {
                bench.check(Input::Body(A, body.as_bytes()), &[]);
                bench.check(Input::End(A), &[&node]);
            }
        }
    }
    let mut bench = Bench::watching();
    let words = "node: failed to watch `/a` from http://a: not an answer of consul: status 200 without X-Consul-Index";
    bench.head(A, 200, "", &[words]);
    bench.consul.use_node("http://b");
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n"]);
    bench.answer(A, 200, "3", &list(&[("a/y", "")]), &["1 snapshot /a/y=", "worked"]);
}

#[test]
fn a_node_that_is_silent_is_probed() {
    let mut bench = Bench::watching();
    assert_eq!(bench.consul.due(), Some(bench.now - SHORTEST_WAIT + 30 * SECOND));
    bench.pass(30 * SECOND);
    bench.check(Input::Turn, &["begin 0 /v1/status/leader"]);
    bench.idle();
    bench.answer(PROBE, 200, "", "\"127.0.0.1:8300\"", &[]);
    assert_eq!(bench.consul.due(), Some(bench.now + 30 * SECOND));
    bench.pass(30 * SECOND);
    bench.check(Input::Turn, &["begin 0 /v1/status/leader"]);
    bench.answer(PROBE, 200, "", "\"\"", &["node: failed to probe http://a: the cluster has no leader"]);
}

fn stale() -> Failure {
    Failure { kind: FailureKind::Stale, words: "connection closed by the server".into() }
}

/// One that has restarted without its data has lower indexes, and would not answer for a long time.
#[test]
fn a_node_that_may_have_restarted_is_asked_without_an_index() {
    let mut bench = Bench::watching();
    bench.answer(A, 200, "9", &entry("Mg==", 9), &["reset", "1 changes /a/x=2 trigger"]);
    bench.pass(SHORTEST_WAIT);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=9&wait"]);
    bench.check(Input::Failed(A, stale()), &[]);
    bench.pass(SHORTEST_WAIT);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n !"]);
    bench.answer(A, 200, "4", &entry("Mw==", 4), &["reset", "1 changes /a/x=3 trigger"]);
    bench.pass(SHORTEST_WAIT);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n !"]);
    bench.answer(A, 200, "4", &entry("Mw==", 4), &["reset"]);
    bench.pass(SHORTEST_WAIT);
    // One that closes every connection is not doubted with each answer.
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=4&wait !"]);
    bench.answer(A, 404, "5", "", &["reset", "1 changes -/a/x trigger"]);
    bench.pass(SHORTEST_WAIT);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=5&wait"]);
}

#[test]
fn one_that_has_not_restarted_is_watched_on_from_its_index() {
    let mut bench = Bench::watching();
    bench.check(Input::Failed(A, stale()), &[]);
    bench.pass(SHORTEST_WAIT);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n !"]);
    bench.answer(A, 200, "7", &entry("MQ==", 7), &["reset"]);
    bench.pass(SHORTEST_WAIT);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=7&wait !"]);
}

#[test]
fn all_waits_are_asked_again_and_no_read_is() {
    let mut bench = Bench::watching();
    bench.add(2, &options(&["/b", "/c"], &["/b"], true));
    bench.turn(&["begin 2 /v1/kv/b?recurse&ns=n", "begin 3 /v1/kv/c?recurse&ns=n"]);
    bench.answer(CallId(2), 404, "7", "", &[]);
    bench.check(Input::Failed(CallId(3), stale()), &["cancel 1"]);
    bench.pass(SHORTEST_WAIT);
    bench.turn(&[
        "begin 1 /v1/kv/a?recurse&ns=n !",
        "begin 2 /v1/kv/b?recurse&ns=n !",
        "begin 3 /v1/kv/c?recurse&ns=n !",
    ]);
    bench.answer(CallId(2), 404, "7", "", &["reset"]);
    bench.pass(SHORTEST_WAIT);
    bench.turn(&["begin 2 /v1/kv/b?recurse&ns=n&index=7&wait !"]);
    // What is asked without an index is not asked once more.
    bench.check(Input::Failed(CallId(2), stale()), &[]);
    bench.answer(CallId(3), 404, "7", "", &["2 snapshot", "worked"]);
}

#[test]
fn a_lower_index_of_one_topic_ends_the_waits_of_all() {
    let mut bench = Bench::watching();
    bench.add(2, &options(&["/b"], &["/b"], true));
    bench.turn(&["begin 2 /v1/kv/b?recurse&ns=n"]);
    bench.answer(CallId(2), 404, "7", "", &["2 snapshot", "worked"]);
    bench.pass(SHORTEST_WAIT);
    bench.turn(&["begin 2 /v1/kv/b?recurse&ns=n&index=7&wait"]);
    bench.answer(A, 200, "4", &entry("Mg==", 4), &["reset", "cancel 2", "1 changes /a/x=2 trigger"]);
    bench.pass(SHORTEST_WAIT);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n", "begin 2 /v1/kv/b?recurse&ns=n"]);
}

#[test]
fn a_probe_and_the_question_for_access_control_lists_are_repeated() {
    let mut bench = Bench::watching();
    bench.pass(Duration::from_secs(31));
    bench.check(Input::Turn, &["begin 0 /v1/status/leader"]);
    bench.check(Input::Failed(PROBE, stale()), &["cancel 1"]);
    bench.check(Input::Turn, &["credentials"]);
    let mut bench = Bench::new(Mode::Watch);
    bench.consul.acls = Acls::Unknown;
    bench.add(1, &options(&["/a"], &["/a"], true));
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n"]);
    bench.answer(A, 404, "7", "", &["begin acls /v1/acl/token/self"]);
    bench.check(Input::Failed(ACLS, stale()), &["begin acls /v1/acl/token/self !"]);
    bench.answer(ACLS, 401, "", "", &["1 snapshot", "worked"]);
}

#[test]
fn no_more_is_read_than_the_limits_allow() {
    let mut bench = Bench::new(Mode::Watch);
    bench.add(1, &options(&["/a"], &["/a"], true));
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n"]);
    bench.head(A, 200, "7", &[]);
    let body = list(&[("a/1", ""), ("a/2", ""), ("a/3", ""), ("a/4", "")]);
    let words = "1 failed: failed to read `/a` from http://a: more than 3 keys: raise `max_keys` of the backend";
    bench.check(Input::Body(A, body.as_bytes()), &["cancel 1", words]);
    let mut bench = Bench::watching();
    let failure = Failure { kind: FailureKind::TooLarge, words: "answer is longer than 9 bytes".into() };
    let words = "1 failed: failed to watch `/a` from http://a: answer is longer than 9 bytes: raise `max_response` of the \
                 backend";
    bench.check(Input::Failed(A, failure), &[words]);
}

#[test]
fn keys_that_are_left_out_are_reported_once() {
    let mut bench = Bench::watching();
    let headers = [(wire::INDEX, "8".to_owned()), (wire::FILTERED, "true".to_owned())];
    for want in [&["warn: keys are left out: the token may not read them"][..], &[]] {
        bench.check(Input::Head(A, Head { status: 200, headers: &headers }), want);
        bench.consul.on(Input::Body(A, entry("MQ==", 3).as_bytes()), bench.now, &mut Vec::new());
        bench.consul.on(Input::End(A), bench.now, &mut Vec::new());
        bench.pass(SECOND);
        bench.consul.on(Input::Turn, bench.now, &mut Vec::new());
        bench.consul.on(Input::Credentials(Ok(None)), bench.now, &mut Vec::new());
    }
}

#[test]
fn users_and_tokens_of_the_configuration() {
    let of = |auth: &str, nodes: &[&str]| {
        let nodes = nodes.iter().map(|node| node.to_string()).collect();
        let consul = config::Consul { auth: Secret::new(auth.into()), nodes, ..config::Consul::default() };
        let authorization = Options::of(&consul, String::new()).authorization;
        authorization.map_or(String::new(), |header| header.reveal().to_owned())
    };
    assert_eq!(of("", &[]), "");
    assert_eq!(of("me:pw", &["http://c", "unix:///a@b"]), "Basic bWU6cHc=");
    assert_eq!(of("me", &[]), "Basic bWU6");
    assert_eq!(of("me:pw", &["http://a:b@c"]), "");
    let options = Options::of(&config::Consul::default(), String::new());
    assert_eq!(options.token_source, "there is no token: set `token`, `token_file` or CONSUL_HTTP_TOKEN");
}

const ASK: &str = "begin acls /v1/acl/token/self";
const HIDDEN: &str = "warn: there are no keys, or none that the token may read";

/// A bench that has requested `/a`.
fn asking(mode: Mode) -> Bench {
    let mut bench = Bench::new(mode);
    bench.consul.acls = Acls::Unknown;
    bench.add(1, &options(&["/a"], &["/a"], true));
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n"]);
    bench
}

/// Consul reports forbidden keys as missing.
#[test]
fn no_keys_are_only_taken_for_granted_without_access_control_lists() {
    for (status, warning) in [(401, &[][..]), (404, &[]), (403, &[HIDDEN]), (200, &[HIDDEN])] {
        let mut bench = asking(Mode::OneShot);
        bench.answer(A, 404, "7", "", &[ASK]);
        bench.idle();
        let want = [warning, &["1 snapshot", "worked", "reset"]].concat();
        bench.answer(ACLS, status, "", "ACL not found", &want);
        bench.idle();
    }
    // A deletion during a watch is reported at once, while the request about access control is pending.
    let mut bench = Bench::watching();
    bench.consul.acls = Acls::Unknown;
    bench.answer(A, 404, "9", "", &[ASK, "reset", "1 changes -/a/x trigger"]);
    bench.answer(ACLS, 403, "", "", &[HIDDEN]);
    bench.pass(SECOND);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=9&wait"]);
    bench.answer(A, 404, "10", "", &["reset"]);
    bench.pass(SECOND);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=10&wait"]);
    bench.answer(A, 200, "11", &entry("MQ==", 11), &["reset", "1 changes /a/x=1 trigger"]);
    bench.pass(SECOND);
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n&index=11&wait"]);
    bench.answer(A, 404, "12", "", &[HIDDEN, "reset", "1 changes -/a/x trigger"]);
}

#[test]
fn a_node_without_an_answer_about_access_control_has_failed() {
    let mut bench = asking(Mode::Watch);
    bench.answer(A, 404, "7", "", &[ASK]);
    let failure = Failure { kind: FailureKind::TimedOut, words: "no answer within 3s".into() };
    let words = "node: failed to ask http://a whether it has access control lists: no answer within 3s";
    bench.check(Input::Failed(ACLS, failure), &[words]);
    bench.consul.use_node("http://a");
    bench.turn(&["begin 1 /v1/kv/a?recurse&ns=n"]);
    bench.answer(A, 404, "7", "", &[ASK]);
}

/// Newer releases have a header about omitted keys.
#[test]
fn keys_that_are_all_left_out_are_an_error() {
    let mut bench = asking(Mode::Watch);
    let headers = [(wire::INDEX, "7".to_owned()), (wire::FILTERED, "true".to_owned())];
    bench.check(Input::Head(A, Head { status: 404, headers: &headers }), &[]);
    let words = "1 failed: failed to read `/a` from http://a: the token may read none of the keys: the token is that of \
                 `token_file`";
    bench.check(Input::End(A), &[words]);
}
