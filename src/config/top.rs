//! The top level of the main file, and `[limits]`: the rows of their keys and their parsers. Reads no directory: `mod`
//! follows `include_dir` and `filter_dir`.

use super::document::Table;
use super::model::{Limits, LogFormat, LogLevel};
use super::reader::{Found, Reader};
use super::report::{Report, quoted};
use super::schema::{Default, Schema, Type, Unit, key};
use crate::nearest::nearest;

/// The top level of the main file.
pub(super) static MAIN: Schema = Schema {
    path: "top level",
    title: "the top level of the main file",
    groups: &[&[
        key(
            "log_level",
            Type::Text,
            Default::Word("info"),
            "`trace`, `debug`, `info`, `warn`, `error` or `off`, in any case; `fatal` and `panic` mean `error`; any other \
             text means `info`, with a warning",
        ),
        key(
            "log_format",
            Type::Text,
            Default::Word("text"),
            "`text` or `json`; any other text means `text`, with a warning",
        ),
        key(
            "include_dir",
            Type::Text,
            Default::Unset,
            "a directory with one resource in each file: see [include_dir](#include_dir)",
        ),
        key(
            "filter_dir",
            Type::Text,
            Default::Unset,
            "a directory of template filters in JavaScript, one in each `*.js` file; the directory may be missing. The \
             filters need the `full` build: see [javascript.md](javascript.md)",
        ),
        key(
            "pid_file",
            Type::Text,
            Default::Unset,
            "remco writes its process id to this file, in decimal and without a newline, and removes the file when it \
             exits. A second remco with the same `pid_file` does not start. Any other failure is only logged: see \
             [operation.md](operation.md), Pid file",
        ),
        key(
            "state_dir",
            Type::Text,
            Default::Unset,
            "a directory in which remco keeps the last keys of each resource, the past of its guard, the reloads that it \
             owes and the renames that it makes together, for the next start: see [State](operation.md#state). It is read at the \
             start only. Go remco has no such key",
        ),
        key(
            "status_file",
            Type::Text,
            Default::Unset,
            "the file for the state of the program, which `--status` prints",
        ),
        key(
            "splay",
            Type::Duration,
            Default::Unset,
            "the upper bound of a random delay before remco starts its resources, so that many hosts do not ask a store \
             at once. `--splay` replaces it. SIGHUP is not delayed. Go remco has no such key",
        ),
        key("resource", Type::Tables, Default::Unset, "see [`[[resource]]`](#resource)"),
        key("default_backends", Type::Table, Default::Unset, "see [`[default_backends]`](#default_backends)"),
        key("telemetry", Type::Table, Default::Unset, "see [`[telemetry]`](#telemetry)"),
        key("limits", Type::Table, Default::Unset, "see [`[limits]`](#limits)"),
        // Unused since before Go remco 0.12.
        key("log_file", Type::Unused, Default::Unset, "accepted and ignored"),
    ]],
};

/// The limits of one render of a template. Go remco has no such table.
pub(super) static LIMITS: Schema = Schema {
    path: "limits",
    title: "`limits`",
    groups: &[&[
        key(
            "template_steps",
            Type::Integer(Unit::Plain),
            Default::Number(100_000_000),
            "tags, expressions and loop rounds that run, and every 16 bytes that they read or make; at least 1",
        ),
        key(
            "template_time",
            Type::Decimal(Unit::Seconds),
            Default::Number(10),
            "processor time; between 0.1 and 86400",
        ),
        key(
            "template_output",
            Type::Integer(Unit::Bytes),
            Default::Number(256 << 20),
            "the size of the result, and of each intermediate text or list; at least 1",
        ),
        key(
            "template_memory",
            Type::Integer(Unit::Bytes),
            Default::Number(256 << 20),
            "all texts, lists and maps of one rendering that exist at a time, including the result and what is needed to \
             build them; at least 1",
        ),
    ]],
};

/// The limits, or the defaults if there is no table.
pub(super) fn limits(report: &Report, table: Option<&Found<&Table>>) -> Limits {
    table.map_or_else(Limits::default, |table| limits_of(&Reader::new(report, &LIMITS, table.value, table.span)))
}

fn limits_of(reader: &Reader) -> Limits {
    Limits {
        template_steps: reader.positive("template_steps"),
        template_time: reader.time_limit("template_time"),
        template_output: reader.positive("template_output"),
        template_memory: reader.positive("template_memory"),
    }
}

impl std::default::Default for Limits {
    fn default() -> Limits {
        limits_of(&Reader::of_nothing(&Report::of_defaults(), &LIMITS))
    }
}

/// The names of the levels.
const LEVELS: &[(&str, LogLevel)] = &[
    ("trace", LogLevel::Trace),
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
    ("off", LogLevel::Off),
    // From the manual of Go remco. This program has no level above error.
    ("fatal", LogLevel::Error),
    ("panic", LogLevel::Error),
];

/// The level of a name, in any case.
///
/// # Errors
/// There is no such level: the end of a message, with the nearest name or all names.
pub fn log_level_of(name: &str) -> Result<LogLevel, String> {
    let level = name.trim().to_ascii_lowercase();
    if let Some((_, level)) = LEVELS.iter().find(|(name, _)| *name == level) {
        return Ok(*level);
    }
    Err(match nearest(&level, LEVELS.iter().map(|(name, _)| *name)) {
        Some(name) => format!(", did you mean {}?", quoted(name)),
        None => ": known are `trace`, `debug`, `info`, `warn`, `error` and `off`".to_owned(),
    })
}

/// The format of a name; `None`: there is no such format.
pub fn log_format_of(name: &str) -> Option<LogFormat> {
    match name {
        "json" => Some(LogFormat::Json),
        "text" => Some(LogFormat::Text),
        _ => None,
    }
}

/// The level; an unknown one is reported.
pub(super) fn log_level(reader: &Reader) -> LogLevel {
    let Some(found) = reader.filled("log_level") else {
        return LogLevel::Info;
    };
    log_level_of(found.value).unwrap_or_else(|advice| {
        let shown = reader.report.show(found.span, found.value);
        reader.report.warn(found.span, format!("unknown log_level {shown} is taken as `info`{advice}"));
        LogLevel::Info
    })
}

/// The format; an unknown one is reported.
pub(super) fn log_format(reader: &Reader) -> LogFormat {
    let Some(found) = reader.filled("log_format") else {
        return LogFormat::Text;
    };
    log_format_of(found.value).unwrap_or_else(|| {
        let shown = reader.report.show(found.span, found.value);
        let message = format!("unknown log_format {shown} is taken as `text`: known are `text` and `json`");
        reader.report.warn(found.span, message);
        LogFormat::Text
    })
}
