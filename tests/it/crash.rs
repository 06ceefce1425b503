//! Kills the program, or injects an error, at every system call of an installation. The destination is then the old or
//! the new file, whole and with its mode, and the next start removes every leftover.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};

use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::support::{Finished, LIMIT, TempDir, Trace, in_own_namespace, remco, run, wait_until};

/// What an installation starts from and what it shall make of it.
struct Scene {
    /// Keys of the top level.
    top: &'static str,
    /// Further keys of the resource.
    resource: &'static str,
    /// Further keys of each template; the files are `out/a`, `out/b` and so on.
    templates: &'static [&'static str],
    before: Option<State>,
    after: State,
    /// Where it is written in place only the next start makes it whole.
    written: Written,
}

#[derive(PartialEq)]
enum Written {
    /// By a rename.
    Whole,
    /// Into a bind-mounted file.
    Mounted,
    /// Into the file that is there, as it is asked for.
    InPlace,
}

/// A file as others see it.
#[derive(Clone, Debug, PartialEq)]
struct State {
    content: String,
    mode: u32,
    owner: (u32, u32),
    /// The access control list, as the kernel's attribute; empty where there is none.
    list: Vec<u8>,
}

/// One system call of the program: the `ordinal`th of its name since the start.
#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub ordinal: usize,
    pub text: String,
}

/// In the folder from the beginning, named like a stage file but by somebody else.
const FOREIGN: &str = ".a0123456789";
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn state(content: &str, mode: u32, owner: (u32, u32)) -> State {
    State { content: content.to_owned(), mode, owner, list: Vec::new() }
}

/// `user::6 user:1234:4 group::0 mask::M other::0`, of a file whose mode shows the mask as the group's bits.
fn with_list(state: State) -> State {
    let mask = u16::try_from(state.mode >> 3 & 7).expect("three bits");
    let mut list = vec![2, 0, 0, 0];
    for (tag, allowed, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1234), (4, 0, u32::MAX), (0x10, mask, u32::MAX), (0x20, 0, u32::MAX)]
    {
        list.extend(tag.to_le_bytes().into_iter().chain(allowed.to_le_bytes()).chain(id.to_le_bytes()));
    }
    State { list, ..state }
}

const LIST: &str = "system.posix_acl_access";

fn new_file() -> Scene {
    let after = state("new\n", 0o644, me());
    Scene { top: "", resource: "", templates: &[""], before: None, after, written: Written::Whole }
}

fn replaced_file() -> Scene {
    let before = state("the old one\n", 0o604, me());
    Scene {
        top: "",
        resource: "",
        templates: &[""],
        before: Some(before),
        after: state("new\n", 0o604, me()),
        written: Written::Whole,
    }
}

/// Only root may give a file away; another user sees the mode change alone.
fn owner_and_mode() -> Scene {
    let before = state("the old one\n", 0o600, me());
    match rustix::process::geteuid().is_root() {
        true => Scene {
            top: "",
            resource: "",
            templates: &["mode = \"0640\"\nUID = 12345\nGID = 23456"],
            before: Some(before),
            after: state("new\n", 0o640, (12345, 23456)),
            written: Written::Whole,
        },
        false => Scene {
            top: "",
            resource: "",
            templates: &["mode = \"0640\""],
            before: Some(before),
            after: state("new\n", 0o640, me()),
            written: Written::Whole,
        },
    }
}

/// `None`, with the reason printed, where the file system of temporary files has no access control lists.
fn list_and_mode() -> Option<Scene> {
    let (before, after) = (state("the old one\n", 0o640, me()), state("new\n", 0o660, me()));
    let (before, after) = (with_list(before), with_list(after));
    let dir = TempDir::new();
    dir.write("probe", "");
    if let Err(e) = setxattr(dir.at("probe"), LIST, &before.list, XattrFlags::empty()) {
        let text = format!("test crash ... skipped: no access control lists on temporary files: {e}\n");
        let _ = std::io::stderr().write_all(text.as_bytes());
        return None;
    }
    Some(Scene { templates: &["mode = \"0660\""], before: Some(before), after, ..replaced_file() })
}

fn in_place() -> Scene {
    Scene { templates: &["mode = \"0640\"\nin_place = true"], written: Written::InPlace, ..mounted_file() }
}

fn several_templates() -> Scene {
    Scene { templates: &["", "check_cmd = \"true\"", "reload_cmd = \"true\""], ..replaced_file() }
}

/// All are checked, and each is reloaded.
fn together() -> Scene {
    const BOTH: &str = "check_cmd = \"true\"\nreload_cmd = \"true\"";
    Scene { templates: &["check_cmd = \"true\"", BOTH, ""], resource: TOGETHER, ..replaced_file() }
}

/// What is put back is that there was no file.
fn together_and_new() -> Scene {
    Scene { templates: &["", ""], resource: TOGETHER, ..new_file() }
}

fn with_backup(is_in_place: bool) -> Scene {
    match is_in_place {
        false => Scene { templates: &["backup = true"], ..replaced_file() },
        true => Scene { templates: &["backup = true\nin_place = true\nmode = \"0640\""], ..in_place() },
    }
}

const TOGETHER: &str = "commit = \"together\"\n";

fn mounted_file() -> Scene {
    let before = state(&"the old one, longer than the new one\n".repeat(1000), 0o604, me());
    Scene {
        top: "",
        resource: "",
        templates: &["mode = \"0640\""],
        before: Some(before),
        after: state("new\n", 0o640, me()),
        written: Written::Mounted,
    }
}

fn me() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

impl Scene {
    /// A folder in which everything is as before.
    fn folder(&self) -> TempDir {
        let dir = TempDir::new();
        dir.write("data.json", r#"{"text": "new"}"#);
        dir.write("app.tmpl", "{{ getv(\"/text\") }}\n");
        let mut config = format!("{}[[resource]]\nname = \"app\"\n{}", self.top, self.resource);
        for (keys, name) in self.templates.iter().zip(NAMES) {
            config += &format!("[[resource.template]]\nsrc = \"app.tmpl\"\ndst = \"out/{name}\"\n{keys}\n");
        }
        config += "[resource.backend.file]\nfilepath = \"data.json\"\nkeys = [\"/\"]\nwatch = true\n";
        dir.write("config.toml", config);
        dir.write(&format!("out/{FOREIGN}"), "");
        self.reset(&dir);
        if self.written == Written::Mounted {
            dir.write("mounted", "");
            let (mounted, dst) = (dir.at("mounted"), dir.at("out/a"));
            run(&["mount", "--bind", &mounted.to_string_lossy(), &dst.to_string_lossy()]);
            self.reset(&dir);
        }
        dir
    }

    fn reset(&self, dir: &TempDir) {
        let Some(before) = &self.before else { return };
        for name in self.names() {
            let name = format!("out/{name}");
            dir.write(&name, &before.content);
            let (uid, gid) = before.owner;
            chown(dir.at(&name), Some(uid), Some(gid)).expect("it is ours");
            dir.set_mode(&name, before.mode);
            if !before.list.is_empty() {
                setxattr(dir.at(&name), LIST, &before.list, XattrFlags::empty()).expect("it was probed");
            }
        }
    }

    fn names(&self) -> &'static [&'static str] {
        &NAMES[..self.templates.len()]
    }

    /// A folder for each run, or the same one again where making it is expensive.
    fn each_run(&self, calls: &[(Call, String)], mut check: impl FnMut(&TempDir, &Call, &str, Finished)) {
        let shared = (self.written == Written::Mounted).then(|| self.folder());
        for (call, fault) in calls {
            let own = shared.is_none().then(|| self.folder());
            let dir = own.as_ref().or(shared.as_ref()).expect("one of the two");
            self.reset(dir);
            let inject = format!("inject={}:{fault}:when={}", call.name, call.ordinal);
            let only = format!("trace={}", call.name);
            let finished =
                remco(dir).under(&["strace", "-D", "-q", "-o", "/dev/null", "-e", &only, "-e", &inject]).once();
            check(dir, call, fault, finished);
            // The next start finishes and cleans up, whatever happened.
            let next = remco(dir).once();
            assert_eq!(next.code, Some(0), "after {fault} in {call:?}:\n{}", next.log);
            for name in self.names() {
                assert_eq!(
                    found(dir, name).as_ref(),
                    Some(&self.after),
                    "{name} after {fault} in {call:?} and a start"
                );
            }
            assert_eq!(litter(dir), [FOREIGN], "after {fault} in {call:?} and a start");
        }
    }

    /// The installation's system calls, from the one that creates the first stage file to the end.
    fn calls(&self) -> Vec<Call> {
        let calls = self.all_calls();
        let first = calls.iter().position(|call| match self.written {
            Written::Whole | Written::Mounted => call.text.contains("\".a") && call.text.contains("O_EXCL"),
            Written::InPlace => call.text.contains("\"a\"") && call.text.contains("O_RDWR"),
        });
        let calls = calls.into_iter().skip(first.expect("a stage file is created"));
        // How often the loop looks for signals and polls depends on the speed of the machine.
        let calls: Vec<Call> = calls.filter(|call| !["recvfrom", "ppoll", "poll"].contains(&&*call.name)).collect();
        assert!(calls.len() > 15, "{calls:#?}");
        calls
    }

    fn all_calls(&self) -> Vec<Call> {
        calls_of(&self.folder(), 0)
    }

    /// Kills the program in each of the calls.
    fn killed_everywhere(&self) {
        let calls: Vec<(Call, String)> =
            self.calls().into_iter().map(|call| (call, "signal=KILL".to_owned())).collect();
        let mut survived = Vec::new();
        self.each_run(&calls, |dir, call, _, finished| {
            if finished.code.is_some() {
                survived.push(call.text.clone());
            }
            let states: Vec<Option<State>> = self.names().iter().map(|name| found(dir, name)).collect();
            if self.templates[0].starts_with("backup") {
                let old = self.before.as_ref().map(|before| &before.content);
                let content = |name| found(dir, name).map(|state| state.content);
                assert!(
                    [content("a"), content("a.bak")].contains(&old.cloned()),
                    "killed in {call:?}: the old file is lost"
                );
            }
            if self.written != Written::Whole {
                let mode = states[0].as_ref().expect("it is mounted").mode;
                assert!([self.before.as_ref().expect("it is there").mode, self.after.mode].contains(&mode), "{call:?}");
                return;
            }
            // In order: nothing new behind something old.
            let new = states.iter().take_while(|state| state.as_ref() == Some(&self.after)).count();
            for state in &states[new..] {
                assert_eq!(state, &self.before, "killed in {call:?}");
            }
            let staged = litter(dir);
            let ours = staged.iter().filter(|name| *name != FOREIGN);
            let (kept, ours): (Vec<&String>, Vec<&String>) =
                ours.partition(|name| name.contains(".old") || name.contains(".bak"));
            let most = if self.resource == TOGETHER { self.templates.len() } else { 1 };
            let most_kept = if most > 1 || self.templates[0].starts_with("backup") { most } else { 0 };
            assert!(ours.len() <= most && kept.len() <= most_kept, "{call:?}: {staged:?}");
            assert!(
                kept.is_empty() || new > 0 || ours.len() == most,
                "kept before all is staged, {call:?}: {staged:?}"
            );
            // Until it is complete nobody else can read it.
            for stage in ours.iter().filter_map(|name| found(dir, name)) {
                let is_open = stage.mode != 0o600 || stage.owner != me();
                assert!(!is_open || stage.content == self.after.content, "killed in {call:?}: {stage:?}");
            }
        });
        // Where commands run, the order of calls is the scheduler's, and a name may have one call less.
        let spared = if self.templates.len() > 1 { calls.len() / 4 } else { 0 };
        assert!(survived.len() <= spared, "of {} calls these did not come again: {survived:#?}", calls.len());
    }

    /// Has each of the calls fail in every way that is likely for it.
    fn fails_everywhere(&self) {
        let mut faults = Vec::new();
        for call in self.calls() {
            for error in errors(&call) {
                let Call { name, ordinal, text } = &call;
                let copy = Call { name: name.clone(), ordinal: *ordinal, text: text.clone() };
                faults.push((copy, format!("error={error}")));
            }
        }
        assert!(faults.len() > 15, "{faults:?}");
        self.each_run(&faults, |dir, call, fault, finished| {
            let new = self.names().iter().all(|name| found(dir, name).as_ref() == Some(&self.after));
            match finished.code {
                Some(0) => assert!(new, "success without the new file after {fault} in {call:?}:\n{}", finished.log),
                Some(1) => {
                    for name in self.names() {
                        let state = found(dir, name);
                        let in_place = state.as_ref().map(|state| &state.content);
                        let was = self.before.as_ref().map(|before| &before.content);
                        assert!(
                            state.as_ref() == Some(&self.after) || in_place == was,
                            "{fault} in {call:?}: {state:?}"
                        );
                    }
                    let is_new = |name: &&str| found(dir, name).as_ref() == Some(&self.after);
                    let count = self.names().iter().copied().filter(is_new).count();
                    assert!(self.resource != TOGETHER || count == 0, "{fault} in {call:?}: {count} are new");
                    assert!(finished.log.contains("failed to process"), "{fault} in {call:?}:\n{}", finished.log);
                    assert!(finished.log.contains("out/"), "{fault} in {call:?}:\n{}", finished.log);
                }
                code => panic!("exit code {code:?} after {fault} in {call:?}:\n{}", finished.log),
            }
            assert_eq!(litter(dir), [FOREIGN], "after {fault} in {call:?}");
            let vital = ["renameat", "fchmod", "fchown", "fremovexattr"].contains(&&*call.name)
                || call.text.contains("O_EXCL")
                || call.name == "write" && call.text.contains("\"new\\n\"");
            // A mount point says EBUSY to the rename; another error is one. What dressed the stage is repeated in place.
            assert!(
                !vital || self.written == Written::Mounted || finished.code == Some(1),
                "{fault} in {call:?} went unnoticed"
            );
        });
    }
}

/// The system calls of a one-shot run that ends with this code.
pub fn calls_of(dir: &TempDir, code: i32) -> Vec<Call> {
    let trace = dir.at("trace").to_string_lossy().into_owned();
    let finished = remco(dir).under(&["strace", "-D", "-q", "-s", "200", "-o", &trace]).once().expect_code(code);
    let mut text = String::new();
    // The tracer is not our child and may be a moment behind.
    wait_until("strace has written everything", LIMIT, || {
        text = dir.read("trace").unwrap_or_default();
        text.contains(&format!("+++ exited with {code} +++"))
    });
    let mut calls: Vec<Call> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase())) {
        let (name, _) = line.split_once('(').unwrap_or_else(|| panic!("no call: {line}"));
        let ordinal = 1 + calls.iter().filter(|call| call.name == name).count();
        calls.push(Call { name: name.to_owned(), ordinal, text: line.to_owned() });
    }
    assert!(!calls.is_empty(), "{}", finished.log);
    calls
}

/// What may go wrong in a call on a sick or full machine.
fn errors(call: &Call) -> &'static [&'static str] {
    match &*call.name {
        "open" | "openat" if call.text.contains("O_CREAT") => &["EMFILE", "EACCES", "EROFS", "ENOSPC"],
        "open" | "openat" => &["EMFILE", "EACCES"],
        "write" => &["ENOSPC", "EIO"],
        "fsync" | "fdatasync" | "ftruncate" | "lseek" | "statx" | "fstat" | "newfstatat" | "read" => &["EIO"],
        "fgetxattr" | "flistxattr" | "fremovexattr" => &["EIO"],
        "link" | "linkat" => &["EPERM", "EIO"],
        "rename" | "renameat" | "renameat2" => &["EIO", "EACCES", "EROFS"],
        "fchmod" | "fchown" => &["EPERM", "EROFS"],
        "flock" => &["ENOLCK"],
        "fallocate" => &["ENOSPC", "EOPNOTSUPP"],
        _ => &[],
    }
}

fn found(dir: &TempDir, name: &str) -> Option<State> {
    let path = dir.at(&format!("out/{name}"));
    let meta = fs::metadata(&path).ok()?;
    let content = fs::read_to_string(&path).expect("a file that is there");
    let mut list = vec![0; 256];
    let length = getxattr(&path, LIST, &mut list[..]).unwrap_or(0);
    list.truncate(length);
    Some(State { content, mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()), list })
}

/// What lies beside the destinations.
fn litter(dir: &TempDir) -> Vec<String> {
    dir.names("out").into_iter().filter(|name| !NAMES.contains(&name.trim_end_matches(".bak"))).collect()
}

#[test]
fn a_new_file_is_there_or_not() {
    new_file().killed_everywhere();
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    replaced_file().killed_everywhere();
}

#[test]
fn owner_and_mode_come_with_the_content() {
    owner_and_mode().killed_everywhere();
}

#[test]
fn several_templates_are_replaced_in_order() {
    several_templates().killed_everywhere();
}

/// With `state_dir` no reload is lost: the next start makes up what a killed program owes, and the start behind it owes nothing.
#[test]
fn a_reload_is_made_up_wherever_the_program_is_killed() {
    let alone = &["reload_cmd = \"echo >> reloads\""];
    made_up_everywhere(&Scene { top: STATE_DIR, templates: alone, ..replaced_file() });
    let together = &["", "reload_cmd = \"echo >> reloads\"", ""];
    made_up_everywhere(&Scene { top: STATE_DIR, resource: TOGETHER, templates: together, ..replaced_file() });
}

const STATE_DIR: &str = "state_dir = \"state\"\n";

fn made_up_everywhere(scene: &Scene) {
    let (mut replaced, mut made_up) = (0, 0);
    for call in scene.calls() {
        let dir = scene.folder();
        let inject = format!("inject={}:signal=KILL:when={}", call.name, call.ordinal);
        remco(&dir).under(&["strace", "-D", "-q", "-o", "/dev/null", "-e", &inject]).once();
        replaced += usize::from(found(&dir, "a").as_ref() == Some(&scene.after));
        let next = remco(&dir).once();
        assert_eq!(next.code, Some(0), "killed in {call:?}:\n{}", next.log);
        made_up += usize::from(next.log.contains("reloads of an earlier run are made up"));
        let reloads = dir.lines("reloads");
        // Twice where the first had run and that was not written yet.
        assert!([1, 2].contains(&reloads), "{reloads} reloads after a kill in {call:?}:\n{}", next.log);
        assert_eq!((found(&dir, "a").as_ref(), dir.names("state")), (Some(&scene.after), names(&["app.keys", "lock"])));
        remco(&dir).once().expect_code(0).expect_no_log("made up").expect_no_log("reload command");
    }
    assert!(replaced > 5 && made_up > 5, "{replaced} files were in place, {made_up} reloads made up");
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn files_that_belong_together_are_finished_by_the_next_start() {
    together().killed_everywhere();
    together_and_new().killed_everywhere();
}

/// Whenever it is killed, the old content is there by one name or the other.
#[test]
fn a_backup_is_there_before_the_old_file_goes() {
    with_backup(false).killed_everywhere();
    with_backup(true).killed_everywhere();
}

#[test]
fn errors_keep_the_old_file_with_its_backup() {
    with_backup(false).fails_everywhere();
}

#[test]
fn errors_keep_all_files_that_belong_together() {
    together().fails_everywhere();
    together_and_new().fails_everywhere();
}

#[test]
fn a_mounted_file_is_repaired_by_the_next_start() {
    in_own_namespace("crash::a_mounted_file_is_repaired_by_the_next_start", || mounted_file().killed_everywhere());
}

#[test]
fn a_list_comes_with_the_content() {
    list_and_mode().inspect(Scene::killed_everywhere);
}

#[test]
fn errors_keep_the_old_list() {
    list_and_mode().inspect(Scene::fails_everywhere);
}

#[test]
fn a_file_written_in_place_is_repaired_by_the_next_start() {
    in_place().killed_everywhere();
}

#[test]
fn errors_keep_the_content_of_a_file_written_in_place() {
    in_place().fails_everywhere();
}

#[test]
fn errors_keep_the_old_file() {
    owner_and_mode().fails_everywhere();
}

#[test]
fn errors_keep_the_content_of_a_mounted_file() {
    in_own_namespace("crash::errors_keep_the_content_of_a_mounted_file", || mounted_file().fails_everywhere());
}

/// Between the first and the last byte it is neither the old nor the new file, and a start sees that.
#[test]
fn a_torn_file_is_seen() {
    in_own_namespace("crash::a_torn_file_is_seen", || {
        let scene = mounted_file();
        let dir = scene.folder();
        let (_, program) = Trace::with_fault(remco(&dir), &dir, "ftruncate:signal=KILL");
        assert_eq!(program.once().code, None);
        let torn = dir.read("out/a").expect("it is mounted");
        assert!(torn.starts_with("new\n") && torn.ends_with("the old one, longer than the new one\n"), "{torn}");
        remco(&dir).once().expect_code(0).expect_log("target config has been updated");
        assert_eq!(found(&dir, "a"), Some(scene.after));
    });
}

/// 64 KB, of which the old file has half: the new one fits neither beside it nor into it.
#[test]
fn a_full_disk_keeps_a_mounted_file() {
    in_own_namespace("crash::a_full_disk_keeps_a_mounted_file", || {
        let dir = new_file().folder();
        let disk = dir.at("disk").to_string_lossy().into_owned();
        fs::create_dir(&disk).expect("the folder is new");
        run(&["mount", "-t", "tmpfs", "-o", "size=64k", "none", &disk]);
        let old = "old\n".repeat(8000);
        dir.write("disk/a", &old);
        dir.write("out/a", "");
        run(&["mount", "--bind", &format!("{disk}/a"), &dir.at("out/a").to_string_lossy()]);
        dir.write("data.json", format!("{{\"text\": \"{}\"}}", "x".repeat(100_000)));
        let failed = remco(&dir).once().expect_code(1);
        failed.expect_log(
            "failed to reserve space for `out/a`, a mount point that cannot be renamed over: no space left",
        );
        assert!(dir.holds("disk/a", &old));
        // A file system that cannot reserve: the old content is put back.
        let (_, program) = Trace::with_fault(remco(&dir), &dir, "fallocate:error=EOPNOTSUPP");
        program.once().expect_code(1).expect_log("failed to write `out/a`").expect_no_log("restore");
        assert!(dir.holds("disk/a", &old));
        assert_eq!(litter(&dir), [FOREIGN]);
        dir.write("data.json", r#"{"text": "new"}"#);
        remco(&dir).once().expect_code(0);
        assert!(dir.holds("disk/a", "new\n"));
    });
}

/// std ends the program where no memory is to be had: as good as a kill.
#[test]
fn no_memory_is_as_good_as_a_kill() {
    let scene = replaced_file();
    let calls = scene.all_calls().into_iter().filter(|call| ["brk", "mmap"].contains(&&*call.name));
    let faults: Vec<(Call, String)> = calls.map(|call| (call, "error=ENOMEM".to_owned())).collect();
    assert!(faults.len() > 5, "{faults:?}");
    scene.each_run(&faults, |dir, call, _, finished| {
        let state = found(dir, "a");
        let is = if finished.code == Some(0) { Some(&scene.after) } else { scene.before.as_ref() };
        assert_eq!(state.as_ref(), is, "without memory in {call:?}: {:?}\n{}", finished.code, finished.log);
    });
}

#[test]
fn too_few_descriptors_keep_the_old_file() {
    let scene = replaced_file();
    let mut enough = 0;
    for limit in 3..20 {
        let dir = scene.folder();
        let finished = remco(&dir).under(&["prlimit", &format!("--nofile={limit}:{limit}")]).once();
        let state = found(&dir, "a");
        match finished.code {
            Some(0) => {
                assert_eq!(state.as_ref(), Some(&scene.after), "{limit}");
                enough += 1;
            }
            // 127: not even its libraries could be opened.
            Some(1 | 127) => {
                assert_eq!(state, scene.before, "{limit}");
                let says = if finished.code == Some(127) { "Error 24" } else { "too many open files" };
                assert!(finished.log.contains(says), "{limit}:\n{}", finished.log);
            }
            code => panic!("exit code {code:?} with {limit} descriptors:\n{}", finished.log),
        }
        assert_eq!(litter(&dir), [FOREIGN], "{limit}");
    }
    assert!(enough > 5, "{enough}");
}

/// What failed once is tried again by itself, and the end of the failure is told.
#[test]
fn what_failed_is_tried_again() {
    let scene = replaced_file();
    let faults =
        ["fsync:error=EIO:when=1", "renameat:error=EROFS:when=1", "fchmod:error=EPERM:when=1", "flock:error=EIO"];
    let running: Vec<_> = faults
        .iter()
        .map(|fault| {
            let dir = scene.folder();
            let program = Trace::with_fault(remco(&dir), &dir, fault).1.start();
            (dir, program, fault)
        })
        .collect();
    for (dir, program, fault) in running {
        wait_until(fault, LIMIT, || found(&dir, "a").as_ref() == Some(&scene.after));
        if !fault.starts_with("flock") {
            program.wait_for_log("template works again");
        }
        program.stop();
        assert_eq!(litter(&dir), [FOREIGN], "{fault}");
    }
}

/// A stage that another program holds is not litter.
#[test]
fn a_stage_in_use_stays() {
    let dir =
        Scene { templates: &["check_cmd = \"test -e go || { touch checking; sleep 600; }\""], ..new_file() }.folder();
    let first = remco(&dir).start();
    wait_until("the check runs", LIMIT, || dir.at("checking").exists());
    let staged = litter(&dir);
    assert_eq!(staged.len(), 2, "{staged:?}");
    dir.write("go", "");
    remco(&dir).once().expect_code(0);
    assert_eq!(litter(&dir), staged);
    first.stop();
    assert_eq!(litter(&dir), [FOREIGN]);
}

#[test]
fn durability_is_what_is_synced() {
    for (keys, calls) in [
        ("", &["fsync", "renameat", "fsync"][..]),
        ("durability = \"full\"", &["fsync", "renameat", "fsync"]),
        ("durability = \"file\"", &["fsync", "renameat"]),
        ("durability = \"none\"", &["renameat"]),
    ] {
        let dir = Scene { templates: &[""], ..new_file() }.folder();
        let config = dir.read("config.toml").expect("just written");
        dir.write("config.toml", config.replace("src =", &format!("{keys}\nsrc =")));
        let (trace, program) = Trace::of(remco(&dir), &dir);
        let finished = program.once().expect_code(0);
        let traced = trace.calls(finished.pid);
        let name = |text: &str| text.split('(').next().expect("a call has a name").to_owned();
        let names = traced.iter().map(|call| name(&call.text));
        let names: Vec<String> = names.filter(|name| ["fsync", "fdatasync", "renameat"].contains(&&**name)).collect();
        assert_eq!(names, calls, "{keys}");
    }
}

/// Made directories are as certain to be there as the file in them.
#[test]
fn made_directories_are_synced() {
    for (durability, syncs) in [("full", 4), ("file", 1)] {
        let dir = new_file().folder();
        let keys = format!("dst = \"out/x/y/a\"\nmake_directories = true\ndurability = \"{durability}\"");
        let config = dir.read("config.toml").expect("just written");
        dir.write("config.toml", config.replace("dst = \"out/a\"", &keys));
        let (trace, program) = Trace::of(remco(&dir), &dir);
        let finished = program.once().expect_code(0);
        let calls = trace.calls(finished.pid);
        assert_eq!(calls.iter().filter(|call| call.text.starts_with("fsync(")).count(), syncs, "{calls:#?}");
    }
}
