//! Names in templates and of stores, over a real DNS server: a network and an `/etc` of the test's own, in which
//! dnsmasq has port 53.

use crate::support::{Dnsmasq, Etcd, LIMIT, TempDir, in_own_namespace, remco, run, wait_until};

const RECORDS: &[&str] = &[
    "host-record=db.example.com,10.0.0.10,fd00::1",
    "host-record=db.example.com,10.0.0.9",
    "srv-host=_db._tcp.example.com,b.example.com,90,1,5",
    "srv-host=_db._tcp.example.com,a.example.com,1000,2,5",
    "srv-host=_db._tcp.example.com,a.example.com,900,2,5",
    // An address that nothing leads to beside the one that etcd listens on.
    "host-record=etcd.example.com,127.0.0.1,2001:db8::1",
];

const TEMPLATE: &str = r#"{% for address in lookupIP("db.example.com") %}{{ address }}
{% endfor %}{{ lookupIP("db")|join:" " }}
{% for srv in lookupSRV("db", "tcp", "example.com") %}{{ srv.Target }} {{ srv.Port }} {{ srv.Priority }} {{ srv.Weight }}
{% endfor %}"#;

fn config(backend: &str) -> String {
    format!(
        r#"
[[resource]]
name = "names"
[[resource.template]]
src = "names.tmpl"
dst = "names.out"
{backend}
"#
    )
}

const FILE: &str = "[resource.backend.file]\nfilepath = \"data.json\"\nkeys = [\"/\"]\nonetime = true\n";

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
        dir.write("config.toml", config(FILE));
        remco(&dir).once().expect_code(0);
        // Sorted as texts, as in remco.
        let want = "10.0.0.10\n10.0.0.9\nfd00::1\n10.0.0.10 10.0.0.9 fd00::1\na.example.com. 1000 2 5\n\
                    a.example.com. 900 2 5\nb.example.com. 90 1 5\n";
        assert_eq!(dir.read("names.out").as_deref(), Some(want));

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
        let backend = |url: &str| {
            format!("[resource.backend.etcd]\nversion = 3\nnodes = [\"{url}\"]\nkeys = [\"/app\"]\nwatch = true\n")
        };
        dir.write("config.toml", config(&backend(&node)));
        let program = remco(&dir).start();
        wait_until("the first render", LIMIT, || dir.holds("names.out", "1"));
        // The DNS may be gone then: everything is known.
        drop(server);
        etcd.put("/app/a", "2");
        wait_until("the change", LIMIT, || dir.holds("names.out", "2"));
        program.stop();

        let node = format!("http://etcd.example.net:{}", etcd.client_port());
        dir.write("config.toml", config(&backend(&node)));
        let program = remco(&dir).start();
        program.wait_for_log(
            "failed to look up `etcd.example.net`: server 127.0.0.1:53 cannot be reached: connection refused (asked for etcd.example.net.)",
        );
        program.stop();
    });
}
