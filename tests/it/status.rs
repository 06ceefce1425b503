//! The status file and `--status`: what they say of a running program, exit codes, the lock, and files that cannot be written.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Config, Finished, Invocation, LIMIT, TempDir, config, remco, wait_until};

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
    assert!(text.contains("\napp: in place, last success ") && text.contains("  file app.out: in sync for "), "{text}");
    assert!(text.contains("  backend file: connected\n"), "{text}");
    assert!(text.contains("  check command of app.out: succeeded after "), "{text}");
    let json = printed(&status(&dir, &["--json"]).expect_code(0));
    assert_eq!(Some(json.clone()), dir.read("status.json"));
    let read: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(read["resources"][0]["state"], "in place");
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
