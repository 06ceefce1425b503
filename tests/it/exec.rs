//! Exec mode with a real child: start, reload, stop, and the consequences of its end. The child is a Python program
//! that records its signals.

use std::fmt::Display;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Config, LIMIT, Remco, TempDir, config, remco, run, wait_until};

const CHILD: &str = include_str!("exec/child.py");

const COMMAND: &str = "python3 child.py";

/// A configuration with one resource that renders the greeting to `dst` and has a child. Keys that follow are the child's.
fn with_child(name: &str, command: &str, dst: &str) -> Config {
    let top = config().set("log_level", "debug").set("pid_file", "remco.pid");
    top.resource(name).template("app.tmpl", dst).file("data.json").watch().exec(command)
}

fn running(command: &str) -> Config {
    with_child("app", command, "app.out")
}

fn folder(config: &Config) -> TempDir {
    let dir = TempDir::new();
    dir.write("child.py", CHILD);
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("data.json", r#"{"greeting": "hello"}"#);
    config.write(&dir);
    dir
}

fn greet(dir: &TempDir, greeting: &str) {
    dir.replace("data.json", format!("{{\"greeting\": \"{greeting}\"}}"));
}

fn notes(dir: &TempDir) -> Vec<String> {
    dir.read("notes").unwrap_or_default().lines().map(str::to_owned).collect()
}

fn wait_for_note(dir: &TempDir, text: &str, count: usize) {
    wait_until(&format!("{count} notes {text:?}"), LIMIT, || {
        notes(dir).iter().filter(|note| note.starts_with(text)).count() >= count
    });
}

/// The process number of the child that was started last.
fn child(dir: &TempDir) -> Pid {
    let started = notes(dir).iter().rev().find_map(|note| note.strip_prefix("started ")?.parse().ok());
    started.and_then(Pid::from_raw).expect("a child was started")
}

fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_child_starts_after_the_first_files_with_its_words() {
    let words = r#"one 'two words' "it's three" fo\ur `echo ' five  5 '` $(printf 's%s\n\n' ix)! ''"#;
    let dir = folder(&running(&format!("{COMMAND} {words}")));
    let program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    let want = [
        "argument one",
        "argument two words",
        "argument it's three",
        "argument four",
        "argument five  5",
        "argument six!",
        "argument ",
        "read hello",
        "group of remco",
    ];
    assert_eq!(notes(&dir)[..want.len()], want);
    let pid = child(&dir);
    program.stop();
    assert!(!is_alive(pid), "it is ended with the program");
    assert!(notes(&dir).contains(&"signal SIGTERM".to_owned()), "{:?}", notes(&dir));
    assert_eq!(dir.read("remco.pid"), None);
}

#[test]
fn a_reload_signal_reaches_the_child_that_runs() {
    let dir = folder(&running(COMMAND).set("reload_signal", "SIGHUP").set_in(
        "[[resource]]",
        "reload_cmd",
        "echo >> reloads",
    ));
    let program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    greet(&dir, "again");
    wait_for_note(&dir, "signal SIGHUP", 1);
    wait_until("the resource's reload command", LIMIT, || dir.lines("reloads") == 1);
    assert!(dir.holds("app.out", "again\n"));
    greet(&dir, "and again");
    wait_for_note(&dir, "signal SIGHUP", 2);
    program.stop();
    assert_eq!(notes(&dir).iter().filter(|note| note.starts_with("started")).count(), 1);
}

/// The second template is broken for good, the first one's file has changed: everybody who waits for a reload gets it.
#[test]
fn fault_03_an_error_in_one_template_does_not_suppress_the_reload_owed_to_another() {
    let config = running(COMMAND).set("reload_signal", "SIGUSR1").set_in(
        "[[resource]]",
        "reload_cmd",
        "echo >> resource-reloads",
    );
    let config = config.set_in("[[resource.template]]", "reload_cmd", "echo >> reloads");
    let dir = folder(&config.template("app.tmpl", "bad.out").set("check_cmd", "grep hello {{.src}}"));
    let program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    greet(&dir, "again");
    wait_for_note(&dir, "signal SIGUSR1", 1);
    wait_until("the resource's reload command", LIMIT, || dir.lines("resource-reloads") == 1);
    assert!(dir.holds("app.out", "again\n"));
    assert_eq!(dir.lines("reloads"), 2, "its own, at the start and now");
    assert!(dir.holds("bad.out", "hello\n"), "its check refuses the new one");
    program.stop();
}

#[test]
fn a_child_without_a_reload_signal_is_started_again() {
    let dir = folder(&running(COMMAND).set("kill_signal", "SIGUSR1").set("kill_timeout", 1));
    let program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    let first = child(&dir);
    greet(&dir, "again");
    // It only notes SIGUSR1: SIGKILL ends it.
    wait_for_note(&dir, "signal SIGUSR1", 1);
    wait_for_note(&dir, "started", 2);
    assert!(!is_alive(first), "never two at once");
    assert_eq!(notes(&dir).iter().rfind(|note| note.starts_with("read")).map(String::as_str), Some("read again"));
    program.stop();
}

/// All signals that can be caught but those that mean something to the program itself, SIGCHLD and SIGURG. (Fault 11.)
#[test]
fn fault_11_signals_are_passed_on_but_not_all() {
    let dir = folder(&running(COMMAND));
    let program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    let passed_on = [
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::PIPE,
        Signal::ALARM,
        Signal::CONT,
        Signal::TTIN,
        Signal::TTOU,
        Signal::XCPU,
        Signal::VTALARM,
        Signal::PROF,
        Signal::WINCH,
        Signal::IO,
        Signal::POWER,
        Signal::TSTP,
    ];
    program.signal(Signal::CHILD);
    program.signal(Signal::URG);
    // One by one: the kernel drops a stop that is pending when a SIGCONT comes, and the other way round.
    for (sent, signal) in passed_on.into_iter().enumerate() {
        program.signal(signal);
        wait_for_note(&dir, "signal", sent + 1);
    }
    // A real-time signal, which only a shell's kill can send without unsafe code.
    let kill = format!("kill -s RTMIN+2 {}", program.pid());
    run(&["bash", "-c", &kill]);
    wait_for_note(&dir, "signal", passed_on.len() + 1);
    let mut came: Vec<String> =
        notes(&dir).iter().filter_map(|n| n.strip_prefix("signal ").map(str::to_owned)).collect();
    came.sort();
    let want = "SIGALRM SIGCONT SIGIO SIGPIPE SIGPROF SIGPWR SIGQUIT SIGRTMIN+2 SIGTSTP SIGTTIN SIGTTOU SIGUSR1 SIGUSR2 \
                SIGVTALRM SIGWINCH SIGXCPU";
    assert_eq!(came.join(" "), want);
    program.stop();
}

#[test]
fn two_signals_at_once_are_both_handled() {
    let dir = folder(&running(COMMAND));
    let program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    // Stopped, it cannot handle one before the other comes.
    program.signal(Signal::STOP);
    for signal in [Signal::USR1, Signal::TERM, Signal::WINCH] {
        program.signal(signal);
    }
    program.signal(Signal::CONT);
    let mut program = program;
    assert_eq!(program.exit_code(), Some(0));
    let notes = notes(&dir);
    for signal in ["signal SIGUSR1", "signal SIGWINCH", "signal SIGTERM"] {
        assert!(notes.iter().any(|note| note == signal), "no {signal} in {notes:?}");
    }
}

/// The other half of fault 11: remco could lose a SIGTERM that came during a reload.
#[test]
fn fault_11_a_sigterm_during_a_reload_is_not_lost() {
    let config = running(COMMAND).set("reload_signal", "SIGHUP").set("splay", 3600);
    let dir = folder(&config.set_in("[[resource]]", "reload_cmd", "true"));
    let program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    greet(&dir, "again");
    wait_until("the file, whose reload now waits for the splay", LIMIT, || dir.holds("app.out", "again\n"));
    program.stop();
    assert!(notes(&dir).contains(&"ended".to_owned()));
}

#[test]
fn a_stubborn_child_is_killed_in_the_end() {
    let dir = folder(&running(&format!("{COMMAND} stubborn")).set("kill_timeout", 1));
    let program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    let pid = child(&dir);
    program.stop();
    assert!(!is_alive(pid));
    assert!(notes(&dir).contains(&"signal SIGTERM".to_owned()));
    assert!(!notes(&dir).contains(&"ended".to_owned()));
}

#[test]
fn a_second_signal_does_not_wait_for_a_stubborn_child() {
    let dir = folder(&running(&format!("{COMMAND} stubborn")).set("kill_timeout", 3600));
    let mut program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    program.signal(Signal::TERM);
    wait_for_note(&dir, "signal SIGTERM", 1);
    program.signal(Signal::INT);
    assert_eq!(program.exit_code(), Some(0));
    assert!(!is_alive(child(&dir)));
}

/// The slowest of these tests: the rest is up to half a minute, so that many hosts do not start at once.
#[test]
fn a_child_that_ends_is_started_again_and_files_are_kept_true_meanwhile() {
    // A signal that does nothing to a child that has no handler yet: the new one may be told before it is ready.
    let dir = folder(&running(COMMAND).set("reload_signal", "SIGWINCH").set_in(
        "[[resource]]",
        "start_cmd",
        "echo >> starts",
    ));
    let program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    kill_process(child(&dir), Signal::KILL).expect("it runs");
    program.wait_for_log("child has ended error=\"it was killed by SIGKILL\"");
    program.wait_for_log("resource execution failed, restarting after delay restartDelay=");
    greet(&dir, "again");
    wait_until("the new file", LIMIT, || dir.holds("app.out", "again\n"));
    wait_for_note(&dir, "started", 2);
    assert_eq!(dir.lines("starts"), 2, "start_cmd comes before it again");
    greet(&dir, "and again");
    wait_for_note(&dir, "signal SIGWINCH", 1);
    program.stop();
}

#[test]
fn fault_04_a_command_that_cannot_be_started_does_not_hang_the_program() {
    let dir = folder(&running("no-such-program -x"));
    let program = remco(&dir).start();
    program.wait_for_log(
        "failed to spawn child error=\"failed to start it: there is no program `no-such-program` in PATH\"",
    );
    greet(&dir, "again");
    wait_until("the file is kept true", LIMIT, || dir.holds("app.out", "again\n"));
    program.stop();
}

#[test]
fn in_a_one_shot_run_the_childs_end_is_a_failure() {
    for (command, code) in
        [("true", 1), ("false", 1), ("sh -c 'exit 42'", 42), ("sh -c 'kill -USR1 ${$}${$}'", 128 + 10)]
    {
        let config = running(command);
        let dir = folder(&config);
        remco(&dir).once().expect_code(code).expect_log("child has ended");
        assert!(dir.holds("app.out", "hello\n"));
        // Of several resources the number of failed ones is told.
        let two = config.resource("app").template("app.tmpl", "other.out").file("data.json").watch().exec("true");
        two.write(&dir);
        remco(&dir).once().expect_code(2);
    }
    let dir = folder(&running("no-such-program"));
    remco(&dir).once().expect_code(1).expect_log("failed to spawn child");
}

#[test]
fn a_one_shot_run_goes_on_with_its_child_until_sigterm() {
    let dir = folder(&running(COMMAND));
    let program = remco(&dir).arg("-onetime").start();
    wait_for_note(&dir, "started", 1);
    program.stop();
    assert!(notes(&dir).contains(&"ended".to_owned()));
}

#[test]
fn a_childs_output_is_not_taken_from_it() {
    let dir = folder(&running("sh -c 'echo out; echo err >&2'"));
    let finished = remco(&dir).once().expect_code(1);
    assert_eq!(finished.stdout, b"out\n");
    assert!(finished.log.lines().any(|line| line == "err"), "as it is, not as a log line:\n{}", finished.log);
}

fn hup(dir: &TempDir, program: &Remco, config: impl Display, count: usize) {
    dir.replace("config.toml", config.to_string());
    program.signal(Signal::HUP);
    program.wait_for_log_count("loading new config", count);
}

#[test]
fn sighup_restarts_a_child_only_where_its_resource_changed() {
    let stubborn = |name, command, signal| {
        with_child(name, command, "app.out").set("reload_signal", signal).set("kill_timeout", 1)
    };
    let config = stubborn("app", "python3 child.py stubborn", "SIGUSR1");
    let dir = folder(&config);
    let program = remco(&dir).start();
    wait_for_note(&dir, "started", 1);
    let first = child(&dir);
    hup(&dir, &program, format!("# the same\n{config}"), 1);
    program.wait_for_log_count("target config in sync", 1);
    assert!(is_alive(first));
    // A change reaches it: it is still looked after.
    greet(&dir, "again");
    wait_for_note(&dir, "signal SIGUSR1", 1);

    hup(&dir, &program, config.set("reload_signal", "SIGUSR2"), 2);
    wait_for_note(&dir, "started", 2);
    assert!(!is_alive(first), "the new one waits for the end of the old one, which takes a second");
    greet(&dir, "and again");
    wait_for_note(&dir, "signal SIGUSR2", 1);

    let second = child(&dir);
    hup(&dir, &program, stubborn("other", "python3 none.py stubborn", "SIGUSR1"), 3);
    wait_until("the resource that is gone has no child", LIMIT, || !is_alive(second));
    program.stop();
}

/// A service that drains its connections: told to end, it ends when there is a file `release`.
const DRAINING: &str = r#"
echo "starts $1" >> notes
trap 'until [ -e release ]; do sleep 0.02; done; echo "ends $1" >> notes; exit' TERM
while kill -0 $PPID; do sleep 0.02; done
"#;

/// Two changed configurations within `kill_timeout`: the third generation does not run beside the first, and the second, which
/// had to wait for the first, never begins.
#[test]
fn a_third_generation_waits_for_the_first() {
    const HELD: &str = "waiting until the processes of the resource it replaces have ended";
    let generation = |number: usize| running(&format!("sh draining.sh {number}")).set("kill_timeout", 60);
    let dir = folder(&generation(1));
    dir.write("draining.sh", DRAINING);
    let program = remco(&dir).start();
    wait_for_note(&dir, "starts 1", 1);
    hup(&dir, &program, generation(2), 1);
    program.wait_for_log_count(HELD, 1);
    hup(&dir, &program, generation(3), 2);
    program.wait_for_log_count(HELD, 2);
    // Removed altogether, and there again.
    hup(&dir, &program, with_child("other", "true", "x").set("kill_timeout", 60), 3);
    program.wait_for_log_count("loading resource configuration", 4);
    hup(&dir, &program, generation(5), 4);
    program.wait_for_log_count(HELD, 3);
    dir.write("release", "");
    wait_for_note(&dir, "starts 5", 1);
    assert_eq!(notes(&dir), ["starts 1", "ends 1", "starts 5"]);
    program.stop();
}

/// The log of a program whose standard error nobody reads raises SIGPIPE: that is not a message to the child.
#[test]
fn a_broken_pipe_of_ours_does_not_reach_the_child() {
    let dir = folder(&running(COMMAND).set("reload_signal", "SIGHUP"));
    // `true` reads nothing of the log and ends at once.
    let wrapper = ["bash", "-c", "exec 2> >(exec true); exec \"$@\"", "bash"];
    let mut program = remco(&dir).under(&wrapper).start();
    wait_for_note(&dir, "started", 1);
    for n in 0..3 {
        greet(&dir, &format!("again {n}"));
        wait_for_note(&dir, "signal SIGHUP", n + 1);
    }
    assert!(!notes(&dir).contains(&"signal SIGPIPE".to_owned()), "{:?}", notes(&dir));
    let pid: i32 = dir.read("remco.pid").and_then(|pid| pid.parse().ok()).expect("the pid file");
    kill_process(Pid::from_raw(pid).expect("not 0"), Signal::TERM).expect("it runs");
    assert_eq!(program.exit_code_within(Duration::from_secs(30)), Some(0));
}
