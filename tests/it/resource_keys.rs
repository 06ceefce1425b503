//! Keys of resources and templates that Go remco does not have: backups, owners, commands that run once. The store is a
//! file.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use rustix::process::geteuid;

use crate::support::{LIMIT, TempDir, Trace, remco, resource, wait_until};

fn folder(text: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/x\") }}\n");
    set(&dir, text);
    dir
}

fn set(dir: &TempDir, text: &str) {
    dir.replace("data.json", format!("{{\"x\": \"{text}\"}}"));
}

fn owner(dir: &TempDir, name: &str) -> (u32, u32, u32) {
    let meta = fs::metadata(dir.at(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    (meta.mode() & 0o7777, meta.uid(), meta.gid())
}

#[test]
fn equal_reload_commands_run_once_an_update() {
    for (once, lines) in [(false, 3), (true, 1)] {
        let dir = folder("1");
        let config = resource("app").set("reload_once", once);
        let config = ["a", "b", "c"].iter().fold(config, |config, dst| {
            config.template("app.tmpl", dst).set("reload_cmd", "cat a b c > seen; echo >> reloads")
        });
        // Its command has another text.
        let config = config.template("app.tmpl", "d").set("reload_cmd", "echo {{.dst}} >> other");
        config.file("data.json").watch().write(&dir);
        remco(&dir).once().expect_code(0);
        assert_eq!((dir.lines("reloads"), dir.lines("other")), (lines, 1), "{once}");
        assert!(dir.holds("seen", "1\n1\n1\n"), "it runs after all of them");
    }
}

#[test]
fn a_backup_is_the_last_file_with_its_mode_and_owner() {
    for in_place in [false, true] {
        let dir = folder("1");
        let template = resource("app").template("app.tmpl", "out").set("backup", true).set("in_place", in_place);
        template.file("data.json").watch().write(&dir);
        remco(&dir).once().expect_code(0);
        assert!(!dir.at("out.bak").exists(), "there was no file");
        dir.set_mode("out", 0o640);
        if geteuid().is_root() {
            chown(dir.at("out"), Some(1234), Some(2345)).expect("root may");
        }
        let was = owner(&dir, "out");
        let inode = fs::metadata(dir.at("out")).expect("it is there").ino();
        for (text, backup) in [("2", "1\n"), ("2", "1\n"), ("3", "2\n")] {
            set(&dir, text);
            remco(&dir).once().expect_code(0);
            assert!(dir.holds("out", &format!("{text}\n")) && dir.holds("out.bak", backup), "{text}");
            assert_eq!((owner(&dir, "out"), owner(&dir, "out.bak")), (was, was), "{text}");
        }
        let now = fs::metadata(dir.at("out")).expect("it is there").ino();
        assert_eq!(now == inode, in_place);
        let names: Vec<String> = dir.names("").into_iter().filter(|name| name.contains("out")).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
}

#[test]
fn a_file_that_cannot_be_kept_is_not_replaced() {
    let dir = folder("1");
    resource("app").template("app.tmpl", "out").set("backup", true).file("data.json").watch().write(&dir);
    dir.write("out", "old\n");
    // A link that another program has made to the old file is no obstacle, and does not become the new file.
    fs::hard_link(dir.at("out"), dir.at("out.bak")).expect("a link");
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("out", "1\n") && dir.holds("out.bak", "old\n"));
    set(&dir, "2");
    fs::remove_file(dir.at("out.bak")).expect("it is there");
    fs::create_dir(dir.at("out.bak")).expect("it is free");
    let says = "failed to replace `out`: failed to keep it: `out.bak` is a directory";
    remco(&dir).once().expect_code(1).expect_log(says);
    assert!(dir.holds("out", "1\n") && dir.names("").iter().filter(|name| name.contains("out")).count() == 2);
    // With `.bak` behind it a name of 252 bytes is too long.
    let dir = folder("1");
    let long = "n".repeat(252);
    resource("app").template("app.tmpl", &long).set("backup", true).file("data.json").watch().write(&dir);
    dir.write(&long, "old\n");
    remco(&dir).once().expect_code(1).expect_log("failed to keep it: file name too long");
    assert!(dir.holds(&long, "old\n"));
    let dir = folder("1");
    let config = resource("app").template("app.tmpl", "out").set("backup", true).template("app.tmpl", "out.bak");
    config.file("data.json").watch().write(&dir);
    remco(&dir).once().expect_code(1).expect_log("`dst` would overwrite the `backup` of a template");
}

#[test]
fn a_backup_keeps_all_mode_bits() {
    for in_place in [false, true] {
        let dir = folder("1");
        let template = resource("app").template("app.tmpl", "out").set("backup", true).set("in_place", in_place);
        template.file("data.json").watch().write(&dir);
        dir.write("out", "old\n");
        dir.set_mode("out", 0o6751);
        remco(&dir).once().expect_code(0);
        assert_eq!(owner(&dir, "out.bak").0, 0o6751, "in place: {in_place}");
    }
    if !geteuid().is_root() {
        return;
    }
    // The copy cannot have the foreign group. What runs with the rights of the owner still does.
    let dir = folder("1");
    let template = resource("app").template("app.tmpl", "out").set("backup", true).set("in_place", true);
    template.file("data.json").watch().write(&dir);
    dir.write("out", "old\n");
    chown(dir.at("out"), Some(1), Some(2345)).expect("root may");
    chown(dir.at(""), Some(1), Some(1)).expect("root may");
    dir.set_mode("out", 0o6751);
    remco(&dir).under(&["setpriv", "--reuid=1", "--regid=1", "--clear-groups"]).once().expect_code(0);
    assert_eq!(owner(&dir, "out.bak"), (0o4751, 1, 1));
}

/// An update that fails is none: its backup would be the present file, and that of the last update gone.
#[test]
fn an_update_that_fails_keeps_the_earlier_backup() {
    let dir = folder("1");
    resource("app").template("app.tmpl", "out").set("backup", true).file("data.json").watch().write(&dir);
    dir.write("out", "0\n");
    remco(&dir).once().expect_code(0);
    set(&dir, "2");
    let (_, program) = Trace::with_fault(remco(&dir), &dir, "renameat:error=EIO");
    program.once().expect_code(1).expect_log("failed to rename");
    assert!(dir.holds("out", "1\n") && dir.holds("out.bak", "0\n"));
    fs::remove_file(dir.at("out.bak")).expect("it is there");
    // The first rename is that of the backup.
    let (_, program) = Trace::with_fault(remco(&dir), &dir, "renameat:error=EIO:when=2+");
    program.once().expect_code(1).expect_log("failed to rename");
    assert!(dir.holds("out", "1\n") && !dir.at("out.bak").exists());
}

/// Writing in place fails, and writing the old content back fails too: the copy is all that is left of it.
#[test]
fn a_file_that_is_damaged_keeps_its_backup() {
    let dir = folder("1");
    let template = resource("app").template("app.tmpl", "out").set("backup", true).set("in_place", true);
    template.file("data.json").watch().write(&dir);
    dir.write("out", "old\n");
    dir.write("out.bak", "older\n");
    let path = dir.at("out").to_string_lossy().into_owned();
    let fault = ["strace", "-D", "-q", "-o", "/dev/null", "-P", &path, "-e", "inject=write:error=EIO"];
    remco(&dir).under(&fault).once().expect_code(1).expect_log("failed to restore the old content");
    assert!(dir.holds("out.bak", "old\n"));
    assert_eq!(dir.names("").iter().filter(|name| name.contains("out")).count(), 2);
}

#[test]
fn owners_have_names() {
    if !geteuid().is_root() {
        return;
    }
    let dir = folder("1");
    let template = resource("app").template("app.tmpl", "out").set("owner", "nobody").set("group", "daemon");
    template.file("data.json").watch().write(&dir);
    remco(&dir).once().expect_code(0);
    let id = |file: &str, name: &str| -> u32 {
        let text = fs::read_to_string(file).expect("this machine has it");
        let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).expect("it is known");
        line.split(':').nth(2).and_then(|id| id.parse().ok()).expect("an id")
    };
    assert_eq!(owner(&dir, "out"), (0o644, id("/etc/passwd", "nobody"), id("/etc/group", "daemon")));
}

#[test]
fn a_child_has_variables_of_its_own() {
    let dir = folder("1");
    let config = resource("app").template("app.tmpl", "out").file("data.json").watch();
    let config = config.exec("sh -c 'echo \"$ONE,$TWO,$LANG\" > seen; exec sleep 3600'");
    let config = config.to_string().replace('$', "${$}");
    dir.write("config.toml", format!("{config}env = {{ONE = \"1 \\\"x\\\"\", TWO = \"\"}}\n"));
    let program = remco(&dir).env("LANG", "C.UTF-8").env("TWO", "2").start();
    wait_until("the child has started", LIMIT, || dir.holds("seen", "1 \"x\",,C.UTF-8\n"));
    program.stop();
}
