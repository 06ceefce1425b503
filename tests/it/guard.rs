//! A guard refuses updates after the store was emptied, also between two runs. On a real etcd.

use std::fs;

use rustix::process::Signal;

use crate::support::{Config, Etcd, LIMIT, TempDir, config, remco, resource, wait_until};

fn app(url: &str, guard: &str) -> Config {
    let config = resource("app").lines(guard).template("list.tmpl", "out").set("reload_cmd", "echo >> reloads");
    config.etcd(url).keys(["/app"]).watch()
}

fn configure(dir: &TempDir, url: &str, guard: &str) {
    dir.replace("config.toml", app(url, guard).to_string());
}

fn folder(etcd: &Etcd) -> TempDir {
    let dir = TempDir::new();
    dir.write("list.tmpl", "{% for kv in gets(\"/app/*\") %}{{ kv.Value }},{% endfor %}\n");
    configure(&dir, &etcd.url(), "guard = {max_delete_percent = 50, require = [\"/app/db\"]}");
    for n in 0..10 {
        etcd.put(&format!("/app/{n}"), &n.to_string());
    }
    etcd.put("/app/db", "db");
    dir
}

const FULL: &str = "0 1 2 3 4 5 6 7 8 9 db";

/// Whether the file has these values.
fn shows(dir: &TempDir, values: &str) -> bool {
    dir.read("out").is_some_and(|text| text.trim_end_matches([',', '\n']).replace(',', " ") == values)
}

#[test]
fn an_emptied_store_leaves_the_files() {
    let etcd = Etcd::start();
    let dir = folder(&etcd);
    let program = remco(&dir).start();
    wait_until("the first file and its reload", LIMIT, || shows(&dir, FULL) && dir.lines("reloads") == 1);
    etcd.etcdctl(&["del", "--prefix", "/app/"]);
    program.wait_for_log("the guard refuses the update, the files stay");
    program
        .wait_for_log("keys gone: 11 of 11, `max_delete_percent` is 50; no key matches `/app/db`, which `require` has");
    // SIGHUP judges them again, and says nothing new.
    program.signal(Signal::HUP);
    program.wait_for_log("loading new config");
    etcd.put("/app/0", "0");
    etcd.put("/app/db", "db");
    etcd.put("/app/9", "9");
    assert!(shows(&dir, FULL), "9 of 11 are gone");
    // Half of them are enough.
    for n in 1..5 {
        etcd.put(&format!("/app/{n}"), "new");
    }
    wait_until("an update that is accepted", LIMIT, || shows(&dir, "0 new new new new 9 db"));
    program.wait_for_log("the guard accepts updates again");
    // The past is that of the last accepted update.
    etcd.etcdctl(&["del", "--prefix", "/app/"]);
    program.wait_for_log("keys gone: 7 of 7");
    configure(&dir, &etcd.url(), "guard = {max_delete_percent = 60}");
    program.signal(Signal::HUP);
    program.wait_for_log("`max_delete_percent` is 60");
    assert!(shows(&dir, "0 new new new new 9 db"), "another guard has the same past");
    configure(&dir, &etcd.url(), "");
    program.signal(Signal::HUP);
    wait_until("no guard", LIMIT, || shows(&dir, ""));
    program.stop();
}

#[test]
fn a_first_update_is_judged_without_a_past_and_can_be_let_through() {
    let etcd = Etcd::start();
    let dir = folder(&etcd);
    remco(&dir).once().expect_code(0);
    etcd.etcdctl(&["del", "/app/db"]);
    let refused = remco(&dir).once().expect_code(1);
    refused.expect_log("no key matches `/app/db`, which `require` has");
    assert!(shows(&dir, FULL) && dir.lines("reloads") == 1);
    let let_through = remco(&dir).arg("--override-guard").once().expect_code(0);
    let_through.expect_log("--override-guard accepts what the guard would refuse").expect_no_log("refuses");
    assert!(shows(&dir, "0 1 2 3 4 5 6 7 8 9") && dir.lines("reloads") == 2);
}

/// A new time limit or password reads the same keys.
#[test]
fn an_option_that_leads_to_the_same_keys_does_not_forget_the_past() {
    let etcd = Etcd::start();
    let dir = folder(&etcd);
    let program = remco(&dir).start();
    wait_until("the first file", LIMIT, || shows(&dir, FULL));
    etcd.etcdctl(&["del", "--prefix", "/app/"]);
    program.wait_for_log("keys gone: 11 of 11, `max_delete_percent` is 50");
    let other = app(&etcd.url(), "guard = {max_delete_percent = 60}").set("request_timeout", 7);
    dir.replace("config.toml", other.to_string());
    program.signal(Signal::HUP);
    program.wait_for_log("keys gone: 11 of 11, `max_delete_percent` is 60");
    assert!(shows(&dir, FULL));
    program.stop();
}

/// The store is emptied while remco does not run. The keys are secret: only their number is kept.
#[test]
fn a_guard_remembers_over_a_restart_how_many_keys_there_were() {
    let etcd = Etcd::start();
    let dir = folder(&etcd);
    let guarded = |guard: &str| {
        let app = app(&etcd.url(), guard).set("secret", true);
        dir.replace("config.toml", config().set("state_dir", "state").and(app).to_string());
    };
    let percent = "guard = {max_delete_percent = 50}";
    guarded(percent);
    let program = remco(&dir).start();
    wait_until("the first file", LIMIT, || shows(&dir, FULL));
    program.stop();
    let kept = fs::read(dir.at("state/app.guard")).unwrap();
    assert!(!kept.windows(4).any(|bytes| bytes == b"/app"), "{kept:?}");
    etcd.etcdctl(&["del", "--prefix", "/app/"]);
    etcd.put("/app/db", "db");
    // A refused update changes nothing of the past.
    for _ in 0..2 {
        let refused = remco(&dir).once().expect_code(1);
        refused.expect_log("keys gone: 10 of 11, `max_delete_percent` is 50");
        assert!(shows(&dir, FULL) && fs::read(dir.at("state/app.guard")).unwrap() == kept);
    }
    // Keys of another place are no loss of these.
    let other = app(&etcd.url(), percent).set("secret", true).keys(["/app/db"]);
    dir.replace("config.toml", config().set("state_dir", "state").and(other).to_string());
    remco(&dir).once().expect_code(0).expect_log("it belongs to other backends, nodes, prefixes or keys");
    assert!(shows(&dir, "db"));
    // A damaged number is told, and is none.
    guarded(percent);
    dir.write("state/app.guard", "remco guard 1\n?");
    remco(&dir).once().expect_code(0).expect_log("app.guard` error=\"it is damaged, or of another version of remco; ");
    // Without the comparison there is no number that could grow old.
    assert!(dir.at("state/app.guard").exists());
    guarded("guard = {min_keys = 1}");
    remco(&dir).once().expect_code(0);
    assert!(!dir.at("state/app.guard").exists());
    guarded(percent);
    for n in 0..4 {
        etcd.put(&format!("/app/{n}"), "new");
    }
    remco(&dir).once().expect_code(0);
    etcd.etcdctl(&["del", "--prefix", "/app/"]);
    remco(&dir).once().expect_code(1).expect_log("keys gone: 5 of 5");
    let let_through = remco(&dir).arg("--override-guard").once().expect_code(0);
    let_through.expect_log("--override-guard accepts what the guard would refuse");
    remco(&dir).once().expect_code(0);
}
