//! The backend zookeeper, on real servers: reads, watches, users, TLS, and failures of the server and the network.
//! Tests that leave the server alone share one, each below its own node.

use crate::support::{
    Acl, Config, Fault, FaultProxy, LIMIT, LIST, OldZookeeper, Random, Remco, TempDir, Zookeeper, ZookeeperClient,
    config, example, free_port, remco, wait_until,
};
#[cfg(feature = "tls")]
use crate::support::{Authority, Key, Valid};

/// A resource that renders all keys that it has into `out`. The table of its backend is open.
fn listing(nodes: &[String], keys: &[&str]) -> Config {
    let top = config().set("log_level", "debug");
    top.resource("app").template("list.tmpl", "out").backend("zookeeper").set("nodes", nodes).set("keys", keys)
}

fn folder(config: &Config) -> TempDir {
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    config.write(&dir);
    dir
}

/// A program that watches, and has rendered.
fn watching(config: &Config) -> (TempDir, Remco) {
    let dir = folder(&config.clone().set_in("[resource.backend.zookeeper]", "watch", true));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.read("out").is_some());
    (dir, program)
}

#[track_caller]
fn await_file(dir: &TempDir, content: &str) {
    wait_until(&format!("the file is {content:?}"), LIMIT, || dir.read("out").is_some_and(|text| text == content));
}

/// What a fresh program reads.
fn fresh(config: &Config) -> String {
    let dir = folder(config);
    remco(&dir).once().expect_code(0);
    dir.read("out").expect("it is rendered")
}

#[test]
fn keys_are_read_and_followed() {
    let Some((server, _)) = Zookeeper::shared("keys_are_read_and_followed") else { return };
    let mut client = server.client();
    client.put("/follow/app/x", "1");
    client.put("/follow/app/db/host", "h");
    client.put("/follow/app/db", "no key: it has a child");
    client.put("/follow/app2/x", "another");
    client.put("/follow/odd/with blank.and*?[glob]", "odd");
    let nodes = [server.node()];
    let plain = listing(&nodes, &["/app/*", "/odd"]).set("prefix", "/follow");
    let odd = "/odd/with blank.and*?[glob]=odd\n";
    let (dir, program) = watching(&plain);
    await_file(&dir, &format!("/app/db/host=h\n/app/x=1\n{odd}"));
    client.put("/follow/app/x", "2");
    client.put("/follow/app/new/deep/er", "3");
    await_file(&dir, &format!("/app/db/host=h\n/app/new/deep/er=3\n/app/x=2\n{odd}"));
    assert!(client.delete("/follow/app/db/host") && client.delete("/follow/app/new/deep/er"));
    client.put("/follow/app/x/child", "4");
    let end = format!("/app/db=no key: it has a child\n/app/new/deep=\n/app/x/child=4\n{odd}");
    await_file(&dir, &end);
    assert_eq!(fresh(&plain), end);
    // The nodes may name the path that all keys are below.
    let chrooted = listing(&[format!("zookeeper://127.0.0.1:1,{}/follow", server.node())], &["/app", "/odd"]);
    assert_eq!(fresh(&chrooted), end);
    assert_eq!(fresh(&listing(&[format!("{}/follow/app/x", server.node())], &["/"])), "/child=4\n");
    let log = program.stop().join("\n");
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn values_are_bytes() {
    let Some((server, _)) = Zookeeper::shared("values_are_bytes") else { return };
    let mut client = server.client();
    client.put_bytes("/bytes/x", b"\xff\0\n\xc3\xa9");
    client.put("/bytes/empty", "");
    client.put("/bytes/large", &"x".repeat(900_000));
    let dir = folder(&listing(&[server.node()], &["/bytes"]));
    remco(&dir).once().expect_code(0);
    let out = std::fs::read(dir.at("out")).expect("it is rendered");
    let want = [&b"/bytes/empty=\n/bytes/large="[..], &[b'x'; 900_000], b"\n/bytes/x=\xff\0\n\xc3\xa9\n"].concat();
    assert!(out == want, "{} bytes", out.len());
}

#[test]
fn a_key_that_does_not_exist_is_named() {
    let Some((server, _)) = Zookeeper::shared("a_key_that_does_not_exist_is_named") else { return };
    let config = listing(&[server.node()], &["/missing/a"]);
    let words = format!("failed to read from zookeeper://{}: key `/missing/a` does not exist", server.node());
    let dir = folder(&config);
    remco(&dir).once().expect_code(1).expect_log(&words);
    config.set("watch", true).write(&dir);
    let program = remco(&dir).start();
    program.wait_for_log(&words);
    let mut client = server.client();
    client.put("/missing/a", "1");
    await_file(&dir, "/missing/a=1\n");
    program.wait_for_log("backend works again");
    // What was there stays when it goes.
    client.delete("/missing/a");
    program.wait_for_log_count(&words, 2);
    assert!(dir.holds("out", "/missing/a=1\n"));
    client.put("/missing/a", "2");
    await_file(&dir, "/missing/a=2\n");
    program.stop();
}

#[test]
fn watch_keys_call_for_updates() {
    let Some((server, _)) = Zookeeper::shared("watch_keys_call_for_updates") else { return };
    let mut client = server.client();
    client.put("/trigger/a", "1");
    let (dir, program) = watching(&listing(&[server.node()], &["/trigger/a"]).set("watchKeys", ["/trigger/reload"]));
    await_file(&dir, "/trigger/a=1\n");
    client.put("/trigger/a", "2");
    client.put("/trigger/reload/now", "any");
    await_file(&dir, "/trigger/a=2\n");
    program.stop();
}

#[test]
fn resources_share_a_session() {
    let Some((server, _)) = Zookeeper::shared("resources_share_a_session") else { return };
    let mut client = server.client();
    client.put("/shared/a", "1");
    client.put("/shared/b", "2");
    let resource = |name: &str, key: &str| {
        let backend = config().resource(name).template("list.tmpl", name).backend("zookeeper");
        backend.set("nodes", [server.node()]).set("keys", [key]).set("watch", true)
    };
    let dir = folder(&resource("one", "/shared/a").and(resource("two", "/shared/b")).and(resource("three", "/shared")));
    let program = remco(&dir).start();
    let holds = |name: &'static str, content: &'static str| {
        let name = name.to_owned();
        wait_until(content, LIMIT, || dir.read(&name).is_some_and(|text| text == content));
    };
    holds("three", "/shared/a=1\n/shared/b=2\n");
    assert_eq!(program.peers(), [server.port()], "one connection");
    client.put("/shared/b", "3");
    holds("two", "/shared/b=3\n");
    holds("three", "/shared/a=1\n/shared/b=3\n");
    assert!(dir.holds("one", "/shared/a=1\n"));
    program.stop();
}

#[test]
fn users_are_digests() {
    let Some((server, _)) = Zookeeper::shared("users_are_digests") else { return };
    let mut client = server.client();
    client.log_in("bob", "sesame");
    client.put("/users/open", "o");
    client.create("/users/closed/x", b"c", Acl::Creator);
    let node = server.node();
    let open = listing(std::slice::from_ref(&node), &["/users/closed"]);
    let words = format!("failed to read from zookeeper://{node}: `/users/closed/x` may not be read without a user");
    remco(&folder(&open)).once().expect_code(1).expect_log(&words);
    let with = |password: &str| open.clone().set("username", "bob").set("password", password);
    let wrong = "user `bob` may not read `/users/closed/x`, or has another password";
    remco(&folder(&with("s3cr3t"))).once().expect_code(1).expect_log(wrong).expect_no_log("s3cr3t");
    assert_eq!(fresh(&with("sesame")), "/users/closed/x=c\n");
    let dir = folder(&open.set("username_file", "name").set("password_file", "password"));
    dir.write("name", "bob\n");
    dir.write("password", "wr0ng\n");
    remco(&dir).once().expect_code(1).expect_log(wrong).expect_no_log("wr0ng");
    dir.write("password", "sesame\n");
    remco(&dir).once().expect_code(0).expect_no_log("sesame");
    assert!(dir.holds("out", "/users/closed/x=c\n"));
}

#[cfg(feature = "tls")]
#[test]
fn tls_is_for_the_scheme_and_for_client_files() {
    let Some((server, authority)) = Zookeeper::shared("tls_is_for_the_scheme_and_for_client_files") else { return };
    server.client().put("/tls/x", "1");
    let path = |path: &std::path::Path| path.display().to_string();
    let trusting = |node: String| listing(&[node], &["/tls"]).set("client_ca_keys", path(&authority.cert()));
    assert_eq!(fresh(&trusting(server.secure_node())), "/tls/x=1\n");
    let pair = authority.sign("zookeeper-client", "", Key::Sec1, Valid::Now);
    let plain = server.secure_node().trim_start_matches("zookeepers://").to_owned();
    let known = trusting(plain).set("client_cert", path(&pair.cert)).set("client_key", path(&pair.key));
    assert_eq!(fresh(&known), "/tls/x=1\n");
    let stranger = Authority::new();
    let refused = listing(&[server.secure_node()], &["/tls"]).set("client_ca_keys", path(&stranger.cert()));
    remco(&folder(&refused.set("timeout", 0.5))).once().expect_code(1).expect_log("certificate");
}

#[test]
fn a_dead_node_is_passed_over() {
    let Some((server, _)) = Zookeeper::shared("a_dead_node_is_passed_over") else { return };
    server.client().put("/dead/x", "1");
    let dead = format!("127.0.0.1:{}", free_port());
    assert_eq!(fresh(&listing(&[dead.clone(), server.node()], &["/dead"])), "/dead/x=1\n");
    let words = format!("failed to connect to zookeeper://{dead}");
    remco(&folder(&listing(&[dead], &["/dead"]).set("timeout", 0.3))).once().expect_code(1).expect_log(&words);
}

/// The example of docs/backends.md, as it is written there but for the port.
#[test]
fn the_example_of_the_docs_works() {
    let Some((server, _)) = Zookeeper::shared("the_example_of_the_docs_works") else { return };
    server.client().put("/app/greeting", "hello");
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/app/greeting\") }}\n");
    dir.write("config.toml", example("zookeeper").replace("127.0.0.1:2181", &server.node()));
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("app.conf", "hello\n"));
}

/// Writes at random below a node, whose children are never all gone.
struct Writer {
    client: ZookeeperClient,
    random: Random,
    root: String,
}

impl Writer {
    fn new(server: &Zookeeper, root: &str) -> Writer {
        let mut writer = Writer { client: server.client(), random: Random::new(7), root: root.to_owned() };
        writer.client.put(&format!("{root}/always"), "here");
        writer
    }

    fn write(&mut self) {
        let (top, below) = (self.random.below(20), self.random.below(3));
        let path = match below {
            0 => format!("{}/n{top}", self.root),
            below => format!("{}/n{top}/c{below}", self.root),
        };
        match self.random.below(3) {
            0 => _ = self.client.delete(&path),
            _ => self.client.put(&path, &self.random.below(1_000_000).to_string()),
        }
    }
}

/// Waits until the file is what a fresh program reads.
#[track_caller]
fn await_quiet(dir: &TempDir, config: &Config) {
    let want = fresh(config);
    wait_until("the file is what a fresh program reads", LIMIT, || dir.read("out").is_some_and(|text| text == want));
}

/// The number of changes in a storm: 1000, or `REMCO_CHANGES`.
fn changes() -> usize {
    std::env::var("REMCO_CHANGES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000)
}

#[test]
fn random_changes_on_a_bad_network_end_as_a_fresh_one_shot() {
    let Some((server, _)) = Zookeeper::shared("random_changes_on_a_bad_network_end_as_a_fresh_one_shot") else {
        return;
    };
    let proxy = FaultProxy::start(server.port());
    let mut writer = Writer::new(server, "/storm");
    let direct = listing(&[server.node()], &["/storm"]);
    let through = listing(&[format!("127.0.0.1:{}", proxy.port())], &["/storm"]).set("request_timeout", 0.5);
    let (dir, program) = watching(&through);
    let faults = [Fault::Tears, Fault::Drops, Fault::None, Fault::Delays, Fault::Refuses, Fault::None];
    for (number, fault) in faults.into_iter().cycle().take(12).enumerate() {
        for change in 0..changes() / 12 {
            if change == 10 {
                proxy.set(fault);
            }
            if change == 20 && number % 2 == 1 {
                proxy.cut();
            }
            writer.write();
        }
        proxy.set(Fault::None);
        await_quiet(&dir, &direct);
    }
    program.stop();
}

#[test]
fn a_server_is_killed_frozen_and_started_again() {
    if !Zookeeper::is_there("a_server_is_killed_frozen_and_started_again") {
        return;
    }
    let mut server = Zookeeper::start(None);
    server.client().put("/app/x", "1");
    let config = listing(&[server.node()], &["/app"]).set("request_timeout", 0.5);
    let (dir, program) = watching(&config);
    server.freeze();
    program.wait_for_log("failed to watch");
    server.thaw();
    server.client().put("/app/x", "2");
    await_file(&dir, "/app/x=2\n");
    server.kill();
    program.wait_for_log("connection refused");
    server.restart();
    server.client().put("/app/x", "3");
    await_file(&dir, "/app/x=3\n");
    program.wait_for_log("backend works again");
    program.stop();
}

/// Behind the proxy the server looks like one before 3.6, without lasting watches: nodes are watched one by one.
#[test]
fn random_changes_without_lasting_watches_end_as_a_fresh_one_shot() {
    let name = "random_changes_without_lasting_watches_end_as_a_fresh_one_shot";
    let Some((server, _)) = Zookeeper::shared(name) else { return };
    let old = OldZookeeper::start(server.port());
    let mut writer = Writer::new(server, "/old");
    let config = listing(&[format!("127.0.0.1:{}", old.port())], &["/old"]);
    let (dir, program) = watching(&config);
    program.wait_for_log("the server has no lasting watches");
    for _ in 0..10 {
        (0..changes() / 20).for_each(|_| writer.write());
        await_quiet(&dir, &listing(&[server.node()], &["/old"]));
    }
    program.stop();
}

/// The server in use, one of three, is killed six times. Only long runs do this: it takes a minute.
#[test]
fn an_ensemble_fails_over() {
    if std::env::var_os("REMCO_CHANGES").is_none() || !Zookeeper::is_there("an_ensemble_fails_over") {
        return;
    }
    let mut servers = Zookeeper::ensemble();
    let nodes: Vec<String> = servers.iter().map(Zookeeper::node).collect();
    let config = listing(&nodes, &["/app"]);
    servers[0].client().put("/app/x", "0");
    let (dir, program) = watching(&config);
    for round in 1..=6 {
        let used = program.peers();
        let place = servers.iter().position(|server| used.contains(&server.port())).expect("it is connected");
        servers[place].kill();
        let other = (place + 1) % 3;
        servers[other].client().put("/app/x", &round.to_string());
        await_file(&dir, &format!("/app/x={round}\n"));
        servers[place].restart();
    }
    let log = program.stop().join("\n");
    assert!(!log.contains("session expired"), "it outlives its server\n{log}");
}
