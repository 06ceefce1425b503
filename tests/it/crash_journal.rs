//! Kills the program between the renames of `commit = "together"`, and starts it again without the store: with a
//! `state_dir` the start finishes all renames or none. The store is a file.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};

use remco::state::journal::Journal;
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

use crate::crash::{Call, calls_of};
use crate::crash_reload::changes_something;
use crate::support::{Finished, TempDir, remco};

const NAMES: [&str; 3] = ["a", "b", "c"];
const JOURNAL: &str = "state/app.journal";
const FINISHED: &str = "files that a killed run was replacing together are in place";
const REFUSED: &str = "a file that was replaced together with others cannot be finished, all stay as they are";

/// A folder with three old files. `keys` are further ones of each template.
fn folder(keys: [&str; 3]) -> TempDir {
    let dir = TempDir::new();
    bring_back(&dir);
    dir.write("app.tmpl", "{{ getv(\"/text\") }}\n");
    NAMES.iter().for_each(|name| dir.write(&format!("out/{name}"), "the old one\n"));
    configure(&dir, &NAMES, keys);
    dir
}

fn configure(dir: &TempDir, names: &[&str], keys: [&str; 3]) {
    let mut config = "state_dir = \"state\"\n[[resource]]\nname = \"app\"\ncommit = \"together\"\n".to_owned();
    for (name, keys) in names.iter().zip(keys) {
        config += &format!("[[resource.template]]\nsrc = \"app.tmpl\"\ndst = \"out/{name}\"\n{keys}\n");
        config += &format!("reload_cmd = \"echo {name} >> reloads\"\n");
    }
    config += "[resource.backend.file]\nfilepath = \"data.json\"\nkeys = [\"/\"]\nwatch = true\n";
    dir.replace("config.toml", config);
}

/// The store has its keys again.
fn bring_back(dir: &TempDir) {
    dir.replace("data.json", r#"{"text": "new"}"#);
}

/// Kills the program instead of the rename to the file of this name. The store is gone then.
fn killed_at(name: &str, keys: [&str; 3]) -> TempDir {
    let calls = calls_of(&folder(keys), 0);
    let target = format!("\"{name}\")");
    let call = calls.iter().find(|call| call.name == "renameat" && call.text.contains(&target));
    let call = call.unwrap_or_else(|| panic!("no rename to {name}: {calls:#?}"));
    let dir = folder(keys);
    kill_in(&dir, call);
    dir
}

/// Kills the program in this call. The store is gone then.
fn kill_in(dir: &TempDir, call: &Call) {
    let inject = format!("inject={}:signal=KILL:when={}", call.name, call.ordinal);
    let only = format!("trace={}", call.name);
    remco(dir).under(&["strace", "-D", "-q", "-o", "/dev/null", "-e", &only, "-e", &inject]).once();
    fs::remove_file(dir.at("data.json")).expect("it was there");
}

/// Which files are new.
fn new(dir: &TempDir) -> String {
    let is_new = |name: &&str| match &*dir.read(&format!("out/{name}")).expect("it is there") {
        "new\n" => true,
        "the old one\n" => false,
        other => panic!("{name} is {other}"),
    };
    NAMES.iter().copied().filter(is_new).collect()
}

fn reloads(dir: &TempDir) -> String {
    dir.read("reloads").unwrap_or_default().replace('\n', " ")
}

fn start_without_store(dir: &TempDir) -> Finished {
    remco(dir).once().expect_code(1)
}

/// The store is back: everything is in place, and nothing of ours is left.
fn comes_right(dir: &TempDir) -> Finished {
    bring_back(dir);
    let finished = remco(dir).once().expect_code(0);
    assert_eq!(new(dir), "abc");
    let names = dir.names("out");
    assert!(names.iter().all(|name| NAMES.contains(&name.trim_end_matches(".bak"))), "{names:?}");
    assert_eq!(dir.names("state"), ["app.keys", "lock"]);
    finished
}

fn stage_of(dir: &TempDir, name: &str) -> String {
    let is_stage = |file: &String| file.starts_with(&format!(".{name}")) && !file.contains(".old");
    let stage = dir.names("out").into_iter().find(is_stage).expect("a stage file was left");
    format!("out/{stage}")
}

#[test]
fn the_start_finishes_without_a_store_and_the_reloads_follow_with_it() {
    for (at, new_before, count) in [("a", "", 3), ("b", "a", 2), ("c", "ab", 1)] {
        let dir = killed_at(at, [""; 3]);
        assert_eq!(new(&dir), new_before);
        let next = start_without_store(&dir);
        next.expect_log(&format!("{FINISHED} finished={count}")).expect_no_log(REFUSED);
        assert_eq!((&*new(&dir), dir.names("out")), ("abc", NAMES.map(str::to_owned).into()), "killed at {at}");
        assert!(!dir.at(JOURNAL).exists() && dir.at("state/app.reloads").exists());
        start_without_store(&dir).expect_no_log(FINISHED);
        comes_right(&dir).expect_no_log("target config has been updated");
        assert_eq!(reloads(&dir), "a b c ", "killed at {at}");
    }
}

/// Whatever the last system call was: without a store the next start leaves all files old or all new.
#[test]
fn files_of_two_updates_never_stay_side_by_side() {
    let calls = calls_of(&folder([""; 3]), 0);
    let is_stage = |call: &Call| call.text.contains("\".a") && call.text.contains("O_EXCL");
    let first = calls.iter().position(is_stage).expect("a stage file is created");
    let is_last = |call: &Call| call.name == "renameat" && call.text.contains("\"c\")");
    let last = calls.iter().position(is_last).expect("the last file is renamed");
    let (mut finished, mut torn) = (0, 0);
    // Before each other call all is as before the one that changes something next.
    for call in calls[first..=last].iter().filter(|call| changes_something(call)) {
        let dir = folder([""; 3]);
        kill_in(&dir, call);
        let killed = new(&dir);
        let next = start_without_store(&dir);
        let now = new(&dir);
        assert!(["", "abc"].contains(&&*now), "after a kill in {call:?}: {now}\n{}", next.log);
        assert_eq!(dir.names("out"), NAMES, "after a kill in {call:?}:\n{}", next.log);
        torn += usize::from(!["", "abc"].contains(&&*killed));
        finished += usize::from(now != killed);
        comes_right(&dir);
        for name in NAMES {
            assert!(reloads(&dir).contains(name), "after a kill in {call:?}: {}", reloads(&dir));
        }
    }
    assert!(torn >= 2 && finished >= torn, "{torn} kills were between two renames, {finished} were finished");
}

/// A journal that cannot be written holds no update up.
#[test]
fn an_update_goes_on_without_its_journal() {
    let dir = folder([""; 3]);
    dir.write("state/app.journal.new/x", "");
    dir.set_mode("state", 0o700);
    let finished = remco(&dir).once().expect_code(0);
    finished.expect_log("failed to write `state/app.journal`").expect_log("after a crash now, some files");
    assert_eq!((&*new(&dir), &*reloads(&dir)), ("abc", "a b c "));
}

/// Behind the last rename nothing is left to finish, and that is no line.
#[test]
fn what_was_renamed_is_taken_for_finished() {
    let dir = killed_at("c", [""; 3]);
    let journal = fs::read(dir.at(JOURNAL)).expect("it was written");
    start_without_store(&dir);
    fs::write(dir.at(JOURNAL), journal).expect("it is written again");
    start_without_store(&dir).expect_no_log(FINISHED).expect_no_log("level=warn");
    assert_eq!((&*new(&dir), dir.at(JOURNAL).exists()), ("abc", false));
    comes_right(&dir);
}

#[test]
fn owner_mode_and_backup_come_with_the_content() {
    let owner = if geteuid().is_root() { "UID = 12345\nGID = 23456\nbackup = true" } else { "backup = true" };
    let dir = killed_at("b", ["mode = \"0640\"", owner, ""]);
    start_without_store(&dir).expect_log("finished=2");
    let of = |name: &str| fs::metadata(dir.at(name)).expect("it is there");
    assert_eq!((of("out/a").mode() & 0o7777, new(&dir)), (0o640, "abc".to_owned()));
    if geteuid().is_root() {
        assert_eq!((of("out/b").uid(), of("out/b").gid()), (12345, 23456));
    }
    assert!(dir.holds("out/b.bak", "the old one\n"));
    comes_right(&dir);
    // What a check command has made of the file is what is renamed.
    let dir = killed_at("b", ["", "", "check_cmd = \"sh -c 'echo checked >> {{.src}}'\""]);
    start_without_store(&dir).expect_log("finished=2");
    assert!(dir.holds("out/c", "new\nchecked\n"));
}

/// What happens to a folder and the stage file of this name.
type Change = &'static dyn Fn(&TempDir, &str);

/// Something happens to the stage of `c` after the kill. Then `b` stays old, too.
#[test]
fn all_stay_as_they_are_where_one_cannot_be_finished() {
    let changed = "is not as it was written";
    let cases: [(&str, Change); 8] = [
        (changed, &|dir, stage| dir.write(stage, "NEW\n")),
        (changed, &|dir, stage| dir.write(stage, "new\nand more\n")),
        (changed, &|dir, stage| dir.set_mode(stage, 0o666)),
        (changed, &|dir, stage| fs::hard_link(dir.at(stage), dir.at("other")).expect("a link")),
        ("is no regular file any more", &|dir, stage| {
            fs::rename(dir.at(stage), dir.at("other")).expect("it is moved");
            symlink("../other", dir.at(stage)).expect("a link");
        }),
        ("is gone", &|dir, stage| fs::remove_file(dir.at(stage)).expect("it is removed")),
        ("no template has this `dst`", &|dir, _| configure(dir, &NAMES[..2], [""; 3])),
        ("it would not be replaced by the stage file", &|dir, _| configure(dir, &NAMES, ["", "", "in_place = true"])),
    ];
    for (why, change) in cases {
        let dir = killed_at("b", [""; 3]);
        let stage = stage_of(&dir, "c");
        change(&dir, &stage);
        let next = start_without_store(&dir);
        next.expect_log(REFUSED).expect_log("config=out/c").expect_log(why).expect_no_log(FINISHED);
        assert_eq!((&*new(&dir), dir.at(JOURNAL).exists()), ("a", false), "{why}");
        configure(&dir, &NAMES, [""; 3]);
        // A link is not remco's, and stays.
        let _ = fs::remove_file(dir.at(&stage));
        comes_right(&dir);
    }
}

#[test]
fn a_stage_in_use_is_not_renamed() {
    let dir = killed_at("b", [""; 3]);
    let stage = stage_of(&dir, "c");
    let other = File::open(dir.at(&stage)).expect("it can be read");
    flock(&other, FlockOperation::NonBlockingLockExclusive).expect("the killed program has no lock");
    start_without_store(&dir).expect_log("another process uses its stage file");
    assert_eq!((&*new(&dir), dir.at(&stage).exists()), ("a", true));
    drop(other);
    comes_right(&dir);
}

#[test]
fn a_journal_that_is_damaged_is_told_and_dropped() {
    for torn in [0, 20] {
        let dir = killed_at("b", [""; 3]);
        let journal = fs::read(dir.at(JOURNAL)).expect("it was written");
        assert_eq!(Journal::decode(&journal).expect("it is whole").files.len(), 3);
        fs::write(dir.at(JOURNAL), &journal[..torn]).expect("it is torn");
        let next = start_without_store(&dir);
        next.expect_log("failed to use `state/app.journal`").expect_log("some files that belong together may be old");
        assert_eq!((&*new(&dir), dir.at(JOURNAL).exists()), ("a", false), "{torn}");
        comes_right(&dir);
    }
}

/// A run without commands finishes the files and leaves the reloads, and one that looks touches nothing.
#[test]
fn runs_without_commands_finish_and_runs_that_look_do_not() {
    let dir = killed_at("b", [""; 3]);
    let before = (dir.names("out"), dir.names("state"));
    for look in ["--dry-run", "--explain", "--keys"] {
        remco(&dir).arg(look).run();
        assert_eq!((&*new(&dir), (dir.names("out"), dir.names("state"))), ("a", before.clone()), "{look}");
    }
    remco(&dir).arg("-onetime").arg("--no-commands").run().expect_code(1).expect_log(FINISHED);
    assert_eq!((&*new(&dir), dir.at("state/app.reloads").exists()), ("abc", true));
    assert_eq!(reloads(&dir), "");
    comes_right(&dir);
    assert_eq!(reloads(&dir), "a b c ");
}

/// Where one of the files is written to, finishing the others could leave files that do not belong together.
#[test]
fn files_that_are_not_all_renamed_have_no_journal() {
    let dir = killed_at("c", ["", "in_place = true", ""]);
    assert_eq!((&*new(&dir), dir.at(JOURNAL).exists()), ("ab", false));
    start_without_store(&dir).expect_no_log(FINISHED);
    assert_eq!(new(&dir), "ab");
    comes_right(&dir);
}
