//! A real Consul: reads, watches, tokens, TLS, unix sockets, environment variables, and failures of the server.

use rustix::process::Signal;

#[cfg(feature = "tls")]
use crate::support::Authority;
use crate::support::{
    Config, Consul, FaultProxy, LIMIT, LIST, Moment, TempDir, await_fresh, await_out, config, example, free_port,
    is_refused, remco, renders_once, storm, wait_until, watching,
};

/// A configuration that renders all of `/app`.
fn rendering(dir: &TempDir, nodes: &[&str]) -> Config {
    dir.write("list.tmpl", LIST);
    let resource = config().set("log_level", "debug").resource("app").template("list.tmpl", "out");
    resource.backend("consul").set("nodes", nodes.to_vec()).keys(["/app"])
}

#[test]
fn keys_are_read_as_go_remco_reads_them() {
    let Some(consul) = Consul::start() else { return };
    for (key, value) in [("app/a", "1"), ("app/d/b%20c", "ä\n<&>"), ("app2/x", "2"), ("app/d/", ""), ("other", "no")] {
        consul.put(key, value);
    }
    let dir = TempDir::new();
    let config = rendering(&dir, &[&consul.node()]);
    renders_once(&dir, &config, "/app/a=1\n/app/d=\n/app/d/b c=ä\n<&>\n/app2/x=2\n");
    let prefixed = config.clone().set("prefix", "/app/d");
    renders_once(&dir, &prefixed.keys(["/"]), "/=\n/b c=ä\n<&>\n");
    renders_once(&dir, &config.clone().keys(["/none"]), "");
    renders_once(
        &dir,
        &config.clone().set("nodes", [consul.socket_node()]),
        "/app/a=1\n/app/d=\n/app/d/b c=ä\n<&>\n/app2/x=2\n",
    );
    is_refused(&dir, &config.clone().set("namespace", "n"), "failed to read `/app` from http://127.0.0.1");
    is_refused(&dir, &config.set("max_keys", 2), "raise `max_keys`");
}

#[test]
fn changes_are_seen_one_by_one() {
    let Some(consul) = Consul::start() else { return };
    consul.put("app/a", "1");
    let dir = TempDir::new();
    let program = watching(&dir, rendering(&dir, &[&consul.node()]));
    await_out(&dir, "/app/a=1\n");
    consul.put("app/b", "2");
    await_out(&dir, "/app/a=1\n/app/b=2\n");
    consul.put("app/b/", "");
    consul.put("app/a", "3");
    await_out(&dir, "/app/a=3\n/app/b=2\n");
    consul.delete("app/b");
    await_out(&dir, "/app/a=3\n/app/b=\n");
    consul.delete("app?recurse");
    await_out(&dir, "");
    consul.put("app/a", "4");
    await_out(&dir, "/app/a=4\n");
    let log = program.stop();
    assert_eq!(log.iter().filter(|line| line.contains("retrieving keys")).count(), 1, "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:#?}");
}

#[test]
fn keys_that_are_not_watched_follow_with_the_next_that_is() {
    let Some(consul) = Consul::start() else { return };
    consul.put("app/a", "1");
    let dir = TempDir::new();
    let config = rendering(&dir, &[&consul.node()]).set("watchKeys", ["/trigger"]);
    let program = watching(&dir, config);
    await_out(&dir, "/app/a=1\n");
    for n in 2..40 {
        consul.put("app/a", &n.to_string());
        consul.put("trigger", &n.to_string());
        await_out(&dir, &format!("/app/a={n}\n"));
    }
    program.stop();
}

/// The index of an empty one is lower than the last one.
#[test]
fn one_that_restarts_empty_or_not_is_watched_on() {
    let Some(mut consul) = Consul::start() else { return };
    consul.put("app/a", "1");
    let dir = TempDir::new();
    let program = watching(&dir, rendering(&dir, &[&consul.node()]));
    consul.kill();
    program.wait_for_log("failed to");
    consul.restart();
    consul.put("app/a", "2");
    await_out(&dir, "/app/a=2\n");
    consul.kill();
    consul.wipe();
    consul.restart();
    consul.put("app/b", "3");
    await_out(&dir, "/app/b=3\n");
    program.stop();
}

/// Nothing is asked in the tenth of a second between two waits, so that no request fails.
#[test]
fn one_that_restarts_empty_between_two_waits_is_read_again() {
    let Some(mut consul) = Consul::start() else { return };
    // The index of the next life is lower.
    (0..20).for_each(|n| consul.put("other", &n.to_string()));
    consul.put("app/a", "1");
    let dir = TempDir::new();
    let program = watching(&dir, rendering(&dir, &[&consul.node()]));
    consul.put("app/a", "2");
    await_out(&dir, "/app/a=2\n");
    program.signal(Signal::STOP);
    consul.kill();
    consul.wipe();
    consul.restart();
    consul.put("app/b", "3");
    program.signal(Signal::CONT);
    await_out(&dir, "/app/b=3\n");
    program.stop();
}

#[test]
fn one_that_freezes_is_left_for_the_next_node() {
    let (Some(first), Some(second)) = (Consul::start(), Consul::start()) else { return };
    first.put("app/a", "first");
    second.put("app/a", "second");
    let dir = TempDir::new();
    let dead = format!("127.0.0.1:{}", free_port());
    let config = rendering(&dir, &[&dead, &first.node(), &second.node()]);
    let program = watching(&dir, config.set("watch_deadline", 0.5).set("request_timeout", 0.5));
    await_out(&dir, "/app/a=first\n");
    first.signal(Signal::STOP);
    await_out(&dir, "/app/a=second\n");
    first.signal(Signal::CONT);
    program.stop();
}

/// Changes through restarts and a network that cuts, tears and drops: at every quiet point the file is what a fresh run renders.
#[test]
fn random_changes_end_as_a_fresh_one_shot() {
    let Some(mut consul) = Consul::start() else { return };
    consul.put("app/a", "1");
    let (dir, fresh) = (TempDir::new(), TempDir::new());
    let proxy = FaultProxy::start(consul.port());
    let config = rendering(&dir, &[&format!("127.0.0.1:{}", proxy.port())]);
    let program = watching(&dir, config.set("watch_deadline", 0.5).set("request_timeout", 0.5));
    storm(program, |moment, random| match moment {
        Moment::Change(n) => {
            let folder = format!("app/dir{}", random.below(4));
            let key = format!("{folder}/key{}", random.below(8));
            match random.below(20) {
                0..=2 => consul.delete(&key),
                3 => consul.delete(&format!("{folder}?recurse")),
                4 => consul.put(&format!("{folder}/"), ""),
                5 => consul.put(&folder, &n.to_string()),
                6 => consul.put("other", &n.to_string()),
                _ => consul.put(&key, &n.to_string()),
            }
        }
        Moment::Restart => {
            consul.kill();
            consul.restart();
        }
        Moment::Quiet(n) => {
            consul.put("app/last", &n.to_string());
            await_fresh(&dir, &fresh, &rendering(&fresh, &[&consul.node()]));
        }
        Moment::Cut | Moment::Tear | Moment::Freeze | Moment::Calm => proxy.act(moment),
    });
}

#[test]
fn waits_that_end_without_a_change_render_nothing() {
    let Some(consul) = Consul::start() else { return };
    consul.put("app/a", "1");
    let dir = TempDir::new();
    let program = watching(&dir, rendering(&dir, &[&consul.node()]).set("wait", 0.2));
    await_out(&dir, "/app/a=1\n");
    // Waits of other keys end more often than that.
    for n in 0..20 {
        consul.put("other", &n.to_string());
    }
    consul.put("app/a", "2");
    await_out(&dir, "/app/a=2\n");
    let log = program.stop();
    assert_eq!(log.iter().filter(|line| line.contains("target config has been updated")).count(), 2, "{log:#?}");
}

#[test]
fn tokens_come_from_the_configuration_files_and_the_environment() {
    let Some(consul) = Consul::guarded() else { return };
    consul.put("app/a", "1");
    let token = consul.token("reader", "app");
    let dir = TempDir::new();
    let config = rendering(&dir, &[&consul.node()]);
    renders_once(&dir, &config.clone().set("token", &*token), "/app/a=1\n");
    dir.write("token", format!("{token}\n"));
    renders_once(&dir, &config.clone().set("token_file", "token"), "/app/a=1\n");
    config.clone().onetime().write(&dir);
    remco(&dir).env("CONSUL_HTTP_TOKEN", &token).once().expect_code(0);
    remco(&dir).env("CONSUL_HTTP_TOKEN_FILE", "token").env("CONSUL_HTTP_TOKEN", "s3same").once().expect_code(0);
    let wrong = remco(&dir).env("CONSUL_HTTP_TOKEN", "s3same").once();
    wrong.expect_code(1).expect_log("status 403").expect_log("CONSUL_HTTP_TOKEN").expect_no_log("s3same");
    is_refused(&dir, &config, "there is no token: set `token`, `token_file` or CONSUL_HTTP_TOKEN");
    is_refused(&dir, &config.clone().set("token", "s3same"), "the token is that of `token`");
    is_refused(&dir, &config.set("token", &*token).keys(["/other"]), "failed to read `/other`");
}

/// A token that is deleted while its requests wait.
#[test]
fn a_token_that_is_refused_on_an_open_connection_is_told_and_replaced() {
    let Some(consul) = Consul::guarded() else { return };
    consul.put("app/a", "1");
    let dir = TempDir::new();
    let token = consul.token("reader", "app");
    dir.write("token", &token);
    let program = watching(&dir, rendering(&dir, &[&consul.node()]).set("token_file", "token"));
    await_out(&dir, "/app/a=1\n");
    consul.forget_token(&token);
    // It is refused with the next request: this wait was allowed before.
    consul.put("app/a", "2");
    program.wait_for_log("status 403");
    consul.put("app/a", "3");
    assert!(["1", "2"].iter().any(|value| dir.holds("out", &format!("/app/a={value}\n"))));
    dir.write("token", consul.token("reader2", "app"));
    await_out(&dir, "/app/a=3\n");
    program.stop();
}

#[test]
fn keys_that_may_be_hidden_are_told() {
    let Some(consul) = Consul::hiding() else { return };
    consul.put("app/a", "1");
    let dir = TempDir::new();
    let config = rendering(&dir, &[&consul.node()]).onetime();
    config.write(&dir);
    let hidden = "there are no keys, or none that the token may read key=/app token=";
    let untold = remco(&dir).once().expect_code(0).expect_log(hidden);
    untold.expect_log("there is no token: set `token`, `token_file` or CONSUL_HTTP_TOKEN");
    let reader = consul.token("reader", "app");
    remco(&dir).env("CONSUL_HTTP_TOKEN", &reader).once().expect_code(0).expect_no_log("none that the token");
    assert_eq!(dir.read("out").as_deref(), Some("/app/a=1\n"));
    let other = consul.token("other", "other");
    let run = remco(&dir).env("CONSUL_HTTP_TOKEN", &other).once().expect_code(0);
    run.expect_log(hidden).expect_log("the token is that of `CONSUL_HTTP_TOKEN`");
    // Where nothing can be hidden, nothing is told.
    let Some(open) = Consul::start() else { return };
    rendering(&dir, &[&open.node()]).onetime().write(&dir);
    remco(&dir).once().expect_code(0).expect_no_log("none that the token");
}

#[test]
fn addresses_come_from_the_environment() {
    let Some(consul) = Consul::start() else { return };
    consul.put("app/a", "1");
    let dir = TempDir::new();
    rendering(&dir, &[]).onetime().write(&dir);
    for address in [consul.node(), format!("http://{}", consul.node()), consul.socket_node()] {
        remco(&dir).env("CONSUL_HTTP_ADDR", &address).once().expect_code(0);
        assert_eq!(dir.read("out").as_deref(), Some("/app/a=1\n"));
    }
    let wrong = remco(&dir).env("CONSUL_HTTP_ADDR", "ftp://me:s3same@h").once();
    wrong.expect_code(1).expect_log("CONSUL_HTTP_ADDR").expect_no_log("s3same");
}

#[cfg(feature = "tls")]
#[test]
fn tls_is_by_the_files_of_the_configuration_or_the_environment() {
    let authority = Authority::new();
    let pair = authority.server();
    let Some(consul) = Consul::secured(&pair) else { return };
    consul.put("app/a", "1");
    let dir = TempDir::new();
    let config = rendering(&dir, &[&consul.secure_node()]);
    let file = authority.cert().display().to_string();
    renders_once(&dir, &config.clone().set("client_ca_keys", &*file), "/app/a=1\n");
    config.clone().set("timeout", 0.1).onetime().write(&dir);
    remco(&dir).once().expect_code(1).expect_log("certificate");
    remco(&dir).env("CONSUL_CACERT", &file).once().expect_code(0);
    let stranger = Authority::new();
    config
        .clone()
        .set("client_ca_keys", stranger.cert().display().to_string())
        .set("timeout", 0.1)
        .onetime()
        .write(&dir);
    remco(&dir).once().expect_code(1).expect_log("is signed by none of the authorities");
    rendering(&dir, &[]).onetime().write(&dir);
    let address = consul.secure_node();
    let address = address.trim_start_matches("https://");
    let run = remco(&dir).env("CONSUL_HTTP_ADDR", address).env("CONSUL_HTTP_SSL", "true").env("CONSUL_CACERT", &file);
    run.once().expect_code(0);
}

#[test]
fn the_example_of_the_documentation_works_as_written() {
    let Some(consul) = Consul::start() else { return };
    consul.put("app/a", "1");
    let dir = TempDir::new();
    dir.write("app.tmpl", LIST);
    dir.write("config.toml", example("consul"));
    let program = remco(&dir).env("CONSUL_HTTP_ADDR", &consul.node()).start();
    wait_until("the file is there", LIMIT, || dir.holds("app.conf", "/app/a=1\n"));
    consul.put("app/a", "2");
    wait_until("the change is there", LIMIT, || dir.holds("app.conf", "/app/a=2\n"));
    program.stop();
}
