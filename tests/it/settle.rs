//! Updates that wait until the keys have settled: how many reloads a burst of changes leads to, and what does not wait.
//! On a real etcd.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Etcd, LIMIT, TempDir, remco, resource, wait_until};

const PUTS: usize = 200;

fn folder(url: &str, keys: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/app/x\", \"none\") }}\n");
    let template = resource("app").lines(keys).template("app.tmpl", "out").set("reload_cmd", "echo >> reloads");
    template.etcd(url).keys(["/app"]).watch().write(&dir);
    dir
}

/// Puts in even steps until `during` is over. Waits for the moment of each, which is no condition to wait for.
fn burst(etcd: &Etcd, during: Duration) -> Instant {
    let mut gateway = etcd.gateway();
    let begin = Instant::now();
    for n in 1..=PUTS {
        let at = begin + during.mul_f64(n as f64 / PUTS as f64);
        wait_until("the moment of the next put", LIMIT, || Instant::now() >= at);
        gateway.put("/app/x", &n.to_string());
    }
    Instant::now()
}

#[test]
fn a_burst_of_changes_leads_to_few_reloads() {
    let etcd = Etcd::start();
    let dir = folder(&etcd.url(), "settle = {min = \"500ms\", max = \"2s\"}");
    let program = remco(&dir).start();
    wait_until("the first file", LIMIT, || dir.lines("reloads") == 1);
    let last = burst(&etcd, Duration::from_millis(3400));
    wait_until("the last put is in the file", LIMIT, || dir.holds("out", &format!("{PUTS}\n")));
    let late = last.elapsed();
    wait_until("all reloads have ended", LIMIT, || {
        let log = program.log();
        let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
        count("target config has been updated") == count("reload command has succeeded")
    });
    program.stop();
    let reloads = dir.lines("reloads");
    println!("{reloads} reloads for {PUTS} puts, the file {} ms after the last put", late.as_millis());
    // Under a machine that stands still the puts take longer, and one update more is due every 2 seconds of that.
    assert!(reloads <= 4, "{reloads} reloads");
}

#[test]
fn sighup_and_a_one_shot_run_do_not_wait() {
    let etcd = Etcd::start();
    etcd.put("/app/x", "1");
    let dir = folder(&etcd.url(), "splay = \"1h\"\nsettle = {min = \"1h\"}");
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("out", "1\n"));
    etcd.put("/app/x", "2");
    let program = remco(&dir).start();
    wait_until("the first update", LIMIT, || dir.holds("out", "2\n"));
    // The change is seen, and waits.
    etcd.put("/app/x", "3");
    wait_until("SIGHUP takes it in", LIMIT, || {
        program.signal(Signal::HUP);
        dir.holds("out", "3\n")
    });
    etcd.put("/app/x", "4");
    program.stop();
    assert!(dir.holds("out", "3\n"), "the end of the program does not wait for the change");
}
