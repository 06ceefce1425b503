//! The two services of docs/operation.md, as they stand there, with traffic through them: real haproxy and nginx under a
//! real etcd.

use std::fs;

use rustix::process::Signal;

use crate::support::{Etcd, FixedBody, Invocation, LIMIT, TempDir, in_own_namespace, run, wait_until};
use crate::tutorial::{answers, curl, prepare_root};

const OPERATION: &str = include_str!("../../docs/operation.md");

/// The text of a file in a section of the document: the next code block behind the file's name.
fn file(section: &str, name: &str) -> &'static str {
    let (_, text) = OPERATION.split_once(&format!("\n### {section}\n")).expect("the section is there");
    let (_, text) = text.split_once(&format!("`{name}`:")).expect("the file is there");
    let (_, text) = text.split_once("```").expect("its block begins");
    let (_, text) = text.split_once('\n').expect("behind a line of its own");
    text.split_once("```").expect("its block ends").0
}

/// Puts the service on its first server, adds the second, takes away the first.
fn serves(name: &str, template: &str) {
    prepare_root();
    for path in ["/etc/remco/config", template] {
        fs::write(path, file(name, path)).expect("a tmpfs takes files");
    }
    let etcd = Etcd::start_on(2379, 2380, &[]);
    let (one, two) = (FixedBody::start("one"), FixedBody::start("two"));
    etcd.etcdctl(&["put", "/web/1", &one.address()]);
    let dir = TempDir::new();
    let mut program = Invocation::bare(&dir, &[]).start();
    assert_eq!(curl("http://127.0.0.1:8080/"), "one");
    etcd.etcdctl(&["put", "/web/2", &two.address()]);
    wait_until("traffic reaches both", LIMIT, || answers("http://127.0.0.1:8080/", 4) == ["one", "two"]);
    etcd.etcdctl(&["del", "/web/1"]);
    wait_until("the first gets no traffic any more", LIMIT, || answers("http://127.0.0.1:8080/", 10) == ["two"]);
    // A value that is no address is refused by the check: the old configuration stays.
    etcd.etcdctl(&["put", "/web/3", "no address"]);
    program.wait_for_log("check command exited with status 1, keeping the old file");
    assert_eq!(answers("http://127.0.0.1:8080/", 4), ["two"]);
    assert_eq!(program.log().iter().filter(|line| line.contains("child has been started")).count(), 1);
    program.signal(Signal::TERM);
    assert_eq!(program.exit_code(), Some(0));
    assert!(std::net::TcpStream::connect(("127.0.0.1", 8080)).is_err(), "the service ended with remco");
}

#[test]
fn haproxy_under_remco() {
    in_own_namespace("services::haproxy_under_remco", || serves("haproxy", "/etc/remco/haproxy.cfg.tmpl"));
}

#[test]
fn nginx_under_remco() {
    in_own_namespace("services::nginx_under_remco", || {
        run(&["mkdir", "-p", "/var/log/nginx"]);
        serves("nginx", "/etc/remco/nginx.conf.tmpl");
    });
}
