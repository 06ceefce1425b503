//! The options of the file backend: struct, rows and parser.
//! Reads no file and requests no URL.

use std::collections::BTreeMap;

use super::address::node_url;
use super::general::GENERAL;
use super::read_limits::{self, READ_LIMITS, ReadLimits};
use crate::config::document::Value;
use crate::config::reader::Reader;
use crate::config::schema::{Default, Key, Schema, Type, key};
use crate::config::secret::Secret;

/// The options of the file backend.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// A path or a http(s) URL.
    pub filepath: String,
    /// Headers of the request for a URL.
    pub httpheaders: BTreeMap<String, Secret>,
    /// The limits of one read.
    pub read: ReadLimits,
}

pub(in crate::config) static FILE: Schema = Schema {
    path: "resource.backend.file",
    title: "`file`",
    groups: &[
        GENERAL,
        &[
            key(
                "filepath",
                Type::Text,
                Default::Needed,
                "a YAML or JSON file of at most 64 MiB, or its http(s) URL; see below",
            ),
            Key {
                secret: true,
                ..key(
                    "httpheaders",
                    Type::TableOfTexts,
                    Default::Unset,
                    "headers of the request for a URL; printable ASCII",
                )
            },
        ],
        READ_LIMITS,
    ],
};

/// Reads the table; `None`: the `filepath` is missing.
pub(super) fn parse(reader: &Reader) -> Option<File> {
    let httpheaders = headers(reader);
    let filepath = reader.required("filepath", "a path or an http(s) URL")?.value.to_owned();
    let file = File { filepath, httpheaders, read: read_limits::parse(reader) };
    if file.is_remote() && node_url(&file.filepath, "http").is_none() {
        let why = reader.report.unset(reader.place("filepath"));
        let message = format!("this is not a URL{why}: write it like `\"https://example.com/data.yml\"`");
        reader.report.error_in_address(reader.place("filepath"), message);
    } else if !file.is_remote() && has_scheme(&file.filepath) {
        let message = "this is neither a path nor a URL with http or https: a path with a scheme begins with `./`";
        reader.report.error_in_address(reader.place("filepath"), message.to_owned());
    }
    Some(file)
}

/// Header names and values. Headers of the resource override the defaults. HTTP ignores the case of names.
fn headers(reader: &Reader) -> BTreeMap<String, Secret> {
    let mut headers: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for table in reader.tables_of_layers("httpheaders").iter().rev() {
        for entry in &table.value.entries {
            if let Value::Text(text) = &entry.node.value {
                let key = || reader.report.show(entry.key_span, &entry.key);
                if !is_header_name(&entry.key) {
                    reader.report.error(entry.key_span, format!("{} is not a valid name of an HTTP header", key()));
                } else if !text.chars().all(|c| matches!(c, ' '..='~' | '\t')) {
                    let message =
                        format!("{} has characters that an HTTP header cannot have: use printable ASCII", key());
                    reader.report.error_in_free_table(entry.node.span, message);
                }
                headers.insert(entry.key.to_ascii_lowercase(), (&entry.key, text));
            } else {
                let key = reader.report.show(entry.key_span, &entry.key);
                let message = format!("{key} must be a string, like all values of `httpheaders`");
                reader.report.error_in_free_table(entry.node.span, message);
            }
        }
    }
    headers.into_values().map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned()))).collect()
}

/// A token of RFC 9110, section 5.6.2.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether a text begins as a URL, `WORD:/`, or as one with http and a typing error.
fn has_scheme(text: &str) -> bool {
    let text = text.trim_start();
    if ["http:", "https:", "http//", "https//"].iter().any(|begin| text.to_ascii_lowercase().starts_with(begin)) {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    rest.starts_with('/') && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(is_part)
}

impl File {
    /// Whether the path is a URL.
    pub fn is_remote(&self) -> bool {
        let path = self.filepath.to_ascii_lowercase();
        path.starts_with("http://") || path.starts_with("https://")
    }
}
