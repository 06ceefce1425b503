//! The pages in Markdown: each link has a file and each anchor a heading, each flag, exit code and metric is in its
//! reference, and the pointers of docs/architecture.md lead into the code. Starts nothing, and follows no link to
//! another host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[path = "it/support/links.rs"]
mod links;

use links::{prose, targets};

/// The pages by their paths from the project's root.
fn pages() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["", "docs", "fuzz", "tests/conformance", "templates", "packaging"];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).expect("a folder can be listed"));
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a page is text");
        (path.strip_prefix(root).expect("it is below it").to_owned(), text)
    };
    pages.map(read).collect()
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("failed to read {}: {e}", path.display()))
}

/// The anchors of a page's headings as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for heading in
        prose(text).filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
    {
        let kept = heading.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
        let anchor: String = kept.map(|char| if char == ' ' { '-' } else { char.to_ascii_lowercase() }).collect();
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(numbered).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

#[test]
fn each_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages();
    let (mut broken, mut count) = (Vec::new(), 0);
    for (path, text) in &pages {
        let folder = path.parent().expect("a page is in a folder");
        for target in targets(text) {
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { path.clone() } else { folder.join(file) };
            let Ok(absolute) = root.join(&file).canonicalize() else {
                broken.push(format!("{}: {target}: no such file", path.display()));
                continue;
            };
            let is_known = absolute.strip_prefix(root).ok().and_then(|path| pages.get(path));
            if !anchor.is_empty() && !is_known.is_some_and(|page| anchors(page).contains(anchor)) {
                broken.push(format!("{}: {target}: no such heading", path.display()));
            }
        }
    }
    assert!(count > 50, "only {count} links were found");
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn links_and_anchors_are_read_as_github_does() {
    let text =
        "# One `code`, two\n## `[[resource.template]]`\n## --dry-run\n## Twice\n## Twice\n```\n# no heading\n```\n";
    let expected = ["--dry-run", "one-code-two", "resourcetemplate", "twice", "twice-1"];
    assert_eq!(anchors(text).iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let text = "[a](b.md#c) `[x](y)` [d](https://example.org) [e](#f),\n```\n[g](h)\n```\n";
    assert_eq!(targets(text), ["b.md#c", "#f"]);
}

/// `systemctl reload` and `restart` wait for the start of a service, and a service that is ordered after remco waits for the
/// command: `try-...` does nothing before the start.
#[test]
fn no_example_reloads_a_service_that_waits_for_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let samples = fs::read_dir(root.join("templates")).expect("a folder can be listed");
    let samples = samples.map(|entry| entry.expect("an entry can be read").path().join("config.toml"));
    let others = ["docs/remco.1", "docs/remco.5", "packaging/config"].map(|name| root.join(name));
    let texts = samples.chain(others).filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)));
    let (mut count, mut waiting) = (0, Vec::new());
    for (path, text) in texts.chain(pages()) {
        for line in text.lines().filter(|line| line.contains("reload_cmd") && line.contains("systemctl ")) {
            count += 1;
            if !line.contains("systemctl try-") {
                waiting.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert!(count > 8, "only {count} commands were found");
    assert!(waiting.is_empty(), "{waiting:#?}");
}

/// The flags that the help has, each at the beginning of a line.
fn flags() -> Vec<String> {
    let help = remco::cli::help();
    let words = help.lines().filter_map(|line| line.strip_prefix("  -")?.split_whitespace().next());
    words.map(|word| format!("-{word}")).collect()
}

#[test]
fn each_flag_is_in_the_reference() {
    let reference = page("docs/configuration.md");
    let (_, section) = reference.split_once("\n## Command line\n").expect("there is a section");
    let flags = flags();
    assert!(flags.len() > 20, "the help is read wrongly: {flags:?}");
    let is_there = |flag: &&String| [" ", "`"].iter().any(|end| section.contains(&format!("`{flag}{end}")));
    let missing: Vec<&String> = flags.iter().filter(|flag| !is_there(flag)).collect();
    assert!(missing.is_empty(), "not in the table of docs/configuration.md: {missing:?}");
}

#[test]
fn each_exit_code_is_on_the_manual_page() {
    let operation = page("docs/operation.md");
    let (_, section) = operation.split_once("\n## Exit codes\n").expect("there is a section");
    let section = section.split("\n## ").next().expect("a part is never missing");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let codes: BTreeSet<&str> = rows.map(|(code, _)| code).filter(|code| code.starts_with(char::is_numeric)).collect();
    assert!(codes.len() > 5, "the table is read wrongly: {codes:?}");
    let manual = page("docs/remco.1");
    let (_, section) = manual.split_once("\n.SH EXIT STATUS\n").expect("there is a section");
    let section = section.split("\n.SH ").next().expect("a part is never missing");
    let words = |text: &str| {
        text.split(|char: char| !char.is_alphanumeric())
            .map(str::to_owned)
            .filter(|w| !w.is_empty())
            .collect::<Vec<_>>()
    };
    // Labels are `.B 1 to 125` and `.BR 130 ", " 143`.
    let labels: Vec<_> =
        section.lines().filter_map(|line| Some(words(line.strip_prefix(".B")?.split_once(' ')?.1))).collect();
    let missing: Vec<_> = codes.iter().filter(|code| !labels.contains(&words(code))).collect();
    assert!(missing.is_empty(), "not in docs/remco.1: {missing:?}");
}

#[test]
fn each_metric_is_in_the_reference() {
    let operation = page("docs/operation.md");
    let (_, section) = operation.split_once("\n## Telemetry\n").expect("there is a section");
    let section = section.split("\n## ").next().expect("a part is never missing");
    let list = page("src/metrics/list.rs");
    let metrics: Vec<&str> = list.split("pub static ").skip(1).filter_map(|metric| metric.split('"').nth(1)).collect();
    assert!(metrics.len() > 15, "the list is read wrongly: {metrics:?}");
    let missing: Vec<_> = metrics.iter().filter(|metric| !section.contains(&format!("`{metric}`"))).collect();
    assert!(missing.is_empty(), "not in the table of docs/operation.md: {missing:?}");
}

/// All files below a folder with the extension `rs`, and their content.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source is text");
            found.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn the_pointers_of_the_architecture_lead_into_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    ["src", "tests", "fuzz"].iter().for_each(|folder| sources(&root.join(folder), &mut files));
    let has = |word: &str| files.iter().any(|(_, text)| text.contains(word));
    let text = page("docs/architecture.md");
    let words: BTreeSet<&str> = prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2)).collect();
    let is_missing = |word: &&str| {
        if word.contains("NAME") {
            return false;
        }
        if word.ends_with(".rs") {
            return !files.iter().any(|(path, _)| path.ends_with(&format!("/{word}")));
        }
        let is_path = word.chars().all(|char| char.is_alphanumeric() || "_:".contains(char));
        match word.rsplit_once("::") {
            // A variant has no `fn`. `room::file` is prose.
            Some((of, name)) if is_path && of.starts_with(char::is_uppercase) => {
                let is_variant = name.starts_with(char::is_uppercase) && has(&format!("    {name}"));
                !has(of) || !(is_variant || has(&format!("fn {name}(")))
            }
            _ => false,
        }
    };
    let missing: Vec<&str> = words.into_iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "docs/architecture.md names what is not there: {missing:?}");
}
