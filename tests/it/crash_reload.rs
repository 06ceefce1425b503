//! Kills the program at each step of an update of three files whose last reload fails. A table states which files,
//! inodes and reloads remain after the next start, with a `state_dir`. With `REMCO_ALL_CALLS` in the environment the
//! program is killed at every system call.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::crash::{Call, calls_of};
use crate::support::{LIMIT, TempDir, remco, wait_until};

/// What a start leaves, wherever the run before it was killed.
struct Row {
    commit: &'static str,
    on_reload_failure: &'static str,
    /// The content of each file. One that is old has its old inode, too, and one that is new has another.
    files: [&'static str; 3],
    /// How often each reload runs if nothing is killed. A kill repeats a part of them.
    reloads: [usize; 3],
}

const TABLE: [Row; 4] = [
    Row { commit: "each", on_reload_failure: "keep", files: ["new", "new", "new"], reloads: [1, 1, 1] },
    Row { commit: "each", on_reload_failure: "rollback", files: ["new", "new", "old"], reloads: [1, 1, 2] },
    Row { commit: "together", on_reload_failure: "keep", files: ["new", "new", "new"], reloads: [1, 1, 1] },
    Row { commit: "together", on_reload_failure: "rollback", files: ["old", "old", "old"], reloads: [2, 2, 2] },
];

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Notes what each service has read. That of `c` refuses the new file until it is repaired.
const RELOAD: &str = "read text < out/$1\necho $1 $text >> reloads\ntest -e repaired || test \"$1 $text\" != 'c new'\n";

fn folder(row: &Row) -> TempDir {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"text": "new"}"#);
    dir.write("app.tmpl", "{{ getv(\"/text\") }}\n");
    dir.write("reload.sh", RELOAD);
    let mut config = format!(
        "state_dir = \"state\"\n[[resource]]\nname = \"app\"\ncommit = \"{}\"\non_reload_failure = \"{}\"\n",
        row.commit, row.on_reload_failure
    );
    for name in NAMES {
        dir.write(&format!("out/{name}"), "old\n");
        config += &format!("[[resource.template]]\nsrc = \"app.tmpl\"\ndst = \"out/{name}\"\n");
        config += &format!("reload_cmd = \"sh reload.sh {name}\"\n");
    }
    config += "[resource.backend.file]\nfilepath = \"data.json\"\nkeys = [\"/\"]\nwatch = true\n";
    dir.write("config.toml", config);
    dir
}

fn inodes(dir: &TempDir) -> [u64; 3] {
    NAMES.map(|name| fs::metadata(dir.at(&format!("out/{name}"))).expect("it is there").ino())
}

fn contents(dir: &TempDir) -> [String; 3] {
    NAMES.map(|name| dir.read(&format!("out/{name}")).expect("it is there").trim_end().to_owned())
}

/// What the service of a file has read, in order.
fn seen(dir: &TempDir, name: &str) -> Vec<String> {
    let lines = dir.read("reloads").unwrap_or_default();
    let seen = lines.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    seen.map(str::to_owned).collect()
}

/// A command outlives the program that is killed, and is in the same folder.
fn is_empty(dir: &TempDir) -> bool {
    let here = dir.at("").canonicalize().expect("it is there");
    let processes = fs::read_dir("/proc").expect("it is mounted").flatten();
    !processes.filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok()).any(|cwd| cwd == here)
}

/// Whether a call changes a file or a process, or waits for one.
pub fn changes_something(call: &Call) -> bool {
    const CHANGES: [&str; 12] =
        ["write", "rename", "link", "unlink", "chmod", "chown", "truncate", "fsync", "clone", "fork", "wait", "kill"];
    CHANGES.iter().any(|name| call.name.contains(name)) || call.text.contains("O_CREAT")
}

fn check(row: &Row) {
    let dir = folder(row);
    let calls = calls_of(&dir, 1);
    let first = calls.iter().position(|call| call.text.contains("\".a") && call.text.contains("O_EXCL"));
    let calls = &calls[first.expect("a stage file is created")..];
    // Behind the others the world is as before them.
    let is_all = std::env::var_os("REMCO_ALL_CALLS").is_some();
    let at_change = |at: &usize| is_all || calls[at.saturating_sub(1)..=*at].iter().any(changes_something);
    let calls: Vec<&Call> = (0..calls.len()).filter(at_change).map(|at| &calls[at]).collect();
    assert!(calls.len() > 60, "{calls:#?}");
    let mut torn = 0;
    for call in calls {
        let dir = folder(row);
        let old = inodes(&dir);
        let inject = format!("inject={}:signal=KILL:when={}", call.name, call.ordinal);
        let only = format!("trace={}", call.name);
        remco(&dir).under(&["strace", "-D", "-q", "-o", "/dev/null", "-e", &only, "-e", &inject]).once();
        wait_until("all has ended that was started", LIMIT, || is_empty(&dir));
        let killed = contents(&dir);
        assert!(killed.iter().all(|text| text == "old" || text == "new"), "{killed:?} after a kill in {call:?}");
        torn += usize::from(killed.iter().any(|text| *text != killed[0]));

        let next = remco(&dir).once();
        assert_eq!(next.code, Some(1), "after a kill in {call:?}:\n{}", next.log);
        assert_eq!(contents(&dir), row.files, "after a kill in {call:?}:\n{}", next.log);
        assert_eq!(dir.names("out"), NAMES, "after a kill in {call:?}");
        let now = inodes(&dir);
        for (t, name) in NAMES.iter().enumerate() {
            assert_eq!(now[t] == old[t], row.files[t] == "old", "the inode of {name} after a kill in {call:?}");
            let seen = seen(&dir, name);
            assert_eq!(seen.last().map(String::as_str), Some(row.files[t]), "{name} after a kill in {call:?}");
            let (least, most) = (row.reloads[t], 2 * row.reloads[t]);
            assert!((least..=most).contains(&seen.len()), "{name} was reloaded for {seen:?} after a kill in {call:?}");
        }

        dir.write("repaired", "");
        let last = remco(&dir).once();
        assert_eq!(last.code, Some(0), "after a kill in {call:?}:\n{}", last.log);
        assert_eq!(
            (contents(&dir), dir.names("out")),
            (NAMES.map(|_| "new".to_owned()), NAMES.map(str::to_owned).into())
        );
        assert!(NAMES.iter().all(|name| seen(&dir, name).last().is_some_and(|text| text == "new")), "{call:?}");
        assert!(!dir.at("state/app.reloads").exists(), "a reload is still owed after a kill in {call:?}");
    }
    assert!(torn > 5, "{torn} kills were between two files");
}

#[test]
fn each_and_keep() {
    check(&TABLE[0]);
}

#[test]
fn each_and_rollback() {
    check(&TABLE[1]);
}

#[test]
fn together_and_keep() {
    check(&TABLE[2]);
}

#[test]
fn together_and_rollback() {
    check(&TABLE[3]);
}
