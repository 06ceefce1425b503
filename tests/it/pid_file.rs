//! The pid file: its content, which second start it refuses, and its removal.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;

use crate::support::{LIMIT, Remco, TempDir, in_own_namespace, remco, run, wait_until};

/// A folder with one resource, and what stands above it in the configuration.
fn folder(head: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    configure(&dir, head);
    dir
}

fn configure(dir: &TempDir, head: &str) {
    let resource = r#"
[[resource]]
name = "app"
[[resource.template]]
src = "app.tmpl"
dst = "app.out"
[resource.backend.file]
filepath = "data.json"
keys = ["/"]
watch = true
"#;
    dir.replace("config.toml", format!("log_level = \"debug\"\n{head}\n{resource}"));
}

const PID_FILE: &str = "pid_file = \"remco.pid\"";

/// A running program, once it is at work.
fn start(dir: &TempDir) -> Remco {
    let program = remco(dir).start();
    program.wait_for_log("comparing staged and dest config files");
    program
}

#[test]
fn it_holds_the_number_and_goes_with_the_program() {
    let dir = folder(PID_FILE);
    let program = start(&dir);
    assert_eq!(dir.read("remco.pid"), Some(program.pid().to_string()));
    assert_eq!(dir.mode("remco.pid") & 0o133, 0, "for others to read, for none to change");
    program.wait_for_log("creating pid file at \"remco.pid\"");
    program.stop();
    assert_eq!(dir.read("remco.pid"), None);
}

#[test]
fn a_second_program_refuses_to_start() {
    let dir = folder(PID_FILE);
    let first = start(&dir);
    let second = remco(&dir).run().expect_code(1);
    let why = format!("remco: pid file `remco.pid` is in use by another remco, process {}; ", first.pid());
    second.expect_log(&why).expect_log("config `config.toml` was not started").expect_no_log("retrieving keys");
    remco(&dir).once().expect_code(1).expect_log("is in use by another remco");
    assert_eq!(dir.read("remco.pid"), Some(first.pid().to_string()), "it is still the first one's");
    first.stop();
    remco(&dir).once().expect_code(0);
}

/// What a crash left behind says a number, and nobody has it: not even the process that has got that number since.
#[test]
fn a_number_alone_keeps_nobody_out() {
    let dir = folder(PID_FILE);
    for number in [std::process::id().to_string().as_str(), "1", "", " 4194304 \n", "\0\0\0\0"] {
        dir.write("remco.pid", number);
        let program = start(&dir);
        assert_eq!(dir.read("remco.pid"), Some(program.pid().to_string()), "after {number:?}");
        program.stop();
    }
}

/// A slip in the configuration must not cost a file.
#[test]
fn what_is_no_pid_file_is_left_alone() {
    let dir = folder(PID_FILE);
    let long = format!("{}4194304", " ".repeat(100));
    for content in ["no number\n", "-1", "4194304 and more than a number\n", "99999999999999999999", &long] {
        dir.write("remco.pid", content);
        let program = start(&dir);
        program.wait_for_log("failed to write pid file `remco.pid`: it has other content, which is kept");
        program.stop();
        assert!(dir.holds("remco.pid", content), "{content:?}");
    }
}

/// Locks of fcntl's kind go when the process closes any descriptor of the file, and a template may read it.
#[test]
fn the_lock_outlives_a_look_at_the_file() {
    let dir = folder(PID_FILE);
    symlink("remco.pid", dir.at("partial.tmpl")).expect("the name is free");
    dir.write("app.tmpl", "{% include \"partial.tmpl\" %}");
    let first = start(&dir);
    wait_until("the template has read it", LIMIT, || dir.holds("app.out", &first.pid().to_string()));
    remco(&dir).run().expect_code(1).expect_log("is in use by another remco");
    first.stop();
}

#[test]
fn a_killed_program_leaves_no_lock() {
    let dir = folder(PID_FILE);
    let mut program = start(&dir);
    program.signal(Signal::KILL);
    program.exit_code();
    assert_eq!(dir.read("remco.pid"), Some(program.pid().to_string()));
    start(&dir).stop();
    assert_eq!(dir.read("remco.pid"), None);
}

#[test]
fn what_is_anothers_by_now_is_not_removed() {
    let dir = folder(PID_FILE);
    let program = start(&dir);
    dir.write("remco.pid", "1");
    program.stop();
    assert!(dir.holds("remco.pid", "1"), "a number of another's");

    let program = start(&dir);
    let own = program.pid().to_string();
    dir.replace("remco.pid", &own);
    program.stop();
    assert!(dir.holds("remco.pid", &own), "a file of another's");

    fs::remove_file(dir.at("remco.pid")).expect("just looked at");
    let program = start(&dir);
    fs::remove_file(dir.at("remco.pid")).expect("it was written");
    program.stop();
}

/// Removed by hand, the first one's lock is on a file that nobody can find any more; the second one's file stays its own.
#[test]
fn the_first_to_end_leaves_the_second_one_its_file() {
    let dir = folder(PID_FILE);
    let first = start(&dir);
    fs::remove_file(dir.at("remco.pid")).expect("it was written");
    let second = remco(&dir).start();
    wait_until("the second pid file", LIMIT, || dir.holds("remco.pid", &second.pid().to_string()));
    first.stop();
    assert!(dir.holds("remco.pid", &second.pid().to_string()));
    second.stop();
    assert_eq!(dir.read("remco.pid"), None);
}

#[test]
fn any_other_failure_is_only_logged() {
    let dir = folder(PID_FILE);
    run(&["mkfifo", &dir.at("fifo").to_string_lossy()]);
    dir.write("folder/file", "");
    for (path, why) in [
        ("nowhere/remco.pid", "failed to open pid file `nowhere/remco.pid`: no such file or directory"),
        ("fifo", "failed to open pid file `fifo`: not a regular file"),
        ("folder", "failed to open pid file `folder`: is a directory"),
        ("/dev/full", "failed to open pid file `/dev/full`: not a regular file"),
    ] {
        configure(&dir, &format!("pid_file = \"{path}\""));
        let program = start(&dir);
        program.wait_for_log(why);
        program.stop();
        remco(&dir).once().expect_code(0).expect_log(why);
    }
}

#[test]
fn a_full_disk_leaves_no_half_number() {
    in_own_namespace("pid_file::a_full_disk_leaves_no_half_number", || {
        let dir = folder("pid_file = \"full/remco.pid\"");
        dir.write("full/.keep", "");
        run(&["mount", "-t", "tmpfs", "-o", "size=4k", "none", &dir.at("full").to_string_lossy()]);
        dir.write("full/ballast", [0; 4096]);
        let program = start(&dir);
        program.wait_for_log("failed to write pid file `full/remco.pid`: no space left on device");
        assert_eq!(dir.names("full"), ["ballast"]);

        fs::remove_file(dir.at("full/ballast")).expect("it was written");
        program.signal(Signal::HUP);
        wait_until("it is tried again", LIMIT, || dir.holds("full/remco.pid", &program.pid().to_string()));
        program.stop();
    });
}

#[test]
fn a_hangup_moves_it() {
    let dir = folder(PID_FILE);
    let program = start(&dir);
    let own = program.pid().to_string();
    configure(&dir, "pid_file = \"other.pid\"");
    program.signal(Signal::HUP);
    wait_until("the new one", LIMIT, || dir.holds("other.pid", &own));
    assert_eq!(dir.read("remco.pid"), None);

    // Another way to the same file.
    symlink("other.pid", dir.at("link.pid")).expect("the name is free");
    configure(&dir, "pid_file = \"link.pid\"");
    program.signal(Signal::HUP);
    program.wait_for_log("creating pid file at \"link.pid\"");
    wait_until("the same number", LIMIT, || dir.holds("link.pid", &own));
    remco(&dir).run().expect_code(1).expect_log("is in use by another remco");

    configure(&dir, "");
    program.signal(Signal::HUP);
    wait_until("none", LIMIT, || dir.read("other.pid").is_none());
    program.stop();
}

/// Removing the link alone would leave a number behind that is nobody's.
#[test]
fn a_link_stays_and_what_it_leads_to_goes() {
    let dir = folder("pid_file = \"link.pid\"");
    dir.write("folder/.keep", "");
    symlink("folder/remco.pid", dir.at("link.pid")).expect("the name is free");
    for _ in 0..2 {
        let program = start(&dir);
        assert!(dir.holds("folder/remco.pid", &program.pid().to_string()));
        program.stop();
        assert_eq!(dir.names("folder"), [".keep"]);
        assert!(fs::symlink_metadata(dir.at("link.pid")).is_ok_and(|meta| meta.is_symlink()));
    }
}

#[test]
fn a_hangup_writes_it_again_where_it_is_gone() {
    let dir = folder(PID_FILE);
    let program = start(&dir);
    fs::remove_file(dir.at("remco.pid")).expect("it was written");
    program.signal(Signal::HUP);
    wait_until("it is back", LIMIT, || dir.holds("remco.pid", &program.pid().to_string()));
    remco(&dir).run().expect_code(1).expect_log("is in use by another remco");
    program.stop();
    assert_eq!(dir.read("remco.pid"), None);
}

/// To end would be worse than to have no file.
#[test]
fn a_hangup_to_anothers_file_is_only_logged() {
    let dir = folder(PID_FILE);
    let first = start(&dir);
    configure(&dir, "pid_file = \"other.pid\"");
    let second = start(&dir);
    wait_until("the second one's", LIMIT, || dir.holds("other.pid", &second.pid().to_string()));
    first.signal(Signal::HUP);
    first.wait_for_log("pid file `other.pid` is in use by another remco, process ");
    second.stop();
    assert_eq!(dir.read("other.pid"), None);
    first.signal(Signal::HUP);
    wait_until("it is free now", LIMIT, || dir.holds("other.pid", &first.pid().to_string()));
    first.stop();
}
