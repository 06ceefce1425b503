//! Stores with more keys than fit into memory, or with listings without end: the error names the limit, and the files
//! stay.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::support::{Config, LIMIT, TempDir, answering, remco, resource, wait_until};

/// A folder with a template that counts keys, and the resource without its backend.
fn counting() -> (TempDir, Config) {
    let dir = TempDir::new();
    dir.write("list.tmpl", "{{ getallkvs()|length }}\n");
    dir.write("list.out", "old\n");
    (dir, resource("app").template("list.tmpl", "list.out"))
}

/// A store whose pages never end, each with a hundred new keys.
fn endless() -> String {
    let count = AtomicUsize::new(0);
    answering(move |_| {
        let first = count.fetch_add(100, Ordering::Relaxed);
        let key = |n: usize| format!("{{\"key\":\"{}\"}}", BASE64_STANDARD.encode(format!("/app/{n:09}")));
        let keys: Vec<String> = (first..first + 100).map(key).collect();
        let header = "{\"cluster_id\":\"1\",\"revision\":\"9\"}";
        (200, format!("{{\"header\":{header},\"kvs\":[{}],\"more\":true}}", keys.join(",")))
    })
}

#[test]
fn a_read_without_end_is_an_error_of_its_limit() {
    for (limit, value, words) in [
        ("max_keys", 1234, "more than 1234 keys: raise `max_keys` of the backend"),
        ("max_decoded", 20_000, "keys and values of more than 20000 bytes: raise `max_decoded` of the backend"),
    ] {
        let url = endless();
        let (dir, config) = counting();
        config.etcd(&url).keys(["/app"]).set(limit, value).write(&dir);
        let text = format!("failed to read `/app` from {url}: {words}");
        remco(&dir).once().expect_code(1).expect_log(&text);
        // While it runs it says so too, and does not ask on.
        let program = remco(&dir).start();
        program.wait_for_log(&text);
        program.stop();
        assert!(dir.holds("list.out", "old\n"));
    }
}

#[test]
fn a_document_of_too_many_keys_is_an_error_of_its_limit() {
    let words = "more than 3 keys: raise `max_keys` of the backend";
    let text = "{\"a\": 1, \"b\": {\"c\": 2, \"d\": [3, 4]}}";
    let url = answering(move |_| (200, text.to_owned()));
    for path in ["data.json", &url] {
        let (dir, config) = counting();
        let config = config.file(path);
        config.clone().set("max_keys", 3).write(&dir);
        dir.write("data.json", text);
        remco(&dir).once().expect_code(1).expect_log(words);
        assert!(dir.holds("list.out", "old\n"));
        config.set("max_keys", 4).write(&dir);
        remco(&dir).once().expect_code(0);
        wait_until("all keys are there", LIMIT, || dir.holds("list.out", "4\n"));
    }
}
