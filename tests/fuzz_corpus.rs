//! The corpus that fuzzing left behind, without the fuzzer: everything in it is compiled and rendered as it was there.
//! `fuzz/README.md` says how it comes about.

use std::fs;
use std::path::Path;

#[path = "../fuzz/template.rs"]
mod template;

#[test]
fn nothing_in_the_corpus_breaks_the_language() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz-corpus/template");
    let files: Vec<_> = fs::read_dir(folder).expect("the corpus is in the repository").collect();
    assert!(files.len() > 100, "only {} files found", files.len());
    for file in files {
        let path = file.expect("a listed entry can be read").path();
        // Seen only when the test fails.
        println!("{}", path.display());
        template::run(&fs::read(&path).expect("a file of the corpus can be read"));
    }
}
