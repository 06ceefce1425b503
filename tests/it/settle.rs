//! Updates that wait until the keys have settled: how many reloads follow a burst of changes, and what does not wait.
//! On a real etcd.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Etcd, LIMIT, TempDir, remco, resource, wait_until};

const PUTS: usize = 200;
const MIN: Duration = Duration::from_millis(500);

fn folder(url: &str, keys: &str) -> TempDir {
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/app/x\", \"none\") }}\n");
    let template = resource("app").lines(keys).template("app.tmpl", "out").set("reload_cmd", "echo >> reloads");
    template.etcd(url).keys(["/app"]).watch().write(&dir);
    dir
}

/// Puts in even steps until `during` is over, longer on a busy machine. Returns how many updates they may lead to.
fn burst(etcd: &Etcd, during: Duration) -> usize {
    let mut gateway = etcd.gateway();
    let (begin, mut pauses) = (Instant::now(), 0);
    for n in 1..=PUTS {
        let at = begin + during.mul_f64(n as f64 / PUTS as f64);
        wait_until("the moment of the next put", LIMIT, || Instant::now() >= at);
        let before = Instant::now();
        gateway.put("/app/x", &n.to_string());
        // So slow a put may let the keys settle.
        pauses += usize::from(before.elapsed() > MIN / 2);
    }
    // One update in each `max`, and one after the end.
    pauses + 1 + begin.elapsed().as_millis() as usize / 2000
}

#[test]
fn a_burst_of_changes_leads_to_few_reloads() {
    let etcd = Etcd::start();
    let dir = folder(&etcd.url(), "settle = {min = \"500ms\", max = \"2s\"}");
    let program = remco(&dir).start();
    wait_until("the first file", LIMIT, || dir.lines("reloads") == 1);
    let most = 1 + burst(&etcd, Duration::from_millis(3400));
    wait_until("the last put is in the file", LIMIT, || dir.holds("out", &format!("{PUTS}\n")));
    wait_until("all reloads have ended", LIMIT, || {
        let log = program.log();
        let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
        count("target config has been updated") == count("reload command has succeeded")
    });
    program.stop();
    let reloads = dir.lines("reloads");
    // 3 where the puts take 3.4 seconds.
    assert!(reloads <= most, "{reloads} reloads, at most {most} are expected");
}

#[test]
fn sighup_and_a_one_shot_run_do_not_wait() {
    let etcd = Etcd::start();
    etcd.put("/app/x", "1");
    let dir = folder(&etcd.url(), "splay = \"1h\"\nsettle = {min = \"1h\"}");
    remco(&dir).once().expect_code(0);
    assert!(dir.holds("out", "1\n"));
    etcd.put("/app/x", "2");
    let program = remco(&dir).arg("--log-level=debug").start();
    program.wait_for_log("reload command has succeeded");
    assert!(dir.holds("out", "2\n"));
    // The change is seen at some moment, and waits.
    etcd.put("/app/x", "3");
    let renders = || {
        let is_end =
            |line: &&String| line.contains("target config in sync") || line.contains("config has been updated");
        program.log().iter().filter(is_end).count()
    };
    wait_until("SIGHUP takes it in", LIMIT, || {
        let before = renders();
        program.signal(Signal::HUP);
        // One that is still in progress could take in the last change.
        wait_until("the render of a SIGHUP", LIMIT, || renders() > before);
        dir.holds("out", "3\n")
    });
    etcd.put("/app/x", "4");
    program.stop();
    assert!(dir.holds("out", "3\n"), "the end of the program does not wait for the change");
}
