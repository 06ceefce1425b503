//! The corpora that fuzzing left behind, without the fuzzer: everything in them is run through as it was there.
//! `fuzz/README.md` says how they come about.

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

#[test]
fn templates() {
    all("template", 100, template::run);
}

#[test]
fn yaml_documents() {
    all("yaml", 60, yaml::run);
}

/// Runs every file of a corpus, of which there are so many at least.
fn all(name: &str, least: usize, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz-corpus").join(name);
    let files: Vec<_> = fs::read_dir(folder).expect("the corpus is in the repository").collect();
    assert!(files.len() >= least, "only {} files found", files.len());
    for file in files {
        let path = file.expect("a listed entry can be read").path();
        // Seen only when the test fails.
        println!("{}", path.display());
        run(&fs::read(&path).expect("a file of the corpus can be read"));
    }
}
