//! Commands that exceed their time limit: they are ended with their process group, only their own resource waits, and
//! the error names the limit.

use std::path::Path;

use crate::running::{folder, on_file, update};
use crate::support::{LIMIT, TempDir, remco, wait_until};

/// A script that never ends by itself, with processes in the background whose numbers it notes in `pids`; `trap` is what
/// all of them do about SIGTERM. A file, because `$!` in a configuration is a variable's place.
fn endless(dir: &TempDir, trap: &str) {
    dir.write(
        "endless.sh",
        format!("{trap}\nsleep 3600 &\necho $! >> pids\nsh -c '{trap}\nsleep 3600' &\necho $! >> pids\nwait\nwait\n"),
    );
}

fn processes(dir: &TempDir) -> Vec<String> {
    dir.read("pids").unwrap_or_default().lines().map(str::to_owned).collect()
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_check_that_takes_too_long_is_ended_and_keeps_the_old_file() {
    let check = "check_cmd = \"sh endless.sh\"\ncheck_timeout = 1";
    let dir = folder(&(on_file("slow", check) + &on_file("quick", "")));
    endless(&dir, "");
    dir.write("slow.out", "old\n");
    let program = remco(&dir).start();
    let why = "check command took longer than 1 s and was ended: it was killed by SIGTERM, keeping the old file";
    program.wait_for_log(why);
    update(&dir, "quick", "again");
    assert!(dir.holds("slow.out", "old\n"));
    program.stop();
    let started = processes(&dir);
    assert!(started.len() >= 2);
    wait_until("the whole group has ended", LIMIT, || !started.iter().any(|pid| is_alive(pid)));
}

#[test]
fn what_does_not_mind_sigterm_is_killed() {
    let dir = folder(&on_file("app", "reload_cmd = \"exec sh endless.sh\"\nreload_timeout = 1"));
    endless(&dir, "trap \"\" TERM");
    let program = remco(&dir).start();
    program.wait_for_log("reload command took longer than 1 s and was ended: it was killed by SIGKILL");
    let started = processes(&dir);
    wait_until("the first group has ended", LIMIT, || !started[..2].iter().any(|pid| is_alive(pid)));
    program.stop();
}

/// The command itself goes at once, what it has left in its group does not.
#[test]
fn what_a_command_leaves_in_its_group_is_killed_too() {
    let dir = folder(&on_file("app", "reload_cmd = \"sh leaving.sh\"\nreload_timeout = 1"));
    dir.write("leaving.sh", "sh -c 'trap \"\" TERM; sleep 3600' &\necho $! >> pids\nwait\n");
    let program = remco(&dir).start();
    program.wait_for_log("reload command took longer than 1 s and was ended: it was killed by SIGTERM");
    let left = processes(&dir)[0].clone();
    wait_until("it is killed", LIMIT, || !is_alive(&left));
    program.stop();
}

#[test]
fn a_start_command_has_a_limit_too() {
    let dir = folder(&on_file("app", "").replace("name =", "start_cmd = \"sleep 3600\"\nstart_timeout = 1\nname ="));
    remco(&dir).once().expect_code(1).expect_log("start command took longer than 1 s and was ended");
}

#[test]
fn a_resources_reload_command_has_a_limit_too() {
    let dir = folder(&on_file("app", "").replace("name =", "reload_cmd = \"sleep 3600\"\nreload_timeout = 1\nname ="));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    update(&dir, "app", "again");
    program.wait_for_log("resource reload command took longer than 1 s and was ended");
    program.stop();
}

/// 0 is no limit, and a limit that is kept does nothing.
#[test]
fn a_limit_that_is_kept_does_nothing() {
    for timeout in [0, 30] {
        let dir = folder(&on_file("app", &format!("reload_cmd = \"echo >> reloads\"\nreload_timeout = {timeout}")));
        let program = remco(&dir).start();
        wait_until("the reload", LIMIT, || dir.lines("reloads") == 1);
        update(&dir, "app", "again");
        wait_until("the second reload", LIMIT, || dir.lines("reloads") == 2);
        let log = program.stop().join("\n");
        assert!(!log.contains("ERROR"), "{log}");
    }
}

/// The shell says that the script is not found, though it is there.
#[test]
fn the_missing_interpreter_of_a_script_is_named() {
    let missing = "./run.sh` needs the interpreter `/no/such/perl`, which is missing";
    for (command, kept) in [("check", ", keeping the old file"), ("reload", ", the new file is in place")] {
        let dir = folder(&on_file("app", &format!("{command}_cmd = \"./run.sh now\"")));
        dir.write("run.sh", "#!/no/such/perl -w\n");
        dir.set_mode("run.sh", 0o755);
        let program = remco(&dir).start();
        let line = program.wait_for_log("needs the interpreter");
        // 127 of dash, 126 of bash.
        let line = line.replace("status 126", "status 127");
        assert!(line.contains(&format!("{command} command exited with status 127: `{missing}{kept}")), "{line}");
        program.stop();
    }
}
