//! The etcd backend alone on a real etcd: the test drives it as the loop does, and applies its reports to a layer.
//! Fakes give answers that etcd never gives. Needs etcd; `scripts/test` installs it.

#[path = "it/support"]
#[allow(dead_code, reason = "the whole program's tests use the rest")]
mod support {
    mod authority;
    mod etcd;
    mod gateway;
    mod http_message;
    mod port;
    mod server;
    mod temp_dir;
    mod wait;

    pub use authority::{Authority, Pair};
    pub use etcd::Etcd;
    pub use gateway::Gateway;
    pub use port::free_port;
    pub use temp_dir::TempDir;
    pub use wait::{LIMIT, wait_until};
}

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use remco::backend::{Change, Id, Mode, Pool, Report};
use remco::config;
use remco::host::wait;
use remco::store::Layer;
use support::{Etcd, LIMIT};

/// A backend and what it has reported.
struct Client {
    pool: Pool,
    id: Id,
    layer: Layer,
    snapshots: usize,
    /// Of each report of changes: how many, and whether it was a trigger.
    batches: Vec<(usize, bool)>,
    /// Failures, recoveries and log lines above debug.
    told: Vec<String>,
}

impl Client {
    fn new(nodes: &[&str], mode: Mode, options: config::Backend) -> Client {
        Client::with(config::Etcd::default(), nodes, mode, options)
    }

    fn with(etcd: config::Etcd, nodes: &[&str], mode: Mode, options: config::Backend) -> Client {
        let etcd = config::Etcd {
            nodes: nodes.iter().map(|node| node.to_string()).collect(),
            version: Some(config::EtcdVersion::V3),
            ..etcd
        };
        // The smallest number: the first node first, the shortest delays.
        let mut pool = Pool::new(|_| 0);
        let id = pool.open(&config::Backend { kind: config::Kind::Etcd(etcd), ..options }, mode, Instant::now());
        Client { pool, id, layer: Layer::new(), snapshots: 0, batches: Vec::new(), told: Vec::new() }
    }

    /// One that watches `/app` and has read it.
    fn watching(etcd: &Etcd) -> Client {
        let mut client = Client::new(&[&etcd.url()], Mode::Watch, watch(&["/app"]));
        client.until("the first read", |client| client.snapshots == 1);
        client.listening();
        client
    }

    /// Waits until the watch is confirmed: then nothing is due before it has been silent for long.
    fn listening(&mut self) {
        self.until("the watch", |client| {
            client.pool.due().is_some_and(|(at, _)| at > Instant::now() + Duration::from_secs(20))
        });
    }

    /// Gives the backend a turn, whatever it is due.
    fn turn(&mut self) {
        let source = self.pool.interests().first().map(|(source, _)| *source);
        let Some(source) = source.or(self.pool.due().map(|(_, source)| source)) else { return };
        let mut reports = Vec::new();
        self.pool.turn(source, Instant::now(), &mut reports);
        for (id, report) in reports {
            assert_eq!(id, self.id);
            match report {
                Report::Snapshot(layer) => {
                    self.snapshots += 1;
                    self.layer = layer;
                }
                Report::Changes { changes, trigger } => {
                    self.batches.push((changes.len(), trigger));
                    for change in changes {
                        match change {
                            Change::Put(key, value) => drop(self.layer.insert(key, value)),
                            Change::Delete(key) => drop(self.layer.remove(&key)),
                        }
                    }
                }
                Report::Failed(words) => self.told.push(words),
                Report::Recovered => self.told.push("recovered".into()),
                Report::Log(line) if line.level == config::LogLevel::Debug => {}
                Report::Log(line) => self.told.push(format!("{:?}: {}", line.level, line.message)),
            }
        }
    }

    /// Turns the backend as the loop does until the condition holds.
    fn until(&mut self, what: &str, holds: impl Fn(&Client) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < deadline, "still waiting: {what}: {:#?}", self.told);
            let interests: Vec<_> = self.pool.interests().into_iter().map(|(_, interest)| interest).collect();
            let until = self.pool.due().map_or(deadline, |(at, _)| at.min(deadline));
            wait::ready(&interests, Some(until));
            self.turn();
        }
    }

    fn has(&self, key: &str, value: &str) -> bool {
        self.layer.get(key.as_bytes()).is_some_and(|found| **found == *value.as_bytes())
    }

    #[track_caller]
    fn holds(&self, want: &[(&str, &str)]) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the tests' own text");
        let layer: Vec<_> = self.layer.iter().map(|(key, value)| (text(key), text(value))).collect();
        let want: Vec<_> = want.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        assert_eq!(layer, want);
    }
}

fn watch(keys: &[&str]) -> config::Backend {
    let keys: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
    config::Backend {
        watch_keys: keys.clone(),
        keys,
        prefix: String::new(),
        watch: true,
        onetime: false,
        interval: None,
        secret: false,
        kind: config::Kind::Mock,
    }
}

/// A server that does the same with every connection.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, serve) = (connection.expect("a connection"), Arc::clone(&serve));
            thread::spawn(move || serve(connection));
        }
    });
    url
}

/// A server that gives the same answer to every request.
fn answering(answer: &'static str) -> String {
    server(move |mut connection| {
        // The requests here come in one piece, and what is not read of one is in no one's way.
        while connection.read(&mut [0; 4096]).is_ok_and(|n| n > 0) && connection.write_all(answer.as_bytes()).is_ok() {}
    })
}

/// The address of something between an etcd and its clients, and how many answers have begun. It counts before it passes
/// them on, so that no request follows one that was not counted.
fn counted(etcd: &Etcd) -> (String, Arc<AtomicUsize>) {
    let (port, answers) = (etcd.client_port(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&answers);
    let url = server(move |client| {
        let mut etcd = TcpStream::connect(("127.0.0.1", port)).expect("etcd listens");
        let (mut from_client, mut to_etcd) = (client.try_clone().expect("a clone"), etcd.try_clone().expect("a clone"));
        thread::spawn(move || io::copy(&mut from_client, &mut to_etcd));
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = etcd.read(&mut piece) {
            // etcd writes a head at the beginning of a piece of its own.
            count.fetch_add(usize::from(piece.starts_with(b"HTTP/1.1 ")), Ordering::SeqCst);
            if (&client).write_all(&piece[..length]).is_err() {
                return;
            }
        }
    });
    (url, answers)
}

#[test]
fn ten_thousand_keys_come_in_pages_whatever_happens_between_them() {
    const KEYS: usize = 10_050;
    let etcd = Etcd::start();
    thread::scope(|scope| {
        for part in 0..8 {
            let mut gateway = etcd.gateway();
            scope.spawn(move || {
                (part..KEYS).step_by(8).for_each(|n| gateway.put(&format!("/app/{n:05}"), &n.to_string()));
            });
        }
    });
    etcd.put("/b", "1");
    let (url, answers) = counted(&etcd);
    let mut client = Client::new(&[&url], Mode::Watch, watch(&["/b", "/app", "/app/1", "/none"]));
    // The first page is there; then what the later ones have changes.
    client.until("a page", |_| answers.load(Ordering::SeqCst) == 1);
    etcd.delete("/app/10040");
    etcd.put("/app/10041", "changed");
    etcd.put("/app/20000", "new");
    etcd.put("/b", "changed");
    etcd.gateway().compact();
    client.until("a read of all", |client| client.snapshots == 1);
    assert_eq!(client.told, ["Info: set backend nodes"], "the compaction came between two pages");
    assert_eq!(client.layer.len(), KEYS + 1);
    assert!(client.has("/app/10041", "changed") && client.has("/b", "changed") && client.has("/app/20000", "new"));
    etcd.put("/app/10041", "again");
    client.until("the change", |client| client.has("/app/10041", "again"));
    assert_eq!(client.snapshots, 1);
}

#[test]
fn later_pages_are_as_of_the_first() {
    let etcd = Etcd::start();
    etcd.put("/a", "1");
    etcd.put("/b", "1");
    etcd.put("/c", "1");
    let (url, answers) = counted(&etcd);
    let mut client = Client::new(&[&url], Mode::Watch, watch(&["/a", "/b", "/c"]));
    client.until("a page", |_| answers.load(Ordering::SeqCst) == 1);
    etcd.put("/b", "2");
    client.until("another page", |_| answers.load(Ordering::SeqCst) == 2);
    etcd.delete("/c");
    client.until("a read of all", |client| client.snapshots == 1);
    client.holds(&[("/a", "1"), ("/b", "1"), ("/c", "1")]);
    // Between the read and the watch.
    etcd.put("/a", "3");
    client.until("all changes", |client| client.has("/a", "3") && client.has("/b", "2") && client.layer.len() == 2);
    client.holds(&[("/a", "3"), ("/b", "2")]);
    assert_eq!(client.told, ["Info: set backend nodes"]);
}

#[test]
fn a_killed_etcd_is_watched_on_when_it_is_back() {
    let mut etcd = Etcd::start();
    etcd.put("/app/a", "1");
    let mut client = Client::watching(&etcd);
    etcd.kill();
    client.until("a failure", |client| client.told.len() == 2);
    client.until("another", |client| client.told.len() == 3);
    etcd.restart();
    etcd.put("/app/a", "2");
    client.until("the change", |client| client.has("/app/a", "2"));
    let url = etcd.url();
    assert_eq!(client.told[1], format!("failed to watch {url}: connection closed by the server"));
    assert_eq!(client.told[2], format!("failed to watch {url}: connection refused"));
    assert_eq!(client.told.last().map(String::as_str), Some("recovered"));
    assert!(client.told[2..].iter().rev().skip(1).all(|words| *words == client.told[2]), "{:#?}", client.told);
    assert_eq!(client.snapshots, 1, "nothing was read again");
}

#[test]
fn history_that_was_compacted_meanwhile_is_read() {
    let mut etcd = Etcd::start();
    etcd.put("/app/a", "1");
    etcd.put("/app/b", "1");
    let mut client = Client::watching(&etcd);
    etcd.kill();
    client.until("a failure", |client| client.told.len() == 2);
    etcd.restart();
    etcd.put("/app/a", "2");
    etcd.delete("/app/b");
    etcd.gateway().compact();
    client.until("a new read", |client| client.snapshots == 2);
    client.holds(&[("/app/a", "2")]);
    assert_eq!(client.told.last().map(String::as_str), Some("Info: reading all keys again"));
    client.listening();
    etcd.put("/app/a", "3");
    client.until("the watch", |client| client.has("/app/a", "3"));
}

#[test]
fn an_etcd_that_was_rebuilt_is_read_anew() {
    let mut etcd = Etcd::start();
    (0..9).for_each(|n| etcd.put("/app/a", &n.to_string()));
    let mut client = Client::watching(&etcd);
    etcd.kill();
    client.until("a failure", |client| client.told.len() == 2);
    etcd.wipe();
    etcd.restart();
    etcd.put("/app/b", "rebuilt");
    client.until("a new read", |client| client.snapshots == 2);
    client.holds(&[("/app/b", "rebuilt")]);
    assert!(client.told.iter().any(|line| line == "Warn: reading all keys again"), "{:#?}", client.told);
    etcd.put("/app/b", "2");
    client.until("the watch", |client| client.has("/app/b", "2"));
}

#[test]
fn bytes_that_are_no_text_survive() {
    let etcd = Etcd::start();
    let all: Vec<u8> = (0..=255).collect();
    let mut gateway = etcd.gateway();
    let key = |last: &[u8]| [b"\xff\xfe/", last].concat();
    gateway.put_bytes(&key(b"\0\xff"), &all);
    gateway.put_bytes(b"\xff\xff", b"");
    gateway.put_bytes(b"/other", b"");
    let options = config::Backend { keys: vec![String::new()], ..watch(&["/app"]) };
    let mut client = Client::new(&[&etcd.url()], Mode::Watch, options);
    client.until("the first read", |client| client.snapshots == 1);
    let stored = |last: &[u8]| [b"/", &*key(last)].concat();
    assert_eq!(client.layer.get(&*stored(b"\0\xff")).map(|value| value.to_vec()), Some(all.clone()));
    assert_eq!(client.layer.len(), 3);
    // A key without a leading slash could stand for one with it: it is read again.
    gateway.put_bytes(&key(b"\x80"), &all);
    client.until("the change", |client| client.layer.contains_key(&*stored(b"\x80")));
    assert_eq!(client.snapshots, 2);
}

#[test]
fn keys_keep_the_layer_true_and_watch_keys_trigger() {
    let etcd = Etcd::start();
    etcd.put("/app/a", "1");
    let options = config::Backend { watch_keys: vec!["/reload".into()], ..watch(&["/app"]) };
    let mut client = Client::new(&[&etcd.url()], Mode::Watch, options);
    client.until("the first read", |client| client.snapshots == 1);
    client.listening();
    etcd.put("/app/a", "2");
    client.until("the change", |client| client.has("/app/a", "2"));
    assert_eq!(client.batches, [(1, false)]);
    etcd.put("/reload", "");
    client.until("the trigger", |client| client.batches.len() == 2);
    assert_eq!(client.batches[1], (0, true));
    client.holds(&[("/app/a", "2")]);
}

#[test]
fn what_arrives_together_is_one_report() {
    const PUTS: usize = 1500;
    let etcd = Etcd::start();
    let mut client = Client::watching(&etcd);
    let mut gateway = etcd.gateway();
    (0..PUTS).for_each(|n| gateway.put(&format!("/app/{n}"), "1"));
    // Nearly everything was on its way when the last one was confirmed.
    client.until("all changes", |client| client.layer.len() == PUTS);
    assert!(client.batches.len() < PUTS / 10, "{:?}", client.batches);
    assert!(client.batches.iter().all(|(_, trigger)| *trigger));
    assert_eq!(client.batches.iter().map(|(count, _)| count).sum::<usize>(), PUTS);
}

#[test]
fn an_interval_reads_all_beside_the_watch() {
    let etcd = Etcd::start();
    etcd.put("/app/a", "1");
    let options = config::Backend { interval: Some(Duration::from_millis(200)), ..watch(&["/app"]) };
    let mut client = Client::new(&[&etcd.url()], Mode::Watch, options);
    client.until("the second read", |client| client.snapshots == 2);
    let mut gateway = etcd.gateway();
    let mut written = 0;
    while client.snapshots < 5 {
        written += 1;
        let value = written.to_string();
        gateway.put("/app/a", &value);
        client.until("the change", |client| client.has("/app/a", &value));
    }
    // Nothing failed and nothing was missed.
    assert_eq!(client.told, ["Info: set backend nodes"]);
}

#[test]
fn one_shot_takes_the_first_node_that_answers() {
    let etcd = Etcd::start();
    etcd.put("/app/a", "1");
    let unused = format!("http://127.0.0.1:{}", support::free_port());
    let sick = answering("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    let mut client = Client::new(&[&unused, &sick, &etcd.url()], Mode::OneShot, watch(&["/app"]));
    client.until("a read", |client| client.snapshots == 1);
    client.holds(&[("/app/a", "1")]);
    assert_eq!(client.told, ["Info: set backend nodes"]);
    assert_eq!(client.pool.due(), None);
}

#[test]
fn one_shot_fails_when_every_node_has() {
    let unused = format!("http://127.0.0.1:{}", support::free_port());
    let hung = server(|connection| drop(io::copy(&mut &connection, &mut io::sink())));
    let sick = answering("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 6\r\n\r\n<html>");
    let old = answering(
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 19\r\n\r\n404 page not found\n",
    );
    let strange = answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>");
    let nodes = [&*unused, &*hung, &*sick, &*old, &*strange];
    // Over when the first round is.
    let etcd = config::Etcd {
        network: config::Network { timeout: Duration::from_secs(1), ..Default::default() },
        ..Default::default()
    };
    let mut client = Client::with(etcd, &nodes, Mode::OneShot, watch(&["/app"]));
    client.until("the failure", |client| client.told.len() == 2);
    let causes = [
        "connection refused",
        "no answer within 3s",
        "HTTP 500",
        "HTTP 404: `/v3/kv/range` is not known here: an etcd before 3.4 needs `version = 2`",
        "not an answer of etcd: no JSON from byte 1 on",
    ];
    let failures = nodes.iter().zip(causes).map(|(node, cause)| format!("failed to read from {node}: {cause}"));
    assert_eq!(client.told[1], failures.collect::<Vec<_>>().join("; "));
    assert_eq!((client.snapshots, client.pool.due()), (0, None));
}

#[test]
fn answers_in_pieces_of_one_byte_are_answers() {
    let etcd = Etcd::start();
    etcd.put("/app/a", "1");
    let port = etcd.client_port();
    let torn = server(move |client| {
        client.set_nodelay(true).expect("a connected socket takes options");
        let etcd = TcpStream::connect(("127.0.0.1", port)).expect("etcd listens");
        let (mut from_client, mut to_etcd) = (client.try_clone().expect("a clone"), etcd.try_clone().expect("a clone"));
        thread::spawn(move || io::copy(&mut from_client, &mut to_etcd));
        for byte in io::BufReader::new(etcd).bytes() {
            let Ok(byte) = byte else { return };
            if (&client).write_all(&[byte]).is_err() {
                return;
            }
        }
    });
    let mut client = Client::new(&[&torn], Mode::Watch, watch(&["/app"]));
    client.until("the first read", |client| client.has("/app/a", "1"));
    client.listening();
    for n in 0..50 {
        etcd.put("/app/b", &n.to_string());
    }
    client.until("all changes", |client| client.has("/app/b", "49"));
    assert_eq!(client.batches.iter().map(|(count, _)| count).sum::<usize>(), 50);
    assert_eq!(client.told, ["Info: set backend nodes"]);
}

#[test]
fn a_request_that_hangs_ends_no_turn_late() {
    let (asked, was_asked) = std::sync::mpsc::channel();
    let hung = server(move |mut connection| {
        connection.read_exact(&mut [0]).expect("a request");
        asked.send(()).expect("the test waits");
        drop(io::copy(&mut connection, &mut io::sink()));
    });
    let mut client = Client::new(&[&hung], Mode::Watch, watch(&["/app"]));
    // Turns that waited for the answer would end with the failure.
    while was_asked.try_recv().is_err() {
        client.turn();
        thread::yield_now();
    }
    client.turn();
    assert_eq!(client.told, ["Info: set backend nodes"]);
}
