//! One etcd behind a bad network: a proxy of the tests cuts, delays and splits its connections or silently drops their
//! bytes. With and without TLS, and with both versions of the API.

use crate::support::{
    Authority, Clients, Etcd, Fault, FaultProxy, KeysV2, LIMIT, Nginx, Remco, Silent, TempDir, config, remco, resource,
    wait_until,
};

/// An etcd behind a proxy, and a program that watches it through the proxy.
struct Bench {
    way: Way,
    dir: TempDir,
    etcd: Etcd,
    proxy: FaultProxy,
    program: Remco,
    _authority: Option<Authority>,
}

/// How a program talks to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    /// Version 2 of the API, with TLS.
    Old,
}

impl Bench {
    fn new(way: Way) -> Bench {
        let dir = TempDir::new();
        let resource = config().set("log_level", "debug").resource("app").template("app.tmpl", "app.conf");
        let mut backend = resource.backend("etcd").set("version", if way == Way::Old { 2 } else { 3 });
        let (etcd, authority) = match way {
            Way::Plain => (Etcd::start(), None),
            Way::Tls | Way::Old => {
                let authority = Authority::new();
                let args: &[&str] = if way == Way::Old { &["--enable-v2"] } else { &[] };
                let etcd = Etcd::secured(&authority, &authority.server(), Clients::Anyone, args);
                backend = backend.set("client_ca_keys", authority.cert().to_str());
                (etcd, Some(authority))
            }
        };
        let port = if way == Way::Plain { etcd.client_port() } else { etcd.secure_port() };
        let proxy = FaultProxy::start(port);
        dir.write("app.tmpl", "{% for kv in gets(\"/app/*\") %}{{ kv.Key }}={{ kv.Value }}\n{% endfor %}");
        let backend = backend.set("nodes", [format!("127.0.0.1:{}", proxy.port())]).keys(["/app"]).watch();
        backend.set("request_timeout", 0.5).set("watch_deadline", 0.5).write(&dir);
        put(&etcd, way, "first");
        let program = remco(&dir).start();
        let bench = Bench { way, dir, etcd, proxy, program, _authority: authority };
        bench.wait_for("first");
        bench
    }

    fn put(&self, value: &str) {
        put(&self.etcd, self.way, value);
    }

    fn wait_for(&self, value: &str) {
        let line = format!("/app/a={value}\n");
        wait_until(&format!("{value} is rendered"), LIMIT, || {
            self.dir.read("app.conf").is_some_and(|text| text.starts_with(&line))
        });
    }
}

fn put(etcd: &Etcd, way: Way, value: &str) {
    match way {
        Way::Plain | Way::Tls => etcd.put("/app/a", value),
        Way::Old => KeysV2::of(etcd).set("/app/a", value),
    }
}

fn goes_on_however_the_bytes_come(way: Way) {
    let bench = Bench::new(way);
    for fault in [Fault::Tears, Fault::Delays, Fault::None] {
        bench.proxy.set(fault);
        // Longer than a record of TLS, and more behind it. (Long answers of version 2 are nothing for the tests' client.)
        bench.put(&"a".repeat(if way == Way::Old { 400 } else { 40_000 }));
        let value = format!("{fault:?}");
        bench.put(&value);
        bench.wait_for(&value);
        bench.proxy.cut();
        bench.put("after a cut");
        bench.wait_for("after a cut");
    }
    bench.program.stop();
}

/// Nothing says that such a connection is dead: the server has sent its event, and both ends are alive.
fn finds_a_half_open_connection(way: Way) {
    let bench = Bench::new(way);
    for number in 1..3 {
        bench.proxy.set(Fault::Drops);
        let value = format!("lost {number}");
        bench.put(&value);
        wait_until("the event is dropped", LIMIT, || bench.proxy.has_dropped());
        bench.program.wait_for_log_count("backend error", number);
        bench.proxy.set(Fault::None);
        bench.wait_for(&value);
        bench.program.wait_for_log_count("backend works again", number);
    }
    bench.program.stop();
}

#[test]
fn a_watch_however_the_bytes_come() {
    goes_on_however_the_bytes_come(Way::Plain);
}

#[test]
fn a_watch_over_tls_however_the_bytes_come() {
    goes_on_however_the_bytes_come(Way::Tls);
}

#[test]
fn a_watch_of_version_2_over_tls_however_the_bytes_come() {
    goes_on_however_the_bytes_come(Way::Old);
}

#[test]
fn a_half_open_watch_is_found() {
    finds_a_half_open_connection(Way::Plain);
}

#[test]
fn a_half_open_watch_over_tls_is_found() {
    finds_a_half_open_connection(Way::Tls);
}

#[test]
fn a_half_open_watch_of_version_2_over_tls_is_found() {
    finds_a_half_open_connection(Way::Old);
}

/// Every other connection works, so that nothing fails.
#[test]
fn a_wait_of_version_2_that_alone_is_dead_is_found() {
    let bench = Bench::new(Way::Old);
    bench.proxy.set(Fault::Drops);
    bench.put("lost");
    wait_until("the event is dropped", LIMIT, || bench.proxy.has_dropped());
    bench.proxy.set(Fault::None);
    bench.wait_for("lost");
    bench.put("after it");
    bench.wait_for("after it");
    bench.program.stop();
}

#[test]
fn proxies_of_the_environment_are_not_asked() {
    for way in [Way::Plain, Way::Tls, Way::Old] {
        let bench = Bench::new(way);
        bench.put("second");
        let proxy = Silent::start();
        let mut program = remco(&bench.dir);
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            program = program.env(name, &proxy.url());
        }
        program.once().expect_code(0);
        assert!(proxy.connections().is_empty(), "{way:?}");
    }
}

#[test]
fn redirects_are_not_followed() {
    let authority = Authority::new();
    let etcd = Etcd::start_with(&["--enable-v2"]);
    etcd.put("/app/a", "first");
    KeysV2::of(&etcd).set("/app/a", "first");
    let nginx = Nginx::start(&authority.server(), &format!("return 307 {}$request_uri;", etcd.url()));
    for version in [2, 3] {
        let dir = TempDir::new();
        dir.write("app.tmpl", "x");
        let etcd = resource("app").template("app.tmpl", "app.conf").etcd(&nginx.url()).keys(["/app"]);
        etcd.set("version", version).set("timeout", 0.5).write(&dir);
        remco(&dir).once().expect_code(1).expect_log("HTTP 307: redirects are not followed");
        assert_eq!(dir.read("app.conf"), None);
    }
}

#[test]
fn a_node_may_be_below_a_path_of_another_server() {
    let authority = Authority::new();
    let etcd = Etcd::start();
    etcd.put("/greeting", "first");
    let rules = "location /cluster/ { proxy_buffering off; proxy_pass ETCD/; proxy_http_version 1.1; }";
    let nginx = Nginx::start(&authority.server(), &rules.replace("ETCD", &etcd.url()));
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/greeting\") }}\n");
    let node = format!("{}/cluster/", nginx.secure_url());
    let config = resource("app").template("app.tmpl", "app.conf").etcd(&node).keys(["/greeting"]).watch();
    config.set("client_ca_keys", authority.cert().to_str()).write(&dir);
    let program = remco(&dir).start();
    for value in ["first", "second", "third"] {
        etcd.put("/greeting", value);
        wait_until(&format!("{value} is rendered"), LIMIT, || dir.holds("app.conf", &format!("{value}\n")));
    }
    program.stop();
}
