//! Plugins: real programs in Python and shell that answer on their pipes, die, hang or send invalid answers.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use std::collections::BTreeMap;

use crate::support::{
    Config, LIMIT, LIST, Moment, TempDir, await_fresh, example, examples, remco, resource, storm, wait_until,
};

/// A folder with the programs, a template of one key, and one key.
fn folder(config: &Config) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/app/greeting\") }}\n");
    dir.write("keys", "/app/greeting=hello\n");
    for (name, text) in [("store.py", include_str!("plugin/store.py")), ("store.sh", include_str!("plugin/store.sh"))] {
        script(&dir, name, text);
    }
    config.write(&dir);
    dir
}

fn script(dir: &TempDir, name: &str, text: &str) {
    dir.write(name, text);
    std::fs::set_permissions(dir.at(name), Permissions::from_mode(0o755)).unwrap();
}

/// A configuration that asks a program of the folder.
fn asking(program: &str) -> Config {
    resource("app")
        .template("app.tmpl", "app.conf")
        .table("[[resource.backend.plugin]]")
        .set("path", format!("./{program}"))
        .set("keys", ["/app"].as_slice())
}

/// A configuration that renders all keys of `store.py` into `out`.
fn listing() -> Config {
    let asked = resource("app").template("app.tmpl", "out").table("[[resource.backend.plugin]]");
    asked.set("path", "./store.py").set("keys", ["/app"].as_slice())
}

/// With what `store.py` is told.
fn with_file(config: Config) -> Config {
    config.table("[resource.backend.plugin.config]").set("file", "keys").set("since", 5)
}

/// The processes of a plugin of the folder.
fn pids(dir: &TempDir, program: &str) -> Vec<i32> {
    let is_ours = |pid: &i32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let here = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir.path());
        here && command.split(|byte| *byte == 0).any(|word| word.ends_with(program.as_bytes()))
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(is_ours).collect()
}

#[test]
fn a_plugin_is_asked_once() {
    let dir = folder(&with_file(asking("store.py").set("prefix", "/").set("onetime", true)));
    let ended = remco(&dir).once().expect_code(0);
    ended.expect_log("init {\"file\": \"keys\", \"since\": 5}").expect_log("keys [\"/app\"]").expect_log("closed");
    assert!(dir.holds("app.conf", "hello\n"));
    assert!(pids(&dir, "store.py").is_empty());
}

#[test]
fn changes_come_and_a_plugin_that_dies_is_started_again() {
    let dir = folder(&with_file(asking("store.py").set("watch", true)));
    let remco = remco(&dir).start();
    wait_until("the first file", LIMIT, || dir.holds("app.conf", "hello\n"));
    for n in 0..20 {
        dir.replace("keys", format!("/app/greeting={n}\n"));
        wait_until("the change", LIMIT, || dir.holds("app.conf", &format!("{n}\n")));
    }
    assert_eq!(pids(&dir, "store.py").len(), 1);
    assert!(remco.log().iter().all(|line| !line.contains("ERROR")), "{:?}", remco.log());
    for n in 20..23 {
        let mut running = Vec::new();
        wait_until("the plugin", LIMIT, || {
            running = pids(&dir, "store.py");
            running.len() == 1
        });
        kill_process(Pid::from_raw(running[0]).unwrap(), Signal::KILL).unwrap();
        dir.replace("keys", format!("/app/greeting={n}\n"));
        wait_until("the change", LIMIT, || dir.holds("app.conf", &format!("{n}\n")));
    }
    remco.wait_for_log("plugin ./store.py failed: it was killed by SIGKILL");
    remco.wait_for_log("backend works again");
    remco.stop();
    assert!(pids(&dir, "store.py").is_empty());
}

/// Changes while the program is killed, stopped and unable to read: at every quiet point the file is what a fresh run renders.
fn random_changes(config: Config) {
    let (dir, fresh) = (folder(&config), folder(&config));
    let mut keys = BTreeMap::from([("/app/a".to_owned(), "1".to_owned())]);
    let text = |keys: &BTreeMap<String, String>| -> String {
        keys.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
    };
    for folder in [&dir, &fresh] {
        folder.write("app.tmpl", LIST);
        folder.write("keys", text(&keys));
    }
    let program = remco(&dir).start();
    wait_until("the first file", LIMIT, || dir.holds("out", "/app/a=1\n"));
    let signal = |signal| {
        for pid in pids(&dir, "store.py") {
            // It may have ended meanwhile.
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
        }
    };
    storm(program, |moment, random| match moment {
        Moment::Change(n) => {
            let key = format!("/app/dir{}/key{}", random.below(4), random.below(8));
            if random.below(20) < 4 {
                keys.remove(&key)
            } else {
                keys.insert(key, n.to_string())
            };
            dir.replace("keys", text(&keys));
        }
        Moment::Cut => signal(Signal::KILL),
        Moment::Freeze => signal(Signal::STOP),
        // A line that its parser does not take.
        Moment::Tear => dir.replace("keys", "no key"),
        Moment::Calm => signal(Signal::CONT),
        Moment::Restart => {
            signal(Signal::KILL);
            wait_until("the plugin runs again", LIMIT, || !pids(&dir, "store.py").is_empty());
        }
        Moment::Quiet(n) => {
            keys.insert("/app/last".to_owned(), n.to_string());
            [&dir, &fresh].iter().for_each(|folder| folder.replace("keys", text(&keys)));
            await_fresh(&dir, &fresh, &config);
        }
    });
}

#[test]
fn random_changes_end_as_a_fresh_one_shot_where_they_are_watched() {
    random_changes(with_file(listing().set("watch", true)));
}

#[test]
fn random_changes_end_as_a_fresh_one_shot_where_keys_are_read_by_interval() {
    random_changes(with_file(listing().set("interval", 1)));
}

#[test]
fn an_error_of_a_plugin_is_told_in_its_words_and_passes() {
    let dir = folder(&with_file(asking("store.py").set("interval", 1)));
    std::fs::remove_file(dir.at("keys")).unwrap();
    let remco = remco(&dir).start();
    remco.wait_for_log("plugin ./store.py answered an error to Plugin.GetValues: [Errno 2]");
    let first = pids(&dir, "store.py");
    dir.write("keys", "/app/greeting=there\n");
    wait_until("the file", LIMIT, || dir.holds("app.conf", "there\n"));
    assert_eq!(pids(&dir, "store.py"), first, "it runs on");
    remco.stop();
}

#[test]
fn a_plugin_in_the_shell_is_enough() {
    let dir = folder(&asking("store.sh").set("interval", 1));
    let remco = remco(&dir).start();
    wait_until("the file", LIMIT, || dir.holds("app.conf", "from the shell\n"));
    remco.stop();
    let dir = folder(&asking("store.sh"));
    remco_once(&dir, 0);
    assert!(dir.holds("app.conf", "from the shell\n"));
}

fn remco_once(dir: &TempDir, code: i32) {
    remco(dir).once().expect_code(code);
}

#[test]
fn what_is_no_plugin_is_explained() {
    let check = |text: &str, words: &str| {
        let dir = folder(&asking("bad").set("onetime", true).set("timeout", 0.1));
        if !text.is_empty() {
            script(&dir, "bad", text);
        }
        dir.write("app.conf", "old\n");
        remco(&dir).once().expect_code(1).expect_log(words);
        assert!(dir.holds("app.conf", "old\n"));
    };
    check("", "plugin ./bad failed: ");
    check("#!/bin/sh\nexit 3", "plugin ./bad failed: it exited with status 3");
    check("#!/bin/sh\necho hello world", "plugin ./bad failed: it wrote no JSON: `hello world`");
    check("#!/nowhere/python\n", "/nowhere/python");
    let empty =
        "#!/bin/sh\nread x\necho '{\"id\":1,\"result\":true}'\nread x\necho '{\"id\":2,\"result\":{\"/a\":5}}'\nread x";
    check(empty, "plugin ./bad failed: it answered the value of `/a` is no text");
}

/// A plugin in the shell that does this for `Plugin.Init`, `Plugin.GetValues` and `Plugin.Close`.
fn shell_plugin(init: &str, values: &str, close: &str) -> String {
    let text = r#"#!/bin/sh
while read -r call; do
    id=${call##*\"id\":}
    id=${id%%[!0-9]*}
    case $call in
        *Plugin.Init*) INIT ;;
        *Plugin.GetValues*) VALUES ;;
        *Plugin.Close*) CLOSE ;;
    esac
done
"#;
    text.replace("INIT", init).replace("VALUES", values).replace("CLOSE", close)
}

/// The shell command that answers a call, with fields in JSON.
fn answer(fields: &str) -> String {
    format!("printf '{{\"id\":%s,%s}}\\n' \"$id\" '{fields}'")
}

#[test]
fn no_error_shows_what_a_plugin_was_told() {
    let dir = folder(
        &asking("store")
            .set("onetime", true)
            .set("timeout", 0.1)
            .table("[resource.backend.plugin.config]")
            .set("password", "tr0ub4dor&3")
            .set("pin", "9")
            .set("address", "db.example.com"),
    );
    let check = |values: &str, want: &str| {
        script(&dir, "store", &shell_plugin(&answer("\"result\":true"), values, "exit"));
        remco(&dir).once().expect_code(1).expect_log(want).expect_no_log("tr0ub4dor");
    };
    let refusal = answer("\"error\":\"no tr0ub4dor&3 at db.example.com\"");
    check(&refusal, "answered an error to Plugin.GetValues: no <password> at <address>");
    check("echo 'login with tr0ub4dor&3 failed'", "it wrote no JSON: `login with <password> failed`");
    check(&answer("\"result\":{\"tr0ub4dor&3\":5}"), "it answered the value of `<password>` is no text");
}

#[test]
fn what_a_plugin_answers_to_the_last_call_is_read() {
    let close = format!("head -c 300000 /dev/zero; {}; echo closed >closed; exit", answer("\"result\":true"));
    let values = answer("\"result\":{\"/app/greeting\":\"hello\"}");
    let text = shell_plugin(&answer("\"result\":true"), &values, &close);
    // When nothing more is wanted of it, and at the end of remco.
    for keys in ["onetime = true", "interval = 100"] {
        let dir = folder(&asking("store").lines(keys));
        script(&dir, "store", &text);
        let remco = remco(&dir).start();
        wait_until("the file", LIMIT, || dir.holds("app.conf", "hello\n"));
        remco.stop();
        assert!(dir.holds("closed", "closed\n"), "{keys}");
    }
}

#[test]
fn a_program_that_is_not_there_ends_a_one_shot_run_at_once() {
    let check = |text: Option<&str>, mode: u32, words: &str| {
        let dir = folder(&asking("bad").set("timeout", 86_400));
        if let Some(text) = text {
            script(&dir, "bad", text);
            std::fs::set_permissions(dir.at("bad"), Permissions::from_mode(mode)).unwrap();
        }
        remco(&dir).once().expect_code(1).expect_log(words).expect_no_log("trying again");
    };
    check(None, 0, "plugin ./bad failed: there is no program `./bad`");
    check(Some("#!/bin/sh\n"), 0o644, "`./bad` may not be executed: permission denied");
    check(Some("#!/nowhere/sh\n"), 0o755, "`./bad` needs the interpreter `/nowhere/sh`, which is missing");
    check(Some("echo\n"), 0o755, "`./bad` is no program: a script begins with `#!` and its interpreter");
}

#[test]
fn a_plugin_is_no_node() {
    let dir = folder(&asking("bad").set("timeout", 0.5));
    script(&dir, "bad", "#!/bin/sh\nexit 3");
    remco(&dir).once().expect_code(1).expect_log("plugin `bad` gives no keys, trying again").expect_no_log("no node");
}

#[test]
fn a_plugin_that_does_not_end_is_killed_with_its_children() {
    let stubborn = "#!/bin/sh\ntrap '' TERM\nsleep 1000 &\necho $! >sleeper\nexec ./store.sh";
    let dir = folder(&asking("stubborn").set("interval", 100));
    script(&dir, "stubborn", stubborn);
    script(&dir, "store.sh", &include_str!("plugin/store.sh").replace("done", "done\nsleep 1000"));
    let remco = remco(&dir).start();
    wait_until("the file", LIMIT, || dir.holds("app.conf", "from the shell\n"));
    let sleeper = dir.read("sleeper").unwrap().trim().parse().unwrap();
    remco.stop();
    wait_until("the end of all", LIMIT, || {
        test_kill_process(Pid::from_raw(sleeper).unwrap()).is_err() && pids(&dir, "store.sh").is_empty()
    });
}

#[test]
fn the_example_of_the_documents_works() {
    let [program] = examples("plugin", "sh")[..] else { panic!("one program") };
    let dir = TempDir::new();
    script(&dir, "store.sh", program);
    dir.write("app.tmpl", "{{ getv(\"/app/greeting\") }}\n");
    dir.write("config.toml", example("plugin"));
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("app.conf", "hello\n"));
}
