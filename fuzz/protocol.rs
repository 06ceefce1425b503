//! Whole protocols against a server that says anything at any time: a script of bytes is heads, pieces of bodies, ends,
//! failures, resources that come and go, and time. Stands in for the driver around the real core. Holds: no panic; no
//! number of a call is used twice; nothing is reported for a resource that is gone; no turn makes work without end; a
//! resource that waits has something to wait for. A store is a function at the end: its options, and what its server
//! may say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use remco::backend::driver::Driver;
use remco::backend::driver::core::{Command, Core};
use remco::backend::failover::{Deadline, Failover, Start};
use remco::backend::protocol::{CallId, Credentials, Failure, FailureKind, Head, Id, Input, Output, Protocol};
use remco::backend::{Handover, Mode, Report, etcd, file};
use remco::config::{self, Kind, Shell, Source, Strictness};

/// The password of every user. A server may say it; no error shows it.
const PASSWORD: &str = "p4ssword";

/// Resources that a protocol serves at a time.
const MOST_RESOURCES: usize = 4;

/// Turns that a protocol may want without time, or input, between them.
const MOST_TURNS: usize = 100;

/// A store: its options and its protocol, and what its server may say.
struct Store<'a> {
    /// Its only nodes, as URLs, or its program.
    nodes: &'a [&'a str],
    /// What may become of its calls.
    failures: &'a [FailureKind],
    /// The table of the configuration, behind `resource.backend.`, and lines of it.
    table: &'a str,
    lines: &'a str,
    /// Lines with the user, whose password is `p4ssword`.
    login: &'a str,
    /// Whether several resources may use one protocol.
    is_shared: bool,
    driver: fn(&config::Backend, Mode, Instant) -> Option<Driver>,
    statuses: &'a [u16],
    /// Values of the headers that the protocol wants to know.
    headers: &'a [&'static str],
    /// Pieces of bodies that are worth saying. Any others come from the script.
    pieces: &'a [&'static [u8]],
}

const NODES: &[&str] = &["http://a:1", "http://b:2"];

const FAILURES: &[FailureKind] =
    &[FailureKind::Closed, FailureKind::TimedOut, FailureKind::TooLarge, FailureKind::Other];

/// How time passes.
const STEPS: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(150),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(11),
    Duration::from_secs(45),
    Duration::from_secs(1800),
];

/// Runs a script. The first byte says how the store is used.
fn run(bytes: &[u8], store: &Store<'_>) {
    let Some((&first, script)) = bytes.split_first() else { return };
    let mode = if first & 1 == 0 { Mode::Watch } else { Mode::OneShot };
    let watch = first & 2 == 0;
    let interval = if first & 4 == 0 { "" } else { "interval = 60\n" };
    let keys = match first & 8 {
        0 => "keys = [\"/a\"]\n",
        _ => "keys = [\"/a\", \"b/\", \"/a/c\"]\nwatchKeys = [\"/t\"]\nprefix = \"/p\"\n",
    };
    let login = if first & 16 == 0 { "" } else { store.login };
    let (table, lines) = (store.table, store.lines);
    let header = match table {
        "plugin" => "[[resource.backend.plugin]]".to_owned(),
        _ => format!("[resource.backend.{table}]"),
    };
    let text = format!(
        "[[resource]]\nname = \"r\"\n[[resource.template]]\nsrc = \"a\"\ndst = \"b\"\n{header}\n\
         watch = {watch}\n{interval}{keys}{lines}\n{login}\n"
    );
    let has_secret = text.contains(PASSWORD);
    let (options, driver) = known(text, mode, store);
    let mut machine = Machine { has_secret, ..Machine::new(options, &driver, mode, store) };
    let mut script = Script { rest: script };
    machine.add();
    machine.settle();
    while !machine.is_replaced
        && let Some(op) = script.byte()
    {
        machine.step(op, &mut script, store);
        machine.settle();
    }
    machine.finish();
}

/// The options as the program reads them, and a driver, which only makes protocols here.
type Made = (config::Backend, Rc<Driver>);

fn known(text: String, mode: Mode, store: &Store<'_>) -> Made {
    thread_local! {
        static KNOWN: RefCell<BTreeMap<(String, bool), Made>> = RefCell::default();
    }
    let read = || {
        let read = config::load(Path::new("config"), Strictness::Lenient, mode, &Texts(&text));
        let (config, _) = read.unwrap_or_else(|findings| panic!("{text}: {}", findings.list[0]));
        let options = config.resources[0].backends[0].clone();
        let driver = (store.driver)(&options, mode, Instant::now()).expect("the options are the store's");
        (options, Rc::new(driver))
    };
    let key = (text.clone(), mode == Mode::OneShot);
    KNOWN.with_borrow_mut(|known| known.entry(key).or_insert_with(read).clone())
}

struct Texts<'a>(&'a str);

impl Source for Texts<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new("config") { Ok(self.0.into()) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<OsString>> {
        Err(ErrorKind::NotFound.into())
    }

    fn var(&self, _name: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn shell(&self) -> Shell {
        Shell::Present
    }
}

struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// A number below the bound; 0 when the script has ended.
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte().unwrap_or(0)) % bound.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let at = self.below(from.len());
        from.get(at).copied()
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.below(64).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        bytes
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    Answering,
    Connecting,
    Connected,
}

/// A protocol with the pure half of its driver.
struct Machine {
    protocol: Box<dyn Protocol>,
    core: Core,
    options: config::Backend,
    /// Whether more than one resource may use it.
    is_shared: bool,
    now: Instant,
    calls: BTreeMap<CallId, Stage>,
    resources: BTreeSet<Id>,
    ids: u64,
    /// Files with name and password are to be read.
    reads_credentials: bool,
    credentials: u8,
    is_replaced: bool,
    /// The options have the password in them.
    has_secret: bool,
}

impl Machine {
    fn new(options: config::Backend, driver: &Driver, mode: Mode, store: &Store<'_>) -> Machine {
        let now = Instant::now();
        let nodes: Vec<String> = store.nodes.iter().map(|node| (*node).to_owned()).collect();
        let mut protocol = driver.protocol(&nodes, now);
        let deadline = if mode == Mode::OneShot { Deadline::After(Duration::from_secs(30)) } else { Deadline::Never };
        let mut failover = Failover::new(nodes, Start::First, deadline, Box::new(|bound| bound / 2));
        failover.begin(now, Duration::from_secs(3));
        protocol.use_node(failover.name());
        Machine {
            protocol,
            core: Core::new("fuzz", failover),
            is_shared: store.is_shared,
            options,
            now,
            calls: BTreeMap::new(),
            resources: BTreeSet::new(),
            ids: 0,
            reads_credentials: false,
            credentials: 0,
            is_replaced: false,
            has_secret: false,
        }
    }

    fn add(&mut self) {
        if self.ids == 0 || (self.is_shared && self.resources.len() < MOST_RESOURCES) {
            self.ids += 1;
            let id = Id(self.ids);
            self.resources.insert(id);
            let mut out = Vec::new();
            self.protocol.add(id, &self.options, &mut out);
            self.take(out, 0);
        }
    }

    /// The last one that goes closes the driver.
    fn remove(&mut self, at: usize) {
        if self.resources.len() > 1
            && let Some(id) = self.resources.iter().nth(at % self.resources.len()).copied()
        {
            self.resources.remove(&id);
            self.core.remove(id);
            let mut out = Vec::new();
            self.protocol.remove(id, &mut out);
            self.take(out, 0);
        }
    }

    /// What one byte of the script means.
    fn step(&mut self, op: u8, script: &mut Script<'_>, store: &Store<'_>) {
        let call = |machine: &Machine, script: &mut Script<'_>| {
            let at = script.below(machine.calls.len());
            machine.calls.iter().nth(at).map(|(id, stage)| (*id, *stage))
        };
        match op % 16 {
            0 | 1 => {
                self.now += STEPS[script.below(STEPS.len())];
                self.end_in_time();
                self.turn();
            }
            2 => self.on(Input::Quiet, 0),
            3 => self.add(),
            4 => self.remove(script.below(MOST_RESOURCES)),
            5 => self.credentials = script.byte().unwrap_or(0),
            6 => {
                let Some((id, _)) = call(self, script) else { return };
                let kind = script.pick(store.failures).unwrap_or(FailureKind::Other);
                self.calls.remove(&id);
                self.on(Input::Failed(id, Failure { kind, words: "cut".to_owned() }), 0);
            }
            7 => {
                let Some((id, stage)) = call(self, script) else { return };
                if matches!(stage, Stage::Answering | Stage::Connected) {
                    self.calls.remove(&id);
                    self.on(Input::End(id), 0);
                }
            }
            8 | 9 => {
                let Some((id, stage)) = call(self, script) else { return };
                self.begin_answer(id, stage, script, store);
            }
            // The usual answer as a whole.
            10 | 11 => {
                let Some((id, stage)) = call(self, script) else { return };
                self.begin_answer(id, stage, script, store);
                let piece = script.pick(store.pieces).unwrap_or_default();
                self.body(id, piece);
                if op % 16 == 10 && self.calls.get(&id) == Some(&Stage::Answering) {
                    self.calls.remove(&id);
                    self.on(Input::End(id), 0);
                }
            }
            12 | 13 => {
                let Some((id, _)) = call(self, script) else { return };
                let piece = script.pick(store.pieces).unwrap_or_default();
                let cut = if op % 16 == 12 { piece.len() } else { script.below(piece.len()) };
                self.body(id, &piece[..cut]);
                self.body(id, &piece[cut..]);
            }
            _ => {
                let Some((id, _)) = call(self, script) else { return };
                let piece = script.bytes();
                self.body(id, piece);
            }
        }
    }

    /// The head comes, or the connection is made.
    fn begin_answer(&mut self, id: CallId, stage: Stage, script: &mut Script<'_>, store: &Store<'_>) {
        match stage {
            Stage::Asked => {
                let status = script.pick(store.statuses).unwrap_or(200);
                let values = self.protocol.headers().iter();
                let headers: Vec<(&'static str, String)> = values
                    .filter_map(|name| Some((*name, script.pick(store.headers)?.to_owned())))
                    .filter(|(_, value)| !value.is_empty())
                    .collect();
                self.calls.insert(id, Stage::Answering);
                self.on(Input::Head(id, Head { status, headers: &headers }), 0);
            }
            Stage::Connecting => {
                self.calls.insert(id, Stage::Connected);
                self.on(Input::Connected(id), 0);
            }
            Stage::Answering | Stage::Connected => {}
        }
    }

    fn body(&mut self, id: CallId, piece: &[u8]) {
        if !piece.is_empty() && matches!(self.calls.get(&id), Some(Stage::Answering | Stage::Connected)) {
            self.on(Input::Body(id, piece), piece.len());
        }
    }

    fn on(&mut self, input: Input<'_>, bytes: usize) {
        if self.is_replaced {
            return;
        }
        let mut out = Vec::new();
        self.protocol.on(input, self.now, &mut out);
        self.take(out, bytes);
    }

    /// Carries out what the protocol wants, as the driver does.
    fn take(&mut self, outputs: Vec<Output>, bytes: usize) {
        let most = 1000 + 4 * bytes;
        assert!(outputs.len() <= most, "{} outputs of one input", outputs.len());
        for output in outputs {
            match &output {
                Output::Begin(id, _) | Output::Connect(id, _) => {
                    assert!(!self.calls.contains_key(id), "{id:?} is under way");
                }
                Output::Report(id, _) | Output::Healthy(id) => {
                    assert!(self.resources.contains(id), "{id:?} is gone");
                }
                _ => {}
            }
            let mut commands = Vec::new();
            self.core.take(output, &mut *self.protocol, self.now, &mut commands);
            commands.into_iter().for_each(|command| self.carry_out(command));
        }
        while std::mem::take(&mut self.reads_credentials) {
            let secret = |text: &str| config::Secret::new(text.to_owned());
            let credentials = match self.credentials % 3 {
                0 => Ok(Some(Credentials { user: secret("me"), password: secret(PASSWORD) })),
                1 => Ok(None),
                _ => Err("failed to read `p`".to_owned()),
            };
            self.on(Input::Credentials(credentials), 0);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Begin(id, _) => drop(self.calls.insert(id, Stage::Asked)),
            Command::Connect(id, _) => drop(self.calls.insert(id, Stage::Connecting)),
            Command::Secure(id) => {
                if let Some(stage) = self.calls.get_mut(&id) {
                    *stage = Stage::Connecting;
                }
            }
            Command::Cancel(id) | Command::Release(id) => drop(self.calls.remove(&id)),
            Command::CancelAll => self.calls.clear(),
            Command::ReadCredentials => self.reads_credentials = true,
            Command::Report(id, report) => {
                assert!(self.resources.contains(&id), "{id:?} is gone");
                if let Report::Failed(words) = report {
                    assert!(!self.has_secret || !words.contains(PASSWORD), "{words}");
                    assert!(!words.contains('\n'), "{words}");
                }
            }
            Command::Replace(_) => self.is_replaced = true,
            Command::Send(..) => {}
        }
    }

    fn turn(&mut self) {
        self.on(Input::Quiet, 0);
        if self.core.pause(self.now).is_none() {
            self.core.attempt(self.now);
            self.on(Input::Turn, 0);
        }
    }

    /// What the driver does when the time of a one-shot run is over.
    fn end_in_time(&mut self) {
        let is_late = |machine: &Machine| {
            let end = machine.core.failover().end();
            end.is_some_and(|end| end <= machine.now) && !machine.protocol.waiting().is_empty()
        };
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
            if is_late(self) && self.calls.remove(&id).is_some() {
                let words = "no answer in time".to_owned();
                self.on(Input::Failed(id, Failure { kind: FailureKind::TimedOut, words }), 0);
            }
        }
        if is_late(self) {
            let mut commands = Vec::new();
            self.core.out_of_time(&mut *self.protocol, self.now, &mut commands);
            commands.into_iter().for_each(|command| self.carry_out(command));
            assert!(self.protocol.waiting().is_empty(), "it goes on although its time is over");
        }
    }

    /// Gives the turns that are wanted now. They end, and lead to something where a resource waits.
    fn settle(&mut self) {
        for _ in 0..MOST_TURNS {
            let due = self.core.due(self.protocol.due());
            if self.is_replaced || due.is_none_or(|due| due > self.now) {
                return self.expect_progress();
            }
            self.turn();
        }
        panic!("it wants turns without end");
    }

    fn expect_progress(&mut self) {
        let is_stuck = |machine: &mut Machine| {
            let is_idle = machine.calls.is_empty() && machine.core.pause(machine.now).is_none();
            is_idle && !machine.protocol.waiting().is_empty() && machine.protocol.due().is_none()
        };
        // At the start, and behind a pause, there is a turn whatever the protocol says. A node that fails in it is
        // followed by the next one at once.
        for _ in 0..self.core.failover().count() {
            if self.is_replaced || !is_stuck(self) {
                return;
            }
            self.turn();
        }
        assert!(self.is_replaced || !is_stuck(self), "a resource waits for nothing");
    }

    /// The server is gone for an hour.
    fn finish(&mut self) {
        for _ in 0..20 {
            if self.is_replaced {
                return;
            }
            while let Some(id) = self.calls.keys().next().copied() {
                self.calls.remove(&id);
                let words = "connection refused".to_owned();
                self.on(Input::Failed(id, Failure { kind: FailureKind::Other, words }), 0);
            }
            self.on(Input::Quiet, 0);
            self.settle();
            if self.calls.is_empty() {
                let Some(due) = self.core.due(self.protocol.due()) else { return };
                self.now = self.now.max(due);
                self.end_in_time();
                self.turn();
                self.settle();
            }
        }
    }
}

/// Refusals of etcd, of both versions, and what is none.
const STATUSES: &[u16] = &[200, 200, 200, 400, 401, 403, 404, 500, 503, 307];

/// The driver of an etcd.
fn etcd_driver(options: &config::Backend, mode: Mode, now: Instant) -> Option<Driver> {
    let Kind::Etcd(etcd) = &options.kind else { return None };
    Some(etcd::driver(Id(1), options, etcd, mode, Handover::default(), |bound| bound / 2, now))
}

/// An etcd of version 3, which several resources share.
pub fn etcd_v3(bytes: &[u8]) {
    run(
        bytes,
        &Store {
            lines: "version = 3
nodes = [\"http://a:1\"]",
            is_shared: true,
            pieces: ETCD_V3,
            ..ETCD
        },
    );
}

const ETCD: Store<'_> = Store {
    nodes: NODES,
    failures: FAILURES,
    table: "etcd",
    lines: "nodes = [\"http://a:1\"]",
    login: "username = \"me\"
password = \"p4ssword\"",
    is_shared: false,
    driver: etcd_driver,
    statuses: STATUSES,
    headers: ETCD_V2_HEADERS,
    pieces: ETCD_V2,
};

/// As etcd says it: `L2EveA==` is `/a/x`, `L3AvYS94` is `/p/a/x`.
const ETCD_V3: &[&[u8]] = &[
    br#"{"header":{"cluster_id":"7","revision":"10"}}"#,
    br#"{"header":{"cluster_id":"7","revision":"10"},"kvs":[{"key":"L2EveA==","mod_revision":"3","value":"MQ=="}]}"#,
    br#"{"header":{"cluster_id":"7","revision":"11"},"kvs":[{"key":"L3AvYS94","mod_revision":"3"}],"more":true}"#,
    br#"{"header":{"cluster_id":"8","revision":"4"},"kvs":[{"key":"L2EvLy94","mod_revision":"3","value":"MQ=="}]}"#,
    br#"{"header":{"cluster_id":"7","revision":"2"}}"#,
    br#"{"token":"t0ken"}"#,
    b"{\"result\":{\"header\":{\"cluster_id\":\"7\",\"revision\":\"10\"},\"watch_id\":\"1\",\"created\":true}}\n",
    b"{\"result\":{\"header\":{\"cluster_id\":\"7\",\"revision\":\"10\"},\"watch_id\":\"2\",\"created\":true}}\n",
    b"{\"result\":{\"header\":{\"cluster_id\":\"7\",\"revision\":\"10\"},\"watch_id\":\"3\",\"created\":true}}\n",
    b"{\"result\":{\"header\":{\"cluster_id\":\"8\",\"revision\":\"1\"},\"watch_id\":\"1\",\"created\":true}}\n",
    b"{\"result\":{\"header\":{\"cluster_id\":\"7\",\"revision\":\"12\"},\"watch_id\":\"1\",\"events\":[{\"kv\":{\"key\":\"L2EveA==\",\"mod_revision\":\"12\",\"value\":\"Mg==\"}}]}}\n",
    b"{\"result\":{\"header\":{\"cluster_id\":\"7\",\"revision\":\"13\"},\"watch_id\":\"1\",\"fragment\":true,\"events\":[{\"type\":\"DELETE\",\"kv\":{\"key\":\"L2EveA==\",\"mod_revision\":\"13\"}}]}}\n",
    b"{\"result\":{\"header\":{\"cluster_id\":\"7\",\"revision\":\"14\"},\"watch_id\":\"1\",\"events\":[{\"kv\":{\"key\":\"L2EvLy94\",\"mod_revision\":\"14\"}}]}}\n",
    b"{\"result\":{\"header\":{\"cluster_id\":\"7\",\"revision\":\"20\"},\"watch_id\":\"1\"}}\n",
    b"{\"result\":{\"header\":{},\"watch_id\":\"1\",\"canceled\":true,\"compact_revision\":\"30\"}}\n",
    b"{\"result\":{\"watch_id\":\"-1\",\"created\":true,\"canceled\":true,\"cancel_reason\":\"permission denied\"}}\n",
    b"{\"result\":{\"watch_id\":\"1\",\"canceled\":true,\"cancel_reason\":\"permission denied\"}}\n",
    b"{\"result\":{\"watch_id\":\"1\",\"canceled\":true,\"cancel_reason\":\"invalid auth token\"}}\n",
    b"{\"result\":{\"watch_id\":\"1\",\"canceled\":true,\"cancel_reason\":\"other\"}}\n",
    b"{\"error\":{\"grpc_code\":16,\"http_code\":401,\"message\":\"invalid auth token\"}}",
    b"{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"no leader\"}}",
    br#"{"error":"permission denied","code":7}"#,
    br#"{"error":"invalid auth token","code":16}"#,
    br#"{"error":"p4ssword","code":3}"#,
    br#"{"error":"authentication is not enabled","code":9}"#,
    br#"{"error":"compacted","code":11}"#,
    b"404 page not found\n",
    b"<html>",
];

/// An etcd of version 2.
pub fn etcd_v2(bytes: &[u8]) {
    run(
        bytes,
        &Store {
            lines: "version = 2
nodes = [\"http://a:1\"]",
            ..ETCD
        },
    );
}

/// Of clusters and of indices.
const ETCD_V2_HEADERS: &[&str] = &["10", "10", "10", "11", "14", "2000", "4", "", "x"];

const ETCD_V2: &[&[u8]] = &[
    br#"{"action":"get","node":{"key":"/a","dir":true,"nodes":[{"key":"/a/x","value":"1","modifiedIndex":3}]}}"#,
    br#"{"action":"get","node":{"key":"/p/a","dir":true,"nodes":[{"key":"/p/a/d","dir":true,"nodes":[]}]}}"#,
    br#"{"action":"get","node":{"key":"/a","value":"1","modifiedIndex":3}}"#,
    b"{\"action\":\"set\",\"node\":{\"key\":\"/a/x\",\"value\":\"2\",\"modifiedIndex\":11}}\n",
    b"{\"action\":\"set\",\"node\":{\"key\":\"/p/a/x\",\"value\":\"2\",\"modifiedIndex\":12}}\n",
    b"{\"action\":\"set\",\"node\":{\"key\":\"/p/t\",\"value\":\"2\",\"modifiedIndex\":13}}\n",
    b"{\"action\":\"delete\",\"node\":{\"key\":\"/a/x\",\"modifiedIndex\":14}}\n",
    b"{\"action\":\"delete\",\"node\":{\"key\":\"/a\",\"dir\":true,\"modifiedIndex\":15}}\n",
    b"{\"action\":\"create\",\"node\":{\"key\":\"/a/d\",\"dir\":true,\"modifiedIndex\":16}}\n",
    br#"{"errorCode":100,"message":"Key not found","cause":"/a","index":10}"#,
    br#"{"errorCode":104,"message":"Not a directory","cause":"/a","index":10}"#,
    br#"{"errorCode":110,"message":"The request requires user authentication","cause":"p4ssword","index":0}"#,
    br#"{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"","index":2000}"#,
    b"404 page not found\n",
    b"<html>",
];

/// An etcd that is asked for its version.
pub fn etcd_discovery(bytes: &[u8]) {
    let pieces = [ETCD_V3, ETCD_V2].concat();
    run(bytes, &Store { pieces: &pieces, ..ETCD });
}

/// A document behind a URL.
pub fn url(bytes: &[u8]) {
    let driver = |options: &config::Backend, mode, now| {
        let Kind::File(file) = &options.kind else { return None };
        Some(file::remote(Id(1), options, file, mode, |bound| bound / 2, now))
    };
    const PIECES: &[&[u8]] = &[
        b"{\"a\": {\"x\": 1}}",
        b"a:
  x: 1
",
        b"a: *b
",
        b"<html>",
        b"	",
    ];
    let lines = "filepath = \"http://a:1/d.json\"
httpheaders = { X-Key = \"p4ssword\" }";
    run(bytes, &Store { table: "file", lines, login: "", driver, pieces: PIECES, ..ETCD });
}

/// A Redis, which several resources share.
#[cfg(feature = "redis")]
pub fn redis(bytes: &[u8]) {
    let driver = |options: &config::Backend, mode, now| {
        let Kind::Redis(redis) = &options.kind else { return None };
        Some(remco::backend::redis::driver(redis, mode, |bound| bound / 2, now))
    };
    const PIECES: &[&[u8]] = &[
        b"+OK\r\n",
        b":7\r\n",
        b"$-1\r\n",
        b"$1\r\n1\r\n",
        b"*1\r\n$1\r\n1\r\n",
        b"*2\r\n$-1\r\n$1\r\n2\r\n",
        b"*2\r\n$1\r\n0\r\n*0\r\n",
        b"*2\r\n$1\r\n0\r\n*1\r\n$4\r\n/a/x\r\n",
        b"*2\r\n$1\r\n7\r\n*2\r\n$6\r\n/p/a/x\r\n$5\r\n/a//x\r\n",
        b"*2\r\n$22\r\nnotify-keyspace-events\r\n$2\r\nAK\r\n",
        b"*2\r\n$22\r\nnotify-keyspace-events\r\n$0\r\n\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n",
        b"*3\r\n$10\r\npsubscribe\r\n$1\r\nx\r\n:1\r\n",
        b"*4\r\n$8\r\npmessage\r\n$19\r\n__keyspace@0__:/a/*\r\n$19\r\n__keyspace@0__:/a/x\r\n$3\r\nset\r\n",
        b"*4\r\n$8\r\npmessage\r\n$21\r\n__keyspace@0__:/p/a/*\r\n$21\r\n__keyspace@0__:/p/a/x\r\n$3\r\nset\r\n",
        b"*3\r\n$7\r\nmessage\r\n$17\r\n__keyspace@0__:/a\r\n$3\r\nset\r\n",
        b"*3\r\n$7\r\nmessage\r\n$19\r\n__keyspace@0__:/p/t\r\n$3\r\nset\r\n",
        b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n",
        b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
        b"+PONG\r\n",
        b"-WRONGPASS p4ssword\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"-NOPERM no\r\n",
        b"-WRONGTYPE no\r\n",
        b"-LOADING no\r\n",
        b"-MOVED 1 h:1\r\n",
        b"-CROSSSLOT no\r\n",
        b"-ERR unknown command `AUTH`, with args beginning with: `p4ssword`\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
    ];
    let lines = "nodes = [\"a:1\"]";
    run(bytes, &Store { table: "redis", lines, is_shared: true, driver, pieces: PIECES, ..ETCD });
}

/// A ZooKeeper, whose session several resources share.
#[cfg(feature = "zookeeper")]
pub fn zookeeper(bytes: &[u8]) {
    let driver = |options: &config::Backend, mode, now| {
        let Kind::Zookeeper(zookeeper) = &options.kind else { return None };
        Some(remco::backend::zookeeper::driver(zookeeper, mode, |bound| bound / 2, now))
    };
    // Sessions, replies to the first requests, and events.
    const PIECES: &[&[u8]] = &[
        b"\x00\x00\x00%\x00\x00\x00\x00\x00\x00\x0f\xa0\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x10\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x00",
        b"\x00\x00\x00%\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\xff\xff\xff\xfe\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\xff\xff\xff\xfc\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\xff\xff\xff\xfc\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x8d",
        b"\x00\x00\x00\x10\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00Y\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x011\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00X\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00b\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01x\x00\x00\x00\x01y\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x9b",
        b"\x00\x00\x00Y\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x011\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00X\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00b\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01x\x00\x00\x00\x01y\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x9b",
        b"\x00\x00\x00Y\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x011\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00X\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00b\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01x\x00\x00\x00\x01y\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x9b",
        b"\x00\x00\x00Y\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x011\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00X\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00b\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01x\x00\x00\x00\x01y\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x9b",
        b"\x00\x00\x00Y\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x011\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00X\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00b\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01x\x00\x00\x00\x01y\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x00\x00\x10\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x9b",
        b"\x00\x00\x00\x10\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x9a",
        b"\x00\x00\x00\x10\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xfa",
        b"\x00\x00\x00\x10\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x81",
        b"\x00\x00\x00\x10\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x84",
        b"\x00\x00\x00\x1e\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00\x02/a",
        b"\x00\x00\x00 \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00\x04/a/x",
        b"\x00\x00\x00 \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04/a/x",
        b"\x00\x00\x00\x1e\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x02/a",
        b"\x00\x00\x00 \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x03\x00\x00\x00\x04/a/x",
        b"\x00\x00\x00\x1e\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x03\x00\x00\x00\x02/a",
        b"\x00\x00\x00\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x03\x00\x00\x00\x06/p/a/x",
        b"\x00\x00\x00 \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x03\x00\x00\x00\x04/p/t",
        b"\x00\x00\x00\x10",
        b"\xff\xff\xff\xff",
        b"HTTP/1.1 400",
    ];
    let lines = "nodes = [\"a:1\"]";
    run(bytes, &Store { table: "zookeeper", lines, is_shared: true, driver, pieces: PIECES, ..ETCD });
}

/// A NATS, whose buckets several resources share.
#[cfg(feature = "nats")]
pub fn nats(bytes: &[u8]) {
    let driver = |options: &config::Backend, mode, now| {
        let Kind::Nats(nats) = &options.kind else { return None };
        Some(remco::backend::nats::driver(nats, mode, |bound| bound / 2, now))
    };
    // The names of inboxes follow from the numbers that are drawn: half of the greatest.
    const PIECES: &[&[u8]] = &[
        b"INFO {\"version\":\"2.10.0\",\"headers\":true}\r\n",
        b"INFO {\"version\":\"2.8.0\",\"headers\":true,\"tls_required\":true}\r\n",
        b"INFO {}\r\n",
        b"PING\r\n",
        b"PONG\r\n",
        b"+OK\r\n",
        b"MSG _INBOX.7fffffffffffffff.r.1 0 17\r\n{\"num_pending\":0}\r\n",
        b"MSG _INBOX.7fffffffffffffff.r.1 0 17\r\n{\"num_pending\":2}\r\n",
        b"MSG _INBOX.7fffffffffffffff.r.2 0 17\r\n{\"num_pending\":1}\r\n",
        b"MSG _INBOX.7fffffffffffffff.r.1 0 48\r\n{\"error\":{\"code\":404,\"err_code\":10059}}          \r\n",
        b"MSG _INBOX.7fffffffffffffff.r.2 0 48\r\n{\"error\":{\"code\":503,\"description\":\"p4ssword\"}}\r\n",
        b"HMSG _INBOX.7fffffffffffffff.r.1 0 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
        b"MSG $KV.b.a.x 1 $JS.ACK.KV_b.c.1.11.1.17.1 1\r\n1\r\n",
        b"MSG $KV.b.a/x 1 $JS.ACK.KV_b.c.1.12.2.17.0 1\r\n2\r\n",
        b"MSG $KV.b.p.a.x 1 $JS.ACK.KV_b.c.1.13.3.17.0 1\r\n3\r\n",
        b"MSG $KV.b.a.x 2 $JS.ACK.KV_b.c.1.11.1.17.0 1\r\n1\r\n",
        b"HMSG $KV.b.a.x 1 $JS.ACK.KV_b.c.1.14.3.17.0 32 32\r\nNATS/1.0\r\nKV-Operation: DEL\r\n\r\n \r\n",
        b"HMSG _INBOX.7fffffffffffffff.1 1 39 39\r\nNATS/1.0 100\r\nNats-Last-Consumer: 2\r\n\r\n\r\n",
        b"HMSG _INBOX.7fffffffffffffff.1 1 $JS.FC.x 16 16\r\nNATS/1.0 100\r\n\r\n\r\n",
        b"HMSG _INBOX.7fffffffffffffff.1 1 16 16\r\nNATS/1.0 409\r\n\r\n\r\n",
        b"-ERR 'Authorization Violation p4ssword'\r\n",
        b"-ERR 'Permissions Violation for Publish to \"p4ssword\"'\r\n",
        b"-ERR 'Slow Consumer'\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
    ];
    let lines = "nodes = [\"a:1\"]\nbucket = \"b\"";
    run(bytes, &Store { table: "nats", lines, is_shared: true, driver, pieces: PIECES, ..ETCD });
}

/// A Consul, which several resources share.
#[cfg(feature = "consul")]
pub fn consul(bytes: &[u8]) {
    let driver = |options: &config::Backend, mode, now| {
        let Kind::Consul(consul) = &options.kind else { return None };
        Some(remco::backend::consul::driver(consul, mode, |bound| bound / 2, now))
    };
    const PIECES: &[&[u8]] = &[
        b"[]",
        br#"[{"Key":"a/x","Value":"MQ==","ModifyIndex":3}]"#,
        br#"[{"Key":"a/x","Value":"Mg=="},{"Key":"a/","Value":null}]"#,
        br#"[{"Key":"p/a/x","Value":"MQ=="},{"Key":"p/a//x","Value":"Mg=="},{"Key":"p/b"}]"#,
        br#"[{"Key":"p/t","Value":"MQ=="}]"#,
        br#"[{"Key":"a/x","Value":"p4ssword"}]"#,
        br#"[{"Key":"#,
        br#""a/x"}]"#,
        br#"[{}]"#,
        b"\"127.0.0.1:8300\"",
        b"\"\"",
        b"ACL not found: p4ssword",
        b"Permission denied",
        b"rpc error making call: No cluster leader",
        b"<html>",
    ];
    run(
        bytes,
        &Store {
            nodes: NODES,
            failures: FAILURES,
            table: "consul",
            lines: "nodes = [\"a:1\"]",
            login: "token = \"p4ssword\"",
            is_shared: true,
            driver,
            statuses: &[200, 200, 200, 200, 404, 400, 403, 429, 500, 503],
            headers: &["10", "10", "11", "12", "2000", "4", "0", "true", "x"],
            pieces: PIECES,
        },
    );
}

/// A Vault, whose login several resources share.
#[cfg(feature = "vault")]
pub fn vault(bytes: &[u8]) {
    let driver = |options: &config::Backend, mode, now| {
        let Kind::Vault(vault) = &options.kind else { return None };
        Some(remco::backend::vault::driver(vault, mode, |bound| bound / 2, now))
    };
    const PIECES: &[&[u8]] = &[
        b"{}",
        br#"{"auth":{"client_token":"t","lease_duration":30,"renewable":true}}"#,
        br#"{"auth":{"client_token":"u","lease_duration":1}}"#,
        br#"{"auth":{"client_token":"p4ssword"}}"#,
        br#"{"data":{"path":"a/","options":{"version":"2"}}}"#,
        br#"{"data":{"path":"p/","options":{"version":"2"}}}"#,
        br#"{"data":{"keys":["x","y/"]}}"#,
        br#"{"data":{"keys":["../"]}}"#,
        br#"{"data":{"value":"1"}}"#,
        br#"{"data":{"data":{"value":"1"},"metadata":{}}}"#,
        br#"{"data":{"a":{"b":"1"},"c":2}}"#,
        br#"{"lease_id":"l","lease_duration":9,"renewable":true,"data":{"a":"1"}}"#,
        br#"{"lease_id":"l","lease_duration":2,"data":{"a":"1"}}"#,
        br#"{"lease_id":"l","lease_duration":18446744073709551615,"renewable":true}"#,
        br#"{"errors":["permission denied p4ssword"]}"#,
        br#"{"data":"p4ssword"}"#,
        b"<html>",
    ];
    let lines = "node = \"http://a:1\"\nauth_type = \"userpass\"\nusername = \"me\"\npassword = \"p4ssword\"";
    let statuses = &[200, 200, 200, 200, 404, 403, 400, 405, 429, 503];
    run(bytes, &Store { table: "vault", lines, login: "", is_shared: true, driver, statuses, pieces: PIECES, ..ETCD });
}

/// A plugin, which serves one resource. Its replies have the numbers of the first calls.
#[cfg(feature = "plugin")]
pub fn plugin(bytes: &[u8]) {
    let driver = |options: &config::Backend, mode, now| {
        let Kind::Plugin(plugin) = &options.kind else { return None };
        Some(remco::backend::plugin::driver(Id(1), options, plugin, mode, |bound| bound / 2, now))
    };
    const PIECES: &[&[u8]] = &[
        b"{\"id\":1,\"result\":true,\"error\":null}\n",
        b"{\"id\":2,\"result\":{\"/a/x\":\"1\"},\"error\":null}\n",
        b"{\"id\":3,\"result\":7,\"error\":null}\n",
        b"{\"id\":4,\"result\":{\"/a/x\":\"2\",\"/p/a/c\":\"\"},\"error\":null}\n",
        b"{\"id\":5,\"result\":8}\n",
        b"{\"id\":6,\"result\":null}\n",
        b"{\"id\":7,\"result\":9}\n{\"id\":8,\"result\":{}}\n",
        b"{\"id\":2,\"result\":true}{\"id\":3,\"result\":{\"/a/x\":\"3\"}}",
        b"{\"id\":4,\"result\":true}",
        b"{\"id\":5,\"result\":true}\n{\"id\":6,\"result\":{}}",
        b"{\"id\":1,\"result\":false}",
        b"{\"id\":1,\"result\":null,\"error\":\"p4ssword\"}",
        b"{\"id\":2,\"error\":{\"message\":\"not\\np4ssword\"}}",
        b"{\"id\":3,\"error\":\"p4ssword\"}\n",
        b"{\"id\":4,\"error\":\"no\"}\n",
        b"{\"id\":5,\"error\":\"no\"}\n",
        b"{\"id\":3,\"result\":{}}\n",
        b"{\"id\":2,\"result\":{\"p4ssword\":5}}",
        b"{\"id\":99,\"result\":\"p4ssword\"}",
        b"{\"id\":98,\"result\":{\"p4ssword\":\"1\"}}",
        b"{\"result\":true}",
        b"p4ssword\n",
        b"{\"id\":",
        b"{\"a\":\"}",
        b"\n \n",
    ];
    const UNUSABLE: &[FailureKind] =
        &[FailureKind::Closed, FailureKind::TimedOut, FailureKind::Unusable, FailureKind::Other];
    let login = "[resource.backend.plugin.config]\npassword = \"p4ssword\"";
    let store =
        Store { nodes: &["/bin/p"], failures: UNUSABLE, table: "plugin", lines: "path = \"/bin/p\"", login, ..ETCD };
    run(bytes, &Store { driver, pieces: PIECES, ..store });
}
