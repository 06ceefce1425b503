//! The recorded cases in `tests/conformance`: the result of a template, byte for byte. The README there describes the
//! comparison; `expected-failures.txt` names the cases that are known to differ.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Map, Value};

use crate::support::{TempDir, remco};

const CONFIG: &str = r#"
[[resource]]
name = "t"
[[resource.template]]
src = "case/template.tmpl"
dst = "out"
[resource.backend.file]
filepath = "case/data.json"
keys = ["/"]
onetime = true
"#;

/// A listed case that passes fails the test as an unlisted one does that fails: the list can only get shorter.
#[test]
fn every_case_but_the_listed_ones_passes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let list = fs::read_to_string(root.join("expected-failures.txt")).expect("the list is in the repository");
    let listed: BTreeSet<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();

    let mut cases = cases_in(&root, "");
    assert_eq!(cases.len(), 321, "recorded cases");
    cases.append(&mut cases_in(&root.join("quirks"), "quirks/"));
    let results = run_all(&cases);

    let unknown: Vec<_> = listed.iter().filter(|name| !cases.iter().any(|case| case.name == **name)).collect();
    assert!(unknown.is_empty(), "listed, but no such case: {unknown:?}");
    let mut complaints = Vec::new();
    for (case, problem) in cases.iter().zip(&results) {
        match (problem, listed.contains(case.name.as_str())) {
            (Some(problem), false) => complaints.push(format!("{} fails: {problem}", case.name)),
            (None, true) => complaints.push(format!("{} passes: take it from expected-failures.txt", case.name)),
            (Some(_), true) | (None, false) => {}
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The documentation says what was decided on each quirk: a case that is listed as failing is one that is done better,
/// or one where the record is a crash, which passes by being an error.
#[test]
fn every_quirk_is_decided_in_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("it is in the repository");
    let (page, list) = (read("docs/templates.md"), read("tests/conformance/expected-failures.txt"));
    let (_, section) = page.split_once("\n## Differences from Go remco\n").expect("the page has the section");
    let documented: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|row| row.strip_prefix("| `")?.split_once("` | "))
        .map(|(case, rest)| (case, rest.split(" | ").next().unwrap_or_default()))
        .collect();
    let decided: Vec<(String, &str)> = cases_in(&root.join("tests/conformance/quirks"), "")
        .into_iter()
        .map(|case| {
            let listed = list.lines().any(|line| line.strip_prefix("quirks/") == Some(&case.name));
            let crash =
                fs::read_to_string(case.path.join("case.json")).is_ok_and(|case| case.contains("\"crash\": true"));
            (case.name, if listed || crash { "better" } else { "same" })
        })
        .collect();
    assert_eq!(documented, decided.iter().map(|(case, decision)| (case.as_str(), *decision)).collect::<Vec<_>>());
}

struct Case {
    name: String,
    path: PathBuf,
}

fn cases_in(folder: &Path, label: &str) -> Vec<Case> {
    let entries = fs::read_dir(folder).expect("the cases are in the repository");
    let mut cases: Vec<Case> = entries
        .map(|entry| entry.expect("a listed entry can be read").path())
        .filter(|path| path.join("template.tmpl").is_file())
        .map(|path| Case { name: format!("{label}{}", file_name(&path)), path })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// The problem of each case, in the order of the cases; nothing where it passes.
fn run_all(cases: &[Case]) -> Vec<Option<String>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![None; cases.len()]);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, |count| count.get()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { return };
                    let problem = problem_of(case);
                    results.lock().expect("no worker panics while it holds the lock")[index] = problem;
                }
            });
        }
    });
    results.into_inner().expect("no worker panics while it holds the lock")
}

fn problem_of(case: &Case) -> Option<String> {
    let dir = TempDir::new();
    copy(&case.path, &dir.at("case"));
    dir.write("config.toml", CONFIG);
    let mut program = remco(&dir);
    if let Ok(text) = fs::read_to_string(case.path.join("env.json")) {
        let variables: Map<String, Value> = serde_json::from_str(&text).expect("env.json is an object");
        for (name, value) in &variables {
            program = program.env(name, value.as_str().expect("variables are strings"));
        }
    }
    let finished = program.once();
    let said = format!("{}; the log:\n{}", finished.code.map_or("killed".to_owned(), |c| c.to_string()), finished.log);
    if let Ok(reason) = fs::read_to_string(case.path.join("expected_error")) {
        return match finished.code {
            Some(0) => Some(format!("it has to fail: {}", reason.trim())),
            // A crash is no error: a panic ends with 101.
            None | Some(101) => Some(format!("it crashes with {said}")),
            Some(_) if finished.log.trim().is_empty() => Some(format!("it says nothing, ending with {said}")),
            Some(_) => None,
        };
    }
    let expected = fs::read(case.path.join("expected")).expect("a case has a result or an error");
    match fs::read(dir.at("out")) {
        _ if finished.code != Some(0) => Some(format!("it ends with {said}")),
        Ok(out) if out == expected => None,
        Ok(out) => Some(difference(&expected, &out)),
        Err(_) => Some(format!("no file, but it ends with {said}")),
    }
}

/// The first line that differs.
fn difference(expected: &[u8], out: &[u8]) -> String {
    let (mut wanted, mut got) = (expected.split_inclusive(|b| *b == b'\n'), out.split_inclusive(|b| *b == b'\n'));
    let mut number = 0;
    loop {
        number += 1;
        let (want, have) = (wanted.next(), got.next());
        if want != have || want.is_none() {
            let show = |line: Option<&[u8]>| {
                line.map_or("the end".to_owned(), |l| format!("{:?}", String::from_utf8_lossy(l)))
            };
            return format!("line {number} is {}, expected {}", show(have), show(want));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("the name is free");
    for entry in fs::read_dir(from).expect("a case is a folder") {
        let path = entry.expect("a listed entry can be read").path();
        let target = to.join(file_name(&path));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("the target folder is new");
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a listed entry has a name").to_string_lossy().into_owned()
}
