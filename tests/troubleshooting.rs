//! Compares docs/troubleshooting.md with the messages in the sources: the page has a row for each logged warning and
//! error, and for each `failed to VERB`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn each_message_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/troubleshooting.md")).expect("the page is in the tree");
    let (mut messages, mut files) = (BTreeSet::new(), Vec::new());
    sources(&root.join("src"), &mut files);
    for path in &files {
        let text = fs::read_to_string(path).expect("it is text");
        let code = text.split("#[cfg(test)]\nmod tests {").next().expect("a part is never missing");
        messages.extend(logged(code));
        messages.extend(failures(code));
    }
    assert!(messages.len() > 40, "the sources are read wrongly: {messages:?}");
    let missing: Vec<_> = messages.iter().filter(|message| !page.contains(message.as_str())).collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md: {missing:#?}");
}

/// The sources of the program, without those of tests.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

/// The words of warnings and errors that are logged as they are.
fn logged(code: &str) -> Vec<String> {
    let starts = ["Level::Warn, \"", "Level::Error, \""];
    let literals = starts.iter().flat_map(|start| code.split(start).skip(1));
    literals.filter_map(|rest| Some(rest.split_once('"')?.0.replace('`', ""))).filter(|words| words.len() > 8).collect()
}

/// `failed to` with the fixed words behind it.
fn failures(code: &str) -> Vec<String> {
    let literals = code.split("\"failed to ").skip(1);
    let fixed = literals.filter_map(|rest| rest.split(['"', '{', '`', ',', ':', '(']).next());
    fixed.map(str::trim).filter(|words| !words.is_empty()).map(|words| format!("failed to {words}")).collect()
}
