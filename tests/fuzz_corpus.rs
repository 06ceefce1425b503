//! Runs the inputs that fuzzing found, without the fuzzer. Each pack in tests/fuzz-corpus holds the inputs of one
//! target; `fuzz/README.md` describes the format, `scripts/corpus` writes it. `fuzz/NAME.rs` has the checks of a
//! target.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/config.rs"]
mod config;
#[path = "../fuzz/etcd.rs"]
mod etcd;
#[path = "../fuzz/etcd_v2.rs"]
mod etcd_v2;
#[path = "../fuzz/exchange.rs"]
mod exchange;
#[path = "../fuzz/layout.rs"]
mod layout;
#[path = "../fuzz/link.rs"]
mod link;
#[path = "../fuzz/pattern.rs"]
mod pattern;
#[path = "../fuzz/printf.rs"]
mod printf;
#[path = "../fuzz/protocol.rs"]
mod protocol;
#[cfg(feature = "redis")]
#[path = "../fuzz/redis.rs"]
mod redis;
#[path = "../fuzz/still.rs"]
mod still;
#[path = "../fuzz/template.rs"]
mod template;
#[path = "../fuzz/torn.rs"]
mod torn;
#[path = "../fuzz/yaml.rs"]
mod yaml;

#[test]
fn configurations() {
    all("config", 50, config::run);
}

#[test]
fn answers_of_an_etcd() {
    all("etcd", 50, etcd::run);
}

#[test]
fn answers_of_etcd_version_2() {
    all("etcd_v2", 50, etcd_v2::run);
}

#[test]
fn answers_over_http() {
    all("exchange", 50, exchange::run);
}

#[test]
fn bytes_of_a_server() {
    all("link", 30, link::run);
}

#[test]
fn layouts_of_dates() {
    all("layout", 20, layout::run);
}

#[test]
fn patterns_of_keys() {
    all("pattern", 50, pattern::run);
}

#[test]
fn formats() {
    all("printf", 50, printf::run);
}

#[cfg(feature = "redis")]
#[test]
fn replies_of_a_redis() {
    all("redis", 20, redis::run);
}

#[test]
fn protocols() {
    all("protocol_etcd_v3", 50, protocol::etcd_v3);
    all("protocol_etcd_v2", 50, protocol::etcd_v2);
    all("protocol_etcd_discovery", 30, protocol::etcd_discovery);
    all("protocol_url", 10, protocol::url);
    #[cfg(feature = "nats")]
    all("protocol_nats", 20, protocol::nats);
    #[cfg(feature = "consul")]
    all("protocol_consul", 30, protocol::consul);
    #[cfg(feature = "redis")]
    all("protocol_redis", 30, protocol::redis);
    #[cfg(feature = "zookeeper")]
    all("protocol_zookeeper", 30, protocol::zookeeper);
    #[cfg(feature = "vault")]
    all("protocol_vault", 20, protocol::vault);
    #[cfg(feature = "plugin")]
    all("protocol_plugin", 20, protocol::plugin);
}

#[test]
fn templates() {
    all("template", 100, template::run);
}

#[test]
fn yaml_documents() {
    all("yaml", 60, yaml::run);
}

/// Runs every input of a target's pack, which holds at least `least` inputs.
fn all(name: &str, least: usize, run: fn(&[u8])) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fuzz-corpus/{name}.pack"));
    let pack = fs::read(path).expect("the pack is in the repository");
    let inputs = unpack(&pack).unwrap_or_else(|error| panic!("failed to read {name}.pack: {error}"));
    assert!(inputs.len() >= least, "only {} inputs found", inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        // Shown only when the test fails.
        println!("{name}, input {}: {}", index + 1, input.escape_ascii());
        run(input);
    }
}

/// The inputs in a pack: a line `COUNT inputs`, then of each input its length in decimal on a line, its bytes, and a newline.
fn unpack(pack: &[u8]) -> Result<Vec<&[u8]>, String> {
    let (head, mut rest) = line(pack).ok_or("the first line has no end")?;
    let count = head.strip_suffix(" inputs").and_then(|count| count.parse::<usize>().ok());
    let count = count.ok_or("the first line is not `COUNT inputs`")?;
    let mut inputs = Vec::new();
    while !rest.is_empty() {
        let number = inputs.len() + 1;
        let (length, after) = line(rest).ok_or_else(|| format!("input {number} has no length"))?;
        let length: usize = length.parse().map_err(|_| format!("input {number} has no length"))?;
        let (input, after) = after.split_at_checked(length).ok_or_else(|| format!("input {number} is torn"))?;
        rest = after.strip_prefix(b"\n").ok_or_else(|| format!("input {number} does not end after its length"))?;
        inputs.push(input);
    }
    match inputs.len() == count {
        true => Ok(inputs),
        false => Err(format!("it holds {} inputs instead of {count}", inputs.len())),
    }
}

/// The first line without its newline, and what follows the newline.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

#[test]
fn a_pack_gives_its_inputs() {
    assert_eq!(unpack(b"0 inputs\n"), Ok(vec![]));
    assert_eq!(unpack(b"3 inputs\n0\n\n2\n\n\n\n3\n4\nx\n"), Ok(vec![&b""[..], b"\n\n", b"4\nx"]));
}

#[test]
fn a_torn_pack_is_refused() {
    let pack = b"3 inputs\n0\n\n2\n\n\n\n3\n4\nx\n";
    for length in 0..pack.len() {
        assert!(unpack(&pack[..length]).is_err(), "cut to {length} bytes");
    }
    for (pack, error) in [
        (&b"1 input\n1\nx\n"[..], "the first line is not `COUNT inputs`"),
        (b"1 inputs\n2\nx\n", "input 1 does not end after its length"),
        (b"1 inputs\n3\nx\n", "input 1 is torn"),
        (b"1 inputs\n-1\nx\n", "input 1 has no length"),
        (b"1 inputs\n1\nx\n1\ny\n", "it holds 2 inputs instead of 1"),
    ] {
        assert_eq!(unpack(pack), Err(error.to_owned()), "{}", pack.escape_ascii());
    }
}
