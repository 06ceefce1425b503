//! Lookups of names alone: with a real dnsmasq, and with fakes for answers that dnsmasq never gives. Needs dnsmasq;
//! `scripts/test` installs it. All servers have the same port, at different addresses of 127.0.0.0/8.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unwrap_used)]

#[path = "it/support"]
#[allow(dead_code, reason = "the whole program's tests use the rest")]
mod support {
    mod dnsmasq;
    mod port;
    mod temp_dir;
    mod wait;

    pub use dnsmasq::Dnsmasq;
    pub use port::free_port;
    pub use temp_dir::TempDir;
    pub use wait::{LIMIT, wait_until};
}

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use remco::host::dns::{Error, Found, Lookup, Places, Query, Resolver};
use remco::host::wait::{self, Interest};
use support::{Dnsmasq, LIMIT, TempDir, free_port};

/// A resolver over files of its own.
struct Host {
    dir: TempDir,
    port: u16,
    resolver: Resolver,
}

impl Host {
    fn new(port: u16, resolv_conf: &str) -> Host {
        let dir = TempDir::new();
        // The machine's own name must not give it a domain.
        dir.write("resolv.conf", format!("search .\n{resolv_conf}"));
        let places = Places { resolv_conf: dir.at("resolv.conf"), hosts: dir.at("hosts"), port };
        Host { dir, port, resolver: Resolver::with(places) }
    }

    fn addresses(&self, name: &str) -> String {
        self.look_up(Query::Addresses(name.to_owned()))
    }

    fn services(&self, name: &str) -> String {
        self.look_up(Query::Services(name.to_owned()))
    }

    fn look_up(&self, query: Query) -> String {
        let mut lookup = self.resolver.begin(query, Instant::now());
        let outcome = loop {
            if let Some(outcome) = lookup.turn(Instant::now()) {
                break outcome;
            }
            let mut interests = Vec::new();
            lookup.interests(&mut interests);
            wait::ready(&interests, Some(lookup.due()));
        };
        self.shown(outcome.map(|found| match found {
            Found::Addresses(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Found::Services(found) => {
                let mut lines: Vec<String> =
                    found.iter().map(|s| format!("{} {} {} {}", s.target, s.port, s.priority, s.weight)).collect();
                lines.sort();
                lines.join(", ")
            }
        }))
    }

    /// The port stands in errors and differs from run to run.
    fn shown(&self, found: Result<String, Error>) -> String {
        found.unwrap_or_else(|e| e.to_string().replace(&format!(":{}", self.port), ":PORT"))
    }

    #[track_caller]
    fn check(&self, name: &str, want: &str) {
        assert_eq!(self.addresses(name), want, "{name}");
    }

    #[track_caller]
    fn check_services(&self, name: &str, want: &str) {
        assert_eq!(self.services(name), want, "{name}");
    }
}

const RECORDS: &[&str] = &[
    "host-record=db.example.com,10.0.0.1",
    "host-record=both.example.com,10.0.0.2,fd00::2",
    "host-record=six.example.com,fd00::3",
    "host-record=db.sub.example.com,10.0.0.4",
    "cname=alias.example.com,db.example.com",
    "cname=far.example.com,alias.example.com",
    "srv-host=_db._tcp.example.com,db1.example.com,5432,10,60",
    "srv-host=_db._tcp.example.com,db2.example.com,5433,10,40",
    "srv-host=_db._tcp.example.com,db3.example.com,5434,20,0",
    "srv-host=_none._tcp.example.com",
];

#[test]
fn addresses_of_a_real_server() {
    let port = free_port();
    let _server = Dnsmasq::start(port, RECORDS);
    let host = Host::new(port, "nameserver 127.0.0.1\n");
    host.check("db.example.com", "10.0.0.1");
    host.check("DB.Example.Com.", "10.0.0.1");
    host.check("both.example.com", "10.0.0.2 fd00::2");
    host.check("six.example.com", "fd00::3");
    host.check("alias.example.com", "10.0.0.1");
    host.check("far.example.com", "10.0.0.1");
    let nothing =
        "failed to look up `no.example.com`: there is no such name (asked 127.0.0.1:PORT for no.example.com.)";
    host.check("no.example.com", nothing);
    let nothing =
        "failed to look up `_db._tcp.example.com`: it has no address (asked 127.0.0.1:PORT for _db._tcp.example.com.)";
    host.check("_db._tcp.example.com", nothing);
    let refused =
        "failed to look up `example.org`: server 127.0.0.1:PORT refuses to answer (REFUSED) (asked for example.org.)";
    host.check("example.org", refused);
}

#[test]
fn what_needs_no_server() {
    let host = Host::new(free_port(), "nameserver 127.0.0.1\n");
    host.check("10.0.0.9", "10.0.0.9");
    host.check("::1", "::1");
    host.check("localhost", "127.0.0.1 ::1");
    host.dir.write("hosts", "fd00::8 db\n10.0.0.8 db db.example.com\n10.0.0.9 db\n127.0.0.7 localhost\n");
    // Either family has its turn early.
    host.check("db", "10.0.0.8 fd00::8 10.0.0.9");
    host.check("db.example.com.", "10.0.0.8");
    host.check("localhost", "127.0.0.7");
    host.check("", "failed to look up ``: the name is empty");
    host.check("a b", "failed to look up `a b`: not a host name: it has a ' ' in it");
    let long = "x".repeat(64);
    let want = format!("failed to look up `{long}`: name is too long: no part between dots has more than 63 letters");
    host.check(&long, &want);
    host.check(
        "db2",
        "failed to look up `db2`: server 127.0.0.1:PORT cannot be reached: connection refused (asked for db2.)",
    );
}

#[test]
fn services_of_a_real_server() {
    let port = free_port();
    let _server = Dnsmasq::start(port, RECORDS);
    let host = Host::new(port, "nameserver 127.0.0.1\nsearch example.com\n");
    let all = "db1.example.com. 5432 10 60, db2.example.com. 5433 10 40, db3.example.com. 5434 20 0";
    host.check_services("_db._tcp.example.com", all);
    host.check_services("_db._tcp", all);
    host.check_services("_none._tcp.example.com", ". 1 0 0");
    let nothing = "failed to look up `_x._tcp.example.com.`: there is no such name (asked 127.0.0.1:PORT for _x._tcp.example.com.)";
    host.check_services("_x._tcp.example.com.", nothing);
    let nothing = "failed to look up `db.example.com`: it has no SRV record (asked 127.0.0.1:PORT for db.example.com.)";
    host.check_services("db.example.com", nothing);
}

#[test]
fn short_names_are_searched_for() {
    let port = free_port();
    let _server = Dnsmasq::start(port, RECORDS);
    let host = Host::new(port, "nameserver 127.0.0.1\nsearch sub.example.com example.com\n");
    host.check("db", "10.0.0.4");
    host.check("both", "10.0.0.2 fd00::2");
    host.check("db.sub", "10.0.0.4");
    let refused = "failed to look up `db.`: server 127.0.0.1:PORT refuses to answer (REFUSED) (asked for db.)";
    host.check("db.", refused);
    // The file is read anew: the domains, the order and the server of now.
    host.dir.write("resolv.conf", "nameserver 127.0.0.1\nsearch example.com\noptions ndots:3\n");
    host.check("db", "10.0.0.1");
    host.check("db.example.com", "10.0.0.1");
    let nothing = "failed to look up `no.example.com`: there is no such name (asked 127.0.0.1:PORT for \
                   no.example.com.example.com., no.example.com.)";
    host.check("no.example.com", nothing);
}

#[test]
fn what_does_not_fit_comes_over_tcp() {
    let port = free_port();
    let targets: Vec<String> =
        (0..60).map(|n| format!("srv-host=_many._tcp.example.com,host-{n:02}.example.com,80,1,{n}")).collect();
    let _server = Dnsmasq::start(port, &targets.iter().map(String::as_str).collect::<Vec<_>>());
    let host = Host::new(port, "nameserver 127.0.0.1\n");
    let want: Vec<String> = (0..60).map(|n| format!("host-{n:02}.example.com. 80 1 {n}")).collect();
    host.check_services("_many._tcp.example.com", &want.join(", "));
}

#[test]
fn a_dead_first_server_is_asked_last_from_then_on() {
    let port = free_port();
    let _server = Dnsmasq::start(port, RECORDS);
    let dead = UdpSocket::bind(("127.0.0.2", port)).unwrap();
    dead.set_nonblocking(true).unwrap();
    let questions = || std::iter::repeat_with(|| dead.recv(&mut [0; 512])).take_while(Result::is_ok).count();
    let host = Host::new(port, "nameserver 127.0.0.2\nnameserver 127.0.0.1\nsearch sub.example.com example.com\n");
    host.check("both", "10.0.0.2 fd00::2");
    assert_eq!(questions(), 2, "it was asked for both families of the first name, and for nothing of the second");
    host.check("db", "10.0.0.4");
    host.check_services("_db._tcp.example.com.", &host.services("_db._tcp.example.com."));
    assert_eq!(questions(), 0, "it rests");
}

#[test]
fn a_server_that_cannot_be_reached_costs_nothing() {
    let port = free_port();
    let _server = Dnsmasq::start(port, RECORDS);
    // Nobody listens on the first, nothing may be sent to the second.
    let conf = "nameserver 127.0.0.2\nnameserver 255.255.255.255\nnameserver 127.0.0.1\noptions attempts:1\n";
    let host = Host::new(port, conf);
    let started = Instant::now();
    host.check("both.example.com", "10.0.0.2 fd00::2");
    // The share of each of them.
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

/// A server that answers each question with some datagrams.
struct Fake {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn start(port: u16, mut answers: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Fake {
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        let address = socket.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let mut buffer = [0; 512];
            loop {
                let (length, asker) = socket.recv_from(&mut buffer).unwrap();
                if length == 0 {
                    return;
                }
                for answer in answers(&buffer[..length]) {
                    socket.send_to(&answer, asker).unwrap();
                }
            }
        });
        Fake { address, thread: Some(thread) }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // An empty datagram ends it. The thread panics only where an assertion of the test in it has failed.
        let sent = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[], self.address));
        if sent.is_ok() && self.thread.take().is_some_and(|thread| thread.join().is_err()) && !thread::panicking() {
            panic!("the server of the test has failed");
        }
    }
}

const OK: [u8; 2] = [0x81, 0x80];

/// An answer to a question: its flags and records, each from the type on.
fn answer(question: &[u8], flags: [u8; 2], records: &[&[u8]]) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2..4].copy_from_slice(&flags);
    message[7] = records.len() as u8;
    for record in records {
        message.extend([0xC0, 12]);
        message.extend_from_slice(record);
    }
    message
}

const ADDRESS: &[u8] = b"\0\x01\0\x01\0\0\0\0\0\x04\x0A\0\0\x07";

fn asks_for_ipv4(question: &[u8]) -> bool {
    question[question.len() - 3] == 1
}

/// The answer that a good server gives: 10.0.0.7, and no IPv6.
fn good(question: &[u8]) -> Vec<u8> {
    let records = if asks_for_ipv4(question) { vec![ADDRESS] } else { vec![] };
    answer(question, OK, &records)
}

#[test]
fn what_is_no_answer_is_passed_over() {
    let port = free_port();
    let _server = Fake::start(port, |question| {
        let mut other_id = answer(question, OK, &[b"\0\x01\0\x01\0\0\0\0\0\x04\x06\x06\x06\x06"]);
        other_id[0] ^= 1;
        let mut other_name = answer(question, OK, &[b"\0\x01\0\x01\0\0\0\0\0\x04\x06\x06\x06\x06"]);
        other_name[13] ^= 1;
        let garbage: Vec<u8> = (0..400).map(|n| (n * 7 % 256) as u8).collect();
        vec![vec![], question.to_vec(), other_id, other_name, garbage, question[..13].to_vec(), good(question)]
    });
    Host::new(port, "nameserver 127.0.0.1\n").check("db.example", "10.0.0.7");
}

#[test]
fn an_answer_that_cannot_be_read_is_an_error() {
    let port = free_port();
    let check = |record: &'static [u8], why: &str| {
        let _server = Fake::start(port, move |question| vec![answer(question, OK, &[record])]);
        let want = format!(
            "failed to look up `db.example.`: server 127.0.0.1:PORT sent an answer that cannot be read: {why} (asked for db.example.)"
        );
        Host::new(port, "nameserver 127.0.0.1\n").check("db.example.", &want);
    };
    check(b"", "its records end too early");
    check(b"\0\x05\0\x01\0\0\0\0\0\x02\xC0\x28", "an alias without a name");
    check(b"\0\x05\0\x01\0\0\0\0\0\x02\xC0\x0C", "more than 16 aliases, one of the other");
    check(b"\0\x05\0\x01\0\0\0\0\xFF\xFF\xC0\x0C", "its records end too early");
}

#[test]
fn a_server_that_fails_is_followed_by_the_next() {
    let port = free_port();
    let _server = Dnsmasq::start(port, RECORDS);
    let _failing = {
        let socket = UdpSocket::bind(("127.0.0.3", port)).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            for _ in 0..2 {
                let (length, asker) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&answer(&buffer[..length], [0x81, 0x82], &[]), asker).unwrap();
            }
        })
    };
    Host::new(port, "nameserver 127.0.0.3\nnameserver 127.0.0.1\n").check("both.example.com", "10.0.0.2 fd00::2");
}

#[test]
fn failures_of_servers_have_words() {
    let port = free_port();
    let check = |code: u8, words: &str| {
        let _server = Fake::start(port, move |question| vec![answer(question, [0x81, 0x80 | code], &[])]);
        let want = format!("failed to look up `db.`: server 127.0.0.1:PORT {words} (asked for db.)");
        Host::new(port, "nameserver 127.0.0.1\n").check("db.", &want);
    };
    check(1, "does not understand the question (FORMERR)");
    check(2, "failed to find out (SERVFAIL)");
    check(4, "answered with error code 4");
    check(5, "refuses to answer (REFUSED)");
}

#[test]
fn a_lost_question_is_asked_again() {
    let port = free_port();
    let mut seen = 0;
    let _server = Fake::start(port, move |question| {
        seen += 1;
        if seen <= 2 { vec![] } else { vec![good(question)] }
    });
    Host::new(port, "nameserver 127.0.0.1\noptions timeout:1\n").check("db.example", "10.0.0.7");
}

#[test]
fn one_family_is_enough_to_connect_to() {
    let port = free_port();
    let _server = Fake::start(port, |question| if asks_for_ipv4(question) { vec![good(question)] } else { vec![] });
    let host = Host::new(port, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    assert_eq!(host.look_up(Query::Host("db.example".into())), "10.0.0.7");
}

/// Else a lost packet would rewrite the file.
#[test]
fn a_family_that_no_server_speaks_of_is_a_failed_lookup() {
    const SIXTH: &[u8] = b"\0\x1C\0\x01\0\0\0\0\0\x10\xFD\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07";
    let check = |lost: bool, kind: &str, other: fn(&[u8]) -> Vec<Vec<u8>>, words: &str| {
        let port = free_port();
        let answers = move |question: &[u8]| match asks_for_ipv4(question) == lost {
            true => other(question),
            false => vec![answer(question, OK, &[if lost { SIXTH } else { ADDRESS }])],
        };
        let _server = Fake::start(port, answers);
        let host = Host::new(port, "nameserver 127.0.0.1\nsearch sub.example\noptions timeout:1 attempts:1\n");
        let asked = format!("asked for the {kind} addresses of db.example.");
        host.check("db.example", &format!("failed to look up `db.example`: server 127.0.0.1:PORT {words} ({asked})"));
    };
    check(false, "IPv6", |_| vec![], "did not answer in time");
    check(true, "IPv4", |_| vec![], "did not answer in time");
    check(false, "IPv6", |q| vec![answer(q, [0x81, 0x82], &[])], "failed to find out (SERVFAIL)");
    // The word that there is none is an answer.
    let port = free_port();
    let answers = |q: &[u8]| vec![if asks_for_ipv4(q) { good(q) } else { answer(q, [0x81, 0x80], &[]) }];
    let _server = Fake::start(port, answers);
    Host::new(port, "nameserver 127.0.0.1\n").check("db.example", "10.0.0.7");
}

#[test]
fn a_long_answer_without_tcp_is_an_error() {
    let port = free_port();
    let _server = Fake::start(port, |question| vec![answer(question, [0x83, 0x80], &[])]);
    let host = Host::new(port, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let check = |why: &str| {
        let want = "failed to look up `_x._tcp.`: server 127.0.0.1:PORT ";
        assert_eq!(host.services("_x._tcp."), format!("{want}{why} (asked for _x._tcp.)"));
    };
    check("has a long answer and cannot be asked over TCP: connection refused");
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let serve = thread::spawn(move || {
        let take = || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut length = [0; 2];
            connection.read_exact(&mut length).unwrap();
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            connection.read_exact(&mut question).unwrap();
            (connection, question)
        };
        drop(take());
        let (mut connection, question) = take();
        let cut = answer(&question, [0x83, 0x80], &[]);
        connection.write_all(&(cut.len() as u16).to_be_bytes()).unwrap();
        cut.iter().for_each(|byte| connection.write_all(&[*byte]).unwrap());
        let (mut connection, _) = take();
        connection.write_all(&[0, 3, 1, 2, 3]).unwrap();
        // The last one stalls until the resolver goes.
        let (mut connection, _) = take();
        connection.write_all(&[0xFF, 0xFF, 1]).unwrap();
        connection.read_to_end(&mut Vec::new()).unwrap_or_default()
    });
    check("has a long answer and cannot be asked over TCP: connection closed by the server");
    check("sent an answer that cannot be read: it is cut over TCP too");
    check("sent an answer that cannot be read: over TCP it is one to another question");
    check("has a long answer and cannot be asked over TCP: no answer in time");
    serve.join().unwrap();
}

#[test]
fn a_lookup_ends_in_time_whatever_the_files_say() {
    let port = free_port();
    let _silent = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|address| UdpSocket::bind((address, port)).unwrap());
    let conf = "nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\nsearch a b c d e f\n\
                options timeout:30 attempts:5\n";
    let host = Host::new(port, conf);
    let want = "failed to look up `db`: server 127.0.0.1:PORT did not answer in time; \
                server 127.0.0.2:PORT did not answer in time; server 127.0.0.3:PORT did not answer in time (asked for db.a.)";
    let started = Instant::now();
    host.check("db", want);
    let first = started.elapsed();
    host.check("db", want);
    let second = started.elapsed() - first;
    // Three seconds and one, and something for a busy machine.
    assert!(first < Duration::from_secs(5) && second < Duration::from_secs(2), "{first:?} {second:?}");
}

/// What the loop relies on: a lookup that cannot go on says so at once, with what to poll for and until when.
#[test]
fn a_lookup_waits_for_nothing() {
    let port = free_port();
    let _silent = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let host = Host::new(port, "nameserver 127.0.0.1\noptions timeout:3 attempts:1\n");
    let now = Instant::now();
    let mut lookup = host.resolver.begin(Query::Host("db".into()), now);
    assert!(lookup.due() <= now, "its first turn is due at once");
    // The clock stands still: nothing comes, and nothing is late.
    for _ in 0..100 {
        assert!(lookup.turn(now).is_none());
    }
    assert_eq!(lookup.due(), now + Duration::from_secs(3));
    let mut interests = Vec::new();
    lookup.interests(&mut interests);
    assert!(matches!(interests[..], [Interest { read: true, write: false, .. }]));
    drop(interests);
    let outcome = lookup.turn(now + Duration::from_secs(3)).expect("it is late");
    let words = "failed to look up `db`: server 127.0.0.1:PORT did not answer in time (asked for db.)";
    assert_eq!(host.shown(outcome.map(|_| String::new())), words);
}

#[test]
fn a_lookup_over_tcp_waits_for_nothing() {
    let port = free_port();
    let _server = Fake::start(port, |question| vec![answer(question, [0x83, 0x80], &[])]);
    // It accepts by itself, and says nothing.
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let host = Host::new(port, "nameserver 127.0.0.1\noptions timeout:3 attempts:1\n");
    let now = Instant::now();
    let mut lookup = host.resolver.begin(Query::Services("_x._tcp.".into()), now);
    let is_asked_over_tcp = |lookup: &Lookup| {
        let mut interests = Vec::new();
        lookup.interests(&mut interests);
        interests.len() == 2 && interests[1].read && !interests[1].write
    };
    while !is_asked_over_tcp(&lookup) {
        assert!(lookup.turn(now).is_none());
        let mut interests = Vec::new();
        lookup.interests(&mut interests);
        wait::ready(&interests, Some(Instant::now() + Duration::from_millis(10)));
    }
    let outcome = lookup.turn(now + Duration::from_secs(3)).expect("it is late");
    let words = "failed to look up `_x._tcp.`: server 127.0.0.1:PORT has a long answer and cannot be asked over TCP: no answer in time \
                 (asked for _x._tcp.)";
    assert_eq!(host.shown(outcome.map(|_| String::new())), words);
}

#[test]
fn no_file_means_this_host() {
    let port = free_port();
    let _server = Dnsmasq::start(port, RECORDS);
    let host = Host::new(port, "");
    std::fs::remove_file(host.dir.at("resolv.conf")).unwrap();
    host.check("db.example.com.", "10.0.0.1");
}

#[test]
fn a_server_that_talks_without_end_does_not_hold_the_loop() {
    let port = free_port();
    let _server = Fake::start(port, |question| vec![question.to_vec(); 2_000]);
    let host = Host::new(port, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let started = Instant::now();
    host.check("db.", "failed to look up `db.`: server 127.0.0.1:PORT did not answer in time (asked for db.)");
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
}
