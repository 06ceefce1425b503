//! The two services of docs/recipes.md as they are written there, with traffic: real haproxy and nginx that follow a
//! real etcd.

use rustix::process::Signal;

use crate::support::{Etcd, FixedBody, LIMIT, Recipe, in_own_namespace, run, wait_until};
use crate::tutorial::{answers, curl, prepare_root};

/// Puts the service on its first server, adds the second, takes away the first.
fn serves(name: &str) {
    prepare_root();
    let recipe = Recipe::of(&format!("### {name}"));
    recipe.write_files();
    let etcd = Etcd::start_on(2379, 2380, &[]);
    let (one, two) = (FixedBody::start("one"), FixedBody::start("two"));
    etcd.etcdctl(&["put", "/web/1", &one.address()]);
    let mut program = recipe.start();
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
    in_own_namespace("services::haproxy_under_remco", || serves("haproxy"));
}

#[test]
fn nginx_under_remco() {
    in_own_namespace("services::nginx_under_remco", || {
        run(&["mkdir", "-p", "/var/log/nginx"]);
        serves("nginx");
    });
}
