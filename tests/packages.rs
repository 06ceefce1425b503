//! The packages that the program is built from: their licences, their versions, and that THIRD-PARTY.md names them.
//! Reads `cargo metadata`; builds no package.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Licences under which code may be in the binary. deny.toml has the same list.
const ALLOWED: &[&str] = &["Apache-2.0", "BSD-3-Clause", "CDLA-Permissive-2.0", "ISC", "MIT", "Unicode-3.0", "Zlib"];

#[test]
fn each_package_has_a_licence_on_the_list() {
    let refused: Vec<String> = packages()
        .iter()
        .filter(|package| !Expression::parse(&package.licence).is_some_and(|licence| licence.is_allowed()))
        .map(|package| format!("{} {}: {}", package.name, package.version, package.licence))
        .collect();
    assert!(refused.is_empty(), "packages under licences that are not on the list:\n{}", refused.join("\n"));
}

#[test]
fn no_package_is_there_in_two_versions() {
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for package in packages() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "packages in several versions: {versions:?}");
}

#[test]
fn third_party_names_each_linked_package() {
    let text = read("THIRD-PARTY.md");
    let is_named = |p: &Package| text.contains(&format!("| {} | {} | {} |", p.name, p.version, p.licence));
    let missing: Vec<String> =
        packages().iter().filter(|package| package.is_linked && !is_named(package)).map(|p| p.name.clone()).collect();
    assert!(missing.is_empty(), "not in THIRD-PARTY.md, run scripts/third-party: {}", missing.join(", "));
}

#[test]
fn deny_toml_allows_the_same_licences() {
    let text = read("deny.toml");
    let list = text.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).expect("deny.toml has a list").0;
    let listed: Vec<&str> =
        list.split(',').map(|entry| entry.trim().trim_matches('"')).filter(|entry| !entry.is_empty()).collect();
    assert_eq!(listed, ALLOWED);
}

/// A package that cargo resolves for Linux, with all features.
struct Package {
    name: String,
    version: String,
    licence: String,
    /// Its code is in the binary: it is neither a macro nor of use to build scripts alone.
    is_linked: bool,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .args(["--filter-platform", "x86_64-unknown-linux-musl"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, as it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let about: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let nodes: BTreeMap<&str, &Value> =
        array(&about["resolve"]["nodes"]).map(|node| (text(&node["id"]), node)).collect();
    let root = text(&about["resolve"]["root"]);
    let all: BTreeMap<&str, &Value> =
        array(&about["packages"]).map(|package| (text(&package["id"]), package)).collect();
    let is_macro = |id: &str| {
        array(&all[id]["targets"]).any(|target| array(&target["kind"]).any(|kind| text(kind) == "proc-macro"))
    };
    let mut linked = BTreeSet::new();
    let mut todo = vec![root];
    while let Some(id) = todo.pop() {
        for dependency in array(&nodes[id]["deps"]) {
            let other = text(&dependency["pkg"]);
            let is_ordinary = array(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
            if is_ordinary && !is_macro(other) && linked.insert(other) {
                todo.push(other);
            }
        }
    }
    let resolved = all.iter().filter(|(id, _)| **id != root && nodes.contains_key(*id));
    let package = |(id, package): (&&str, &&Value)| Package {
        name: text(&package["name"]).to_owned(),
        version: text(&package["version"]).to_owned(),
        licence: package["license"].as_str().unwrap_or("none").to_owned(),
        is_linked: linked.contains(*id),
    };
    let packages: Vec<Package> = resolved.map(package).collect();
    assert!(packages.len() > 30, "only {} packages found", packages.len());
    packages
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("failed to read {}: {e}", path.display()))
}

/// A licence expression of SPDX, as far as crates.io has them: `AND` binds closer than `OR`; `/` is the old way to write
/// `OR`; an exception (`WITH`) only allows more.
enum Expression {
    Licence(String),
    Any(Vec<Expression>),
    All(Vec<Expression>),
}

impl Expression {
    fn parse(text: &str) -> Option<Expression> {
        let spaced = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = &words[..];
        let parsed = Expression::any(&mut rest)?;
        rest.is_empty().then_some(parsed)
    }

    fn any(words: &mut &[&str]) -> Option<Expression> {
        let mut parts = vec![Expression::all(words)?];
        while take(words, "OR") {
            parts.push(Expression::all(words)?);
        }
        Some(Expression::Any(parts))
    }

    fn all(words: &mut &[&str]) -> Option<Expression> {
        let mut parts = vec![Expression::one(words)?];
        while take(words, "AND") {
            parts.push(Expression::one(words)?);
        }
        Some(Expression::All(parts))
    }

    fn one(words: &mut &[&str]) -> Option<Expression> {
        if take(words, "(") {
            let inner = Expression::any(words)?;
            return take(words, ")").then_some(inner);
        }
        let (name, rest) = words.split_first()?;
        *words = rest;
        if take(words, "WITH") {
            *words = words.get(1..)?;
        }
        Some(Expression::Licence((*name).to_owned()))
    }

    fn is_allowed(&self) -> bool {
        match self {
            Expression::Licence(name) => ALLOWED.contains(&name.as_str()),
            Expression::Any(parts) => parts.iter().any(Expression::is_allowed),
            Expression::All(parts) => parts.iter().all(Expression::is_allowed),
        }
    }
}

fn take(words: &mut &[&str], word: &str) -> bool {
    let found = words.first() == Some(&word);
    if found {
        *words = &words[1..];
    }
    found
}

#[test]
fn licence_expressions_mean_what_spdx_says() {
    let allowed = |text: &str| Expression::parse(text).map(|expression| expression.is_allowed());
    assert_eq!(allowed("MIT"), Some(true));
    assert_eq!(allowed("GPL-3.0"), Some(false));
    assert_eq!(allowed("GPL-3.0 OR MIT"), Some(true));
    assert_eq!(allowed("GPL-3.0/MIT"), Some(true));
    assert_eq!(allowed("GPL-3.0 AND MIT"), Some(false));
    assert_eq!(allowed("MIT OR GPL-3.0 AND ISC"), Some(true));
    assert_eq!(allowed("(MIT OR GPL-3.0) AND ISC"), Some(true));
    assert_eq!(allowed("(MIT OR ISC) AND GPL-3.0"), Some(false));
    assert_eq!(allowed("Apache-2.0 WITH LLVM-exception"), Some(true));
    for broken in ["", "MIT OR", "(MIT", "MIT ISC", "OR"] {
        assert_ne!(allowed(broken), Some(true), "{broken}");
    }
}
