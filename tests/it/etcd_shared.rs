//! Resources that share one real etcd also share one stream, as long as a resource watches.

use std::fs;

use rustix::process::Signal;

use crate::support::{
    Config, Etcd, Fault, FaultProxy, LIMIT, Remco, TempDir, config, remco, resource, run, wait_until,
};

/// A resource that renders all of `/NAME` to `NAME.out`, triggered by these keys.
fn sharing(url: &str, name: &str) -> Config {
    let template = resource(name).template("list.tmpl", &format!("{name}.out"));
    template.etcd(url).keys([&format!("/{name}")]).watch()
}

/// Several of them.
fn all(url: &str, names: &[&str]) -> Config {
    names.iter().fold(config(), |all, name| all.and(sharing(url, name)))
}

const LIST: &str = "{% for kv in getallkvs() %}\n{{ kv.Key }}={{ kv.Value }}\n{% endfor %}\n";

/// A folder with a configuration at debug level.
fn folder(resources: Config) -> TempDir {
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    configure(&dir, resources);
    dir
}

fn configure(dir: &TempDir, resources: Config) {
    dir.replace("config.toml", config().set("log_level", "debug").and(resources).to_string());
}

/// Writes a key of its own for each and waits until each has it.
fn update(dir: &TempDir, etcd: &Etcd, names: &[&str], value: &str) {
    let mut gateway = etcd.gateway();
    names.iter().for_each(|name| gateway.put(&format!("/{name}/x"), value));
    for name in names {
        let mark = format!("/{name}/x={value}\n");
        let out = format!("{name}.out");
        wait_until(&format!("{name} has {value}"), LIMIT, || dir.read(&out).is_some_and(|text| text.contains(&mark)));
    }
}

/// How many connections a process has to a port of this machine.
fn connections(pid: u32, port: u16) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs");
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let sockets: Vec<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("the process runs");
    let remote = format!(":{port:04X}");
    let is_ours = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // `sl local remote state tx:rx tr:when retrnsmt uid timeout inode`; 01 is a connection.
        fields.len() > 9 && fields[2].ends_with(&remote) && fields[3] == "01" && sockets.iter().any(|s| s == fields[9])
    };
    table.lines().filter(is_ours).count()
}

/// The stream, and the connection that is kept for requests. A stream that is opened takes that, and the next request makes
/// another one.
fn await_two_connections(program: &Remco, etcd: &Etcd) {
    wait_until("two connections", LIMIT, || (1..=2).contains(&connections(program.pid(), etcd.client_port())));
}

#[test]
fn three_resources_share_a_stream() {
    let mut etcd = Etcd::start();
    let names = ["one", "two", "three"];
    let dir = folder(all(&etcd.url(), &names));
    let program = remco(&dir).start();
    update(&dir, &etcd, &names, "1");
    await_two_connections(&program, &etcd);
    update(&dir, &etcd, &names, "2");
    await_two_connections(&program, &etcd);
    // All of them watch on when it comes back, and are told when it goes.
    etcd.kill();
    program.wait_for_log_count("failed to watch http", names.len());
    etcd.restart();
    update(&dir, &etcd, &names, "3");
    // The stream alone: nothing had to be read.
    assert_eq!(connections(program.pid(), etcd.client_port()), 1);
    for name in names {
        assert!(program.log().iter().any(|line| line.contains("failed to watch") && line.contains(name)), "{name}");
    }
    program.stop();
}

/// Other limits are other connections: what one asks for must not bind the other.
#[test]
fn other_options_are_another_stream() {
    let etcd = Etcd::start();
    let two = sharing(&etcd.url(), "two").set("request_timeout", 2);
    let dir = folder(sharing(&etcd.url(), "one").and(two));
    let program = remco(&dir).start();
    update(&dir, &etcd, &["one", "two"], "1");
    wait_until("four connections", LIMIT, || connections(program.pid(), etcd.client_port()) == 4);
    program.stop();
}

#[test]
fn resources_come_and_go_while_the_others_watch_on() {
    let etcd = Etcd::start();
    let dir = folder(all(&etcd.url(), &["one", "two"]));
    let program = remco(&dir).start();
    update(&dir, &etcd, &["one", "two"], "1");
    for (n, names) in [&["one", "two", "new"][..], &["two", "new"], &["new"], &["new", "one"]].iter().enumerate() {
        configure(&dir, all(&etcd.url(), names));
        program.signal(Signal::HUP);
        program.wait_for_log_count("loading new config", n + 1);
        // Written while the stream is made anew.
        update(&dir, &etcd, names, &format!("more {n}"));
        await_two_connections(&program, &etcd);
        update(&dir, &etcd, names, &format!("and more {n}"));
    }
    let log = program.stop();
    let told = |line: &&String| line.contains("ERROR") || line.contains("WARN");
    assert!(log.iter().filter(told).all(|line| line.contains("no key below `/new`")), "{log:#?}");
}

/// A resource that waits for its predecessor's child gets no turn until that has gone: another one has to drive.
#[test]
fn a_resource_that_waits_does_not_hold_up_the_others() {
    let etcd = Etcd::start();
    // Its child ignores the signal; it ends when somebody writes to the fifo, or when the test has failed long ago.
    let one = sharing(&etcd.url(), "one").exec("timeout 100 cat gate").set("kill_signal", "SIGURG");
    let dir = folder(one.set("kill_timeout", 3600).and(sharing(&etcd.url(), "two")));
    run(&["mkfifo", &dir.at("gate").to_string_lossy()]);
    let program = remco(&dir).start();
    update(&dir, &etcd, &["one", "two"], "1");
    program.wait_for_log("child has been started");
    let patient = |name| sharing(&etcd.url(), name).set("watch_deadline", 20);
    configure(&dir, patient("one").and(patient("two")));
    program.signal(Signal::HUP);
    program.wait_for_log("loading new config");
    update(&dir, &etcd, &["two"], "2");
    update(&dir, &etcd, &["two"], "3");
    assert!(!dir.read("one.out").expect("its first render").contains('3'), "it waits");
    fs::write(dir.at("gate"), "").expect("the child reads");
    update(&dir, &etcd, &["one", "two"], "4");
    await_two_connections(&program, &etcd);
    program.stop();
}

/// What one reads must not hold up, nor repeat, nor lose what another is told meanwhile.
#[test]
fn full_reads_of_one_leave_the_others_alone() {
    const PUTS: usize = 300;
    let etcd = Etcd::start();
    let mut gateway = etcd.gateway();
    (0..200).for_each(|n| gateway.put(&format!("/busy/{n:03}"), "x"));
    let busy = sharing(&etcd.url(), "busy").set("interval", 1);
    let dir = folder(busy.and(sharing(&etcd.url(), "other")));
    let program = remco(&dir).start();
    update(&dir, &etcd, &["busy", "other"], "0");
    program.wait_for_log_count("retrieving keys", 4);
    for n in 0..PUTS {
        gateway.put("/busy/x", &n.to_string());
        gateway.put("/other/x", &n.to_string());
    }
    program.wait_for_log_count("retrieving keys", 6);
    update(&dir, &etcd, &["busy", "other"], "last");
    await_two_connections(&program, &etcd);
    let log = program.stop();
    // Nothing was missed by the watch, so every full read agreed with it.
    assert!(!log.iter().any(|line| line.contains("ERROR") || line.contains("WARN")), "{log:#?}");
}

/// A cut of the connection during which the history is forgotten: everything is read anew, and each resource once.
#[test]
fn a_compaction_during_a_cut_loses_nothing() {
    let etcd = Etcd::start();
    let proxy = FaultProxy::start(etcd.client_port());
    let names = ["one", "two"];
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let dir = folder(all(&url, &names));
    let mut gateway = etcd.gateway();
    (0..20).for_each(|n| gateway.put("/one/gone", &n.to_string()));
    let program = remco(&dir).start();
    update(&dir, &etcd, &names, "1");
    proxy.set(Fault::Refuses);
    proxy.cut();
    program.wait_for_log_count("failed to watch http", names.len());
    gateway.delete("/one/gone");
    gateway.put("/one/x", "2");
    gateway.put("/two/x", "2");
    gateway.compact();
    proxy.set(Fault::None);
    wait_until("the new state", LIMIT, || dir.holds("one.out", "/one/x=2\n") && dir.holds("two.out", "/two/x=2\n"));
    update(&dir, &etcd, &names, "3");
    let log = program.stop();
    let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("reading all keys again"), names.len(), "{log:#?}");
    assert_eq!(count("retrieving keys"), 2 * names.len(), "{log:#?}");
}

/// Many values that are large come in one catch-up: etcd sends it in fragments, and half a revision is none.
#[test]
fn a_large_catch_up_arrives_whole() {
    const KEYS: usize = 60;
    let etcd = Etcd::start();
    let proxy = FaultProxy::start(etcd.client_port());
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let dir = folder(sharing(&url, "one").set("max_response", 8_000_000));
    let program = remco(&dir).start();
    update(&dir, &etcd, &["one"], "1");
    proxy.set(Fault::Refuses);
    proxy.cut();
    program.wait_for_log("failed to watch http");
    let mut gateway = etcd.gateway();
    let mut want = String::new();
    for n in 0..KEYS {
        let value = format!("{n:02}").repeat(100_000);
        gateway.put(&format!("/one/k{n:02}"), &value);
        want += &format!("/one/k{n:02}={value}\n");
    }
    proxy.set(Fault::None);
    want += "/one/x=1\n";
    wait_until("all of it", LIMIT, || dir.holds("one.out", &want));
    let log = program.stop();
    assert!(!log.iter().any(|line| line.contains("reading all keys again") || line.contains("longer than")));
}
