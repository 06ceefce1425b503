//! A cluster of three etcd members with TLS and client certificates: one member at a time is killed, stopped and
//! started again while keys are written. The printed figures are for a person to read.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Authority, Cluster, Etcd, Gateway, Key, LIMIT, TempDir, Valid, config, remco, wait_until};

/// Writers at work at the same time, each with keys of its own.
const WRITERS: usize = 5;
const KEYS: usize = 10;
/// Rounds of one writer: each writes all of its keys, in one transaction.
const ROUNDS: usize = 204;

/// What one writer writes in a round.
fn round(writer: usize, round: usize) -> Vec<(String, String)> {
    (0..KEYS).map(|key| (format!("/app/{writer}/{key}"), round.to_string())).collect()
}

/// Lets all writers go through these rounds, at the members that are fine.
fn write(members: &[&Etcd], rounds: &Range<usize>) {
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                // The members in turn, each as long as it answers.
                let mut ports = members.iter().cycle().skip(writer).map(|member| member.client_port());
                let mut connection = None;
                for pairs in rounds.clone().map(|number| round(writer, number)) {
                    let deadline = Instant::now() + LIMIT;
                    while let Err(error) = put(&mut connection, &mut ports, &pairs) {
                        assert!(Instant::now() < deadline, "no member takes keys: {error}");
                        connection = None;
                    }
                }
            });
        }
    });
}

fn put(
    connection: &mut Option<Gateway>,
    ports: &mut impl Iterator<Item = u16>,
    pairs: &[(String, String)],
) -> std::io::Result<()> {
    if connection.is_none() {
        let port = ports.next().expect("the members go round");
        let mut gateway = Gateway::try_connect(port, Duration::from_secs(10))?;
        gateway.log_in("root", "sesame")?;
        *connection = Some(gateway);
    }
    connection.as_mut().expect("it was made above").put_all(pairs)
}

#[test]
fn a_cluster_loses_each_member_in_turn_and_no_update() {
    let authority = Authority::new();
    let mut cluster = Cluster::secured(&authority, &authority.server(), &["--bcrypt-cost", "4"]);
    cluster.members[0].enable_auth("/app");
    let client = authority.sign("client", "", Key::Pkcs8, Valid::Now);
    let dir = TempDir::new();
    dir.write("app.tmpl", "{% for kv in gets(\"/app/*/*\") %}{{ kv.Key }}={{ kv.Value }}\n{% endfor %}");
    let rendering = |dst: &str| {
        let app = config().set("log_level", "debug").resource("app").template("app.tmpl", dst);
        let etcd = app.etcd("").set("nodes", cluster.secure_urls()).keys(["/app"]).watch();
        let tls = etcd.set("client_ca_keys", authority.cert().to_str()).set("client_cert", client.cert.to_str());
        let user = tls.set("client_key", client.key.to_str()).set("username", "user").set("password", "sesame");
        user.set("request_timeout", 1).set("watch_deadline", 1)
    };
    rendering("app.conf").write(&dir);
    dir.write("fresh.toml", rendering("fresh.conf").to_string());
    write(&cluster.members.iter().collect::<Vec<_>>(), &(0..1));
    let program = remco(&dir).start();
    let wait_for = |round: usize| {
        let mut all = String::new();
        for (writer, key) in (0..WRITERS).flat_map(|writer| (0..KEYS).map(move |key| (writer, key))) {
            writeln!(all, "/app/{writer}/{key}={round}").expect("a String takes all");
        }
        wait_until(&format!("round {round} is rendered"), LIMIT, || dir.holds("app.conf", &all));
    };
    wait_for(0);
    let mut rounds = (1..ROUNDS).step_by(ROUNDS / 12 + 1).map(|first| first..ROUNDS.min(first + ROUNDS / 12 + 1));
    let started = Instant::now();
    for fault in [Etcd::kill, Etcd::freeze] {
        let mut left = vec![0, 1, 2];
        while !left.is_empty() {
            // Each of them once, and if possible the one that is being watched.
            let peers = program.peers();
            let watched = left.iter().position(|number| peers.contains(&cluster.members[*number].secure_port()));
            let number = left.remove(watched.unwrap_or(0));
            let (during, after) = (rounds.next().expect("twelve parts"), rounds.next().expect("twelve parts"));
            fault(&mut cluster.members[number]);
            cluster.await_others(number);
            let others: Vec<&Etcd> = (0..3).filter(|other| *other != number).map(|n| &cluster.members[n]).collect();
            write(&others, &during);
            // With the member still away.
            wait_for(during.end - 1);
            cluster.members[number].bring_back();
            write(&cluster.members.iter().collect::<Vec<_>>(), &after);
        }
    }
    assert_eq!(rounds.next(), None);
    wait_for(ROUNDS - 1);
    remco(&dir).arg("--config=fresh.toml").once().expect_code(0);
    assert_eq!(dir.read("app.conf"), dir.read("fresh.conf"));
    let log = program.stop();
    let reads = log.iter().filter(|line| line.contains("retrieving keys")).count();
    let renders = log.iter().filter(|line| line.contains("target config has been updated")).count();
    // Past the test harness, which would keep it for itself.
    let _ = writeln!(
        std::io::stderr(),
        "{} updates of {} keys in {:.1} s, six faults: {reads} full reads, {renders} files written",
        WRITERS * KEYS * (ROUNDS - 1),
        WRITERS * KEYS,
        started.elapsed().as_secs_f64()
    );
    // How many there are is a matter of the machine's load: each fault may cost one, and each way to notice it. That a
    // change costs none is what must hold.
    assert!(reads < WRITERS * ROUNDS / 10, "{reads} full reads");
}
