//! ZooKeeper from bytes to reports: the frames of a server and the requests that follow, one line each. A separate
//! reader parses the requests.

use std::collections::VecDeque;

use super::*;
use crate::backend::Change;
use crate::backend::protocol::{Failure, FailureKind};
use crate::config::{Kind, ReadLimits};

struct Bench {
    zookeeper: Zookeeper,
    now: Instant,
    /// The numbers of the requests without a reply.
    asked: VecDeque<i32>,
    /// The size of the pieces in which the server's bytes arrive.
    piece: usize,
}

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        nodes: "zookeeper://a:1".into(),
        chroot: Vec::new(),
        login: false,
        session_timeout: 10 * SECOND,
        watch_deadline: 30 * SECOND,
        request_timeout: 3 * SECOND,
        max_response: 1000,
        read: ReadLimits { max_keys: 100, max_decoded: 1000 },
    }
}

fn options(keys: &[&str], watch: bool, interval: Option<u64>) -> config::Backend {
    let keys: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
    config::Backend {
        watch_keys: keys.clone(),
        secret: false,
        keys,
        prefix: String::new(),
        watch,
        onetime: false,
        interval: interval.map(Duration::from_secs),
        kind: Kind::Mock,
    }
}

impl Bench {
    fn new(settings: Settings, mode: Mode) -> Bench {
        let mut zookeeper = Zookeeper::new(settings, mode, 1);
        zookeeper.use_node("zookeeper://a:1");
        Bench { zookeeper, now: Instant::now(), asked: VecDeque::new(), piece: usize::MAX }
    }

    /// A bench with one resource that watches `/a`, before the first request.
    fn watching() -> Bench {
        let mut bench = Bench::new(settings(), Mode::Watch);
        bench.add(1, &options(&["/a"], true, None));
        bench
    }

    /// As `watching`, with a session and a node `/a` that has one child, `/a/x`.
    fn watched() -> Bench {
        let mut bench = Bench::watching();
        bench.open();
        bench.turn(&["ask sync /", "ask watch /a", "ask data /a"]);
        bench.answer("ok", &[]);
        bench.answer("ok", &[]);
        bench.answer("data - 1", &[]);
        bench.turn(&["ask children /a"]);
        bench.answer("children x", &[]);
        bench.turn(&["ask data /a/x"]);
        bench.answer("data 1 0", &["healthy 1", "1 snapshot /a/x=1"]);
        bench.turn(&[]);
        bench
    }

    /// As `watching`, on a server without persistent watches. The read of `/a` is pending, with a watch on it.
    fn of_old_server() -> Bench {
        let mut bench = Bench::watching();
        bench.open();
        bench.turn(&["ask sync /", "ask watch /a", "ask data /a"]);
        bench.answer("ok", &[]);
        bench.answer("error -6", &["cancel"]);
        bench.turn(&["connect Plain", "session 10000 5"]);
        bench.session(5);
        bench.turn(&["ask sync /", "ask data /a watched", "ask children /a watched"]);
        bench
    }

    fn add(&mut self, id: u64, options: &config::Backend) {
        self.zookeeper.add(Id(id), options, &mut Vec::new());
    }

    #[track_caller]
    fn check(&mut self, input: Input<'_>, want: &[&str]) {
        let mut out = Vec::new();
        self.zookeeper.on(input, self.now, &mut out);
        let got = self.texts(out);
        assert_eq!(got, want);
    }

    fn texts(&mut self, out: Vec<Output>) -> Vec<String> {
        out.iter().flat_map(|output| self.text(output)).collect()
    }

    fn text(&mut self, output: &Output) -> Vec<String> {
        match output {
            Output::Connect(_, security) => {
                self.asked.clear();
                vec![format!("connect {security:?}")]
            }
            Output::Send(_, bytes) => self.requests(bytes),
            Output::Cancel(_) => vec!["cancel".into()],
            Output::ReadCredentials => vec!["credentials".into()],
            Output::Report(id, Report::Snapshot(layer)) => {
                let pair = |(key, value): (&Bytes, &Bytes)| format!(" {}={}", shown(key), shown(value));
                vec![format!("{} snapshot{}", id.0, layer.iter().map(pair).collect::<String>())]
            }
            Output::Report(id, Report::Changes { changes, trigger }) => {
                let word = |change: &Change| match change {
                    Change::Put(key, value) => format!(" {}={}", shown(key), shown(value)),
                    Change::Delete(key) => format!(" -{}", shown(key)),
                };
                let star = if *trigger { "*" } else { "" };
                vec![format!("{} changes{star}{}", id.0, changes.iter().map(word).collect::<String>())]
            }
            Output::Report(id, Report::Failed(words)) => vec![format!("{} failed: {words}", id.0)],
            Output::NodeFailed { words, not_before } => {
                let rests = if not_before.is_some() { " (rests)" } else { "" };
                vec![format!("node: {words}{rests}")]
            }
            Output::Healthy(id) => vec![format!("healthy {}", id.0)],
            Output::FailFast => vec!["fail fast".into()],
            Output::ResetBackoff => vec!["reset backoff".into()],
            Output::Report(..) | Output::Worked => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    /// The requests in some bytes, one line each.
    fn requests(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while !bytes.is_empty() {
            let (frame, rest) = bytes[4..].split_at(int(bytes) as usize);
            bytes = rest;
            let text = |at: usize| {
                let length = int(&frame[at..]) as usize;
                (shown(&frame[at + 4..at + 4 + length]), &frame[at + 4 + length..])
            };
            // In a request for a session the timeout follows the last transaction.
            if frame.len() >= 29 && frame[..12] == [0; 12] {
                lines.push(format!("session {} {}", int(&frame[12..]), int(&frame[20..])));
                continue;
            }
            let number = int(frame);
            let line = match int(&frame[4..]) {
                11 => "ping".to_owned(),
                100 => format!("authenticate {}", text(22).0),
                -11 => "close".to_owned(),
                9 => format!("ask sync {}", text(8).0),
                106 => format!("ask watch {}", text(8).0),
                operation => {
                    let what = match operation {
                        3 => "creation",
                        4 => "data",
                        12 => "children",
                        _ => panic!("operation {operation}"),
                    };
                    let (path, rest) = text(8);
                    let watched = if rest == [1] { " watched" } else { "" };
                    format!("ask {what} {path}{watched}")
                }
            };
            if number > 0 && line != "close" {
                self.asked.push_back(number);
            }
            lines.push(line);
        }
        lines
    }

    #[track_caller]
    fn turn(&mut self, want: &[&str]) {
        self.check(Input::Turn, want);
    }

    /// Connects, and gets a session.
    #[track_caller]
    fn open(&mut self) {
        self.turn(&["connect Plain", "session 10000 0"]);
        self.session(5);
    }

    #[track_caller]
    fn session(&mut self, id: i64) {
        self.check(Input::Connected(CONNECTION), &[]);
        self.frame(&session(4000, id), &[]);
    }

    /// A frame arrives in pieces. Checks what follows.
    #[track_caller]
    fn frame(&mut self, frame: &[u8], want: &[&str]) {
        let length = i32::try_from(frame.len()).unwrap().to_be_bytes();
        let bytes = [&length[..], frame].concat();
        let mut out = Vec::new();
        for piece in bytes.chunks(self.piece.min(bytes.len())) {
            self.zookeeper.on(Input::Body(CONNECTION, piece), self.now, &mut out);
        }
        self.zookeeper.on(Input::Quiet, self.now, &mut out);
        assert_eq!(self.texts(out), want);
    }

    /// The answer to the oldest request: `ok`, `error CODE`, `data VALUE CHILDREN`, `children NAME...`.
    #[track_caller]
    fn answer(&mut self, answer: &str, want: &[&str]) {
        let number = self.asked.pop_front().expect("something was asked");
        self.frame(&reply(number, answer), want);
    }

    #[track_caller]
    fn event(&mut self, kind: i32, path: &str, want: &[&str]) {
        let event = [&kind.to_be_bytes()[..], &3i32.to_be_bytes(), &buffer(path.as_bytes())].concat();
        self.frame(&[&header(-1, 0), &event[..]].concat(), want);
    }

    #[track_caller]
    fn closed(&mut self, want: &[&str]) {
        self.check(Input::End(CONNECTION), want);
    }
}

fn int(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(bytes[..4].try_into().unwrap())
}

fn buffer(bytes: &[u8]) -> Vec<u8> {
    [&i32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn header(number: i32, code: i32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0; 8], &code.to_be_bytes()].concat()
}

fn session(timeout: i32, id: i64) -> Vec<u8> {
    [&[0; 4][..], &timeout.to_be_bytes(), &id.to_be_bytes(), &buffer(&[7; 16]), &[0]].concat()
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn reply(number: i32, answer: &str) -> Vec<u8> {
    let words: Vec<&str> = answer.split(' ').collect();
    let body = match words[..] {
        ["ok"] => Vec::new(),
        ["error", code] => return header(number, code.parse().unwrap()),
        ["data", value, children] => {
            let value = if value == "-" { "" } else { value };
            let children = children.parse::<i32>().unwrap().to_be_bytes();
            [&buffer(value.as_bytes())[..], &[0; 56], &children, &[0; 8]].concat()
        }
        ["children", ref names @ ..] => {
            let count = i32::try_from(names.len()).unwrap().to_be_bytes();
            let names = names.iter().flat_map(|name| buffer(name.as_bytes()));
            count.into_iter().chain(names).chain([0; 68]).collect()
        }
        _ => panic!("{answer}"),
    };
    [header(number, 0), body].concat()
}

const CREATED: i32 = 1;
const DELETED: i32 = 2;
const CHANGED: i32 = 3;
const CHILDREN: i32 = 4;

#[test]
fn the_revision_is_the_transaction_of_the_last_reply() {
    let mut bench = Bench::watched();
    let mut pong = header(-2, 0);
    pong[11] = 9;
    assert_eq!(bench.zookeeper.revision(Id(1)), None, "the server has not told it");
    bench.frame(&pong, &[]);
    assert_eq!((bench.zookeeper.revision(Id(1)), bench.zookeeper.revision(Id(2))), (Some(9), None));
    bench.event(CHANGED, "/ab", &[]);
    assert_eq!(bench.zookeeper.revision(Id(1)), Some(9), "an event has none");
    bench.add(2, &options(&["/b"], true, None));
    assert_eq!(bench.zookeeper.revision(Id(2)), None, "nothing was read");
}

#[test]
fn a_change_is_reread_behind_the_watch() {
    let mut bench = Bench::watched();
    bench.event(CHANGED, "/a/x", &[]);
    bench.turn(&["ask data /a/x"]);
    bench.answer("data 2 0", &["1 changes* /a/x=2"]);
    bench.event(CREATED, "/a/y", &[]);
    bench.event(CHANGED, "/a", &[]);
    bench.turn(&["ask data /a/y", "ask data /a"]);
    bench.answer("data 3 0", &[]);
    bench.answer("data no 2", &["1 changes* /a/y=3"]);
    bench.event(DELETED, "/a/y", &["1 changes* -/a/y"]);
    // The last child is deleted: its parent has a value.
    bench.event(DELETED, "/a/x", &[]);
    bench.turn(&["ask data /a"]);
    bench.answer("data a 0", &["1 changes* -/a/x /a=a"]);
    bench.event(CREATED, "/a/z", &[]);
    bench.turn(&["ask data /a/z"]);
    bench.answer("data 4 0", &["1 changes* -/a /a/z=4"]);
    bench.event(CHANGED, "/ab", &[]);
    bench.event(CHANGED, "nonsense", &[]);
    bench.turn(&[]);
}

#[test]
fn bytes_come_in_pieces_of_any_size() {
    for piece in [1, 2, 3, 7, 50] {
        let mut bench = Bench::watching();
        bench.piece = piece;
        bench.open();
        bench.turn(&["ask sync /", "ask watch /a", "ask data /a"]);
        bench.answer("ok", &[]);
        bench.answer("ok", &[]);
        bench.answer("data v 0", &["healthy 1", "1 snapshot /a=v"]);
        bench.event(CHANGED, "/a", &[]);
        bench.turn(&["ask data /a"]);
        bench.answer("data w 0", &["1 changes* /a=w"]);
    }
}

/// A read that was sent before a change may be older than the change.
#[test]
fn what_changes_while_it_is_read_is_read_again() {
    let mut bench = Bench::watched();
    bench.event(CHANGED, "/a/x", &[]);
    bench.turn(&["ask data /a/x"]);
    bench.event(CHANGED, "/a/x", &[]);
    bench.event(CHANGED, "/a/x", &[]);
    bench.turn(&[]);
    bench.answer("data 2 0", &[]);
    bench.turn(&["ask data /a/x"]);
    bench.answer("data 3 0", &["1 changes* /a/x=2 /a/x=3"]);
    // A node that was deleted before its read is no error.
    bench.event(CREATED, "/a/y", &[]);
    bench.turn(&["ask data /a/y"]);
    bench.event(DELETED, "/a/y", &[]);
    bench.answer("error -101", &["1 changes*"]);
}

#[test]
fn changes_are_not_held_back_for_ever() {
    let mut bench = Bench::watched();
    bench.event(CHANGED, "/a/x", &[]);
    bench.turn(&["ask data /a/x"]);
    bench.event(CHANGED, "/a/x", &[]);
    bench.answer("data 2 0", &[]);
    assert_eq!(bench.zookeeper.held, Some(bench.now));
    bench.now += HOLD;
    bench.check(Input::Quiet, &["1 changes* /a/x=2"]);
    bench.turn(&["ask data /a/x"]);
    bench.answer("data 3 0", &["1 changes* /a/x=3"]);
}

#[test]
fn a_session_outlives_its_connection_and_everything_is_read_again() {
    let mut bench = Bench::watched();
    bench.closed(&["node: failed to watch zookeeper://a:1: connection closed by the server"]);
    bench.zookeeper.use_node("zookeeper://b:1");
    bench.turn(&["connect Plain", "session 10000 5"]);
    bench.session(5);
    bench.turn(&["ask sync /", "ask watch /a", "ask data /a"]);
    let failure = Failure { kind: FailureKind::Other, words: "no route".into() };
    bench.check(Input::Failed(CONNECTION, failure), &["node: failed to read from zookeeper://b:1: no route"]);
    // The session expired meanwhile, so a new one begins at once.
    bench.turn(&["connect Plain", "session 10000 5"]);
    bench.check(Input::Connected(CONNECTION), &[]);
    bench.frame(&session(0, 0), &["cancel"]);
    bench.turn(&["connect Plain", "session 10000 0"]);
    bench.check(Input::Connected(CONNECTION), &[]);
    bench.frame(&session(0, 0), &["node: failed to connect to zookeeper://b:1: the server gives no session"]);
}

#[test]
fn a_silent_server_is_found() {
    let mut bench = Bench::watched();
    // A third of the server's timeout.
    assert_eq!(bench.zookeeper.due(), Some(bench.now + 4 * SECOND / 3));
    bench.now += 4 * SECOND / 3;
    bench.turn(&["ping"]);
    bench.frame(&header(-2, 0), &[]);
    bench.turn(&[]);
    bench.now += 10 * SECOND;
    bench.turn(&["ping"]);
    assert_eq!(bench.zookeeper.due(), Some(bench.now + 3 * SECOND));
    bench.now += 3 * SECOND;
    bench.turn(&["reset backoff", "node: failed to watch zookeeper://a:1: no answer within 3s"]);
    // A server that is silent from the start.
    bench.turn(&["connect Plain", "session 10000 5"]);
    bench.check(Input::Connected(CONNECTION), &[]);
    bench.now += 3 * SECOND;
    bench.turn(&["node: failed to connect to zookeeper://a:1: no session within 3s: it may be no \
                  ZooKeeper, or want TLS (zookeepers://)"]);
    bench.turn(&["connect Plain", "session 10000 5"]);
    let words = "closed by the server before it gave a session: it may have no quorum";
    bench.closed(&[&format!("node: failed to connect to zookeeper://a:1: {words}")]);
}

#[test]
fn a_server_cannot_have_pings_without_end() {
    let mut bench = Bench::watching();
    for timeout in [1, 299] {
        bench.turn(&["connect Plain", "session 10000 0"]);
        bench.check(Input::Connected(CONNECTION), &[]);
        let words = format!(
            "the server keeps a session for {timeout}ms only, and 300ms are needed: raise its `tickTime` or \
             `maxSessionTimeout`, or `session_timeout` of the backend"
        );
        bench.frame(&session(timeout, 5), &[&format!("node: failed to connect to zookeeper://a:1: {words}")]);
    }
    bench.turn(&["connect Plain", "session 10000 0"]);
    bench.check(Input::Connected(CONNECTION), &[]);
    bench.frame(&session(300, 5), &[]);
    bench.turn(&["ask sync /", "ask watch /a", "ask data /a"]);
    bench.answer("ok", &[]);
    bench.answer("ok", &[]);
    bench.answer("data 1 0", &["healthy 1", "1 snapshot /a=1"]);
    bench.turn(&[]);
    assert_eq!(bench.zookeeper.due(), Some(bench.now + SHORTEST_PING));
}

/// The first bytes of a connection show the kind of the server.
#[test]
fn another_kind_of_server_is_named_by_its_first_bytes() {
    let check = |bytes: &[u8], words: &str| {
        let mut bench = Bench::watching();
        bench.turn(&["connect Plain", "session 10000 0"]);
        bench.check(Input::Connected(CONNECTION), &[]);
        let mut out = Vec::new();
        bench.zookeeper.on(Input::Body(CONNECTION, bytes), bench.now, &mut out);
        // A failure of the node: another one may be a ZooKeeper.
        assert_eq!(bench.texts(out), [format!("node: failed to connect to zookeeper://a:1: {words}")]);
    };
    let begins = "the server is no ZooKeeper: its answer begins with";
    check(b"INFO {}\r\n", &format!("{begins} `INFO {{}}\\r\\n`"));
    check(b"HTTP/1.1 400 Bad Request\r\n", &format!("{begins} `HTTP/1.1 400 Bad Request\\r\\n`"));
    check(b"-ERR what\r\n", &format!("{begins} `-ERR what\\r\\n`"));
    check(b"\xff\xff\xff\xfe", &format!("{begins} `\\xff\\xff\\xff\\xfe`"));
    check(b"\x15\x03\x03\0\x02\x02\x46", "the server speaks TLS: write zookeepers:// in front of the address");
    check(&buffer(b"\0\0"), "not an answer of ZooKeeper: it ends too early");
}

#[test]
fn a_tree_without_an_end_is_refused() {
    let mut bench = Bench::new(Settings { max_response: 9999, read: ReadLimits::default(), ..settings() }, Mode::Watch);
    bench.add(1, &options(&["/a"], true, None));
    bench.open();
    bench.turn(&["ask sync /", "ask watch /a", "ask data /a"]);
    bench.answer("ok", &[]);
    bench.answer("ok", &[]);
    let path = |levels: usize| "/a".repeat(levels);
    for levels in 1..256 {
        bench.answer("data - 1", &[]);
        bench.turn(&[&format!("ask children {}", path(levels))]);
        bench.answer("children a", &[]);
        bench.turn(&[&format!("ask data {}", path(levels + 1))]);
    }
    bench.answer("data - 1", &[]);
    bench.turn(&[&format!("ask children {}", path(256))]);
    bench.answer("children a", &[]);
    let words = format!("`{}...` has more than 256 levels: the server lists a tree without an end", path(100));
    bench.turn(&[&format!("1 failed: failed to read from zookeeper://a:1: {words}")]);
    bench.turn(&[]);
    assert_eq!(bench.zookeeper.reads.len(), 0);
}

#[test]
fn a_key_that_does_not_exist_is_an_error_until_it_does() {
    let mut bench = Bench::watching();
    bench.open();
    bench.turn(&["ask sync /", "ask watch /a", "ask data /a"]);
    bench.answer("ok", &[]);
    bench.answer("ok", &[]);
    let words = "1 failed: failed to read from zookeeper://a:1: key `/a` does not exist";
    bench.answer("error -101", &[words]);
    bench.turn(&[]);
    let due = bench.zookeeper.readings.due().unwrap() - bench.now;
    assert!((10 * SECOND..=30 * SECOND).contains(&due));
    bench.event(CREATED, "/a", &[]);
    bench.turn(&["ask sync /", "ask data /a"]);
    bench.answer("ok", &[]);
    bench.answer("data 1 0", &["healthy 1", "1 snapshot /a=1"]);
    bench.event(DELETED, "/a", &[words]);
    bench.turn(&[]);
    // One of several keys, below another.
    let mut bench = Bench::new(settings(), Mode::OneShot);
    bench.add(1, &options(&["/a", "/a/x"], true, None));
    bench.open();
    bench.turn(&["ask sync /", "ask data /a"]);
    bench.answer("ok", &[]);
    bench.answer("data 1 0", &["1 failed: failed to read from zookeeper://a:1: key `/a/x` does not exist"]);
    bench.turn(&["close", "cancel"]);
    assert_eq!(bench.zookeeper.due(), None);
}

#[test]
fn a_session_is_ended_where_nothing_is_left_to_be_asked() {
    let mut bench = Bench::new(settings(), Mode::OneShot);
    bench.add(1, &options(&["/a"], true, Some(9)));
    bench.open();
    bench.turn(&["ask sync /", "ask data /a"]);
    bench.answer("ok", &[]);
    bench.answer("data 1 0", &["healthy 1", "1 snapshot /a=1"]);
    bench.turn(&["close", "cancel"]);
    bench.turn(&[]);
    assert_eq!(bench.zookeeper.due(), None);
    let mut bench = Bench::watched();
    let mut out = Vec::new();
    bench.zookeeper.remove(Id(1), &mut out);
    assert_eq!(bench.texts(out), ["close", "cancel"]);
}

#[test]
fn a_resource_is_read_by_its_interval() {
    let mut bench = Bench::new(settings(), Mode::Watch);
    bench.add(1, &options(&["/a"], false, Some(60)));
    bench.open();
    bench.turn(&["ask sync /", "ask data /a"]);
    bench.answer("ok", &[]);
    bench.answer("data 1 0", &["healthy 1", "1 snapshot /a=1"]);
    bench.turn(&[]);
    // A lost connection is made again when a read needs it.
    bench.closed(&["node: failed to watch zookeeper://a:1: connection closed by the server"]);
    bench.turn(&[]);
    let due = bench.zookeeper.due().unwrap();
    assert!((54 * SECOND..=66 * SECOND).contains(&(due - bench.now)));
    bench.now = due;
    bench.turn(&["connect Plain", "session 10000 5"]);
}

#[test]
fn resources_share_reads_and_fail_alone() {
    let mut bench = Bench::new(settings(), Mode::Watch);
    bench.add(1, &options(&["/a"], true, None));
    bench.add(2, &options(&["/a/x"], true, None));
    bench.add(3, &options(&["/a", "/b"], false, Some(9)));
    bench.open();
    bench.turn(&["ask sync /", "ask watch /a", "ask watch /a/x", "ask data /a", "ask data /a/x", "ask data /b"]);
    (0..3).for_each(|_| bench.answer("ok", &[]));
    bench.answer("data - 1", &[]);
    bench.answer("data 1 0", &["healthy 2", "2 snapshot /a/x=1"]);
    let words = "failed to read from zookeeper://a:1: `/b` may not be read without a user: set `username`";
    bench.answer("error -102", &[&format!("3 failed: {words}")]);
    bench.turn(&["ask children /a"]);
    bench.answer("children x", &[]);
    bench.turn(&["ask data /a/x"]);
    bench.answer("data 1 0", &["healthy 1", "1 snapshot /a/x=1"]);
    bench.event(CHANGED, "/a/x", &[]);
    bench.turn(&["ask data /a/x"]);
    bench.answer("data 2 0", &["1 changes* /a/x=2", "2 changes* /a/x=2"]);
}

#[test]
fn a_user_is_named_again_on_every_connection() {
    let mut bench = Bench::new(Settings { login: true, ..settings() }, Mode::Watch);
    bench.add(1, &options(&["/a"], false, Some(60)));
    let read = |password: &str| {
        let secret = |text: &str| Secret::new(text.to_owned());
        Input::Credentials(Ok(Some(Credentials { user: secret("bob"), password: secret(password) })))
    };
    bench.turn(&["credentials"]);
    let refused = "failed to read /run/password: permission denied";
    let words = format!("node: failed to log in to zookeeper://a:1: {refused}");
    bench.check(Input::Credentials(Err(refused.into())), &[&words]);
    bench.turn(&["credentials"]);
    bench.check(read("old"), &["connect Plain", "session 10000 0"]);
    bench.session(5);
    bench.turn(&["authenticate bob:old", "ask sync /", "ask data /a"]);
    bench.frame(&header(-4, 0), &[]);
    bench.answer("ok", &[]);
    let words = "failed to read from zookeeper://a:1: user `bob` may not read `/a`, or has another password";
    bench.answer("error -102", &[&format!("1 failed: {words}")]);
    // The next attempt reads the password again.
    bench.turn(&[]);
    bench.now = bench.zookeeper.readings.due().unwrap();
    bench.turn(&["credentials"]);
    bench.check(read("new"), &["authenticate bob:new", "ask sync /", "ask data /a"]);
    bench.frame(&header(-4, 0), &[]);
    bench.answer("ok", &[]);
    bench.answer("data 1 0", &["healthy 1", "1 snapshot /a=1"]);
    bench.frame(
        &header(-4, -115),
        &[
            "fail fast",
            "reset backoff",
            "node: failed to log in to zookeeper://a:1: user `bob`: authentication failed (rests)",
        ],
    );
}

#[test]
fn only_a_lasting_refusal_ends_the_login() {
    let check = |code: i32, words: &str, is_lasting: bool| {
        let mut bench = Bench::new(Settings { login: true, ..settings() }, Mode::OneShot);
        bench.add(1, &options(&["/a"], false, None));
        bench.turn(&["credentials"]);
        let secret = |text: &str| Secret::new(text.to_owned());
        let credentials = Credentials { user: secret("bob"), password: secret("b") };
        bench.check(Input::Credentials(Ok(Some(credentials))), &["connect Plain", "session 10000 0"]);
        bench.session(5);
        bench.turn(&["authenticate bob:b", "ask sync /", "ask data /a"]);
        let words = format!("node: failed to log in to zookeeper://a:1: user `bob`: {words}");
        match is_lasting {
            true => bench.frame(&header(-4, code), &["fail fast", &format!("{words} (rests)")]),
            false => bench.frame(&header(-4, code), &[&words]),
        }
    };
    check(-115, "authentication failed", true);
    check(-124, "the server wants SASL, which is not supported", true);
    check(-6, "request unknown to this server", true);
    check(-127, "the server is overloaded", false);
    check(-4, "connection to the leader lost", false);
    check(-9999, "error -9999", false);
}

#[test]
fn all_paths_are_below_the_chroot() {
    let mut bench = Bench::new(Settings { chroot: b"/c".to_vec(), ..settings() }, Mode::Watch);
    bench.add(1, &options(&["/"], true, None));
    bench.open();
    bench.turn(&["ask sync /c", "ask watch /c", "ask data /c"]);
    bench.answer("ok", &[]);
    bench.answer("ok", &[]);
    bench.answer("data 1 0", &["healthy 1", "1 snapshot /=1"]);
    bench.event(CHANGED, "/c", &[]);
    bench.event(CREATED, "/c/x", &[]);
    bench.event(CREATED, "/cc", &[]);
    bench.event(CREATED, "/", &[]);
    bench.turn(&["ask data /c", "ask data /c/x"]);
}

#[test]
fn an_old_server_has_a_watch_on_each_node() {
    let mut bench = Bench::of_old_server();
    bench.answer("ok", &[]);
    bench.answer("data - 2", &[]);
    bench.answer("children x y", &[]);
    bench.turn(&[
        "ask data /a/x watched",
        "ask children /a/x watched",
        "ask data /a/y watched",
        "ask children /a/y watched",
    ]);
    bench.answer("data 1 0", &[]);
    bench.answer("children", &[]);
    bench.answer("data 2 0", &[]);
    bench.answer("children", &["healthy 1", "1 snapshot /a/x=1 /a/y=2"]);
    bench.event(CHANGED, "/a/x", &[]);
    bench.turn(&["ask data /a/x watched", "ask children /a/x watched"]);
    bench.answer("data 3 0", &[]);
    bench.answer("children", &["1 changes* /a/x=3"]);
    bench.event(CHILDREN, "/a/x", &[]);
    bench.event(DELETED, "/a/y", &[]);
    bench.event(CHILDREN, "/a", &[]);
    bench.turn(&["ask children /a/x watched", "ask children /a watched"]);
    bench.answer("children c", &[]);
    bench.answer("children x", &[]);
    bench.turn(&["ask data /a/x/c watched", "ask children /a/x/c watched"]);
    bench.answer("data 4 0", &[]);
    bench.answer("children", &["1 changes* -/a/y -/a/x /a/x/c=4"]);
    // A deleted key is awaited.
    bench.event(DELETED, "/a/x/c", &[]);
    let words = "1 failed: failed to read from zookeeper://a:1: key `/a` does not exist";
    bench.event(DELETED, "/a", &["1 changes* -/a/x/c", words]);
    bench.turn(&["ask creation /a watched"]);
    bench.answer("error -101", &[]);
    bench.event(CREATED, "/a", &[]);
    bench.turn(&["ask sync /", "ask data /a watched", "ask children /a watched"]);
}

/// A node that is deleted and created again before it is read has lost the watch on its children.
#[test]
fn a_reread_node_of_an_old_server_gets_new_watches_of_its_children() {
    let mut bench = Bench::of_old_server();
    for answer in ["ok", "data - 2", "children x y"] {
        bench.answer(answer, &[]);
    }
    let of = |path: &str| [format!("ask data {path} watched"), format!("ask children {path} watched")];
    let turn = |bench: &mut Bench, paths: &[&str]| {
        let want: Vec<String> = paths.iter().flat_map(|path| of(path)).collect();
        bench.turn(&want.iter().map(String::as_str).collect::<Vec<_>>());
    };
    turn(&mut bench, &["/a/x", "/a/y"]);
    for answer in ["data - 1", "children c", "data 2 0", "children"] {
        bench.answer(answer, &[]);
    }
    turn(&mut bench, &["/a/x/c"]);
    bench.answer("data 1 0", &[]);
    bench.answer("children", &["healthy 1", "1 snapshot /a/x/c=1 /a/y=2"]);
    // While `c` is read again, it is deleted, and with it the last child of `x`.
    bench.event(CHANGED, "/a/x/c", &[]);
    turn(&mut bench, &["/a/x/c"]);
    bench.event(DELETED, "/a/x/c", &[]);
    bench.event(CHILDREN, "/a/x", &[]);
    turn(&mut bench, &["/a/x"]);
    for answer in ["error -101", "error -101", "data - 0", "children"] {
        bench.answer(answer, &[]);
    }
    // The read may find another `x`, which only the list of `/a` shows.
    turn(&mut bench, &["/a/x"]);
    bench.event(DELETED, "/a/x", &[]);
    bench.event(CHILDREN, "/a", &[]);
    bench.turn(&["ask children /a watched"]);
    for answer in ["data 3 0", "children"] {
        bench.answer(answer, &[]);
    }
    bench.answer("children x y", &["1 changes* -/a/x/c /a/x= -/a/x /a/x=3"]);
    bench.turn(&[]);
}

#[test]
fn what_is_no_answer_ends_the_connection() {
    let check = |frame: &[u8], want: &str| {
        let mut bench = Bench::watching();
        bench.open();
        bench.turn(&["ask sync /", "ask watch /a", "ask data /a"]);
        let words = format!("failed to read from zookeeper://a:1: {want}");
        let mut out = Vec::new();
        bench.zookeeper.on(Input::Body(CONNECTION, frame), bench.now, &mut out);
        let rests = out.iter().any(|output| matches!(output, Output::NodeFailed { not_before: Some(_), .. }));
        let node = if rests { format!("node: {words} (rests)") } else { format!("node: {words}") };
        assert_eq!(bench.texts(out).last(), Some(&node));
        // Frames of the old session have no effect on the new one.
        bench.turn(&["connect Plain", "session 10000 5"]);
    };
    let framed = |frame: &[u8]| buffer(frame);
    let bad = "not an answer of ZooKeeper";
    check(b"\xff\xff\xff\xff", &format!("{bad}: a frame of negative length"));
    check(
        b"HTTP/1.1 400",
        "an answer of 1213486160 bytes is longer than 1000 bytes: raise `max_response` of the backend",
    );
    check(&framed(b"\0\0"), &format!("{bad}: it ends too early"));
    check(&framed(&header(9, 0)), &format!("{bad}: an answer to no request"));
    check(&framed(&header(2, 0)), &format!("{bad}: an answer to no request"));
    check(&framed(&header(1, -4)), "failed to come up to the leader: connection to the leader lost");
    check(&framed(&header(1, -124)), "the server wants SASL, which is not supported");
    let replies = [reply(1, "ok"), reply(2, "ok"), reply(3, "ok")];
    check(&replies.map(|reply| framed(&reply)).concat(), &format!("{bad}: it ends too early"));
    let replies = [reply(1, "ok"), reply(2, "ok"), reply(3, "error -127")];
    check(&replies.map(|reply| framed(&reply)).concat(), "`/a`: the server is overloaded");
}

#[test]
fn the_limits_of_a_read_and_of_what_is_under_way_hold() {
    let mut bench = Bench::new(Settings { max_response: 1 << 20, ..settings() }, Mode::Watch);
    bench.add(1, &options(&["/a"], true, None));
    bench.open();
    bench.turn(&["ask sync /", "ask watch /a", "ask data /a"]);
    bench.answer("ok", &[]);
    bench.answer("ok", &[]);
    bench.answer("data - 1000", &[]);
    bench.turn(&["ask children /a"]);
    let names: String = (0..1000).map(|n| format!(" n{n}")).collect();
    bench.answer(&format!("children{names}"), &[]);
    let mut out = Vec::new();
    bench.zookeeper.on(Input::Turn, bench.now, &mut out);
    assert_eq!(bench.texts(out).len(), WINDOW);
    (0..99).for_each(|_| bench.answer("data 1 0", &[]));
    let words = "more than 100 keys: raise `max_keys` of the backend";
    bench.answer("data 1 0", &[&format!("1 failed: failed to read from zookeeper://a:1: {words}")]);
    bench.turn(&[]);
    // Later replies have no effect on it.
    bench.answer("data 1 0", &[]);
    bench.turn(&[]);
}
