//! The flags for runs by cron, `--timeout`, `--splay`, `--lock`, `--no-wait` and `--changed-exit`, their exit codes,
//! and the cron recipe.

use std::fs;

use rustix::fs::{CWD, Dev, FileType, Mode, mknodat, symlinkat};
use rustix::process::{Pid, Signal, test_kill_process};

use crate::support::{
    Config, Etcd, Finished, LIMIT, Recipe, TempDir, config, free_port, in_own_namespace, remco, resource, run,
    wait_until,
};

/// A resource whose check command is this.
fn checked(name: &str, check: &str) -> Config {
    let template = resource(name).template("app.tmpl", &format!("{name}.out"));
    template.set("check_cmd", check).set("check_timeout", 0).file("data.json").onetime()
}

/// A folder with a template of one key.
fn folder() -> TempDir {
    let dir = TempDir::new();
    dir.write("data.json", r#"{"x": "1"}"#);
    dir.write("app.tmpl", "{{ getv(\"/x\") }}\n");
    dir
}

/// A check command that says that it runs, and goes on when there is a file `go`.
const WAITS: &str = "touch running; until test -e go; do sleep 0.02; done";

fn run_once(dir: &TempDir, args: &[&str]) -> Finished {
    args.iter().fold(remco(dir), |run, arg| run.arg(arg)).once()
}

#[test]
fn what_hangs_at_the_timeout_has_failed_and_is_ended() {
    let dir = folder();
    let hangs = |name: &str| checked(name, &format!("echo ${{$}}${{$}} > {name}.pid; sleep 3600"));
    let fine = checked("fine", "true");
    fine.and(hangs("one")).and(hangs("two")).write(&dir);
    let log = "failed to finish within the 3.0s of `--timeout`";
    let run = run_once(&dir, &["--timeout", "3s"]).expect_code(2).expect_log(log);
    run.expect_log("error=\"still waiting for the check command\"");
    assert_eq!(dir.read("fine.out").as_deref(), Some("1\n"), "what was done in time is in place");
    assert_eq!((dir.read("one.out"), dir.read("two.out")), (None, None));
    for name in ["one.pid", "two.pid"] {
        let pid: i32 = dir.read(name).expect("it was started").trim().parse().expect("a number");
        let pid = Pid::from_raw(pid).expect("it is positive");
        assert!(test_kill_process(pid).is_err(), "the check command has ended with the run");
    }
    assert!(dir.names(".").iter().all(|name| !name.starts_with(".one.out")), "no stage file is left");
}

#[test]
fn a_child_that_runs_at_the_timeout_has_failed_and_is_ended() {
    let dir = folder();
    checked("app", "true")
        .exec("sh -c \"trap 'touch ended; exit' TERM; touch started; while :; do sleep 0.02; done\"")
        .write(&dir);
    run_once(&dir, &["--timeout=3s"]).expect_code(1).expect_log("still waiting for the child");
    assert!(dir.read("started").is_some() && dir.read("ended").is_some());
}

#[test]
fn a_run_waits_for_the_lock_of_another_one_or_gives_up() {
    let dir = folder();
    checked("app", WAITS).write(&dir);
    let locked = || remco(&dir).arg("-onetime").arg("--lock").arg("lock");
    let mut first = locked().start();
    wait_until("the first run has the lock", LIMIT, || dir.read("running").is_some());
    assert_eq!(dir.mode("lock") & 0o7777, 0o600);
    let mut second = locked().start();
    second.wait_for_log("waiting for the lock `lock`, which another process holds");
    let third = run_once(&dir, &["--lock=lock", "--no-wait"]).expect_code(5);
    third.expect_log("another process holds the lock of `--lock`, giving up").expect_no_log("target config");
    let out_of_time = run_once(&dir, &["--lock=lock", "--timeout=100ms"]).expect_code(1);
    out_of_time.expect_log("error=\"still waiting for the lock of `--lock`\"").expect_no_log("target config");
    let mut stopped = locked().start();
    stopped.wait_for_log("waiting for the lock");
    stopped.signal(Signal::TERM);
    assert_eq!(stopped.exit_code(), Some(143), "nothing was done");
    dir.write("go", "");
    assert_eq!((first.exit_code(), second.exit_code()), (Some(0), Some(0)));
    let log = second.all_lines();
    assert!(log.iter().any(|line| line.contains("target config in sync")) || dir.holds("app.out", "1\n"), "{log:#?}");
    run_once(&dir, &["--lock=lock", "--no-wait"]).expect_code(0);
}

/// A command that stays in the background does not keep the lock.
#[test]
fn commands_do_not_inherit_the_lock() {
    let dir = folder();
    checked("app", "sleep 3600 & echo ${$}! > pid").write(&dir);
    run_once(&dir, &["--lock=lock"]).expect_code(0);
    run_once(&dir, &["--lock=lock", "--no-wait"]).expect_code(0);
    let pid = dir.read("pid").expect("it was started").trim().parse().ok().and_then(Pid::from_raw);
    // It may have been ended with its group.
    let _ = rustix::process::kill_process(pid.expect("a number"), Signal::KILL);
}

#[test]
fn only_a_regular_file_is_a_lock() {
    let dir = folder();
    checked("app", "true").write(&dir);
    fs::create_dir(dir.at("folder")).unwrap();
    mknodat(CWD, dir.at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, Dev::default()).unwrap();
    dir.write("target", "kept");
    symlinkat("target", CWD, dir.at("link")).unwrap();
    for (path, why) in [
        ("folder", "is a directory"),
        ("fifo", "not a regular file"),
        ("link", "it is a symbolic link"),
        ("missing/lock", "no such file or directory"),
    ] {
        let text = format!("failed to open lock file `{path}`: {why}");
        run_once(&dir, &["--lock", path, "--no-wait"]).expect_code(1).expect_log(&text);
    }
    assert!(dir.holds("target", "kept") && dir.read("app.out").is_none());
}

#[test]
fn a_run_that_replaced_a_file_exits_with_6() {
    let dir = folder();
    checked("app", "true").write(&dir);
    run_once(&dir, &["--changed-exit"]).expect_code(6);
    run_once(&dir, &["--changed-exit"]).expect_code(0);
    // Without the flag a replaced file is nothing special.
    dir.write("data.json", r#"{"x": "2"}"#);
    run_once(&dir, &[]).expect_code(0);
    assert!(dir.holds("app.out", "2\n"));
}

#[test]
fn any_failure_is_1_where_5_and_6_have_a_meaning() {
    let dir = folder();
    let failing = |n: usize| checked(&format!("failing{n}"), "false");
    let all = (0..6).map(failing).fold(checked("app", "true"), Config::and);
    all.write(&dir);
    run_once(&dir, &["--changed-exit"]).expect_code(1);
    assert!(dir.holds("app.out", "1\n"), "it was replaced, and others failed");
    run_once(&dir, &["--lock=lock", "--no-wait"]).expect_code(1);
    run_once(&dir, &[]).expect_code(6);
    for code in ["5", "6"] {
        checked("app", "true").exec(&format!("sh -c 'exit {code}'")).write(&dir);
        run_once(&dir, &["--changed-exit"]).expect_code(1);
        run_once(&dir, &[]).expect_code(code.parse().unwrap());
    }
}

#[test]
fn the_start_waits_for_a_random_time_and_not_for_sigterm() {
    let dir = folder();
    let once = |splay: &str| config().set("splay", splay).and(checked("app", "true"));
    once("1h").write(&dir);
    for (flags, code) in [(&[][..], 0), (&["-onetime"], 143), (&["--splay=2h"], 0)] {
        let mut program = flags.iter().fold(remco(&dir), |run, flag| run.arg(flag)).start();
        program.wait_for_log("starting after a random delay of ");
        program.signal(Signal::TERM);
        assert_eq!(program.exit_code(), Some(code), "{flags:?}");
        assert_eq!(dir.read("app.out"), None);
    }
    run_once(&dir, &["--timeout=1m"]).expect_code(2).expect_log("`splay` is not less than `--timeout`");
    run_once(&dir, &["--splay=0", "--timeout=1m"]).expect_code(0).expect_no_log("random delay");
    assert!(dir.holds("app.out", "1\n"));
    once("20ms").write(&dir);
    run_once(&dir, &[]).expect_code(0).expect_log("starting after a random delay of ");
}

/// The recipe as it is written, but for the time of the splay. Its paths and its port are those of a machine of its own.
#[test]
fn the_recipe_for_cron_works() {
    in_own_namespace("cron::the_recipe_for_cron_works", || {
        let recipe = Recipe::of("## Run by cron");
        for folder in ["/etc", "/run"] {
            run(&["mount", "-t", "tmpfs", "none", folder]);
        }
        recipe.write_files();
        let etcd = Etcd::start_on(2379, free_port(), &[]);
        etcd.put("/app/greeting", "hello");
        let (path, entry) = recipe.file("/etc/cron.d/remco").trim_end().split_once('\n').expect("there are two lines");
        let folders: Vec<&str> = path.strip_prefix("PATH=").expect("it is the path").split(':').collect();
        // cron's own, those of the programs of a check command, and that of an installation by hand.
        for folder in ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"] {
            assert!(folders.contains(&folder), "no {folder} in {path}");
        }
        // crontab(5): five fields of time, the user, and the command.
        let fields: Vec<&str> = entry.splitn(7, ' ').collect();
        assert_eq!(fields[5], "root");
        assert!(fields[6].contains("--splay 1m "));
        recipe.run(&fields[6].replace("--splay 1m ", "--splay 10ms ")).expect_code(0);
        assert_eq!(fs::read_to_string("/etc/app.conf").unwrap(), "greeting = hello\n");
        let same = recipe.sh(0).expect_code(0);
        assert_eq!(String::from_utf8_lossy(&same.stdout), "nothing has changed\n");
        etcd.put("/app/greeting", "good day");
        let changed = recipe.sh(0).expect_code(0);
        assert_eq!(String::from_utf8_lossy(&changed.stdout), "files were replaced\n");
        fs::write("/etc/remco/app.tmpl", "{% if %}").unwrap();
        recipe.sh(0).expect_code(1);
    });
}

/// A signal before the end of the work is no success, whatever flags are given, and one after it is.
#[test]
fn a_signal_before_the_end_is_no_success() {
    let dir = folder();
    let quick = || checked("quick", "true");
    for (signal, code, flag) in
        [(Signal::TERM, 143, None), (Signal::INT, 130, Some("--changed-exit")), (Signal::TERM, 143, Some("--no-wait"))]
    {
        for slow in
            [checked("slow", WAITS), checked("slow", "true").set_in("[[resource.template]]", "reload_cmd", WAITS)]
        {
            quick().and(slow).write(&dir);
            let program = remco(&dir).arg("-onetime").arg("--lock").arg("lock");
            let mut program = flag.into_iter().fold(program, |program, flag| program.arg(flag)).start();
            wait_until("a command runs, and the other resource is done", LIMIT, || {
                dir.read("running").is_some() && dir.read("quick.out").is_some()
            });
            program.signal(signal);
            assert_eq!(program.exit_code(), Some(code), "{flag:?}");
            for name in ["running", "quick.out", "slow.out"] {
                // It may not be there.
                let _ = fs::remove_file(dir.at(name));
            }
        }
    }
    // With a child that runs, everything is done.
    for (flag, code) in [(None, 0), (Some("--changed-exit"), 6)] {
        let child = "sh -c \"trap exit TERM; touch running; while :; do sleep 0.02; done\"";
        checked("app", "true").exec(child).set("kill_timeout", 60).write(&dir);
        let program = remco(&dir).arg("-onetime");
        let mut program = flag.into_iter().fold(program, |program, flag| program.arg(flag)).start();
        wait_until("the child runs", LIMIT, || dir.read("running").is_some());
        program.signal(Signal::TERM);
        assert_eq!(program.exit_code(), Some(code), "{flag:?}");
        fs::remove_file(dir.at("running")).unwrap();
        fs::remove_file(dir.at("app.out")).unwrap();
    }
}
