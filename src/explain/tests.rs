//! The output of `--explain` for reads and for keys that nothing reads, as text and as JSON. The reads are those of a
//! recorder, not of templates; tests/it/modes.rs tests the whole run.

use std::rc::Rc;

use super::*;
use crate::template::reads::{Question, Recorder, Recording};

fn bytes(text: &str) -> Bytes {
    Bytes::from(text.as_bytes())
}

const KEYS: &[(usize, &str)] = &[
    (0, "/app/db/host"),
    (0, "/app/db/password"),
    (0, "/app/servers/1"),
    (0, "/app/servers/2"),
    (0, "/app/zones/a/name"),
    (0, "/other/Token"),
    (1, "/app/db/host"),
    (1, "/secret/user"),
];

fn store(keys: &[(usize, &str)]) -> Store {
    let mut store = Store::new(2);
    for (layer, key) in keys {
        store.put(*layer, bytes(key), bytes("hunter2"));
    }
    store
}

/// The reads of a template that does all of these.
fn reads(store: &Store, read: impl FnOnce(&Recorder)) -> Reads {
    let recorder = Recorder::new(Rc::new(store.clone()), Recording::Everything);
    read(&recorder);
    recorder.take()
}

fn resource<'a>(store: &'a Store, reads: Option<&'a Reads>, error: Option<&'a str>) -> Resource<'a> {
    let backend = |name, is_secret, unmatched: &[&str], outside: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Backend { name, is_secret, unmatched: texts(unmatched), outside: texts(outside) }
    };
    Resource {
        name: "app",
        has_failed: error.is_some(),
        templates: vec![Template { src: Path::new("app.tmpl"), dst: Path::new("/etc/app conf"), reads, error }],
        backends: vec![backend("etcd", false, &["/app/reload"], &["/x"]), backend("vault", true, &[], &[])],
        store,
    }
}

#[track_caller]
fn check(keys: &[(usize, &str)], read: impl FnOnce(&Recorder), expected: &str) {
    let store = store(keys);
    let reads = reads(&store, read);
    let whole = text(&[resource(&store, Some(&reads), None)]);
    let lines = whole.strip_prefix("# app\napp.tmpl -> /etc/app conf\n").unwrap();
    let end = "watchKeys without a key\n\t/app/reload\tetcd\nwatchKeys outside of keys\n\t/x\tetcd\n";
    assert_eq!(lines.strip_suffix(end).unwrap(), expected);
}

#[test]
fn every_read_has_a_line() {
    check(
        KEYS,
        |recorder| {
            recorder.get(&bytes("/app/db/host"));
            recorder.get(&bytes("/app/db/pasword"));
            recorder.get_pair(&bytes("/app/token"));
            recorder.exists(&bytes("/nothing/at/all"));
            recorder.exists(&bytes("/app/zones/a/name/x"));
            assert_eq!(recorder.gets(&bytes("/app/servers/*")).unwrap().count(), 2);
            assert_eq!(recorder.gets(&bytes("/app/server/*")).unwrap().count(), 0);
            recorder.lsdir(b"/app/zones");
            recorder.ls(b"/none");
            recorder.ask_machine(Question::Names);
            recorder.ask_machine(Question::Time);
        },
        "\texists\t/app/zones/a/name/x\tmissing, near: /app/zones/a/...\n\
         \texists\t/nothing/at/all\tmissing\n\
         \tget\t/app/token\tmissing, near: /other/Token\n\
         \tgets\t/app/servers/*\t2 keys\n\
         \tgets\t/app/server/*\tno key, near: /app/...\n\
         \tgetv\t/app/db/host\tfound\n\
         \tgetv\t/app/db/pasword\tmissing, near: /app/db/password, /app/db/host\n\
         \tls\t/none/...\tno key\n\
         \tlsdir\t/app/zones/...\t1 key\n\
         \tasked for\ttime, names\n\
         not read\n\t/app/db/password\tetcd\n\t/other/Token\tetcd\n\t/secret/user\tvault\n\
         read as a part of names\n\t/app/zones/a/name\tetcd\n",
    );
}

#[test]
fn all_keys_can_be_read() {
    let rest = "not read\n\t/other/Token\tetcd\n\t/secret/user\tvault\n\
                read as a part of names\n\t/app/servers/1\tetcd\n\t/app/servers/2\tetcd\n\t/app/zones/a/name\tetcd\n";
    check(KEYS, |recorder| assert_eq!(recorder.all().count(), 7), "\tgetallkvs\t...\t7 keys\n");
    check(
        KEYS,
        |recorder| {
            recorder.ls(b"/app/db");
            recorder.ls(b"/app");
        },
        &format!("\tls\t/app/...\t5 keys\n\tls\t/app/db/...\t2 keys\n{rest}"),
    );
}

#[test]
fn texts_that_are_made_of_secrets_are_masked() {
    let rest = "not read\n\t/app/db/host\tvault\n";
    check(
        &[(0, "/hunter2"), (1, "/app/db/host")],
        |recorder| {
            recorder.get(&bytes("hunter2"));
            recorder.get(&bytes("/hunter2"));
            assert_eq!(recorder.gets(&bytes("/hunter2/*")).unwrap().count(), 0);
        },
        &format!(
            "\tgets\t/(secret)/*\tno key\n\tgetv\t/hunter2\tfound\n\tgetv\t(secret)\tmissing, near: /hunter2\n{rest}"
        ),
    );
}

#[test]
fn what_failed_is_told() {
    let store = store(KEYS);
    let reads = reads(&store, |recorder| _ = recorder.get(&bytes("/app/db/pasword")));
    let failed = resource(&store, Some(&reads), Some("app.tmpl:1:1: getv: key does not exist"));
    let shown = text(&[failed]);
    assert!(shown.starts_with("# app: failed\n"), "{shown}");
    assert!(
        shown.contains("/app/db/password, /app/db/host\n\terror\tapp.tmpl:1:1: getv: key does not exist\nnot read\n")
    );
    assert_eq!(text(&[resource(&store, None, None)]), "# app\napp.tmpl -> /etc/app conf\n\tnot rendered\n");
}

#[test]
fn long_lists_are_short() {
    let mut store = Store::new(2);
    for n in 0..20_000 {
        store.put(0, bytes(&format!("/services/{}/{}", n / 10, n % 10)), bytes(""));
    }
    let reads = reads(&store, |recorder| {
        for n in 0..2_000 {
            recorder.get(&bytes(&format!("/services/{n}/1")));
            recorder.get(&bytes(&format!("/services/{n}/none")));
        }
    });
    let shown = text(&[resource(&store, Some(&reads), None)]);
    let expected = "\tgetv\t/services/...\t2000 reads, 2000 keys\n\tgetv\t/services/...\t2000 reads, no key\nnot read\n\
                    \t/services/...\tetcd\t18000 keys\n";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn json_has_the_same() {
    let mut store = store(KEYS);
    store.put(0, Bytes::from(&b"/\xff"[..]), bytes(""));
    let reads = reads(&store, |recorder| {
        recorder.get(&bytes("/app/db/pasword"));
        recorder.lsdir(b"/app");
        recorder.ask_machine(Question::Files);
    });
    let value = as_json(&[resource(&store, Some(&reads), Some("why"))]);
    let expected = json!({"resources": [{
        "name": "app",
        "failed": true,
        "templates": [{
            "src": "app.tmpl",
            "dst": "/etc/app conf",
            "reads": [
                {"function": "getv", "key": "/app/db/pasword", "keys": 0, "near": ["/app/db/password", "/app/db/host"]},
                {"function": "lsdir", "prefix": "/app/", "keys": 5},
            ],
            "asked_for": ["files"],
            "error": "why",
        }],
        "unread": [
            {"key": "/other/Token", "backend": "etcd"},
            {"key_base64": "L/8=", "backend": "etcd"},
            {"key": "/secret/user", "backend": "vault"},
        ],
        "part_of_names": [
            {"key": "/app/db/password", "backend": "etcd"},
            {"key": "/app/servers/1", "backend": "etcd"},
            {"key": "/app/servers/2", "backend": "etcd"},
            {"key": "/app/zones/a/name", "backend": "etcd"},
            {"key": "/app/db/host", "backend": "vault"},
        ],
        "watch_keys_without_key": [{"key": "/app/reload", "backend": "etcd"}],
        "watch_keys_outside": [{"key": "/x", "backend": "etcd"}],
    }]});
    assert_eq!(value, expected);
}
