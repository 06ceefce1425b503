//! Key-value buckets of a real NATS: reads, watches, users, TLS, and a server that dies, hangs or is cut off. Skipped
//! without nats-server.

use serde_json::json;

#[cfg(feature = "tls")]
use crate::support::{Authority, Key, Valid};
use crate::support::{
    Config, Fault, FaultProxy, LIMIT, Nats, Random, TempDir, await_out, config, example, free_port, remco, resource,
    sample, wait_until, watching,
};

const LIST: &str = "{% for kv in getallkvs() %}\n{{ kv.Key }}={{ kv.Value }}\n{% endfor %}\n";

/// A resource that renders all of /app in the bucket `cfg` to `dst`.
fn listing(url: &str, dst: &str) -> Config {
    let of_resource = resource("app").template("list.tmpl", dst).backend("nats").keys(["/app"]);
    config().set("log_level", "debug").and(of_resource.set("nodes", [url]).set("bucket", "cfg"))
}

fn folder() -> TempDir {
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    dir
}

#[test]
fn a_bucket_is_read_once() {
    let Some(nats) = Nats::start("a_bucket_is_read_once") else { return };
    let mut client = nats.client();
    client.create_bucket("cfg");
    client.create_bucket("other");
    client.put("other", "app.x", "not this one");
    client.put("cfg", "app.name", "shop");
    client.put("cfg", "app.gone", "1");
    client.delete("cfg", "app.gone");
    client.put("cfg", "app.purged", "1");
    client.purge("cfg", "app.purged");
    client.put("cfg", "app.db/host", "a\nb");
    client.put("cfg", "app.=_-", "");
    client.put("cfg", "elsewhere", "1");
    let dir = folder();
    listing(&nats.url(), "out").onetime().write(&dir);
    remco(&dir).once().expect_code(0);
    assert_eq!(dir.read("out").as_deref(), Some("/app/=_-=\n/app/db/host=a\nb\n/app/name=shop\n"));
}

#[test]
fn changes_are_watched_and_survive_the_end_of_the_server() {
    let Some(mut nats) = Nats::start("changes_are_watched_and_survive_the_end_of_the_server") else { return };
    nats.client().create_bucket("cfg");
    nats.client().put("cfg", "app.a", "1");
    let dir = folder();
    listing(&nats.url(), "out").watch().write(&dir);
    let program = remco(&dir).start();
    let expect = |text: &str| wait_until(text, LIMIT, || dir.holds("out", text));
    expect("/app/a=1\n");
    nats.client().put("cfg", "app.b", "2");
    expect("/app/a=1\n/app/b=2\n");
    nats.client().delete("cfg", "app.a");
    expect("/app/b=2\n");
    nats.kill();
    program.wait_for_log("failed to watch nats://127.0.0.1");
    nats.restart();
    nats.client().put("cfg", "app.c", "3");
    expect("/app/b=2\n/app/c=3\n");
    // The bucket's own end is found out by its silence; here by a new login.
    nats.client().purge("cfg", "app.b");
    expect("/app/c=3\n");
    program.stop();
}

#[test]
fn a_bucket_that_is_not_there_is_named() {
    let Some(nats) = Nats::start("a_bucket_that_is_not_there_is_named") else { return };
    let dir = folder();
    listing(&nats.url(), "out").onetime().write(&dir);
    remco(&dir).once().expect_code(1).expect_log("there is no bucket `cfg`");
}

/// Two nodes of which one is dead; a second bucket is another resource.
#[test]
fn a_dead_node_is_passed_over() {
    let Some(nats) = Nats::start("a_dead_node_is_passed_over") else { return };
    nats.client().create_bucket("cfg");
    nats.client().put("cfg", "app.a", "1");
    let dir = folder();
    let nodes = [format!("127.0.0.1:{}", free_port()), nats.url()];
    listing(&nats.url(), "out").set("nodes", nodes).onetime().write(&dir);
    for _ in 0..3 {
        remco(&dir).once().expect_code(0);
        assert!(dir.holds("out", "/app/a=1\n"));
    }
}

#[test]
fn a_server_that_hangs_is_found_and_its_bucket_read_again() {
    let Some(nats) = Nats::start("a_server_that_hangs_is_found_and_its_bucket_read_again") else { return };
    nats.client().create_bucket("cfg");
    nats.client().put("cfg", "app.a", "1");
    let proxy = FaultProxy::start(nats.port());
    let dir = folder();
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    listing(&url, "out").set("watch_deadline", 1).set("request_timeout", 1).watch().write(&dir);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out", "/app/a=1\n"));
    // Everything is lost from now on, and nothing says so.
    proxy.set(Fault::Drops);
    nats.client().put("cfg", "app.a", "2");
    program.wait_for_log("no answer within 1s");
    proxy.set(Fault::None);
    proxy.cut();
    wait_until("what was lost", LIMIT, || dir.holds("out", "/app/a=2\n"));
    nats.freeze();
    program.wait_for_log_count("backend error", 2);
    nats.thaw();
    nats.client().put("cfg", "app.a", "3");
    wait_until("what came after it hung", LIMIT, || dir.holds("out", "/app/a=3\n"));
    program.stop();
}

#[test]
fn a_bucket_that_is_made_anew_is_found() {
    let Some(nats) = Nats::start("a_bucket_that_is_made_anew_is_found") else { return };
    nats.client().create_bucket("cfg");
    nats.client().put("cfg", "app.a", "1");
    let dir = folder();
    listing(&nats.url(), "out").set("watch_deadline", 1).watch().write(&dir);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out", "/app/a=1\n"));
    nats.client().delete_bucket("cfg");
    nats.client().create_bucket("cfg");
    nats.client().put("cfg", "app.b", "2");
    wait_until("the new bucket", LIMIT, || dir.holds("out", "/app/b=2\n"));
    program.stop();
}

#[test]
fn users_and_tokens_log_in() {
    let users = "authorization: { users: [ { user: me, password: s3same }, { user: writer, password: w } ] }";
    let Some(mut nats) = Nats::start_with("users_and_tokens_log_in", users) else { return };
    let mut client = nats.client_as(json!({"user": "writer", "pass": "w"}));
    client.create_bucket("cfg");
    client.put("cfg", "app.a", "1");
    drop(client);
    let dir = folder();
    let check = |of: Config, code: i32, log: &str| {
        let _ = std::fs::remove_file(dir.at("out"));
        of.onetime().write(&dir);
        remco(&dir).once().expect_code(code).expect_log(log).expect_no_log("s3same").expect_no_log("wr0ng");
        assert_eq!(dir.read("out").is_some(), code == 0);
    };
    let plain = || listing(&nats.url(), "out");
    check(plain().set("username", "me").set("password", "s3same"), 0, "");
    check(plain().set("nodes", [nats.url().replace("//", "//me:s3same@")]), 0, "");
    dir.write("user", "me\n");
    dir.write("password", "s3same\n");
    check(plain().set("username_file", "user").set("password_file", "password"), 0, "");
    let words = "user `me`: Authorization Violation";
    check(plain().set("username", "me").set("password", "wr0ng"), 1, words);
    check(plain(), 1, "failed to log in to nats://127.0.0.1");
    nats.kill();
    nats.configure("authorization: { token: t0ken }");
    nats.restart();
    let plain = || listing(&nats.url(), "out");
    check(plain().set("token", "t0ken"), 0, "");
    dir.write("token", "t0ken");
    check(plain().set("token_file", "token"), 0, "");
    check(plain().set("nodes", [nats.url().replace("//", "//t0ken@")]), 0, "");
    check(plain().set("token", "wr0ng"), 1, "Authorization Violation");
}

/// The server ends the connection of a user whose password has changed.
#[test]
fn a_user_who_is_refused_on_an_open_connection_is_told() {
    let users = |password: &str| {
        format!("authorization: {{ users: [ {{ user: me, password: {password} }}, {{ user: writer, password: w }} ] }}")
    };
    let test = "a_user_who_is_refused_on_an_open_connection_is_told";
    let Some(nats) = Nats::start_with(test, &users("old")) else { return };
    let writer = || nats.client_as(json!({"user": "writer", "pass": "w"}));
    writer().create_bucket("cfg");
    writer().put("cfg", "app.a", "1");
    let dir = folder();
    dir.write("password", "old\n");
    let program = watching(&dir, listing(&nats.url(), "out").set("username", "me").set("password_file", "password"));
    await_out(&dir, "/app/a=1\n");
    nats.configure(&users("new"));
    nats.reload();
    program.wait_for_log("user `me`: Authorization Violation");
    writer().put("cfg", "app.a", "2");
    assert!(dir.holds("out", "/app/a=1\n"));
    dir.write("password", "new\n");
    await_out(&dir, "/app/a=2\n");
    program.stop();
}

#[test]
fn what_a_user_may_not_do_is_named() {
    let users = "authorization: { users: [ { user: writer, password: w }, { user: me, password: p, permissions: {
        publish: \"$JS.API.INFO\", subscribe: \"_INBOX.>\" } } ] }";
    let Some(nats) = Nats::start_with("what_a_user_may_not_do_is_named", users) else { return };
    nats.client_as(json!({"user": "writer", "pass": "w"})).create_bucket("cfg");
    let dir = folder();
    listing(&nats.url(), "out").set("username", "me").set("password", "p").onetime().write(&dir);
    remco(&dir)
        .once()
        .expect_code(1)
        .expect_log("Permissions Violation for Publish to \\\"$JS.API.CONSUMER.CREATE.KV_cfg");
}

/// An operator, an account and a user, whose key signs what the server asks. The tests' own client has no signatures: the
/// program itself shows that the login succeeded, by an answer that only a user of the account gets.
#[cfg(feature = "tls")]
#[test]
fn a_credentials_file_logs_in() {
    let dir = folder();
    dir.write("creds.py", include_str!("nats/creds.py"));
    let made = std::process::Command::new("python3").arg("creds.py").current_dir(dir.path()).status();
    assert!(made.expect("scripts/test installs python3").success());
    let operator = dir.read("operator.conf").expect("it was made");
    let Some(nats) = Nats::start_with("a_credentials_file_logs_in", &operator) else { return };
    let of = || listing(&nats.url(), "out").onetime();
    of().set("creds", "app.creds").write(&dir);
    remco(&dir).once().expect_code(1).expect_log("there is no bucket `cfg`");
    // The JWT of one user with the key of another.
    let creds = dir.read("app.creds").expect("it was made");
    let other = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";
    let seed = creds.lines().find(|line| line.starts_with("SU")).expect("it has a seed");
    dir.write("other.creds", creds.replace(seed, other));
    of().set("creds", "other.creds").write(&dir);
    remco(&dir).once().expect_code(1).expect_log("Authorization Violation").expect_no_log(other);
    dir.write("torn.creds", &creds[..creds.len() - 60]);
    of().set("creds", "torn.creds").write(&dir);
    remco(&dir).once().expect_code(1).expect_log("failed to read the file `creds`").expect_no_log(seed);
}

#[cfg(feature = "tls")]
#[test]
fn tls_is_set_up_before_the_login() {
    let authority = Authority::new();
    let pair = authority.server();
    let tls = |more: &str| {
        format!(
            "tls: {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, timeout: 10 {more} }}",
            pair.cert,
            pair.key,
            authority.cert()
        )
    };
    let Some(mut nats) = Nats::start("tls_is_set_up_before_the_login") else { return };
    nats.client().create_bucket("cfg");
    nats.client().put("cfg", "app.a", "1");
    let dir = folder();
    let authorities = authority.cert().display().to_string();
    let of = || listing(&nats.url(), "out").onetime();
    let plain = of();
    let trusting = of().set("client_ca_keys", authorities.as_str());
    let insisting = of().set("nodes", [nats.url().replace("nats:", "tls:")]);
    let client = authority.sign("client", "", Key::Pkcs8, Valid::Now);
    let shown = |path: &std::path::Path| path.display().to_string();
    let certified = trusting.clone().set("client_cert", shown(&client.cert)).set("client_key", shown(&client.key));
    let check = |of: &Config, code: i32, log: &str| {
        let _ = std::fs::remove_file(dir.at("out"));
        of.write(&dir);
        remco(&dir).once().expect_code(code).expect_log(log);
        assert_eq!(dir.read("out").is_some(), code == 0);
    };
    check(&plain, 0, "");
    check(&insisting, 1, "the server has no TLS");
    check(&trusting, 1, "the server has no TLS");
    nats.kill();
    nats.configure(&tls(""));
    nats.restart();
    check(&trusting, 0, "");
    check(&trusting.clone().set("nodes", [nats.url().replace("nats:", "tls:")]), 0, "");
    check(&plain.set("timeout", 1), 1, "certificate");
    let stranger = Authority::new();
    check(
        &trusting.clone().set("client_ca_keys", stranger.cert().display().to_string()).set("timeout", 0.5),
        1,
        "is signed by none of the authorities",
    );
    nats.kill();
    nats.configure(&tls(", verify: true"));
    nats.restart();
    check(&certified, 0, "");
    check(&trusting.set("timeout", 1), 1, "failed to");
}

/// Every kind of trouble: at each quiet point the file is what a fresh one-shot makes.
#[test]
fn random_changes_through_trouble_end_as_a_fresh_one_shot() {
    const ROUND: usize = 100;
    let changes = std::env::var("REMCO_CHANGES").map_or(500, |count| count.parse().expect("a number"));
    let Some(mut nats) = Nats::start("random_changes_through_trouble_end_as_a_fresh_one_shot") else { return };
    nats.client().create_bucket("cfg");
    let proxy = FaultProxy::start(nats.port());
    let dir = folder();
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let of = || listing(&url, "watched").set("watch_deadline", 1).set("request_timeout", 1);
    of().watch().write(&dir);
    let fresh = listing(&nats.url(), "fresh").onetime();
    dir.write("fresh.toml", fresh.to_string());
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.read("watched").is_some());
    let mut random = Random::new(20260101);
    for round in 0..changes / ROUND {
        let faults = [Fault::None, Fault::Tears, Fault::Delays, Fault::Drops, Fault::None];
        let fault = faults[round % faults.len()];
        proxy.set(fault);
        for _ in 0..ROUND / 10 {
            let mut client = nats.client();
            for _ in 0..10 {
                let name = random.below(30);
                let key = if name.is_multiple_of(5) { format!("app.k/{name}") } else { format!("app.k.{name}") };
                match random.below(6) {
                    0 => client.delete("cfg", &key),
                    1 => client.purge("cfg", &key),
                    _ => client.put("cfg", &key, random.below(1_000_000).to_string()),
                }
            }
            match random.below(8) {
                0 => proxy.cut(),
                1 if fault == Fault::None => {
                    nats.kill();
                    nats.restart();
                }
                _ => {}
            }
        }
        proxy.set(Fault::None);
        if fault == Fault::Drops {
            // Connections that were silent once stay so.
            proxy.cut();
        }
        nats.client().put("cfg", "app.round", round.to_string());
        remco(&dir).arg("-config=fresh.toml").once().expect_code(0);
        let expected = dir.read("fresh").expect("the one-shot has written it");
        wait_until("the watched file equals a fresh one-shot", LIMIT, || dir.holds("watched", &expected));
    }
    program.stop();
}

/// The example of docs/backends.md as it is written, but for the node.
#[test]
fn the_example_of_the_documentation_works() {
    let Some(nats) = Nats::start("the_example_of_the_documentation_works") else { return };
    nats.client().create_bucket("config");
    nats.client().put("config", "app.greeting", "hello");
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/app/greeting\") }}\n");
    dir.write("config.toml", example("nats").replace("nats://127.0.0.1:4222", &nats.url()));
    let program = remco(&dir).start();
    wait_until("the example is rendered", LIMIT, || dir.holds("app.conf", "hello\n"));
    nats.client().put("config", "app.greeting", "good day");
    wait_until("a change is rendered", LIMIT, || dir.holds("app.conf", "good day\n"));
    program.stop();
}

/// Resources with equal options share one connection; each reads a part of the bucket.
#[test]
fn resources_share_a_connection() {
    let Some(nats) = Nats::start("resources_share_a_connection") else { return };
    nats.client().create_bucket("cfg");
    nats.client().put_all("cfg", [("app.a", &b"1"[..]), ("web.b", b"2"), ("apple", b"3")]);
    let dir = folder();
    let one = |name: &str, key: &str| {
        let of = resource(name).template("list.tmpl", name).backend("nats").set("keys", [key]).watch();
        of.set("nodes", [nats.url()]).set("bucket", "cfg")
    };
    one("app", "/app").and(one("web", "/web")).and(one("none", "/none")).write(&dir);
    let program = remco(&dir).start();
    wait_until("both are rendered", LIMIT, || {
        dir.holds("app", "/app/a=1\n/apple=3\n") && dir.holds("web", "/web/b=2\n")
    });
    wait_until("one without keys is rendered", LIMIT, || dir.holds("none", ""));
    assert_eq!(program.peers(), [nats.port()]);
    nats.client().put("cfg", "web.c", b"caf\xe9".as_slice());
    wait_until("bytes that are not text", LIMIT, || {
        std::fs::read(dir.at("web")).is_ok_and(|bytes| bytes == b"/web/b=2\n/web/c=caf\xe9\n")
    });
    program.stop();
}

#[test]
fn the_sample_renders() {
    let Some(nats) = Nats::start("the_sample_renders") else { return };
    nats.client().create_bucket("config");
    nats.client().put("config", "app.name", "Joe's $hop");
    let dir = TempDir::new();
    sample(&dir, "nats").env("NATS", &nats.url()).once().expect_code(0);
    assert_eq!(dir.read("app.env").as_deref(), Some("APP_NAME='Joe'\\''s $hop'\n"));
}
