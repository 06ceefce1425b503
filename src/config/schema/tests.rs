//! Compares the tables of docs/configuration.md and the manual page docs/remco.5 with the rows of the keys.
//! `UPDATE_SNAPSHOTS=1` writes them. A table is below a line `<!-- keys of PATH -->`, where PATH is that of its
//! schema.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Default, Key, Schema, Type, Unit};
use crate::config::SCHEMAS;
use crate::config::backend::general::GENERAL;
use crate::config::excerpt::hides;

#[test]
fn the_tables_are_those_of_the_rows() {
    let document = read("docs/configuration.md");
    let mut tables: BTreeMap<&str, String> = BTreeMap::new();
    tables.insert("every backend", table(GENERAL.iter()));
    for schema in SCHEMAS {
        let rows: Vec<&Key> = own(schema).collect();
        if !rows.is_empty() {
            tables.insert(schema.path, table(rows.into_iter()));
        }
    }
    let written = with_tables(&document, &mut tables);
    assert!(tables.is_empty(), "no line `<!-- keys of PATH -->` for {:?}", tables.keys());
    compare("docs/configuration.md", &document, &written);
}

#[test]
fn the_manual_page_is_that_of_the_rows() {
    let mut page = include_str!("remco.5.head").to_owned();
    page += &manual("keys of every backend", GENERAL.iter());
    for schema in SCHEMAS {
        let title = match schema.path {
            "top level" => "keys of the top level".to_owned(),
            path => format!("[{path}]"),
        };
        page += &manual(&title, own(schema));
    }
    page += include_str!("remco.5.tail");
    compare("docs/remco.5", &read("docs/remco.5"), &page);
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).expect("the documentation is in the tree")
}

/// Compares a document with its expected text, or writes it with `UPDATE_SNAPSHOTS`.
#[track_caller]
fn compare(path: &str, was: &str, is: &str) {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        return std::fs::write(&path, is).expect("the documentation can be written");
    }
    for (is, was) in is.lines().zip(was.lines()) {
        assert_eq!(is, was, "run this test with UPDATE_SNAPSHOTS=1");
    }
    assert_eq!(is, was);
}

/// A section of the manual page; empty if there are no rows.
fn manual<'a>(title: &str, rows: impl Iterator<Item = &'a Key>) -> String {
    let mut section = String::new();
    for row in rows {
        if section.is_empty() {
            section += &format!(".SS {}\n", roff(title));
        }
        let (value, default) = (type_of(row), roff(&default_of(row)));
        section += &format!(".TP\n\\fB{}\\fP ({value}; default: {default})\n{}\n", row.name, roff(row.text));
    }
    section
}

/// Markdown of one line as roff: code in bold type, links as their words.
fn roff(text: &str) -> String {
    let mut words = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        words += before;
        match link.split_once("](").and_then(|(name, after)| Some((name, after.split_once(')')?.1))) {
            Some((name, after)) if !name.contains(['[', ']']) => {
                words += name;
                rest = after;
            }
            _ => {
                words += "[";
                rest = link;
            }
        }
    }
    words += rest;
    let escaped = words.replace('\\', "\\e").replace('-', "\\-");
    let mut is_code = false;
    let mut out = String::new();
    for part in escaped.split('`') {
        out += part;
        is_code = !is_code;
        out += if is_code { "\\fB" } else { "\\fP" };
    }
    // The last part opened one too many.
    let out = out.strip_suffix("\\fB").unwrap_or(&out).to_owned();
    if out.starts_with(['.', '\'']) { format!("\\&{out}") } else { out }
}

/// The document with these tables. The tables that have a place are taken out.
fn with_tables(document: &str, tables: &mut BTreeMap<&str, String>) -> String {
    let mut written = String::new();
    let mut is_table = false;
    for line in document.lines() {
        let path = line.strip_prefix("<!-- keys of ").and_then(|rest| rest.strip_suffix(" -->"));
        is_table &= !line.is_empty();
        if !is_table {
            written += line;
            written += "\n";
        }
        if let Some(path) = path {
            is_table = true;
            written += &tables.remove(path).unwrap_or_else(|| panic!("no keys of {path}"));
        }
    }
    written
}

/// The rows that are not those of every backend.
fn own(schema: &'static Schema) -> impl Iterator<Item = &'static Key> {
    schema.keys().filter(move |row| {
        !schema.path.starts_with("resource.backend.") || GENERAL.iter().all(|key| key.name != row.name)
    })
}

fn table<'a>(rows: impl Iterator<Item = &'a Key>) -> String {
    let mut table = String::from("| key | type | default | meaning |\n|---|---|---|---|\n");
    for row in rows {
        let (value, default) = (type_of(row), default_of(row));
        table += &format!("| `{}` | {value} | {default} | {} |\n", row.name, row.text);
    }
    table
}

fn type_of(row: &Key) -> String {
    let name = match row.value {
        Type::Text => "string",
        Type::Texts => "list of strings",
        Type::Boolean => "boolean",
        Type::Integer(_) => "integer",
        Type::Decimal(_) => "number",
        Type::Duration => "duration",
        Type::Table => "table",
        Type::TableOfTexts => "table of strings",
        Type::Tables => "list of tables",
        Type::Unused => "any",
    };
    let unit = match row.value {
        Type::Integer(Unit::Seconds) | Type::Decimal(Unit::Seconds) => ", seconds",
        Type::Integer(Unit::Bytes) | Type::Decimal(Unit::Bytes) => ", bytes",
        _ => "",
    };
    let secret = if row.secret { ", secret" } else { "" };
    format!("{name}{unit}{secret}")
}

fn default_of(row: &Key) -> String {
    match row.default {
        Default::Needed => "needed".to_owned(),
        Default::Unset => "none".to_owned(),
        Default::Flag(flag) => format!("`{flag}`"),
        Default::Number(number) => number.to_string(),
        Default::Word(word) => format!("`\"{word}\"`"),
        Default::Described(words) => words.to_owned(),
    }
}

/// A row whose default does not fit its type would be read as another value.
#[test]
fn defaults_fit_their_types() {
    for (schema, row) in SCHEMAS.iter().flat_map(|schema| schema.keys().map(move |row| (schema, row))) {
        let fits = match row.default {
            Default::Flag(_) => row.value == Type::Boolean,
            Default::Number(_) => matches!(row.value, Type::Integer(_) | Type::Decimal(_)),
            Default::Word(word) => row.value == Type::Text && !row.secret && !word.is_empty(),
            Default::Needed | Default::Unset | Default::Described(_) => row.value != Type::Boolean,
        };
        assert!(fits, "`{}` of {}", row.name, schema.title);
        assert!(!row.text.is_empty() && !row.text.contains(['|', '\n']), "`{}` of {}", row.name, schema.title);
    }
}

/// A finding shows the line of the file.
#[test]
fn no_line_of_a_secret_is_shown_whole() {
    let rows = SCHEMAS.iter().flat_map(|schema| schema.keys());
    for row in rows.filter(|row| row.secret && row.value == Type::Text) {
        assert!(hides(&format!("{} = \"hunter2\"", row.name)), "`{}`", row.name);
    }
}

#[test]
fn a_key_is_found_by_its_name_in_any_case() {
    let known = |path: &str, key: &str| {
        let schema = SCHEMAS.iter().find(|schema| schema.path == path).expect("a schema");
        schema.known(key).map(|row| row.name)
    };
    assert_eq!(known("resource.template", "UID"), Some("UID"));
    assert_eq!(known("resource.template", "uid"), Some("UID"));
    assert_eq!(known("resource.backend.etcd", "WATCHKEYS"), Some("watchKeys"));
    assert_eq!(known("resource.backend.etcd", "watch_keys"), None);
    assert_eq!(known("top level", "LOG_file"), Some("log_file"));
}
