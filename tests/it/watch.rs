//! Watches of a real etcd: no failure of etcd loses a change.

use crate::support::{
    Config, Etcd, Gateway, LIMIT, Proxy, Random, Remco, Silent, TempDir, config, free_port, remco, resource, wait_until,
};

const LIST: &str = "{% for kv in gets(\"/app/*\") %}\n{{ kv.Key }}={{ kv.Value }}\n{% endfor %}\n";

/// A resource that renders all of /app to `dst`.
fn listing(url: &str, dst: &str) -> Config {
    config().set("log_level", "debug").and(resource("app").template("list.tmpl", dst).etcd(url).keys(["/app"]))
}

#[test]
fn five_hundred_random_changes_end_as_a_fresh_one_shot() {
    const CHANGES: usize = 500;
    let mut etcd = Etcd::start();
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    listing(&etcd.url(), "watched").watch().write(&dir);
    dir.write("fresh.toml", listing(&etcd.url(), "fresh").onetime().to_string());
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.read("watched").is_some());

    let mut random = Random::new(20161203);
    let mut gateway = etcd.gateway();
    let mut done = 0;
    while done < CHANGES {
        // A burst with no pause in it; some are as short as one change.
        let burst = (1 + random.below(25) as usize).min(CHANGES - done);
        for _ in 0..burst {
            change(&mut random, &mut gateway);
        }
        let before = done;
        done += burst;
        if (before..done).contains(&(CHANGES / 2)) {
            etcd.kill();
            etcd.restart();
            gateway = etcd.gateway();
        }
        // Some bursts follow at once, others find the one before rendered.
        if random.below(2) == 0 {
            gateway.put("/app/burst", &done.to_string());
            let mark = format!("/app/burst={done}\n");
            wait_until("the burst is rendered", LIMIT, || dir.read("watched").is_some_and(|text| text.contains(&mark)));
        }
    }

    let fresh = remco(&dir).arg("-config=fresh.toml").once().expect_code(0);
    drop(fresh);
    let expected = dir.read("fresh").expect("the one-shot has written it");
    assert!(expected.lines().count() > 10, "hardly anything left to compare:\n{expected}");
    wait_until("the watched file equals a fresh one-shot", LIMIT, || dir.holds("watched", &expected));
    let log = program.stop();
    assert!(log.iter().any(|line| line.contains("Captured terminated. Exiting...")), "{log:#?}");
}

/// One put or delete of one of 40 keys; one in five is a delete.
fn change(random: &mut Random, gateway: &mut Gateway) {
    let key = format!("/app/key{:02}", random.below(40));
    if random.below(5) == 0 {
        gateway.delete(&key);
    } else {
        gateway.put(&key, &random.below(1_000_000).to_string());
    }
}

/// remco lost what was written between its first read and the start of its watch.
#[test]
fn fault_01_a_change_between_the_first_read_and_the_watch_is_seen() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.client_port(), "/v3/watch");
    etcd.put("/app/a", "old");
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    listing(&proxy.url(), "out").watch().write(&dir);
    let program = remco(&dir).start();
    wait_until("the watch is being opened", LIMIT, || proxy.holds_one());
    etcd.put("/app/a", "new");
    proxy.open();
    wait_until("the change is rendered", LIMIT, || dir.holds("out", "/app/a=new\n"));
    program.stop();
}

#[test]
fn an_etcd_that_comes_late_is_waited_for() {
    let mut etcd = Etcd::start();
    etcd.put("/app/a", "1");
    etcd.kill();
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    listing(&etcd.url(), "out").watch().write(&dir);
    let program = remco(&dir).start();
    let port = etcd.client_port().to_string();
    program.wait_for_log(&port);
    assert_eq!(dir.read("out"), None);
    etcd.restart();
    wait_until("the first render", LIMIT, || dir.holds("out", "/app/a=1\n"));
    etcd.put("/app/a", "2");
    wait_until("the second render", LIMIT, || dir.holds("out", "/app/a=2\n"));
    program.stop();
}

/// An etcd with two keys, and a remco whose watch is held at the revision of its first read.
fn held_watch() -> (Etcd, Proxy, TempDir, Remco) {
    let etcd = Etcd::start();
    etcd.put("/app/a", "1");
    etcd.put("/app/b", "1");
    let proxy = Proxy::start(etcd.client_port(), "/v3/watch");
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    listing(&proxy.url(), "out").watch().write(&dir);
    let program = remco(&dir).start();
    wait_until("the watch is being opened", LIMIT, || proxy.holds_one());
    (etcd, proxy, dir, program)
}

/// What the watch would have told is gone after a compaction: everything is read again.
#[test]
fn a_compaction_while_etcd_was_away_loses_nothing() {
    // The revision of the watch is forgotten before etcd hears of it.
    let (mut etcd, proxy, dir, program) = held_watch();
    etcd.put("/app/a", "2");
    etcd.delete("/app/b");
    etcd.put("/app/c", "3");
    etcd.gateway().compact();
    proxy.open();
    wait_until("all changes are rendered", LIMIT, || dir.holds("out", "/app/a=2\n/app/c=3\n"));
    etcd.kill();
    etcd.restart();
    etcd.put("/app/c", "4");
    wait_until("the watch goes on", LIMIT, || dir.holds("out", "/app/a=2\n/app/c=4\n"));
    program.stop();
}

/// etcd 3.4.23 says neither that there was a deletion nor that it is forgotten, if it is the first wanted revision.
#[test]
fn a_deletion_that_is_compacted_before_the_watch_is_open_is_seen() {
    let (etcd, proxy, dir, program) = held_watch();
    etcd.delete("/app/b");
    etcd.gateway().compact();
    proxy.open();
    wait_until("the deletion is rendered", LIMIT, || dir.holds("out", "/app/a=1\n"));
    program.stop();
}

/// A cluster that was set up anew has small revisions; a watch at the old ones would hear nothing for days.
#[test]
fn an_etcd_that_lost_its_data_is_read_again() {
    let mut etcd = Etcd::start();
    let mut gateway = etcd.gateway();
    for n in 0..50 {
        gateway.put("/app/a", &n.to_string());
    }
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    listing(&etcd.url(), "out").watch().write(&dir);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out", "/app/a=49\n"));
    etcd.kill();
    etcd.wipe();
    etcd.restart();
    etcd.put("/app/b", "new");
    wait_until("the new cluster is rendered", LIMIT, || dir.holds("out", "/app/b=new\n"));
    etcd.put("/app/b", "newer");
    wait_until("the new cluster is watched", LIMIT, || dir.holds("out", "/app/b=newer\n"));
    program.stop();
}

/// Two resources on the same keys: one is triggered by them, one by a key beside them.
#[test]
fn watch_keys_alone_trigger_an_update() {
    let etcd = Etcd::start();
    etcd.put("/app/a", "0");
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    let watching = |name| resource(name).template("list.tmpl", name).etcd(&etcd.url()).keys(["/app"]).watch();
    let both = watching("all").and(watching("some").set("watchKeys", ["/trigger"]));
    config().set("log_level", "debug").and(both).write(&dir);
    let program = remco(&dir).start();
    wait_until("both first renders", LIMIT, || dir.holds("all", "/app/a=0\n") && dir.holds("some", "/app/a=0\n"));
    for value in ["1", "2"] {
        etcd.put("/app/a", value);
        wait_until("the keys trigger one", LIMIT, || dir.holds("all", &format!("/app/a={value}\n")));
    }
    etcd.put("/trigger", "now");
    wait_until("the trigger triggers the other", LIMIT, || dir.holds("some", "/app/a=2\n"));
    let log = program.stop();
    let updates = log.iter().filter(|l| l.contains("target config has been updated") && l.contains("resource=some"));
    assert_eq!(updates.count(), 2, "the first render and the one that was triggered: {log:#?}");
}

#[test]
fn an_interval_reads_again_without_a_watch() {
    let etcd = Etcd::start();
    etcd.put("/app/a", "1");
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    listing(&etcd.url(), "out").set("interval", 1).write(&dir);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out", "/app/a=1\n"));
    etcd.put("/app/a", "2");
    wait_until("the next render", LIMIT, || dir.holds("out", "/app/a=2\n"));
    program.stop();
}

/// More keys than one page of a range, watched and read whole.
#[test]
fn more_keys_than_a_page_are_read() {
    const KEYS: usize = 10_050;
    let etcd = Etcd::start();
    let mut gateway = etcd.gateway();
    for n in 0..KEYS {
        gateway.put(&format!("/app/k{n:05}"), "v");
    }
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    listing(&etcd.url(), "out").onetime().write(&dir);
    remco(&dir).once().expect_code(0);
    let text = dir.read("out").expect("it has been written");
    assert_eq!(text.lines().count(), KEYS);
    assert!(text.starts_with("/app/k00000=v\n") && text.ends_with("/app/k10049=v\n"));
}

#[test]
fn a_prefix_is_left_out_of_the_keys_of_the_store() {
    let etcd = Etcd::start();
    etcd.put("/prod/app/a", "1");
    etcd.put("/test/app/a", "2");
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    listing(&etcd.url(), "out").set("prefix", "/prod").watch().write(&dir);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out", "/app/a=1\n"));
    etcd.put("/prod/app/b", "3");
    wait_until("the change below the prefix", LIMIT, || dir.holds("out", "/app/a=1\n/app/b=3\n"));
    program.stop();
}

/// Values are bytes: what is not UTF-8 arrives as it is.
#[test]
fn values_that_are_not_text_arrive_unchanged() {
    let etcd = Etcd::start();
    let value = [0xff, 0x00, b'\n', 0xc3, 0x28];
    etcd.gateway().put_bytes(b"/app/binary", &value);
    let dir = TempDir::new();
    dir.write("list.tmpl", "{{ getv(\"/app/binary\") }}");
    listing(&etcd.url(), "out").onetime().write(&dir);
    remco(&dir).once().expect_code(0);
    assert_eq!(std::fs::read(dir.at("out")).expect("it has been written"), value);
}

/// A node that nobody listens on and one that never answers are passed over, at the start and later.
#[test]
fn sick_nodes_are_passed_over() {
    let etcd = Etcd::start();
    let silent = Silent::start();
    etcd.put("/app/a", "1");
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    let nodes = [format!("http://127.0.0.1:{}", free_port()), silent.url(), etcd.url()];
    listing("", "out").set("nodes", &nodes[..]).watch().write(&dir);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out", "/app/a=1\n"));
    etcd.put("/app/a", "2");
    wait_until("the second render", LIMIT, || dir.holds("out", "/app/a=2\n"));
    program.stop();
    listing("", "once").set("nodes", &nodes[..]).onetime().write(&dir);
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("once", "/app/a=2\n"));
}

#[test]
fn a_template_without_its_key_is_rendered_when_the_key_comes() {
    let etcd = Etcd::start();
    etcd.put("/app/a", "1");
    let dir = TempDir::new();
    dir.write("list.tmpl", "{{ getv(\"/app/b\") }}\n");
    listing(&etcd.url(), "out").watch().write(&dir);
    let program = remco(&dir).start();
    program.wait_for_log("/app/b");
    etcd.put("/app/b", "2");
    wait_until("the first render", LIMIT, || dir.holds("out", "2\n"));
    etcd.delete("/app/b");
    program.wait_for_log_count("/app/b", 2);
    assert!(dir.holds("out", "2\n"), "the old file stays");
    etcd.put("/app/b", "3");
    wait_until("the next render", LIMIT, || dir.holds("out", "3\n"));
    program.stop();
}

/// Lines of a watch that are far longer than any buffer: eight values of half a megabyte in one transaction's time.
#[test]
fn long_values_arrive_whole() {
    let etcd = Etcd::start();
    let dir = TempDir::new();
    dir.write("list.tmpl", LIST);
    resource("app").template("list.tmpl", "out").etcd(&etcd.url()).keys(["/app"]).watch().write(&dir);
    let program = remco(&dir).start();
    wait_until("the first render", LIMIT, || dir.holds("out", ""));
    let mut gateway = etcd.gateway();
    let mut expected = String::new();
    for n in 0..8 {
        let value = n.to_string().repeat(500_000);
        gateway.put(&format!("/app/{n}"), &value);
        expected += &format!("/app/{n}={value}\n");
    }
    wait_until("all of it is rendered", LIMIT, || dir.holds("out", &expected));
    program.stop();
}
