//! The haproxy tutorial of Go remco: its template and its configuration unchanged (`tutorial/`), on a real etcd and a
//! real haproxy. Also docs/tutorial.md, as it is written.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::{Etcd, FixedBody, Invocation, LIMIT, Recipe, TempDir, in_own_namespace, run, wait_until};

const TEMPLATE: &str = include_str!("tutorial/haproxy.tmpl");
const CONFIG: &str = include_str!("tutorial/config");
const HAPROXY_CFG: &str = "/etc/haproxy/haproxy.cfg";

#[test]
fn the_tutorial_verbatim() {
    in_own_namespace("tutorial::the_tutorial_verbatim", || {
        the_tutorial(&[], |etcd, key, value| {
            etcd.etcdctl(&match value {
                Some(value) => vec!["put", key, value],
                None => vec!["del", key],
            });
        });
    });
}

/// The tutorial writes with `etcdctl set`, which is version 2 of the API: that is found out.
#[test]
fn the_tutorial_with_version_2() {
    in_own_namespace("tutorial::the_tutorial_with_version_2", || {
        the_tutorial(&["--enable-v2"], |etcd, key, value| {
            let args = match value {
                Some(value) => vec!["set", key, value],
                None => vec!["rm", key],
            };
            etcd.etcdctl_of("2", &args);
        });
    });
}

/// `write` sets a key, or removes it.
fn the_tutorial(args: &[&str], write: fn(&Etcd, &str, Option<&str>)) {
    prepare_root();
    fs::write("/etc/remco/config", CONFIG).expect("a tmpfs takes files");
    fs::write("/etc/remco/templates/haproxy.tmpl", TEMPLATE).expect("a tmpfs takes files");
    let etcd = Etcd::start_on(2379, 2380, args);
    let (one, two) = (FixedBody::start("one"), FixedBody::start("two"));

    write(&etcd, "/services/exampleService/1", Some(&one.address()));
    write(&etcd, "/config/exampleService/scheme", Some("http"));
    write(&etcd, "/config/exampleService/host_port", Some("1234"));
    write(&etcd, "/services/redis/1", Some(&one.address()));
    write(&etcd, "/services/redis/2", Some(&two.address()));
    write(&etcd, "/config/redis/scheme", Some("tcp"));
    write(&etcd, "/config/redis/host_port", Some("6379"));
    let dir = TempDir::new();
    // The container of the tutorial has nothing but ETCD_NODE and the default configuration file.
    let program = Invocation::bare(&dir, &[]).env("ETCD_NODE", "http://localhost:2379").start();
    program.wait_for_log("target config has been updated");

    let config = fs::read_to_string(HAPROXY_CFG).expect("it has been written");
    for (text, why) in [
        ("acl is_exampleService url_beg /exampleService\n", "the http acl"),
        ("acl is_exampleService hdr_beg(host) exampleService\n", "the host acl"),
        ("use_backend exampleService_servers if is_exampleService\n", "the use_backend"),
        ("frontend redis_port\n", "the exposed tcp service"),
        ("bind *:6379\n", "its port"),
        ("backend redis_servers\n", "the backend"),
        (&format!("server server_redis_1 {}\n", one.address()), "base() names the server"),
        (&format!("server server_redis_2 {}\n", two.address()), "base() names the second server"),
    ] {
        assert!(config.contains(text), "{why}: no {text:?} in\n{config}");
    }
    assert!(!config.contains("is_redis"), "a tcp service has no acl:\n{config}");

    // Through the path, the host name, the service's own port, and as plain TCP.
    assert_eq!(curl("http://127.0.0.1/exampleService/"), "one");
    assert_eq!(curl_host("exampleService.local"), "one");
    assert_eq!(curl("http://127.0.0.1:1234/"), "one");
    wait_until("tcp traffic reaches both", LIMIT, || answers("http://127.0.0.1:6379/", 4) == ["one", "two"]);

    // A second server: nothing happens until the reload key is touched.
    write(&etcd, "/services/exampleService/2", Some(&two.address()));
    write(&etcd, "/haproxy/reload", Some("1"));
    wait_until("http traffic reaches both", LIMIT, || answers("http://127.0.0.1/exampleService/", 4) == ["one", "two"]);

    write(&etcd, "/services/exampleService/1", None);
    write(&etcd, "/haproxy/reload", Some("2"));
    wait_until("the first server gets no http traffic any more", LIMIT, || {
        let before = one.served();
        answers("http://127.0.0.1/exampleService/", 10) == ["two"] && one.served() == before
    });
    program.stop();
    assert_eq!(curl("http://127.0.0.1/exampleService/"), "two", "haproxy outlives remco");
}

/// With the configuration of the package, where the page says that it is installed.
#[test]
fn the_tutorial_of_the_documents() {
    in_own_namespace("tutorial::the_tutorial_of_the_documents", || {
        const SERVERS: usize = 0;
        const LOOK: usize = 1;
        const REQUEST: usize = 2;
        const SECOND: usize = 3;
        const WRONG: usize = 4;
        const REPAIR: usize = 5;
        const STOP: usize = 6;
        const CLEAN_UP: usize = 7;
        prepare_root();
        run(&["mount", "-t", "tmpfs", "none", "/srv"]);
        let recipe = Recipe::on(include_str!("../../docs/tutorial.md"), "# Tutorial: haproxy follows etcd");
        assert_eq!(recipe.texts("sh").len(), CLEAN_UP + 1);
        recipe.write_files();
        fs::write("/etc/remco/config", include_str!("../../packaging/config")).expect("a tmpfs takes files");
        let mut etcd = Etcd::start_on(2379, 2380, &[]);
        recipe.sh(SERVERS).expect_code(0);
        let looked = recipe.sh(LOOK).expect_code(3);
        let looked = String::from_utf8_lossy(&looked.stdout);
        assert!(looked.contains("\n+    server server1 127.0.0.1:8001\n"), "{looked}");

        let program = recipe.start();
        let url = "http://127.0.0.1:8080/";
        assert_eq!(curl(url), "this is server 1\n");
        recipe.expect_printed(0, &recipe.sh(REQUEST).expect_code(0));
        recipe.sh(SECOND).expect_code(0);
        let both = ["this is server 1\n", "this is server 2\n"];
        wait_until("requests reach both", LIMIT, || answers(url, 4) == both);
        recipe.sh(WRONG).expect_code(0);
        program.wait_for_log("check command exited with status 1");
        // The message of haproxy, as the page says.
        program.wait_for_log("unknown keyword 'address'");
        assert_eq!(answers(url, 10), both);
        recipe.sh(REPAIR).expect_code(0);
        program.wait_for_log("template works again");
        etcd.kill();
        assert_eq!(answers(url, 10), both);
        etcd.bring_back();
        etcd.delete("/services/web/server1");
        wait_until("the change arrives", LIMIT, || answers(url, 4) == both[1..]);
        program.stop();
        assert_eq!(curl(url), both[1], "haproxy outlives remco");
        let is_closed = |port: u16| std::net::TcpStream::connect(("127.0.0.1", port)).is_err();
        recipe.sh(STOP).expect_code(0);
        wait_until("haproxy has ended", LIMIT, || is_closed(8080));
        recipe.sh(CLEAN_UP).expect_code(0);
        wait_until("the servers have ended", LIMIT, || is_closed(8001) && is_closed(8002));
        for name in ["run", "srv", "etc/haproxy", "etc/remco/templates", "etc/remco/resource.d"] {
            let left = fs::read_dir(format!("/{name}")).unwrap().map(|entry| entry.unwrap().file_name());
            let left: Vec<_> = left.filter(|name| is_of_tutorial(&name.to_string_lossy())).collect();
            assert!(left.is_empty(), "/{name} still has {left:?}");
        }
    });
}

/// Whether the page makes a file or folder of this name.
fn is_of_tutorial(name: &str) -> bool {
    name.starts_with("tutorial") || name.starts_with("server")
}

/// An /etc, /run and /var/run of our own, with the folders that the tutorial's image has.
pub fn prepare_root() {
    // A copy first: the mounts of the tutorial need mount points, and the machine's /etc is not ours to add them to.
    run(&["mount", "-t", "tmpfs", "none", "/mnt"]);
    run(&["cp", "-a", "/etc/.", "/mnt"]);
    run(&["mount", "--move", "/mnt", "/etc"]);
    run(&["mkdir", "-p", "/etc/remco", "/etc/haproxy"]);
    for folder in ["/etc/remco", "/etc/haproxy", "/var/run"] {
        run(&["mount", "-t", "tmpfs", "none", folder]);
    }
    run(&["mkdir", "/etc/remco/templates"]);
}

/// The different answers to some requests, sorted.
pub fn answers(url: &str, requests: usize) -> Vec<String> {
    let mut answers: Vec<String> = (0..requests).map(|_| curl(url)).collect();
    answers.sort();
    answers.dedup();
    answers
}

pub fn curl(url: &str) -> String {
    curl_with(&[url])
}

fn curl_host(host: &str) -> String {
    curl_with(&["-H", &format!("Host: {host}"), "http://127.0.0.1/"])
}

/// The body of an answer. Asks again while haproxy is not there yet: it starts in the background.
fn curl_with(args: &[&str]) -> String {
    let mut body = String::new();
    wait_until("curl gets an answer", LIMIT, || {
        let output = Command::new("curl")
            .args(["-sS", "--fail", "--max-time", "5"])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("failed to run curl (scripts/test installs it): {e}"));
        body = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success()
    });
    body
}
