//! SIGHUP reads the configuration again: unchanged resources continue, changed ones start anew.

use std::fs::File;

use rustix::process::Signal;

use crate::support::{Invocation, LIMIT, TempDir, remco, resource, run, wait_until};

/// A resource that renders `NAME` and the greeting to `NAME.out` and leaves a line in `starts` when it begins.
fn starting(name: &str, start: &str) -> String {
    let resource = resource(name).set("start_cmd", format!("echo {name} {start} >> starts"));
    resource.template("app.tmpl", &format!("{name}.out")).file("data.json").watch().to_string()
}

fn folder(resources: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("config.toml", format!("log_level = \"debug\"\n{resources}"));
    dir
}

fn configure(dir: &TempDir, text: &str) {
    dir.replace("config.toml", format!("log_level = \"debug\"\n{text}"));
}

#[test]
fn only_what_changed_begins_anew() {
    let dir = folder(&(starting("same", "one") + &starting("other", "one") + &starting("gone", "one")));
    let program = remco(&dir).start();
    wait_until("three have begun", LIMIT, || dir.lines("starts") == 3);

    configure(&dir, &(starting("new", "one") + &starting("other", "two") + &starting("same", "one")));
    program.signal(Signal::HUP);
    wait_until("two have begun", LIMIT, || dir.lines("starts") == 5);
    program.wait_for_log("loading new config file=config.toml");
    let starts = dir.read("starts").expect("it has lines");
    assert_eq!(starts.lines().filter(|line| *line == "same one").count(), 1, "{starts}");
    assert!(starts.contains("new one") && starts.contains("other two"), "{starts}");

    dir.replace("data.json", r#"{"greeting": "again"}"#);
    for out in ["same.out", "other.out", "new.out"] {
        wait_until(out, LIMIT, || dir.holds(out, "again\n"));
    }
    assert!(dir.holds("gone.out", "hello\n"), "its resource is gone");
    program.stop();
}

/// `-config <(generate)`, or a fifo: what it had was read at the start, and its writer may never close it.
#[test]
fn a_configuration_in_a_pipe_is_read_once() {
    let dir = folder(&starting("app", "one"));
    run(&["mkfifo", &dir.at("fifo").to_string_lossy()]);
    let config = dir.read("config.toml").expect("just written");
    let program = Invocation::bare(&dir, &["-config", "fifo"]).start();
    std::fs::write(dir.at("fifo"), config).expect("the program reads it");
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    // A writer that never closes it.
    let _open = File::options().read(true).write(true).open(dir.at("fifo")).expect("it is a fifo");
    for n in 1..3 {
        program.signal(Signal::HUP);
        program.wait_for_log_count("loading new config file=fifo", n);
        program.wait_for_log_count("the new config is not used, the present one stays", n);
        dir.replace("data.json", format!("{{\"greeting\": \"again {n}\"}}"));
        wait_until("the next render", LIMIT, || dir.holds("app.out", &format!("again {n}\n")));
    }
    let log = program.stop().join("\n");
    let why = "failed to read the file: not a regular file, and a pipe is read at the start only";
    assert!(log.contains(why), "{log}");
    assert_eq!(dir.lines("starts"), 1);
}

/// When a resource goes, and at the end of the program; in a one-shot run too.
#[test]
fn the_end_of_each_backend_is_told() {
    const CLOSING: &str = "closing client connection backend=file resource=";
    let dir = folder(&(starting("stays", "one") + &starting("goes", "one")));
    let program = remco(&dir).start();
    wait_until("both have begun", LIMIT, || dir.lines("starts") == 2);
    configure(&dir, &starting("stays", "one"));
    program.signal(Signal::HUP);
    program.wait_for_log(&format!("{CLOSING}goes"));
    let log = program.stop();
    let closed: Vec<_> = log.iter().filter_map(|line| line.split_once(CLOSING)).map(|(_, name)| name).collect();
    assert_eq!(closed, ["goes", "stays"]);
    remco(&dir).once().expect_code(0).expect_log(&format!("{CLOSING}stays"));
}

/// The file is in place already: nothing else would ever run the command that was put right.
#[test]
fn a_failed_reload_is_owed_by_the_new_resource() {
    let with = |reload: &str| {
        starting("app", "one")
            .replace("start_cmd = \"echo app one >> starts\"", "")
            .replace("dst = \"app.out\"", &format!("dst = \"app.out\"\nreload_cmd = \"{reload}\""))
    };
    let dir = folder(&with("exit 7"));
    let program = remco(&dir).start();
    program.wait_for_log("reload command exited with status 7");
    configure(&dir, &with("echo done >> reloads"));
    program.signal(Signal::HUP);
    wait_until("the reload", LIMIT, || dir.holds("reloads", "done\n"));
    program.stop();
}

/// What nothing tells of, a changed template or a changed file, is found by asking.
#[test]
fn everything_is_rendered_again() {
    let dir = folder(&starting("app", "one"));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    dir.replace("app.tmpl", "{{ getv(\"/greeting\") }}, world\n");
    program.signal(Signal::HUP);
    wait_until("the new template", LIMIT, || dir.holds("app.out", "hello, world\n"));
    program.stop();
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let dir = folder(&starting("app", "one"));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    configure(&dir, "[[resource]\nname = \"app\"");
    program.signal(Signal::HUP);
    program.wait_for_log("invalid config");
    program.wait_for_log("config.toml:2:");
    std::fs::remove_file(dir.path().join("config.toml")).unwrap();
    program.signal(Signal::HUP);
    program.wait_for_log("failed to read config");
    dir.replace("data.json", r#"{"greeting": "again"}"#);
    wait_until("the present one stays", LIMIT, || dir.holds("app.out", "again\n"));
    program.stop();
}

/// A file that is written in place is empty for a moment. Without resources there is nothing to do, and the program would end.
#[test]
fn an_empty_configuration_changes_nothing() {
    let dir = folder(&starting("app", "one"));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    dir.write("config.toml", "");
    program.signal(Signal::HUP);
    program.wait_for_log("it has no resources and is not used");
    dir.replace("data.json", r#"{"greeting": "again"}"#);
    wait_until("the present one stays", LIMIT, || dir.holds("app.out", "again\n"));
    program.stop();
}

#[test]
fn level_form_and_pid_file_follow() {
    let dir = folder(&starting("app", "one"));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    let head = "log_format = \"json\"\npid_file = \"remco.pid\"\n";
    configure(&dir, &(head.to_owned() + &starting("app", "one")));
    program.signal(Signal::HUP);
    wait_until("the pid file", LIMIT, || dir.holds("remco.pid", &program.pid().to_string()));
    program.wait_for_log("\"@message\":\"target config in sync\"");
    program.stop();
    assert_eq!(dir.read("remco.pid"), None, "it goes with the program");
}
