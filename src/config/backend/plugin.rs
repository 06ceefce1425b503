//! The options of a plugin: struct, rows and parser.
//! Runs no program.

use std::path::PathBuf;
use std::time::Duration;

use super::general::GENERAL;
use super::network::TIMEOUT;
use super::read_limits::{self, READ_LIMITS, ReadLimits};
use crate::config::document::{Node, Table, Value};
use crate::config::reader::Reader;
use crate::config::report::Report;
use crate::config::schema::{Default, Schema, Type, key};

/// The options of a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// The program.
    pub path: PathBuf,
    /// Any table, as JSON text, for the plugin.
    pub config: String,
    /// The time that a one-shot run retries.
    pub timeout: Duration,
    /// The limits of one read.
    pub read: ReadLimits,
}

impl Plugin {
    /// The name in logs: the last part of its path.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or("plugin")
    }
}

pub(in crate::config) static PLUGIN: Schema = Schema {
    path: "resource.backend.plugin",
    title: "`plugin`",
    groups: &[
        GENERAL,
        &[
            key("path", Type::Text, Default::Needed, "the program; the last part of the path is the backend's name"),
            key("config", Type::Table, Default::Unset, "passed to the plugin as JSON; a date becomes a string"),
            TIMEOUT,
        ],
        READ_LIMITS,
    ],
};

/// Reads the table; `None`: the `path` is missing.
pub(super) fn parse(reader: &Reader) -> Option<Plugin> {
    let config = plugin_config(reader);
    let path = reader.required("path", "the path of the plugin's program")?.value;
    let timeout = reader.time_limit("timeout");
    Some(Plugin { path: path.into(), config, timeout, read: read_limits::parse(reader) })
}

/// The `config` of a plugin as JSON text.
fn plugin_config(reader: &Reader) -> String {
    let Some(table) = reader.table("config") else {
        return "{}".to_owned();
    };
    json_table(reader.report, table.value).to_string()
}

fn json_table(report: &Report, table: &Table) -> serde_json::Value {
    table.entries.iter().map(|entry| (entry.key.clone(), json(report, &entry.node))).collect()
}

fn json(report: &Report, node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Text(text) | Value::Date(text) => text.as_str().into(),
        Value::Integer(Some(value)) => (*value).into(),
        Value::Integer(None) => {
            report.error(node.span, "this integer does not fit 64 bits");
            serde_json::Value::Null
        }
        Value::Float(digits) => {
            let number = digits.parse().ok().and_then(serde_json::Number::from_f64);
            if number.is_none() {
                report.error(node.span, "JSON, the form in which plugins get it, has no such number");
            }
            number.into()
        }
        Value::Boolean(value) => (*value).into(),
        Value::List(items) => items.iter().map(|item| json(report, item)).collect(),
        Value::Table(table) => json_table(report, table),
    }
}
