//! Version 2 of etcd's API, on a real etcd: reads, watches, failures of the server, and the detection of the version.

use rustix::process::Signal;

use crate::support::{
    Etcd, KeysV2, LIMIT, LIST, Random, Remco, TempDir, await_out, free_port, reads, remco, wait_until,
};

/// How many keys' changes etcd remembers.
const HISTORY: usize = 1000;

struct Bench {
    dir: TempDir,
    etcd: Etcd,
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: TempDir::new(), etcd: Etcd::start_with(&["--enable-v2"]) }
    }

    fn keys(&self) -> KeysV2 {
        KeysV2::of(&self.etcd)
    }

    /// Writes a configuration that renders all of `/app`.
    fn configure(&self, lines: &str) {
        configure(&self.dir, &[&self.etcd.url()], lines);
    }

    /// A program that watches `/app` with version 2 and has rendered it.
    fn watching(&self) -> Remco {
        self.configure("version = 2\nwatch = true");
        let program = remco(&self.dir).start();
        wait_until("the first render", LIMIT, || self.dir.read("out").is_some());
        program
    }

    #[track_caller]
    fn await_file(&self, content: &str) {
        await_out(&self.dir, content);
    }
}

fn configure(dir: &TempDir, nodes: &[&str], lines: &str) {
    let nodes = if nodes.is_empty() { String::new() } else { format!("nodes = {nodes:?}") };
    dir.write("list.tmpl", LIST);
    dir.write(
        "config.toml",
        format!(
            r#"
log_level = "debug"
[[resource]]
name = "app"
[[resource.template]]
src = "list.tmpl"
dst = "out"
[resource.backend.etcd]
{nodes}
keys = ["/app"]
{lines}
"#
        ),
    );
}

#[test]
fn every_kind_of_change_reaches_the_file_and_costs_no_read() {
    let bench = Bench::new();
    let etcdctl = |args: &[&str]| drop(bench.etcd.etcdctl_of("2", args));
    etcdctl(&["set", "/app/a", "1"]);
    etcdctl(&["mkdir", "/app/empty"]);
    etcdctl(&["set", "/app2/not/within", "1"]);
    let program = bench.watching();
    bench.await_file("/app/a=1\n");
    etcdctl(&["set", "/app/a", "2"]);
    bench.await_file("/app/a=2\n");
    etcdctl(&["mk", "/app/d/b", "ä <&>\u{1}\n\"x\""]);
    bench.await_file("/app/a=2\n/app/d/b=ä <&>\u{1}\n\"x\"\n");
    etcdctl(&["update", "/app/d/b", "3"]);
    bench.await_file("/app/a=2\n/app/d/b=3\n");
    etcdctl(&["set", "/app/d/c d%/e?", "4", "--swap-with-value", ""]);
    bench.await_file("/app/a=2\n/app/d/b=3\n/app/d/c d%/e?=4\n");
    etcdctl(&["rm", "/app/a"]);
    bench.await_file("/app/d/b=3\n/app/d/c d%/e?=4\n");
    etcdctl(&["rm", "--recursive", "/app/d"]);
    bench.await_file("");
    etcdctl(&["set", "/app/gone", "soon", "--ttl", "1"]);
    bench.await_file("/app/gone=soon\n");
    bench.await_file("");
    etcdctl(&["setdir", "/app/dir", "--ttl", "1"]);
    etcdctl(&["set", "/app/dir/x", "soon"]);
    bench.await_file("/app/dir/x=soon\n");
    bench.await_file("");
    let log = program.stop();
    assert_eq!(reads(&log), 1, "{log:#?}");
    assert!(log.iter().any(|line| line.contains("set backend nodes") && line.contains("version=2")), "{log:#?}");
    // Whenever all of them are gone.
    let told = |line: &&String| line.contains("WARN") || line.contains("ERROR");
    assert!(log.iter().filter(told).all(|line| line.contains("no key below `/app`")), "{log:#?}");
}

#[test]
fn prefix_and_watch_keys_mean_the_same_as_in_version_3() {
    let bench = Bench::new();
    let mut keys = bench.keys();
    keys.set("/prod/app/a", "1");
    keys.set("/prod/reload", "1");
    bench.configure("version = 2\nprefix = \"prod\"\nwatchKeys = [\"/reload\"]\nwatch = true");
    let program = remco(&bench.dir).start();
    bench.await_file("/app/a=1\n");
    keys.set("/prod/app/a", "2");
    keys.set("/prod/reload", "2");
    bench.await_file("/app/a=2\n");
    let log = program.stop();
    assert_eq!(reads(&log), 1, "{log:#?}");
}

#[test]
fn a_burst_is_rendered_and_ends_as_it_is() {
    let bench = Bench::new();
    let mut keys = bench.keys();
    keys.set("/app/last", "0");
    let program = bench.watching();
    for n in 1..=HISTORY / 2 {
        keys.set(&format!("/app/{}", n % 50), &n.to_string());
    }
    keys.set("/app/last", "1");
    let mut want: Vec<String> = (451..=500).map(|n| format!("/app/{}={n}\n", n % 50)).collect();
    want.push("/app/last=1\n".into());
    want.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
    bench.await_file(&want.concat());
    let log = program.stop();
    assert_eq!(reads(&log), 1, "{log:#?}");
}

#[test]
fn random_changes_end_as_a_fresh_one_shot() {
    const CHANGES: u64 = 600;
    let mut bench = Bench::new();
    bench.keys().set("/app/dir0/key0", "0");
    let program = bench.watching();
    let mut random = Random::new(20130716);
    let mut keys = bench.keys();
    for n in 0..CHANGES {
        let dir = format!("/app/dir{}", random.below(4));
        let key = format!("{dir}/key{}", random.below(8));
        match random.below(10) {
            // What is not there cannot be removed.
            0 => _ = keys.request("DELETE", &format!("/v2/keys{dir}?recursive=true"), ""),
            1 | 2 => _ = keys.request("DELETE", &format!("/v2/keys{key}"), ""),
            _ => keys.set(&key, &n.to_string()),
        }
        if n % 200 == 100 {
            bench.etcd.kill();
            bench.etcd.restart();
            keys = bench.keys();
        }
    }
    keys.set("/app/last", "1");
    wait_until("the last change", LIMIT, || bench.dir.read("out").is_some_and(|text| text.contains("/app/last=1\n")));
    let watched = bench.dir.read("out").expect("it was there before");
    let log = program.stop();
    bench.configure("version = 2\nonetime = true");
    remco(&bench.dir).once().expect_code(0);
    assert_eq!(bench.dir.read("out").as_deref(), Some(&*watched), "{log:#?}");
    assert!(watched.lines().count() > 5, "hardly anything left to compare: {watched}");
    assert_eq!(reads(&log), 1, "{log:#?}");
}

#[test]
fn more_changes_than_the_history_holds_are_read() {
    let bench = Bench::new();
    let mut keys = bench.keys();
    keys.set("/app/a", "1");
    keys.set("/app/b", "1");
    let program = bench.watching();
    program.signal(Signal::STOP);
    keys.set("/app/a", "2");
    keys.delete("/app/b");
    for n in 0..HISTORY + 50 {
        keys.set("/elsewhere", &n.to_string());
    }
    program.signal(Signal::CONT);
    bench.await_file("/app/a=2\n");
    keys.set("/app/a", "3");
    bench.await_file("/app/a=3\n");
    let log = program.stop();
    assert_eq!(reads(&log), 2, "{log:#?}");
    assert!(log.iter().any(|line| line.contains("reason=\"history was cleared\"")), "{log:#?}");
}

/// etcd's history does not hide them.
#[test]
fn hidden_keys_stay_hidden_where_history_brings_them() {
    let bench = Bench::new();
    let mut keys = bench.keys();
    keys.set("/app/a", "1");
    let program = bench.watching();
    program.wait_for_log("target config has been updated");
    program.signal(Signal::STOP);
    keys.set("/app/a", "2");
    keys.set("/app/_hidden", "1");
    keys.set("/app/a", "3");
    program.signal(Signal::CONT);
    bench.await_file("/app/a=3\n");
    keys.set("/app/a", "4");
    bench.await_file("/app/a=4\n");
    program.stop();
}

#[test]
fn a_killed_etcd_is_watched_on_when_it_is_back() {
    let mut bench = Bench::new();
    bench.keys().set("/app/a", "1");
    let program = bench.watching();
    bench.etcd.kill();
    program.wait_for_log("connection refused");
    bench.etcd.restart();
    let mut keys = bench.keys();
    keys.set("/app/a", "2");
    keys.set("/app/b", "1");
    bench.await_file("/app/a=2\n/app/b=1\n");
    keys.delete("/app/b");
    bench.await_file("/app/a=2\n");
    let log = program.stop();
    assert_eq!(reads(&log), 1, "{log:#?}");
}

#[test]
fn an_etcd_that_was_rebuilt_is_read_anew() {
    let mut bench = Bench::new();
    let mut keys = bench.keys();
    (0..20).for_each(|n| keys.set("/app/a", &n.to_string()));
    let program = bench.watching();
    bench.etcd.kill();
    program.wait_for_log("connection refused");
    bench.etcd.wipe();
    bench.etcd.restart();
    let mut keys = bench.keys();
    keys.set("/app/b", "rebuilt");
    bench.await_file("/app/b=rebuilt\n");
    keys.set("/app/b", "again");
    bench.await_file("/app/b=again\n");
    let log = program.stop();
    assert!(log.iter().any(|line| line.contains("etcd was put back to an earlier index")), "{log:#?}");
}

#[test]
fn a_frozen_etcd_is_noticed_in_silence() {
    let mut bench = Bench::new();
    bench.keys().set("/app/a", "1");
    bench.configure("version = 2\nwatch = true\nwatch_deadline = 0.5\nrequest_timeout = 0.5");
    let program = remco(&bench.dir).start();
    bench.await_file("/app/a=1\n");
    bench.etcd.freeze();
    program.wait_for_log("no answer within 500ms");
    bench.etcd.thaw();
    bench.keys().set("/app/a", "2");
    bench.await_file("/app/a=2\n");
    let log = program.stop();
    assert_eq!(reads(&log), 1, "{log:#?}");
}

#[test]
fn another_node_takes_over() {
    let mut bench = Bench::new();
    let other = Etcd::start_with(&["--enable-v2"]);
    bench.keys().set("/app/a", "first");
    KeysV2::of(&other).set("/app/a", "second");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    configure(&bench.dir, &[&nobody, &bench.etcd.url()], "version = 2\nonetime = true");
    remco(&bench.dir).once().expect_code(0);
    bench.await_file("/app/a=first\n");

    // Two that are no cluster: each has a file of its own, and whichever goes first, the other one is read anew.
    configure(&bench.dir, &[&bench.etcd.url(), &other.url()], "version = 2\nwatch = true");
    let program = remco(&bench.dir).start();
    program.wait_for_log("set backend nodes");
    wait_until("a render", LIMIT, || {
        bench.dir.holds("out", "/app/a=first\n") || bench.dir.holds("out", "/app/a=second\n")
    });
    bench.etcd.kill();
    bench.await_file("/app/a=second\n");
    program.stop();
}

#[test]
fn a_missing_key_is_an_error_and_keeps_the_old_file() {
    let bench = Bench::new();
    let mut keys = bench.keys();
    bench.configure("version = 2\nonetime = true");
    let missing = format!("failed to read from {}: `/app`: key not found", bench.etcd.url());
    remco(&bench.dir).once().expect_code(1).expect_log(&missing);
    bench.configure("version = 2\nwatch = true");
    let program = remco(&bench.dir).start();
    program.wait_for_log(&missing);
    keys.set("/app/a", "1");
    bench.await_file("/app/a=1\n");
    keys.delete("/app");
    program.wait_for_log_count(&missing, 2);
    bench.await_file("/app/a=1\n");
    keys.set("/app/b", "2");
    bench.await_file("/app/b=2\n");
    program.stop();
}

#[test]
fn users() {
    let bench = Bench::new();
    let mut keys = bench.keys();
    keys.set("/app/a", "1");
    keys.done("PUT", "/v2/auth/users/root", r#"{"user": "root", "password": "r00t"}"#);
    let role = r#"{"role": "reader", "permissions": {"kv": {"read": ["/app*"], "write": []}}}"#;
    keys.done("PUT", "/v2/auth/roles/reader", role);
    keys.done("PUT", "/v2/auth/users/bob", r#"{"user": "bob", "password": "hush:hush", "roles": ["reader"]}"#);
    keys.done("PUT", "/v2/auth/enable", "{}");
    keys.log_in("root", "r00t");
    keys.done(
        "PUT",
        "/v2/auth/roles/guest",
        r#"{"role": "guest", "revoke": {"kv": {"read": ["/*"], "write": ["/*"]}}}"#,
    );

    let once = |lines: &str| {
        bench.configure(&format!("version = 2\nonetime = true\n{lines}"));
        remco(&bench.dir).once()
    };
    once("").expect_code(1).expect_log("`/app` may not be read without a user: HTTP 401: ");
    let wrong = once("username = \"bob\"\npassword = \"wrong-pw\"").expect_code(1);
    wrong.expect_log("user `bob` may not read `/app`, or has another password: HTTP 401: ").expect_no_log("wrong-pw");
    let url = bench.etcd.url().replace("http://", "http://bob:wrong-pw@");
    configure(&bench.dir, &[&url], "version = 2\nonetime = true");
    remco(&bench.dir).once().expect_code(1).expect_no_log("wrong-pw");

    bench.dir.write("password", "not yet\n");
    bench.configure("version = 2\nwatch = true\nusername = \"bob\"\npassword_file = \"password\"");
    let program = remco(&bench.dir).start();
    program.wait_for_log("user `bob` may not read `/app`");
    bench.dir.write("password", "hush:hush\n");
    bench.await_file("/app/a=1\n");
    keys.set("/app/a", "2");
    bench.await_file("/app/a=2\n");
    let log = program.stop();
    assert!(!log.iter().any(|line| line.contains("hush")), "{log:#?}");
}

#[test]
fn a_version_that_is_not_there_names_the_other() {
    let etcd = Etcd::start();
    let dir = TempDir::new();
    configure(&dir, &[&etcd.url()], "version = 2\nonetime = true");
    let why = "HTTP 404: `/v2/keys` is not known here: etcd needs --enable-v2 for it, or set `version = 3`";
    remco(&dir).once().expect_code(1).expect_log(why);
}

#[test]
fn the_version_is_the_one_that_holds_a_key() {
    let bench = Bench::new();
    let mut keys = bench.keys();
    bench.configure("onetime = true");
    let once = || remco(&bench.dir).once().expect_code(0);
    once().expect_log("no key was found in version 3 or 2 of etcd, taking 3: set `version`").expect_log("version=3");
    // What is not within the keys of the resource does not count.
    bench.etcd.put("/other", "3");
    keys.set("/app/a", "2");
    once().expect_log("version=2").expect_no_log("taking 3");
    bench.await_file("/app/a=2\n");
    bench.etcd.put("/app/a", "3");
    once().expect_log("version=3").expect_no_log("taking 3");
    bench.await_file("/app/a=3\n");

    let without = Etcd::start();
    configure(&bench.dir, &[&without.url()], "onetime = true");
    once().expect_log("taking 3").expect_log("version=3");
}

#[test]
fn a_version_that_may_not_be_seen_is_not_guessed() {
    let bench = Bench::new();
    let mut keys = bench.keys();
    let once = |lines: &str| {
        bench.configure(&format!("onetime = true\ntimeout = 0.1\n{lines}"));
        remco(&bench.dir).once()
    };
    // A user where nobody logs in.
    const BOB: &str = "username = \"bob\"\npassword = \"hush\"";
    bench.etcd.put("/app/a", "3");
    once(BOB).expect_code(0).expect_log("version=3");
    for args in [
        &["user", "add", "root:r00t"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "bob:hush"],
        &["role", "add", "reader"],
        &["role", "grant-permission", "--prefix", "reader", "read", "/app"],
        &["user", "grant-role", "bob", "reader"],
        &["auth", "enable"],
    ] {
        bench.etcd.etcdctl(args);
    }
    once(BOB).expect_code(0).expect_log("version=3");
    let why = format!(
        "failed to find out the version of {}: set `version`: it cannot be found out: HTTP 4",
        bench.etcd.url()
    );
    once("").expect_code(1).expect_log(&why);
    let not_let_in = format!("failed to log in to {} as user bob: HTTP 4", bench.etcd.url());
    once("username = \"bob\"\npassword = \"wrong\"").expect_code(1).expect_log(&not_let_in).expect_no_log("wrong");
    // What version 3 hides does not matter where version 2 has it.
    keys.set("/app/a", "2");
    once("").expect_code(0).expect_log("version=2");
    bench.await_file("/app/a=2\n");
}

#[test]
fn the_version_is_found_out_once() {
    let mut bench = Bench::new();
    bench.configure("watch = true\ninterval = 1");
    bench.etcd.kill();
    let program = remco(&bench.dir).start();
    program.wait_for_log(&format!("failed to find out the version of {}: connection refused", bench.etcd.url()));
    bench.etcd.restart();
    let mut keys = bench.keys();
    // The key is there first: the program may come at any moment from now on.
    keys.set("/app/a", "2");
    program.wait_for_log("set backend nodes");
    wait_until("a render", LIMIT, || bench.dir.read("out").is_some());
    let version = program.log().iter().any(|line| line.contains("version=2"));
    bench.etcd.put("/app/a", "3");
    keys.set("/app/a", "4");
    let want = if version { "/app/a=4\n" } else { "/app/a=3\n" };
    bench.await_file(want);
    program.wait_for_log_count("retrieving keys", 3);
    bench.await_file(want);
    let log = program.stop();
    assert_eq!(log.iter().filter(|line| line.contains("set backend nodes")).count(), 1, "{log:#?}");
}
