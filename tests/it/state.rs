//! `state_dir`: renders from the keys of an earlier run while no store can be reached, makes up reloads after a crash,
//! and reports faults of the directory and its files. On a real etcd.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use remco::state::journal::Journal;
use remco::state::keys::{KEYS_AT, TIME_AT, time};
use remco::state::reloads::{Commands, PendingReloads};
use rustix::fs::{CWD, Dev, FileType, Mode, mknodat, symlinkat};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Authority, Clients, Config, Etcd, LIMIT, Recipe, Remco, TempDir, await_file, await_out, config, free_port,
    in_own_namespace, remco, resource, run, wait_until,
};

const TEMPLATE: &str = "{{ getv(\"/app/x\", \"none\") }}\n";

/// The keys of the resource, once it was rendered.
const KEYS: &str = "state/app.keys";

fn folder() -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", TEMPLATE);
    dir
}

/// A watched resource with a cache of these options.
fn cached(url: &str, cache: &str) -> Config {
    let app = resource("app").template("app.tmpl", "out").etcd(url).keys(["/app"]).watch();
    let app = app.table("[resource.cache]").lines(cache);
    config().set("state_dir", "state").and(app)
}

const USED: &str = "use = \"when-unreachable\"\nafter = \"50ms\"";
const FROM_CACHE: &str = "the store cannot be reached, rendering from the keys of an earlier run";

/// Runs once until the keys are kept, and removes the file that was rendered.
fn fill(dir: &TempDir) {
    let program = remco(dir).start();
    wait_until("the keys are kept", LIMIT, || dir.read("out").is_some() && dir.at(KEYS).exists());
    program.stop();
    fs::remove_file(dir.at("out")).unwrap();
}

/// A folder with kept keys of an etcd that is gone.
fn filled(cache: &str) -> (TempDir, Etcd) {
    let mut etcd = Etcd::start();
    etcd.put("/app/x", "1");
    let dir = folder();
    cached(&etcd.url(), cache).write(&dir);
    fill(&dir);
    etcd.kill();
    (dir, etcd)
}

#[test]
fn without_a_store_the_last_keys_are_used_and_then_those_of_the_store() {
    let (dir, mut etcd) = filled(USED);
    assert_eq!((dir.mode("state") & 0o7777, dir.mode(KEYS) & 0o7777), (0o700, 0o600));
    let before = fs::read(dir.at(KEYS)).unwrap();
    let program = remco(&dir).start();
    program.wait_for_log(FROM_CACHE);
    await_out(&dir, "1\n");
    assert_eq!(fs::read(dir.at(KEYS)).unwrap(), before);
    etcd.bring_back();
    program.wait_for_log("the keys of the store replace those of an earlier run");
    etcd.put("/app/x", "2");
    await_out(&dir, "2\n");
    // They may be written later, but not after the end.
    program.stop();
    assert_ne!(fs::read(dir.at(KEYS)).unwrap(), before, "the new keys are kept");
}

/// What the keys of an earlier run gave is no newer for having been rendered, even if the store answers before that ends.
#[test]
fn keys_of_an_earlier_run_do_not_become_younger() {
    let (dir, mut etcd) = filled(USED);
    let mut before = fs::read(dir.at(KEYS)).unwrap();
    before[TIME_AT..KEYS_AT].copy_from_slice(&time(1000));
    fs::write(dir.at(KEYS), &before).unwrap();
    // The check that begins with these keys ends after the store was read.
    let slow = "touch checking; until test -e go; do sleep 0.02; done; grep -q 1 {{.src}}";
    let app = resource("app").template("app.tmpl", "out").set("check_cmd", slow).etcd(&etcd.url()).keys(["/app"]);
    let app = app.watch().table("[resource.cache]").lines(USED);
    config().set("state_dir", "state").and(app).write(&dir);
    let program = remco(&dir).start();
    program.wait_for_log(FROM_CACHE);
    wait_until("the check runs", LIMIT, || dir.at("checking").exists());
    program.signal(Signal::STOP);
    etcd.bring_back();
    etcd.put("/app/x", "2");
    program.signal(Signal::CONT);
    program.wait_for_log("the keys of the store replace those of an earlier run");
    dir.write("go", "");
    await_out(&dir, "1\n");
    // The update with the keys of the store follows. It does not succeed.
    program.wait_for_log("keeping the old file");
    program.stop();
    assert_eq!(fs::read(dir.at(KEYS)).unwrap(), before);
}

#[test]
fn a_frozen_store_is_none_that_answers() {
    let (dir, mut etcd) = filled(USED);
    etcd.bring_back();
    etcd.freeze();
    let program = remco(&dir).start();
    program.wait_for_log(FROM_CACHE);
    await_out(&dir, "1\n");
    program.stop();
    etcd.thaw();
}

#[test]
fn without_the_key_nothing_is_used() {
    for cache in ["", "use = \"never\""] {
        let (dir, etcd) = filled(cache);
        let program = remco(&dir).start();
        program.wait_for_log("failed");
        let log = program.stop();
        assert!(dir.read("out").is_none() && log.iter().all(|line| !line.contains("earlier run")), "{log:#?}");
        drop(etcd);
    }
}

/// Waits for the line about a store that answers, and for the end of the program.
fn is_not_used(dir: &TempDir) {
    let program = remco(dir).start();
    program.wait_for_log("waiting for the keys of a store that was reached");
    let log = program.stop();
    assert!(dir.read("out").is_none() && log.iter().all(|line| !line.contains(FROM_CACHE)), "{log:#?}");
}

#[test]
fn a_login_that_is_refused_is_an_answer() {
    let (dir, mut etcd) = filled("use = \"when-unreachable\"\nafter = \"3s\"");
    etcd.bring_back();
    etcd.enable_auth("/app");
    is_not_used(&dir);
}

#[test]
fn tls_that_is_refused_is_an_answer() {
    let (ours, other) = (Authority::new(), Authority::new());
    let etcd = Etcd::secured(&ours, &ours.server(), Clients::Anyone, &[]);
    etcd.put("/app/x", "1");
    let dir = folder();
    fs::copy(ours.cert(), dir.at("ca.pem")).unwrap();
    let cache = "use = \"when-unreachable\"\nafter = \"3s\"";
    let tls = cached(&etcd.secure_url(), cache).set_in("[resource.backend.etcd]", "client_ca_keys", "ca.pem");
    tls.write(&dir);
    fill(&dir);
    fs::copy(other.cert(), dir.at("ca.pem")).unwrap();
    is_not_used(&dir);
}

#[test]
fn keys_of_other_options_or_too_old_are_not_used() {
    let (dir, etcd) = filled(USED);
    let says = |text: &str| {
        let program = remco(&dir).start();
        program.wait_for_log(text);
        program.stop();
        assert!(dir.read("out").is_none());
    };
    // The time is in the file: a copy of it has another one of its own.
    let seconds = |ahead: i64| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut file = fs::read(dir.at(KEYS)).unwrap();
        file[TIME_AT..KEYS_AT].copy_from_slice(&time(now.cast_signed() + ahead));
        fs::write(dir.at(KEYS), file).unwrap();
        let keys = File::options().write(true).open(dir.at(KEYS)).unwrap();
        keys.set_modified(SystemTime::now() - Duration::from_secs(1_000_000)).unwrap();
    };
    seconds(-7200);
    cached(&etcd.url(), &format!("{USED}\nmax_age = \"1h\"")).write(&dir);
    says("its keys are 720");
    seconds(2 * 3600);
    says("newer than the clock, so that its age is not known");
    cached(&etcd.url(), USED).set_in("[resource.backend.etcd]", "prefix", "/other").write(&dir);
    says("it belongs to other backends, nodes, prefixes or keys");
    // Without `max_age` a clock that is behind does not matter.
    cached(&etcd.url(), USED).write(&dir);
    let program = remco(&dir).start();
    let line = program.wait_for_log(FROM_CACHE);
    assert!(line.contains("age=\"unknown: the clock is behind\""), "{line}");
    await_out(&dir, "1\n");
    program.stop();
}

#[test]
fn files_that_are_no_kept_keys_are_told_and_ignored() {
    let dir = folder();
    cached(&format!("http://127.0.0.1:{}", free_port()), USED).write(&dir);
    let says = |text: &str| {
        let program = remco(&dir).start();
        program.wait_for_log(text);
        program.stop();
        assert!(dir.read("out").is_none());
    };
    says("no store can be reached, and no keys of an earlier run are kept");
    dir.write(KEYS, "");
    says("error=\"it is damaged, or of another version of remco\"");
    dir.write("state/app.reloads", "remco reloads 1\n?");
    says("app.reloads` error=\"it is damaged, or of another version of remco\"");
    File::create(dir.at(KEYS)).unwrap().set_len(1 << 30).unwrap();
    says("it is longer than 64 MB");
    fs::remove_file(dir.at(KEYS)).unwrap();
    dir.write("secret", "kept");
    symlinkat("../secret", CWD, dir.at(KEYS)).unwrap();
    says("it is a symbolic link");
    fs::remove_file(dir.at(KEYS)).unwrap();
    mknodat(CWD, dir.at(KEYS), FileType::Fifo, Mode::RUSR | Mode::WUSR, Dev::default()).unwrap();
    says("it is no regular file");
    fs::remove_file(dir.at(KEYS)).unwrap();
    fs::create_dir(dir.at(KEYS)).unwrap();
    says("it is no regular file");
}

#[test]
fn a_directory_that_is_not_ours_alone_is_an_error_of_the_start() {
    let dir = folder();
    let app = || resource("app").template("app.tmpl", "out").backend("mock");
    config().set("state_dir", "state").and(app()).write(&dir);
    fs::create_dir(dir.at("state")).unwrap();
    dir.set_mode("state", 0o777);
    let refused = remco(&dir).once().expect_code(1);
    refused.expect_log("others may write to it (mode 0777): `chmod 700 state`; nothing was started");
    dir.set_mode("state", 0o755);
    let program = remco(&dir).start();
    wait_until("it has started", LIMIT, || dir.read("out").is_some());
    remco(&dir).once().expect_code(1).expect_log("failed to lock state_dir `state`: another remco uses it");
    program.stop();
    remco(&dir).once().expect_code(0);
    fs::rename(dir.at("state"), dir.at("moved")).unwrap();
    symlinkat("moved", CWD, dir.at("state")).unwrap();
    remco(&dir).once().expect_code(1).expect_log("it is a file or a link: name the directory itself");
}

/// The lock of the directory is taken behind that of `--lock`.
#[test]
fn one_shot_runs_with_a_lock_wait_for_each_other_also_with_state() {
    let dir = folder();
    let app = resource("app").template("app.tmpl", "out");
    let app = app.set("check_cmd", "touch running; until test -e go; do sleep 0.02; done").backend("mock");
    config().set("state_dir", "state").and(app).write(&dir);
    let locked = || remco(&dir).arg("-onetime").arg("--lock=lock").start();
    let mut first = locked();
    wait_until("the first run has the lock", LIMIT, || dir.read("running").is_some());
    let mut second = locked();
    second.wait_for_log("waiting for the lock");
    dir.write("go", "");
    assert_eq!((first.exit_code(), second.exit_code()), (Some(0), Some(0)));
}

fn starts(dir: &TempDir) -> Remco {
    let program = remco(dir).start();
    wait_until("it is in place", LIMIT, || dir.read("out").is_some());
    program
}

/// A reload that has begun when the process is killed is made up by the next one, once.
#[test]
fn a_reload_that_a_crash_has_cut_off_is_made_up() {
    for of_template in [true, false] {
        let dir = folder();
        dir.write("data.json", r#"{"app": {"x": "1"}}"#);
        dir.write("reload.sh", "echo >> reloads\n");
        let reload = |config: Config| config.set("reload_cmd", "sh reload.sh");
        let app = resource("app");
        let app = if of_template { app } else { reload(app) }.template("app.tmpl", "out");
        let app = if of_template { reload(app) } else { app }.file("data.json").watch();
        config().set("state_dir", "state").set("log_level", "debug").and(app).write(&dir);
        let program = starts(&dir);
        // The first file is followed by a reload of its template, and by none of the resource.
        program.wait_for_log("target config has been updated");
        wait_until("nothing is owed", LIMIT, || {
            dir.lines("reloads") == usize::from(of_template) && !dir.at("state/app.reloads").exists()
        });
        dir.write("reload.sh", "echo $$ > begun; exec sleep 3600\n");
        dir.replace("data.json", r#"{"app": {"x": "2"}}"#);
        wait_until("the reload has begun", LIMIT, || dir.lines("begun") == 1);
        assert!(dir.holds("out", "2\n") && dir.at("state/app.reloads").exists());
        program.signal(Signal::KILL);
        drop(program);
        let command = dir.read("begun").and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
        // It may have ended with the program.
        let _ = kill_process(command.expect("a number"), Signal::KILL);
        dir.write("reload.sh", "echo >> made-up\n");
        // A run that makes no reloads leaves them to the next one.
        let mut run = remco(&dir).arg("-onetime").arg("--no-commands").start();
        assert_eq!(run.exit_code(), Some(0));
        assert!(dir.at("state/app.reloads").exists() && dir.lines("made-up") == 0);
        let program = starts(&dir);
        program.wait_for_log("reloads of an earlier run are made up");
        wait_until("the reload is made up", LIMIT, || dir.lines("made-up") == 1);
        wait_until("nothing is owed", LIMIT, || !dir.at("state/app.reloads").exists());
        program.stop();
        let program = starts(&dir);
        program.wait_for_log("target config in sync");
        let log = program.stop();
        assert_eq!(dir.lines("made-up"), 1, "{log:#?}");
    }
}

/// A command that two templates share is owed after the last of them. That one is not there any more at the next start, or
/// the files have other names, or no template has the command.
#[test]
fn a_shared_reload_is_made_up_without_the_template_that_it_would_follow() {
    shared_reload("out", true);
    shared_reload("renamed", true);
    shared_reload("renamed", false);
}

fn shared_reload(now: &str, is_made_up: bool) {
    let dir = folder();
    dir.write("data.json", r#"{"app": {"x": "1"}}"#);
    dir.write("other.tmpl", "other\n");
    dir.write("reload.sh", "");
    let shared = |app: Config| app.set("reload_cmd", "sh reload.sh");
    let only = |dst: &str| resource("app").set("reload_once", true).template("app.tmpl", dst);
    let app = || shared(only("out"));
    let with_state = |app: Config| config().set("state_dir", "state").and(app.file("data.json").watch());
    with_state(shared(app().template("other.tmpl", "other"))).write(&dir);
    let program = starts(&dir);
    wait_until("both are in place", LIMIT, || dir.read("other").is_some() && !dir.at("state/app.reloads").exists());
    dir.write("reload.sh", "echo $$ > begun; exec sleep 3600\n");
    dir.replace("data.json", r#"{"app": {"x": "2"}}"#);
    wait_until("the reload has begun", LIMIT, || dir.lines("begun") == 1);
    assert!(dir.holds("out", "2\n"));
    program.signal(Signal::KILL);
    drop(program);
    let command = dir.read("begun").and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
    // It may have ended with the program.
    let _ = kill_process(command.expect("a number"), Signal::KILL);
    dir.write("reload.sh", "echo >> made-up\n");
    with_state(if is_made_up { shared(only(now)) } else { only(now) }).write(&dir);
    if now != "out" {
        fs::rename(dir.at("out"), dir.at(now)).unwrap();
    }
    let program = remco(&dir).start();
    if is_made_up {
        wait_until("the reload is made up", LIMIT, || dir.lines("made-up") == 1);
    } else {
        program.wait_for_log("is not made up: no template has its path or its command config=out");
    }
    program.stop();
}

/// What is kept of a resource that is not configured any more is removed, by a run that knows all resources.
#[test]
fn what_was_kept_of_a_resource_that_is_gone_is_removed() {
    let dir = folder();
    dir.write("data.json", r#"{"app": {"x": "1"}}"#);
    let named = |name: &str| {
        let app =
            resource(name).template("app.tmpl", &format!("{}.out", name.replace(' ', ""))).set("reload_cmd", "true");
        let app = app.file("data.json").watch();
        app.table("[resource.guard]").set("max_delete_percent", 50)
    };
    let configured = |app: Config| config().set("state_dir", "state").and(app).write(&dir);
    let kept = || dir.names("state");
    configured(named("a b").and(named("app")));
    remco(&dir).arg("-onetime").run().expect_code(0);
    let all = ["a%20b.guard", "a%20b.keys", "app.guard", "app.keys", "lock"];
    assert_eq!(kept(), all);
    fs::copy(dir.at("state/app.keys"), dir.at("state/a%20b.keys.new")).unwrap();
    let reloads = PendingReloads { templates: vec!["out".to_owned()], resource: false };
    fs::write(dir.at("state/gone.reloads"), reloads.encode(&Commands::default())).unwrap();
    fs::write(dir.at("state/gone.journal"), Journal { files: Vec::new() }.encode()).unwrap();
    // These are not remco's.
    for name in ["state/own.keys", "state/notes"] {
        dir.write(name, "of the user");
    }
    symlinkat("app.keys", CWD, dir.at("state/link.keys")).unwrap();
    let others = ["link.keys", "notes", "own.keys"];
    let before = kept();
    for args in [&["-onetime"][..], &["-onetime", "--only=app"]] {
        args.iter().fold(remco(&dir), |run, arg| run.arg(arg)).run().expect_code(0);
        assert_eq!(kept(), before, "{args:?}");
    }
    let program = remco(&dir).arg("--only=app").start();
    program.wait_for_log("keys have been read");
    program.stop();
    assert_eq!(kept(), before, "the others are only not wanted now");
    configured(named("app"));
    remco(&dir).arg("-onetime").run().expect_code(0);
    assert_eq!(kept(), before, "a run of another configuration may follow");
    let program = remco(&dir).start();
    program.wait_for_log("removed what was kept of a resource that is not configured any more file=state/a%20b.guard");
    program.wait_for_log("the reloads that a resource owed are not made up: it is not configured any more");
    program.wait_for_log("the files of a resource that were replaced together are not finished");
    program.wait_for_log("keys have been read");
    program.stop();
    let mut left: Vec<&str> = [&all[2..], &others].concat();
    left.sort_unstable();
    assert_eq!(kept(), left);
}

#[test]
fn secrets_are_not_kept_unless_that_is_wanted() {
    let dir = folder();
    let vault = |secrets: bool| {
        let app = resource("app").template("app.tmpl", "out").backend("vault");
        let node = format!("http://127.0.0.1:{}", free_port());
        let app = app.set("node", node).set("auth_type", "token").set("auth_token", "t").keys(["/app"]);
        let app = app.set("interval", 60).table("[resource.cache]").lines(USED).set("secrets", secrets);
        config().set("state_dir", "state").and(app)
    };
    vault(false).write(&dir);
    fs::create_dir(dir.at("state")).unwrap();
    dir.set_mode("state", 0o700);
    dir.write(KEYS, "those of an earlier configuration");
    let program = remco(&dir).start();
    program.wait_for_log("its keys are not kept: set `secrets` of `[resource.cache]` to keep secrets");
    wait_until("the old ones are removed", LIMIT, || !dir.at(KEYS).exists());
    program.stop();
    vault(true).write(&dir);
    let program = remco(&dir).start();
    program.wait_for_log("no store can be reached, and no keys of an earlier run are kept");
    program.stop();
}

/// The files of the resource are written whatever becomes of the directory.
#[test]
fn a_directory_without_room_is_told_once() {
    in_own_namespace("state::a_directory_without_room_is_told_once", || {
        let dir = folder();
        let value = |n: usize| format!(r#"{{"app": {{"x": "{n}", "y": "{}"}}}}"#, "y".repeat(40_000));
        dir.write("data.json", value(0));
        fs::create_dir(dir.at("state")).unwrap();
        let mount =
            |options: &str| run(&["mount", "-t", "tmpfs", "-o", options, "none", dir.at("state").to_str().unwrap()]);
        mount("size=16k,mode=700");
        let app = resource("app").template("app.tmpl", "out").set("reload_cmd", "true").file("data.json").watch();
        config().set("state_dir", "state").and(app).write(&dir);
        let program = remco(&dir).start();
        for n in 0..4 {
            dir.replace("data.json", value(n));
            await_out(&dir, &format!("{n}\n"));
            program.wait_for_log("failed to write `state/app.keys`");
            wait_until("nothing is owed", LIMIT, || !dir.at("state/app.reloads").exists());
        }
        let log = program.stop();
        let told: Vec<_> = log.iter().filter(|line| line.contains("failed to write `state/app.keys`")).collect();
        assert!(told.len() == 1 && told[0].contains("the last keys are not kept"), "{log:#?}");
        assert!(!dir.at("state/app.keys.new").exists());

        run(&["mount", "-o", "remount,ro", dir.at("state").to_str().unwrap()]);
        dir.replace("data.json", value(4));
        let program = remco(&dir).start();
        await_out(&dir, "4\n");
        let log = program.stop();
        assert!(
            log.iter().any(|line| line.contains("after a crash now, reloads may be lost or run twice")),
            "{log:#?}"
        );
    });
}

#[test]
fn a_directory_that_is_replaced_keeps_nothing_more() {
    let dir = folder();
    dir.write("data.json", r#"{"app": {"x": "1"}}"#);
    let app = resource("app").template("app.tmpl", "out").file("data.json").watch();
    config().set("state_dir", "state").and(app).write(&dir);
    let program = starts(&dir);
    wait_until("the keys are kept", LIMIT, || dir.at(KEYS).exists());
    fs::remove_dir_all(dir.at("state")).unwrap();
    dir.write("elsewhere/kept", "");
    symlinkat("elsewhere", CWD, dir.at("state")).unwrap();
    dir.replace("data.json", r#"{"app": {"x": "2"}}"#);
    await_out(&dir, "2\n");
    program.wait_for_log("failed to write `state/app.keys`");
    program.stop();
    assert_eq!(dir.names("elsewhere"), ["kept"]);
}

/// The recipe as it is written, but for the time that it waits, with its paths and its port in a machine of its own.
#[test]
fn the_recipe_for_a_host_without_network_works() {
    in_own_namespace("state::the_recipe_for_a_host_without_network_works", || {
        let recipe = Recipe::of("## Start a host without its network");
        for folder in ["/etc", "/var/lib"] {
            run(&["mount", "-t", "tmpfs", "none", folder]);
        }
        recipe.write_files();
        let toml = recipe.file("/etc/remco/config");
        assert!(toml.contains("after = \"10s\""));
        fs::write("/etc/remco/config", toml.replace("after = \"10s\"", "after = \"100ms\"")).unwrap();
        let mut etcd = Etcd::start_on(2379, free_port(), &[]);
        etcd.put("/app/greeting", "hello");
        let program = recipe.start();
        await_file("/etc/app.conf", "greeting = hello\n");
        wait_until("the keys are kept", LIMIT, || Path::new("/var/lib/remco/app.keys").exists());
        program.stop();
        etcd.kill();
        fs::remove_file("/etc/app.conf").unwrap();
        let program = recipe.start();
        await_file("/etc/app.conf", "greeting = hello\n");
        program.wait_for_log(FROM_CACHE);
        program.stop();
    });
}
