//! The loop: slow or failing work does not delay other work.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Config, Etcd, LIMIT, Silent, TempDir, remco, resource, run, wait_until};

/// A resource that renders `/greeting` of `data.json` to `NAME.out`.
pub fn on_file(name: &str, template: &str) -> String {
    let resource = resource(name).template("app.tmpl", &format!("{name}.out")).lines(template);
    resource.file("data.json").watch().to_string()
}

/// A key in `keys` with a typing error in it renders an empty file: each is named, once as long as nothing is below it.
#[test]
fn keys_that_match_nothing_are_named() {
    const NO_KEY: &str = "no key below `/prod/db` backend=file resource=app";
    let keys = "keys = [\"/greeting\", \"/db\"]\nprefix = \"/prod\"";
    let dir = folder(&on_file("app", "").replace("keys = [\"/\"]", keys));
    let data = |greeting: &str, more: &str| {
        dir.replace("data.json", format!("{{\"prod\": {{\"greeting\": \"{greeting}\"{more}}}}}"));
        wait_until(greeting, LIMIT, || dir.holds("app.out", &format!("{greeting}\n")));
    };
    dir.write("data.json", r#"{"prod": {"greeting": "hello"}}"#);
    let finished = remco(&dir).once().expect_code(0).expect_log(NO_KEY);
    finished.expect_log(" INFO").expect_log("keys have been read backend=file keys=1");

    let program = remco(&dir).start();
    program.wait_for_log(NO_KEY);
    data("again", "");
    data("with it", ", \"db\": {\"a\": 1, \"b\": 2}");
    program.wait_for_log("keys have been read backend=file keys=3");
    data("without it", "");
    program.wait_for_log_count(NO_KEY, 2);
    let log = program.stop();
    let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("no key below"), 2, "{log:#?}");
    assert!(count("INFO") > 0 && count("keys have been read") == 4, "{log:#?}");
    let first = log.iter().find(|line| line.contains("keys have been read")).unwrap();
    assert!(first.contains(" INFO "), "{first}");
    assert_eq!(log.iter().filter(|line| line.contains("keys have been read") && line.contains("DEBUG")).count(), 3);
}

/// What it is rendered to would be emptied by an editor, a full disk, or a deployment that has only begun.
#[test]
fn a_template_that_is_cut_keeps_the_old_file() {
    let dir = folder(&(on_file("app", "") + &on_file("includes", "").replace("app.tmpl", "outer.tmpl")));
    dir.write("outer.tmpl", "{% include \"app.tmpl\" %}");
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n") && dir.holds("includes.out", "hello\n"));
    dir.write("app.tmpl", "");
    greet(&dir, "again");
    const CUT: &str = "failed to read `app.tmpl`: it is empty now, write `{# #}` into it if that is meant";
    program.wait_for_log_count(CUT, 2);
    assert!(dir.holds("app.out", "hello\n") && dir.holds("includes.out", "hello\n"));
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}!\n");
    for name in ["app.out", "includes.out"] {
        wait_until("it has text again", LIMIT, || dir.holds(name, "again!\n"));
    }
    program.stop();

    // Go remco renders it.
    dir.write("app.tmpl", "");
    remco(&dir).once().expect_code(0).expect_log("the source template is empty template=app.tmpl resource=app");
    assert!(dir.holds("app.out", "") && dir.holds("includes.out", ""));

    // So it does a field in other letters, of which a warning is told.
    dir.write("app.tmpl", "{{ get(\"/greeting\").key }}");
    let hint = "app.tmpl:1:4: get.key is empty: a pair has the fields Key and Value, write get.Key";
    remco(&dir).once().expect_code(0).expect_log(hint);
}

/// A resource on an etcd.
pub fn on_etcd(name: &str, url: &str) -> String {
    resource(name).template("app.tmpl", &format!("{name}.out")).etcd(url).watch().to_string()
}

/// A folder with these resources, at debug level.
pub fn folder(resources: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    dir.write("config.toml", format!("log_level = \"debug\"\n{resources}"));
    greet(&dir, "hello");
    dir
}

pub fn greet(dir: &TempDir, greeting: &str) {
    dir.replace("data.json", format!("{{\"greeting\": \"{greeting}\"}}"));
}

/// Changes the data and waits until a resource has it.
pub fn update(dir: &TempDir, name: &str, greeting: &str) {
    greet(dir, greeting);
    wait_until(&format!("{name} has {greeting}"), LIMIT, || {
        dir.holds(&format!("{name}.out"), &format!("{greeting}\n"))
    });
}

/// A fifo on which a command waits until the test opens it for writing or ends.
pub struct Gate<'a> {
    dir: &'a TempDir,
}

impl<'a> Gate<'a> {
    pub fn new(dir: &'a TempDir) -> Gate<'a> {
        run(&["mkfifo", &dir.at("gate").to_string_lossy()]);
        Gate { dir }
    }

    /// Lets go whoever waits. Tells whether somebody did.
    pub fn open(&self) -> bool {
        // Without a reader a fifo cannot be opened for writing without blocking.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut options = OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options.write(true), nonblocking)
            .open(self.dir.at("gate"))
            .is_ok()
    }
}

impl Drop for Gate<'_> {
    /// No process may be left behind: those that wait read to the end, and those that come later find no fifo.
    fn drop(&mut self) {
        let gate = open_both_ways(&self.dir.at("gate"));
        let _ = fs::remove_file(self.dir.at("gate"));
        drop(gate);
    }
}

/// Opens a fifo without waiting for the other end. Processes that read from it do not end before the result is dropped.
fn open_both_ways(fifo: &Path) -> Option<fs::File> {
    OpenOptions::new().read(true).write(true).open(fifo).ok()
}

#[test]
fn a_hung_etcd_does_not_stop_another_resource() {
    let silent = Silent::start();
    let dir = folder(&(on_etcd("sick", &silent.url()) + &on_file("sound", "")));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("sound.out", "hello\n"));
    for n in 0..5 {
        update(&dir, "sound", &format!("update {n}"));
    }
    assert_eq!(dir.read("sick.out"), None);
    program.stop();
}

/// Their requests are under way all at once, and nothing waits for any of them.
#[test]
fn many_hung_etcds_hold_nothing_up() {
    const SICK: usize = 6;
    let silent = Silent::start();
    // With limits of its own, so that each is asked apart from the others.
    let own = |n| on_etcd(&format!("sick{n}"), &silent.url()) + &format!("request_timeout = 3600.{n}\n");
    let sick: String = (0..SICK).map(own).collect();
    let dir = folder(&(on_file("sound", "reload_cmd = \"true\"") + &sick));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("sound.out", "hello\n"));
    let mut asked = Vec::new();
    wait_until("all are asked", LIMIT, || {
        asked.extend(silent.connections());
        asked.len() == SICK
    });
    update(&dir, "sound", "again");
    program.stop();
}

#[test]
fn a_dead_etcd_does_not_stop_another_resource() {
    let mut etcd = Etcd::start();
    etcd.put("/greeting", "from etcd");
    let dir = folder(&(on_etcd("sick", &etcd.url()) + &on_file("sound", "")));
    let program = remco(&dir).start();
    wait_until("both first renders", LIMIT, || {
        dir.holds("sick.out", "from etcd\n") && dir.holds("sound.out", "hello\n")
    });
    etcd.kill();
    for n in 0..5 {
        update(&dir, "sound", &format!("update {n}"));
    }
    assert!(dir.holds("sick.out", "from etcd\n"), "the old file stays");
    etcd.restart();
    etcd.put("/greeting", "from etcd again");
    wait_until("the sick one is well", LIMIT, || dir.holds("sick.out", "from etcd again\n"));
    program.stop();
}

#[test]
fn a_slow_command_does_not_stop_another_resource() {
    let dir = folder(&(on_file("slow", "reload_cmd = \"cat gate > waited\"") + &on_file("quick", "")));
    let gate = Gate::new(&dir);
    let program = remco(&dir).start();
    wait_until("the slow one is reloading", LIMIT, || dir.holds("waited", ""));
    for n in 0..5 {
        update(&dir, "quick", &format!("update {n}"));
    }
    assert!(dir.holds("slow.out", "hello\n"), "one update at a time: its changes wait for the command");
    wait_until("the command is let go", LIMIT, || gate.open());
    // One pending update has the newest data, and reloads again.
    wait_until("the slow one has the newest data", LIMIT, || dir.holds("slow.out", "update 4\n"));
    wait_until("its second reload is let go", LIMIT, || gate.open());
    program.stop();
}

#[test]
fn a_slow_check_does_not_stop_another_resource() {
    let dir = folder(&(on_file("slow", "check_cmd = \"cat gate > waited\"") + &on_file("quick", "")));
    let gate = Gate::new(&dir);
    let program = remco(&dir).start();
    wait_until("the slow one is checking", LIMIT, || dir.holds("waited", ""));
    update(&dir, "quick", "again");
    assert_eq!(dir.read("slow.out"), None);
    wait_until("the command is let go", LIMIT, || gate.open());
    // A pending change starts over with the newest data, so the old may never be put in place.
    wait_until("the slow one has the newest data", LIMIT, || {
        gate.open();
        dir.holds("slow.out", "again\n")
    });
    program.stop();
}

#[test]
fn what_a_command_prints_is_logged() {
    let dir = folder(&on_file("app", "reload_cmd = \"echo to standard output; echo to standard error >&2\""));
    let program = remco(&dir).start();
    for text in ["to standard output", "to standard error"] {
        // Not the line that shows the command itself.
        program.wait_for_log_count(text, 2);
    }
    program.stop();
}

/// The children of a process that have ended and were not waited for.
fn zombies(parent: u32) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("there is a /proc");
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    stats
        .filter(|stat| {
            // `pid (name) state parent ...`, and a name can contain anything.
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let mut fields = rest.split(' ');
            fields.next() == Some("Z") && fields.next() == Some(parent.to_string().as_str())
        })
        .collect()
}

#[test]
fn no_zombies_are_left() {
    let dir = folder(&on_file("app", "check_cmd = \"true\"\nreload_cmd = \"echo >> reloads; false | true\""));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    for n in 0..20 {
        update(&dir, "app", &format!("update {n}"));
    }
    wait_until("every command is waited for", LIMIT, || zombies(program.pid()).is_empty());
    program.stop();
    assert!(dir.lines("reloads") > 1);
}

/// Processes that commands leave in the background. They read from a fifo that only the test has open for writing: none of
/// them outlives it, however it ends.
struct Background {
    _gate: fs::File,
}

impl Background {
    fn new(dir: &TempDir) -> Background {
        run(&["mkfifo", &dir.at("gate").to_string_lossy()]);
        Background { _gate: open_both_ways(&dir.at("gate")).expect("it was just made") }
    }
}

/// The tutorial's command does this: haproxy goes on in the background with the command's standard output.
const DAEMON: &str = "reload_cmd = \"cat gate & echo $! >> daemons\"";

#[test]
fn a_command_that_leaves_a_daemon_behind_does_not_block() {
    let dir = folder(&on_file("app", DAEMON));
    let _background = Background::new(&dir);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    for n in 0..3 {
        update(&dir, "app", &format!("update {n}"));
    }
    wait_until("every reload has left a daemon", LIMIT, || dir.lines("daemons") == 4);
    program.ends_at_once(Signal::TERM, "after commands that left daemons behind");
    // The commands of the first three had ended: another has run since.
    for line in dir.read("daemons").expect("just counted").lines().take(3) {
        assert!(Path::new("/proc").join(line).exists(), "the daemon goes on without the program");
    }
}

#[test]
fn a_daemon_does_not_keep_a_one_shot_from_ending() {
    let dir = folder(&on_file("app", DAEMON).replace("watch = true", "onetime = true"));
    let _background = Background::new(&dir);
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("app.out", "hello\n"));
    assert_eq!(dir.lines("daemons"), 1);
}

/// More than a pipe holds: a command must not wait for the program to read, nor the log keep all of it.
#[test]
fn a_talkative_command_does_not_block() {
    let dir = folder(&on_file("app", "reload_cmd = \"seq 200000; echo done > finished\""));
    let program = remco(&dir).start();
    wait_until("the command has ended", LIMIT, || dir.holds("finished", "done\n"));
    update(&dir, "app", "again");
    program.stop();
}

/// A resource with this many templates, each of which takes longer than a turn.
fn slow(count: usize) -> String {
    let template = |config: Config, t| {
        config.template("slow.tmpl", &format!("slow{t}.out")).set("check_cmd", "cat {{.src}} >> rendered")
    };
    (0..count).fold(resource("slow"), template).file("data.json").watch().to_string()
}

/// A folder with such a resource and `app`.
fn with_slow_templates(count: usize) -> TempDir {
    let dir = folder(&(slow(count) + &on_file("app", "")));
    let numbers = (0..300).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    let each = |inner: &str| format!("{{% for a in split(\"{numbers}\", \" \") %}}{inner}{{% endfor %}}");
    dir.write("slow.tmpl", each(&each("")) + "{{ getv(\"/greeting\") }}\n");
    dir
}

/// Between two templates of one resource the loop looks after everything else.
#[test]
fn many_slow_templates_do_not_hold_up_another_resource() {
    const TEMPLATES: usize = 10;
    let dir = with_slow_templates(TEMPLATES);
    let program = remco(&dir).start();
    program.wait_for_log_count("comparing staged and dest config files dest=slow", TEMPLATES);
    wait_until("the other resource", LIMIT, || dir.holds("app.out", "hello\n"));
    let log = program.stop();
    let of =
        |text: &str| log.iter().rposition(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log:#?}"));
    let (other, last) = (of("has been updated config=app.out"), of("comparing staged and dest config files dest=slow"));
    assert!(other < last, "{log:#?}");
}

/// Also where the keys change while some templates of an update are rendered and the others are not.
#[test]
fn all_templates_of_an_update_see_the_same_keys() {
    const TEMPLATES: usize = 10;
    let dir = with_slow_templates(TEMPLATES);
    let program = remco(&dir).start();
    program.wait_for_log("comparing staged and dest config files dest=slow0.out");
    greet(&dir, "again");
    let both = "hello\n".repeat(TEMPLATES) + &"again\n".repeat(TEMPLATES);
    wait_until("both updates", LIMIT, || dir.lines("rendered") == 2 * TEMPLATES);
    assert!(dir.holds("rendered", &both), "{:?}", dir.read("rendered"));
    program.stop();
}

#[test]
fn a_template_that_is_a_fifo_is_an_error_at_once() {
    let dir = folder(&(on_file("stuck", "").replace("app.tmpl", "gate") + &on_file("app", "")));
    run(&["mkfifo", &dir.at("gate").to_string_lossy()]);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    program.wait_for_log("failed to read `gate`: not a regular file");
    program.ends_at_once(Signal::TERM, "with a template that is a fifo");
}

/// Makes the fifo `full`, which holds all it can and has a reader that does not read while the result lives.
fn full_fifo(dir: &TempDir) -> fs::File {
    run(&["mkfifo", &dir.at("full").to_string_lossy()]);
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    let options = std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true).write(true), nonblocking);
    let mut fifo = options.open(dir.at("full")).expect("it is new");
    while fifo.write(&[b'x'; 4096]).is_ok() {}
    fifo
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let dir = folder(&on_file("app", ""));
    let _full = full_fifo(&dir);
    let program = remco(&dir).under(&["sh", "-c", "exec \"$@\" 2>full", "sh"]).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    update(&dir, "app", "again");
    program.ends_at_once(Signal::TERM, "with a log that nobody reads");
}

#[test]
fn an_output_that_nobody_reads_holds_up_nothing() {
    let stuck = on_file("stuck", "").replace("stuck.out", "/dev/stdout");
    let dir = folder(&(stuck + &on_file("app", "")));
    let _full = full_fifo(&dir);
    let program = remco(&dir).under(&["sh", "-c", "exec \"$@\" >full", "sh"]).start();
    program.wait_for_log("failed to write to `/dev/stdout`: its reader is too slow");
    update(&dir, "app", "again");
    program.ends_at_once(Signal::TERM, "with an output that nobody reads");
}

/// A child gets an empty standard input, the environment, and none of the program's own descriptors and signal masks.
#[test]
fn a_command_gets_a_clean_start() {
    let dir = folder(&on_file(
        "app",
        "reload_cmd = \"wc -c > input; ls /proc/self/fd > descriptors; printenv GREETING > environment; \
         grep -E 'SigBlk|SigIgn' /proc/self/status > signals\"",
    ));
    let program = remco(&dir).env("GREETING", "inherited").start();
    wait_until("the command has ended", LIMIT, || dir.lines("signals") == 2);
    program.stop();
    assert_eq!(dir.read("input").map(|text| text.trim().to_owned()).as_deref(), Some("0"));
    assert!(dir.holds("environment", "inherited\n"));

    // A command that the tests start themselves: whoever started them may have left descriptors open.
    let ours = Command::new("/bin/sh").args(["-c", "ls /proc/self/fd > ours"]).current_dir(dir.path()).status();
    assert!(ours.expect("there is a shell").success());
    assert_eq!(dir.read("descriptors"), dir.read("ours"));
    // What the tests themselves were started with, a shell's background job without SIGINT perhaps, is not ours.
    let given = fs::read_to_string("/proc/self/status").expect("there is a /proc");
    for name in ["SigBlk:", "SigIgn:"] {
        // Rust programs ignore SIGPIPE, and must not pass that on.
        let own = signal_mask(&given, name) & !(1 << (Signal::PIPE.as_raw() - 1));
        let passed_on = signal_mask(&dir.read("signals").expect("just counted"), name);
        assert_eq!(passed_on & !own, 0, "{name} {passed_on:x} of a command, {own:x} of the tests");
    }
}

/// The first 31 signals in a line of /proc/PID/status. Those after them are the C library's own.
fn signal_mask(status: &str, name: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells every mask");
    u64::from_str_radix(mask.trim(), 16).expect("a mask is hexadecimal") & 0x7fff_ffff
}

/// A service with a low `nofile` is at home on small machines.
#[test]
fn an_idle_program_holds_few_descriptors() {
    let dir = folder(&on_file("app", ""));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    let held = fs::read_dir(format!("/proc/{}/fd", program.pid())).expect("it runs").count();
    let given = fs::read_dir("/proc/self/fd").expect("there is a /proc").count();
    assert!(held < 16 + given, "{held} descriptors, {given} of the tests");
    program.stop();
}

/// Process 1 of a container gets whatever the host sends; none of it may end the program by default.
#[test]
fn no_other_signal_ends_it() {
    let dir = folder(&on_file("app", ""));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n"));
    for signal in [
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::PIPE,
        Signal::ALARM,
        Signal::CONT,
        Signal::TTIN,
        Signal::TTOU,
        Signal::URG,
        Signal::XCPU,
        Signal::XFSZ,
        Signal::VTALARM,
        Signal::PROF,
        Signal::WINCH,
        Signal::IO,
        Signal::POWER,
        Signal::CHILD,
    ] {
        program.signal(signal);
    }
    update(&dir, "app", "again");
    program.stop();
}

#[test]
fn a_mask_that_keeps_signals_away_is_an_error_at_the_start() {
    let dir = folder(&on_file("app", ""));
    let finished = remco(&dir).under(&["env", "--block-signal=CHLD"]).once();
    finished
        .expect_code(1)
        .expect_log("the signal mask it was started with blocks SIGCHLD, start it with an empty one");
    assert_eq!(dir.read("app.out"), None);
}

/// The handlers outlive the loop: a signal that comes while the program ends must not keep it from ending.
#[test]
fn a_flood_of_signals_does_not_keep_it_from_ending() {
    let dir = folder(&on_file("app", ""));
    for _ in 0..20 {
        let program = remco(&dir).start();
        program.wait_for_log("comparing staged and dest config files");
        let pid = Pid::from_raw(program.pid() as i32).expect("it runs");
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    // The process is not waited for before the flood has ended, so the number stays its own.
                    kill_process(pid, Signal::WINCH).expect("it is there, if only as a zombie");
                }
            });
            program.signal(Signal::TERM);
            let stat = format!("/proc/{}/stat", program.pid());
            let is_zombie = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
            // The flood ends with this thread's panic too.
            let _end = OnDrop(|| ended.store(true, Ordering::Relaxed));
            wait_until("it has ended", LIMIT, is_zombie);
        });
        program.stop();
    }
}

/// Signals come faster than the configuration can be read: the keys still have their turn, and SIGTERM too.
#[test]
fn a_flood_of_sighups_does_not_stop_updates() {
    let dir = folder(&(on_file("app", "") + &on_file("other", "")));
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("app.out", "hello\n") && dir.holds("other.out", "hello\n"));
    let pid = Pid::from_raw(program.pid() as i32).expect("it runs");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                kill_process(pid, Signal::HUP).expect("it runs");
                kill_process(pid, Signal::WINCH).expect("it runs");
            }
        });
        let _end = OnDrop(|| ended.store(true, Ordering::Relaxed));
        program.wait_for_log_count("loading new config", 5);
        for n in 0..3 {
            update(&dir, "app", &format!("update {n}"));
            update(&dir, "other", &format!("again {n}"));
        }
    });
    program.ends_at_once(Signal::TERM, "after a flood of SIGHUP");
}

/// More dead children at once than are waited for in one pass of the loop, which the kernel tells with one SIGCHLD.
#[test]
fn very_many_orphans_are_all_waited_for() {
    const ORPHANS: usize = 1200;
    let leave = format!("seq {ORPHANS} | while read n; do (exit 0 &); done; echo left >> orphans");
    let dir = folder(&on_file("app", &format!("reload_cmd = \"read go < gate; {leave}\"")));
    let gate = Gate::new(&dir);
    let program = remco(&dir).start();
    wait_until("the command waits", LIMIT, || gate.open());
    program.signal(Signal::STOP);
    wait_until("the command is done", LIMIT, || dir.lines("orphans") == 1);
    program.signal(Signal::CONT);
    program.wait_for_log_count("Reaped child process", ORPHANS);
    update(&dir, "app", "again");
    wait_until("no zombie is left", LIMIT, || zombies(program.pid()).is_empty());
    program.signal(Signal::TERM);
    program.stop();
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
