//! The status file and `--status`: what they show of a running program, exit codes, the lock, and files that cannot be
//! written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Config, Etcd, Finished, Invocation, LIMIT, TempDir, config, remco, wait_until};

fn folder() -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("data.json", r#"{"greeting": "s3cret"}"#);
    dir
}

fn with_status() -> Config {
    let top = config().set("status_file", "status.json").resource("app");
    top.template("app.tmpl", "app.out")
        .set("check_cmd", "cat {{.src}}; ! grep broken {{.src}}")
        .file("data.json")
        .watch()
}

fn status(dir: &TempDir, flags: &[&str]) -> Finished {
    let args = ["-config", "config.toml", "--status"].iter().chain(flags).copied().collect::<Vec<_>>();
    Invocation::bare(dir, &args).run()
}

fn printed(finished: &Finished) -> String {
    String::from_utf8(finished.stdout.clone()).expect("it is text")
}

#[test]
fn the_state_of_the_running_program_is_printed() {
    let dir = folder();
    with_status().write(&dir);
    status(&dir, &[]).expect_code(4).expect_log("remco: no remco runs with the status file `status.json`");
    let program = remco(&dir).start();
    wait_until("all is well", LIMIT, || status(&dir, &[]).code == Some(0));
    let text = printed(&status(&dir, &[]).expect_code(0));
    assert!(text.starts_with("remco ") && text.contains(&format!("process {}", program.pid())), "{text}");
    assert!(text.contains("\napp: in place for ") && text.contains(", last success "), "{text}");
    assert!(text.contains("  file app.out: in sync for "), "{text}");
    assert!(text.contains("  backend file: connected\n"), "{text}");
    assert!(text.contains("  check command of app.out: succeeded after "), "{text}");
    let json = printed(&status(&dir, &["--json"]).expect_code(0));
    assert_eq!(Some(json.clone()), dir.read("status.json"));
    let read: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(read["resources"][0]["state"], "in place");
    assert!(read["resources"][0]["since"].as_i64() >= read["since"].as_i64(), "{json}");
    assert_eq!(read["resources"][0]["commands"][0]["exit"], 0);
    assert_eq!(dir.mode("status.json") & 0o777, 0o644);
    assert_eq!(dir.mode("status.json.lock") & 0o777, 0o644);

    dir.replace("data.json", r#"{"greeting": "broken s3cret"}"#);
    wait_until("a failure is told", LIMIT, || status(&dir, &[]).code == Some(1));
    let text = printed(&status(&dir, &[]).expect_code(1));
    assert!(text.contains("app: failing") && text.contains("check command exited with status 1"), "{text}");
    let file = dir.read("status.json").expect("it is there");
    assert!(!file.contains("s3cret") && !text.contains("s3cret"), "a value of a key: {file}");

    program.stop();
    status(&dir, &[]).expect_code(4);
    // Only the lock tells that a program runs: a crash leaves the file.
    assert!(dir.read("status.json").is_some());
}

#[test]
fn without_a_status_file_the_line_to_add_is_named() {
    let dir = folder();
    config().resource("app").template("app.tmpl", "app.out").file("data.json").write(&dir);
    status(&dir, &[]).expect_code(2).expect_log("add a line such as `status_file = \"/run/remco/status.json\"`");
    Invocation::bare(&dir, &["--json"]).run().expect_code(2).expect_log("`--json` needs `--status`");
    dir.write("config.toml", "resource = 1\n");
    status(&dir, &[]).expect_code(2);
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_the_rest_goes_on() {
    let dir = folder();
    with_status().set_in("", "status_file", "missing/status.json").write(&dir);
    let program = remco(&dir).start();
    program.wait_for_log("failed to write the status file");
    wait_until("the file of the template is written", LIMIT, || dir.read("app.out").is_some());
    with_status().write(&dir);
    program.signal(Signal::HUP);
    wait_until("the new one is written", LIMIT, || status(&dir, &[]).code == Some(0));
    // A second one does not take it over, and does its work.
    with_status().set_in("[[resource.template]]", "dst", "other.out").write(&dir);
    let second = remco(&dir).start();
    second.wait_for_log("is locked by another remco");
    wait_until("it renders", LIMIT, || dir.read("other.out").is_some());
    // A run that ends leaves the file to the daemon.
    let before = dir.read("status.json");
    remco(&dir).once().expect_code(0).expect_no_log("status file");
    assert_eq!(dir.read("status.json"), before);
    second.stop();
    program.stop();
}

#[test]
fn a_lock_that_is_a_link_is_not_followed() {
    let dir = folder();
    with_status().write(&dir);
    dir.write("victim", "mine");
    symlink("victim", dir.path().join("status.json.lock")).expect("a new link");
    let program = remco(&dir).start();
    program.wait_for_log("it is a symbolic link");
    program.stop();
    assert_eq!(dir.read("victim").as_deref(), Some("mine"));
    assert!(fs::symlink_metadata(dir.path().join("status.json")).is_err());
}

#[test]
fn some_resources_can_be_asked_for() {
    let dir = folder();
    let more = || with_status().resource("broken").template("missing.tmpl", "broken.out").file("data.json").watch();
    more().write(&dir);
    let program = remco(&dir).start();
    wait_until("one of them is well", LIMIT, || status(&dir, &["--only", "app"]).code == Some(0));
    wait_until("the other one fails", LIMIT, || status(&dir, &["--only=broken"]).code == Some(1));
    let text = printed(&status(&dir, &["--only", "app"]).expect_code(0));
    assert!(text.contains("\napp: ") && !text.contains("broken"), "{text}");
    let text = printed(&status(&dir, &["--only", "app", "--json"]).expect_code(0));
    let read: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(read["resources"].as_array().map(Vec::len), Some(1), "{text}");
    status(&dir, &["--only", "ap"])
        .expect_code(2)
        .expect_log("no resource has the name `ap` of `--only`, did you mean `app`?");
    // The running one does not know of it.
    more().resource("new").template("app.tmpl", "new.out").file("data.json").write(&dir);
    let new = status(&dir, &["--only", "new"]).expect_code(1);
    new.expect_log("remco: the running remco has no resource `new`: reload it, or start it without `--only`");
    program.stop();
}

/// The guard, the child and the rows of the table; none of them is wider than a terminal.
#[test]
fn refusals_and_the_child_are_told() {
    let dir = folder();
    let guarded =
        with_status().table("[resource.guard]").set("require", ["/greeting"]).exec("sleep 1000").and(
            config().resource("last").template("app.tmpl", "last.out").set("check_cmd", "exit 3").file("data.json"),
        );
    guarded.write(&dir);
    let program = remco(&dir).start();
    let read = || -> Value { serde_json::from_slice(&status(&dir, &["--json"]).stdout).unwrap_or_default() };
    wait_until("the child runs", LIMIT, || read()["resources"][0]["child"]["pid"].is_u64());
    let child = read()["resources"][0]["child"].clone();
    let pid = child["pid"].as_u64().expect("a number");
    assert!(fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"sleep")), "{child}");
    assert!(child["since"].is_i64() && read()["resources"][0]["guard"].is_null(), "{child}");
    wait_until("the other check has ended", LIMIT, || read()["resources"][1]["commands"][0]["exit"] == 3);

    dir.replace("data.json", "{}");
    let refusals = || read()["resources"][0]["guard"]["refusals"].as_u64();
    wait_until("a refusal is told", LIMIT, || refusals().is_some());
    let before = refusals();
    dir.replace("data.json", r#"{"other": "1"}"#);
    wait_until("another one, too", LIMIT, || refusals() > before);
    assert_eq!(read()["resources"][0]["state"], "failing");
    let text = printed(&status(&dir, &[]).expect_code(1));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("guard: the update is refused, refusals: "), "{text}");
    assert!(words.contains(", no key matches `/greeting`, which `require` has"), "{text}");
    assert!(text.lines().all(|line| line.len() < 80), "{text}");
    dir.replace("data.json", r#"{"greeting": "again"}"#);
    wait_until("nothing is refused", LIMIT, || read()["resources"][0]["guard"].is_null());
    // The child is started again for the new file. 143: SIGTERM ended the old one.
    let child = || read()["resources"][0]["child"].clone();
    wait_until("the end of the child is told", LIMIT, || child()["last_status"] == 143 && child()["starts"] == 2);
    wait_until("another process is told", LIMIT, || child()["pid"].as_u64().is_some_and(|new| new != pid));
    program.stop();
}

#[test]
fn keys_of_an_earlier_run_are_told() {
    let dir = folder();
    let cached = |node: &str| {
        let top = config().set("status_file", "status.json").set("state_dir", "state").resource("app");
        let top = top.template("app.tmpl", "app.out").table("[resource.cache]");
        top.set("use", "when-unreachable").set("after", "50ms").etcd(node).watch()
    };
    let etcd = Etcd::start();
    etcd.put("/greeting", "hello");
    cached(&etcd.url()).write(&dir);
    remco(&dir).once().expect_code(0);
    drop(etcd);
    let program = remco(&dir).start();
    wait_until("the keys of the last run are used", LIMIT, || {
        let text = printed(&status(&dir, &[]));
        text.contains("\n  from cache: keys of an earlier run, ") && text.contains(" s old\n")
    });
    let json = printed(&status(&dir, &["--json"]));
    let read: Value = serde_json::from_str(&json).expect("it is JSON");
    assert!(read["resources"][0]["cache"]["keys_of"].is_i64(), "{json}");
    program.stop();
}

/// What a document or a plugin says of an error may be a value.
#[test]
fn errors_of_backends_show_no_value() {
    let dir = folder();
    dir.write("data.yml", "greeting: *s3cret\n");
    let yaml = config().set("status_file", "status.json").resource("app");
    let yaml = yaml.template("app.tmpl", "app.out").file("data.yml").watch();
    let check = |config: Config, logged: &str, told: &str| {
        config.write(&dir);
        let program = remco(&dir).start();
        let line = program.wait_for_log(logged);
        assert!(line.contains("s3cret"), "the log has all of it: {line}");
        wait_until("the failure is told", LIMIT, || dir.read("status.json").is_some_and(|json| json.contains(told)));
        let (json, text) = (dir.read("status.json").expect("it is there"), printed(&status(&dir, &[])));
        assert!(!json.contains("s3cret") && !text.contains("s3cret"), "{json}");
        program.stop();
        fs::remove_file(dir.at("status.json")).expect("it was there");
    };
    check(yaml, "failed to parse", "failed to parse `data.yml:1:11`; the log says why");
    if cfg!(feature = "plugin") {
        dir.write("plugin", "#!/bin/sh\nread -r line\necho greeting: s3cret\n");
        fs::set_permissions(dir.at("plugin"), fs::Permissions::from_mode(0o755)).expect("it is there");
        let plugin = config().set("status_file", "status.json").resource("app").template("app.tmpl", "app.out");
        let plugin = plugin.table("[[resource.backend.plugin]]").set("path", "./plugin").keys(["/"]);
        check(plugin, "backend error", "failed; the log says why");
    }
}
