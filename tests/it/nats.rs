//! Key-value buckets of a real NATS: reading, watching, users, TLS, and what happens when the server dies, hangs or is cut
//! off. Skipped where there is no nats-server.

use serde_json::json;

use crate::support::{Config, Fault, FaultProxy, LIMIT, Nats, TempDir, config, free_port, remco, resource, wait_until};

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
