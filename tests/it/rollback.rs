//! Files are put back if their reload fails: with commands, signals and crashes of the real process. The store is a
//! file.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::support::{Config, Invocation, LIMIT, Remco, TempDir, config, remco, resource, wait_until};

/// A folder whose reload command refuses a file with `bad` in it, and notes what it has seen.
fn folder(text: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/x\") }}\n");
    dir.write("reload.sh", RELOAD);
    set(&dir, text);
    dir
}

const RELOAD: &str = "cat out >> seen\n! grep -q bad out\n";

fn set(dir: &TempDir, text: &str) {
    dir.replace("data.json", format!("{{\"x\": \"{text}\"}}"));
}

fn one(dir: &TempDir) -> Config {
    let template = resource("app").template("app.tmpl", "out").set("reload_cmd", "sh reload.sh");
    let app = template.set("on_reload_failure", "rollback").file("data.json").watch();
    app.write(dir);
    app
}

fn inode(dir: &TempDir, name: &str) -> u64 {
    fs::metadata(dir.at(name)).expect("it is there").ino()
}

/// What lies beside the files of a test.
fn kept(dir: &TempDir) -> Vec<String> {
    dir.names("").into_iter().filter(|name| name.starts_with(".out")).collect()
}

#[test]
fn the_old_file_is_back_with_owner_mode_and_inode() {
    for in_place in [false, true] {
        let dir = folder("bad");
        let template = resource("app").template("app.tmpl", "out").set("reload_cmd", "sh reload.sh");
        let template = template.set("on_reload_failure", "rollback").set("mode", "0600").set("in_place", in_place);
        template.file("data.json").watch().write(&dir);
        dir.write("out", "old\n");
        dir.set_mode("out", 0o641);
        if geteuid().is_root() {
            chown(dir.at("out"), Some(1), Some(2)).expect("root may");
        }
        let was = fs::metadata(dir.at("out")).expect("it is there");
        let failed = remco(&dir).once().expect_code(1);
        let failed = failed.expect_log("reload command exited with status 1, putting the old file back");
        failed.expect_log("the old target config is back");
        assert!(dir.holds("out", "old\n") && dir.holds("seen", "bad\nold\n"), "in place: {in_place}");
        let now = fs::metadata(dir.at("out")).expect("it is there");
        assert_eq!((now.ino(), now.mode(), now.uid(), now.gid()), (was.ino(), was.mode(), was.uid(), was.gid()));
        assert_eq!(kept(&dir), Vec::<String>::new());
    }
    // A file that was not there is removed.
    let dir = folder("bad");
    one(&dir);
    remco(&dir).once().expect_code(1);
    assert!(!dir.at("out").exists() && kept(&dir).is_empty());
}

#[test]
fn what_was_rolled_back_is_not_tried_again_before_it_changes() {
    let dir = folder("1");
    config().set("log_level", "debug").set("status_file", "status.json").and(one(&dir)).write(&dir);
    let program = remco(&dir).start();
    wait_until("the first file is in place", LIMIT, || dir.holds("seen", "1\n"));
    set(&dir, "bad");
    wait_until("it is rolled back", LIMIT, || dir.holds("seen", "1\nbad\n1\n"));
    wait_until("the status says so", LIMIT, || {
        let status = Invocation::bare(&dir, &["-config", "config.toml", "--status"]).run();
        status.code == Some(1) && String::from_utf8_lossy(&status.stdout).contains("\napp: rolled back")
    });
    // Another key, and no other result.
    dir.replace("data.json", r#"{"x": "bad", "y": "1"}"#);
    set(&dir, "3");
    program.wait_for_log("the update that was rolled back has been replaced");
    assert!(dir.holds("out", "3\n") && dir.holds("seen", "1\nbad\n1\n3\n"));
    program.stop();
    assert_eq!(kept(&dir), Vec::<String>::new());
}

#[test]
fn a_reload_that_takes_too_long_has_failed() {
    let dir = folder("1");
    let template = resource("app").set("on_reload_failure", "rollback").template("app.tmpl", "out");
    let template = template.set("reload_cmd", "sh reload.sh").set("reload_timeout", 5);
    template.file("data.json").watch().write(&dir);
    dir.write("out", "old\n");
    dir.write("reload.sh", "cat out >> seen; grep -q old out || exec sleep 3600\n");
    remco(&dir).once().expect_code(1).expect_log("reload command took longer than 5 s and was ended");
    assert!(dir.holds("out", "old\n") && dir.holds("seen", "1\nold\n"));
}

/// The reload of the resource decides on all files of the update, and what stays owed is tried again.
#[test]
fn the_reload_of_the_resource_puts_all_files_back() {
    let dir = folder("1");
    dir.write("reload.sh", "cat out out2 >> seen; test -e down && exit 3; ! grep -q bad out\n");
    let app = resource("app").set("reload_cmd", "sh reload.sh").set("on_reload_failure", "rollback");
    let app = app.template("app.tmpl", "out").template("app.tmpl", "out2").file("data.json").watch();
    app.write(&dir);
    let program = remco(&dir).start();
    wait_until("the files are there", LIMIT, || dir.holds("out", "1\n") && dir.holds("out2", "1\n"));
    program.wait_for_log("target config has been updated config=out2");
    dir.write("down", "");
    set(&dir, "bad");
    program.wait_for_log("putting the old file back");
    program.wait_for_log("not all reload commands have succeeded, trying again after");
    assert!(dir.holds("out", "1\n") && dir.holds("out2", "1\n"));
    fs::remove_file(dir.at("down")).expect("it is there");
    program.wait_for_log("resource reload cmd works again");
    assert!(dir.holds("out", "1\n") && dir.holds("out2", "1\n"));
    set(&dir, "2");
    program.wait_for_log("the update that was rolled back has been replaced");
    assert!(dir.holds("out", "2\n") && dir.holds("out2", "2\n"));
    program.stop();
    assert_eq!(kept(&dir), Vec::<String>::new());
}

/// Ends a program while its reload runs. The file is new then, and the old one is kept.
fn ends_in_reload(dir: &TempDir, end: impl FnOnce(Remco)) {
    dir.write("reload.sh", "echo $$ > begun; exec sleep 3600\n");
    let program = remco(dir).start();
    wait_until("the reload has begun", LIMIT, || dir.lines("begun") == 1);
    assert_eq!(kept(dir).len(), 1);
    // What another run finds in use it leaves alone, and it has nothing to do.
    remco(dir).once().expect_code(0).expect_no_log("reload");
    assert_eq!(kept(dir).len(), 1);
    end(program);
    let command = dir.read("begun").and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
    // It may have ended with the program.
    let _ = kill_process(command.expect("a number"), Signal::KILL);
    dir.write("reload.sh", RELOAD);
}

#[test]
fn a_reload_that_was_cut_off_is_made_up_and_can_still_put_the_file_back() {
    let kill = |program: Remco| {
        program.signal(Signal::KILL);
        drop(program);
    };
    for is_killed in [true, false] {
        for text in ["good", "bad"] {
            let dir = folder(text);
            one(&dir);
            dir.write("out", "old\n");
            let was = inode(&dir, "out");
            ends_in_reload(&dir, |program| if is_killed { kill(program) } else { drop(program.stop()) });
            assert!(dir.holds("out", &format!("{text}\n")) && kept(&dir).len() == 1, "{is_killed}");
            // A run without commands leaves it to one that has them.
            remco(&dir).arg("--no-commands").once().expect_code(0);
            assert_eq!(kept(&dir).len(), 1);
            let next = remco(&dir).once();
            let next = next.expect_log("a file whose reload had not succeeded is in place, reloading it");
            let is_good = text == "good";
            assert_eq!(next.code, Some(i32::from(!is_good)), "{}", next.log);
            let (out, seen) = if is_good { ("good\n", "good\n") } else { ("old\n", "bad\nold\n") };
            assert!(dir.holds("out", out) && dir.holds("seen", seen), "{text}");
            assert_eq!((inode(&dir, "out") == was, kept(&dir).len()), (!is_good, 0));
        }
    }
}

#[test]
fn a_kept_file_of_another_user_is_not_used() {
    if !geteuid().is_root() {
        return;
    }
    let dir = folder("good");
    one(&dir);
    dir.write("out", "old\n");
    ends_in_reload(&dir, |program| {
        program.signal(Signal::KILL);
        drop(program);
    });
    let name = kept(&dir).remove(0);
    fs::remove_file(dir.at(&name)).expect("it is there");
    dir.write(&name, "theirs\n");
    chown(dir.at(&name), Some(1234), Some(1234)).expect("root may");
    remco(&dir).once().expect_code(0).expect_log("it is no file of this user or of the owner of `dst`");
    assert!(dir.holds("out", "good\n") && dir.holds(&name, "theirs\n"));
    // The second name of the present file was made for a rename that did not come.
    fs::remove_file(dir.at(&name)).expect("it is there");
    fs::hard_link(dir.at("out"), dir.at(&name)).expect("a link");
    remco(&dir).once().expect_code(0).expect_no_log("reload");
    assert_eq!(kept(&dir), Vec::<String>::new());
}
