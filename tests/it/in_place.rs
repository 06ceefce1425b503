//! Files that cannot be replaced, in directories that cannot be written: mounted files in containers.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::{Invocation, TempDir, Trace, in_own_namespace, remco, resource, run};

const UPDATED: &str = "target config has been updated";

fn folder(template: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    let config = resource("app").template("app.tmpl", "out/app.conf").lines(template);
    config.file("data.json").onetime().write(&dir);
    dir.write("out/app.conf", "the old text, longer than the new\n");
    fs::create_dir(dir.at("tmp")).expect("the folder is new");
    dir
}

/// A file that is mounted into a read-only directory, and the program with a `$TMPDIR` of its own.
fn mounted(template: &str) -> TempDir {
    let dir = folder(template);
    dir.write("mounted", "the old text, longer than the new\n");
    let (out, dst, file) = (dir.at("out"), dir.at("out/app.conf"), dir.at("mounted"));
    let (out, dst, file) = (out.to_string_lossy(), dst.to_string_lossy(), file.to_string_lossy());
    run(&["mount", "--bind", &out, &out]);
    run(&["mount", "-o", "remount,bind,ro", &out]);
    run(&["mount", "--bind", &file, &dst]);
    run(&["mount", "-o", "remount,bind,rw", &dst]);
    dir
}

fn unmount(dir: &TempDir) {
    run(&["umount", &dir.at("out/app.conf").to_string_lossy()]);
    run(&["umount", &dir.at("out").to_string_lossy()]);
}

fn program(dir: &TempDir) -> Invocation {
    program_under(dir, &["env"])
}

fn program_under(dir: &TempDir, wrapper: &[&str]) -> Invocation {
    remco(dir).under(wrapper).env("TMPDIR", &dir.at("tmp").to_string_lossy())
}

const SEE: &str =
    "check_cmd = \"stat -L -c '%a %n' {{.src}} > seen; cat {{.src}} >> seen; ls -ld $(dirname {{.src}}) >> seen\"";

#[test]
fn a_file_mounted_into_a_read_only_directory_is_written() {
    in_own_namespace("in_place::a_file_mounted_into_a_read_only_directory_is_written", || {
        let dir = mounted("reload_cmd = \"echo >> reloads\"");
        let inode = fs::metadata(dir.at("mounted")).expect("it is there").ino();
        program(&dir).once().expect_code(0).expect_log(UPDATED);
        assert!(dir.holds("mounted", "hello\n"));
        assert_eq!(fs::metadata(dir.at("mounted")).expect("it is there").ino(), inode);
        program(&dir).once().expect_code(0).expect_no_log(UPDATED);
        assert_eq!(dir.lines("reloads"), 1);
        unmount(&dir);
    });
}

#[test]
fn its_check_sees_a_private_file_of_the_same_name() {
    in_own_namespace("in_place::its_check_sees_a_private_file_of_the_same_name", || {
        let dir = mounted(&format!("mode = \"0604\"\n{SEE}"));
        program(&dir).once().expect_code(0).expect_log(UPDATED);
        assert!(dir.holds("mounted", "hello\n"));
        assert_eq!(dir.mode("mounted"), 0o604);
        let seen = dir.read("seen").expect("the check has run");
        let head = format!("604 {}/remco-", dir.at("tmp").display());
        assert!(seen.starts_with(&head), "{seen}");
        assert!(seen.lines().next().is_some_and(|line| line.ends_with("/app.conf")), "{seen}");
        assert!(seen.contains("\nhello\ndrwx------"), "{seen}");
        assert!(dir.names("tmp").is_empty(), "nothing stays behind");
        unmount(&dir);
    });
}

#[test]
fn a_failing_check_keeps_a_mounted_file() {
    in_own_namespace("in_place::a_failing_check_keeps_a_mounted_file", || {
        let dir = mounted("check_cmd = \"grep -q old {{.src}}\"");
        program(&dir).once().expect_code(1).expect_no_log(UPDATED);
        assert!(dir.holds("mounted", "the old text, longer than the new\n"));
        assert!(dir.names("tmp").is_empty());
        unmount(&dir);
    });
}

/// Without any directory to write to the check sees a file in memory, that no other command gets.
#[test]
fn without_a_temporary_directory_the_check_sees_memory() {
    in_own_namespace("in_place::without_a_temporary_directory_the_check_sees_memory", || {
        let see = "check_cmd = \"stat -L -c '%a %n' {{.src}} > seen; cat {{.src}} >> seen; sh -c 'echo more > {{.src}}' || \
                   echo sealed >> seen\"";
        let dir = mounted(&format!("mode = \"0640\"\n{see}\nreload_cmd = \"ls -l /proc/self/fd > fds\""));
        let none = dir.at("none").to_string_lossy().into_owned();
        remco(&dir).env("TMPDIR", &none).once().expect_code(0).expect_log(UPDATED);
        assert!(dir.holds("mounted", "hello\n"));
        let seen = dir.read("seen").expect("the check has run");
        assert!(seen.starts_with("640 /proc/self/fd/"), "{seen}");
        assert!(seen.ends_with("\nhello\nsealed\n"), "{seen}");
        let fds = dir.read("fds").expect("the reload has run");
        assert!(!fds.contains("memfd"), "{fds}");
        unmount(&dir);
    });
}

#[test]
fn without_proc_there_is_no_check_and_nothing_is_written() {
    in_own_namespace("in_place::without_proc_there_is_no_check_and_nothing_is_written", || {
        let dir = mounted("check_cmd = \"true {{.src}}\"");
        let none = dir.at("none").to_string_lossy().into_owned();
        run(&["mount", "-t", "tmpfs", "none", "/proc"]);
        let failed = remco(&dir).env("TMPDIR", &none).once().expect_code(1).expect_no_log(UPDATED);
        failed.expect_log("/proc/self/fd").expect_log("out/app.conf").expect_log(&none);
        assert!(dir.holds("mounted", "the old text, longer than the new\n"));
        run(&["umount", "/proc"]);
        unmount(&dir);
    });
}

/// A directory that is another user's, as one that a container runtime has made.
#[test]
fn a_file_mounted_into_a_foreign_directory_is_written() {
    in_own_namespace("in_place::a_file_mounted_into_a_foreign_directory_is_written", || {
        let dir = folder(SEE);
        dir.write("mounted", "old\n");
        let (file, dst) = (dir.at("mounted"), dir.at("out/app.conf"));
        run(&["mount", "--bind", &file.to_string_lossy(), &dst.to_string_lossy()]);
        for (path, id) in [("mounted", 1), ("tmp", 1), (".", 1)] {
            std::os::unix::fs::chown(dir.at(path), Some(id), Some(id)).expect("we are root");
        }
        let user = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups"];
        run(&["chmod", "0755", &std::env::temp_dir().to_string_lossy()]);
        program_under(&dir, &user).once().expect_code(0).expect_log(UPDATED);
        assert!(dir.holds("mounted", "hello\n"));
        assert!(dir.read("seen").is_some_and(|seen| seen.contains("/remco-")));
        run(&["umount", &dst.to_string_lossy()]);
    });
}

/// No mount point, and its directory cannot be written: the message names the key that helps.
#[test]
fn a_file_that_is_no_mount_point_is_written_in_place_only_where_asked_for() {
    in_own_namespace("in_place::a_file_that_is_no_mount_point_is_written_in_place_only_where_asked_for", || {
        let dir = folder("");
        let user = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups"];
        run(&["chmod", "0755", &std::env::temp_dir().to_string_lossy()]);
        for path in ["out/app.conf", "tmp"] {
            std::os::unix::fs::chown(dir.at(path), Some(1), Some(1)).expect("we are root");
        }
        let failed = program_under(&dir, &user).once().expect_code(1).expect_no_log(UPDATED);
        failed.expect_log("where only the file may be written, set `in_place = true`");
        let config = dir.read("config.toml").expect("just written");
        dir.write("config.toml", config.replace("src =", "in_place = true\nsrc ="));
        let inode = fs::metadata(dir.at("out/app.conf")).expect("it is there").ino();
        program_under(&dir, &user).once().expect_code(0).expect_log(UPDATED);
        assert!(dir.holds("out/app.conf", "hello\n"));
        assert_eq!(fs::metadata(dir.at("out/app.conf")).expect("it is there").ino(), inode);
    });
}

#[test]
fn in_place_keeps_the_inode_and_creates_what_is_missing() {
    let dir = folder("in_place = true\nmode = \"0640\"\ncheck_cmd = \"echo {{.src}} >> seen\"");
    let inode = |dir: &TempDir| fs::metadata(dir.at("out/app.conf")).expect("it is there").ino();
    let before = inode(&dir);
    fs::hard_link(dir.at("out/app.conf"), dir.at("other-name")).expect("one file system");
    program(&dir).once().expect_code(0).expect_log(UPDATED);
    assert_eq!(inode(&dir), before);
    assert!(dir.holds("other-name", "hello\n"), "it is one file");
    assert_eq!(dir.mode("out/app.conf"), 0o640);
    assert_eq!(dir.names("out"), ["app.conf"]);
    program(&dir).once().expect_code(0).expect_no_log(UPDATED);
    fs::remove_file(dir.at("out/app.conf")).expect("it is there");
    program(&dir).once().expect_code(0).expect_log(UPDATED);
    assert!(dir.holds("out/app.conf", "hello\n"));
    assert_eq!(dir.mode("out/app.conf"), 0o640);
}

/// Whatever fails, the old bytes are there, or the new ones.
#[test]
fn a_failure_in_place_puts_the_old_content_back() {
    let old = "the old text, longer than the new\n";
    for fault in
        ["fsync:error=EIO:when=1", "ftruncate:error=EIO:when=1", "fallocate:error=ENOSPC", "fchmod:error=EPERM"]
    {
        let dir = folder("in_place = true\nmode = \"0640\"");
        let (_, program) = Trace::with_fault(program(&dir), &dir, fault);
        program
            .once()
            .expect_code(1)
            .expect_log("`out/app.conf`, which is written in place: ")
            .expect_no_log("restore");
        assert!(dir.holds("out/app.conf", old), "{fault}: {:?}", dir.read("out/app.conf"));
        assert!(dir.names("tmp").is_empty());
    }
}

/// A file of a terabyte with nothing in it is not read into memory to be put back.
#[test]
fn a_huge_sparse_file_is_compared_and_replaced() {
    for in_place in [false, true] {
        let dir = folder(if in_place { "in_place = true" } else { "" });
        fs::File::options()
            .write(true)
            .open(dir.at("out/app.conf"))
            .and_then(|file| file.set_len(1 << 40))
            .expect("sparse");
        // 500 MB of address space: enough for the program, too little for the file.
        let program = program_under(&dir, &["prlimit", "--as=500000000"]);
        program.once().expect_code(0).expect_log(UPDATED);
        assert!(dir.holds("out/app.conf", "hello\n"));
    }
}
