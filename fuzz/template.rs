//! What any bytes must survive as a template: compiling, and rendering twice over a store and a world that stand
//! still, within small limits. Then keys change, and a render gives another result only where the record of its reads
//! says so. Used by the fuzz target and by the test of its corpus, so it knows neither.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use remco::store::Store;
use remco::template::{Error, Limits, Template};

use crate::still::{PATH, still};

/// Far less than a second even in a slow build, and enough for every recorded template.
const LIMITS: Limits = Limits { steps: 20_000, output: 64 << 10, time: Duration::from_secs(10), memory: 16 << 20 };

/// Panics where the language breaks a promise; the fuzzer sees to time, memory and leaks.
pub fn run(bytes: &[u8]) {
    let mut store = Rc::new(store());
    let world = still(bytes);
    let mut template = match Template::compile(Path::new(PATH), &world) {
        Ok(template) => template,
        Err(error) => return explained(&error),
    };
    template.limits = LIMITS;
    template.unknown_variables();
    let first = template.render(&store, &world);
    match &first {
        Ok(result) => assert!(result.len() <= LIMITS.output, "{} bytes in spite of the limit", result.len()),
        Err(error) => explained(error),
    }
    let text = |result: Result<Vec<u8>, Error>| result.map_err(|error| error.to_string());
    let first = text(first);
    assert_eq!(first, text(template.render(&store, &world)), "the second render differs");
    assert!(!template.is_stale(&*world), "stale although nothing changes");

    let reads = template.take_reads();
    if first.is_err() || reads.asked_machine() {
        return;
    }
    let changed = Rc::get_mut(&mut store).expect("no render keeps the store");
    changed.take_changes();
    // Which of the keys change depends on the input, and is the same in every run.
    let seed = bytes.iter().fold(bytes.len(), |seed, byte| seed.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    for (step, kind) in [seed / 2, seed / 32, seed / 512].into_iter().zip([seed, seed / 7, seed / 49]) {
        let (index, (key, _)) = (step % PAIRS.len(), PAIRS[step % PAIRS.len()]);
        match kind % 3 {
            0 => _ = changed.delete(index % 2, key),
            1 => _ = changed.put(index % 2, key.into(), b"changed"[..].into()),
            _ => _ = changed.put(1, [key, b"/new"].concat().into(), b"new"[..].into()),
        }
    }
    let changes = changed.take_changes();
    if !reads.is_affected_by(&changes) {
        let again = text(template.render(&store, &world));
        // A search costs steps for the size of the store.
        let is_limited = again.as_ref().is_err_and(|error| error.contains("template_steps"));
        assert!(again == first || is_limited, "not met by {changes:?}: {first:?}, then {again:?}");
    }
}

fn explained(error: &Error) {
    assert!(error.to_string().lines().next().is_some_and(|line| line.contains(": ")), "{error}");
}

/// Texts, numbers, JSON, markup, bytes that are no text, keys with odd names and one that is a directory as well.
const PAIRS: &[(&[u8], &[u8])] = &[
    (b"/app", b"both a key and a directory"),
    (b"/app/db/host", b"pg1"),
    (b"/app/db/port", b"5432"),
    (b"/app/hosts/0", b"10.0.0.2"),
    (b"/app/hosts/1", b"10.0.0.1"),
    (b"/app/name", b"shop"),
    (b"/app/ratio", b"-1.5"),
    (b"/big", b"9223372036854775807"),
    (b"/empty", b""),
    (b"/html", b"<a href=\"http://example.org/?q=1&r='2'\">caf\xc3\xa9</a> me@example.org\n"),
    (b"/json", br#"{"list":[1,2.5,"x",null,true],"map":{"a":{"b":"c"}},"text":"\u00e9\ud83d\ude00"}"#),
    (b"/raw", b"\xff\xfe\x00\xc3"),
    (b"/services/a b/1", b"one"),
    (b"/services/caf\xc3\xa9/1", b"two"),
    (b"/services/x/1", b"{{ three }}"),
    (b"/yaml", b"a: yes\nb: [1, 0x1f]\nc:\n  - d: &x 1\n    e: *x\n"),
];

fn store() -> Store {
    let mut store = Store::new(2);
    for (index, (key, value)) in PAIRS.iter().enumerate() {
        store.put(index % 2, (*key).into(), (*value).into());
    }
    store
}
