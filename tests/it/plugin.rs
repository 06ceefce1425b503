//! Plugins: real programs in Python and in the shell that answer on their pipes, die, hang and talk nonsense.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::{Config, LIMIT, TempDir, example, examples, remco, resource, wait_until};

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
