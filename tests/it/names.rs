//! Names in templates and of stores, over a real DNS server: dnsmasq has port 53 in a separate network with its own
//! `/etc`.

#[cfg(feature = "consul")]
use crate::support::Consul;
#[cfg(feature = "redis")]
use crate::support::Redis;
#[cfg(feature = "zookeeper")]
use crate::support::Zookeeper;
use crate::support::{
    Authority, Clients, Config, Dnsmasq, Etcd, Key, KeysV2, LIMIT, TempDir, Valid, free_port, in_own_namespace, remco,
    resource, run, wait_until,
};

const RECORDS: &[&str] = &[
    "host-record=db.example.com,10.0.0.10,fd00::1",
    "host-record=db.example.com,10.0.0.9",
    "srv-host=_db._tcp.example.com,b.example.com,90,1,5",
    "srv-host=_db._tcp.example.com,a.example.com,1000,2,5",
    "srv-host=_db._tcp.example.com,a.example.com,900,2,5",
    // An address that nothing leads to beside the one that etcd listens on.
    "host-record=etcd.example.com,127.0.0.1,2001:db8::1",
    "srv-host=_db._tcp.more.example.com,db.example.com,90,1,5",
];

const TEMPLATE: &str = r#"{% for address in lookupIP("db.example.com") %}{{ address }}
{% endfor %}{{ lookupIP("db")|join:" " }}
{% for srv in lookupSRV("db", "tcp", "example.com") %}{{ srv.Target }} {{ srv.Port }} {{ srv.Priority }} {{ srv.Weight }}
{% endfor %}"#;

/// A resource without its backend.
fn names() -> Config {
    resource("names").template("names.tmpl", "names.out")
}

/// An /etc in which the two files about names are ours.
pub fn prepare_etc(resolv_conf: &str) {
    let etc = TempDir::new();
    etc.write("resolv.conf", resolv_conf);
    etc.write("hosts", "127.0.0.1 localhost\n");
    for file in ["resolv.conf", "hosts"] {
        let ours = etc.at(file);
        // The mounted file lives on when its folder is removed.
        run(&["mount", "--bind", ours.to_str().expect("the path is text"), &format!("/etc/{file}")]);
    }
}

#[test]
fn names_in_templates() {
    in_own_namespace("names::names_in_templates", || {
        prepare_etc("nameserver 127.0.0.1\nsearch example.com\n");
        let _server = Dnsmasq::start(53, RECORDS);
        let dir = TempDir::new();
        dir.write("data.json", "{}");
        dir.write("names.tmpl", TEMPLATE);
        names().file("data.json").onetime().write(&dir);
        remco(&dir).once().expect_code(0);
        // Sorted as texts, as in remco.
        let want = "10.0.0.10\n10.0.0.9\nfd00::1\n10.0.0.10 10.0.0.9 fd00::1\na.example.com. 1000 2 5\n\
                    a.example.com. 900 2 5\nb.example.com. 90 1 5\n";
        assert_eq!(dir.read("names.out").as_deref(), Some(want));

        // Names that are found in answers, and names in macros, loops and filters.
        let targets = "{% for srv in lookupSRV(\"db\", \"tcp\", \"example.com\") %}{{ of(srv.Target) }}{% endfor %}";
        let of = "{% macro of(name) %}{% filter upper %}{{ name }}{{ lookupIP(name)|join:\",\" }}{% endfilter %}{% endmacro %}";
        dir.write("names.tmpl", format!("{of}{targets}"));
        remco(&dir).once().expect_code(1).expect_log("`a.example.com.`: there is no such name");
        let known = targets.replace("example.com", "more.example.com");
        dir.write("names.tmpl", format!("{of}{known}"));
        remco(&dir).once().expect_code(0);
        assert_eq!(dir.read("names.out").as_deref(), Some("DB.EXAMPLE.COM.10.0.0.10,10.0.0.9,FD00::1"));
        dir.write("names.out", want);

        dir.write("names.tmpl", "{{ lookupIP(\"no.example.com.\") }}\n");
        let why = "failed to look up `no.example.com.`: there is no such name (asked 127.0.0.1:53 for no.example.com.)";
        remco(&dir).once().expect_code(1).expect_log(why);
        assert_eq!(dir.read("names.out").as_deref(), Some(want), "the old file is kept");
    });
}

#[test]
fn an_etcd_given_by_its_name() {
    in_own_namespace("names::an_etcd_given_by_its_name", || {
        prepare_etc("nameserver 127.0.0.1\n");
        let server = Dnsmasq::start(53, RECORDS);
        let etcd = Etcd::start();
        etcd.put("/app/a", "1");
        let dir = TempDir::new();
        dir.write("names.tmpl", "{{ getv(\"/app/a\") }}");
        let node = format!("http://etcd.example.com:{}", etcd.client_port());
        names().etcd(&node).keys(["/app"]).watch().write(&dir);
        let program = remco(&dir).start();
        wait_until("the first render", LIMIT, || dir.holds("names.out", "1"));
        // The DNS may be gone then: everything is known.
        drop(server);
        etcd.put("/app/a", "2");
        wait_until("the change", LIMIT, || dir.holds("names.out", "2"));
        program.stop();

        let node = format!("http://etcd.example.net:{}", etcd.client_port());
        names().etcd(&node).keys(["/app"]).watch().write(&dir);
        let program = remco(&dir).start();
        program.wait_for_log(
            "failed to look up `etcd.example.net`: server 127.0.0.1:53 cannot be reached: connection refused (asked for etcd.example.net.)",
        );
        program.stop();
    });
}

/// Nodes by SRV record, for both versions: in the order of their priorities, and asked for again when all have failed.
#[test]
fn an_etcd_given_by_its_record() {
    in_own_namespace("names::an_etcd_given_by_its_record", || {
        prepare_etc("nameserver 127.0.0.1\n");
        let nobody = free_port();
        for version in [Some(3), Some(2), None] {
            let mut first = Etcd::start_with(&["--enable-v2"]);
            let second = Etcd::start_with(&["--enable-v2"]);
            let put = |etcd: &Etcd, value: &str| match version {
                Some(3) => etcd.put("/app/a", value),
                _ => KeysV2::of(etcd).set("/app/a", value),
            };
            put(&first, "first");
            put(&second, "second");
            let record = |etcd: &Etcd, priority| {
                format!("srv-host=_etcd-client._tcp.example.com,etcd.example.com,{},{priority},0", etcd.client_port())
            };
            let dead = format!("srv-host=_etcd-client._tcp.example.com,etcd.example.com,{nobody},20,0");
            let server = Dnsmasq::start(53, &[RECORDS[5], &record(&first, 10), &dead]);
            let dir = TempDir::new();
            dir.write("names.tmpl", "{{ getv(\"/app/a\") }}");
            let found = |record: &str| {
                let etcd = names().backend("etcd").set("srv_record", record).keys(["/app"]);
                version.into_iter().fold(etcd, |etcd, version| etcd.set("version", version))
            };
            found("_etcd-client._tcp.example.com").watch().write(&dir);
            let program = remco(&dir).start();
            wait_until("the first render", LIMIT, || dir.holds("names.out", "first"));
            let nodes = program.wait_for_log("set backend nodes");
            let url = |port| format!("http://etcd.example.com:{port}");
            assert!(nodes.contains(&format!("{},{}", url(first.client_port()), url(nobody))), "{nodes}");
            put(&first, "changed");
            wait_until("the change", LIMIT, || dir.holds("names.out", "changed"));

            // Another etcd has taken its place.
            first.kill();
            drop(server);
            let _server = Dnsmasq::start(53, &[RECORDS[5], &record(&second, 0)]);
            wait_until("the other etcd's value", LIMIT, || dir.holds("names.out", "second"));
            put(&second, "changed again");
            wait_until("the change", LIMIT, || dir.holds("names.out", "changed again"));
            let log = program.stop();
            assert_eq!(log.iter().filter(|line| line.contains("set backend nodes")).count(), 2, "{log:#?}");

            let missing = "failed to look up `_none._tcp.example.com`: there is no such name";
            found("_none._tcp.example.com").onetime().set("timeout", 0.1).write(&dir);
            remco(&dir).once().expect_code(1).expect_log(missing);
            assert!(dir.holds("names.out", "changed again"), "the old file is kept");
        }
    });
}

#[test]
fn a_record_of_nodes_with_tls() {
    in_own_namespace("names::a_record_of_nodes_with_tls", || {
        prepare_etc("nameserver 127.0.0.1\n");
        let authority = Authority::new();
        let pair = authority.sign("server", "DNS:etcd.example.com,IP:127.0.0.1", Key::Sec1, Valid::Now);
        let etcd = Etcd::secured(&authority, &pair, Clients::Anyone, &["--enable-v2"]);
        etcd.put("/app/a", "three");
        KeysV2::of(&etcd).set("/app/a", "two");
        let port = etcd.secure_port();
        let record = format!("srv-host=_etcd-client-ssl._tcp.example.com,etcd.example.com,{port},0,0");
        let _server = Dnsmasq::start(53, &[RECORDS[5], &record]);
        let dir = TempDir::new();
        dir.write("names.tmpl", "{{ getv(\"/app/a\") }}");
        for (version, value) in [(Some(2), "two"), (Some(3), "three"), (None, "three")] {
            let etcd = names().backend("etcd").set("srv_record", "_etcd-client-ssl._tcp.example.com").keys(["/app"]);
            let etcd = etcd.set("client_ca_keys", authority.cert().to_str()).onetime();
            version.into_iter().fold(etcd, |etcd, version| etcd.set("version", version)).write(&dir);
            let node = format!("nodes=https://etcd.example.com:{port}");
            remco(&dir).once().expect_code(0).expect_log(&node);
            assert!(dir.holds("names.out", value), "{version:?}");
        }
    });
}

/// A dead node goes before the living one, and the prefix `/app` is read.
#[cfg(any(feature = "redis", feature = "consul", feature = "zookeeper"))]
fn by_record(test: &str, store: &str, scheme: &str, port: impl FnOnce() -> Option<u16>) {
    in_own_namespace(test, || {
        prepare_etc("nameserver 127.0.0.1\n");
        let Some(port) = port() else { return };
        let record =
            |port: u16, priority| format!("srv-host=_{store}._tcp.example.com,etcd.example.com,{port},{priority},0");
        let _server = Dnsmasq::start(53, &[RECORDS[5], &record(free_port(), 0), &record(port, 10)]);
        let dir = TempDir::new();
        dir.write("names.tmpl", "{{ getv(\"/app/a\") }}");
        let record = format!("_{store}._tcp.example.com");
        names().backend(store).set("srv_record", record).keys(["/app"]).onetime().write(&dir);
        remco(&dir).once().expect_code(0).expect_log(&format!("{scheme}://etcd.example.com:{port}"));
        assert!(dir.holds("names.out", "1"));
    });
}

#[cfg(feature = "redis")]
#[test]
fn nodes_of_a_redis_may_be_in_a_srv_record() {
    let mut redis = None;
    by_record("names::nodes_of_a_redis_may_be_in_a_srv_record", "redis", "redis", || {
        let redis = redis.insert(Redis::start(&[]));
        redis.set("/app/a", "1");
        Some(redis.port())
    });
}

#[cfg(feature = "consul")]
#[test]
fn nodes_of_a_consul_may_be_in_a_srv_record() {
    let mut consul = None;
    by_record("names::nodes_of_a_consul_may_be_in_a_srv_record", "consul", "http", || {
        let consul = consul.insert(Consul::start()?);
        consul.put("app/a", "1");
        consul.node().rsplit(':').next()?.parse().ok()
    });
}

#[cfg(feature = "zookeeper")]
#[test]
fn nodes_of_a_zookeeper_may_be_in_a_srv_record() {
    let test = "names::nodes_of_a_zookeeper_may_be_in_a_srv_record";
    let mut zookeeper = None;
    by_record(test, "zookeeper", "zookeeper", || {
        let zookeeper = zookeeper.insert(Zookeeper::is_there(test).then(|| Zookeeper::start(None))?);
        zookeeper.client().put("/app/a", "1");
        Some(zookeeper.port())
    });
}
