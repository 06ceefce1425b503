//! NATS from bytes to reports: the operations of a server and the requests that follow, one line each. The bytes of
//! operations have their own tests.

use super::*;
use crate::backend::Change;
use crate::backend::protocol::{Credentials, Failure, FailureKind, Security};
use crate::config::{Kind as StoreKind, ReadLimits, Secret};

const SECOND: Duration = Duration::from_secs(1);

const INFO: &str = "INFO {\"version\":\"2.10.0\",\"headers\":true,\"nonce\":\"n\"}\r\n";

struct Bench {
    nats: Nats,
    now: Instant,
}

fn options(watch: bool, interval: Option<u64>) -> config::Backend {
    config::Backend {
        keys: vec!["/app".to_owned()],
        watch_keys: vec!["/app/w".to_owned()],
        prefix: String::new(),
        watch,
        onetime: false,
        interval: interval.map(Duration::from_secs),
        secret: false,
        kind: StoreKind::Mock,
    }
}

/// A message of the bucket to consumer 1, with its number and the number of pending messages.
fn entry(key: &str, value: &str, number: u64, pending: u64) -> String {
    entry_of(1, key, value, number, pending)
}

fn entry_of(consumer: u64, key: &str, value: &str, number: u64, pending: u64) -> String {
    let reply = format!("$JS.ACK.KV_b.c.1.{}.{number}.17.{pending}", number + 10);
    format!("MSG $KV.b.{key} {consumer} {reply} {}\r\n{value}\r\n", value.len())
}

fn removal(key: &str, number: u64, pending: u64) -> String {
    let headers = "NATS/1.0\r\nKV-Operation: DEL\r\n\r\n";
    let reply = format!("$JS.ACK.KV_b.c.1.{}.{number}.17.{pending}", number + 10);
    format!("HMSG $KV.b.{key} 1 {reply} {0} {0}\r\n{headers}\r\n", headers.len())
}

/// The answer to the request for a consumer.
fn created(consumer: u64, payload: &str) -> String {
    format!("MSG _INBOX.0000000000000007.r.{consumer} 0 {}\r\n{payload}\r\n", payload.len())
}

fn heartbeat(headers: &str, reply: &str) -> String {
    let headers = format!("NATS/1.0 100 Idle Heartbeat\r\n{headers}\r\n");
    format!("HMSG _INBOX.0000000000000007.1 1{reply} {0} {0}\r\n{headers}\r\n", headers.len())
}

impl Bench {
    fn with(url: &str, mode: Mode, kind: Kind) -> Bench {
        let settings = Settings {
            nodes: vec![url.to_owned()],
            shown: vec!["nats://h:1".to_owned()],
            bucket: "b".to_owned(),
            kind,
            secure: false,
            watch_deadline: 30 * SECOND,
            timeout: 3 * SECOND,
            max_response: 1000,
            limits: ReadLimits { max_keys: 3, max_decoded: 1000 },
            sign: |_, nonce| Some(nonce.to_vec()),
        };
        let now = Instant::now();
        Bench { nats: Nats::new(settings, mode, 7, now), now }
    }

    fn new() -> Bench {
        Bench::with("nats://h:1", Mode::Watch, Kind::User)
    }

    fn add(&mut self, id: u64, watch: bool, interval: Option<u64>) {
        self.nats.add(Id(id), &options(watch, interval), &mut Vec::new());
    }

    #[track_caller]
    fn check(&mut self, input: Input<'_>, want: &[&str]) {
        let mut out = Vec::new();
        self.nats.on(input, self.now, &mut out);
        assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), want);
    }

    /// Passes bytes one by one.
    #[track_caller]
    fn says(&mut self, bytes: &str, want: &[&str]) {
        let mut out = Vec::new();
        for byte in bytes.as_bytes().chunks(1) {
            self.nats.on(Input::Body(CALL, byte), self.now, &mut out);
        }
        assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), want, "{bytes}");
    }

    /// A bench that has logged in and requested a consumer.
    fn asked(watch: bool) -> Bench {
        let mut bench = Bench::new();
        bench.add(1, watch, None);
        bench.log_in();
        bench.check(Input::Turn, &[CREATE]);
        bench
    }

    #[track_caller]
    fn connect(&mut self) {
        self.connect_with(None);
    }

    #[track_caller]
    fn connect_with(&mut self, credentials: Option<Credentials>) {
        self.check(Input::Turn, &["credentials"]);
        self.check(Input::Credentials(Ok(credentials)), &["connect"]);
        self.check(Input::Connected(CALL), &[]);
    }

    #[track_caller]
    fn log_in(&mut self) {
        self.connect();
        self.says(INFO, &["send CONNECT PING"]);
        self.says("PONG\r\n", &[]);
    }

    /// A bench that watches a bucket with one key.
    fn watching() -> Bench {
        let mut bench = Bench::asked(true);
        bench.says(&created(1, "{\"num_pending\":1}"), &[]);
        bench.says(&entry("app.x", "1", 1, 0), &["healthy 1", "1 snapshot /app/x=1"]);
        bench
    }
}

fn login(password: &str) -> Credentials {
    Credentials { user: Secret::new("me".into()), password: Secret::new(password.into()) }
}

const CREATE: &str = "send SUB _INBOX.0000000000000007.1 1; \
                      PUB $JS.API.CONSUMER.CREATE.KV_b.0000000000000007-1.$KV.b.> _INBOX.0000000000000007.r.1";

/// The request for the second consumer.
fn second() -> String {
    CREATE.replace("7.1 1;", "7.2 2;").replace("-1.", "-2.").replace("r.1", "r.2")
}

fn text(output: &Output) -> Option<String> {
    let pair = |key: &[u8], value: &[u8]| format!(" {}={}", key.escape_ascii(), value.escape_ascii());
    match output {
        Output::Connect(_, Security::Plain) => Some("connect".into()),
        Output::Connect(_, Security::Tls) | Output::Begin(..) | Output::Replace(_) => panic!("not of NATS: {output:?}"),
        Output::Secure(_) => Some("secure".into()),
        Output::Cancel(_) => Some("cancel".into()),
        Output::Release(_) => Some("release".into()),
        Output::ReadCredentials => Some("credentials".into()),
        Output::Send(_, bytes) => {
            let lines = String::from_utf8_lossy(bytes);
            if lines.starts_with("CONNECT {") && lines.ends_with("}\r\nSUB _INBOX.0000000000000007.r.* 0\r\nPING\r\n") {
                return Some("send CONNECT PING".into());
            }
            let verb = |line: &str| ["SUB", "UNSUB", "PUB", "PONG"].iter().any(|verb| line.starts_with(verb));
            let lines = lines.lines().filter(|line| verb(line)).map(|line| {
                // Without the size of the body.
                if line.starts_with("PUB $JS.API") {
                    line.rsplit_once(' ').map_or(line, |(line, _)| line)
                } else {
                    line
                }
            });
            Some(format!("send {}", lines.collect::<Vec<_>>().join("; ")))
        }
        Output::Report(id, Report::Snapshot(layer)) => {
            Some(format!("{} snapshot{}", id.0, layer.iter().map(|(k, v)| pair(k, v)).collect::<String>()))
        }
        Output::Report(id, Report::Changes { changes, trigger }) => {
            let change = |change: &Change| match change {
                Change::Put(key, value) => pair(key, value),
                Change::Delete(key) => format!(" -{}", key.escape_ascii()),
            };
            let all: String = changes.iter().map(change).collect();
            Some(format!("{} changes{all}{}", id.0, if *trigger { " trigger" } else { "" }))
        }
        Output::Report(id, Report::Failed(words)) => Some(format!("{} failed: {words}", id.0)),
        Output::Report(..) | Output::Worked | Output::ResetBackoff => None,
        Output::Healthy(id) => Some(format!("healthy {}", id.0)),
        Output::RequestFailed { .. } => panic!("not of NATS: {output:?}"),
        Output::NodeFailed { words, not_before: None } => Some(format!("node: {words}")),
        Output::NodeFailed { words, not_before: Some(_) } => Some(format!("slow: {words}")),
        Output::FailFast => Some("fail fast".into()),
    }
}

#[test]
fn a_bucket_is_read_and_watched() {
    let mut bench = Bench::asked(true);
    // Messages may arrive before the answer.
    bench.says(&entry("app.x", "1", 1, 2), &[]);
    bench.says(&created(1, "{\"num_pending\":3}"), &[]);
    bench.says(&entry("other", "-", 2, 1), &[]);
    bench.says(&removal("app.gone", 3, 0), &["healthy 1", "1 snapshot /app/x=1"]);
    bench.says(&entry("app.x", "2", 4, 0), &[]);
    bench.says(&entry("other", "2", 5, 0), &[]);
    bench.says(&removal("app.w.y", 6, 0), &[]);
    assert_eq!(bench.nats.revision(Id(1)), Some(13), "only what was reported counts");
    bench.check(Input::Quiet, &["1 changes /app/x=2 -/app/w/y trigger"]);
    assert_eq!((bench.nats.revision(Id(1)), bench.nats.revision(Id(2))), (Some(16), None));
    bench.check(Input::Quiet, &[]);
    bench.says("PING\r\n", &["send PONG"]);
}

#[test]
fn pings_of_one_piece_are_answered_once() {
    let mut bench = Bench::watching();
    bench.check(Input::Body(CALL, b"PING\r\nPING\r\nPING\r\n"), &["send PONG"]);
}

#[test]
fn an_empty_bucket_has_no_keys() {
    let mut bench = Bench::asked(false);
    // Without a watch the consumer ends, and then the connection.
    bench.says(&created(1, "{\"num_pending\":0}"), &["healthy 1", "1 snapshot", "send UNSUB 1"]);
    bench.check(Input::Turn, &["cancel"]);
    assert_eq!((bench.nats.due(), bench.nats.revision(Id(1))), (None, None));
}

#[test]
fn a_connection_is_kept_for_a_read_that_is_due_soon() {
    let mut bench = Bench::new();
    bench.add(1, false, Some(10));
    bench.log_in();
    bench.check(Input::Turn, &[CREATE]);
    bench.says(&created(1, "{\"num_pending\":0}"), &["healthy 1", "1 snapshot", "send UNSUB 1"]);
    bench.check(Input::Turn, &[]);
    let due = bench.nats.due().unwrap();
    assert!((9.0..=11.0).contains(&(due - bench.now).as_secs_f64()));
    bench.now = due;
    bench.check(Input::Turn, &[&second()]);
}

#[test]
fn resources_are_read_one_after_the_other() {
    let mut bench = Bench::asked(false);
    bench.add(2, true, None);
    bench.check(Input::Turn, &[]);
    bench.says(&created(1, "{\"num_pending\":0}"), &["healthy 1", "1 snapshot", "send UNSUB 1"]);
    bench.check(Input::Turn, &[&second()]);
    bench.says(&entry_of(2, "app.x", "1", 1, 0), &[]);
    bench.says(&created(2, "{\"num_pending\":1}"), &["healthy 2", "2 snapshot /app/x=1"]);
    let mut out = Vec::new();
    bench.nats.remove(Id(2), &mut out);
    assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), ["send UNSUB 2"]);
}

#[test]
fn a_resource_that_goes_reports_no_more_changes() {
    let mut bench = Bench::watching();
    // The change is reported when the connection is quiet.
    bench.says(&entry("app.x", "2", 2, 0), &[]);
    let mut out = Vec::new();
    bench.nats.remove(Id(1), &mut out);
    assert_eq!(out.iter().filter_map(text).collect::<Vec<_>>(), ["send UNSUB 1"]);
}

#[test]
fn a_gap_or_silence_makes_the_consumer_again() {
    let again = second();
    for broken in [entry("app.x", "2", 3, 0), entry("app.x", "2", 1, 0), heartbeat("Nats-Last-Consumer: 2\r\n", "")] {
        let mut bench = Bench::watching();
        bench.now += 20 * SECOND;
        bench.says(&broken, &["send UNSUB 1"]);
        bench.check(Input::Turn, &[&again]);
    }
    // A consumer that breaks at once would cause reads without a pause.
    let mut bench = Bench::watching();
    bench.says(
        &entry("app.x", "2", 3, 0),
        &["node: failed to watch nats://h:1: consumer has a gap, reading the bucket again"],
    );
    assert_eq!(bench.nats.waiting(), [Id(1)]);
    let mut bench = Bench::watching();
    bench.now += 20 * SECOND;
    bench.says(&heartbeat("Nats-Last-Consumer: 1\r\n", ""), &[]);
    assert_eq!(bench.nats.due(), Some(bench.now + 30 * SECOND));
    bench.now += 30 * SECOND;
    bench.check(Input::Turn, &["send UNSUB 1", &again]);
    bench.now += 3 * SECOND;
    bench.check(Input::Turn, &["node: failed to read from nats://h:1: bucket `b`: no answer within 3s"]);
}

#[test]
fn what_waits_to_be_sent_is_asked_for() {
    let mut bench = Bench::watching();
    bench.says(&heartbeat("", " $JS.FC.KV_b.c.x"), &["send PUB $JS.FC.KV_b.c.x 0"]);
    let stalled = "Nats-Last-Consumer: 9\r\nNats-Consumer-Stalled: $JS.FC.KV_b.c.y\r\n";
    bench.says(&heartbeat(stalled, ""), &["send PUB $JS.FC.KV_b.c.y 0"]);
    bench.says(&heartbeat("Nats-Consumer-Stalled: a b\r\n", ""), &[]);
}

#[test]
fn what_expired_while_it_was_read_is_not_awaited() {
    let mut bench = Bench::asked(false);
    bench.says(&created(1, "{\"num_pending\":2}"), &[]);
    bench.says(&entry("app.x", "1", 1, 1), &[]);
    bench.says(&heartbeat("Nats-Last-Consumer: 1\r\n", ""), &["healthy 1", "1 snapshot /app/x=1", "send UNSUB 1"]);
}

#[test]
fn tls_comes_before_the_login() {
    let mut bench = Bench::with("tls://h:1", Mode::Watch, Kind::User);
    bench.add(1, true, None);
    bench.connect();
    bench.says("INFO {\"headers\":true,\"tls_available\":true}\r\n", &["secure"]);
    bench.check(Input::Connected(CALL), &["send CONNECT PING"]);

    let mut bench = Bench::with("nats://h:1", Mode::Watch, Kind::User);
    bench.add(1, true, None);
    bench.connect();
    let smuggled = b"INFO {\"headers\":true,\"tls_required\":true}\r\nPONG\r\n";
    let words = "node: failed to connect to nats://h:1: bytes before TLS is set up";
    bench.check(Input::Body(CALL, smuggled), &["secure", words]);

    let mut bench = Bench::with("tls://h:1", Mode::Watch, Kind::User);
    bench.add(1, true, None);
    bench.connect();
    let words = "slow: failed to connect to nats://h:1: the server has no TLS: write nats:// and remove the `client_*` \
                 files, or turn its TLS on";
    bench.says("INFO {\"headers\":true}\r\n", &["fail fast", words]);
}

#[test]
fn a_greeting_with_the_password_is_masked() {
    let mut bench = Bench::with("nats://h:1", Mode::Watch, Kind::User);
    bench.add(1, true, None);
    bench.connect_with(Some(login("s3cret-wörd")));
    let words =
        r"node: failed to connect to nats://h:1: the server is no NATS: it greets with `ERR \'<password>\'\r\n`";
    bench.says("ERR 's3cret-wörd'\r\n", &[words]);
}

#[test]
fn errors_of_the_server_have_consequences() {
    // A timeout at the login.
    let mut bench = Bench::with("nats://h:1", Mode::Watch, Kind::User);
    bench.add(1, true, None);
    bench.connect_with(Some(login("s3cret")));
    bench.says(INFO, &["send CONNECT PING"]);
    let words = "slow: failed to log in to nats://h:1: user `me`: Authorization Violation <password>";
    bench.says("-ERR 'Authorization Violation s3cret'\r\n", &["fail fast", words]);
    // A failure while the request for a consumer is pending.
    let mut bench = Bench::asked(true);
    let words = "1 failed: failed to read from nats://h:1: Permissions Violation for Publish to \"$JS.API\"";
    bench.says("-ERR 'Permissions Violation for Publish to \"$JS.API\"'\r\n", &["send UNSUB 1", words]);
    let words = "node: failed to watch nats://h:1: Slow Consumer";
    Bench::watching().says("-ERR 'Slow Consumer'\r\n", &[words]);
    // The file of an expired token may have a new one.
    let words = "node: failed to watch nats://h:1: User Authentication Expired";
    Bench::watching().says("-ERR 'User Authentication Expired'\r\n", &[words]);
}

#[test]
fn a_bucket_that_is_not_there_is_named_and_awaited() {
    let mut bench = Bench::asked(true);
    let answer = "{\"error\":{\"code\":404,\"err_code\":10059,\"description\":\"stream not found\"}}";
    let words =
        "1 failed: failed to read from nats://h:1: there is no bucket `b`: create it (nats kv add b), or mend `bucket`";
    bench.says(&created(1, answer), &["send UNSUB 1", words]);
    let due = bench.nats.due().unwrap();
    assert!((10.0..=30.0).contains(&(due - bench.now).as_secs_f64()));
    bench.now = due;
    bench.check(Input::Turn, &[&second()]);
}

#[test]
fn a_read_that_is_too_large_names_the_limit() {
    let mut bench = Bench::asked(false);
    let mut all: String = (1..=3).map(|number| entry(&format!("app.{number}"), "1", number, 9)).collect();
    all.push_str(&entry("app.4", "1", 4, 9));
    let words =
        "1 failed: failed to read from nats://h:1: bucket `b`: more than 3 keys: raise `max_keys` of the backend";
    bench.says(&all, &["send UNSUB 1", words]);
}

#[test]
fn what_is_no_nats_fails() {
    let mut bench = Bench::new();
    bench.add(1, true, None);
    bench.connect();
    let words = r"node: failed to connect to nats://h:1: the server is no NATS: it greets with `SSH-2.0-OpenSSH\r\n`";
    bench.says("SSH-2.0-OpenSSH\r\n", &[words]);
    // The message does not name a limit to raise.
    bench.connect();
    let words =
        r"node: failed to connect to nats://h:1: the server is no NATS: it greets with `MSG a 0 99999999999\r\n`";
    bench.says("MSG a 0 99999999999\r\n", &[words]);
    let mut bench = Bench::asked(false);
    let words = "node: failed to read from nats://h:1: bytes that are not the protocol of NATS";
    bench.says("HTTP/1.1 400 Bad Request\r\n", &[words]);
    let words = "node: failed to watch nats://h:1: connection closed by the server";
    Bench::watching().check(Input::End(CALL), &[words]);
    let failure = Failure { kind: FailureKind::Other, words: "cut".into() };
    Bench::watching().check(Input::Failed(CALL, failure), &["node: failed to watch nats://h:1: cut"]);
    let mut bench = Bench::new();
    bench.add(1, true, None);
    bench.connect();
    bench.now += 3 * SECOND;
    let words = "node: failed to connect to nats://h:1: the server said nothing within 3s: it may be no NATS, or want TLS first";
    bench.check(Input::Turn, &[words]);
}

#[test]
fn a_one_shot_run_ends_with_what_it_got() {
    let mut bench = Bench::with("nats://h:1", Mode::OneShot, Kind::User);
    bench.add(1, true, None);
    bench.log_in();
    bench.check(Input::Turn, &[CREATE]);
    bench.says(&created(1, "{\"num_pending\":0}"), &["healthy 1", "1 snapshot", "send UNSUB 1"]);
    assert_eq!(bench.nats.waiting(), []);
    bench.check(Input::Turn, &["cancel"]);
    assert_eq!(bench.nats.due(), None);
}

/// The node has not failed: there is no report.
#[test]
fn a_value_that_is_not_known_is_read_again() {
    let mut bench = Bench::watching();
    bench.says(&entry("app/x", "2", 2, 0), &[]);
    bench.says(&removal("app/x", 3, 0), &["1 changes /app/x=2", "send UNSUB 1"]);
    bench.check(Input::Turn, &[&second()]);
}
