//! Runs of a configuration that renders all keys of a store into the file `out`, and of the samples. Starts no server.

use std::path::Path;

use super::{Config, Invocation, LIMIT, Remco, TempDir, remco, wait_until};

/// A template of all keys, a line each.
pub const LIST: &str = "{% for kv in getallkvs() %}{{ kv.Key }}={{ kv.Value }}\n{% endfor %}";

/// Waits until the file has this content.
#[track_caller]
pub fn await_out(dir: &TempDir, content: &str) {
    wait_until(&format!("the file holds {content:?}"), LIMIT, || dir.holds("out", content));
}

/// A one-shot run that renders this.
#[track_caller]
pub fn renders_once(dir: &TempDir, config: &Config, want: &str) {
    config.clone().onetime().write(dir);
    remco(dir).once().expect_code(0);
    assert_eq!(dir.read("out").as_deref(), Some(want));
}

/// A one-shot run that cannot work, and does not try for its time of 30 seconds.
#[track_caller]
pub fn is_refused(dir: &TempDir, config: &Config, words: &str) {
    config.clone().onetime().write(dir);
    remco(dir).once().expect_code(1).expect_log(words).expect_no_log("s3same");
}

/// The program as it watches; returns after its first render.
pub fn watching(dir: &TempDir, config: Config) -> Remco {
    config.watch().write(dir);
    let program = remco(dir).start();
    wait_until("the first render", LIMIT, || dir.read("out").is_some());
    program
}

/// How often all keys were read.
pub fn reads(log: &[String]) -> usize {
    log.iter().filter(|line| line.contains("retrieving keys")).count()
}

/// A sample of `templates/`, with the folder as its target.
pub fn sample(dir: &TempDir, name: &str) -> Invocation {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(name);
    let program = remco(dir).arg("-config").arg(&source.join("config.toml").to_string_lossy());
    let target = dir.path().to_string_lossy();
    program.env("SOURCE", &source.to_string_lossy()).env("TARGET", &target).env("RELOAD", "true")
}

/// What stands between the fences of one kind, block by block.
pub fn blocks<'t>(text: &'t str, kind: &str) -> Vec<&'t str> {
    let fence = format!("```{kind}\n");
    let fenced = text.split(&*fence).skip(1);
    fenced.map(|rest| rest.split("\n```").next().expect("a part is never missing")).collect()
}

/// The blocks of one language in the section of a store in docs/backends.md.
pub fn examples(store: &str, language: &str) -> Vec<&'static str> {
    let text = include_str!("../../../docs/backends.md");
    let (_, section) = text.split_once(&format!("\n## {store}\n")).expect("there is a section");
    let section = section.split("\n## ").next().expect("a part is never missing");
    blocks(section, language)
}

/// The one configuration there.
pub fn example(store: &str) -> &'static str {
    match examples(store, "toml")[..] {
        [example] => example,
        ref all => panic!("{store} has {} examples", all.len()),
    }
}
