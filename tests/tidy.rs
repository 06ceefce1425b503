//! Rules of the source tree that the compiler does not know: which part may use which, one place for each crate,
//! headers, names, words that must not appear. Reads the project's files and runs none of them. A finding names file,
//! line and reason; the tables below list what is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The parts of the program. A file belongs to the first part whose path its own begins with, and names other parts
/// only if they are listed there: main and daemon know everything, host the data of the pure parts, nobody knows host
/// but the effects' side of a backend.
const PARTS: &[Part] = &[
    Part { path: "src/main.rs", kind: Kind::Effects, uses: NOTHING },
    Part { path: "src/look.rs", kind: Kind::Effects, uses: NOTHING },
    Part { path: "src/lib.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/daemon/succession.rs", kind: Kind::Pure, uses: &["config"] },
    Part { path: "src/daemon/record.rs", kind: Kind::Pure, uses: &["metrics", "resource", "status"] },
    Part { path: "src/daemon", kind: Kind::Effects, uses: EVERYTHING },
    Part {
        path: "src/host/",
        kind: Kind::Effects,
        uses: &["config", "dns", "host", "log", "state", "store", "template"],
    },
    Part { path: "src/backend/mod.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/local.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/mock.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/env.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/file.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/consul/mod.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/etcd/mod.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/nats/mod.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/plugin/mod.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/redis/mod.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/zookeeper/mod.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/vault/mod.rs", kind: Kind::Effects, uses: BACKEND_OVER_HOST },
    Part { path: "src/backend/driver/core.rs", kind: Kind::Pure, uses: &["backend", "config", "log"] },
    Part { path: "src/backend/driver.rs", kind: Kind::Effects, uses: &["backend", "config", "dns", "host", "log"] },
    Part { path: "src/backend/driver/commands.rs", kind: Kind::Effects, uses: &["backend", "config", "host"] },
    Part { path: "src/backend/driver/store.rs", kind: Kind::Effects, uses: &["backend", "config", "dns", "host"] },
    Part { path: "src/backend/driver/traffic.rs", kind: Kind::Effects, uses: &["backend", "host"] },
    Part { path: "src/backend/driver/", kind: Kind::Effects, uses: &["host"] },
    Part { path: "src/backend/file/", kind: Kind::Pure, uses: &["backend", "config", "log", "store", "yaml"] },
    Part { path: "src/backend/", kind: Kind::Pure, uses: &["backend", "config", "dns", "log", "store", "yaml"] },
    Part { path: "src/resource/", kind: Kind::Pure, uses: &["config", "log", "resource", "state"] },
    Part { path: "src/state/", kind: Kind::Pure, uses: &["config", "fnv", "state", "store"] },
    Part { path: "src/template/", kind: Kind::Pure, uses: &["store", "template", "yaml"] },
    Part { path: "src/metrics/", kind: Kind::Pure, uses: &["metrics"] },
    Part { path: "src/yaml/", kind: Kind::Pure, uses: &["yaml"] },
    Part { path: "src/store/", kind: Kind::Pure, uses: &["store"] },
    Part { path: "src/config/", kind: Kind::Pure, uses: &["config", "store"] },
    Part { path: "src/dns/", kind: Kind::Pure, uses: &["dns"] },
    Part { path: "src/cli.rs", kind: Kind::Pure, uses: &["config"] },
    Part { path: "src/cli/", kind: Kind::Pure, uses: &["config"] },
    Part { path: "src/status.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/log.rs", kind: Kind::Pure, uses: &["config"] },
    Part { path: "src/acl.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/calendar.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/count.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/cut.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/diff.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/error.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/explain", kind: Kind::Pure, uses: &["store", "template"] },
    Part { path: "src/fnv.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/mask.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/nearest.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/number.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/percent.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/patch.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/quote.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/random.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/scheme.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/sorted.rs", kind: Kind::Pure, uses: NOTHING },
    Part { path: "src/width.rs", kind: Kind::Pure, uses: NOTHING },
];

/// The rooms of the template language, from the ground up. A room uses itself and those before it; what is one of none
/// puts them together.
const ROOMS: &[&str] = &["limits", "source", "world", "reads", "value", "builtin", "syntax", "compile", "run"];

/// Such a part may be used by all others.
const NOTHING: &[&str] = &[];
const EVERYTHING: &[&str] =
    &["backend", "config", "host", "log", "metrics", "resource", "state", "status", "store", "template"];
const BACKEND_OVER_HOST: &[&str] = &["backend", "config", "host", "log", "store"];

/// What a pure part does not touch, and how it gets the same.
const EFFECTS: &[(&str, &str)] = &[
    ("std::fs", "files come through config::Source or template::World"),
    ("std::net", "sockets are host's"),
    ("std::process", "processes are host's"),
    ("std::env", "the environment comes through config::Source or template::World"),
    ("std::thread", "there is one thread"),
    ("std::io::stdin", "the terminal is host's"),
    ("std::io::stdout", "the terminal is host's"),
    ("std::io::stderr", "the terminal is host's"),
    ("println!", "what is to be said is returned, or reported as a log line"),
    ("eprintln!", "what is to be said is returned, or reported as a log line"),
    ("Instant::now", "the moment is an argument"),
    ("SystemTime", "the clock comes through template::World"),
];

/// The one place of a crate, so that it can be replaced. A crate that is not listed may be used everywhere.
const DOORS: &[(&str, &str)] = &[
    ("lexopt", "src/cli.rs"),
    ("rquickjs", "src/host/javascript"),
    ("rustix", "src/host/"),
    ("rustls", "src/host/tls/"),
    ("signal_hook", "src/host/"),
    ("toml", "src/config/"),
    ("tz", "src/host/"),
    ("upon", "src/template/"),
    ("ureq", "src/host/exchange"),
    ("webpki_roots", "src/host/tls/"),
];

/// What stands nowhere, or nowhere but in tests.
const WORDS: &[(&str, Where, &str)] = &[
    ("#[ignore", Where::Nowhere, "a test runs or is not there"),
    ("thread::sleep", Where::Nowhere, "wait for a condition with a deadline"),
    ("todo!", Where::Nowhere, "say what is missing in an error"),
    ("unimplemented!", Where::Nowhere, "say what is missing in an error"),
    ("dbg!", Where::Nowhere, "it was left behind"),
    (".unwrap()", Where::OnlyInTests, "handle it, or state the invariant with `expect`"),
];

/// What no file or folder is called: the concept behind it is not found yet.
const VAGUE: &[&str] = &["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// What may stand in the root, beside what git ignores. A `*` ends what may be continued.
const ROOT: &[&str] = &[
    ".ci",
    ".dockerignore",
    ".editorconfig",
    ".git",
    ".gitattributes",
    ".github",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile.scratch",
    "LICENSE*",
    "README.md",
    "SECURITY.md",
    "THIRD-PARTY*",
    "benches",
    "clippy.toml",
    "deny.toml",
    "docs",
    "fuzz",
    "packaging",
    "rust-toolchain",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "scripts",
    "src",
    "templates",
    "tests",
];

/// How many lines at the top of a file say what it owns and what it does not. What a test does not own is plain.
const HEADERS: &[(&str, RangeInclusive<usize>)] = &[("src/", 2..=6), ("", 1..=6)];

/// The columns of a line of these. rustfmt wraps no comments.
const WIDTH: usize = 120;

#[test]
fn parts_use_only_what_is_below_them() {
    hold(layers);
}

#[test]
fn rooms_use_only_what_is_below_them() {
    hold(rooms);
}

#[test]
fn modules_use_each_other_in_no_circle() {
    let found = circles(&sources());
    assert!(found.is_empty(), "move what both need to a module of its own:\n{}", found.join("\n"));
}

#[test]
fn pure_parts_touch_nothing_outside() {
    hold(purity);
}

#[test]
fn each_crate_has_one_door() {
    hold(doors);
}

#[test]
fn words_that_must_not_appear() {
    hold(words);
}

#[test]
fn the_order_of_code_names_modules_that_there_are() {
    let script = fs::read_to_string(root().join("scripts/sections.ld")).expect("the script is in the tree");
    // `5remco7backend4nats`: the length and the text of each part of a path.
    let module = |mut rest: &str| {
        let mut path = root().join("src");
        loop {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let Ok(length) = rest[..digits].parse::<usize>() else { return path };
            let Some(part) = rest.get(digits..digits + length) else { return path.join(rest) };
            let is_module = path.join(part).is_dir() || path.join(part).with_extension("rs").is_file();
            if !is_module {
                // A function or constant of the module before.
                let holds = |file: PathBuf| fs::read_to_string(file).is_ok_and(|code| code.contains(part));
                let is_item = holds(path.with_extension("rs")) || holds(path.join("mod.rs"));
                return if is_item { path } else { path.join(part) };
            }
            path.push(part);
            rest = &rest[digits + length..];
        }
    };
    let paths: Vec<PathBuf> = script.split("5remco").skip(1).map(module).collect();
    assert!(paths.len() > 30, "the patterns have another form");
    let is_there = |path: &PathBuf| path.is_dir() || path.with_extension("rs").is_file();
    let wrong: Vec<&PathBuf> = paths.iter().filter(|path| !is_there(path)).collect();
    assert!(wrong.is_empty(), "scripts/sections.ld: no module {wrong:?}");
}

#[test]
fn the_pages_for_contributors_name_what_there_is() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let texts: Vec<String> = files.iter().map(|path| fs::read_to_string(path).expect("a source is text")).collect();
    let mut wrong = Vec::new();
    for title in ["docs/architecture.md", "docs/style.md", "CONTRIBUTING.md"] {
        let page = fs::read_to_string(root().join(title)).expect("the page is in the tree");
        let words = page.split(|c: char| c.is_whitespace() || matches!(c, '`' | ',' | ';' | ')' | '('));
        let scripts = words.filter(|word| word.starts_with("scripts/"));
        wrong.extend(scripts.filter(|word| !root().join(word).is_file()).map(|word| format!("{title}: no {word}")));
        // Every second part stands between backquotes.
        for named in page.split('`').skip(1).step_by(2).filter(|named| !named.contains("NAME") && !named.contains(' '))
        {
            if named.ends_with(".rs") {
                if !files.iter().any(|path| path.ends_with(named)) && !root().join(named).is_file() {
                    wrong.push(format!("{title}: `{named}` is no file"));
                }
            } else if let Some((owner, name)) = named.split_once("::")
                && owner.starts_with(char::is_uppercase)
            {
                let owns = |code: &str| {
                    ["struct", "enum", "trait", "impl"].iter().any(|is| code.contains(&format!("{is} {owner}")))
                };
                let has = |code: &str| code.contains(&format!("fn {name}(")) || code.contains(&format!("    {name}"));
                if !texts.iter().any(|code| owns(code) && has(code)) {
                    wrong.push(format!("{title}: `{named}` is not in the sources"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_file_says_what_it_is() {
    hold(header);
}

#[test]
fn no_file_is_named_after_nothing() {
    hold(name);
}

#[test]
fn nothing_is_left_in_the_root() {
    let ignored = fs::read_to_string(root().join(".gitignore")).expect("the list is there");
    let ignored: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('/')).collect();
    let names = fs::read_dir(root()).expect("the root can be listed").map(|entry| {
        let name = entry.expect("the root can be listed").file_name();
        name.into_string().expect("names are text")
    });
    let litter: Vec<String> = names.filter(|name| !ignored.contains(&&**name) && !may_stand_in_root(name)).collect();
    assert!(litter.is_empty(), "in the root: {litter:?}: remove it, or add it to ROOT");
}

/// The compiler refuses them in code only.
#[test]
fn no_text_has_both_sides_of_a_merge() {
    let mut folders = vec![root().to_owned()];
    folders.extend(["docs", "scripts", "templates", "packaging", "tests/snapshots"].map(|name| root().join(name)));
    let (mut read, mut torn) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        // A folder that does not exist has none.
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() && folder != root() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                read += 1;
                let is_mark = |line: &str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ");
                torn.extend(text.lines().any(is_mark).then_some(path));
            }
        }
    }
    assert!(read > 20, "only {read} texts found");
    assert!(torn.is_empty(), "marks of a merge in {torn:?}: keep what belongs there");
}

fn may_stand_in_root(name: &str) -> bool {
    ROOT.iter().any(|known| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *known,
    })
}

/// The compiler accepts what is newer than the manifest promises. Clippy knows the functions of std, not the syntax.
#[test]
fn nothing_is_newer_than_the_manifest_says() {
    hold(guards);
}

#[test]
fn each_dependency_says_why_it_is_there() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest is there");
    let (mut section, mut above, mut bare) = ("", "", Vec::new());
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && line.contains(" = ") && !above.starts_with('#') {
            bare.push(line);
        }
        above = line;
    }
    assert!(bare.is_empty(), "Cargo.toml: the line above must say what std cannot do here:\n{}", bare.join("\n"));
}

struct Part {
    path: &'static str,
    kind: Kind,
    /// What may follow `crate::`.
    uses: &'static [&'static str],
}

impl Part {
    /// What stands behind `crate::`, for a part that is one file.
    fn name(&self) -> &'static str {
        self.path.trim_start_matches("src/").trim_end_matches(".rs")
    }
}

#[derive(PartialEq)]
enum Kind {
    Pure,
    Effects,
}

#[derive(PartialEq)]
enum Where {
    Nowhere,
    OnlyInTests,
}

fn layers(source: &Source) -> Vec<Finding> {
    let part = match part_of(source) {
        Some(part) => part,
        None if source.path.starts_with("src/") => return vec![source.finding(0, "add it to PARTS")],
        None => return Vec::new(),
    };
    let is_ground = |used: &Used| PARTS.iter().any(|part| part.uses.is_empty() && used.is_within(part.name()));
    let is_above = |used: &Used| !is_ground(used) && !part.uses.iter().any(|below| used.is_within(below));
    let used = source.code.uses("crate").into_iter().filter(is_above);
    used.map(|used| source.finding(used.at, &format!("`{}` is not below `{}`", used.path, part.path))).collect()
}

fn rooms(source: &Source) -> Vec<Finding> {
    let Some(path) = source.path.strip_prefix("src/template/") else { return Vec::new() };
    let room = path.split(['/', '.']).next().unwrap_or_default();
    let Some(floor) = ROOMS.iter().position(|name| *name == room) else { return Vec::new() };
    let is_at_most_as_high = |used: &Used| {
        let below = used.path.strip_prefix("template::").unwrap_or(&used.path);
        ROOMS[..=floor].iter().any(|name| below.split("::").next() == Some(name))
    };
    let used = source.code.uses("crate").into_iter().filter(|used| used.is_within("template"));
    let up = used.filter(|used| !is_at_most_as_high(used));
    let finding = |used: Used| source.finding(used.at, &format!("`{}` is not below the room `{room}`", used.path));
    let over = source.code.places("super::super").into_iter();
    up.map(finding)
        .chain(over.map(|at| source.finding(at, "`super::super` leaves the room, write `crate::`")))
        .collect()
}

/// The circles of modules side by side: `host: link -> tls -> link`. What is below a module counts as that module, and what a
/// module has from the one that it is in is no circle.
fn circles(sources: &[Source]) -> Vec<String> {
    let modules: Vec<(Vec<&str>, &Source)> =
        sources.iter().filter_map(|source| Some((source.module()?, source))).collect();
    let known: BTreeSet<&[&str]> = modules.iter().map(|(module, _)| &module[..]).collect();
    let mut beside: BTreeMap<String, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
    for (module, source) in &modules {
        for path in source.code.modules_used(module) {
            let mut path: Vec<&str> = path.split("::").collect();
            while !known.contains(&path[..]) && path.pop().is_some() {}
            let shared = module.iter().zip(&path).take_while(|(own, other)| own == other).count();
            if let (Some(own), Some(other)) = (module.get(shared), path.get(shared)) {
                let room = beside.entry(module[..shared].join("::")).or_default();
                room.entry(own).or_default().insert((*other).to_owned());
            }
        }
    }
    let way_back = |uses: &BTreeMap<&str, BTreeSet<String>>, start: &str| {
        let mut ways = vec![vec![start.to_owned()]];
        let mut at = 0;
        while let Some(way) = ways.get(at).cloned() {
            for next in uses.get(&*way[way.len() - 1]).into_iter().flatten() {
                if next == start {
                    return Some(way);
                }
                if !ways.iter().any(|known| known.last() == Some(next)) {
                    ways.push([&way[..], std::slice::from_ref(next)].concat());
                }
            }
            at += 1;
        }
        None
    };
    let mut found = BTreeSet::new();
    for (room, uses) in &beside {
        for mut way in uses.keys().filter_map(|start| way_back(uses, start)) {
            let first = (0..way.len()).min_by_key(|at| &way[*at]).unwrap_or(0);
            way.rotate_left(first);
            found.insert(format!("{room}: {} -> {}", way.join(" -> "), way[0]));
        }
    }
    found.into_iter().collect()
}

fn purity(source: &Source) -> Vec<Finding> {
    if part_of(source).is_none_or(|part| part.kind != Kind::Pure) {
        return Vec::new();
    }
    let places = |effect: &str| match effect.strip_prefix("std::") {
        Some(path) => {
            source.code.uses("std").into_iter().filter(|used| used.is_within(path)).map(|used| used.at).collect()
        }
        None => source.code.places(effect),
    };
    let finding =
        |effect: &str, instead: &str, at| source.finding(at, &format!("`{effect}` in a pure part: {instead}"));
    EFFECTS
        .iter()
        .flat_map(|(effect, instead)| places(effect).into_iter().map(|at| finding(effect, instead, at)))
        .collect()
}

fn doors(source: &Source) -> Vec<Finding> {
    let closed = DOORS.iter().filter(|(_, door)| source.path.starts_with("src/") && !source.path.starts_with(door));
    let used =
        closed.flat_map(|(name, door)| source.code.uses(name).into_iter().map(move |used| (used.at, name, door)));
    used.map(|(at, name, door)| source.finding(at, &format!("`{name}` is used in {door} only"))).collect()
}

fn words(source: &Source) -> Vec<Finding> {
    let places = |word, place: &Where| match place {
        Where::Nowhere => source.with_tests.places(word),
        Where::OnlyInTests => source.code.places(word),
    };
    let finding = |word: &str, instead: &str, at| source.finding(at, &format!("`{word}`: {instead}"));
    let found = WORDS.iter().map(|(word, place, instead)| (word, places(word, place), instead));
    found.flat_map(|(word, at, instead)| at.into_iter().map(|at| finding(word, instead, at))).collect()
}

/// `pattern if let ... =>`, which is newer than chains of `let`.
fn guards(source: &Source) -> Vec<Finding> {
    let code = &source.with_tests.0;
    let is_guard = |at: &usize| {
        let end = code[*at..].find(['{', ';']).map_or(code.len(), |length| at + length);
        code[*at..end].contains("=>")
    };
    let found = source.with_tests.places("if let").into_iter().filter(is_guard);
    found.map(|at| source.finding(at, "a guard with `if let` needs Rust 1.95")).collect()
}

fn header(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().take_while(|line| line.starts_with("//!")).count();
    let wanted = HEADERS.iter().find(|(folder, _)| source.path.starts_with(folder)).map(|(_, wanted)| wanted);
    let wrong = wanted.filter(|wanted| !wanted.contains(&lines));
    let why = |wanted| format!("{lines} lines of `//!`, but {wanted:?} say what the file owns and what it does not");
    let long = |line: &&str| line.chars().count() > WIDTH;
    let long =
        source.text.lines().take(lines).find(long).map(|_| source.finding(0, "a line of `//!` is too long: wrap it"));
    wrong.map(|wanted| source.finding(0, &why(wanted))).into_iter().chain(long).collect()
}

fn name(source: &Source) -> Vec<Finding> {
    let path = Path::new(&source.path).with_extension("");
    let vague = path.iter().filter_map(|name| VAGUE.iter().find(|vague| name == **vague));
    vague.map(|vague| source.finding(0, &format!("`{vague}` is no noun of the problem"))).collect()
}

fn part_of(source: &Source) -> Option<&'static Part> {
    PARTS.iter().find(|part| source.path.starts_with(part.path))
}

/// Fails with everything that a rule finds in the tree.
#[track_caller]
fn hold(rule: fn(&Source) -> Vec<Finding>) {
    let mut findings: Vec<String> = sources().iter().flat_map(rule).map(|finding| finding.to_string()).collect();
    findings.sort();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz"] {
        rust_files(&root().join(folder), &mut paths);
    }
    assert!(paths.len() > 20, "only {} source files found", paths.len());
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file is readable text");
        Source::new(path.strip_prefix(root()).expect("it is below the root").display().to_string(), text)
    };
    paths.into_iter().map(source).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    // A folder that does not exist has none.
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a folder of the project can be listed").path();
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// One source file.
struct Source {
    /// From the project's root.
    path: String,
    text: String,
    with_tests: Code,
    code: Code,
}

struct Finding {
    path: String,
    line: usize,
    why: String,
}

impl Source {
    fn new(path: String, text: String) -> Source {
        let with_tests = Code::new(&text);
        let is_test = !path.starts_with("src/") || path.ends_with("/tests.rs") || path.contains("/tests/");
        let code = if is_test { Code(String::new()) } else { with_tests.without_tests() };
        Source { path, text, with_tests, code }
    }

    /// `host`, `tls` for src/host/tls/mod.rs; the program and what is no part of the library is no module.
    fn module(&self) -> Option<Vec<&str>> {
        let path = self.path.strip_prefix("src/")?.strip_suffix(".rs").filter(|path| *path != "main")?;
        Some(path.strip_suffix("/mod").unwrap_or(path).split('/').filter(|name| *name != "lib").collect())
    }

    fn finding(&self, at: usize, why: &str) -> Finding {
        let line = 1 + self.text[..at].matches('\n').count();
        Finding { path: self.path.clone(), line, why: why.to_owned() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.why)
    }
}

/// A text with blanks for comments and literals, so that every offset is that of the text.
struct Code(String);

/// A path that the code names below a root.
struct Used {
    at: usize,
    path: String,
}

impl Used {
    fn is_within(&self, path: &str) -> bool {
        self.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }
}

impl Code {
    fn new(text: &str) -> Code {
        let mut code = text.as_bytes().to_vec();
        let mut at = 0;
        while at < code.len() {
            let before = at.checked_sub(1).map(|at| code[at]);
            let end = literal_end(&text.as_bytes()[at..], before.is_some_and(is_name_byte)) + at;
            code[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
            at = end.max(at + 1);
        }
        Code(String::from_utf8(code).expect("comments and literals are blanked as a whole"))
    }

    /// Blanks what stands under `#[cfg(test)]`.
    fn without_tests(&self) -> Code {
        let mut code = self.0.clone();
        for (at, _) in self.0.match_indices("#[cfg(test)]") {
            let mut depth = 0;
            let end = self.0[at..].char_indices().find(|(_, char)| {
                depth += i32::from(*char == '{') - i32::from(*char == '}');
                depth == 0 && matches!(char, '}' | ';')
            });
            let end = end.map_or(code.len(), |(length, _)| at + length);
            let blank: String = code[at..end].chars().map(|char| if char == '\n' { '\n' } else { ' ' }).collect();
            if blank.len() == end - at {
                code.replace_range(at..end, &blank);
            }
        }
        Code(code)
    }

    /// Where a word stands, but not as the end or the beginning of a longer one.
    fn places(&self, word: &str) -> Vec<usize> {
        let is_whole = |at: usize| {
            let (before, after) = (self.0[..at].bytes().last(), self.0.as_bytes().get(at + word.len()));
            let joined = |edge: Option<u8>, beside: Option<u8>| {
                edge.is_some_and(is_name_byte) && beside.is_some_and(is_name_byte)
            };
            !joined(word.bytes().next(), before) && !joined(word.bytes().last(), after.copied())
        };
        self.0.match_indices(word).map(|(at, _)| at).filter(|at| is_whole(*at)).collect()
    }

    /// The paths that are named below a crate (or `crate`, `std`), those in braces one by one.
    fn uses(&self, root: &str) -> Vec<Used> {
        let mut used = Vec::new();
        for at in self.places(root) {
            if let Some(rest) = self.0[at + root.len()..].strip_prefix("::") {
                expand(rest, at, "", &mut used);
            }
        }
        used
    }
}

impl Code {
    /// What the code of a module names, from the root of the crate on.
    fn modules_used(&self, module: &[&str]) -> Vec<String> {
        let mut used: Vec<String> = self.uses("crate").into_iter().map(|used| used.path).collect();
        let begins = |used: &Used| !self.0[..used.at].ends_with("::");
        for Used { path, .. } in self.uses("super").into_iter().filter(begins) {
            let up = 1 + path.split("::").take_while(|name| *name == "super").count();
            let above = &module[..module.len().saturating_sub(up)];
            let below = path.split("::").skip(up - 1);
            used.push(above.iter().copied().chain(below).collect::<Vec<_>>().join("::"));
        }
        used
    }
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`. Returns what follows.
fn expand<'t>(text: &'t str, at: usize, prefix: &str, used: &mut Vec<Used>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        while !rest.trim_start().starts_with('}') && !rest.is_empty() {
            rest = expand(rest, at, prefix, used).trim_start().trim_start_matches(',');
        }
        return rest.trim_start().strip_prefix('}').unwrap_or("");
    }
    let name = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..name]);
    match text[name..].strip_prefix("::") {
        Some(below) if below.starts_with(|char: char| char == '{' || is_name_byte(char as u8)) => {
            expand(below, at, &format!("{path}::"), used)
        }
        _ => {
            used.push(Used { at, path });
            // Past `as other`, up to the next in the braces; never without progress.
            let end = text[name..].find([',', '}']).map_or(text.len(), |end| name + end);
            &text[end..]
        }
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// How long the comment or literal is that a text begins with; 0: it begins with neither.
fn literal_end(text: &[u8], in_name: bool) -> usize {
    let until = |start: usize, end: &[u8]| {
        let found = text[start..].windows(end.len()).position(|window| window == end);
        found.map_or(text.len(), |length| start + length + end.len())
    };
    match text {
        [b'/', b'/', ..] => until(2, b"\n") - 1,
        [b'/', b'*', ..] => until(2, b"*/"),
        [b'"', ..] => quoted_end(text, b'"'),
        [b'\'', b'\\', ..] => quoted_end(text, b'\''),
        // A character, not a lifetime.
        [b'\'', rest @ ..] => match rest.iter().take(5).skip(1).position(|byte| *byte == b'\'') {
            Some(length) if length == 0 || rest[0] >= 0x80 => length + 3,
            _ => 0,
        },
        [b'r' | b'b', ..] if !in_name => {
            let letters = text.iter().take_while(|byte| matches!(byte, b'r' | b'b')).count();
            let hashes = text[letters..].iter().take_while(|byte| **byte == b'#').count();
            let is_raw = text[..letters].contains(&b'r') && text.get(letters + hashes) == Some(&b'"');
            let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
            if is_raw && letters <= 2 { until(letters + hashes + 1, &end) } else { 0 }
        }
        _ => 0,
    }
}

fn quoted_end(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

#[test]
fn the_rules_bite() {
    let rules = [layers, rooms, purity, doors, words, guards, header, name];
    let check = |path: &str, text: &str, want: &[&str]| {
        let source = Source::new(path.to_owned(), format!("//! One.\n//! Two.\n{text}"));
        let got: Vec<String> = rules.iter().flat_map(|rule| rule(&source)).map(|finding| finding.to_string()).collect();
        assert_eq!(got.len(), want.len(), "{path}: {text}: {got:?}");
        let fits = got.iter().zip(want).all(|(got, want)| got.starts_with(want));
        assert!(fits, "{path}: {text}: {got:?}");
    };
    let store = "src/store/mod.rs";
    check(store, "use std::rc::Rc;\n", &[]);
    check(store, "use std::fs;", &["src/store/mod.rs:3: `std::fs` in a pure part"]);
    check(store, "\nuse std::{fmt, fs::File, io::{self, Read}};", &["src/store/mod.rs:4: `std::fs`"]);
    check(store, "use std::io::{Read, stdin};", &["src/store/mod.rs:3: `std::io::stdin`"]);
    check(store, "fn f() { std::env::var(\"A\"); }", &["src/store/mod.rs:3: `std::env`"]);
    check(store, "let now = Instant::now();", &["src/store/mod.rs:3: `Instant::now`"]);
    check(store, "eprintln!();", &["src/store/mod.rs:3: `eprintln!`"]);
    check(store, "// std::fs\n/* std::net */ let s = (\"std::fs\", r#\"\"std::env\"\"#, '\"'); let t: &'a str;", &[]);
    check(store, "#[cfg(test)]\nmod tests { use std::fs; x.unwrap(); mod a {} use crate::host; }\n", &[]);
    check(store, "#[cfg(test)]\nmod tests;\nuse std::fs;", &["src/store/mod.rs:5: `std::fs`"]);
    check(store, "use crate::template::Value;", &["src/store/mod.rs:3: `template::Value` is not below `src/store/`"]);
    check(store, "use crate::{store::path, host};", &["src/store/mod.rs:3: `host` is not below"]);
    check("src/host/files.rs", "use std::fs; use crate::store::Store;", &[]);
    check(store, "use crate::nearest::nearest;", &[]);
    let value = "src/template/value/json.rs";
    check(value, "use crate::template::{limits::Limits, value::{runes, Value}};", &[]);
    check(
        value,
        "use crate::template::builtin::layout;",
        &["src/template/value/json.rs:3: `template::builtin::layout` is"],
    );
    check(value, "use crate::template::Env;", &["src/template/value/json.rs:3: `template::Env` is not below"]);
    check(value, "use super::super::run;", &["src/template/value/json.rs:3: `super::super` leaves"]);
    check("src/template/mod.rs", "use crate::template::run;", &[]);
    check("src/nearest.rs", "use crate::store;", &["src/nearest.rs:3: `store` is not below"]);
    check("src/host/files.rs", "use crate::daemon::Daemon;", &["src/host/files.rs:3: `daemon::Daemon` is not below"]);
    check("src/backend/file.rs", "use crate::host::read;", &[]);
    check("src/backend/keys.rs", "use crate::host::read;", &["src/backend/keys.rs:3: `host::read` is not below"]);
    check("src/new.rs", "", &["src/new.rs:1: add it to PARTS"]);
    check(store, "use toml::Value;", &["src/store/mod.rs:3: `toml` is used in src/config/ only"]);
    check("src/config/document.rs", "use toml::Value; let my_upon::x = 1;", &[]);
    check(store, "x.unwrap();", &["src/store/mod.rs:3: `.unwrap()`"]);
    check(store, "x.unwrap_or(1); todo!()", &["src/store/mod.rs:3: `todo!`"]);
    check("tests/it/main.rs", "x.unwrap();\n#[ignore]\nfn a() {}", &["tests/it/main.rs:4: `#[ignore`"]);
    check("src/resource/tests.rs", "x.unwrap(); std::thread::sleep(d);", &["src/resource/tests.rs:3: `thread::sleep`"]);
    check(store, "match x { A if let Some(a) = b => 1, _ => 2 }", &["src/store/mod.rs:3: a guard with `if let`"]);
    check(store, "if let Some(a) = b { match a { 1 => 2 } }", &[]);
    assert!(may_stand_in_root("LICENSE-MIT") && may_stand_in_root("src") && !may_stand_in_root("srcs"));
    check("src/store/util.rs", "", &["src/store/util.rs:1: `util` is no noun"]);
    check("tests/common/mod.rs", "", &["tests/common/mod.rs:1: `common` is no noun"]);
    let source = |path: &str, text: &str| Source::new(path.to_owned(), text.to_owned());
    let (link, tls) =
        (source("src/host/link.rs", "use super::tls::A;"), source("src/host/tls/mod.rs", "use crate::host::wait;"));
    let trust = |text| source("src/host/tls/trust.rs", text);
    let wait = source("src/host/wait.rs", "use super::{A, b};");
    let host = source("src/host/mod.rs", "use self::link::B;");
    let store = source("src/store/mod.rs", "use crate::host::link;");
    let mut tree = vec![link, tls, wait, host, store, trust("use super::A;")];
    assert_eq!(circles(&tree), [""; 0]);
    tree.push(trust("use super::super::wait; use crate::{host::{link::Cause, wait}, store};"));
    assert_eq!(circles(&tree), [": host -> store -> host", "host: link -> tls -> link"]);
    let bare = Source::new("src/store/mod.rs".to_owned(), "//! One.\nuse std::rc::Rc;\n".to_owned());
    assert!(header(&bare)[0].to_string().starts_with("src/store/mod.rs:1: 1 lines of `//!`"));
    let long = Source::new("tests/it/main.rs".to_owned(), format!("//! {}\n", "é".repeat(WIDTH - 3)));
    assert!(header(&long)[0].to_string().starts_with("tests/it/main.rs:1: a line of `//!` is too long"));
}
