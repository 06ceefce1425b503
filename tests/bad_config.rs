//! Every message a wrong configuration can give, word for word: `tests/snapshots/bad-config.txt` holds the
//! configurations and what `config::load` says to them. `UPDATE_SNAPSHOTS=1` writes what it says now.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use remco::config::{self, Finding, Source, Strictness};

const SNAPSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/bad-config.txt");

#[test]
fn bad_configurations_are_explained() {
    let snapshots = std::fs::read_to_string(SNAPSHOTS).expect("the snapshots are in the tree");
    let texts = snapshots.strip_prefix("=== ").expect("a case begins with its name").split("\n=== ");
    let cases: Vec<Case> = texts.map(Case::parse).collect();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let said: Vec<String> = cases.iter().map(|case| format!("=== {}--- says\n{}", case.before, case.run())).collect();
    let said = said.join("\n");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(SNAPSHOTS, &said).expect("the snapshots can be written");
        return;
    }
    for (line, (is, was)) in said.lines().zip(snapshots.lines()).enumerate() {
        assert_eq!(is, was, "{SNAPSHOTS}:{}", line + 1);
    }
    assert_eq!(said.len(), snapshots.len());
}

/// One configuration with its files and variables.
#[derive(Default)]
struct Case<'t> {
    /// All of it but the output, as it stands.
    before: &'t str,
    files: BTreeMap<PathBuf, Vec<u8>>,
    vars: BTreeMap<Vec<u8>, Vec<u8>>,
    strictness: Option<Strictness>,
}

impl Case<'_> {
    /// The name on the first line, then parts that begin with `--- `: the name of a file, `env NAME=value`, `strict`
    /// or `says`.
    fn parse(text: &str) -> Case<'_> {
        let before = text.find("--- says\n").expect("a case has its output");
        let mut case = Case { before: &text[..before], ..Case::default() };
        let mut parts = case.before.split("--- ");
        parts.next().expect("a case has a name");
        for part in parts {
            let (head, body) = part.split_once('\n').expect("a part has a line of its own");
            if head == "strict" {
                case.strictness = Some(Strictness::Strict);
            } else if let Some(variable) = head.strip_prefix("env ") {
                let (name, value) = variable.split_once('=').expect("NAME=value");
                case.vars.insert(name.into(), unescape(value));
            } else {
                case.files.insert(head.into(), unescape(body));
            }
        }
        case
    }

    fn run(&self) -> String {
        let strictness = self.strictness.unwrap_or(Strictness::Lenient);
        let lines: Vec<String> = match config::load(Path::new("config"), strictness, self) {
            Ok((config, warnings)) => {
                assert!(warnings.iter().all(|finding| !finding.fatal), "an error beside a configuration");
                let unsupported = config::unsupported(&config).into_iter();
                warnings.iter().map(Finding::to_string).chain(unsupported).collect()
            }
            Err(findings) => {
                assert!(findings.list.iter().any(|finding| finding.fatal), "errors without an error");
                vec![findings.to_string()]
            }
        };
        lines.iter().flat_map(|line| [line, "\n"]).collect()
    }
}

/// `\xNN` is a byte.
fn unescape(text: &str) -> Vec<u8> {
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

/// What the system answers, in numbers that are the same on every Linux.
const ENOENT: i32 = 2;
const EACCES: i32 = 13;

impl Source for Case<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.files.get(path).map(Vec::as_slice) {
            Some(b"permission denied\n") => Err(io::Error::from_raw_os_error(EACCES)),
            Some(bytes) => Ok(bytes.to_vec()),
            None => Err(io::Error::from_raw_os_error(ENOENT)),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let files = self.files.keys().filter(|file| file.parent() == Some(dir));
        let names: Vec<OsString> = files.filter_map(|file| file.file_name()).map(Into::into).collect();
        if names.is_empty() { Err(io::Error::from_raw_os_error(ENOENT)) } else { Ok(names) }
    }

    fn var(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.vars.get(name).cloned()
    }
}
