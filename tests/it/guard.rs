//! Updates that a guard refuses when the store was emptied. On a real etcd.

use rustix::process::Signal;

use crate::support::{Etcd, LIMIT, TempDir, remco, resource, wait_until};

fn configure(dir: &TempDir, url: &str, guard: &str) {
    let config = resource("app").lines(guard).template("list.tmpl", "out").set("reload_cmd", "echo >> reloads");
    dir.replace("config.toml", config.etcd(url).keys(["/app"]).watch().to_string());
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
    program.wait_for_log(
        "11 of 11 keys are gone, `max_delete_percent` is 50; no key matches `/app/db`, which `require` has",
    );
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
    program.wait_for_log("7 of 7 keys are gone");
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
