//! Cases with what the program says to them, word for word, in one text file: a test parses it, asks the program, and
//! compares. `UPDATE_SNAPSHOTS=1` writes what it says now. What the parts of a case mean is up to the test.

use std::path::Path;

/// One case: `=== name`, parts that begin with `--- `, and at last `--- says` with the output.
pub struct Case<'t> {
    /// All of it but the output, as it stands.
    text: &'t str,
    /// What stands behind each `--- `, and the lines below it.
    pub parts: Vec<(&'t str, &'t str)>,
}

impl Case<'_> {
    fn parse(text: &str) -> Case<'_> {
        let text = &text[..text.find("--- says\n").expect("a case has its output")];
        let parts = text.split("--- ").skip(1);
        let parts = parts.map(|part| part.split_once('\n').expect("a part has a line of its own")).collect();
        Case { text, parts }
    }
}

/// Compares what is said to each of the cases of a file in this folder, which are so many at least.
pub fn check(file: &str, least: usize, say: impl Fn(&Case) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(file);
    let snapshots = std::fs::read_to_string(&path).expect("the snapshots are in the tree");
    let texts = snapshots.strip_prefix("=== ").expect("a case begins with its name").split("\n=== ");
    let cases: Vec<Case> = texts.map(Case::parse).collect();
    assert!(cases.len() >= least, "{} cases", cases.len());
    let said: Vec<String> = cases.iter().map(|case| format!("=== {}--- says\n{}", case.text, say(case))).collect();
    let said = said.join("\n");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &said).expect("the snapshots can be written");
        return;
    }
    for (line, (is, was)) in said.lines().zip(snapshots.lines()).enumerate() {
        assert_eq!(is, was, "{}:{}", path.display(), line + 1);
    }
    assert_eq!(said.len(), snapshots.len());
}

/// `\xNN` is a byte.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(&rest[at + 2..at + 4], 16).expect("two digits"));
        rest = &rest[at + 4..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
