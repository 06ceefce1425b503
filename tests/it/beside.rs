//! A sick store beside a healthy one: the sick one is unreachable, frozen, slow, never ends its handshake, or has an
//! unknown name. Neither the updates of the healthy one nor signals wait. The limits of the sick store are an hour, so
//! that a loop that waited for it would exceed every deadline of the tests.

use rustix::process::Signal;

use crate::ending::Full;
use crate::names::prepare_etc;
use crate::running::{folder, on_file, update};
use crate::support::{Etcd, LIMIT, Silent, TempDir, dripping, in_own_namespace, remco, resource, wait_until};

/// Puts that have to be rendered one after the other.
const PUTS: usize = 20;

/// Runs a resource on a healthy etcd beside one on `sick`.
fn check(sick: &str, options: &str, state: &str) {
    let etcd = Etcd::start();
    etcd.put("/app", "first");
    let on_etcd = |name: &str, url: &str, options: &str| {
        let resource = resource(name).template("app.tmpl", &format!("{name}.out"));
        resource.backend("etcd").set("nodes", [url]).keys(["/app"]).watch().lines(options).to_string()
    };
    let dir = TempDir::new();
    dir.write("app.tmpl", "{{ getv(\"/app\") }}\n");
    let patient = format!("request_timeout = 3600\ndial_timeout = 3600\n{options}");
    let resources = [on_etcd("sick", sick, &patient), on_etcd("well", &etcd.url(), "version = 3\n")];
    dir.write("config.toml", format!("log_level = \"debug\"\n{}", resources.concat()));
    let program = remco(&dir).start();
    wait_until("the healthy one is read", LIMIT, || dir.holds("well.out", "first\n"));
    let mut gateway = etcd.gateway();
    for n in 0..PUTS {
        gateway.put("/app", &n.to_string());
        wait_until("a put is rendered", LIMIT, || dir.holds("well.out", &format!("{n}\n")));
    }
    // The configuration is read again, and a resource that is gone is let go of, all the same.
    dir.replace("config.toml", on_etcd("well", &etcd.url(), "version = 3\n") + "# changed\n");
    dir.write("app.tmpl", "again: {{ getv(\"/app\") }}\n");
    program.signal(Signal::HUP);
    wait_until("SIGHUP is taken up", LIMIT, || dir.holds("well.out", &format!("again: {}\n", PUTS - 1)));
    dir.replace("config.toml", resources.concat());
    program.signal(Signal::HUP);
    program.wait_for_log_count("loading resource configuration", 3);
    program.ends_at_once(Signal::TERM, state);
}

#[test]
fn nobody_accepts() {
    let full = Full::start();
    check(&format!("http://{}", full.address), "version = 3\n", "beside a store that accepts nobody");
}

#[test]
fn frozen() {
    for version in ["version = 3\n", "version = 2\n", ""] {
        let silent = Silent::start();
        check(&silent.url(), version, "beside a store that is frozen");
    }
}

#[test]
fn a_handshake_without_end() {
    let silent = Silent::start();
    let url = silent.url().replace("http://", "https://");
    check(&url, "version = 3\n", "beside a store that shakes hands for ever");
}

#[test]
fn a_store_that_drips() {
    let url = dripping();
    check(&url, "version = 3\n", "beside a store that drips");
    check(&url, "version = 2\n", "beside an old store that drips");
}

/// The names of a template are looked up by the loop: only its own resource waits.
#[test]
fn no_dns_answers_a_template() {
    in_own_namespace("beside::no_dns_answers_a_template", || {
        prepare_etc("nameserver 127.0.0.1\n");
        let dns = std::net::UdpSocket::bind("127.0.0.1:53").expect("the port of DNS is free in here");
        let dir = folder(&(on_file("sick", "").replace("app.tmpl", "sick.tmpl") + &on_file("well", "")));
        // Each lookup takes seconds, and there are enough of them for the whole test.
        let names =
            "{% for n in \"abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ\" %}{{ ask(n) }}{% endfor %}";
        let ask = "{% macro ask(n) %}{{ lookupIP(printf(\"%s.example.com\", n))|join:\" \" }}{% endmacro %}";
        dir.write("sick.tmpl", format!("{ask}{names}"));
        let program = remco(&dir).start();
        wait_until("the healthy one is rendered", LIMIT, || dir.holds("well.out", "hello\n"));
        dns.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
        dns.recv(&mut [0; 512]).expect("a question comes");
        for n in 0..PUTS {
            update(&dir, "well", &n.to_string());
        }
        program.signal(Signal::HUP);
        program.wait_for_log_count("loading resource configuration", 1);
        program.ends_at_once(Signal::TERM, "beside a template whose names are looked up");
        assert_eq!(dir.read("sick.out"), None);
    });
}

#[test]
fn no_dns_answers() {
    in_own_namespace("beside::no_dns_answers", || {
        prepare_etc("nameserver 127.0.0.1\n");
        let _dns = std::net::UdpSocket::bind("127.0.0.1:53").expect("the port of DNS is free in here");
        check("http://etcd.example.com:2379", "version = 3\n", "beside a store whose DNS is silent");
    });
}
