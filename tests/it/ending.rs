//! SIGTERM ends the program at once in every state. Each test prints how long the end took.

use std::fmt::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
use rustix::process::Signal;

use crate::names::prepare_etc;
use crate::running::{Gate, folder, on_etcd, on_file};
use crate::support::{Etcd, LIMIT, Silent, in_own_namespace, remco, wait_until};

#[test]
fn of_an_idle_program() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = folder(&on_file("app", "").replace("watch = true", "interval = 3600"));
        let program = remco(&dir).start();
        wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
        program.ends_at_once(signal, &format!("idle, by {signal:?}"));
    }
}

#[test]
fn of_a_watch() {
    let etcd = Etcd::start();
    etcd.put("/greeting", "hello");
    let dir = folder(&on_etcd("app", &etcd.url()));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    // Seen through the watch: it is open.
    etcd.put("/greeting", "again");
    wait_until("the second render", LIMIT, || dir.holds("app.out", "again\n"));
    program.ends_at_once(Signal::TERM, "in a watch");
}

/// A server that takes no connection any more: its queue is full, and the kernel drops what comes.
pub struct Full {
    pub address: SocketAddr,
    _listener: std::os::fd::OwnedFd,
    _queue: Vec<TcpStream>,
}

impl Full {
    pub fn start() -> Full {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&listener, &"127.0.0.1:0".parse::<SocketAddr>().expect("an address")).expect("some port is free");
        listen(&listener, 0).expect("a bound socket listens");
        let address = getsockname(&listener).expect("it is bound").try_into().expect("an IPv4 address");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let queue = std::iter::from_fn(connect).collect();
        Full { address, _listener: listener, _queue: queue }
    }
}

#[test]
fn of_a_connect_that_is_not_answered() {
    let full = Full::start();
    let dir = folder(&on_etcd("app", &format!("http://{}", full.address)));
    let program = remco(&dir).start();
    // 02: SYN sent.
    let port = format!(":{:04X} 02 ", full.address.port());
    let sockets = || std::fs::read_to_string(format!("/proc/{}/net/tcp", program.pid())).unwrap_or_default();
    wait_until("it connects", LIMIT, || sockets().lines().any(|line| line.contains(&port)));
    program.ends_at_once(Signal::TERM, "in a connect");
}

#[test]
fn of_a_lookup_that_nobody_answers() {
    in_own_namespace("ending::of_a_lookup_that_nobody_answers", || {
        prepare_etc("nameserver 127.0.0.1\n");
        let silent = UdpSocket::bind("127.0.0.1:53").expect("nobody else is here");
        silent.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
        let dir = folder(&on_file("app", ""));
        dir.write("app.tmpl", "{{ lookupIP(\"db.example.com\") }}");
        let program = remco(&dir).start();
        silent.recv(&mut [0; 512]).expect("a question comes");
        // A lookup that nobody answers takes three seconds.
        program.ends_at_once(Signal::TERM, "in a DNS lookup");
        assert_eq!(dir.read("app.out"), None);
    });
}

#[test]
fn of_a_range_request_that_nobody_answers() {
    let silent = Silent::start();
    let dir = folder(&on_etcd("app", &silent.url()));
    let program = remco(&dir).start();
    let _unanswered = silent.request();
    program.ends_at_once(Signal::TERM, "in a range request");
}

#[test]
fn of_a_one_shot_run_that_waits_for_its_keys() {
    let silent = Silent::start();
    let dir = folder(&on_etcd("app", &silent.url()).replace("watch = true", "onetime = true"));
    let program = remco(&dir).arg("-onetime").start();
    let _unanswered = silent.request();
    program.ends_at_once_with(143, Signal::TERM, "in a one-shot run");
}

#[test]
fn of_a_long_render() {
    let dir = folder(&on_file("app", "").replace("data.json", "many.json"));
    let mut data = String::from("{\"a\": 0");
    for n in 0..20_000 {
        write!(data, ", \"k{n}\": 1").expect("a String takes everything");
    }
    dir.write("many.json", data + "}");
    let inner = "{% for b in getallkvs() %}{% endfor %}";
    dir.write("app.tmpl", format!("{{% for a in getallkvs() %}}{inner}{{% endfor %}}"));
    let program = remco(&dir).start();
    program.wait_for_log("compiling source template");
    program.ends_at_once(Signal::TERM, "in a long render");
    assert_eq!(dir.read("app.out"), None, "the render was not at its end");
}

/// What is interrupted has not failed: no error is logged. A one-shot run has not succeeded either.
#[test]
fn of_a_long_render_in_any_mode() {
    let round = "{% for a in \"0123456789\" %}";
    let endless = format!("{}{{% if \"no\" in x %}}{{% endif %}}{}", round.repeat(9), "{% endfor %}".repeat(9));
    let limits = "[limits]\ntemplate_steps = 1000000000000000\ntemplate_time = 3600\n";
    let watched = on_file("app", "") + limits;
    for (config, mode) in [
        (watched.clone(), Some("-onetime")),
        (watched.replace("watch = true", "onetime = true"), None),
        (watched.replace("watch = true", "interval = 3600"), None),
        (watched, None),
    ] {
        let dir = folder(&config);
        dir.write("app.tmpl", format!("{{% set x = \"x\"|ljust:1000000 %}}{endless}"));
        dir.write("app.out", "old\n");
        let program = remco(&dir);
        let mut program = mode.into_iter().fold(program, |program, mode| program.arg(mode)).start();
        program.wait_for_log("compiling source template");
        program.wait_for_log("keys have been read");
        program.signal(Signal::TERM);
        let code = if mode.is_some() { 143 } else { 0 };
        assert_eq!(program.exit_code(), Some(code), "{mode:?} {config}");
        let log = program.all_lines();
        assert!(!log.iter().any(|line| line.contains("ERROR") || line.contains("WARN")), "{mode:?} {config} {log:#?}");
        assert_eq!(dir.read("app.out").as_deref(), Some("old\n"), "nothing is written");
        assert_eq!(dir.names(".").iter().filter(|name| name.contains("app.out")).count(), 1, "{mode:?}");
    }
}

#[test]
fn of_a_running_command() {
    for command in ["check_cmd", "reload_cmd"] {
        let dir = folder(&on_file("app", &format!("{command} = \"cat gate > waited\"")));
        let _gate = Gate::new(&dir);
        let program = remco(&dir).start();
        wait_until("the command runs", LIMIT, || dir.holds("waited", ""));
        program.ends_at_once(Signal::TERM, &format!("during a {command}"));
        let stages: Vec<_> = dir.names(".").into_iter().filter(|name| name.starts_with(".app.out")).collect();
        assert!(stages.is_empty(), "{command}: {stages:?}");
    }
}

#[test]
fn of_a_splay() {
    let exec = "[resource.exec]\ncommand = \"sleep 3600\"\nreload_signal = \"SIGHUP\"\nsplay = 3600\n";
    let dir = folder(&on_file("app", exec));
    let program = remco(&dir).start();
    program.wait_for_log("child has been started");
    crate::running::update(&dir, "app", "again");
    program.ends_at_once(Signal::TERM, "during a splay, with a child");
}
