//! One-shot runs: files and exit codes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::Signal;

use crate::support::{
    Config, Invocation, LIMIT, Silent, TempDir, Trace, config, dripping, free_port, remco, resource, wait_until,
};

/// A resource that renders `NAME.tmpl` to `NAME.out` from `data.json`.
fn rendering(name: &str) -> Config {
    without_backend(name).file("data.json").onetime()
}

fn without_backend(name: &str) -> Config {
    resource(name).template(&format!("{name}.tmpl"), &format!("{name}.out"))
}

/// Several of them.
fn all(names: impl IntoIterator<Item = impl AsRef<str>>) -> Config {
    names.into_iter().fold(config(), |all, name| all.and(rendering(name.as_ref())))
}

#[test]
fn everything_rendered_is_0() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello", "names": ["a", "b"]}"#);
    dir.write("one.tmpl", "{{ getv(\"/greeting\") }}{% for n in getvs(\"/names/*\") %} {{ n }}{% endfor %}.\n");
    rendering("one").write(&dir);
    remco(&dir).once().expect_code(0);
    assert_eq!(dir.read("one.out").as_deref(), Some("hello a b.\n"));
}

#[test]
fn the_exit_code_counts_failed_resources() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("good.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("nokey.tmpl", "{{ getv(\"/no/such/key\") }}\n");
    dir.write("broken.tmpl", "{% if %}\n");
    all(["nokey", "good", "broken", "nofile"]).write(&dir);
    remco(&dir).once().expect_code(3).expect_log("/no/such/key").expect_log("nofile.tmpl");
    assert_eq!(dir.read("good.out").as_deref(), Some("hello\n"), "a sick resource does not stop a sound one");
    for name in ["nokey.out", "broken.out", "nofile.out"] {
        assert_eq!(dir.read(name), None, "{name}");
    }
}

/// Where memory is short, a template of millions of tags does not end the process.
#[test]
fn a_template_that_is_too_large_is_an_error() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("good.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("large.tmpl", "{{ 1 }} ".repeat(2 << 20));
    dir.write("included.tmpl", "{% include \"large.tmpl\" %}");
    dir.write("computed.tmpl", "{% set name = \"large.tmpl\" %}{% include name %}");
    all(["large", "included", "computed", "good"]).write(&dir);
    let full = "the template holds more than 268435456 bytes at a time; `template_memory` in [limits] raises that";
    let finished = remco(&dir).under(&["prlimit", "--as=400000000"]).once();
    let finished = finished.expect_code(3).expect_log(&format!("{full}\" resource=large"));
    finished.expect_log(&format!("{full}\" resource=included")).expect_log(&format!("{full}\" resource=computed"));
    assert_eq!(dir.read("good.out").as_deref(), Some("hello\n"));
}

/// Each byte renews the limit of a piece, and each answer that is too long is asked for in smaller pages.
#[test]
fn the_time_of_a_run_holds_for_what_is_under_way() {
    let url = dripping();
    for version in ["version = 3", "version = 2", ""] {
        let dir = TempDir::new();
        dir.write("app.tmpl", "{{ getv(\"/app\") }}\n");
        let etcd = without_backend("app").etcd(&url).keys(["/app"]).set("request_timeout", 0.3).set("timeout", 0.6);
        dir.write("config.toml", etcd.to_string().replace("version = 3", version));
        let why = "rest of the answer not received before the `timeout` of the one-shot run was over";
        remco(&dir).once().expect_code(1).expect_log(why);
        assert_eq!(dir.read("app.out"), None);
    }
}

#[test]
fn the_exit_code_ends_at_125() {
    let dir = TempDir::new();
    dir.write("data.json", "{}");
    all((0..130).map(|n| format!("r{n}"))).write(&dir);
    remco(&dir).once().expect_code(125);
}

#[test]
fn no_resources_is_0() {
    let dir = TempDir::new();
    dir.write("config.toml", "log_level = \"info\"\n");
    remco(&dir).once().expect_code(0);
    remco(&dir).run().expect_code(0);
}

#[test]
fn a_configuration_error_is_1() {
    let dir = TempDir::new();
    remco(&dir).once().expect_code(1).expect_log("config.toml");
    dir.write("config.toml", "[[resource]]\nname = 5\n");
    remco(&dir).once().expect_code(1).expect_log("config.toml:2:8").expect_log("name");
    dir.write("config.toml", "[[resource]\n");
    remco(&dir).run().expect_code(1).expect_log("config.toml:1:");
}

#[test]
fn a_flag_error_is_2() {
    let dir = TempDir::new();
    dir.write("config.toml", "");
    for args in [&["-nosuch"][..], &["--config"], &["-onetime=maybe"], &["-onetime", "stray"]] {
        Invocation::bare(&dir, args).run().expect_code(2);
    }
}

#[test]
fn help_and_version_are_0() {
    let dir = TempDir::new();
    for args in [["-h"], ["-help"], ["--help"]] {
        let help = Invocation::bare(&dir, &args).run().expect_code(0);
        let text = String::from_utf8(help.stdout).expect("help is text") + &help.log;
        for flag in ["-config", "-onetime", "-version", "-strict"] {
            assert!(text.contains(flag), "{args:?} does not name {flag}:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "wider than a terminal:\n{text}");
    }
    for args in [["-version"], ["--version"]] {
        let version = Invocation::bare(&dir, &args).run().expect_code(0);
        let text = String::from_utf8(version.stdout).expect("a version is text");
        assert!(text.contains(env!("CARGO_PKG_VERSION")), "{args:?}: {text:?}");
    }
}

#[test]
fn flags_take_one_dash_or_two_and_an_equals_sign() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("one.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("other.toml", rendering("one").to_string());
    for args in [
        &["-config", "other.toml", "-onetime"][..],
        &["--config", "other.toml", "--onetime"],
        &["-config=other.toml", "-onetime=true"],
        &["--onetime=true", "--config=other.toml"],
    ] {
        Invocation::bare(&dir, args).run().expect_code(0);
        assert_eq!(dir.read("one.out").as_deref(), Some("hello\n"), "{args:?}");
        fs::remove_file(dir.at("one.out")).expect("it has just been read");
    }
}

#[test]
fn onetime_false_keeps_running() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("one.tmpl", "{{ getv(\"/greeting\") }}\n");
    without_backend("one").file("data.json").watch().write(&dir);
    let mut program = remco(&dir).arg("-onetime=false").start();
    wait_until("the first render", LIMIT, || dir.holds("one.out", "hello\n"));
    dir.replace("data.json", r#"{"greeting": "again"}"#);
    wait_until("the second render", LIMIT, || dir.holds("one.out", "again\n"));
    program.signal(Signal::TERM);
    assert_eq!(program.exit_code(), Some(0));
}

#[test]
fn the_second_run_writes_nothing_and_runs_nothing() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("one.tmpl", "{{ getv(\"/greeting\") }}\n");
    let commands = without_backend("one").set("check_cmd", "echo >> checks").set("reload_cmd", "echo >> reloads");
    commands.set("mode", "0640").file("data.json").onetime().write(&dir);
    remco(&dir).once().expect_code(0);
    assert_eq!((dir.lines("checks"), dir.lines("reloads")), (1, 1));
    let before = fs::metadata(dir.at("one.out")).expect("it has been written");

    let (trace, second) = Trace::of(remco(&dir), &dir);
    let second = second.once().expect_code(0);
    let after = fs::metadata(dir.at("one.out")).expect("it is still there");
    let identity = |m: &fs::Metadata| (m.ino(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.mode());
    assert_eq!(identity(&before), identity(&after));
    assert_eq!((dir.lines("checks"), dir.lines("reloads")), (1, 1));
    let calls = trace.calls(second.pid);
    let changes: Vec<_> = calls.iter().filter(|call| call.changes_a_file()).collect();
    assert!(changes.is_empty(), "{changes:#?}");
    let programs: Vec<_> = calls.iter().filter(|call| call.runs_a_program()).collect();
    assert_eq!(programs.len(), 1, "its own start: {programs:#?}");
}

const ALL: &str = "{% for kv in getallkvs() %}\n{{ kv.Key }}={{ kv.Value }}\n{% endfor %}\n";

#[test]
fn the_environment_is_a_backend() {
    let dir = TempDir::new();
    dir.write("one.tmpl", ALL);
    without_backend("one").backend("env").keys(["/app"]).onetime().write(&dir);
    remco(&dir).env("APP_DB_HOST", "db").env("APPLE", "pie").env("OTHER", "x").once().expect_code(0);
    assert_eq!(dir.read("one.out").as_deref(), Some("/app/db/host=db\n/apple=pie\n"));
}

#[test]
fn of_two_backends_the_later_wins_with_a_warning() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello", "own": "file"}"#);
    dir.write("one.tmpl", ALL);
    rendering("one").backend("env").keys(["/greeting"]).onetime().write(&dir);
    let finished = remco(&dir).env("GREETING", "from the environment").once().expect_code(0);
    finished.expect_log("key collision").expect_log("/greeting").expect_no_log("/own");
    assert_eq!(dir.read("one.out").as_deref(), Some("/greeting=from the environment\n/own=file\n"));
}

#[test]
fn included_files_are_resources_of_their_own() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    for name in ["main", "included"] {
        dir.write(&format!("{name}.tmpl"), format!("{{{{ getv(\"/greeting\") }}}} from {name}\n"));
    }
    let included = config().set("name", "included");
    let included = included.table("[[template]]").set("src", "included.tmpl").set("dst", "included.out");
    let included = included.table("[backend.file]").set("filepath", "data.json").keys(["/"]).onetime();
    dir.write("conf.d/included.toml", included.to_string());
    dir.write("conf.d/not-this.conf", "nonsense");
    config().set("include_dir", "conf.d").and(rendering("main")).write(&dir);
    remco(&dir).once().expect_code(0);
    for name in ["main", "included"] {
        assert!(dir.holds(&format!("{name}.out"), &format!("hello from {name}\n")), "{name}");
    }
}

#[test]
fn an_unknown_key_is_a_warning_and_an_error_when_strict() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("one.tmpl", "{{ getv(\"/greeting\") }}\n");
    without_backend("one").set("reload_command", "true").file("data.json").onetime().write(&dir);
    remco(&dir).arg("--strict").once().expect_code(1).expect_log("config.toml:6:1").expect_log("reload_cmd");
    assert_eq!(dir.read("one.out"), None);
    remco(&dir).once().expect_code(0).expect_log("config.toml:6:1").expect_log("reload_cmd");
    assert_eq!(dir.read("one.out").as_deref(), Some("hello\n"));
}

#[test]
fn the_pid_file_is_there_while_it_runs() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("one.tmpl", "{{ getv(\"/greeting\") }}\n");
    config().set("pid_file", "pid").and(without_backend("one").file("data.json").watch()).write(&dir);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("one.out", "hello\n"));
    assert!(dir.holds("pid", &program.pid().to_string()));
    program.stop();
    assert_eq!(dir.read("pid"), None, "removed at the end");

    config().set("pid_file", "no/such/folder/pid").and(rendering("one")).write(&dir);
    remco(&dir).once().expect_code(0).expect_log("no/such/folder/pid");
}

/// A container that waits for its store would otherwise tell of a slip only when the store is there.
#[test]
fn templates_are_compiled_without_a_store() {
    let dir = TempDir::new();
    dir.write("one.tmpl", "{% if %}\n");
    dir.write("two.tmpl", "{% include \"gone.tmpl\" %}\n");
    let nobody = free_port();
    let node = format!("http://127.0.0.1:{nobody}");
    let add = |all: Config, name| all.and(without_backend(name).etcd(&node).watch());
    ["one", "two", "three"].into_iter().fold(config(), add).write(&dir);
    let program = remco(&dir).start();
    program.wait_for_log("one.tmpl:1:");
    program.wait_for_log("gone.tmpl");
    program.wait_for_log("three.tmpl");
    program.stop();
}

/// The request goes first, so that compiling takes none of the time of a run.
#[test]
fn templates_are_compiled_while_a_store_answers() {
    let dir = TempDir::new();
    dir.write("one.tmpl", "one\n");
    let silent = Silent::start();
    config().set("log_level", "debug").and(without_backend("one").etcd(&silent.url()).watch()).write(&dir);
    let program = remco(&dir).start();
    let _open = silent.request();
    program.wait_for_log("compiling source template");
    let log = program.stop();
    let place = |text: &str| log.iter().position(|line| line.contains(text));
    assert!(place("retrieving keys") < place("compiling source template"), "{log:#?}");
}

#[test]
fn a_run_that_reaches_no_store_tells_what_is_wrong_with_its_templates() {
    let dir = TempDir::new();
    dir.write("one.tmpl", "{% if %}\n");
    let node = format!("http://127.0.0.1:{}", free_port());
    without_backend("one").etcd(&node).set("timeout", 0.1).write(&dir);
    remco(&dir).once().expect_code(1).expect_log("one.tmpl:1:").expect_log("connection refused");
}

#[test]
fn a_template_that_does_not_compile_is_told_once() {
    let dir = TempDir::new();
    dir.write("data.json", "{}");
    dir.write("one.tmpl", "{% if %}\n");
    rendering("one").write(&dir);
    let run = remco(&dir).once().expect_code(1);
    assert_eq!(run.log.matches("failed to process").count(), 1);
}
