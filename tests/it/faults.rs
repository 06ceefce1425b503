//! One test for each fault of remco 0.12 that must not return. Some faults are tested elsewhere: 1 in `watch` too, 2
//! and 9 in `output`, 3, 4 and 11 in `exec`; 7 in `plugin`, 8 in `telemetry`.

use std::fmt::Write;

use crate::support::{
    Config, Etcd, LIMIT, TempDir, Trace, config, free_port, in_own_namespace, remco, resource, wait_until,
};

/// remco begins to watch after start_cmd: what changes meanwhile is lost.
#[test]
fn fault_01_a_change_during_start_cmd_is_seen() {
    let etcd = Etcd::start();
    etcd.put("/greeting", "hello");
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    let url = etcd.url();
    let start = format!("ETCDCTL_API=3 etcdctl --endpoints {url} put /greeting again");
    resource("app").set("start_cmd", start).template("app.tmpl", "app.conf").etcd(&url).watch().write(&dir);
    let program = remco(&dir).start();
    wait_until("the change", LIMIT, || dir.holds("app.conf", "again\n"));
    program.stop();
}

#[test]
fn fault_05_onetime_with_a_failing_backend_fails_and_writes_nothing() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("app.tmpl", "{{ getv(\"/greeting\", \"none\") }}\n");
    let nobody = free_port();
    let both = resource("app").template("app.tmpl", "app.conf").file("data.json").onetime();
    both.etcd(&format!("http://127.0.0.1:{nobody}")).set("timeout", 0.2).onetime().write(&dir);
    remco(&dir).once().expect_code(1).expect_log(&nobody.to_string());
    assert_eq!(dir.read("app.conf"), None);
}

#[test]
fn fault_06_default_backends_are_not_shared_between_resources() {
    let (left, right) = (Etcd::start(), Etcd::start());
    for (etcd, name) in [(&left, "left"), (&right, "right")] {
        etcd.put("/default", name);
        etcd.put("/own", name);
    }
    let dir = TempDir::new();
    dir.write("all.tmpl", "{% for kv in getallkvs() %}\n{{ kv.Key }}={{ kv.Value }}\n{% endfor %}\n");
    let defaults = config().table("[default_backends.etcd]").set("version", 3).set("nodes", [left.url()]);
    let first = defaults.keys(["/default"]).onetime().resource("first").template("all.tmpl", "first");
    let second = first.backend("etcd").set("nodes", [right.url()]).keys(["/own"]).resource("second");
    let third = second.template("all.tmpl", "second").resource("third").template("all.tmpl", "third");
    third.backend("etcd").keys(["/own"]).write(&dir);
    remco(&dir).once().expect_code(0);
    assert_eq!(dir.read("first").as_deref(), Some("/own=right\n"), "it overrides nodes and keys");
    assert_eq!(dir.read("second").as_deref(), Some("/default=left\n"), "it has the defaults as they were written");
    assert_eq!(dir.read("third").as_deref(), Some("/own=left\n"), "it overrides one of the two");
}

#[test]
fn fault_10_a_bad_mode_leaves_no_stage_file() {
    for mode in ["rw-r--r--", "0999", "77777777"] {
        let dir = TempDir::new();
        dir.write("data.json", "{}");
        dir.write("app.tmpl", "text\n");
        let template = resource("app").template("app.tmpl", "out/app.conf").set("make_directories", true);
        template.set("mode", mode).file("data.json").set("interval", 1).write(&dir);
        // Not once a cycle: at the start, with the place in the file.
        remco(&dir).run().expect_code(1).expect_log("config.toml:7:8").expect_log("mode");
        assert!(!dir.at("out").exists(), "{mode}");
    }
}

#[test]
fn fault_12_a_prefix_ends_at_a_slash() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"app": {"x": "1"}, "application": {"x": "2"}}"#);
    dir.write("all.tmpl", "{% for kv in getallkvs() %}\n{{ kv.Key }}={{ kv.Value }}\n{% endfor %}\n");
    let rendering = resource("app").template("all.tmpl", "all");
    rendering.clone().file("data.json").set("prefix", "/app").onetime().write(&dir);
    remco(&dir).once().expect_code(0);
    assert_eq!(dir.read("all").as_deref(), Some("/x=1\n"));

    let etcd = Etcd::start();
    etcd.put("/app/x", "3");
    etcd.put("/application/x", "4");
    rendering.etcd(&etcd.url()).set("prefix", "/app").onetime().write(&dir);
    remco(&dir).once().expect_code(0);
    assert_eq!(dir.read("all").as_deref(), Some("/x=3\n"));
}

/// remco needed minutes for this: every `gets` read the whole store. The deadline of the test is the assertion.
#[test]
fn fault_13_ten_thousand_services_render_in_time() {
    const SERVICES: usize = 10_000;
    let mut data = String::from("{\"services\": {");
    for service in 0..SERVICES {
        let comma = if service == 0 { "" } else { "," };
        write!(data, "{comma}\"s{service:05}\":{{").expect("a String takes everything");
        for key in 0..10 {
            let comma = if key == 0 { "" } else { "," };
            write!(data, "{comma}\"{key}\":\"10.0.0.{key}:80\"").expect("a String takes everything");
        }
        data.push('}');
    }
    data.push_str("}}");
    let dir = TempDir::new();
    dir.write("data.json", data);
    dir.write(
        "app.tmpl",
        "{% for dir in lsdir(\"/services\") %}\nbackend {{ dir }}\n\
         {% for kv in gets(printf(\"/services/%s/*\", dir)) %}\n  server {{ base(kv.Key) }} {{ kv.Value }}\n\
         {% endfor %}\n{% endfor %}\n",
    );
    resource("app").template("app.tmpl", "app.conf").file("data.json").onetime().write(&dir);
    remco(&dir).once().expect_code(0);
    let text = dir.read("app.conf").expect("it has been written");
    assert_eq!(text.lines().count(), SERVICES * 11);
    assert!(text.ends_with("backend s09999\n  server 0 10.0.0.0:80\n  server 1 10.0.0.1:80\n  server 2 10.0.0.2:80\n  server 3 10.0.0.3:80\n  server 4 10.0.0.4:80\n  server 5 10.0.0.5:80\n  server 6 10.0.0.6:80\n  server 7 10.0.0.7:80\n  server 8 10.0.0.8:80\n  server 9 10.0.0.9:80\n"));
}

#[test]
fn fault_14_a_cycle_without_a_change_writes_nothing() {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("app.conf", "hello\n");
    let template = config().set("log_level", "debug").resource("app").template("app.tmpl", "app.conf");
    let commands = template.set("check_cmd", "true").set("reload_cmd", "true");
    commands.file("data.json").set("interval", 1).write(&dir);
    let (trace, program) = Trace::of(remco(&dir), &dir);
    let program = program.start();
    program.wait_for_log_count("target config in sync", 3);
    let pid = program.pid();
    program.stop();
    let calls = trace.calls(pid);
    let changes: Vec<_> = calls.iter().filter(|call| call.changes_a_file()).collect();
    assert!(changes.is_empty(), "{changes:#?}");
    assert!(calls.iter().any(|call| call.text.contains("data.json")), "the calls were traced at all");
}

/// As process 1 every orphan is ours to wait for, and a command's status is not to be lost among them.
#[test]
fn fault_15_orphans_do_not_take_a_commands_exit_status() {
    in_own_namespace("faults::fault_15_orphans_do_not_take_a_commands_exit_status", || {
        const COMMANDS: u32 = 30;
        let dir = TempDir::new();
        dir.write("data.json", "{}");
        dir.write("app.tmpl", "text\n");
        // Processes whose parent ends before they do.
        dir.write("orphans.sh", "for n in 1 2 3 4 5 6 7 8 9 10; do (sh -c 'exit 99' &) done\nexit \"$1\"\n");
        let add = |config: Config, n| {
            config.template("app.tmpl", &format!("{n}.conf")).set("reload_cmd", format!("sh orphans.sh {n}"))
        };
        let resource = config().set("log_level", "debug").resource("app");
        (0..COMMANDS).fold(resource, add).file("data.json").onetime().write(&dir);
        // unshare becomes the program's parent outside of its namespace.
        let alone = ["unshare", "--pid", "--fork", "--kill-child"];
        let log = remco(&dir).under(&alone).once().expect_code(1).log;
        assert!(log.contains(" remco[1]: "), "it is process 1:\n{log}");
        for n in 1..COMMANDS {
            let want =
                format!("config={n}.conf error=\"reload command exited with status {n}, the new file is in place\"");
            assert!(log.contains(&want), "{want}\n{log}");
        }
        assert!(!log.contains("config=0.conf error="), "{log}");
        assert!(log.contains("Reaped child process "), "{log}");
    });
}
