//! Access control lists and extended attributes pass from the old file to the new one. The tests write the lists as the
//! kernel's attribute, so that they need no package.

use std::fs;
use std::io::Write;
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::support::{LIMIT, TempDir, Trace, in_own_namespace, remco, resource, run, wait_until};

const ACCESS: &str = "system.posix_acl_access";
const INHERITED: &str = "system.posix_acl_default";
const UPDATED: &str = "target config has been updated";

/// `user::6 user:1234:4 group::G mask::M other::0`, as the kernel has it.
fn list(owner: u16, user: u16, group: u16, mask: u16, other: u16) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, allowed, id) in
        [(1, owner, u32::MAX), (2, user, 1234), (4, group, u32::MAX), (0x10, mask, u32::MAX), (0x20, other, u32::MAX)]
    {
        let (tag, allowed): (u16, u16) = (tag, allowed);
        bytes.extend(tag.to_le_bytes().into_iter().chain(allowed.to_le_bytes()).chain(id.to_le_bytes()));
    }
    bytes
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn set(path: &Path, name: &str, value: &[u8]) {
    setxattr(path, name, value, XattrFlags::empty()).expect("the file system has attributes");
}

/// A folder with a file `out/app.conf` that is to be replaced. `None`, with the reason printed, where the file system of
/// temporary files has no access control lists.
fn folder(test: &str, template: &str, backend: &str) -> Option<TempDir> {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    let config = resource("app").template("app.tmpl", "out/app.conf").lines(template);
    config.file("data.json").lines(backend).write(&dir);
    dir.write("out/app.conf", "old\n");
    dir.write("probe", "");
    let probed = setxattr(dir.at("probe"), ACCESS, &list(6, 4, 4, 4, 0), XattrFlags::empty());
    if let Err(e) = probed {
        let text = format!("test permissions::{test} ... skipped: no access control lists on temporary files: {e}\n");
        let _ = std::io::stderr().write_all(text.as_bytes());
        return None;
    }
    Some(dir)
}

#[test]
fn a_list_and_attributes_are_carried_over() {
    let Some(dir) = folder("a_list_and_attributes_are_carried_over", "", "onetime = true") else { return };
    let dst = dir.at("out/app.conf");
    set(&dst, ACCESS, &list(6, 4, 0, 4, 0));
    set(&dst, "user.note", b"keep me");
    set(&dst, "user.empty", b"");
    remco(&dir).once().expect_code(0).expect_log(UPDATED).expect_no_log("WARN");
    assert!(dir.holds("out/app.conf", "hello\n"));
    assert_eq!(attribute(&dst, ACCESS), Some(list(6, 4, 0, 4, 0)));
    assert_eq!(dir.mode("out/app.conf"), 0o640);
    assert_eq!(attribute(&dst, "user.note").as_deref(), Some(&b"keep me"[..]));
    assert_eq!(attribute(&dst, "user.empty").as_deref(), Some(&b""[..]));
    remco(&dir).once().expect_code(0).expect_no_log(UPDATED);
}

/// They would let the new content run with the rights that were given to the old one.
#[test]
fn capabilities_and_setuid_are_not_carried_over() {
    let Some(dir) = folder("capabilities_and_setuid_are_not_carried_over", "", "onetime = true") else { return };
    let dst = dir.at("out/app.conf");
    dir.set_mode("out/app.conf", 0o6755);
    if rustix::process::geteuid().is_root() {
        // cap_net_raw=ep, in version 2 of vfs_cap_data.
        set(&dst, "security.capability", &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    remco(&dir).once().expect_code(0).expect_log(UPDATED);
    assert_eq!(dir.mode("out/app.conf"), 0o755);
    assert_eq!(attribute(&dst, "security.capability"), None);
}

#[test]
fn a_list_of_the_directory_is_not_inherited() {
    for old in [true, false] {
        let Some(dir) = folder("a_list_of_the_directory_is_not_inherited", "", "onetime = true") else { return };
        set(&dir.at("out"), INHERITED, &list(7, 7, 7, 7, 0));
        if !old {
            fs::remove_file(dir.at("out/app.conf")).expect("it is there");
        }
        remco(&dir).once().expect_code(0).expect_log(UPDATED);
        assert_eq!(attribute(&dir.at("out/app.conf"), ACCESS), None);
        assert_eq!(dir.mode("out/app.conf"), 0o644);
    }
}

/// The mask is what st_mode shows as the group's bits.
#[test]
fn with_a_mode_the_list_follows_it() {
    let name = "with_a_mode_the_list_follows_it";
    let Some(dir) = folder(name, "mode = \"0751\"", "onetime = true") else { return };
    set(&dir.at("out/app.conf"), ACCESS, &list(6, 4, 2, 6, 0));
    remco(&dir).once().expect_code(0).expect_log(UPDATED);
    assert_eq!(attribute(&dir.at("out/app.conf"), ACCESS), Some(list(7, 4, 2, 5, 1)));
    assert_eq!(dir.mode("out/app.conf"), 0o751);
    remco(&dir).once().expect_code(0).expect_no_log(UPDATED);
}

/// With a mode that allows nothing yet: in no moment has the stage file the list without its final content.
#[test]
fn the_steps_come_in_order() {
    let Some(dir) = folder("the_steps_come_in_order", "mode = \"04750\"\nGID = 23456", "onetime = true") else {
        return;
    };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    set(&dir.at("out/app.conf"), ACCESS, &list(6, 4, 0, 4, 0));
    let (trace, program) = Trace::of(remco(&dir), &dir);
    let finished = program.once().expect_code(0);
    let calls = trace.calls(finished.pid);
    let names = calls.iter().map(|call| call.text.split('(').next().unwrap_or_default());
    let wanted = ["fremovexattr", "fchown", "fsetxattr", "fchmod", "renameat"];
    let order: Vec<&str> = names.filter(|name| wanted.contains(name)).collect();
    assert_eq!(order, wanted);
    assert_eq!(dir.mode("out/app.conf"), 0o4750);
}

/// The group's bits of a file with a list are its mask. A plain mode from them would let the group read.
#[test]
fn where_the_list_cannot_be_set_the_group_gets_no_more() {
    let name = "where_the_list_cannot_be_set_the_group_gets_no_more";
    for (mode, want) in [("", 0o600), ("mode = \"0640\"", 0o600), ("mode = \"0604\"", 0o604)] {
        let Some(dir) = folder(name, mode, "onetime = true") else { return };
        set(&dir.at("out/app.conf"), ACCESS, &list(6, 4, 0, 4, 0));
        let (_, program) = Trace::with_fault(remco(&dir), &dir, "fsetxattr:error=EOPNOTSUPP");
        program.once().expect_code(0).expect_log(UPDATED).expect_log("failed to set the access control list");
        assert_eq!(attribute(&dir.at("out/app.conf"), ACCESS), None, "{mode}");
        assert_eq!(dir.mode("out/app.conf"), want, "{mode}");
    }
}

#[test]
fn an_attribute_that_cannot_be_set_is_told() {
    let Some(dir) = folder("an_attribute_that_cannot_be_set_is_told", "", "onetime = true") else { return };
    set(&dir.at("out/app.conf"), "user.note", b"lost");
    let (_, program) = Trace::with_fault(remco(&dir), &dir, "fsetxattr:error=ENOSPC");
    let finished = program.once().expect_code(0).expect_log(UPDATED);
    finished.expect_log("failed to carry over the attribute `user.note`: no space left on device");
}

/// With a mode, what `setfacl` adds later is repaired as a changed mode is; and it is no reason to write for ever.
#[test]
fn a_list_that_drifted_is_repaired() {
    let name = "a_list_that_drifted_is_repaired";
    let Some(dir) = folder(name, "mode = \"0640\"", "interval = 1") else { return };
    let dst = dir.at("out/app.conf");
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out/app.conf", "hello\n"));
    // The mask is what the mode's group bits were: the mode tells nothing.
    set(&dst, ACCESS, &list(6, 4, 4, 4, 0));
    assert_eq!(dir.mode("out/app.conf"), 0o640);
    wait_until("the list is gone", LIMIT, || attribute(&dst, ACCESS).is_none());
    assert_eq!(dir.mode("out/app.conf"), 0o640);
    let log = program.stop().join("\n");
    assert_eq!(log.matches(UPDATED).count(), 2, "{log}");
}

/// Without a mode the permissions are the file's own.
#[test]
fn a_list_that_is_set_later_is_carried_over() {
    let name = "a_list_that_is_set_later_is_carried_over";
    let Some(dir) = folder(name, "", "watch = true") else { return };
    let dst = dir.at("out/app.conf");
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out/app.conf", "hello\n"));
    set(&dst, ACCESS, &list(6, 4, 0, 4, 0));
    dir.replace("data.json", r#"{"greeting": "again"}"#);
    wait_until("the second render", LIMIT, || dir.holds("out/app.conf", "again\n"));
    assert_eq!(attribute(&dst, ACCESS), Some(list(6, 4, 0, 4, 0)));
    program.stop();
}

/// A file that may be replaced but not read keeps its list.
#[test]
fn a_list_of_an_unreadable_file_is_carried_over() {
    let name = "a_list_of_an_unreadable_file_is_carried_over";
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Some(dir) = folder(name, "", "onetime = true") else { return };
    let dst = dir.at("out/app.conf");
    set(&dst, ACCESS, &list(6, 4, 0, 4, 0));
    run(&["chmod", "0755", &dir.at("").to_string_lossy()]);
    std::os::unix::fs::chown(dir.at("out"), Some(1), Some(1)).expect("we are root");
    let user = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups"];
    remco(&dir).under(&user).once().expect_code(0).expect_log(UPDATED).expect_log("`user.*` attributes are lost");
    assert_eq!(attribute(&dst, ACCESS), Some(list(6, 4, 0, 4, 0)));
}

/// A file system without access control lists and attributes.
#[test]
fn nothing_is_missed_where_there_are_no_lists() {
    in_own_namespace("permissions::nothing_is_missed_where_there_are_no_lists", || {
        let Some(dir) = folder("nothing_is_missed_where_there_are_no_lists", "mode = \"0640\"", "onetime = true")
        else {
            return;
        };
        run(&["mount", "-t", "ramfs", "none", &dir.at("out").to_string_lossy()]);
        dir.write("out/app.conf", "old\n");
        remco(&dir).once().expect_code(0).expect_log(UPDATED).expect_no_log("WARN");
        assert_eq!(dir.mode("out/app.conf"), 0o640);
        remco(&dir).once().expect_code(0).expect_no_log(UPDATED);
        run(&["umount", &dir.at("out").to_string_lossy()]);
    });
}
