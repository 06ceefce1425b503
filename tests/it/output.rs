//! From rendered text to the file in its place: what is written, in which order, and what remains after a failure.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink};

use crate::support::{LIMIT, TempDir, Trace, in_own_namespace, remco, run, wait_until};

/// One resource on the file backend with `template` as further keys of its template; `dst` is `out/app.conf`
/// unless they set it.
fn folder(template: &str, backend: &str) -> TempDir {
    let dir = TempDir::new();
    let dst = if template.contains("dst = ") { "" } else { "dst = \"out/app.conf\"" };
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write(
        "config.toml",
        format!(
            r#"
log_level = "debug"
[[resource]]
name = "app"
[[resource.template]]
src = "app.tmpl"
{dst}
{template}
[resource.backend.file]
filepath = "data.json"
keys = ["/"]
{backend}
"#
        ),
    );
    fs::create_dir(dir.at("out")).expect("the folder is new");
    dir
}

fn one_shot(template: &str) -> TempDir {
    folder(template, "onetime = true")
}

const UPDATED: &str = "target config has been updated";

#[test]
fn the_steps_come_in_order() {
    let dir = one_shot("mode = \"0640\"\nUID = 12345\nGID = 23456\ncheck_cmd = \"true\"\nreload_cmd = \"true\"");
    let (trace, program) = Trace::of(remco(&dir), &dir);
    let finished = program.once();
    if !rustix::process::geteuid().is_root() {
        finished.expect_code(1).expect_log("app.conf");
        return;
    }
    let finished = finished.expect_code(0);
    let calls = trace.calls(finished.pid);
    let step = |from: usize, what: &str, is: &dyn Fn(&str) -> bool| {
        let found = calls[from..].iter().position(|call| is(&call.text));
        from + found.unwrap_or_else(|| panic!("no {what} after step {from}:\n{calls:#?}")) + 1
    };
    let stage = |text: &str| text.contains("\".app.conf");
    let at =
        step(0, "stage file", &|t| t.starts_with("open") && stage(t) && t.contains("O_EXCL") && t.contains("0600"));
    let at = step(at, "fchown", &|t| t.starts_with("fchown(") && t.contains("12345, 23456"));
    let at = step(at, "fchmod", &|t| t.starts_with("fchmod(") && t.contains("0640"));
    let at = step(at, "check command", &|t| t.starts_with("execve(\"/bin/sh\"") && t.contains("true"));
    let at = step(at, "fsync", &|t| t.starts_with("fsync(") || t.starts_with("fdatasync("));
    let at = step(at, "rename", &|t| t.starts_with("renameat") && stage(t) && t.contains("\"app.conf\""));
    let at = step(at, "fsync of the folder", &|t| t.starts_with("fsync("));
    step(at, "reload command", &|t| t.starts_with("execve(\"/bin/sh\"") && t.contains("true"));
    assert_eq!(dir.mode("out/app.conf"), 0o640);
    assert_eq!(dir.names("out"), ["app.conf"]);
}

#[test]
fn the_check_command_sees_the_file_as_it_will_be() {
    let dir = one_shot("mode = \"0604\"\ncheck_cmd = \"stat -c '%a %n' {{.src}} > seen; cat {{ .src }} >> seen\"");
    remco(&dir).once().expect_code(0).expect_log(UPDATED);
    let seen = dir.read("seen").expect("the check command has run");
    let (first, content) = seen.split_once('\n').expect("stat has written a line");
    let name = first.strip_prefix("604 ").unwrap_or_else(|| panic!("not the final mode: {first}"));
    let digits = name.strip_prefix("out/.app.conf").unwrap_or_else(|| panic!("not a stage file's name: {name}"));
    assert!(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()), "{name}");
    assert_eq!(content, "hello\n");
}

/// The kernel runs nothing that is open for writing.
#[test]
fn a_check_may_run_the_staged_file() {
    let dir = one_shot("mode = \"0755\"\ncheck_cmd = \"{{.src}}\"");
    dir.write("app.tmpl", "#!/bin/sh\necho {{ getv(\"/greeting\") }} > said\n");
    remco(&dir).once().expect_code(0).expect_log(UPDATED);
    assert!(dir.holds("said", "hello\n"));
}

#[test]
fn a_failing_check_keeps_the_old_file() {
    let dir = one_shot("check_cmd = \"echo not like this; exit 3\"\nreload_cmd = \"echo >> reloads\"");
    dir.write("out/app.conf", "old\n");
    remco(&dir).once().expect_code(1).expect_log("not like this").expect_no_log(UPDATED);
    assert!(dir.holds("out/app.conf", "old\n"));
    assert_eq!(dir.names("out"), ["app.conf"], "no stage file stays behind");
    assert_eq!(dir.lines("reloads"), 0);
}

#[test]
fn the_reload_command_gets_the_destination() {
    let dir = one_shot("reload_cmd = \"cat {{.dst}} > copy; echo {{ .dst }} >> copy\"");
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("copy", "hello\nout/app.conf\n"), "{:?}", dir.read("copy"));
}

/// That it ran, and how long it took, without the text of the command.
#[test]
fn a_reload_command_that_succeeded_is_told_at_info() {
    let dir = one_shot("reload_cmd = \"echo hidden > /dev/null\"");
    let config = dir.read("config.toml").expect("just written");
    dir.write("config.toml", format!("log_level = \"info\"\n{}", config.replace("log_level", "#")));
    let finished = remco(&dir).once().expect_code(0).expect_no_log("hidden");
    finished.expect_log("INFO").expect_log("reload command has succeeded config=out/app.conf took=");
}

#[test]
fn a_failed_reload_is_an_error_in_onetime() {
    let dir = one_shot("reload_cmd = \"exit 9\"");
    remco(&dir).once().expect_code(1).expect_log("reload");
    assert!(dir.holds("out/app.conf", "hello\n"), "the file is in place: only the reload failed");
}

/// remco never ran a failed reload again: the file was in sync from then on.
#[test]
fn fault_02_a_failed_reload_is_tried_again() {
    let dir = folder("reload_cmd = \"echo >> tries; test -e ready && cat {{.dst}} > loaded\"", "watch = true");
    let program = remco(&dir).start();
    wait_until("a second try", LIMIT, || dir.lines("tries") >= 2);
    dir.write("ready", "");
    wait_until("the reload works", LIMIT, || dir.holds("loaded", "hello\n"));
    let tries = dir.lines("tries");
    dir.replace("data.json", r#"{"greeting": "again"}"#);
    wait_until("the next reload", LIMIT, || dir.holds("loaded", "again\n"));
    program.stop();
    assert_eq!(dir.lines("tries"), tries + 1, "a reload that worked is not repeated");
}

#[test]
fn folders_are_made_only_when_asked_for() {
    let dir = one_shot("dst = \"out/a/b/app.conf\"");
    remco(&dir).once().expect_code(1).expect_log("out/a/b");
    assert!(dir.names("out").is_empty());

    let dir = one_shot("dst = \"out/a/b/app.conf\"\nmake_directories = true");
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("out/a/b/app.conf", "hello\n"));
    assert_eq!(dir.mode("out/a/b") & 0o700, 0o700);
}

#[test]
fn the_mode_is_the_configured_or_the_old_or_0644() {
    let dir = one_shot("");
    remco(&dir).once().expect_code(0);
    assert_eq!(dir.mode("out/app.conf"), 0o644, "new, and none configured");

    dir.write("data.json", r#"{"greeting": "again"}"#);
    dir.set_mode("out/app.conf", 0o600);
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("out/app.conf", "again\n"));
    assert_eq!(dir.mode("out/app.conf"), 0o600, "not configured: kept");

    for (written, mode) in [("0640", 0o640), ("0o604", 0o604), ("0x1a4", 0o644), ("640", 0o640), ("04755", 0o4755)] {
        let dir = one_shot(&format!("mode = \"{written}\""));
        dir.write("out/app.conf", "old\n");
        remco(&dir).once().expect_code(0);
        assert_eq!(dir.mode("out/app.conf"), mode, "mode = {written:?}");
    }
}

#[test]
fn a_wrong_mode_is_repaired() {
    let dir = one_shot("mode = \"0640\"\nreload_cmd = \"echo >> reloads\"");
    remco(&dir).once().expect_code(0);
    dir.set_mode("out/app.conf", 0o666);
    remco(&dir).once().expect_code(0);
    assert_eq!(dir.mode("out/app.conf"), 0o640);
    assert_eq!(dir.lines("reloads"), 2);
}

#[test]
fn an_owner_is_set_compared_and_left_alone() {
    let dir = one_shot("UID = 12345\nGID = 23456\ncheck_cmd = \"stat -c %u:%g {{.src}} > owner\"");
    let owner = |dir: &TempDir| fs::metadata(dir.at("out/app.conf")).map(|m| (m.uid(), m.gid())).ok();
    if !rustix::process::geteuid().is_root() {
        remco(&dir).once().expect_code(1);
        assert_eq!(owner(&dir), None, "a failed chown replaces nothing");
        return;
    }
    remco(&dir).once().expect_code(0);
    assert_eq!(owner(&dir), Some((12345, 23456)));
    assert!(dir.holds("owner", "12345:23456\n"), "before the check command");
    std::os::unix::fs::chown(dir.at("out/app.conf"), Some(1), Some(1)).expect("we are root");
    remco(&dir).once().expect_code(0).expect_log(UPDATED);
    assert_eq!(owner(&dir), Some((12345, 23456)), "drift of the owner is repaired");

    let dir = one_shot("");
    dir.write("out/app.conf", "hello\n");
    std::os::unix::fs::chown(dir.at("out/app.conf"), Some(777), Some(777)).expect("we are root");
    remco(&dir).once().expect_code(0).expect_no_log(UPDATED);
    assert_eq!(owner(&dir), Some((777, 777)), "not configured: neither changed nor compared");
}

#[test]
fn a_failed_chown_replaces_nothing() {
    let dir = one_shot("UID = 12345\nreload_cmd = \"echo >> reloads\"");
    dir.write("out/app.conf", "old\n");
    let (_, program) = Trace::with_fault(remco(&dir), &dir, "fchown,fchownat,chown,lchown:error=EPERM");
    program.once().expect_code(1).expect_no_log(UPDATED);
    assert!(dir.holds("out/app.conf", "old\n"));
    assert_eq!(dir.names("out"), ["app.conf"]);
    assert_eq!(dir.lines("reloads"), 0);
}

/// A user other than root may give a group it is in, but no file away.
#[test]
fn an_owner_that_cannot_be_kept_is_no_error() {
    let owned_by_others = || {
        let dir = one_shot("");
        dir.write("out/app.conf", "old\n");
        std::os::unix::fs::chown(dir.at("out/app.conf"), Some(777), Some(888)).expect("we are root");
        dir
    };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let owner = |dir: &TempDir| fs::metadata(dir.at("out/app.conf")).map(|m| (m.uid(), m.gid())).ok();
    let dir = owned_by_others();
    let (_, program) = Trace::with_fault(remco(&dir), &dir, "fchown:error=EPERM:when=1");
    program.once().expect_code(0).expect_log(UPDATED);
    assert_eq!(owner(&dir), Some((0, 888)), "the group is kept");

    // In a container: a number that is none of the container's.
    let dir = owned_by_others();
    let (_, program) = Trace::with_fault(remco(&dir), &dir, "fchown:error=EINVAL");
    program.once().expect_code(0).expect_log(UPDATED);
    assert_eq!(owner(&dir), Some((0, 0)));
}

#[test]
fn a_disk_that_fails_keeps_the_old_file() {
    for fault in ["fsync,fdatasync:error=EIO", "rename,renameat,renameat2:error=EROFS", "fchmod:error=EPERM"] {
        let dir = one_shot("mode = \"0640\"\nreload_cmd = \"echo >> reloads\"");
        dir.write("out/app.conf", "old\n");
        let (_, program) = Trace::with_fault(remco(&dir), &dir, fault);
        program.once().expect_code(1).expect_log("out/").expect_no_log(UPDATED);
        assert!(dir.holds("out/app.conf", "old\n"), "{fault}");
        assert_eq!(dir.names("out"), ["app.conf"], "{fault}");
        assert_eq!(dir.lines("reloads"), 0, "{fault}");
    }
}

#[test]
fn a_full_disk_keeps_the_old_file() {
    in_own_namespace("output::a_full_disk_keeps_the_old_file", || {
        let dir = one_shot("");
        let out = dir.at("out").to_string_lossy().into_owned();
        run(&["mount", "-t", "tmpfs", "-o", "size=16k", "none", &out]);
        dir.write("out/app.conf", "old\n");
        dir.write("data.json", format!("{{\"greeting\": \"{}\"}}", "x".repeat(100_000)));
        remco(&dir).once().expect_code(1).expect_log("out/").expect_no_log(UPDATED);
        assert!(dir.holds("out/app.conf", "old\n"));
        assert_eq!(dir.names("out"), ["app.conf"]);
        run(&["umount", &out]);
    });
}

#[test]
fn the_target_of_a_symlink_is_replaced() {
    let dir = one_shot("");
    dir.write("elsewhere/real.conf", "old\n");
    symlink("../elsewhere/real.conf", dir.at("out/app.conf")).expect("the folder is new");
    remco(&dir).once().expect_code(0).expect_log(UPDATED);
    assert!(fs::symlink_metadata(dir.at("out/app.conf")).expect("it is there").is_symlink(), "the link stays");
    assert!(dir.holds("elsewhere/real.conf", "hello\n"));
    assert_eq!(dir.names("elsewhere"), ["real.conf"]);
}

/// A file that a container runtime has mounted cannot be renamed over: the kernel says EBUSY.
#[test]
fn a_mounted_file_is_written_in_place() {
    in_own_namespace("output::a_mounted_file_is_written_in_place", || {
        let dir = one_shot("reload_cmd = \"echo >> reloads\"");
        dir.write("mounted", "a longer text than the new one\n");
        dir.write("out/app.conf", "");
        let (mounted, dst) = (dir.at("mounted"), dir.at("out/app.conf"));
        run(&["mount", "--bind", &mounted.to_string_lossy(), &dst.to_string_lossy()]);
        let inode = fs::metadata(&dst).expect("it is mounted").ino();
        remco(&dir).once().expect_code(0).expect_log(UPDATED);
        assert!(dir.holds("mounted", "hello\n"), "the file behind the mount has the new text");
        assert_eq!(fs::metadata(&dst).expect("it is mounted").ino(), inode);
        assert_eq!(dir.names("out"), ["app.conf"]);
        assert_eq!(dir.lines("reloads"), 1);
        remco(&dir).once().expect_code(0).expect_no_log(UPDATED);
        assert_eq!(dir.lines("reloads"), 1);
        run(&["umount", &dst.to_string_lossy()]);
    });
}

/// Only its owner may change a file's mode, but others may be allowed to write it.
#[test]
fn a_mounted_file_of_somebody_else_is_written() {
    in_own_namespace("output::a_mounted_file_of_somebody_else_is_written", || {
        let dir = one_shot("");
        dir.write("mounted", "old\n");
        dir.write("out/app.conf", "");
        let (mounted, dst) = (dir.at("mounted"), dir.at("out/app.conf"));
        run(&["mount", "--bind", &mounted.to_string_lossy(), &dst.to_string_lossy()]);
        // The first is that of the stage file.
        let (_, program) = Trace::with_fault(remco(&dir), &dir, "fchmod:error=EPERM:when=2+");
        program.once().expect_code(0).expect_log(UPDATED);
        assert!(dir.holds("mounted", "hello\n"));
        run(&["umount", &dst.to_string_lossy()]);
    });
}

/// remco said "updated", reloaded and ended with 0, and the file was as before.
#[test]
fn fault_09_a_read_only_mount_is_an_error() {
    in_own_namespace("output::fault_09_a_read_only_mount_is_an_error", || {
        let dir = one_shot("reload_cmd = \"echo >> reloads\"");
        dir.write("mounted", "old\n");
        dir.write("out/app.conf", "");
        let (mounted, dst) = (dir.at("mounted"), dir.at("out/app.conf"));
        run(&["mount", "--bind", &mounted.to_string_lossy(), &dst.to_string_lossy()]);
        run(&["mount", "-o", "remount,bind,ro", &dst.to_string_lossy()]);
        remco(&dir).once().expect_code(1).expect_log("out/app.conf").expect_no_log(UPDATED);
        assert!(dir.holds("mounted", "old\n"));
        assert_eq!(dir.lines("reloads"), 0);
        assert_eq!(dir.names("out"), ["app.conf"]);
        run(&["umount", &dst.to_string_lossy()]);
    });
}

#[test]
fn a_fifo_gets_the_text_and_stays_a_fifo() {
    let dir = one_shot("dst = \"out/pipe\"");
    run(&["mkfifo", &dir.at("out/pipe").to_string_lossy()]);
    // A reader that is there already; without one the program would have nobody to write to.
    let mut reader = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(dir.at("out/pipe"))
        .expect("a fifo opens for reading at once");
    remco(&dir).once().expect_code(0);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("the writer has gone");
    assert_eq!(text, "hello\n");
    assert!(fs::symlink_metadata(dir.at("out/pipe")).expect("it is there").file_type().is_fifo());
    assert_eq!(dir.names("out"), ["pipe"]);
}

#[test]
fn standard_output_can_be_a_destination() {
    for dst in ["/dev/stdout", "/dev/fd/1"] {
        let dir = one_shot(&format!("dst = \"{dst}\""));
        let piped = remco(&dir).once().expect_code(0);
        assert_eq!(String::from_utf8_lossy(&piped.stdout), "hello\n", "{dst} as a pipe");

        let file = File::create(dir.at("captured")).expect("the folder is new");
        remco(&dir).arg("-onetime").stdout(file).expect_code(0);
        assert!(dir.holds("captured", "hello\n"), "{dst} as a file: {:?}", dir.read("captured"));
    }
}

#[test]
fn drift_is_repaired_at_the_interval() {
    let dir = folder("mode = \"0644\"\nreload_cmd = \"echo >> reloads\"", "interval = 1");
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out/app.conf", "hello\n"));
    dir.write("out/app.conf", "somebody was here\n");
    wait_until("the text is repaired", LIMIT, || dir.holds("out/app.conf", "hello\n"));
    dir.set_mode("out/app.conf", 0o600);
    wait_until("the mode is repaired", LIMIT, || dir.mode("out/app.conf") == 0o644);
    fs::remove_file(dir.at("out/app.conf")).expect("it is there");
    wait_until("the file is back", LIMIT, || dir.holds("out/app.conf", "hello\n"));
    wait_until("each repair was followed by a reload", LIMIT, || dir.lines("reloads") == 4);
    program.stop();
}

/// The service's first start stands in for checks and reloads of its first files.
#[test]
fn the_start_command_comes_once_and_instead_of_the_first_reload() {
    let dir = folder("check_cmd = \"echo check >> order\"\nreload_cmd = \"echo reload >> order\"", "watch = true");
    let config = dir.read("config.toml").expect("just written");
    dir.write("config.toml", config.replace("name = \"app\"", "name = \"app\"\nstart_cmd = \"echo start >> order\""));
    let program = remco(&dir).start();
    wait_until("the start", LIMIT, || dir.holds("order", "start\n"));
    dir.replace("data.json", r#"{"greeting": "again"}"#);
    wait_until("the reload", LIMIT, || dir.holds("order", "start\ncheck\nreload\n"));
    program.stop();
}

/// Both templates of a resource are rendered from one set of keys, in order.
#[test]
fn the_templates_of_a_resource_come_in_order() {
    let dir = one_shot("reload_cmd = \"echo first >> order\"");
    let config = dir.read("config.toml").expect("just written");
    let second =
        "[[resource.template]]\nsrc = \"app.tmpl\"\ndst = \"out/b.conf\"\nreload_cmd = \"echo second >> order\"\n";
    dir.write("config.toml", config.replace("[resource.backend.file]", &format!("{second}[resource.backend.file]")));
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("out/b.conf", "hello\n"));
    assert!(dir.holds("order", "first\nsecond\n"));
}

#[test]
fn the_reload_command_of_a_resource_waits_for_the_second_render() {
    let dir = folder("", "watch = true");
    let config = dir.read("config.toml").expect("just written");
    dir.write("config.toml", config.replace("name = \"app\"", "name = \"app\"\nreload_cmd = \"echo >> reloads\""));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out/app.conf", "hello\n"));
    dir.replace("data.json", r#"{"greeting": "again"}"#);
    wait_until("the second render", LIMIT, || dir.holds("out/app.conf", "again\n"));
    wait_until("the reload", LIMIT, || dir.lines("reloads") > 0);
    program.stop();
    assert_eq!(dir.lines("reloads"), 1, "none on the first render");
}

/// A check command that is not there says so, and keeps the old file.
#[test]
fn a_missing_command_is_named() {
    let dir = one_shot("check_cmd = \"no-such-command {{.src}}\"");
    remco(&dir).once().expect_code(1).expect_log("no-such-command").expect_log("127");
    assert_eq!(dir.read("out/app.conf"), None);
}

/// A template that would never end is an error that says so, and the old file stays.
#[test]
fn limits_of_the_configuration_hold() {
    let dir = one_shot("");
    dir.write("out/app.conf", "old\n");
    let config = dir.read("config.toml").expect("just written");
    dir.write(
        "app.tmpl",
        "{% for a in printf(\"%1000s\", \"\") %}{% for b in printf(\"%1000s\", \"\") %}{{ a }}{% endfor %}{% endfor %}",
    );
    dir.write("config.toml", format!("{config}\n[limits]\ntemplate_steps = 5000\n"));
    remco(&dir).once().expect_code(1).expect_log("the template takes more than 5000 steps");
    dir.write("app.tmpl", "{{ printf(\"%1500s\", \"\") }}{{ printf(\"%1500s\", \"\") }}");
    dir.write("config.toml", format!("{config}\n[limits]\ntemplate_output = 2000\n"));
    remco(&dir).once().expect_code(1).expect_log("the result is larger than 2000 bytes");
    assert!(dir.holds("out/app.conf", "old\n"));
}
