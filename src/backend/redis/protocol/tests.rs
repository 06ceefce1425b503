//! Redis from bytes to commands: the replies of a server and the commands that follow, one line each. The bench makes
//! connections as the driver does.

use std::time::{Duration, Instant};

use super::super::wire::Reply;
use super::*;
use crate::backend::protocol::{Credentials, Security};
use crate::config::{Kind, Secret};

struct Bench {
    redis: Redis,
    now: Instant,
    credentials: Result<Option<(&'static str, &'static str)>, String>,
}

const WARNING: &str = "1 Warn redis cannot be watched, using `interval` instead interval=60 reason=";

fn settings() -> Settings {
    Settings {
        nodes: "redis://a:1,redis://b:1".to_owned(),
        database: 0,
        request_timeout: Duration::from_secs(3),
        watch_deadline: Duration::from_secs(30),
        limits: ReadLimits::default(),
        max_response: 100_000,
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn bulks(texts: &[&str]) -> String {
    array(&texts.iter().map(|text| bulk(text)).collect::<Vec<_>>())
}

fn array(items: &[String]) -> String {
    format!("*{}\r\n{}", items.len(), items.concat())
}

fn page(cursor: &str, keys: &[&str]) -> String {
    array(&[bulk(cursor), bulks(keys)])
}

fn event(key: &str, pattern: &str) -> String {
    bulks(&["pmessage", &format!("__keyspace@0__:{pattern}"), &format!("__keyspace@0__:{key}"), "set"])
}

fn confirmed(kind: &str) -> String {
    array(&[bulk(kind), bulk("__keyspace@0__:x"), ":1\r\n".to_owned()])
}

const TRACK: &str = "send 1 CLIENT TRACKING ON REDIRECT 7 BCAST PREFIX \0remco: the beginning of no key\0; \
                     SUBSCRIBE __redis__:invalidate";

const SUBSCRIBE: &str = "send 1 SUBSCRIBE __keyspace@0__:/a; PSUBSCRIBE __keyspace@0__:/a/*";

const NIL: &str = "$-1\r\n";

impl Bench {
    fn with(settings: Settings, mode: Mode, resources: &[(&str, bool)]) -> Bench {
        let now = Instant::now();
        let mut redis = Redis::new(settings, mode, 1, now);
        redis.use_node("redis://a:1");
        let mut bench = Bench { redis, now, credentials: Ok(None) };
        for (number, (key, watch)) in resources.iter().enumerate() {
            bench.add(number as u64 + 1, key, watch);
        }
        bench
    }

    fn new(resources: &[(&str, bool)]) -> Bench {
        Bench::with(settings(), Mode::Watch, resources)
    }

    fn add(&mut self, id: u64, key: &str, watch: &bool) {
        let options = config::Backend {
            keys: vec![key.to_owned()],
            watch_keys: vec![key.to_owned()],
            secret: false,
            prefix: String::new(),
            watch: *watch,
            onetime: false,
            interval: (!watch).then_some(Duration::from_secs(60)),
            kind: Kind::Mock,
        };
        self.redis.add(Id(id), &options, &mut Vec::new());
    }

    /// Handles an input and the immediate answers of the driver.
    #[track_caller]
    fn check(&mut self, input: Input<'_>, want: &[&str]) {
        let mut out = Vec::new();
        self.redis.on(input, self.now, &mut out);
        let mut lines = Vec::new();
        while !out.is_empty() {
            let mut more = Vec::new();
            for output in out {
                match output {
                    Output::ReadCredentials => {
                        let secret = |text: &str| Secret::new(text.to_owned());
                        let credentials = self.credentials.clone().map(|pair| {
                            pair.map(|(user, password)| Credentials { user: secret(user), password: secret(password) })
                        });
                        self.redis.on(Input::Credentials(credentials), self.now, &mut more);
                    }
                    Output::NodeFailed { words, not_before } => {
                        let rest = not_before.map_or("", |_| " (rests)");
                        lines.push(format!("node: {words}{rest}"));
                        self.redis.use_node("redis://a:1");
                    }
                    other => lines.extend(text(&other)),
                }
            }
            out = more;
        }
        assert_eq!(lines, want);
    }

    #[track_caller]
    fn turn(&mut self, want: &[&str]) {
        self.check(Input::Turn, want);
    }

    #[track_caller]
    fn reply(&mut self, text: &str, want: &[&str]) {
        self.check(Input::Body(COMMANDS, text.as_bytes()), want);
    }

    #[track_caller]
    fn tell(&mut self, text: &str, want: &[&str]) {
        self.check(Input::Body(EVENTS, text.as_bytes()), want);
    }

    fn connected(&mut self, call: CallId) {
        self.check(Input::Connected(call), &[]);
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// A bench that reads `/a` by interval, and has requested it.
    fn asking() -> Bench {
        let mut bench = Bench::new(&[("/a", false)]);
        bench.turn(&["connect 0", "send 0 GET /a"]);
        bench.connected(COMMANDS);
        bench
    }

    /// A bench that watches `/a` with the key `/a/x`.
    fn watching() -> Bench {
        let mut bench = Bench::new(&[("/a", true)]);
        bench.watch();
        bench
    }

    #[track_caller]
    fn watch(&mut self) {
        self.turn(&["connect 1", "send 1 CONFIG GET notify-keyspace-events; CLIENT ID"]);
        self.connected(EVENTS);
        self.tell(&bulks(&["notify-keyspace-events", "AK"]), &[]);
        self.tell(":7\r\n", &[TRACK]);
        self.tell("+OK\r\n", &[]);
        self.tell(&confirmed("subscribe"), &[SUBSCRIBE]);
        self.turn(&[]);
        self.tell(&confirmed("subscribe"), &[]);
        self.turn(&[]);
        self.tell(&confirmed("psubscribe"), &[]);
        self.turn(&["connect 0", "send 0 GET /a"]);
        self.connected(COMMANDS);
        self.reply(NIL, &["send 0 SCAN 0 MATCH /a/* COUNT 1000"]);
        self.reply(&page("0", &["/a/x"]), &["send 0 MGET /a/x"]);
        self.reply(&bulks(&["1"]), &["healthy 1", "1 snapshot /a/x=1"]);
        self.turn(&[]);
    }
}

fn text(output: &Output) -> Option<String> {
    let lossy = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match output {
        Output::Connect(call, Security::Plain) => Some(format!("connect {}", call.0)),
        Output::Connect(call, Security::Tls) => Some(format!("connect {} tls", call.0)),
        Output::Send(call, bytes) => {
            let mut commands = Vec::new();
            Reader::new(1 << 20).push(bytes, &mut commands).unwrap();
            let words = |command: &Reply| match command {
                Reply::Array(words) => {
                    let word = |word: &Reply| if let Reply::Bulk(word) = word { lossy(word) } else { "?".into() };
                    words.iter().map(word).collect::<Vec<_>>().join(" ")
                }
                other => format!("{other:?}"),
            };
            Some(format!("send {} {}", call.0, commands.iter().map(words).collect::<Vec<_>>().join("; ")))
        }
        Output::Cancel(call) => Some(format!("cancel {}", call.0)),
        Output::Report(id, Report::Snapshot(layer)) => {
            let pairs = layer.iter().map(|(key, value)| format!(" {}={}", lossy(key), lossy(value)));
            Some(format!("{} snapshot{}", id.0, pairs.collect::<String>()))
        }
        Output::Report(id, Report::Changes { changes, trigger }) => {
            let change = |change: &crate::backend::Change| match change {
                crate::backend::Change::Put(key, value) => format!(" {}={}", lossy(key), lossy(value)),
                crate::backend::Change::Delete(key) => format!(" -{}", lossy(key)),
            };
            let trigger = if *trigger { "" } else { " quietly" };
            Some(format!("{} changes{}{trigger}", id.0, changes.iter().map(change).collect::<String>()))
        }
        Output::Report(id, Report::Failed(words)) => Some(format!("{} failed: {words}", id.0)),
        Output::Report(id, Report::Log(line)) if line.level == Level::Warn => {
            let fields = line.fields.iter().filter(|(name, _)| *name != "backend");
            let fields = fields.map(|(name, value)| format!(" {name}={value}")).collect::<String>();
            Some(format!("{} Warn {}{fields}", id.0, line.message))
        }
        Output::Healthy(id) => Some(format!("healthy {}", id.0)),
        Output::FailFast => Some("fail fast".into()),
        Output::Report(..) | Output::Worked | Output::ResetBackoff => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_are_read_page_by_page_and_the_connection_is_closed() {
    let mut bench = Bench::asking();
    bench.reply(NIL, &["send 0 SCAN 0 MATCH /a/* COUNT 1000"]);
    let asks = "send 0 SCAN 7 MATCH /a/* COUNT 1000; MGET /a/x /a/y";
    bench.reply(&page("7", &["/a/x", "/a/y", "/a/x"]), &[asks]);
    bench.reply(&page("0", &["/a/y"]), &[]);
    let values = array(&[bulk("1"), NIL.to_owned()]);
    bench.reply(&values, &["healthy 1", "1 snapshot /a/x=1"]);
    bench.turn(&["cancel 0"]);
    let due = bench.redis.due().unwrap() - bench.now;
    assert!((54.0..=66.0).contains(&due.as_secs_f64()));
    bench.wait(66);
    bench.turn(&["connect 0", "send 0 GET /a"]);
    bench.connected(COMMANDS);
    bench.reply(&bulk("2"), &["healthy 1", "1 snapshot /a=2"]);
}

#[test]
fn replies_may_come_in_pieces_of_any_size() {
    let replies = [NIL.to_owned(), page("0", &["/a/\r\n"]), array(&[bulk("$-1\r\n")])].concat();
    for size in 1..replies.len() {
        let mut bench = Bench::asking();
        let mut layers = Vec::new();
        for piece in replies.as_bytes().chunks(size) {
            let mut out = Vec::new();
            bench.redis.on(Input::Body(COMMANDS, piece), bench.now, &mut out);
            layers.extend(out.iter().filter_map(text).filter(|line| line.contains("snapshot")));
        }
        assert_eq!(layers, ["1 snapshot /a/\r\n=$-1\r\n"]);
    }
}

#[test]
fn a_login_goes_before_everything_and_is_not_shown() {
    let mut bench = Bench::with(Settings { database: 3, ..settings() }, Mode::Watch, &[("/a", false)]);
    bench.credentials = Ok(Some(("", "s3sameopen")));
    bench.turn(&["connect 0", "send 0 AUTH s3sameopen; SELECT 3; GET /a"]);
    bench.connected(COMMANDS);
    bench.reply("+OK\r\n", &[]);
    let words = "node: failed to select database 3 of redis://a:1: ERR DB index is out of range (rests)";
    bench.reply("-ERR DB index is out of range\r\n", &["fail fast", words]);
    bench.credentials = Ok(Some(("bob", "s3sameopen")));
    bench.turn(&["connect 0", "send 0 AUTH bob s3sameopen; SELECT 3; GET /a"]);
    bench.connected(COMMANDS);
    let words = "node: failed to log in to redis://a:1: user `bob`: WRONGPASS not <password> (rests)";
    bench.reply("-WRONGPASS not s3sameopen\r\n-NOAUTH\r\n-NOAUTH\r\n", &["fail fast", words]);
    bench.credentials = Err("failed to read `p`: it is empty".to_owned());
    bench.turn(&["node: failed to log in to redis://a:1: failed to read `p`: it is empty"]);
}

#[test]
fn errors_of_the_server_have_advice() {
    let check = |error: &str, want: &[&str]| Bench::asking().reply(&format!("-{error}\r\n"), want);
    let node = |words: &str| format!("node: failed to read from redis://a:1: {words}");
    let rests = |words: &str| node(&format!("{words} (rests)"));
    check(
        "NOAUTH Authentication required.",
        &["fail fast", &rests("NOAUTH Authentication required.: set `password` or `password_file`")],
    );
    let cluster = "MOVED 1 h:1: clusters are not supported, name a server that holds all keys";
    check("MOVED 1 h:1", &["fail fast", &rests(cluster)]);
    check("LOADING Redis is loading", &[&node("LOADING Redis is loading")]);
    check("MASTERDOWN Link with MASTER is down", &[&node("MASTERDOWN Link with MASTER is down")]);
    let words = "1 failed: failed to read from redis://a:1: key `/a` holds no string: WRONGTYPE no";
    check("WRONGTYPE no", &[words]);
    let words = "1 failed: failed to read from redis://a:1: the default user may not read key `/a`: NOPERM no";
    check("NOPERM no", &[words]);
}

#[test]
fn what_is_no_answer_is_a_failure() {
    let check = |text: &str, words: &str| {
        Bench::asking().reply(text, &[&format!("node: failed to read from redis://a:1: {words}")]);
    };
    check("HTTP/1.1 400\r\n", "not a reply of redis: `HTTP/1.1 400\\r\\n`");
    check(":1\r\n", "not an answer to what was asked");
    check("$200000\r\n", "reply is larger than the limit of 100000 bytes: raise `max_response` of the backend");
    let mut bench = Bench::asking();
    bench.reply(NIL, &["send 0 SCAN 0 MATCH /a/* COUNT 1000"]);
    bench.reply(&bulks(&["0", "0"]), &["node: failed to read from redis://a:1: not an answer to what was asked"]);
    let mut bench = Bench::asking();
    bench.reply(NIL, &["send 0 SCAN 0 MATCH /a/* COUNT 1000"]);
    bench.reply(&page("0", &["/a/x"]), &["send 0 MGET /a/x"]);
    bench.reply(&bulks(&[]), &["node: failed to read from redis://a:1: not an answer to what was asked"]);
}

#[test]
fn a_reply_that_does_not_come_is_not_awaited() {
    let mut bench = Bench::asking();
    assert_eq!(bench.redis.due(), Some(bench.now + Duration::from_secs(3)));
    // A few bytes do not extend the deadline.
    bench.wait(2);
    bench.reply("$1", &[]);
    bench.wait(1);
    bench.turn(&["node: failed to read from redis://a:1: no reply within 3s"]);
    // A large value on a slow line extends the deadline.
    let mut bench = Bench::asking();
    bench.reply("$10240\r\n", &[]);
    for _ in 0..10 {
        bench.turn(&[]);
        bench.wait(2);
        bench.reply(&"x".repeat(1024), &[]);
    }
    bench.reply("\r\n", &["healthy 1", &format!("1 snapshot /a={}", "x".repeat(10_240))]);
}

#[test]
fn keys_that_the_user_may_not_read_are_left_out_and_reported_once() {
    let mut bench = Bench::asking();
    for round in 0..2 {
        bench.reply(NIL, &["send 0 SCAN 0 MATCH /a/* COUNT 1000"]);
        bench.reply(&page("0", &["/a/x", "/a/y"]), &["send 0 MGET /a/x /a/y"]);
        bench.reply("-NOPERM no\r\n", &["send 0 GET /a/x; GET /a/y"]);
        let warning = "1 Warn keys that the user may not read are left out keys=1 first=/a/y";
        let want = ["healthy 1", "1 snapshot /a/x=1"];
        let values = format!("{}-NOPERM no\r\n", bulk("1"));
        if round == 0 {
            bench.reply(&values, &[warning, want[0], want[1]]);
        } else {
            bench.reply(&values, &want);
        }
        bench.wait(66);
        if round == 0 {
            bench.turn(&["send 0 GET /a"]);
        }
    }
}

#[test]
fn changes_of_single_keys_are_read_and_reported() {
    let mut bench = Bench::watching();
    bench.tell(&[event("/a/y", "/a/*"), event("/a/x", "/a/*"), event("/a/y", "/a/*")].concat(), &[]);
    bench.check(Input::Quiet, &["send 0 MGET /a/x /a/y"]);
    bench.tell(&event("/a/z", "/a/*"), &[]);
    bench.check(Input::Quiet, &[]);
    bench.reply(&array(&[NIL.to_owned(), bulk("2")]), &["1 changes -/a/x /a/y=2"]);
    bench.check(Input::Quiet, &["send 0 MGET /a/z"]);
    bench.reply(&bulks(&["3"]), &["1 changes /a/z=3"]);
    // Other keys are not requested, and an unchanged value is not reported.
    bench.tell(&event("/b/x", "/b/*"), &[]);
    bench.check(Input::Quiet, &[]);
    bench.tell(&event("/a/z", "/a/*"), &[]);
    bench.check(Input::Quiet, &["send 0 MGET /a/z"]);
    bench.reply(&bulks(&["3"]), &[]);
    // The key itself hides the keys below it.
    bench.tell(&bulks(&["message", "__keyspace@0__:/a", "set"]), &[]);
    bench.check(Input::Quiet, &["send 0 MGET /a"]);
    bench.reply(&bulks(&["0"]), &[]);
    bench.turn(&["send 0 GET /a"]);
    bench.reply(&bulk("0"), &["healthy 1", "1 snapshot /a=0"]);
}

#[test]
fn what_changes_while_all_is_read_is_looked_at_again() {
    let mut bench = Bench::new(&[("/a", true)]);
    bench.watch();
    bench.redis.reread(Id(1));
    bench.turn(&["send 0 GET /a"]);
    bench.tell(&event("/a/x", "/a/*"), &[]);
    bench.check(Input::Quiet, &[]);
    bench.reply(NIL, &["send 0 SCAN 0 MATCH /a/* COUNT 1000"]);
    bench.reply(&page("0", &["/a/x"]), &["send 0 MGET /a/x"]);
    bench.reply(&bulks(&["1"]), &["healthy 1", "1 snapshot /a/x=1"]);
    bench.check(Input::Quiet, &["send 0 MGET /a/x"]);
    bench.reply(&bulks(&["2"]), &["1 changes /a/x=2"]);
}

#[test]
fn a_server_without_notifications_is_read_by_interval_and_asked_again() {
    let check = |answer: &str, reason: &str| {
        let mut bench = Bench::new(&[("/a", true)]);
        bench.turn(&["connect 1", "send 1 CONFIG GET notify-keyspace-events; CLIENT ID"]);
        bench.connected(EVENTS);
        bench.tell(answer, &["cancel 1", &format!("{WARNING}{reason}")]);
        bench.turn(&["connect 0", "send 0 GET /a"]);
        bench.connected(COMMANDS);
        bench.reply(&bulk("1"), &["healthy 1", "1 snapshot /a=1"]);
        bench.turn(&["cancel 0"]);
        bench.wait(66);
        bench.turn(&["connect 1", "send 1 CONFIG GET notify-keyspace-events; CLIENT ID"]);
        bench.connected(EVENTS);
        // It was reported already.
        bench.tell(answer, &["cancel 1"]);
        bench.turn(&["connect 0", "send 0 GET /a"]);
        bench.connected(COMMANDS);
        bench.reply(&bulk("1"), &["healthy 1", "1 snapshot /a=1"]);
        bench.turn(&["cancel 0"]);
        bench.wait(66);
        bench.watch();
    };
    let flags = |flags: &str| bulks(&["notify-keyspace-events", flags]);
    check(&flags(""), "`notify-keyspace-events` of the server is empty: set it to `KA`");
    check(&flags("AE"), "`notify-keyspace-events` of the server is `AE`: set it to `KA`");
    check(&flags("K$g"), "`notify-keyspace-events` of the server is `K$g`: set it to `KA`");
    check("*0\r\n", "the server has no `notify-keyspace-events`");
    let unsaid = "the server does not say whether it tells of changes: ";
    check("-NOPERM no\r\n", &format!("{unsaid}NOPERM no"));
    check("-ERR unknown command 'CONFIG'\r\n", &format!("{unsaid}ERR unknown command 'CONFIG'"));
}

/// The resource was never read again, because it counted as watched.
#[test]
fn a_resource_that_comes_after_the_server_was_asked_is_read_by_time_too() {
    let mut bench = Bench::new(&[("/a", true)]);
    let decline = |bench: &mut Bench, want: &[&str]| {
        bench.turn(&["connect 1", "send 1 CONFIG GET notify-keyspace-events; CLIENT ID"]);
        bench.connected(EVENTS);
        bench.tell("*0\r\n", want);
    };
    let warning = format!("{WARNING}the server has no `notify-keyspace-events`");
    decline(&mut bench, &["cancel 1", &warning]);
    bench.turn(&["connect 0", "send 0 GET /a"]);
    bench.connected(COMMANDS);
    bench.add(2, "/b", &true);
    bench.reply(&bulk("1"), &["healthy 1", "1 snapshot /a=1"]);
    decline(&mut bench, &["cancel 1", &warning.replacen('1', "2", 1)]);
    bench.turn(&["send 0 GET /b"]);
    bench.reply(&bulk("1"), &["healthy 2", "2 snapshot /b=1"]);
    bench.turn(&["cancel 0"]);
    assert_eq!(bench.redis.waiting(), []);
    assert!(bench.redis.due().is_some());
}

#[test]
fn a_user_that_may_not_subscribe_is_read_by_interval() {
    let mut bench = Bench::new(&[("/a", true)]);
    bench.credentials = Ok(Some(("bob", "p")));
    bench.turn(&["connect 1", "send 1 AUTH bob p; CONFIG GET notify-keyspace-events; CLIENT ID"]);
    bench.connected(EVENTS);
    bench.tell("+OK\r\n", &[]);
    bench.tell(&bulks(&["notify-keyspace-events", "Kg$xe"]), &[]);
    let warning = "1 Warn FLUSHALL and FLUSHDB are not noticed before the next read reason=NOPERM no id";
    bench.tell("-NOPERM no id\r\n", &[warning, SUBSCRIBE]);
    let reason = "user `bob` may not subscribe: NOPERM no";
    bench.tell("-NOPERM no\r\n-NOPERM no\r\n", &["cancel 1", &format!("{WARNING}{reason}")]);
    bench.turn(&["connect 0", "send 0 AUTH bob p; GET /a"]);
}

#[test]
fn a_flush_is_a_reason_to_read_again() {
    let flush = array(&[bulk("message"), bulk("__redis__:invalidate"), NIL.to_owned()]);
    let mut bench = Bench::watching();
    bench.wait(1);
    bench.tell(&flush, &[]);
    bench.turn(&["send 0 GET /a"]);
    // Another flush meanwhile: the replies may be older than the flush.
    bench.tell(&flush, &[]);
    bench.reply(&bulk("1"), &["healthy 1", "1 snapshot /a=1"]);
    // Repeated flushes do not cause reads without a pause.
    bench.tell(&flush, &[]);
    bench.turn(&[]);
    assert_eq!(bench.redis.due(), Some(bench.now + PACE));
    bench.now += PACE;
    bench.turn(&["send 0 GET /a"]);
    bench.reply(&bulk("2"), &["healthy 1", "1 snapshot /a=2"]);
    bench.turn(&[]);
}

#[test]
fn a_server_without_tracking_is_watched_all_the_same() {
    for (tracking, flushes, reason) in
        [("-NOPERM no", "+OK", "NOPERM no"), ("+OK", "-NOPERM channel", "NOPERM channel")]
    {
        let mut bench = Bench::new(&[("/a", true)]);
        bench.turn(&["connect 1", "send 1 CONFIG GET notify-keyspace-events; CLIENT ID"]);
        bench.connected(EVENTS);
        bench.tell(&[bulks(&["notify-keyspace-events", "AK"]), ":7\r\n".to_owned()].concat(), &[TRACK]);
        bench.tell(&format!("{tracking}\r\n"), &[]);
        let warning = format!("1 Warn FLUSHALL and FLUSHDB are not noticed before the next read reason={reason}");
        bench.tell(&format!("{flushes}\r\n"), &[&warning, SUBSCRIBE]);
    }
}

#[test]
fn more_changes_than_keys_may_be_are_a_reason_to_read_again() {
    let limits = ReadLimits { max_keys: 3, ..ReadLimits::default() };
    let mut bench = Bench::with(Settings { limits, ..settings() }, Mode::Watch, &[("/a", true)]);
    bench.watch();
    let events: Vec<String> = (0..4).map(|n| event(&format!("/a/{n}"), "/a/*")).collect();
    bench.tell(&events.concat(), &[]);
    bench.check(Input::Quiet, &[]);
    bench.turn(&["send 0 GET /a"]);
    bench.reply(NIL, &["send 0 SCAN 0 MATCH /a/* COUNT 1000"]);
    let words = "1 failed: failed to read from redis://a:1: more than 3 keys: raise `max_keys` of the backend";
    bench.reply(&page("0", &["/a/0", "/a/1", "/a/2", "/a/3"]), &[words]);
}

#[test]
fn a_silent_watch_is_probed_on_both_connections() {
    let mut bench = Bench::watching();
    assert_eq!(bench.redis.due(), Some(bench.now + Duration::from_secs(30)));
    bench.wait(30);
    bench.turn(&["send 0 PING", "send 1 PING"]);
    bench.reply("+PONG\r\n", &[]);
    bench.tell(&bulks(&["pong", ""]), &[]);
    bench.turn(&[]);
    // The refusal of a probe is an answer, too.
    bench.wait(30);
    bench.turn(&["send 0 PING", "send 1 PING"]);
    bench.reply("-NOPERM no\r\n", &[]);
    bench.tell("-NOPERM no\r\n", &[]);
    bench.turn(&[]);
    bench.wait(30);
    bench.turn(&["send 0 PING", "send 1 PING"]);
    bench.wait(3);
    bench.turn(&["node: failed to read from redis://a:1: no reply within 3s"]);
    bench.watch();
}

#[test]
fn an_idle_connection_may_be_closed_and_a_watch_may_not() {
    let mut bench = Bench::watching();
    bench.check(Input::End(COMMANDS), &["cancel 0"]);
    bench.tell(&event("/a/y", "/a/*"), &[]);
    bench.check(Input::Quiet, &["connect 0", "send 0 MGET /a/y"]);
    bench.connected(COMMANDS);
    bench.reply(&bulks(&["2"]), &["1 changes /a/y=2"]);
    bench.check(Input::End(EVENTS), &["node: failed to watch redis://a:1: connection closed by the server"]);
    bench.watch();
}

#[test]
fn resources_share_the_connections_and_come_and_go() {
    let mut bench = Bench::watching();
    bench.add(2, "/b", &true);
    bench.turn(&["send 1 SUBSCRIBE __keyspace@0__:/b; PSUBSCRIBE __keyspace@0__:/b/*"]);
    bench.tell(&[confirmed("subscribe"), confirmed("psubscribe")].concat(), &[]);
    bench.turn(&["send 0 GET /b"]);
    bench.reply(&bulk("1"), &["healthy 2", "2 snapshot /b=1"]);
    bench.redis.remove(Id(1), &mut Vec::new());
    bench.turn(&["send 1 UNSUBSCRIBE __keyspace@0__:/a; PUNSUBSCRIBE __keyspace@0__:/a/*"]);
    bench.tell(&event("/a/x", "/a/*"), &[]);
    bench.check(Input::Quiet, &[]);
    bench.redis.remove(Id(2), &mut Vec::new());
    bench.turn(&["cancel 1", "cancel 0"]);
    assert_eq!(bench.redis.due(), None);
}

#[test]
fn a_resource_that_leaves_while_it_is_read_leaves_its_answers() {
    let mut bench = Bench::new(&[("/a", false), ("/b", false)]);
    bench.turn(&["connect 0", "send 0 GET /a"]);
    bench.connected(COMMANDS);
    bench.redis.remove(Id(1), &mut Vec::new());
    bench.turn(&["send 0 GET /b"]);
    bench.reply(&[NIL.to_owned(), bulk("1")].concat(), &["healthy 2", "2 snapshot /b=1"]);
}

#[test]
fn a_one_shot_run_does_not_watch() {
    let mut bench = Bench::with(settings(), Mode::OneShot, &[("/a", true)]);
    bench.turn(&["connect 0", "send 0 GET /a"]);
    bench.connected(COMMANDS);
    bench.reply(&bulk("1"), &["healthy 1", "1 snapshot /a=1"]);
    bench.turn(&["cancel 0"]);
    assert_eq!(bench.redis.due(), None);
}

#[test]
fn nodes_with_tls_are_recognized_by_their_scheme() {
    let mut bench = Bench::new(&[("/a", false)]);
    bench.redis.use_node("rediss://a:1");
    bench.turn(&["connect 0 tls", "send 0 GET /a"]);
    bench.check(
        Input::Failed(COMMANDS, Failure { kind: FailureKind::Other, words: "no".into() }),
        &["node: failed to connect to rediss://a:1: no"],
    );
}

#[test]
fn a_scan_without_an_end_is_a_failure_and_a_long_one_is_reported() {
    let mut bench = Bench::asking();
    bench.reply(NIL, &["send 0 SCAN 0 MATCH /a/* COUNT 1000"]);
    for cursor in 1..=60 {
        bench.turn(&[]);
        bench.wait(1);
        let asked = format!("send 0 SCAN {cursor} MATCH /a/* COUNT 1000");
        bench.reply(&page(&cursor.to_string(), &[]), &[&asked]);
    }
    assert_eq!(bench.redis.due(), Some(bench.now));
    let long = "the read takes longer than a minute: SCAN looks at all keys of the database";
    bench.turn(&[&format!("1 Warn {long} pages=60 keys=0")]);
    bench.wait(1);
    bench.reply(&page("17", &[]), &["send 0 SCAN 17 MATCH /a/* COUNT 1000"]);
    bench.turn(&[]);
    bench.reply(&page("99", &[]), &["send 0 SCAN 99 MATCH /a/* COUNT 1000"]);
    (62..64).for_each(|_| bench.reply(&page("99", &[]), &["send 0 SCAN 99 MATCH /a/* COUNT 1000"]));
    let words = "SCAN has no end: the server gave the cursor `99` twice";
    bench.reply(&page("99", &[]), &[&format!("node: failed to read from redis://a:1: {words}")]);
}

#[test]
fn a_server_that_closes_before_it_answers_may_be_another_one() {
    let mut bench = Bench::asking();
    let hint = "before it answered: does it want rediss://, or is it no redis?";
    let words = format!("node: failed to read from redis://a:1: connection closed by the server {hint}");
    bench.check(Input::End(COMMANDS), &[&words]);
    let mut bench = Bench::asking();
    bench.reply(NIL, &["send 0 SCAN 0 MATCH /a/* COUNT 1000"]);
    let words = "node: failed to read from redis://a:1: connection closed by the server";
    bench.check(Input::End(COMMANDS), &[words]);
}
