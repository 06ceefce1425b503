//! A real Redis: reads, watches, users, TLS, unix sockets, and failures of the server.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

#[cfg(feature = "tls")]
use crate::support::Authority;
use crate::support::{
    Answer, Config, Fault, FaultProxy, LIMIT, LIST, REDIS_TELLING, Random, Redis, RedisClient, Remco, TempDir,
    await_out, config, examples, free_port, is_refused, reads, remco, renders_once, sample, wait_until, watching,
};

/// A configuration that renders all of `/app`.
fn rendering(dir: &TempDir, nodes: &[&str]) -> Config {
    dir.write("list.tmpl", LIST);
    let resource = config().set("log_level", "debug").resource("app").template("list.tmpl", "out");
    resource.backend("redis").set("nodes", nodes.to_vec()).keys(["/app"])
}

/// What a fresh one-shot run renders.
fn fresh(nodes: &[&str]) -> String {
    let dir = TempDir::new();
    rendering(&dir, nodes).onetime().write(&dir);
    remco(&dir).once().expect_code(0);
    dir.read("out").unwrap_or_default()
}

struct Bench {
    dir: TempDir,
    redis: Redis,
}

impl Bench {
    fn new(lines: &[&str]) -> Bench {
        Bench { dir: TempDir::new(), redis: Redis::start(lines) }
    }

    fn rendering(&self) -> Config {
        rendering(&self.dir, &[&self.redis.node()])
    }

    /// A program that watches `/app` and has rendered it.
    fn watching(&self) -> Remco {
        watching(&self.dir, self.rendering())
    }

    #[track_caller]
    fn once(&self, config: &Config, want: &str) {
        renders_once(&self.dir, config, want);
    }

    /// A one-shot run that cannot work, and does not try for its time of 30 seconds.
    #[track_caller]
    fn refused(&self, config: &Config, words: &str) {
        is_refused(&self.dir, config, words);
    }
}

#[test]
fn keys_are_read_as_go_remco_reads_them() {
    let bench = Bench::new(&[]);
    let mut client = bench.redis.client();
    for (key, value) in
        [("/app/a", "1"), ("/app/d/b c", "ä\n<&>"), ("/app2/x", "no"), ("/single", "s"), ("/single/x", "no")]
    {
        client.set(key, value);
    }
    client.run(&["HSET", "/app/hash", "f", "v"]);
    client.run(&["LPUSH", "/app/list", "v"]);
    let config = bench.rendering();
    bench.once(&config, "/app/a=1\n/app/d/b c=ä\n<&>\n");
    bench.once(&config.clone().keys(["/single", "/app/d/*"]), "/app/d/b c=ä\n<&>\n/single=s\n");
    bench.once(&config.clone().keys(["/"]).set("prefix", "/app"), "/a=1\n/d/b c=ä\n<&>\n");
    bench.once(&config.clone().keys(["/app[12]"]), "/app2/x=no\n");
    bench.once(&config.clone().keys(["/none"]), "");
    bench.refused(&config.keys(["/app/hash"]), "key `/app/hash` holds no string");
}

#[test]
fn many_keys_come_once_each() {
    let bench = Bench::new(&[]);
    let mut client = bench.redis.client();
    let mut want = String::new();
    for n in 0..2500 {
        client.set(&format!("/app/{n:04}"), &n.to_string());
        want += &format!("/app/{n:04}={n}\n");
    }
    bench.once(&bench.rendering(), &want);
    bench.refused(&bench.rendering().set("max_keys", 100), "more than 100 keys: raise `max_keys`");
}

#[test]
fn every_kind_of_change_reaches_the_file_and_costs_no_read() {
    let bench = Bench::new(&[REDIS_TELLING]);
    let mut client = bench.redis.client();
    client.set("/app/a", "1");
    let program = bench.watching();
    await_out(&bench.dir, "/app/a=1\n");
    let mut check = |words: &[&str], want: &str| {
        client.run(words);
        await_out(&bench.dir, want);
    };
    check(&["SET", "/app/a", "2"], "/app/a=2\n");
    check(&["MSET", "/app/b", "1", "/app/c", "1"], "/app/a=2\n/app/b=1\n/app/c=1\n");
    check(&["APPEND", "/app/a", "x"], "/app/a=2x\n/app/b=1\n/app/c=1\n");
    check(&["INCR", "/app/b"], "/app/a=2x\n/app/b=2\n/app/c=1\n");
    check(&["RENAME", "/app/c", "/app/d e\n*"], "/app/a=2x\n/app/b=2\n/app/d e\n*=1\n");
    check(&["DEL", "/app/d e\n*"], "/app/a=2x\n/app/b=2\n");
    check(&["COPY", "/app/a", "/app/z"], "/app/a=2x\n/app/b=2\n/app/z=2x\n");
    check(&["SADD", "/app/set", "1"], "/app/a=2x\n/app/b=2\n/app/z=2x\n");
    check(&["SUNIONSTORE", "/app/z", "/app/set"], "/app/a=2x\n/app/b=2\n");
    check(&["PEXPIRE", "/app/b", "50"], "/app/a=2x\n");
    check(&["UNLINK", "/app/a"], "");
    let log = program.stop();
    assert_eq!(reads(&log), 1, "{log:#?}");
}

#[test]
fn a_key_itself_takes_the_place_of_those_below_it() {
    let bench = Bench::new(&[REDIS_TELLING]);
    let mut client = bench.redis.client();
    client.set("/app/a", "1");
    let program = bench.watching();
    await_out(&bench.dir, "/app/a=1\n");
    client.set("/app", "0");
    await_out(&bench.dir, "/app=0\n");
    client.set("/app", "1");
    await_out(&bench.dir, "/app=1\n");
    client.run(&["DEL", "/app"]);
    await_out(&bench.dir, "/app/a=1\n");
    program.stop();
}

#[test]
fn prefix_watch_keys_and_database_are_as_configured() {
    let bench = Bench::new(&[REDIS_TELLING]);
    let mut client = bench.redis.client();
    client.run(&["SELECT", "3"]);
    client.set("/prod/app/a", "1");
    let config = bench.rendering().set("prefix", "/prod").set("watchKeys", ["/reload"]).set("database", 3);
    config.watch().write(&bench.dir);
    let program = remco(&bench.dir).start();
    await_out(&bench.dir, "/app/a=1\n");
    client.set("/prod/app/a", "2");
    client.set("/prod/reload", "1");
    await_out(&bench.dir, "/app/a=2\n");
    let log = program.stop();
    assert_eq!(reads(&log), 1, "{log:#?}");
}

#[test]
fn a_server_that_tells_nothing_is_read_by_time_until_it_does() {
    let bench = Bench::new(&[]);
    bench.redis.set("/app/a", "1");
    bench.rendering().watch().set("interval", 1).write(&bench.dir);
    let program = remco(&bench.dir).start();
    await_out(&bench.dir, "/app/a=1\n");
    program.wait_for_log("redis cannot be watched, using `interval` instead");
    bench.redis.set("/app/a", "2");
    await_out(&bench.dir, "/app/a=2\n");
    let log = program.stop();
    assert_eq!(log.iter().filter(|line| line.contains("cannot be watched")).count(), 1, "{log:#?}");
}

#[test]
fn passwords_and_users() {
    let bench = Bench::new(&[
        REDIS_TELLING,
        "requirepass s3same",
        "user bob on >s3same-bob ~/app* &* +get +mget +scan +config|get +subscribe +psubscribe",
        "user eve on >s3same-eve ~/app/a +get +mget +scan",
    ]);
    let mut client = bench.redis.client();
    client.run(&["AUTH", "s3same"]);
    client.set("/app/a", "1");
    client.set("/app/b", "2");
    let config = bench.rendering();
    let all = "/app/a=1\n/app/b=2\n";
    bench.once(&config.clone().set("password", "s3same"), all);
    bench.dir.write("password", "s3same-bob\n");
    let bob = config.clone().set("username", "bob").set("password_file", "password");
    bench.once(&bob, all);
    bench.refused(&config, "NOAUTH Authentication required.: set `password` or `password_file`");
    bench.refused(&config.clone().set("password", "s3same-wrong"), "failed to log in to");
    bench.refused(&config.clone().set("username", "bob").set("password", "s3same"), "user `bob`: WRONGPASS");
    let eve = config.set("username", "eve").set("password", "s3same-eve");
    bench.refused(&eve, "user `eve` may not read key `/app`");
    client.run(&["ACL", "SETUSER", "eve", "resetkeys", "~/app", "~/app/a"]);
    bench.once(&eve, "/app/a=1\n");
    // A user who may watch, and whose password changes.
    bob.watch().write(&bench.dir);
    let program = remco(&bench.dir).start();
    await_out(&bench.dir, all);
    client.set("/app/a", "3");
    await_out(&bench.dir, "/app/a=3\n/app/b=2\n");
    // And whose permissions do: what may not be read is not gone.
    client.run(&["ACL", "SETUSER", "bob", "-get", "-mget"]);
    client.set("/app/a", "4");
    program.wait_for_log("user `bob` may not read key `/app`");
    assert!(bench.dir.holds("out", "/app/a=3\n/app/b=2\n"));
    client.run(&["ACL", "SETUSER", "bob", "+get", "+mget"]);
    await_out(&bench.dir, "/app/a=4\n/app/b=2\n");
    client.run(&["ACL", "SETUSER", "bob", "resetpass", ">s3same-new"]);
    client.run(&["CLIENT", "KILL", "USER", "bob"]);
    program.wait_for_log("user `bob`: WRONGPASS");
    let log = program.stop();
    assert!(!log.iter().any(|line| line.contains("s3same") || line.contains("cannot be watched")), "{log:#?}");
}

#[test]
fn what_a_server_refuses_is_said() {
    let bench = Bench::new(&[]);
    let config = bench.rendering();
    bench.refused(&config.clone().set("database", 99), "failed to select database 99 of redis://127.0.0.1");
    bench.refused(&config.set("password", "s3same"), "called without any password configured");
    let soon = |bench: &Bench| bench.rendering().set("timeout", 0.1);
    let orphan = Bench::new(&["replicaof 127.0.0.1 1", "replica-serve-stale-data no"]);
    orphan.refused(&soon(&orphan), "MASTERDOWN");
    let bus = format!("cluster-port {}", free_port());
    let cluster = Bench::new(&["cluster-enabled yes", &bus]);
    cluster.refused(&soon(&cluster), "CLUSTERDOWN");
    // One node with all keys is a server as any.
    let mut client = cluster.redis.client();
    client.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait_until(
        "the cluster is up",
        LIMIT,
        || matches!(client.try_run(&["SET", "/app/a", "1"]), Ok(Answer::Text(text)) if text == "OK"),
    );
    client.set("/app/b", "2");
    cluster.once(&cluster.rendering(), "/app/a=1\n/app/b=2\n");
}

#[test]
fn a_unix_socket_is_a_path() {
    let bench = Bench::new(&[REDIS_TELLING]);
    bench.redis.set("/app/a", "1");
    let socket = bench.redis.socket().display().to_string();
    for node in [socket.clone(), format!("unix:{socket}")] {
        bench.once(&rendering(&bench.dir, &[&node]), "/app/a=1\n");
    }
    rendering(&bench.dir, &[&socket]).watch().write(&bench.dir);
    let program = remco(&bench.dir).start();
    program.wait_for_log("retrieving keys");
    bench.redis.set("/app/a", "2");
    await_out(&bench.dir, "/app/a=2\n");
    program.stop();
}

#[cfg(feature = "tls")]
#[test]
fn tls_with_a_certificate() {
    let authority = Authority::new();
    let pair = authority.server();
    let redis = Redis::secured(&authority, &pair, &[REDIS_TELLING]);
    redis.set("/app/a", "1");
    let dir = TempDir::new();
    let path = |path: &std::path::Path| path.display().to_string();
    let config = rendering(&dir, &[&redis.secure_node()]).set("client_ca_keys", path(&authority.cert()));
    let certified = config.clone().set("client_cert", path(&pair.cert)).set("client_key", path(&pair.key));
    certified.clone().watch().write(&dir);
    let program = remco(&dir).start();
    await_out(&dir, "/app/a=1\n");
    redis.set("/app/a", "2");
    await_out(&dir, "/app/a=2\n");
    program.stop();
    let stranger = Authority::new();
    let strange = certified.clone().set("client_ca_keys", path(&stranger.cert())).set("timeout", 0.1);
    strange.onetime().write(&dir);
    remco(&dir).once().expect_code(1).expect_log("is signed by none of the authorities");
    // Without one it is not let in.
    config.set("timeout", 0.1).onetime().write(&dir);
    remco(&dir).once().expect_code(1).expect_log("failed to");
    let plain = redis.secure_node().replace("rediss", "redis");
    rendering(&dir, &[&plain]).set("timeout", 0.1).onetime().write(&dir);
    remco(&dir).once().expect_code(1).expect_log("failed to read from redis://127.0.0.1");
}

#[test]
fn the_first_node_that_answers_is_used() {
    let bench = Bench::new(&[REDIS_TELLING]);
    bench.redis.set("/app/a", "1");
    let dead = format!("127.0.0.1:{}", free_port());
    // One of them fails at once, in the turn that tries it.
    for dead in [&*dead, "/no/such/socket"] {
        bench.once(&rendering(&bench.dir, &[dead, &bench.redis.node()]), "/app/a=1\n");
    }
    rendering(&bench.dir, &[&dead]).set("timeout", 0.1).onetime().write(&bench.dir);
    remco(&bench.dir).once().expect_code(1).expect_log("connection refused");
}

#[test]
fn a_killed_and_a_frozen_server_are_watched_on_when_they_are_back() {
    let mut bench = Bench::new(&[REDIS_TELLING]);
    bench.redis.set("/app/a", "1");
    bench.rendering().watch().set("watch_deadline", 0.5).set("request_timeout", 0.5).write(&bench.dir);
    let program = remco(&bench.dir).start();
    await_out(&bench.dir, "/app/a=1\n");
    bench.redis.kill();
    program.wait_for_log("connection refused");
    bench.redis.restart();
    bench.redis.set("/app/a", "2");
    await_out(&bench.dir, "/app/a=2\n");
    bench.redis.freeze();
    program.wait_for_log("no reply within 0.5s");
    bench.redis.thaw();
    bench.redis.set("/app/a", "3");
    await_out(&bench.dir, "/app/a=3\n");
    bench.redis.kill();
    bench.redis.wipe();
    bench.redis.restart();
    await_out(&bench.dir, "");
    program.stop();
}

#[test]
fn what_changes_while_the_program_is_stopped_is_seen() {
    let bench = Bench::new(&[REDIS_TELLING]);
    let mut client = bench.redis.client();
    client.set("/app/a", "1");
    let program = bench.watching();
    program.signal(Signal::STOP);
    (0..500).for_each(|n| client.set(&format!("/app/{}", n % 50), &n.to_string()));
    client.run(&["DEL", "/app/a"]);
    program.signal(Signal::CONT);
    let mut want: Vec<String> = (450..500).map(|n| format!("/app/{}={n}\n", n % 50)).collect();
    want.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
    await_out(&bench.dir, &want.concat());
    program.stop();
}

/// Changes through restarts, kills and a network that cuts, freezes and drops: at every quiet point the file is what a fresh
/// run renders.
#[test]
fn random_changes_end_as_a_fresh_one_shot() {
    let changes = std::env::var("REMCO_CHANGES").ok().and_then(|count| count.parse().ok()).unwrap_or(1000);
    let mut bench = Bench::new(&[REDIS_TELLING]);
    bench.redis.set("/app/dir0/key0", "0");
    let proxy = FaultProxy::start(bench.redis.port());
    let node = format!("127.0.0.1:{}", proxy.port());
    let config = rendering(&bench.dir, &[&node]).watch().set("watch_deadline", 0.5).set("request_timeout", 0.5);
    config.write(&bench.dir);
    let program = remco(&bench.dir).start();
    wait_until("the first render", LIMIT, || bench.dir.read("out").is_some());
    let mut random = Random::new(20090410);
    let mut client = bench.redis.client();
    for n in 0..changes {
        let key = format!("/app/dir{}/key{}", random.below(4), random.below(8));
        let to = format!("/app/dir{}/key{}", random.below(4), random.below(8));
        let value = n.to_string();
        match random.below(20) {
            0 | 1 => drop(client.run(&["DEL", &key])),
            // What is not there cannot be renamed.
            2 => drop(client.try_run(&["RENAME", &key, &to])),
            3 => drop(client.run(&["SET", &key, &value, "PX", "20"])),
            4 => drop(client.run(&["SADD", "/app/set", &value])),
            5 => drop(client.run(&["SUNIONSTORE", &key, "/app/set"])),
            6 if n % 100 == 6 => drop(client.run(&["SET", "/app", &value])),
            7 => drop(client.run(&["DEL", "/app"])),
            8 => drop(client.run(&["MSET", &key, &value, &to, &value])),
            _ => drop(client.run(&["SET", &key, &value])),
        }
        match n % 250 {
            40 => proxy.cut(),
            80 => proxy.set(Fault::Tears),
            120 => proxy.set(Fault::None),
            160 => proxy.set(Fault::Drops),
            170 => {
                wait_until("something was dropped", LIMIT, || proxy.has_dropped());
                proxy.set(Fault::None);
                proxy.cut();
            }
            200 => {
                bench.redis.kill();
                bench.redis.restart();
                client = bench.redis.client();
            }
            _ => {}
        }
        if n % 250 == 249 {
            client.run(&["DEL", "/app"]);
            client.set("/app/last", &value);
            let last = format!("/app/last={value}\n");
            wait_until("the last change", LIMIT, || bench.dir.read("out").is_some_and(|text| text.contains(&last)));
            // Keys whose time ends go on changing for a moment.
            wait_until("a fresh run renders the same", LIMIT, || {
                bench.dir.read("out") == Some(fresh(&[&bench.redis.node()]))
            });
        }
    }
    program.stop();
}

#[test]
fn a_flush_empties_the_file() {
    let bench = Bench::new(&[REDIS_TELLING]);
    let mut client = bench.redis.client();
    for command in ["FLUSHDB", "FLUSHALL"] {
        client.set("/app/a", "1");
        let program = bench.watching();
        await_out(&bench.dir, "/app/a=1\n");
        client.run(&[command]);
        await_out(&bench.dir, "");
        client.set("/app/a", "2");
        await_out(&bench.dir, "/app/a=2\n");
        let log = program.stop();
        assert!(!log.iter().any(|line| line.contains("are not noticed")), "{log:#?}");
    }
}

#[test]
fn the_example_of_the_documents_works() {
    let bench = Bench::new(&[]);
    let ([commands], [toml]) = (&examples("redis", "sh")[..], &examples("redis", "toml")[..]) else {
        panic!("one block each")
    };
    let commands = commands.replace("redis-cli ", &format!("redis-cli -p {} ", bench.redis.port()));
    let script = format!("set -e\n{commands}");
    let output = Command::new("sh").args(["-c", &script]).current_dir(bench.dir.path()).output().unwrap();
    assert!(output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("ERR"), "{output:?}");
    bench.dir.write("config.toml", toml.replace("127.0.0.1:6379", &bench.redis.node()));
    bench.dir.write("app.tmpl", "{{ getv(\"/app/greeting\") }}\n");
    let program = remco(&bench.dir).start();
    wait_until("the greeting", LIMIT, || bench.dir.holds("app.conf", "hello\n"));
    bench.redis.set("/app/greeting", "again");
    wait_until("the change", LIMIT, || bench.dir.holds("app.conf", "again\n"));
    let log = program.stop();
    assert!(!log.iter().any(|line| line.contains("WARN") || line.contains("ERROR")), "{log:#?}");
}

#[test]
fn the_sample_renders() {
    let bench = Bench::new(&[]);
    let values = ["/app/name", "shop", "/app/port", "8080", "/app/workers/min", "2", "/app/workers/max", "8"];
    bench.redis.client().run(&[&["MSET"][..], &values].concat());
    sample(&bench.dir, "redis").env("REDIS", &bench.redis.node()).once().expect_code(0);
    let json: serde_json::Value = serde_json::from_str(&bench.dir.read("app.json").unwrap()).unwrap();
    assert_eq!(json["name"], "shop");
    assert_eq!(json["workers"]["max"], 8);
}

#[test]
fn resources_share_two_connections() {
    let bench = Bench::new(&[REDIS_TELLING]);
    let mut client = bench.redis.client();
    client.set("/app/a", "1");
    client.set("/other/b", "1");
    let other = bench.rendering().watch().resource("other").template("list.tmpl", "other");
    let other = other.backend("redis").set("nodes", [bench.redis.node()]).keys(["/other"]).watch();
    other.write(&bench.dir);
    let program = remco(&bench.dir).start();
    await_out(&bench.dir, "/app/a=1\n");
    wait_until("the other file", LIMIT, || bench.dir.holds("other", "/other/b=1\n"));
    let Answer::Text(clients) = client.run(&["CLIENT", "LIST"]) else { panic!("a list") };
    // The third one is the test's.
    assert_eq!(clients.lines().count(), 3, "{clients}");
    client.set("/other/b", "2");
    wait_until("the change", LIMIT, || bench.dir.holds("other", "/other/b=2\n"));
    program.stop();
}

#[test]
fn values_that_are_not_utf8_and_large_ones_pass() {
    let bench = Bench::new(&[REDIS_TELLING]);
    let mut client = bench.redis.client();
    client.run(&["SET", "/app/a", "x"]);
    client.run(&["EVAL", "return redis.call('SET', '/app/raw', '\\255\\0\\r\\n$-1')", "0"]);
    bench.dir.write("raw.tmpl", "{{ getv(\"/app/raw\") }}");
    let config = config().resource("app").template("raw.tmpl", "out").backend("redis").keys(["/app"]);
    config.set("nodes", [bench.redis.node()]).onetime().write(&bench.dir);
    remco(&bench.dir).once().expect_code(0);
    assert_eq!(fs::read(bench.dir.at("out")).unwrap(), b"\xff\0\r\n$-1");
    let large = "x".repeat(3 << 20);
    client.set("/app/a", &large);
    client.run(&["DEL", "/app/raw"]);
    bench.once(&bench.rendering(), &format!("/app/a={large}\n"));
    bench.refused(&bench.rendering().set("max_response", 1 << 20).set("timeout", 0.1), "raise `max_response`");
    bench.refused(&bench.rendering().set("max_decoded", 1 << 20), "raise `max_decoded`");
}

#[test]
fn a_client_of_the_tests_reads_what_it_wrote() {
    let redis = Redis::start(&[]);
    let mut client = RedisClient::try_connect(redis.port()).unwrap();
    client.set("k", "v\r\n");
    assert_eq!(client.run(&["GET", "k"]), Answer::Text("v\r\n".into()));
    assert_eq!(client.run(&["GET", "none"]), Answer::Nothing);
    assert!(matches!(client.try_run(&["NONSENSE"]), Ok(Answer::Error(_))));
}
